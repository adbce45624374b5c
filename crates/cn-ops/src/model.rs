//! What a training loop trains.

use crate::{Activation, Adam, Draw, Entry, Hyper, Loss, Mode, NotFiniteOutput, Parameters, Result};
use candle_core::Tensor;

/// Images of a training step as a whole.
#[derive(Clone, Copy, Debug)]
pub enum Images<'a> {
    /// `(B, H, W, C)`, `f32`, on the CPU.
    Host(&'a Tensor),
    /// Made where the model is ([`Model::gpu`]).
    Gpu(&'a dyn GpuImages),
}

/// Makes images on a GPU.
pub trait GpuImages: std::fmt::Debug {
    /// B, H, W, C.
    fn sizes(&self) -> [usize; 4];

    /// A number that no other maker of this process has, at least 1: launches are recorded for one of them.
    fn id(&self) -> u64;

    /// Launches what fills `images` with elements of this type. Recorded with a step, and not called for the next: what
    /// differs between them lies in buffers.
    ///
    /// # Errors
    ///
    /// If the device fails.
    fn launch(&self, element: cn_cuda::Element, images: &cn_cuda::Buffer) -> cn_cuda::Result<()>;
}

/// A training step as a whole.
#[derive(Clone, Copy, Debug)]
pub struct TrainStep<'a> {
    /// Images, `(B, H, W, C)`.
    pub images: Images<'a>,
    /// Targets, `(B, K)`, `f32`, on the CPU.
    pub targets: &'a Tensor,
    /// What dropout draws by.
    pub draw: Draw<'a>,
    /// What is minimised.
    pub loss: Loss,
    /// Rates and momentum.
    pub hyper: Hyper<'a>,
}

/// How a whole step ended.
#[derive(Clone, Debug)]
pub enum StepEnd {
    /// The model is updated; the loss, a scalar on the CPU.
    Updated(Tensor),
    /// Loss or gradients were no numbers; nothing has changed.
    NotFinite,
}

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

    /// The GPU that [`Model::train_step`] runs on, if that is where it can be given images.
    fn gpu(&self) -> Option<&cn_cuda::Device> {
        None
    }

    /// Logits `(B, K)` in use of images that are made where the model is; `None` for one whose caller makes them here, for
    /// [`Model::forward`].
    ///
    /// # Errors
    ///
    /// As `forward`.
    fn judge(&mut self, images: &dyn GpuImages) -> Result<Option<Activation>> {
        let _ = images;
        Ok(None)
    }

    /// Forward, loss, backward and update in one, for a model that does it by itself on another device; `None` for one whose
    /// caller does it.
    ///
    /// What such a model holds comes back to the CPU when [`Model::named_tensors`] or [`Model::settle`] asks for it.
    ///
    /// # Errors
    ///
    /// If a shape does not fit, or the device fails.
    fn train_step(&mut self, step: &TrainStep<'_>, adam: &mut Adam) -> Result<Option<StepEnd>> {
        let _ = (step, adam);
        Ok(None)
    }

    /// Brings weights and the state of the optimizer back from where [`Model::train_step`] keeps them.
    ///
    /// # Errors
    ///
    /// If the device fails.
    fn settle(&mut self, adam: &mut Adam) -> Result<()> {
        let _ = adam;
        Ok(())
    }

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
