//! Layers with an explicit forward and backward pass, on candle tensors.
//!
//! candle's own autograd cannot train a ResNet (its max pool has no gradient for overlapping windows) and keeps every
//! intermediate tensor alive. Here a [`Layer`] saves what its backward pass needs, returns the gradient of its input and
//! adds the gradients of its parameters into one flat buffer ([`Parameters`]), which [`Adam`] updates in one sweep.
//! Activations come from a [`Pool`], so a training step allocates nothing after the first.
//!
//! - [`Layer`], and [`Sequential`], [`Residual`] and [`Recomputed`] that compose layers;
//! - [`Network`], a layer with its parameters and its pool, which is a [`Model`]; [`CandleModel`] makes one of any module
//!   that was written for candle;
//! - [`Loss`], [`bce_with_logits`] and [`softmax_cross_entropy`]; [`Adam`], the optimizer;
//!   [`Ema`], an average of the weights;
//! - [`gpu`]: networks on a GPU;
//! - [`autograd`]: convolution, max pool and loss as operations that candle's own `backward` knows.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use cn_ops::{Adam, AdamConfig, Conv2d, Conv2dConfig, Draw, Hyper, Linear, Loss, MeanPool, Mode, Model, Network, Relu, Sequential};
//!
//! let device = &Device::Cpu;
//! let filled = |shape: &[usize]| Tensor::rand(-0.3f32, 0.3, shape, device);
//! let layers = Sequential::new()
//!     .push("conv1", Conv2d::new(filled(&[8, 1, 3, 3])?, Conv2dConfig { stride: [2, 2], padding: [1, 1] })?)
//!     .push("relu", Relu::new())
//!     .push("pool", MeanPool::new())
//!     .push("fc", Linear::new(filled(&[2, 8])?)?);
//! let mut model = Network::new(layers, |_| 0)?;
//! let mut adam = Adam::new(model.parameters(), AdamConfig::default())?;
//!
//! // Two dark and two bright images.
//! let images = Tensor::cat(&[Tensor::zeros((2, 8, 8, 1), DType::F32, device)?, Tensor::ones((2, 8, 8, 1), DType::F32, device)?], 0)?;
//! let targets = Tensor::new(&[[1f32, 0.], [1., 0.], [0., 1.], [0., 1.]], device)?;
//! let mut losses = Vec::new();
//! for epoch in 0..100 {
//!     let mode = Mode::Train(Draw { seed: 42, epoch, ids: &[0, 1, 2, 3] });
//!     let logits = model.forward(&images, mode)?;
//!     let (loss, d_logits) = Loss::CrossEntropy { label_smoothing: 0.0 }.compute(&logits, &targets)?;
//!     model.parameters().zero_grads()?;
//!     model.backward(&d_logits)?;
//!     adam.step(model.parameters(), &Hyper { lr: &[0.01], beta1: 0.9 })?;
//!     losses.push(loss.to_scalar::<f32>()?);
//! }
//! assert!(losses[99] < 0.8 * losses[0]);
//! # Ok::<(), cn_ops::Error>(())
//! ```
//!
//! Activations are `(B, H, W, C)`; weights keep PyTorch's names and `(O, I, Kh, Kw)` order.
#![forbid(unsafe_code)]

mod activation;
mod adam;
pub mod autograd;
mod batch_norm;
mod buffers;
mod candle_model;
mod conv;
mod dropout;
mod ema;
mod error;
mod flatten;
mod global_pool;
pub mod gpu;
mod interrupt;
mod layer;
mod linear;
mod loss;
mod max_pool;
mod model;
mod network;
mod param;
mod recomputed;
mod relu;
mod residual;
mod sequential;
mod storage;
#[cfg(test)]
mod testing;
mod timings;

pub use activation::{Activation, Pool};
pub use adam::{Adam, AdamConfig, Hyper};
pub use batch_norm::{BatchNorm, BatchNormConfig};
pub use buffers::Buffers;
pub use candle_model::CandleModel;
pub use cn_kernels::conv::PLAN_VERSION;
pub use cn_kernels::{Isa, IsaError, Precision, PrecisionError, with_threads};
pub use conv::{Conv2d, Conv2dConfig, FoldedConv2d};
pub use dropout::Dropout;
pub use ema::Ema;
pub use error::{Error, Result};
pub use flatten::Flatten;
pub use global_pool::{ConcatPool, MeanPool};
pub use interrupt::Interrupt;
pub use layer::{Affine, After, Draw, InputGrad, Layer, Mode, NotFiniteOutput, Pass, Slot, Trace, Visit};
pub use linear::Linear;
pub use loss::{Loss, bce_with_logits, softmax_cross_entropy};
pub use max_pool::{MaxPool2d, MaxPool2dConfig};
pub use model::{GpuImages, Images, Model, StepEnd, TrainStep};
pub use network::{ActivationBytes, Network, PreparedWeights, Recompute};
pub use param::{Entry, Param, Parameters};
pub use recomputed::Recomputed;
pub use relu::Relu;
pub use residual::Residual;
pub use sequential::Sequential;
pub use timings::{LayerTime, Timings};
