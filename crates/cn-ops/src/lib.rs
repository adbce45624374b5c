//! Layers with an explicit forward and backward pass, on candle tensors.
//!
//! candle's own autograd cannot train a ResNet (its max pool has no gradient for overlapping windows) and keeps every
//! intermediate tensor alive. Here a [`Layer`] saves what its backward pass needs, returns the gradient of its input and
//! adds the gradients of its parameters into one flat buffer ([`Parameters`]), which [`Adam`] updates in one sweep.
//! Activations come from a [`Pool`], so a training step allocates nothing after the first.
//!
//! - [`Layer`], and [`Sequential`] and [`Residual`] that compose layers;
//! - [`Network`], a layer with its parameters and its pool, which is a [`Model`];
//! - [`bce_with_logits`] and [`softmax_cross_entropy`], the losses; [`Adam`], the optimizer.
//!
//! Activations are `(B, H, W, C)`; weights keep PyTorch's names and `(O, I, Kh, Kw)` order.
#![forbid(unsafe_code)]

mod activation;
mod adam;
mod batch_norm;
mod conv;
mod dropout;
mod error;
mod flatten;
mod global_pool;
mod layer;
mod linear;
mod loss;
mod max_pool;
mod model;
mod network;
mod param;
mod relu;
mod residual;
mod sequential;
mod storage;

pub use activation::{Activation, Pool};
pub use adam::{Adam, AdamConfig, Hyper};
pub use batch_norm::{BatchNorm, BatchNormConfig};
pub use conv::{Conv2d, Conv2dConfig};
pub use dropout::Dropout;
pub use error::{Error, Result};
pub use flatten::Flatten;
pub use global_pool::{ConcatPool, MeanPool};
pub use layer::{Draw, InputGrad, Layer, Mode, Pass, Slot, Trace, Visit};
pub use linear::Linear;
pub use loss::{Loss, bce_with_logits, softmax_cross_entropy};
pub use max_pool::{MaxPool2d, MaxPool2dConfig};
pub use model::Model;
pub use network::Network;
pub use param::{Entry, Param, Parameters};
pub use relu::Relu;
pub use residual::Residual;
pub use sequential::Sequential;
