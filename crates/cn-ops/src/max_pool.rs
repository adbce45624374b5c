//! Max pooling.

use crate::gpu::Spec;
use crate::storage::{check_shape, dims, read, with_float, write};
use crate::{Activation, Error, InputGrad, Layer, Pass, Result, Visit};
use candle_core::{DType, Tensor};
use cn_kernels::pool::{self, PoolShape};

/// The windows of a [`MaxPool2d`]; down, then right. Padding counts as minus infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool2dConfig {
    /// Height and width of a window, at most 255 positions.
    pub kernel: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Rows above and below, columns left and right; at most half a window.
    pub padding: [usize; 2],
}

impl MaxPool2dConfig {
    /// Sizes of the pool over `x (B, H, W, C)`.
    pub(crate) fn shape(&self, x: &Tensor) -> Result<PoolShape> {
        let [batch, height, width, channels] = dims("x", x, "(B, H, W, C)")?;
        let Self { kernel, stride, padding } = *self;
        let shape = PoolShape { batch, height, width, channels, kernel, stride, padding };
        if shape.is_valid() { Ok(shape) } else { Err(Error::PoolShape(shape)) }
    }
}

/// The largest value of each window of `(B, H, W, C)`; windows may overlap.
///
/// The gradient of a window goes, once, to the first of its largest values in row-major order, as in PyTorch.
#[derive(Debug)]
pub struct MaxPool2d {
    config: MaxPool2dConfig,
    saved: Option<(PoolShape, Activation)>,
}

impl MaxPool2d {
    /// A pool with these windows.
    #[must_use]
    pub fn new(config: MaxPool2dConfig) -> Self {
        Self { config, saved: None }
    }
}

impl Layer for MaxPool2d {
    fn forward(&mut self, x: &Activation, pass: &mut Pass<'_>) -> Result<Activation> {
        let shape = self.config.shape(x)?;
        let out = [shape.batch, shape.out_height(), shape.out_width(), shape.channels];
        let y = pass.pool.take(&out[..], x.dtype(), x.device())?;
        let winners = pass.pool.take(&out[..], DType::U8, x.device())?;
        with_float!("x", x, T => {
            let x = read::<T>(x)?;
            write::<T, _>(&y, |y| write::<u8, _>(&winners, |w| pool::max_forward(&shape, &x, y, w)))?
        })?;
        self.saved = pass.saves.then_some((shape, winners));
        Ok(y)
    }

    fn backward(&mut self, dy: Activation, dx: InputGrad, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        let (shape, winners) = self.saved.take().ok_or(Error::NothingSaved { layer: "MaxPool2d" })?;
        check_shape("dy", &dy, winners.dims())?;
        let input = [shape.batch, shape.height, shape.width, shape.channels];
        dx.fill(&input[..], &dy, pass, |dx| {
            with_float!("dy", dy, T => {
                let (dy, winners) = (read::<T>(&dy)?, read::<u8>(&winners)?);
                write::<T, _>(dx, |dx| pool::max_backward(&shape, &dy, &winners, dx))
            })
        })
    }

    fn spec(&self, _prefix: &str) -> Result<Spec> {
        Ok(Spec::MaxPool(self.config))
    }

    fn visit(&mut self, _prefix: &str, _f: &mut Visit<'_>) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
