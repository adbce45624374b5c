//! The kernels on the CPU: compiled by a C++ compiler, threads of a block as fibers. Finds wrong indices and wrong
//! arithmetic without a GPU; says nothing of races between threads, nor of speed.

use crate::backend::{Backend, ConvAddresses, ConvJob, Timing};
use crate::launch::{Args, Grid};
use crate::{Device, Error, Result};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

const SOURCES: [(&str, &str); 12] = [
    ("portable.cuh", include_str!("../kernels/portable.cuh")),
    ("augment.cuh", include_str!("../kernels/augment.cuh")),
    ("conv.cuh", include_str!("../kernels/conv.cuh")),
    ("norm.cuh", include_str!("../kernels/norm.cuh")),
    ("norm_pool.cuh", include_str!("../kernels/norm_pool.cuh")),
    ("norm_small.cuh", include_str!("../kernels/norm_small.cuh")),
    ("pool.cuh", include_str!("../kernels/pool.cuh")),
    ("stem.cuh", include_str!("../kernels/stem.cuh")),
    ("tensor_core.cuh", include_str!("../kernels/tensor_core.cuh")),
    ("train.cuh", include_str!("../kernels/train.cuh")),
    ("kernels.cu", include_str!("../kernels/kernels.cu")),
    ("emulation.cpp", include_str!("../kernels/emulation.cpp")),
];

/// Bytes around each allocation that nobody may write to.
const GUARD: usize = 256;
const GUARD_BYTE: u8 = 0xA5;
/// What memory holds before it is written: as floats, NaN.
const FRESH_BYTE: u8 = 0xFF;

type Emulate = unsafe extern "C" fn(*const c_char, *const c_uint, *const c_uint, *mut *mut c_void, c_int) -> c_int;

// The C library's loader; every unix has it.
unsafe extern "C" {
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
}

const RTLD_NOW: c_int = 2;

/// With memory of so many bytes.
pub(crate) fn open(memory: usize) -> Result<Device> {
    // One block runs at a time in all of the process, since indices and shared memory are globals there.
    static KERNELS: OnceLock<Result<Arc<Mutex<Emulate>>>> = OnceLock::new();
    let kernels = KERNELS.get_or_init(|| load().map(|emulate| Arc::new(Mutex::new(emulate)))).clone()?;
    Ok(Device(Arc::new(Emulation { kernels, memory, allocations: Mutex::default(), records: Mutex::default() })))
}

fn failed(reason: impl Into<String>) -> Error {
    Error::Emulation { reason: reason.into() }
}

/// Compiles and loads the kernels.
fn load() -> Result<Emulate> {
    let folder = tempfile::tempdir().map_err(|e| failed(format!("no temporary folder: {e}")))?;
    for (name, text) in SOURCES {
        fs::write(folder.path().join(name), text).map_err(|e| failed(format!("cannot write `{name}`: {e}")))?;
    }
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let library = folder.path().join("kernels.so");
    let mut command = Command::new(&compiler);
    // Fused products would give other bits than the CPU's where these are promised.
    command.args(["-std=c++17", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-w"]);
    // Its check of jumps takes another stack for a mistake.
    command.args(["-U_FORTIFY_SOURCE", "-o"]);
    let output = command.arg(&library).arg(folder.path().join("emulation.cpp")).output();
    let output =
        output.map_err(|e| Error::NoCompiler { compiler: compiler.display().to_string(), reason: e.to_string() })?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let path = CString::new(library.into_os_string().into_encoded_bytes()).map_err(|e| failed(e.to_string()))?;
    // SAFETY: the strings end in zero; the library was just made of our own sources, and is never unloaded.
    unsafe {
        let library = dlopen(path.as_ptr(), RTLD_NOW);
        let symbol = if library.is_null() { std::ptr::null_mut() } else { dlsym(library, c"emulate".as_ptr()) };
        if symbol.is_null() {
            let text = dlerror();
            return Err(failed(if text.is_null() {
                "no symbol".into()
            } else {
                CStr::from_ptr(text).to_string_lossy()
            }));
        }
        // SAFETY: `emulate` has this signature in emulation.cpp.
        Ok(std::mem::transmute::<*mut c_void, Emulate>(symbol))
    }
}

/// Bytes that a device aligns at the least where kernels ask.
const WORD: usize = 16;

/// What memory is made of, so that it is aligned.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Word([u8; WORD]);
// SAFETY: bytes.
unsafe impl crate::launch::Plain for Word {}

struct Emulation {
    kernels: Arc<Mutex<Emulate>>,
    /// Bytes of the memory, guards included.
    memory: usize,
    /// What was allocated, by the address that was given out.
    allocations: Mutex<BTreeMap<u64, Vec<Word>>>,
    records: Mutex<Records>,
}

/// Work that is launched again as a whole.
#[derive(Default)]
struct Records {
    /// What is being recorded.
    open: Option<Vec<Work>>,
    graphs: BTreeMap<u64, Arc<Vec<Work>>>,
    n_graphs: u64,
    /// Memory that was freed while there were graphs, filled with NaN: one that still reads it is found out.
    freed: Vec<Vec<Word>>,
}

#[derive(Clone)]
enum Work {
    Launch(String, Grid, Args),
    Zero(u64, usize),
    Copy { to: u64, from: u64, len: usize },
}

impl std::fmt::Debug for Emulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Emulation")
    }
}

