//! NVIDIA GPUs through the driver, which is loaded at run time: a program with this feature starts everywhere.

#[cfg(feature = "cudnn")]
mod cudnn;
#[cfg(not(feature = "cudnn"))]
#[path = "cuda/cudnn_off.rs"]
mod cudnn;

use crate::backend::{Backend, ConvAddresses, ConvJob, Timing};
use crate::launch::{Args, Grid};
use crate::{Device, Error, Result};
use cudarc::driver::{DriverError, result, sys};
use cudnn::Convolutions;
use std::collections::HashMap;
use std::ffi::CString;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All kernels: code for capability 9.0 and PTX for 8.0, which the driver compiles for other GPUs.
static KERNELS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.fatbin"));

/// The CUDA version that the kernels were compiled by.
const NEEDED: i32 = 13_000;

pub(crate) fn open(ordinal: usize) -> Result<Device> {
    // SAFETY: only asks the loader for a library.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::NoDriver);
    }
    match result::init() {
        Err(DriverError(sys::cudaError_enum::CUDA_ERROR_NO_DEVICE)) => return Err(Error::NoDevice),
        other => other.call("cuInit")?,
    }
    let mut found = 0;
    // SAFETY: `found` outlives the call.
    unsafe { sys::cuDriverGetVersion(&mut found) }.result().call("cuDriverGetVersion")?;
    if found < NEEDED {
        return Err(Error::DriverTooOld { found, needed: NEEDED });
    }
    let count = usize::try_from(result::device::get_count().call("cuDeviceGetCount")?).unwrap_or(0);
    if count == 0 {
        return Err(Error::NoDevice);
    }
    if ordinal >= count {
        return Err(Error::NoSuchDevice { ordinal, count });
    }
    Ok(Device(Arc::new(Gpu::new(ordinal)?)))
}

/// Names the call of a failure.
trait Call<T> {
    fn call(self, call: &'static str) -> Result<T>;
}

impl<T> Call<T> for Result<T, DriverError> {
    fn call(self, call: &'static str) -> Result<T> {
        self.map_err(|error| {
            let text = error.error_name().map_or_else(|_| "unknown".into(), |name| name.to_string_lossy().into_owned());
            Error::Driver { call, code: error.0 as i32, text }
        })
    }
}

#[derive(Debug)]
struct Gpu {
    name: String,
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    module: sys::CUmodule,
    functions: Mutex<HashMap<String, Function>>,
    convolutions: Mutex<Convolutions>,
    /// What is timed, with the events before and after; `None` while nothing is.
    timed: Mutex<Option<Vec<Timed>>>,
}

/// A launch between two events.
#[derive(Debug)]
struct Timed(String, [sys::CUevent; 2]);

#[derive(Clone, Copy, Debug)]
struct Function(sys::CUfunction);

// SAFETY: the driver's handles may be used from any thread in which the context is current, which `enter` sees to; the
// maps are behind locks.
unsafe impl Send for Gpu {}
// SAFETY: as above.
unsafe impl Sync for Gpu {}

impl Gpu {
    fn new(ordinal: usize) -> Result<Self> {
        let ordinal = i32::try_from(ordinal).unwrap_or(i32::MAX);
        let device = result::device::get(ordinal).call("cuDeviceGet")?;
        let name = result::device::get_name(device).call("cuDeviceGetName")?;
        // SAFETY: `device` comes from the driver.
        let attribute = |of| unsafe { result::device::get_attribute(device, of) }.call("cuDeviceGetAttribute");
        let major = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        if major < 8 {
            return Err(Error::ComputeCapability { name, found: (major, minor) });
        }
        // SAFETY: `device` comes from the driver; the context is released when this is dropped.
        let context = unsafe { result::primary_ctx::retain(device) }.call("cuDevicePrimaryCtxRetain")?;
        // SAFETY: the context is retained.
        unsafe { result::ctx::set_current(context) }.call("cuCtxSetCurrent")?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking).call("cuStreamCreate")?;
        // SAFETY: the bytes are a whole fatbin, which says its own length.
        let module = unsafe { result::module::load_data(KERNELS.as_ptr().cast()) }.call("cuModuleLoadData")?;
        let name = format!("{name} (compute capability {major}.{minor})");
        let convolutions = Mutex::new(Convolutions::new(stream)?);
        Ok(Self {
            name,
            device,
            context,
            stream,
            module,
            functions: Mutex::default(),
            convolutions,
            timed: Mutex::default(),
        })
    }

