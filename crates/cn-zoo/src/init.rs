//! Initial weights: functions of the seed and the tensor's name, independent of the order of building.

use crate::Result;
use candle_core::{DType, Device, Shape, Tensor};
use cn_ops::{BatchNorm, Conv2d, Conv2dConfig, FoldedConv2d, Layer, Linear};
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
        let (weight, config) = self.square(name, channels, kernel, stride)?;
        Ok(Conv2d::new(weight, config)?)
    }

    /// The convolution that sees the images, 7x7 with stride 2; with a `mix`, it also takes the planes that the channels
    /// are sums of.
    pub(crate) fn stem(&self, name: &str, channels: [usize; 2], mix: Option<&Tensor>) -> Result<Box<dyn Layer>> {
        let (weight, config) = self.square(name, channels, 7, 2)?;
        Ok(match mix {
            Some(mix) => Box::new(FoldedConv2d::new(weight, config, mix)?),
            None => Box::new(Conv2d::new(weight, config)?),
        })
    }

    fn square(
        &self,
        name: &str,
        [inputs, outputs]: [usize; 2],
        kernel: usize,
        stride: usize,
    ) -> Result<(Tensor, Conv2dConfig)> {
        let std = (2.0 / (outputs * kernel * kernel) as f64).sqrt();
        let weight = self.normal(name, std, (outputs, inputs, kernel, kernel))?;
        Ok((weight, Conv2dConfig { stride: [stride; 2], padding: [kernel / 2; 2] }))
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

    fn norm_with_bias(&self, channels: usize, bias: f32) -> Result<BatchNorm> {
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

#[cfg(test)]
mod tests {
    use crate::{Arch, Head, ResNetConfig};
    use candle_core::{DType, Device};
    use cn_ops::Model;
    use std::collections::BTreeMap;

    const OURS: ResNetConfig =
        ResNetConfig { arch: Arch::ResNet18, in_channels: 3, n_classes: 15, head: Head::fastai() };

    fn values(config: ResNetConfig, seed: u64, dtype: DType) -> BTreeMap<String, Vec<f64>> {
        let tensors = config.build(seed, dtype, &Device::Cpu).unwrap().named_tensors().unwrap();
        let flat = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap();
        tensors.iter().map(|(name, tensor)| (name.clone(), flat(tensor))).collect()
    }

    fn deviation(values: &[f64]) -> f64 {
        (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt()
    }

    #[test]
    fn deviations_and_constants_are_those_of_fastai() {
        let values = values(OURS, 42, DType::F32);
        // Kaiming's deviation with fan out for convolutions, with fan in for the head (0.0442 and 0.0625).
        let expected = [
            ("conv1.weight", (2.0 / (64.0 * 49.0f64)).sqrt()),
            ("layer2.0.downsample.0.weight", (2.0 / 128.0f64).sqrt()),
            ("layer4.1.conv2.weight", (2.0 / (512.0 * 9.0f64)).sqrt()),
            ("head.4.weight", (2.0 / 1024.0f64).sqrt()),
            ("head.8.weight", (2.0 / 512.0f64).sqrt()),
        ];
        for (name, std) in expected {
            // Five standard errors of the deviation.
            let slack = 5.0 / (2.0 * values[name].len() as f64).sqrt();
            assert!((deviation(&values[name]) / std - 1.0).abs() < slack, "{name}: {}", deviation(&values[name]));
        }
        for (name, values) in &values {
            let constant = match name.rsplit('.').next() {
                Some("bias") if name.starts_with("head.") => f64::from(1e-3f32),
                Some("bias" | "running_mean" | "num_batches_tracked") => 0.0,
                Some("running_var") => 1.0,
                _ if name.contains("bn") || name.contains("downsample.1") => 1.0,
                _ => continue,
            };
            assert!(values.iter().all(|&v| v == constant), "{name}");
        }
    }

    #[test]
    fn a_plain_head_begins_as_in_pytorch() {
        let values = values(ResNetConfig { head: Head::Linear, ..OURS }, 42, DType::F32);
        let bound = (1.0 / 512.0f64).sqrt() + 1e-9;
        for name in ["fc.weight", "fc.bias"] {
            assert!(values[name].iter().all(|v| v.abs() <= bound), "{name}");
        }
        assert!((deviation(&values["fc.weight"]) * 3f64.sqrt() / bound - 1.0).abs() < 0.05);
    }

    #[test]
    fn weights_depend_on_the_seed_and_the_name_alone() {
        let ours = values(OURS, 42, DType::F32);
        assert!(ours == values(OURS, 42, DType::F64), "the same numbers in every type");
        let other = values(ResNetConfig { head: Head::Linear, n_classes: 3, ..OURS }, 42, DType::F32);
        for (name, values) in other.iter().filter(|(name, _)| !name.starts_with("fc.")) {
            assert!(values == &ours[name], "{name}");
        }
        let reseeded = values(OURS, 43, DType::F32);
        assert!(reseeded["conv1.weight"] != ours["conv1.weight"]);
        assert!(ours["layer1.0.conv1.weight"] != ours["layer1.0.conv2.weight"]);
    }

    #[test]
    fn a_bias_is_drawn_apart_from_its_weight() {
        let values = values(ResNetConfig { head: Head::Linear, ..OURS }, 42, DType::F32);
        let (weight, bias) = (&values["fc.weight"], &values["fc.bias"]);
        assert!(weight[..bias.len()] != bias[..]);
        assert!(deviation(bias) > 0.3 * (1.0 / 512.0f64).sqrt(), "{bias:?}");
    }
}
