//! All of an image in one row.

use crate::gpu::Spec;
use crate::storage::shape_error;
use crate::{Activation, Error, InputGrad, Layer, Pass, Result, Visit};
use candle_core::Shape;

/// `(B, ...)` to `(B, F)`, a view. Of `(B, H, W, C)`, the channel runs fastest, unlike in PyTorch.
#[derive(Debug, Default)]
pub struct Flatten {
    saved: Option<Shape>,
}

impl Flatten {
    /// The layer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Layer for Flatten {
    fn forward(&mut self, x: &Activation, pass: &mut Pass<'_>) -> Result<Activation> {
        let (Some(&batch), false) = (x.dims().first(), x.elem_count() == 0) else {
            return Err(shape_error("x", "(B, ...), no size 0", x.shape()));
        };
        self.saved = pass.saves.then(|| x.shape().clone());
        x.reshape((batch, x.elem_count() / batch))
    }

    fn backward(&mut self, dy: Activation, dx: InputGrad, _pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        let shape = self.saved.take().ok_or(Error::NothingSaved { layer: "Flatten" })?;
        dx.give(dy.reshape(shape)?)
    }

    fn spec(&self, _prefix: &str) -> Result<Spec> {
        Ok(Spec::Flatten)
    }

    fn visit(&mut self, _prefix: &str, _f: &mut Visit<'_>) -> Result<()> {
        Ok(())
    }
}
