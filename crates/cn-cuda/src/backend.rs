//! What a device can do, however it does it.

use crate::launch::{Args, Grid};
use crate::{Activation, ConvShape, Element, Result};
use std::fmt::{self, Debug};

/// Which product of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ConvKind {
    /// Output from input and weight.
    Forward,
    /// Output from input, weight, bias and perhaps a residual, activated.
    Fused(Activation),
    /// Gradient of the input from that of the output and the weight.
    DataGrad,
    /// Gradient of the weight from input and that of the output.
    WeightGrad,
}

/// A convolution for a library: all that its plan depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConvJob {
    /// Which product.
    pub kind: ConvKind,
    /// Sizes.
    pub shape: ConvShape,
    /// Type of images, weights and gradients.
    pub element: Element,
    /// Arithmetic of `f32` products.
    pub products: Products,
}

impl fmt::Display for ConvJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ConvKind::Forward => "forward",
            ConvKind::Fused(_) => "forward in use",
            ConvKind::DataGrad => "data gradient",
            ConvKind::WeightGrad => "weight gradient",
        };
        let s = &self.shape;
        let ([kh, kw], [sy, _]) = (s.kernel, s.stride);
        let (i, o, h, w) = (s.in_channels, s.out_channels, s.out_height(), s.out_width());
        write!(f, "cuDNN {kind} {kh}x{kw}/{sy} {i} to {o}, {h}x{w}")
    }
}

/// What one launch took.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    /// Kernel, or product and shape where a library does it.
    pub name: String,
    /// Milliseconds on the device, some microseconds of starting among them.
    pub ms: f64,
}

/// How products of `f32` are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Products {
    /// With all 24 bits.
    #[default]
    Exact,
    /// On tensor cores, from operands of 11 bits.
    Tf32,
}

/// Addresses of the operands of a convolution: two that are read, one that is written.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "cudnn"), expect(dead_code, reason = "only a library reads them"))]
pub(crate) struct ConvAddresses {
    pub inputs: [u64; 2],
    pub output: u64,
    /// Of a fused product, 0 for none: bias in the type of the images, and residual.
    pub bias: u64,
    pub residual: u64,
    /// Whether the result is added to what is there.
    pub adds: bool,
}

/// A device: memory by address, copies in the order of one stream, launches.
///
/// # Safety
///
/// Not marked so, but the callers of this crate promise it: addresses come from `allocate` and are still allocated, and
/// the ranges lie inside.
pub(crate) trait Backend: Send + Sync + Debug {
    fn name(&self) -> String;
    fn allocate(&self, bytes: usize, what: &str) -> Result<u64>;
    fn free(&self, address: u64);
    fn upload(&self, to: u64, bytes: &[u8]) -> Result<()>;
    /// Waits until all that came before is done.
    fn download(&self, from: u64, bytes: &mut [u8]) -> Result<()>;
    fn zero(&self, to: u64, bytes: usize) -> Result<()>;
    fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()>;
    fn launch(&self, kernel: &str, grid: Grid, args: &mut Args) -> Result<()>;
    fn synchronise(&self) -> Result<()>;
    /// Free and total bytes.
    fn memory(&self) -> Result<(usize, usize)>;
    /// Plans a convolution; `false` if no library here can do it.
    fn plan(&self, job: &ConvJob) -> Result<bool>;
    /// Runs a convolution that was planned; `false` if no library can do it.
    fn convolve(&self, job: &ConvJob, at: ConvAddresses) -> Result<bool>;
    /// Begins to record launches instead of running them; `false` if this device cannot.
    fn begin_capture(&self) -> Result<bool>;
    /// Ends it; a handle for `replay`.
    fn end_capture(&self) -> Result<u64>;
    fn replay(&self, graph: u64) -> Result<()>;
    fn destroy_graph(&self, graph: u64);
    /// Begins to time every launch; `false` if this device has no clock.
    fn begin_timing(&self) -> Result<bool>;
    /// Ends it, and waits for what was timed.
    fn end_timing(&self) -> Result<Vec<Timing>>;
}
