//! Convolution.

mod folded;

use crate::gpu::{Bias, Spec};
use crate::layer::join;
use crate::param::{add_bias, add_bias_grad};
use crate::storage::{check_shape, dims, read, shape_error, with_float, write};
use crate::{Activation, Affine, After, Error, InputGrad, Layer, Param, Pass, Result, Slot, Visit};
use candle_core::{DType, Tensor};
use cn_kernels::Precision;
use cn_kernels::conv::{self, ConvShape, Epilogue, Prepared, Write};
pub use folded::FoldedConv2d;

/// How the windows of a [`Conv2d`] lie; down, then right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Zeros around the image: above and below, left and right.
    pub padding: [usize; 2],
}

/// Stride 1, no padding.
impl Default for Conv2dConfig {
    fn default() -> Self {
        Self { stride: [1, 1], padding: [0, 0] }
    }
}

impl Conv2dConfig {
    /// Sizes of the convolution of `x (B, H, W, I)` with `w (O, I, Kh, Kw)`.
    pub(crate) fn shape(&self, x: &Tensor, w: &Tensor) -> Result<ConvShape> {
        let [batch, height, width, in_channels] = dims("x", x, "(B, H, W, I)")?;
        let [out_channels, expected, kh, kw] = dims("weight", w, "(O, I, Kh, Kw)")?;
        if in_channels != expected {
            return Err(shape_error("x", &format!("(B, H, W, {expected})"), x.shape()));
        }
        let (stride, padding) = (self.stride, self.padding);
        let shape = ConvShape { batch, height, width, in_channels, out_channels, kernel: [kh, kw], stride, padding };
        shape.validate()?;
        Ok(shape)
    }
}

/// Two-dimensional convolution of `(B, H, W, I)` to `(B, Ho, Wo, O)`, without a bias unless one is given.
#[derive(Debug)]
pub struct Conv2d {
    weight: Param,
    bias: Option<Param>,
    config: Conv2dConfig,
    saved: Option<Saved>,
    /// The weight of some version and precision in the orders of the eval passes.
    prepared: Option<(u64, Precision, Prepared)>,
}

#[derive(Debug)]
struct Saved {
    shape: ConvShape,
    /// Absent if the weight was frozen.
    x: Option<Activation>,
}

impl Conv2d {
    /// A convolution with this `weight (O, I, Kh, Kw)`.
    ///
    /// # Errors
    ///
    /// If `weight` has not four dimensions, or the device is out of memory.
    pub fn new(weight: Tensor, config: Conv2dConfig) -> Result<Self> {
        dims::<4>("weight", &weight, "(O, I, Kh, Kw)")?;
        Ok(Self { weight: Param::weight(weight)?, bias: None, config, saved: None, prepared: None })
    }

    /// The same, and `bias (O)` is added to every pixel.
    ///
    /// # Errors
    ///
    /// If the shape of `bias` does not fit, or the device is out of memory.
    pub fn with_bias(mut self, bias: Tensor) -> Result<Self> {
        check_shape("bias", &bias, &self.weight.value().dims()[..1])?;
        self.bias = Some(Param::bias(bias)?);
        Ok(self)
    }

    fn parameter_grads(&self, saved: &Saved, dy: &Activation, precision: Precision) -> Result<()> {
        if self.weight.is_trainable() {
            let x = saved.x.as_ref().ok_or(Error::NothingSaved { layer: "Conv2d" })?;
            with_float!("dy", dy, T => {
                let (x, dy) = (read::<T>(x)?, read::<T>(dy)?);
                write::<T, _>(self.weight.grad(), |dw| {
                    conv::backward_weight(&saved.shape, precision, [&x, &dy], dw);
                })
            })?;
        }
        with_float!("dy", dy, T => add_bias_grad::<T>(self.bias.as_ref(), &read::<T>(dy)?))
    }