    /// Makes the context that of this thread.
    fn enter(&self) -> Result<()> {
        // SAFETY: the context lives as long as `self`.
        unsafe { result::ctx::set_current(self.context) }.call("cuCtxSetCurrent")
    }

    fn function(&self, kernel: &str) -> Result<Function> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(kernel) {
            return Ok(*function);
        }
        let missing = Error::Kernel { kernel: kernel.into(), reason: "there is none of this name" };
        let name = CString::new(kernel).map_err(|_| missing.clone())?;
        // SAFETY: the module is loaded.
        let function = unsafe { result::module::get_function(self.module, name) }.map_err(|_| missing)?;
        functions.insert(kernel.into(), Function(function));
        Ok(Function(function))
    }

    fn timed(&self) -> MutexGuard<'_, Option<Vec<Timed>>> {
        self.timed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `launch`, between two events if launches are timed.
    fn watch<T>(&self, name: impl Display, launch: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut timed = self.timed();
        let Some(timed) = timed.as_mut() else { return launch() };
        let event = || {
            let event = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).call("cuEventCreate")?;
            // SAFETY: the event was just made, and the stream lives as long as `self`.
            unsafe { result::event::record(event, self.stream) }.call("cuEventRecord")?;
            Ok(event)
        };
        let before = event()?;
        let result = launch()?;
        timed.push(Timed(name.to_string(), [before, event()?]));
        Ok(result)
    }

    fn convolutions(&self) -> MutexGuard<'_, Convolutions> {
        self.convolutions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        if self.enter().is_err() {
            return;
        }
        self.convolutions().close();
        // SAFETY: nobody else has these handles: every buffer and graph holds the device that holds this.
        unsafe {
            // Nothing can be done about a failure here; the driver frees what is left at the end of the process.
            let _ = result::stream::synchronize(self.stream);
            let _ = result::module::unload(self.module);
            let _ = result::stream::destroy(self.stream);
            let _ = result::primary_ctx::release(self.device);
        }
    }
}

impl Backend for Gpu {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn allocate(&self, bytes: usize, what: &str) -> Result<u64> {
        self.enter()?;
        // SAFETY: memory is given out as uninitialised.
        match unsafe { result::malloc_sync(bytes) } {
            Err(DriverError(sys::cudaError_enum::CUDA_ERROR_OUT_OF_MEMORY)) => {
                let (free, _) = self.memory()?;
                Err(Error::OutOfMemory { what: what.into(), bytes, free })
            }
            other => other.call("cuMemAlloc"),
        }
    }

    fn free(&self, address: u64) {
        // SAFETY: the address came from `allocate`, and the last buffer over it is gone. `cuMemFree` waits for the work
        // that uses it.
        let _ = self.enter().map(|()| unsafe { result::free_sync(address) });
    }

    fn upload(&self, to: u64, bytes: &[u8]) -> Result<()> {
        self.enter()?;
        // SAFETY: the caller promises the range. From pageable memory the driver has read `bytes` when this returns.
        unsafe { result::memcpy_htod_async(to, bytes, self.stream) }.call("cuMemcpyHtoDAsync")
    }

    fn download(&self, from: u64, bytes: &mut [u8]) -> Result<()> {
        self.enter()?;
        // SAFETY: the caller promises the range, and `bytes` lives until the wait below is over.
        unsafe { result::memcpy_dtoh_async(bytes, from, self.stream) }.call("cuMemcpyDtoHAsync")?;
        self.synchronise()
    }

