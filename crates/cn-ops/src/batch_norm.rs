//! Batch normalisation.

use crate::gpu::{NormSpec, Spec};
use crate::layer::{Statistics, join};
use crate::storage::{Element, check_shape, dims, read, shape_error, with_float, write};
use crate::{Activation, Affine, Error, InputGrad, Layer, Mode, Param, Pass, Result, Slot, Visit};
use candle_core::{DType, Tensor};
use cn_kernels::norm::{self, Gradients, Moments, Source};
use std::any::Any;

/// The numbers of a [`BatchNorm`]; the defaults are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormConfig {
    /// Added to the variance.
    pub eps: f64,
    /// Share of the batch's moments in the running ones.
    pub momentum: f64,
}

impl Default for BatchNormConfig {
    fn default() -> Self {
        Self { eps: 1e-5, momentum: 0.1 }
    }
}

/// Batch normalisation over all dimensions but the last, of `(B, H, W, C)` or `(B, C)`, with an optional ReLU fused in
/// (Ioffe & Szegedy, arXiv:1502.03167).
///
/// A pass in training mode uses the moments of the batch and moves the running ones, whose variance is the unbiased
/// one; a pass in evaluation mode uses the running ones.
#[derive(Debug)]
pub struct BatchNorm {
    weight: Param,
    bias: Param,
    running_mean: Tensor,
    running_var: Tensor,
    num_batches_tracked: Tensor,
    config: BatchNormConfig,
    activation: norm::Activation,
    saved: Option<Saved>,
}

struct Saved {
    x: Activation,
    /// Kept for the mask of the ReLU, where a residual was added.
    y: Option<Activation>,
    /// `Moments` of the element type.
    moments: Box<dyn Any + Send>,
    source: Source,
}

impl std::fmt::Debug for Saved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saved").field("x", &self.x.shape()).field("source", &self.source).finish_non_exhaustive()
    }
}

/// Whether the gradient of the residual is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residuum {
    Skip,
    New,
}

impl BatchNorm {
    /// A norm with these scales and shifts, both `(C)`; running means 0, running variances 1.
    ///
    /// # Errors
    ///
    /// If the shapes differ or are not one-dimensional, or the device is out of memory.
    pub fn new(weight: Tensor, bias: Tensor) -> Result<Self> {
        dims::<1>("weight", &weight, "(C)")?;
        check_shape("bias", &bias, weight.dims())?;
        Ok(Self {
            running_mean: weight.zeros_like()?,
            running_var: weight.ones_like()?,
            num_batches_tracked: Tensor::zeros((), DType::I64, weight.device())?,
            weight: Param::norm(weight)?,
            bias: Param::norm(bias)?,
            config: BatchNormConfig::default(),
            activation: norm::Activation::Identity,
            saved: None,
        })
    }

    /// The same, followed by `max(y, 0)`, whose derivative at 0 is 0.
    #[must_use]
    pub fn relu(mut self) -> Self {
        self.activation = norm::Activation::Relu;
        self
    }

    /// The same with other numbers.
    ///
    /// # Errors
    ///
    /// If `eps` is not positive, or `momentum` is outside [0, 1].
    pub fn with_config(mut self, config: BatchNormConfig) -> Result<Self> {
        let BatchNormConfig { eps, momentum } = config;
        if !(eps > 0.0 && eps.is_finite()) {
            return Err(Error::Setting { name: "eps", value: eps, expected: "a positive number" });
        }
        if !(0.0..=1.0).contains(&momentum) {
            return Err(Error::Setting { name: "momentum", value: momentum, expected: "a number from 0 to 1" });
        }
        self.config = config;
        Ok(self)
    }

    fn channels(&self) -> usize {
        self.weight.value().elem_count()
    }