    fn input_grad(&self, s: &ConvShape, dy: &Activation, dx: InputGrad, pass: &Pass<'_>) -> Result<Option<Activation>> {
        let shape = [s.batch, s.height, s.width, s.in_channels];
        let (dx, mode) = match dx {
            InputGrad::Skip => return Ok(None),
            InputGrad::New => (pass.pool.take(&shape[..], dy.dtype(), dy.device())?, Write::Set),
            InputGrad::AddTo(sum) => (sum, Write::Add),
        };
        check_shape("gradient of the input", &dx, &shape)?;
        with_float!("dy", dy, T => {
            let (dy, w) = (read::<T>(dy)?, read::<T>(self.weight.value())?);
            write::<T, _>(&dx, |dx| conv::backward_input(s, pass.precision, [&dy, &w], dx, mode))
        })?;
        Ok(Some(dx))
    }
}

impl Layer for Conv2d {
    fn forward(&mut self, x: &Activation, pass: &mut Pass<'_>) -> Result<Activation> {
        let shape = self.config.shape(x, self.weight.value())?;
        let out = [shape.batch, shape.out_height(), shape.out_width(), shape.out_channels];
        let y = pass.pool.take(&out[..], x.dtype(), x.device())?;
        with_float!("x", x, T => {
            let (x, w) = (read::<T>(x)?, read::<T>(self.weight.value())?);
            write::<T, _>(&y, |y| conv::forward(&shape, pass.precision, [&x, &w], y))?;
            add_bias::<T>(self.bias.as_ref(), &y)
        })?;
        let x = self.weight.is_trainable().then(|| x.clone());
        self.saved = pass.saves.then_some(Saved { shape, x });
        Ok(y)
    }

    fn backward(&mut self, dy: Activation, dx: InputGrad, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        let saved = self.saved.take().ok_or(Error::NothingSaved { layer: "Conv2d" })?;
        let s = &saved.shape;
        check_shape("dy", &dy, &[s.batch, s.out_height(), s.out_width(), s.out_channels])?;
        self.parameter_grads(&saved, &dy, pass.precision)?;
        self.input_grad(s, &dy, dx, pass)
    }

    fn forward_then(&mut self, x: &Activation, after: &After<'_>, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        if x.dtype() != DType::F32 || !x.device().is_cpu() || self.bias.is_some() {
            return Ok(None);
        }
        let shape = self.config.shape(x, self.weight.value())?;
        let out = [shape.batch, shape.out_height(), shape.out_width(), shape.out_channels];
        if let Some(residual) = after.residual {
            check_shape("residual", residual, &out)?;
        }
        // A norm of another width: the plain path names the fault.
        if after.affine.scale.len() != shape.out_channels || after.affine.shift.len() != shape.out_channels {
            return Ok(None);
        }
        if let Some(prepared) = &mut pass.prepared {
            prepared.push(shape);
        }
        let (version, precision) = (self.weight.version(), pass.precision);
        if self.prepared.as_ref().is_none_or(|(of, by, _)| (*of, *by) != (version, precision)) {
            self.prepared = Some((version, precision, Prepared::new(precision)));
        }
        let (_, _, prepared) = self.prepared.as_ref().expect("it was made above");
        let y = pass.pool.take(&out[..], x.dtype(), x.device())?;
        let (x, w) = (read::<f32>(x)?, read::<f32>(self.weight.value())?);
        let residual = after.residual.map(|r| read::<f32>(r)).transpose()?;
        let Affine { scale, shift, activation } = after.affine;
        let epilogue = Epilogue { scale, shift, residual: residual.as_deref(), activation: *activation };
        write::<f32, _>(&y, |y| prepared.forward(&shape, [&x, &w], &epilogue, y))?;
        Ok(Some(y))
    }

    fn spec(&self, prefix: &str) -> Result<Spec> {
        let sizes = dims("weight", self.weight.value(), "(O, I, Kh, Kw)")?;
        let bias = if self.bias.is_some() { Bias::With } else { Bias::Without };
        Ok(Spec::Conv { name: prefix.into(), sizes, bias, config: self.config })
    }

    fn visit(&mut self, prefix: &str, f: &mut Visit<'_>) -> Result<()> {
        f(&join(prefix, "weight"), Slot::Param(&mut self.weight))?;
        match &mut self.bias {
            Some(bias) => f(&join(prefix, "bias"), Slot::Param(bias)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
