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
mod error;
mod layer;
mod model;
mod param;
mod storage;

pub use activation::{Activation, Pool};
pub use error::{Error, Result};
pub use layer::{Draw, InputGrad, Layer, Mode, Pass, Slot, Trace, Visit};
pub use model::Model;
pub use param::{Entry, Param, Parameters};
