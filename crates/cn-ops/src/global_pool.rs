//! Pools over all positions of an image.

use crate::gpu::Spec;
use crate::storage::{check_shape, dims, read, shape_error, with_float, write};
use crate::{Activation, Error, InputGrad, Layer, Pass, Result, Visit};
use candle_core::{DType, Tensor};
use cn_kernels::pool;

/// `(B, H, W, C)` to `(B, 2 C)`: the largest value of each channel, then the mean of each, in fastai's order.
///
/// The gradient of a maximum goes to the first of equal positions in row-major order.
#[derive(Debug, Default)]
pub struct ConcatPool {
    saved: Option<([usize; 4], Activation)>,
}

impl ConcatPool {
    /// The pool.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// Sizes of `x`, none of them 0.
fn image_dims(x: &Tensor) -> Result<[usize; 4]> {
    let sizes = dims("x", x, "(B, H, W, C)")?;
    if sizes.contains(&0) { Err(shape_error("x", "(B, H, W, C), no size 0", x.shape())) } else { Ok(sizes) }
}

impl Layer for ConcatPool {
    fn forward(&mut self, x: &Activation, pass: &mut Pass<'_>) -> Result<Activation> {
        let sizes @ [batch, .., channels] = image_dims(x)?;
        let y = pass.pool.take((batch, 2 * channels), x.dtype(), x.device())?;
        let winners = pass.pool.take((batch, channels), DType::U32, x.device())?;
        with_float!("x", x, T => {
            let x = read::<T>(x)?;
            write::<T, _>(&y, |y| write::<u32, _>(&winners, |w| pool::concat_forward(channels, &x, y, w)))?
        })?;
        self.saved = pass.saves.then_some((sizes, winners));
        Ok(y)
    }

    fn backward(&mut self, dy: Activation, dx: InputGrad, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        let (sizes, winners) = self.saved.take().ok_or(Error::NothingSaved { layer: "ConcatPool" })?;
        let [batch, .., channels] = sizes;
        check_shape("dy", &dy, &[batch, 2 * channels])?;
        dx.fill(&sizes[..], &dy, pass, |dx| {
            with_float!("dy", dy, T => {
                let (dy, winners) = (read::<T>(&dy)?, read::<u32>(&winners)?);
                write::<T, _>(dx, |dx| pool::concat_backward(channels, &dy, &winners, dx))
            })
        })
    }

    fn spec(&self, _prefix: &str) -> Result<Spec> {
        Ok(Spec::ConcatPool)
    }

    fn visit(&mut self, _prefix: &str, _f: &mut Visit<'_>) -> Result<()> {
        Ok(())
    }
}

/// `(B, H, W, C)` to `(B, C)`: the mean of each channel.
#[derive(Debug, Default)]
pub struct MeanPool {
    saved: Option<[usize; 4]>,
}

impl MeanPool {
    /// The pool.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Layer for MeanPool {
    fn forward(&mut self, x: &Activation, pass: &mut Pass<'_>) -> Result<Activation> {
        let sizes @ [batch, .., channels] = image_dims(x)?;
        let y = pass.pool.take((batch, channels), x.dtype(), x.device())?;
        with_float!("x", x, T => {
            let x = read::<T>(x)?;
            write::<T, _>(&y, |y| pool::mean_forward(channels, &x, y))
        })?;
        self.saved = pass.saves.then_some(sizes);
        Ok(y)
    }

    fn backward(&mut self, dy: Activation, dx: InputGrad, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        let sizes = self.saved.take().ok_or(Error::NothingSaved { layer: "MeanPool" })?;
        let [batch, .., channels] = sizes;
        check_shape("dy", &dy, &[batch, channels])?;
        dx.fill(&sizes[..], &dy, pass, |dx| {
            with_float!("dy", dy, T => {
                let dy = read::<T>(&dy)?;
                write::<T, _>(dx, |dx| pool::mean_backward(channels, &dy, dx))
            })
        })
    }

    fn spec(&self, _prefix: &str) -> Result<Spec> {
        Ok(Spec::MeanPool)
    }

    fn visit(&mut self, _prefix: &str, _f: &mut Visit<'_>) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
