//! The rectifier on its own; where it follows a norm, [`crate::BatchNorm::relu`] saves a pass over memory.

use crate::gpu::Spec;
use crate::storage::{check_shape, owned, read, with_float, write};
use crate::{Activation, Error, InputGrad, Layer, Pass, Result, Visit};
use cn_kernels::Float;
use rayon::prelude::*;

/// Elements that a thread takes at once.
const PIECE: usize = 1 << 16;

/// `max(x, 0)`, with derivative 0 at 0 as in PyTorch.
#[derive(Debug, Default)]
pub struct Relu {
    saved: Option<Activation>,
}

impl Relu {
    /// The layer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Layer for Relu {
    fn forward(&mut self, x: &Activation, pass: &mut Pass<'_>) -> Result<Activation> {
        let y = pass.pool.take(x.shape().clone(), x.dtype(), x.device())?;
        with_float!("x", x, T => {
            let x = read::<T>(x)?;
            write::<T, _>(&y, |y| {
                // Written so that NaN passes through: a broken run must show.
                zip(y, &x, |y, x| *y = if x < 0.0 { 0.0 } else { x });
            })
        })?;
        self.saved = pass.saves.then(|| y.clone());
        Ok(y)
    }

    fn backward(&mut self, dy: Activation, dx: InputGrad, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        let y = self.saved.take().ok_or(Error::NothingSaved { layer: "Relu" })?;
        check_shape("dy", &dy, y.dims())?;
        if matches!(dx, InputGrad::Skip) {
            return Ok(None);
        }
        let dy = owned(dy, &pass.pool)?;
        with_float!("dy", dy, T => {
            let y = read::<T>(&y)?;
            write::<T, _>(&dy, |dy| zip(dy, &y, |dy, y| *dy = if y <= 0.0 { 0.0 } else { *dy }))
        })?;
        dx.give(dy)
    }

    fn spec(&self, _prefix: &str) -> Result<Spec> {
        Ok(Spec::Relu)
    }

    fn visit(&mut self, _prefix: &str, _f: &mut Visit<'_>) -> Result<()> {
        Ok(())
    }
}

/// Calls `each` with every element of `to` and its partner in `from`.
pub(crate) fn zip<T: Float>(to: &mut [T], from: &[T], each: impl Fn(&mut T, T) + Send + Sync) {
    to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| {
        to.iter_mut().zip(from).for_each(|(to, from)| each(to, *from));
    });
}

#[cfg(test)]
mod tests;
