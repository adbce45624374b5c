//! Initial weights: functions of the seed and the tensor's name, independent of the order of building.

use crate::Result;
use candle_core::{DType, Device, Shape, Tensor};
use cn_ops::{BatchNorm, Conv2d, Conv2dConfig, Linear};
use cn_random::{fill_normal, fill_uniform};

/// Makes layers with their initial weights.
pub(crate) struct Init<'a> {
    pub(crate) seed: u64,
    pub(crate) dtype: DType,
    pub(crate) device: &'a Device,
}

impl Init<'_> {
    /// A square convolution without bias that keeps the image's size up to its stride; the deviation keeps the variance
    /// of gradients (He et al., arXiv:1502.01852, fan out).
    pub(crate) fn conv(&self, name: &str, channels: [usize; 2], kernel: usize, stride: usize) -> Result<Conv2d> {
        let [inputs, outputs] = channels;
        let std = (2.0 / (outputs * kernel * kernel) as f64).sqrt();
        let weight = self.normal(name, std, (outputs, inputs, kernel, kernel))?;
        let config = Conv2dConfig { stride: [stride; 2], padding: [kernel / 2; 2] };
        Ok(Conv2d::new(weight, config)?)
    }

    /// A linear layer without bias; the deviation keeps the variance of activations (fan in).
    pub(crate) fn linear(&self, name: &str, features: [usize; 2]) -> Result<Linear> {
        let [inputs, outputs] = features;
        Ok(Linear::new(self.normal(name, (2.0 / inputs as f64).sqrt(), (outputs, inputs))?)?)
    }

    /// A linear layer as PyTorch initialises it.
    pub(crate) fn linear_with_bias(&self, name: &str, features: [usize; 2]) -> Result<Linear> {
        let [inputs, outputs] = features;
        let bound = (1.0 / inputs as f64).sqrt() as f32;
        let uniform = |part: &str, shape: Shape| {
            let mut values = vec![0.0; shape.elem_count()];
            fill_uniform(self.seed, &format!("{name}.{part}"), bound, &mut values);
            self.tensor(values, shape)
        };
        let weight = uniform("weight", (outputs, inputs).into())?;
        Ok(Linear::new(weight)?.with_bias(uniform("bias", outputs.into())?)?)
    }

    /// A norm that begins as the identity.
    pub(crate) fn norm(&self, channels: usize) -> Result<BatchNorm> {
        self.norm_with_bias(channels, 0.0)
    }

    /// A norm as fastai initialises those of its head.
    pub(crate) fn head_norm(&self, channels: usize) -> Result<BatchNorm> {
        self.norm_with_bias(channels, 1e-3)
    }

    fn norm_with_bias(&self, channels: usize, bias: f64) -> Result<BatchNorm> {
        let bias = Tensor::full(bias, channels, self.device)?.to_dtype(self.dtype)?;
        Ok(BatchNorm::new(bias.ones_like()?, bias)?)
    }

    fn normal(&self, name: &str, std: f64, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        let mut values = vec![0.0; shape.elem_count()];
        fill_normal(self.seed, &format!("{name}.weight"), std as f32, &mut values);
        self.tensor(values, shape)
    }

    fn tensor(&self, values: Vec<f32>, shape: Shape) -> Result<Tensor> {
        Ok(Tensor::from_vec(values, shape, self.device)?.to_dtype(self.dtype)?)
    }
}