    fn check(&self, x: &Activation, mode: &Mode<'_>) -> Result<()> {
        let channels = self.channels();
        if x.rank() < 2 || x.dims().last() != Some(&channels) || x.elem_count() == 0 {
            return Err(shape_error("x", &format!("(B, {channels}) or (B, H, W, {channels})"), x.shape()));
        }
        // One value has no variance: the output would be the shift alone, and the gradient zero.
        if matches!(mode, Mode::Train(_)) && x.elem_count() == channels {
            return Err(shape_error("x", "at least two values for each channel in training", x.shape()));
        }
        Ok(())
    }

    /// `activation(norm(x) + residual)`.
    pub(crate) fn forward_add(
        &mut self,
        x: &Activation,
        residual: Option<&Activation>,
        pass: &mut Pass<'_>,
    ) -> Result<Activation> {
        self.check(x, &pass.mode)?;
        if let Some(residual) = residual {
            check_shape("residual", residual, x.dims())?;
        }
        let source = if matches!(pass.mode, Mode::Train(_)) { Source::Batch } else { Source::Running };
        let y = pass.pool.take(x.shape().clone(), x.dtype(), x.device())?;
        let moments = with_float!("x", x, T => {
            let moments = self.moments::<T>(x, source, pass.statistics)?;
            let (gamma, beta) = (read::<T>(self.weight.value())?, read::<T>(self.bias.value())?);
            let (xs, residual) = (read::<T>(x)?, residual.map(|r| read::<T>(r)).transpose()?);
            let bn = norm::BatchNorm { gamma: &gamma, beta: &beta, eps: self.config.eps, activation: self.activation };
            write::<T, _>(&y, |y| norm::forward(&bn, &moments, &xs, residual.as_deref(), y))?;
            Ok::<Box<dyn Any + Send>, Error>(Box::new(moments))
        })?;
        // Without a residual the sign of the output follows from `x`.
        let mask = (self.activation == norm::Activation::Relu && residual.is_some()).then(|| y.clone());
        self.saved = pass.saves.then(|| Saved { x: x.clone(), y: mask, moments, source });
        Ok(y)
    }

    /// The moments that a pass uses; those of a batch also move the running ones.
    fn moments<T: Element>(&self, x: &Activation, source: Source, statistics: Statistics) -> Result<Moments<T>> {
        if source == Source::Running {
            let (mean, var) = (read::<T>(&self.running_mean)?, read::<T>(&self.running_var)?);
            return Ok(Moments::given(&mean, &var, self.config.eps));
        }
        let channels = self.channels();
        let moments = norm::moments(&read::<T>(x)?, channels, self.config.eps);
        if statistics == Statistics::Stay {
            return Ok(moments);
        }
        let rows = x.elem_count() / channels;
        write::<T, _>(&self.running_mean, |mean| {
            write::<T, _>(&self.running_var, |var| moments.update_running(rows, self.config.momentum, mean, var))
        })??;
        write::<i64, _>(&self.num_batches_tracked, |n| n[0] += 1)?;
        Ok(moments)
    }

