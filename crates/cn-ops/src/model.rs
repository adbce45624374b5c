//! What a training loop trains.

use crate::{Activation, Entry, Mode, NotFiniteOutput, Parameters, Result};
use candle_core::Tensor;

/// A classifier that can be trained: images in, logits out, gradients back.
pub trait Model: Send {
    /// Logits `(B, K)` of `images (B, H, W, C)`. In [`Mode::Train`] a backward pass may follow.
    ///
    /// # Errors
    ///
    /// If the shape, type or device of `images` does not fit, or memory runs out.
    fn forward(&mut self, images: &Tensor, mode: Mode<'_>) -> Result<Activation>;

    /// Adds the gradients of the trainable parameters, given that of the logits of the last `forward`.
    ///
    /// # Errors
    ///
    /// If no forward pass in [`Mode::Train`] came before.
    fn backward(&mut self, d_logits: &Activation) -> Result<()>;

    /// The trained tensors, as one flat buffer.
    fn parameters(&self) -> &Parameters;

    /// Trains exactly the entries that `wanted` names; backward passes skip the others.
    ///
    /// # Errors
    ///
    /// If the device fails.
    fn set_trainable(&mut self, wanted: &dyn Fn(&Entry) -> bool) -> Result<()>;

    /// Every tensor that makes the model, parameters and buffers, by PyTorch's names, in a fixed order; no copies.
    ///
    /// # Errors
    ///
    /// If a name appears twice.
    fn named_tensors(&mut self) -> Result<Vec<(String, Tensor)>>;

    /// Where `forward` first gives a number that is NaN or infinite, for a model that can tell; runs it once more, with
    /// all that it does to running statistics.
    ///
    /// # Errors
    ///
    /// As `forward`.
    fn find_not_finite(&mut self, images: &Tensor, mode: Mode<'_>) -> Result<Option<NotFiniteOutput>> {
        let _ = (images, mode);
        Ok(None)
    }

    /// Overwrites the tensors of these names; the others stay.
    ///
    /// # Errors
    ///
    /// If a name is unknown or a shape differs.
    fn load_tensors(&mut self, tensors: &[(String, Tensor)]) -> Result<()>;
}