    fn zero(&self, to: u64, bytes: usize) -> Result<()> {
        self.enter()?;
        // SAFETY: the caller promises the range.
        unsafe { result::memset_d8_async(to, 0, bytes, self.stream) }.call("cuMemsetD8Async")
    }

    fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        self.enter()?;
        // SAFETY: the caller promises both ranges.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream) }.call("cuMemcpyDtoDAsync")
    }

    fn launch(&self, kernel: &str, grid: Grid, args: &mut Args) -> Result<()> {
        self.enter()?;
        let Function(function) = self.function(kernel)?;
        let ([bx, by, bz], [tx, ty, tz]) = (grid.blocks, grid.threads);
        let mut pointers = args.pointers();
        // SAFETY: the launchers of this crate pass the arguments of the kernel's parameters, and have checked that
        // buffers hold what it reads and writes; the driver copies the arguments before it returns.
        self.watch(kernel, || {
            unsafe { result::launch_kernel(function, (bx, by, bz), (tx, ty, tz), 0, self.stream, &mut pointers) }
                .call("cuLaunchKernel")
        })
    }

    fn synchronise(&self) -> Result<()> {
        self.enter()?;
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::synchronize(self.stream) }.call("cuStreamSynchronize")
    }

    fn memory(&self) -> Result<(usize, usize)> {
        self.enter()?;
        result::mem_get_info().call("cuMemGetInfo")
    }

    fn plan(&self, job: &ConvJob) -> Result<bool> {
        self.enter()?;
        self.convolutions().plan(job)
    }

    fn convolve(&self, job: &ConvJob, at: ConvAddresses) -> Result<bool> {
        self.enter()?;
        self.watch(job, || self.convolutions().run(job, at))
    }

    fn begin_capture(&self) -> Result<bool> {
        self.enter()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::begin_capture(self.stream, mode) }.call("cuStreamBeginCapture")?;
        Ok(true)
    }

    fn end_capture(&self) -> Result<u64> {
        self.enter()?;
        // SAFETY: the stream is the one that captures; the graph is destroyed once there is an executable one.
        unsafe {
            let graph = result::stream::end_capture(self.stream).call("cuStreamEndCapture")?;
            let flags = sys::CUgraphInstantiate_flags_enum(0);
            let executable = result::graph::instantiate(graph, flags).call("cuGraphInstantiate");
            let _ = result::graph::destroy(graph);
            Ok(executable? as u64)
        }
    }

    fn replay(&self, graph: u64) -> Result<()> {
        self.enter()?;
        // SAFETY: the handle came from `end_capture` and is destroyed only with the `Graph` that calls this.
        unsafe { result::graph::launch(graph as sys::CUgraphExec, self.stream) }.call("cuGraphLaunch")
    }

    fn destroy_graph(&self, graph: u64) {
        // SAFETY: as above; the `Graph` is being dropped.
        let _ = self.enter().map(|()| unsafe { result::graph::exec_destroy(graph as sys::CUgraphExec) });
    }

    fn begin_timing(&self) -> Result<bool> {
        *self.timed() = Some(Vec::new());
        Ok(true)
    }

    fn end_timing(&self) -> Result<Vec<Timing>> {
        let timed = self.timed().take().unwrap_or_default();
        self.synchronise()?;
        let end = |Timed(name, [before, after])| {
            // SAFETY: both events were recorded in the stream, which has come past them, and are not used again.
            let ms = unsafe {
                let ms = result::event::elapsed(before, after).call("cuEventElapsedTime");
                let _ = result::event::destroy(before);
                let _ = result::event::destroy(after);
                ms
            };
            Ok(Timing { name, ms: f64::from(ms?) })
        };
        timed.into_iter().map(end).collect()
    }
}
