//! A device, its memory, and graphs of launches.

use crate::backend::{Backend, Timing};
use crate::launch::{Args, Grid, Plain, bytes_of, bytes_of_mut};
use crate::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// Element types of images, weights and gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Element {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16, the upper half of a float.
    Bf16,
}

impl Element {
    /// Bytes of one element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// A GPU, or its emulation; cheap to clone.
///
/// All work is done in the order of the calls. Memory that was asked for is freed when the last [`Buffer`] is dropped.
#[derive(Clone, Debug)]
pub struct Device(pub(crate) Arc<dyn Backend>);

impl Device {
    /// The GPU of this number, counted from 0 as `nvidia-smi` does.
    ///
    /// # Errors
    ///
    /// If the build has no CUDA support, there is no driver, it is too old, or there is no such GPU.
    pub fn cuda(ordinal: usize) -> Result<Self> {
        crate::cuda::open(ordinal)
    }

    /// Whether this build has kernels for GPUs at all.
    #[must_use]
    pub fn is_compiled() -> bool {
        cfg!(feature = "cuda")
    }

    /// The kernels compiled by the C++ compiler of this machine and run on the CPU, slowly: for tests without a GPU.
    ///
    /// # Errors
    ///
    /// If there is no C++ compiler, or it cannot compile the kernels.
    #[cfg(feature = "emulation")]
    pub fn emulated() -> Result<Self> {
        Self::emulated_with_memory(1 << 34)
    }

    /// The same with memory of so many bytes, to see what happens when it runs out.
    ///
    /// # Errors
    ///
    /// As [`Device::emulated`].
    #[cfg(feature = "emulation")]
    pub fn emulated_with_memory(bytes: usize) -> Result<Self> {
        crate::emulation::open(bytes)
    }

