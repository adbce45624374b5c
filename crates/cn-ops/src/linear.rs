//! The fully connected layer.

use crate::gpu::{Bias, Spec};
use crate::layer::join;
use crate::param::{add_bias, add_bias_grad};
use crate::storage::{check_shape, dims, read, shape_error, with_float, write};
use crate::{Activation, Error, InputGrad, Layer, Param, Pass, Result, Slot, Visit};
use candle_core::Tensor;
use cn_kernels::linear::{self, LinearShape};

/// `(B, I)` to `(B, O)`: `x w^T`, without a bias unless one is given.
#[derive(Debug)]
pub struct Linear {
    weight: Param,
    bias: Option<Param>,
    saved: Option<Activation>,
}

impl Linear {
    /// A layer with this `weight (O, I)`.
    ///
    /// # Errors
    ///
    /// If `weight` has not two dimensions or is empty, or the device is out of memory.
    pub fn new(weight: Tensor) -> Result<Self> {
        if dims::<2>("weight", &weight, "(O, I)")?.contains(&0) {
            return Err(shape_error("weight", "(O, I), no size 0", weight.shape()));
        }
        Ok(Self { weight: Param::weight(weight)?, bias: None, saved: None })
    }

    /// The same, and `bias (O)` is added to every row.
    ///
    /// # Errors
    ///
    /// If the shape of `bias` does not fit, or the device is out of memory.
    pub fn with_bias(mut self, bias: Tensor) -> Result<Self> {
        check_shape("bias", &bias, &self.weight.value().dims()[..1])?;
        self.bias = Some(Param::bias(bias)?);
        Ok(self)
    }

    fn shape(&self, x: &Activation) -> Result<LinearShape> {
        let [out_features, in_features] = dims("weight", self.weight.value(), "(O, I)")?;
        match dims("x", x, "(B, I)")? {
            [batch, found] if batch > 0 && found == in_features => Ok(LinearShape { batch, in_features, out_features }),
            _ => Err(shape_error("x", &format!("(B, {in_features})"), x.shape())),
        }
    }

    fn parameter_grads(&self, shape: &LinearShape, x: &Activation, dy: &Activation) -> Result<()> {
        with_float!("dy", dy, T => {
            let (x, dy) = (read::<T>(x)?, read::<T>(dy)?);
            if self.weight.is_trainable() {
                write::<T, _>(self.weight.grad(), |dw| linear::backward_weight(shape, &x, &dy, dw))?;
            }
            add_bias_grad::<T>(self.bias.as_ref(), &dy)
        })
    }
}

impl Layer for Linear {
    fn forward(&mut self, x: &Activation, pass: &mut Pass<'_>) -> Result<Activation> {
        let shape = self.shape(x)?;
        let y = pass.pool.take((shape.batch, shape.out_features), x.dtype(), x.device())?;
        with_float!("x", x, T => {
            let (x, w) = (read::<T>(x)?, read::<T>(self.weight.value())?);
            write::<T, _>(&y, |y| linear::forward(&shape, &x, &w, y))?;
            add_bias::<T>(self.bias.as_ref(), &y)
        })?;
        self.saved = pass.saves.then(|| x.clone());
        Ok(y)
    }

    fn backward(&mut self, dy: Activation, dx: InputGrad, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        let x = self.saved.take().ok_or(Error::NothingSaved { layer: "Linear" })?;
        let shape = self.shape(&x)?;
        check_shape("dy", &dy, &[shape.batch, shape.out_features])?;
        self.parameter_grads(&shape, &x, &dy)?;
        dx.fill(x.shape().clone(), &dy, pass, |dx| {
            with_float!("dy", dy, T => {
                let (dy, w) = (read::<T>(&dy)?, read::<T>(self.weight.value())?);
                write::<T, _>(dx, |dx| linear::backward_input(&shape, &dy, &w, dx))
            })
        })
    }

    fn spec(&self, prefix: &str) -> Result<Spec> {
        let sizes = dims("weight", self.weight.value(), "(O, I)")?;
        let bias = if self.bias.is_some() { Bias::With } else { Bias::Without };
        Ok(Spec::Linear { name: prefix.into(), sizes, bias })
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
