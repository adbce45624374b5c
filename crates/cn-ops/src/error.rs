//! What can go wrong in a layer.

use candle_core::{DType, Shape};

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operation that could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A pass that was ended by an [`crate::Interrupt`]; what it changed beside activations has to be put back.
    #[error("the pass was interrupted")]
    Interrupted,
    /// A tensor whose shape does not fit.
    #[error("`{name}` has shape {found:?}, expected {expected}")]
    Shape {
        /// The argument, or the parameter's name.
        name: String,
        /// What would fit, in words or letters.
        expected: String,
        /// What came.
        found: Shape,
    },
    /// A tensor whose element type does not fit.
    #[error("`{name}` holds {found:?}, expected {expected}")]
    DType {
        /// The argument.
        name: &'static str,
        /// What would fit.
        expected: &'static str,
        /// What came.
        found: DType,
    },
    /// A convolution that cannot be.
    #[error(transparent)]
    ConvShape(#[from] cn_kernels::conv::ShapeError),
    /// A pool that cannot be.
    #[error("cannot pool: {0:?}")]
    PoolShape(cn_kernels::pool::PoolShape),
    /// A tensor that the model does not have.
    #[error("the model has no tensor `{name}`")]
    UnknownTensor {
        /// The name that was given.
        name: String,
    },
    /// Two tensors of one name in a model.
    #[error("two tensors of the model are named `{name}`")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A backward pass without the forward pass that saves for it.
    #[error("`{layer}` has nothing saved: call `forward` with a pass that saves before `backward`")]
    NothingSaved {
        /// The kind of layer.
        layer: &'static str,
    },
    /// A setting outside its range.
    #[error("`{name}` is {value}, expected {expected}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What came.
        value: f64,
        /// The range.
        expected: &'static str,
    },
    /// A tensor on a device that this build cannot compute on.
    #[error("no kernel for {device} in this build")]
    Device {
        /// The device.
        device: String,
    },
    /// The GPU cannot be used, or refuses.
    #[error("the GPU cannot do this")]
    Cuda(#[from] cn_cuda::Error),
    /// A batch that a GPU's memory does not hold.
    #[error(
        "a batch of {batch} images of {}x{} px does not fit the GPU's memory{}",
        size[1], size[0], fits.map_or_else(String::new, |n| format!("; {n} would fit"))
    )]
    GpuBatch {
        /// Images of the batch.
        batch: usize,
        /// Height and width.
        size: [usize; 2],
        /// How many would fit, if any: the batch halved until it does.
        fits: Option<usize>,
        /// What ran out.
        source: cn_cuda::Error,
    },
    /// A layer that has no kernels for GPUs.
    #[error("`{name}` cannot run on a GPU: {reason}")]
    NotOnGpu {
        /// Full name of the layer.
        name: String,
        /// What is missing.
        reason: &'static str,
    },
    /// An error of candle's.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// What to do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Device { .. } => Some("this version computes on the CPU alone: keep tensors there"),
            Self::PoolShape(_) => {
                Some("a window has at most 255 positions, fits the image, and is at least twice the padding")
            }
            Self::UnknownTensor { .. } => Some("names are PyTorch's; `Model::named_tensors` lists them"),
            Self::DuplicateName { .. } => Some("give the children of a container different names"),
            Self::NothingSaved { .. } => Some("use `Pass::train`, or `Pass::eval` followed by `saving`"),
            Self::Cuda(error) | Self::GpuBatch { source: error, .. } => error.hint(),
            Self::NotOnGpu { .. } => Some("train this network on the CPU"),
            _ => None,
        }
    }
}
