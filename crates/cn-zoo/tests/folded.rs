//! A network whose stem takes grey images as planes, beside the one that sees three channels.
#![allow(clippy::unwrap_used, reason = "an error fails the test")]

use candle_core::{DType, Device, Tensor};
use cn_ops::{Draw, Mode, Model, Network, bce_with_logits};
use cn_random::fill_uniform;
use cn_zoo::{Arch, Fit, Head, ResNetConfig, WeightFile};

const CONFIG: ResNetConfig = ResNetConfig {
    arch: Arch::ResNet18,
    in_channels: 3,
    n_classes: 15,
    head: Head::FastAi { hidden: 64, dropout: 0.5 },
};
const DEVICE: Device = Device::Cpu;
const SIDE: usize = 64;
const IDS: [u32; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
/// ImageNet's statistics.
const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const STD: [f64; 3] = [0.229, 0.224, 0.225];

/// Channels that are normalised one by one, as sums of grey and ones.
fn mix() -> Tensor {
    let row = |c: usize| [1.0 / STD[c], -MEAN[c] / STD[c]];
    Tensor::new(&[row(0), row(1), row(2)], &DEVICE).unwrap()
}

/// The same grey images `(B, H, W, _)` as planes and as normalised channels.
fn images(dtype: DType) -> [Tensor; 2] {
    let (batch, pixels) = (IDS.len(), IDS.len() * SIDE * SIDE);
    let mut grey = vec![0f32; pixels];
    fill_uniform(7, "grey", 0.5, &mut grey);
    let grey: Vec<f64> = grey.into_iter().map(|v| f64::from(v) + 0.5).collect();
    let planes: Vec<f64> = grey.iter().flat_map(|&v| [v, 1.0]).collect();
    let channels: Vec<f64> = grey.iter().flat_map(|v| [0, 1, 2].map(|c| (v - MEAN[c]) / STD[c])).collect();
    let tensor = |values, n: usize| Tensor::from_vec(values, (batch, SIDE, SIDE, n), &DEVICE).unwrap();
    [tensor(planes, 2), tensor(channels, 3)].map(|t| t.to_dtype(dtype).unwrap())
}

fn vector(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference, relative to the largest expected value.
fn distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1e-30, |m: f64, x| m.max(x.abs()));
    // `f64::max` would hide NaN.
    found.iter().zip(expected).map(|(f, e)| (f - e).abs() / scale).fold(0.0, |m, d| if d <= m { m } else { d })
}

/// Loss, logits and the gradient of each parameter, after a step of training.
fn trained(network: &mut Network, images: &Tensor) -> Vec<(String, Vec<f64>)> {
    let one = |i: usize| f64::from(u8::from(i % 15 == i / 15 * 2));
    let targets: Vec<f64> = (0..IDS.len() * 15).map(one).collect();
    let targets = Tensor::from_vec(targets, (IDS.len(), 15), &DEVICE).unwrap();
    let logits = network.forward(images, Mode::Train(Draw { seed: 42, epoch: 0, ids: &IDS })).unwrap();
    let (loss, d_logits) = bce_with_logits(&logits, &targets).unwrap();
    let mut all = vec![("loss".to_owned(), vector(&loss)), ("logits".to_owned(), vector(&logits))];
    network.parameters().zero_grads().unwrap();
    network.backward(&d_logits).unwrap();
    let parameters = network.parameters();
    let gradients = parameters.entries().iter();
    all.extend(gradients.map(|entry| (entry.name.clone(), vector(&parameters.grad_of(entry).unwrap()))));
    all
}

fn of_planes(dtype: DType) -> Vec<(String, Vec<f64>)> {
    trained(&mut CONFIG.build_folded(&mix(), 42, dtype, &DEVICE).unwrap(), &images(dtype)[0])
}

fn of_channels(dtype: DType) -> Vec<(String, Vec<f64>)> {
    trained(&mut CONFIG.build(42, dtype, &DEVICE).unwrap(), &images(dtype)[1])
}

#[test]
fn planes_train_as_channels_in_f64() {
    for ((name, found), (_, expected)) in of_planes(DType::F64).iter().zip(of_channels(DType::F64)) {
        let off = distance(found, &expected);
        assert!(off <= 1e-12, "{name} is off by {off:.1e}");
    }
}

/// Twenty layers make some 100 times more of a rounding, so planes must come as close to f64 as channels do. Gradients say
/// nothing here: one input of a ReLU that lies at 0 but for rounding changes them by percents.
#[test]
fn planes_lie_as_close_to_f64_as_channels() {
    let exact = of_channels(DType::F64);
    let (planes, channels) = (of_planes(DType::F32), of_channels(DType::F32));
    for i in 0..2 {
        let (name, exact) = &exact[i];
        let (planes, channels) = (distance(&planes[i].1, exact), distance(&channels[i].1, exact));
        assert!(planes <= 2.0 * channels + 1e-5, "{name}: {planes:.1e} off with planes, {channels:.1e} with channels");
    }
}

#[test]
fn files_and_evaluation_are_those_of_the_plain_network() {
    let mut folded = CONFIG.build_folded(&mix(), 42, DType::F32, &DEVICE).unwrap();
    let [planes, channels] = images(DType::F32);
    trained(&mut folded, &planes);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    cn_zoo::save(&path, &folded.named_tensors().unwrap(), &CONFIG).unwrap();

    let file = WeightFile::open(&path).unwrap();
    assert_eq!(ResNetConfig::of_file(&file).unwrap(), CONFIG);
    assert_eq!(file.get("conv1.weight").unwrap().dims(), [64, 3, 7, 7]);
    let mut plain = CONFIG.build(7, DType::F32, &DEVICE).unwrap();
    cn_zoo::load(&mut plain, &file, Fit::Exact).unwrap();
    let expected = vector(&plain.forward(&channels, Mode::Eval).unwrap());
    for images in [&planes, &channels] {
        let off = distance(&vector(&folded.forward(images, Mode::Eval).unwrap()), &expected);
        assert!(off <= 1e-5, "off by {off:.1e}");
    }
}
