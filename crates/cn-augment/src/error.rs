//! What can go wrong, and what to do about it.

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// An invalid policy, or images, geometry and output that do not fit each other.
///
/// An `index` counts images within the call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number of the policy or of the normalisation is not in its range.
    #[error("`{field}` is {value}, expected {allowed}")]
    OutOfRange {
        /// Path of the field, such as `affine.rotate`.
        field: &'static str,
        /// What was given.
        value: f64,
        /// The allowed range in words.
        allowed: &'static str,
    },
    /// A range of the policy ends before it starts.
    #[error("`{field}` goes from {low} to {high}, expected the lower end first")]
    Reversed {
        /// Path of the field.
        field: &'static str,
        /// The first number.
        low: f64,
        /// The second number.
        high: f64,
    },
    /// Mean and standard deviation of a normalisation do not fit the channels.
    #[error(
        "normalisation has {means} means and {stds} standard deviations, expected one of each, or one for each of {channels} channels"
    )]
    NormalisationLength {
        /// Number of means.
        means: usize,
        /// Number of standard deviations.
        stds: usize,
        /// Channels of the output.
        channels: usize,
    },
    /// An image's bytes do not match its shape, or the shape is empty.
    #[error("image {index} has {found} bytes, expected {height} x {width} x {channels}, none of them 0")]
    ImageShape {
        /// Position of the image.
        index: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// Bytes a pixel.
        channels: usize,
        /// Bytes there are.
        found: usize,
    },
    /// An image is neither grey nor RGB.
    #[error("image {index} has {found} channels, expected 1 (grey) or 3 (RGB)")]
    ImageChannels {
        /// Position of the image.
        index: usize,
        /// Channels there are.
        found: usize,
    },
    /// An image has colours, but the batch holds planes of grey alone.
    #[error("image {index} has colours, which the planes of grey images cannot show")]
    Colours {
        /// Position of the image.
        index: usize,
    },
    /// A stack of images has no image of this number.
    #[error("image {id} is asked for, but there are {n_images}")]
    NoSuchImage {
        /// The number asked for.
        id: usize,
        /// Images in the stack.
        n_images: usize,
    },
    /// Two lists of a call differ in length.
    #[error("`{argument}` has {found} elements, expected {expected}")]
    Length {
        /// The argument.
        argument: &'static str,
        /// Elements that the other arguments ask for.
        expected: usize,
        /// Elements there are.
        found: usize,
    },
    /// A batch without images was asked for as a tensor.
    #[error("the batch has no images")]
    EmptyBatch,
    /// Geometries of one batch are for different output sizes.
    #[error("geometry {index} is for {found} px, the first one for {expected} px")]
    MixedSizes {
        /// Position of the geometry.
        index: usize,
        /// Side of the first geometry's output.
        expected: u32,
        /// Side of this one's.
        found: u32,
    },
    /// A geometry does not fit its image: made for another one, or by hand.
    #[error("geometry {index} does not fit its {width} x {height} image: {reason}")]
    GeometryMismatch {
        /// Position of the geometry.
        index: usize,
        /// Width of the image.
        width: usize,
        /// Height of the image.
        height: usize,
        /// What does not fit.
        reason: &'static str,
    },
    /// A tensor has another shape, type or layout than expected.
    #[error("`{argument}` is {found}, expected {expected}")]
    Tensor {
        /// The argument.
        argument: &'static str,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// The device is a CUDA one, but this build has no CUDA kernels for it.
    #[error("batches on a CUDA device need a build with CUDA support")]
    NotCompiledWithCudaSupport,
    /// The device is of a kind that this crate has no kernels for.
    #[error("batches are made on the CPU or a CUDA device, not on {found}")]
    UnsupportedDevice {
        /// The device.
        found: String,
    },
    /// The GPU cannot be used, or refuses.
    #[error("cannot make the batch on the GPU")]
    Cuda(#[from] cn_cuda::Error),
    /// candle could not make or write a tensor.
    #[error("cannot make the tensor of a batch")]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// What to do about it, where that is not in the message itself.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NormalisationLength { .. } => "give one value for all channels, or one for each",
            Self::ImageChannels { .. } => "decode images to grey or RGB, without alpha",
            Self::Colours { .. } => "make batches with colour images of `Planes::Channels`",
            Self::MixedSizes { .. } => "draw all geometries of a batch from policies of one size",
            Self::GeometryMismatch { .. } => "draw the geometry from the image that it is applied to",
            Self::NotCompiledWithCudaSupport => "build with `--features cuda`, or make the batch on `Device::Cpu`",
            Self::UnsupportedDevice { .. } => "make the batch on `Device::Cpu` and move it with `to_device`",
            Self::Cuda(error) => return error.hint(),
            _ => return None,
        })
    }
}
