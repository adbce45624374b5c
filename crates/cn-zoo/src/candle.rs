//! candle-transformers' ResNets from the same weight files.

use crate::{Arch, Error, Head, ResNetConfig, Result, WeightFile};
use candle_core::{DType, Device, Tensor};
use candle_nn::{Func, Module, VarBuilder};
use candle_transformers::models::resnet;
use std::collections::HashMap;

/// candle-transformers' ResNet, for inference on any device that candle has, in f32.
///
/// It has torchvision's head alone ([`Head::Linear`]), and a stem for three channels: grey weights stand in its first
/// channel, the others are zero.
#[derive(Debug)]
pub struct CandleResNet {
    network: Func<'static>,
    in_channels: usize,
}

impl CandleResNet {
    /// The network of a weight file.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownNetwork`] for a file that holds no network of this crate, [`Error::NotInCandle`] for one that
    /// candle-transformers lacks, or candle's own.
    pub fn new(file: &WeightFile, device: &Device) -> Result<Self> {
        let config = ResNetConfig::of_file(file)?;
        if config.head != Head::Linear {
            return Err(Error::NotInCandle { what: "fastai head" });
        }
        let mut tensors: HashMap<String, Tensor> = file.tensors().map(|(name, t)| (name.into(), t.clone())).collect();
        match (config.in_channels, tensors.get_mut("conv1.weight")) {
            (3, _) => {}
            (1, Some(stem)) => *stem = stem.pad_with_zeros(1, 0, 2)?,
            _ => return Err(Error::NotInCandle { what: "stem for other than 1 or 3 channels" }),
        }
        let weights = VarBuilder::from_tensors(tensors, DType::F32, device);
        let network = match config.arch {
            Arch::ResNet18 => resnet::resnet18(config.n_classes, weights)?,
            Arch::ResNet34 => resnet::resnet34(config.n_classes, weights)?,
            Arch::ResNet50 => resnet::resnet50(config.n_classes, weights)?,
        };
        Ok(Self { network, in_channels: config.in_channels })
    }

    /// Logits `(B, K)`, f32, of `images (B, H, W, C)`, f32, on the network's device. No gradient.
    ///
    /// # Errors
    ///
    /// If shape, element type or device do not fit.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let (_, _, _, channels) = images.dims4()?;
        if channels != self.in_channels {
            let expected = format!("(B, H, W, {})", self.in_channels);
            return Err(cn_ops::Error::Shape { name: "images".into(), expected, found: images.shape().clone() }.into());
        }
        let nchw = images.permute((0, 3, 1, 2))?.contiguous()?;
        Ok(self.network.forward(&nchw.pad_with_zeros(1, 0, 3 - channels)?)?)
    }
}