/// Bytes of an allocation, guards included.
fn bytes(words: &mut [Word]) -> &mut [u8] {
    crate::launch::bytes_of_mut(words)
}

impl Emulation {
    /// Runs `f` on `len` bytes from `address` on; fails if they do not lie in one allocation.
    fn with<R>(&self, address: u64, len: usize, f: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
        let mut allocations = self.allocations.lock().unwrap_or_else(PoisonError::into_inner);
        let found = allocations.range_mut(..=address).next_back();
        let (begin, words) = found.ok_or_else(|| failed("an address that nobody allocated"))?;
        let begin = (address - begin) as usize + GUARD;
        let all = bytes(words);
        let end = all.len() - GUARD;
        let part = all.get_mut(begin..begin + len).filter(|_| begin + len <= end);
        Ok(f(part.ok_or_else(|| failed("a copy beyond the end of an allocation"))?))
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the work if that is what is going on; else it is to be done.
    fn record(&self, work: impl FnOnce() -> Work) -> bool {
        self.records().open.as_mut().map(|open| open.push(work())).is_some()
    }

    /// Refuses what a device cannot record.
    fn refuse_recording(&self, what: &str) -> Result<()> {
        match self.records().open {
            Some(_) => Err(failed(format!("{what} cannot be recorded"))),
            None => Ok(()),
        }
    }

    fn check_guards(words: &mut [Word]) -> bool {
        let all = bytes(words);
        let end = all.len() - GUARD;
        all[..GUARD].iter().chain(&all[end..]).all(|b| *b == GUARD_BYTE)
    }
}

impl Backend for Emulation {
    fn name(&self) -> String {
        "emulation on the CPU".into()
    }

    fn allocate(&self, bytes_wanted: usize, what: &str) -> Result<u64> {
        self.refuse_recording("asking for memory")?;
        let (free, _) = self.memory()?;
        if bytes_wanted + 2 * GUARD > free {
            return Err(Error::OutOfMemory { what: what.into(), bytes: bytes_wanted, free });
        }
        let mut words = vec![Word([0; WORD]); (bytes_wanted + 2 * GUARD).div_ceil(WORD)];
        let all = bytes(&mut words);
        let end = all.len() - GUARD;
        all.fill(GUARD_BYTE);
        all[GUARD..end].fill(FRESH_BYTE);
        let address = all.as_ptr() as u64 + GUARD as u64;
        self.allocations.lock().unwrap_or_else(PoisonError::into_inner).insert(address, words);
        Ok(address)
    }