    /// Gradients of the input and of the residual.
    pub(crate) fn backward_add(
        &mut self,
        dy: &Activation,
        dx: InputGrad,
        residuum: Residuum,
        pass: &mut Pass<'_>,
    ) -> Result<(Option<Activation>, Option<Activation>)> {
        let saved = self.saved.take().ok_or(Error::NothingSaved { layer: "BatchNorm" })?;
        check_shape("dy", dy, saved.x.dims())?;
        let take = || pass.pool.take(dy.shape().clone(), dy.dtype(), dy.device());
        // The sums over the batch come with the gradient of `x`, so that it is computed even if it is not wanted.
        let d_x = take()?;
        let d_residual = (residuum == Residuum::New).then(take).transpose()?;
        with_float!("dy", dy, T => {
            let moments = saved.moments.downcast_ref::<Moments<T>>();
            let moments = moments.ok_or(Error::DType { name: "dy", expected: "the type of `x`", found: dy.dtype() })?;
            let channels = self.channels();
            let (mut dgamma, mut dbeta) = (vec![0.0 as T; channels], vec![0.0 as T; channels]);
            {
                let (gamma, beta) = (read::<T>(self.weight.value())?, read::<T>(self.bias.value())?);
                let bn =
                    norm::BatchNorm { gamma: &gamma, beta: &beta, eps: self.config.eps, activation: self.activation };
                let (x, dy) = (read::<T>(&saved.x)?, read::<T>(dy)?);
                let y = saved.y.as_ref().map(|y| read::<T>(y)).transpose()?;
                let saved = norm::Saved { x: &x, y: y.as_deref(), moments, source: saved.source };
                let mut run = |dx: &mut [T], d_residual: Option<&mut [T]>| {
                    let (dgamma, dbeta) = (&mut dgamma[..], &mut dbeta[..]);
                    norm::backward(&bn, &saved, &dy, Gradients { dx, d_residual, dgamma, dbeta });
                };
                match &d_residual {
                    Some(dr) => write::<T, _>(&d_x, |dx| write::<T, _>(dr, |dr| run(dx, Some(dr))))??,
                    None => write::<T, _>(&d_x, |dx| run(dx, None))?,
                }
            }
            add_grad(&self.weight, &dgamma)?;
            add_grad(&self.bias, &dbeta)
        })?;
        Ok((dx.give(d_x)?, d_residual))
    }

    pub(crate) fn norm_spec(&self, name: &str) -> NormSpec {
        let BatchNormConfig { eps, momentum } = self.config;
        NormSpec { name: name.into(), channels: self.channels(), eps, momentum, activation: self.activation }
    }

    /// Whether the gradient of the residual differs from `dy`.
    pub(crate) fn masks(&self) -> bool {
        self.activation == norm::Activation::Relu
    }
}

/// Adds `sums` to the gradient of a trainable parameter.
fn add_grad<T: Element>(param: &Param, sums: &[T]) -> Result<()> {
    if !param.is_trainable() {
        return Ok(());
    }
    write::<T, _>(param.grad(), |grad| cn_kernels::linear::add_assign(grad, sums))
}

impl Layer for BatchNorm {
    fn forward(&mut self, x: &Activation, pass: &mut Pass<'_>) -> Result<Activation> {
        self.forward_add(x, None, pass)
    }

    fn backward(&mut self, dy: Activation, dx: InputGrad, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        Ok(self.backward_add(&dy, dx, Residuum::Skip, pass)?.0)
    }

    fn as_affine(&self) -> Result<Option<Affine>> {
        if self.weight.value().dtype() != DType::F32 || !self.weight.value().device().is_cpu() {
            return Ok(None);
        }
        let (mean, var) = (read::<f32>(&self.running_mean)?, read::<f32>(&self.running_var)?);
        let inv_std = Moments::given(&mean, &var, self.config.eps).inv_std;
        let scale: Vec<f32> = read::<f32>(self.weight.value())?.iter().zip(&inv_std).map(|(g, s)| g * s).collect();
        let beta = read::<f32>(self.bias.value())?;
        let shift = beta.iter().zip(mean.iter().zip(&scale)).map(|(b, (m, s))| b - m * s).collect();
        Ok(Some(Affine { scale, shift, activation: self.activation }))
    }

    fn spec(&self, prefix: &str) -> Result<Spec> {
        Ok(Spec::Norm(self.norm_spec(prefix)))
    }

    fn visit(&mut self, prefix: &str, f: &mut Visit<'_>) -> Result<()> {
        f(&join(prefix, "weight"), Slot::Param(&mut self.weight))?;
        f(&join(prefix, "bias"), Slot::Param(&mut self.bias))?;
        f(&join(prefix, "running_mean"), Slot::Buffer(&mut self.running_mean))?;
        f(&join(prefix, "running_var"), Slot::Buffer(&mut self.running_var))?;
        f(&join(prefix, "num_batches_tracked"), Slot::Buffer(&mut self.num_batches_tracked))
    }
}

#[cfg(test)]
mod tests;