    /// For tests: [`Device::emulated`], or a printed line `skipped: ...` and nothing where there is no C++ compiler.
    ///
    /// # Errors
    ///
    /// If there is a compiler, and it cannot compile the kernels.
    #[cfg(feature = "emulation")]
    #[expect(clippy::print_stdout, reason = "a test says what it skips")]
    pub fn emulated_or_skip() -> Result<Option<Self>> {
        match Self::emulated() {
            Err(why @ Error::NoCompiler { .. }) => {
                println!("skipped: {why}");
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// Name and capability of the device.
    #[must_use]
    pub fn name(&self) -> String {
        self.0.name()
    }

    /// Free and total bytes of its memory.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.0.memory()
    }

    /// Memory with unspecified contents; `what` names it in the error.
    ///
    /// # Errors
    ///
    /// If there is not enough.
    pub fn allocate(&self, bytes: usize, what: &str) -> Result<Buffer> {
        // Nothing is an address too, so that empty lists need no case.
        let address = self.0.allocate(bytes.max(16), what)?;
        let memory = Arc::new(Memory { device: self.clone(), address });
        Ok(Buffer { memory, offset: 0, bytes })
    }

    /// Memory of zeros.
    ///
    /// # Errors
    ///
    /// If there is not enough.
    pub fn zeros(&self, bytes: usize, what: &str) -> Result<Buffer> {
        let buffer = self.allocate(bytes, what)?;
        buffer.zero()?;
        Ok(buffer)
    }

    pub(crate) fn plain<T: Plain>(&self, values: &[T], what: &str) -> Result<Buffer> {
        let buffer = self.allocate(size_of_val(values), what)?;
        buffer.write_plain(values)?;
        Ok(buffer)
    }

    /// A copy of these numbers.
    ///
    /// # Errors
    ///
    /// If there is not enough memory.
    pub fn floats(&self, values: &[f32], what: &str) -> Result<Buffer> {
        self.plain(values, what)
    }

    /// A copy of these bytes.
    ///
    /// # Errors
    ///
    /// If there is not enough memory.
    pub fn bytes(&self, values: &[u8], what: &str) -> Result<Buffer> {
        self.plain(values, what)
    }

    /// A copy of these integers.
    ///
    /// # Errors
    ///
    /// If there is not enough memory.
    pub fn words(&self, values: &[u32], what: &str) -> Result<Buffer> {
        self.plain(values, what)
    }

    /// Waits until all work is done.
    ///
    /// # Errors
    ///
    /// If some of it failed.
    pub fn synchronise(&self) -> Result<()> {
        self.0.synchronise()
    }

    pub(crate) fn launch(&self, kernel: &str, grid: Grid, mut args: Args) -> Result<()> {
        self.0.launch(kernel, grid, &mut args)
    }

    /// The kernel `name` for this type.
    pub(crate) fn launch_for(&self, name: &str, element: Element, grid: Grid, args: Args) -> Result<()> {
        self.launch(&format!("{name}_{}", element.suffix()), grid, args)
    }

    /// Records what `work` launches, to be launched again as a whole; `work` must not copy from or to the host, nor ask for
    /// memory. `None` where the device records nothing; then `work` has not run.
    ///
    /// # Errors
    ///
    /// What `work` returns, or if something cannot be recorded.
    pub fn capture<E: From<Error>>(&self, work: impl FnOnce() -> Result<(), E>) -> Result<Option<Graph>, E> {
        if !self.0.begin_capture()? {
            return Ok(None);
        }
        let result = work();
        let graph = self.0.end_capture();
        result?;
        Ok(Some(Graph { device: self.clone(), handle: graph? }))
    }

    /// Runs `work` and times every launch in it, in order; `None` where the device has no clock. Then `work` has run too.
    ///
    /// # Errors
    ///
    /// What `work` returns, or if the device fails.
    pub fn time<E: From<Error>>(&self, work: impl FnOnce() -> Result<(), E>) -> Result<Option<Vec<Timing>>, E> {
        let has_clock = self.0.begin_timing()?;
        let result = work();
        let timings = if has_clock { Some(self.0.end_timing()) } else { None };
        result?;
        Ok(timings.transpose()?)
    }
}

/// Launches that were recorded.
#[derive(Debug)]
pub struct Graph {
    device: Device,
    handle: u64,
}

impl Graph {
    /// Launches them all.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn launch(&self) -> Result<()> {
        self.device.0.replay(self.handle)
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.device.0.destroy_graph(self.handle);
    }
}

#[derive(Debug)]
struct Memory {
    device: Device,
    address: u64,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.device.0.free(self.address);
    }
}

/// Memory on a device, or a part of some; cheap to clone, and clones share it.
#[derive(Clone, Debug)]
pub struct Buffer {
    memory: Arc<Memory>,
    offset: usize,
    bytes: usize,
}

impl Buffer {
    /// Its size in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The bytes of this range.
    ///
    /// # Errors
    ///
    /// If it does not lie inside, or does not begin at a multiple of 4.
    pub fn part(&self, range: Range<usize>) -> Result<Self> {
        if range.start > range.end || range.end > self.bytes {
            return Err(Error::Length { name: "part of a buffer", expected: range.end, found: self.bytes });
        }
        if !(self.offset + range.start).is_multiple_of(4) {
            let found = range.start.to_string();
            return Err(Error::Setting { name: "begin of a part", found, expected: "a multiple of 4" });
        }
        Ok(Self { memory: Arc::clone(&self.memory), offset: self.offset + range.start, bytes: range.len() })
    }

    pub(crate) fn address(&self) -> u64 {
        self.memory.address + self.offset as u64
    }

    fn device(&self) -> &dyn Backend {
        &*self.memory.device.0
    }

    /// Fills it with zeros.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn zero(&self) -> Result<()> {
        if self.is_empty() { Ok(()) } else { self.device().zero(self.address(), self.bytes) }
    }

    /// Copies another buffer of the same device and size over it.
    ///
    /// # Errors
    ///
    /// If the sizes differ or the device fails.
    pub fn copy_from(&self, other: &Self) -> Result<()> {
        self.check("buffer to copy", other.bytes)?;
        if self.is_empty() { Ok(()) } else { self.device().copy(self.address(), other.address(), self.bytes) }
    }

