//! candle-transformers' ResNets are the oracle of our forward pass in evaluation mode.
#![allow(clippy::unwrap_used, reason = "an error fails the test")]

use candle_core::{DType, Device, Tensor};
use candle_nn::{Module, VarBuilder};
use candle_transformers::models::resnet;
use cn_ops::{Mode, Model};
use cn_zoo::{Arch, Fit, Head, ResNetConfig, WeightFile, load, save};

/// Two f32 implementations that sum in different orders, on logits of order 1.
const TOLERANCE: f32 = 1e-4;

/// Random weights whose norms are not trivial: running moments and scales away from 0 and 1.
fn lively(config: &ResNetConfig) -> cn_ops::Network {
    let mut network = config.build(3, DType::F32, &Device::Cpu).unwrap();
    let mut tensors = network.named_tensors().unwrap();
    tensors.retain(|(name, tensor)| tensor.rank() == 1 && !name.starts_with("fc."));
    for (name, tensor) in &mut tensors {
        let mut noise = vec![0.0; tensor.elem_count()];
        cn_random::fill_uniform(5, name, 0.2, &mut noise);
        let centre = if name.ends_with("weight") || name.ends_with("running_var") { 0.7 } else { 0.0 };
        *tensor = (Tensor::from_vec(noise, tensor.shape(), &Device::Cpu).unwrap() + centre).unwrap();
    }
    network.load_tensors(&tensors).unwrap();
    network
}

fn images(channels: usize, size: usize) -> Tensor {
    let shape = (2, size, size + 8, channels);
    let mut values = vec![0.0; 2 * size * (size + 8) * channels];
    cn_random::fill_normal(9, "images", 1.0, &mut values);
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn worst(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

fn agrees(arch: Arch, size: usize) {
    let config = ResNetConfig { arch, in_channels: 3, n_classes: 7, head: Head::Linear };
    let mut network = lively(&config);
    let images = images(3, size);
    let ours = network.forward(&images, Mode::Eval).unwrap().to_tensor().unwrap();

    // Through a file, so that names on disk are the oracle's too.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    save(&path, &network.named_tensors().unwrap(), &config).unwrap();
    let tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let weights = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let oracle = match arch {
        Arch::ResNet18 => resnet::resnet18(7, weights),
        Arch::ResNet34 => resnet::resnet34(7, weights),
        Arch::ResNet50 => resnet::resnet50(7, weights),
        other => panic!("{other} has no oracle here"),
    };
    let nchw = images.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
    let theirs = oracle.unwrap().forward(&nchw).unwrap();
    let spread = theirs.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(spread > 0.1, "logits near 0 compare nothing: {spread}");
    let worst = worst(&ours, &theirs);
    assert!(worst <= TOLERANCE * spread.max(1.0), "{arch}: {worst} of {spread}");

    let again = WeightFile::open(&path).unwrap();
    assert_eq!(ResNetConfig::of_file(&again).unwrap(), config);
    let mut loaded = config.build(1, DType::F32, &Device::Cpu).unwrap();
    load(&mut loaded, &again, Fit::Exact).unwrap();
    let same = loaded.forward(&images, Mode::Eval).unwrap();
    assert_eq!(same.to_vec2::<f32>().unwrap(), ours.to_vec2::<f32>().unwrap());
}

#[test]
fn resnet18_agrees() {
    agrees(Arch::ResNet18, 64);
}

#[test]
fn resnet34_agrees() {
    agrees(Arch::ResNet34, 40);
}

#[test]
fn resnet50_agrees() {
    agrees(Arch::ResNet50, 40);
}

#[cfg(feature = "candle-transformers")]
#[test]
fn the_feature_builds_grey_and_colour_networks() {
    for channels in [1, 3] {
        let config = ResNetConfig { arch: Arch::ResNet18, in_channels: channels, n_classes: 4, head: Head::Linear };
        let mut network = lively(&config);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        save(&path, &network.named_tensors().unwrap(), &config).unwrap();
        let file = WeightFile::open(&path).unwrap();
        let candle = cn_zoo::CandleResNet::new(&file, &Device::Cpu).unwrap();
        let images = images(channels, 32);
        let ours = network.forward(&images, Mode::Eval).unwrap().to_tensor().unwrap();
        let theirs = candle.forward(&images).unwrap();
        assert!(worst(&ours, &theirs) <= TOLERANCE * 10.0);
        assert!(candle.forward(&images.narrow(3, 0, 1).unwrap().repeat((1, 1, 1, 2)).unwrap()).is_err());
    }
}