    fn free(&self, address: u64) {
        let words = self.allocations.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
        let intact = words.is_none_or(|mut words| {
            let intact = Self::check_guards(&mut words);
            let mut records = self.records();
            if !records.graphs.is_empty() {
                bytes(&mut words).fill(FRESH_BYTE);
                records.freed.push(words);
            }
            intact
        });
        assert!(intact || std::thread::panicking(), "a kernel wrote beyond the end of an allocation");
    }

    fn upload(&self, to: u64, from: &[u8]) -> Result<()> {
        self.refuse_recording("an upload")?;
        self.with(to, from.len(), |to| to.copy_from_slice(from))
    }

    fn download(&self, from: u64, to: &mut [u8]) -> Result<()> {
        self.refuse_recording("a download")?;
        self.with(from, to.len(), |from| to.copy_from_slice(from))
    }

    fn zero(&self, to: u64, len: usize) -> Result<()> {
        if self.record(|| Work::Zero(to, len)) {
            return Ok(());
        }
        self.with(to, len, |to| to.fill(0))
    }

    fn copy(&self, to: u64, from: u64, len: usize) -> Result<()> {
        if self.record(|| Work::Copy { to, from, len }) {
            return Ok(());
        }
        let bytes = self.with(from, len, |from| from.to_vec())?;
        self.upload(to, &bytes)
    }

    fn launch(&self, kernel: &str, grid: Grid, args: &mut Args) -> Result<()> {
        if self.record(|| Work::Launch(kernel.into(), grid, args.clone())) {
            return Ok(());
        }
        let name = CString::new(kernel).map_err(|e| failed(e.to_string()))?;
        let n_args = args.len() as c_int;
        let mut pointers = args.pointers();
        let emulate = self.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the lock makes this the only call; arguments are counted there, and their types are those of the
        // kernel's parameters, which the launchers of this crate state.
        let code = unsafe {
            emulate(name.as_ptr(), grid.blocks.as_ptr(), grid.threads.as_ptr(), pointers.as_mut_ptr(), n_args)
        };
        let reason = match code {
            0 => return Ok(()),
            1 => "there is none of this name",
            2 => "it takes another number of arguments",
            3 => "some threads of a block missed a barrier",
            _ => "no device takes such a grid",
        };
        Err(Error::Kernel { kernel: kernel.into(), reason })
    }

    fn synchronise(&self) -> Result<()> {
        Ok(())
    }

    fn memory(&self) -> Result<(usize, usize)> {
        let allocations = self.allocations.lock().unwrap_or_else(PoisonError::into_inner);
        let used = allocations.values().map(|words| size_of_val(&words[..])).sum();
        Ok((self.memory.saturating_sub(used), self.memory))
    }

    fn plan(&self, _job: &ConvJob) -> Result<bool> {
        Ok(false)
    }

    fn convolve(&self, _job: &ConvJob, _at: ConvAddresses) -> Result<bool> {
        Ok(false)
    }

    fn begin_capture(&self) -> Result<bool> {
        self.records().open = Some(Vec::new());
        Ok(true)
    }

    fn end_capture(&self) -> Result<u64> {
        let mut records = self.records();
        let work = records.open.take().ok_or_else(|| failed("nothing is captured"))?;
        records.n_graphs += 1;
        let handle = records.n_graphs;
        records.graphs.insert(handle, Arc::new(work));
        Ok(handle)
    }

    fn replay(&self, graph: u64) -> Result<()> {
        let work = self.records().graphs.get(&graph).cloned().ok_or_else(|| failed("nothing was captured"))?;
        work.iter().try_for_each(|work| match work.clone() {
            Work::Launch(kernel, grid, mut args) => self.launch(&kernel, grid, &mut args),
            Work::Zero(to, len) => self.zero(to, len),
            Work::Copy { to, from, len } => self.copy(to, from, len),
        })
    }

    fn destroy_graph(&self, graph: u64) {
        self.records().graphs.remove(&graph);
    }

    fn begin_timing(&self) -> Result<bool> {
        Ok(false)
    }

    fn end_timing(&self) -> Result<Vec<Timing>> {
        Ok(Vec::new())
    }
}