    pub(crate) fn write_plain<T: Plain>(&self, values: &[T]) -> Result<()> {
        self.check("values", size_of_val(values))?;
        if values.is_empty() { Ok(()) } else { self.device().upload(self.address(), bytes_of(values)) }
    }

    pub(crate) fn read_plain<T: Plain>(&self, values: &mut [T]) -> Result<()> {
        self.check("values", size_of_val(values))?;
        if values.is_empty() { Ok(()) } else { self.device().download(self.address(), bytes_of_mut(values)) }
    }

    /// Copies numbers from the host; as many as fit exactly.
    ///
    /// # Errors
    ///
    /// If the sizes differ or the device fails.
    pub fn write_floats(&self, values: &[f32]) -> Result<()> {
        self.write_plain(values)
    }

    /// Copies integers from the host; as many as fit exactly.
    ///
    /// # Errors
    ///
    /// If the sizes differ or the device fails.
    pub fn write_words(&self, values: &[u32]) -> Result<()> {
        self.write_plain(values)
    }

    /// Copies bytes from the host; as many as fit exactly.
    ///
    /// # Errors
    ///
    /// If the sizes differ or the device fails.
    pub fn write_bytes(&self, values: &[u8]) -> Result<()> {
        self.write_plain(values)
    }

    /// The numbers in it, on the host; waits for all work before.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn read_floats(&self) -> Result<Vec<f32>> {
        let mut values = vec![0.0; self.bytes / 4];
        self.read_plain(&mut values)?;
        Ok(values)
    }

    /// The integers in it, on the host; waits for all work before.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn read_words(&self) -> Result<Vec<u32>> {
        let mut values = vec![0; self.bytes / 4];
        self.read_plain(&mut values)?;
        Ok(values)
    }

    /// The bytes in it, on the host; waits for all work before.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn read_bytes(&self) -> Result<Vec<u8>> {
        let mut values = vec![0; self.bytes];
        self.read_plain(&mut values)?;
        Ok(values)
    }

    /// The numbers of this type in it, as floats on the host; waits for all work before.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn read(&self, element: Element) -> Result<Vec<f32>> {
        match element {
            Element::F32 => self.read_floats(),
            Element::Bf16 => {
                let mut values = vec![0u16; self.bytes / 2];
                self.read_plain(&mut values)?;
                Ok(values.into_iter().map(|bits| f32::from_bits(u32::from(bits) << 16)).collect())
            }
        }
    }

    /// Copies numbers from the host, rounded to this type.
    ///
    /// # Errors
    ///
    /// If the sizes differ or the device fails.
    pub fn write(&self, element: Element, values: &[f32]) -> Result<()> {
        match element {
            Element::F32 => self.write_floats(values),
            Element::Bf16 => self.write_plain(&values.iter().map(|x| round_to_bf16(*x)).collect::<Vec<_>>()),
        }
    }

    pub(crate) fn check(&self, name: &'static str, expected: usize) -> Result<()> {
        if self.bytes == expected { Ok(()) } else { Err(Error::Length { name, expected, found: self.bytes }) }
    }
}

/// To nearest, ties to even; NaN stays NaN.
fn round_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    (bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16) as u16
}

/// The address of an optional buffer, 0 for none.
pub(crate) fn address_of(buffer: Option<&Buffer>) -> u64 {
    buffer.map_or(0, Buffer::address)
}

/// Whether 16 bytes can be moved at once from and to these.
pub(crate) fn is_aligned(buffers: &[&Buffer]) -> bool {
    buffers.iter().all(|buffer| buffer.address().is_multiple_of(16))
}

/// Channels that a thread takes at once: as many as 16 bytes hold where every row and buffer begins at a multiple, else 1.
pub(crate) fn pack_of(element: Element, channels: usize, buffers: &[&Buffer]) -> usize {
    let wide = 16 / element.size();
    let fits = channels.is_multiple_of(wide) && is_aligned(buffers);
    if fits { wide } else { 1 }
}
