use super::*;
use crate::weights::renamed;
use crate::{Arch, FileFormat, Head, ResNetConfig, fastai_name};
use cn_ops::{Mode, Network};
use std::collections::BTreeMap;

const PLAIN: ResNetConfig = ResNetConfig { arch: Arch::ResNet18, in_channels: 3, n_classes: 5, head: Head::Linear };
const FASTAI: ResNetConfig = ResNetConfig { head: Head::fastai(), ..PLAIN };

fn build(config: ResNetConfig, seed: u64) -> Network {
    config.build(seed, DType::F32, &Device::Cpu).unwrap()
}

fn tensors(config: ResNetConfig) -> BTreeMap<String, Tensor> {
    build(config, 1).named_tensors().unwrap().into_iter().collect()
}

/// What a file of these tensors is read as.
fn file(tensors: &BTreeMap<String, Tensor>) -> WeightFile {
    let tensors = renamed(tensors.clone()).unwrap();
    WeightFile { format: FileFormat::Safetensors, tensors, metadata: BTreeMap::new() }
}

fn sha(network: &mut Network) -> String {
    crate::weights_sha256(&network.named_tensors().unwrap()).unwrap()
}

/// An error that leaves the network as it was.
fn refused(config: ResNetConfig, tensors: &BTreeMap<String, Tensor>, fit: Fit) -> Error {
    let mut network = build(config, 2);
    let before = sha(&mut network);
    let error = load(&mut network, &file(tensors), fit).unwrap_err();
    assert_eq!(sha(&mut network), before, "{error}");
    error
}

#[test]
fn the_same_network_is_taken_whole() {
    for config in [PLAIN, FASTAI] {
        let mut network = build(config, 2);
        let loaded = load(&mut network, &file(&tensors(config)), Fit::Exact).unwrap();
        assert_eq!(sha(&mut network), sha(&mut build(config, 1)));
        assert_eq!((loaded.missing.len(), loaded.skipped.len(), loaded.stem_summed), (0, 0, false));
        assert_eq!(loaded.taken.len(), tensors(config).len());
        assert!(!loaded.head_replaced());
    }
}

#[test]
fn a_file_tells_its_architecture_with_or_without_a_head() {
    for arch in Arch::ALL {
        let mut tensors = tensors(ResNetConfig { arch, ..PLAIN });
        tensors.retain(|name, _| !name.starts_with("fc."));
        assert_eq!(Arch::of_file(&file(&tensors)).unwrap(), arch);
        tensors.retain(|name, _| !name.starts_with("layer3.1."));
        assert!(matches!(Arch::of_file(&file(&tensors)), Err(Error::UnknownNetwork { .. })));
    }
}

#[test]
fn names_of_fastai_and_of_data_parallel_are_known() {
    let fastai = tensors(FASTAI).into_iter().map(|(name, t)| (fastai_name(&name).unwrap(), t)).collect();
    let module = tensors(FASTAI).into_iter().map(|(name, t)| (format!("module.{name}"), t)).collect();
    for renamed in [fastai, module] {
        let mut network = build(FASTAI, 2);
        load(&mut network, &file(&renamed), Fit::Exact).unwrap();
        assert_eq!(sha(&mut network), sha(&mut build(FASTAI, 1)));
    }
}

#[test]
fn older_files_without_batch_counters_are_whole() {
    let mut old = tensors(PLAIN);
    old.retain(|name, _| !is_counter(name));
    load(&mut build(PLAIN, 2), &file(&old), Fit::Exact).unwrap();
    load(&mut build(PLAIN, 2), &file(&old), Fit::Transfer).unwrap();
}

#[test]
fn another_head_keeps_the_networks_own() {
    let ours = ResNetConfig { n_classes: 15, ..PLAIN };
    for (from, to, theirs) in [(PLAIN, ours, 2), (PLAIN, FASTAI, 2), (FASTAI, ours, 10)] {
        let mut network = build(to, 2);
        let loaded = load(&mut network, &file(&tensors(from)), Fit::Transfer).unwrap();
        assert!(loaded.head_replaced());
        assert_eq!(loaded.skipped.len(), theirs);
        let fresh: BTreeMap<_, _> = build(to, 2).named_tensors().unwrap().into_iter().collect();
        let source = tensors(from);
        for (name, tensor) in network.named_tensors().unwrap() {
            let expected = if is_head(&name) { &fresh[&name] } else { &source[&name] };
            let same = |t: &Tensor| t.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
            assert!(same(&tensor) == same(expected), "{name}");
        }
    }
    let error = refused(ours, &tensors(PLAIN), Fit::Exact);
    assert_eq!(error.to_string(), "`fc.weight` has shape [5, 512] in the file, expected [15, 512]");
}

#[test]
fn missing_and_unknown_tensors_are_named() {
    let mut short = tensors(PLAIN);
    short.remove("layer3.0.conv1.weight");
    short.remove("bn1.running_var");
    for fit in [Fit::Exact, Fit::Transfer] {
        let error = refused(PLAIN, &short, fit);
        assert!(matches!(error, Error::Missing { count: 2, first } if first == "bn1.running_var"));
    }
    let mut long = tensors(PLAIN);
    long.insert("ema.decay".into(), Tensor::new(&[1f32], &Device::Cpu).unwrap());
    assert!(matches!(refused(PLAIN, &long, Fit::Exact), Error::Unexpected { count: 1, first } if first == "ema.decay"));
    let loaded = load(&mut build(PLAIN, 2), &file(&long), Fit::Transfer).unwrap();
    assert_eq!(loaded.skipped, ["ema.decay"]);
}

#[test]
fn body_tensors_of_another_shape_are_refused() {
    let mut wrong = tensors(PLAIN);
    wrong.insert("layer1.0.bn1.weight".into(), Tensor::ones(65, DType::F32, &Device::Cpu).unwrap());
    for fit in [Fit::Exact, Fit::Transfer] {
        let message = refused(PLAIN, &wrong, fit).to_string();
        assert_eq!(message, "`layer1.0.bn1.weight` has shape [65] in the file, expected [64]");
    }
    let grey = ResNetConfig { in_channels: 1, ..PLAIN };
    assert!(matches!(refused(grey, &tensors(PLAIN), Fit::Exact), Error::WrongShape { .. }));
    // A grey stem is shared out over colours only where weights are transferred.
    assert!(matches!(refused(PLAIN, &tensors(grey), Fit::Exact), Error::WrongShape { .. }));
    assert!(load(&mut build(PLAIN, 2), &file(&tensors(grey)), Fit::Transfer).unwrap().stem_spread);
}

#[test]
fn damaged_values_are_refused_by_name_and_place() {
    let source = tensors(PLAIN);
    let mut network = build(PLAIN, 2);
    let before = sha(&mut network);
    let mut spoilt = |name: &str, dtype, value: f64| {
        let mut all = source.clone();
        let shape = all[name].shape().clone();
        let mut values = vec![0.25; shape.elem_count()];
        values[3] = value;
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        all.insert(name.into(), tensor);
        load(&mut network, &file(&all), Fit::Exact).unwrap_err()
    };
    let name = "layer2.1.conv2.weight";
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for dtype in [DType::F16, DType::F32] {
            let error = spoilt(name, dtype, value);
            assert!(matches!(error, Error::NotFinite { name: n, position: 3, .. } if n == name));
        }
    }
    // Finite in f64, infinite in the network's f32.
    assert!(matches!(spoilt(name, DType::F64, 1e300), Error::NotFinite { position: 3, .. }));
    let error = spoilt("bn1.running_var", DType::F32, -0.5);
    assert!(matches!(error, Error::NegativeVariance { position: 3, value: -0.5, .. }));
    assert!(matches!(spoilt(name, DType::I64, 1.0), Error::NotFloat { found: DType::I64, .. }));
    assert_eq!(sha(&mut network), before);
}

#[test]
fn element_types_are_converted() {
    let source = tensors(PLAIN);
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        let half = source.iter().map(|(name, t)| {
            (name.clone(), if t.dtype() == DType::F32 { t.to_dtype(dtype).unwrap() } else { t.clone() })
        });
        let mut network = build(PLAIN, 2);
        load(&mut network, &file(&half.collect()), Fit::Exact).unwrap();
        let expected = source["fc.weight"].to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap();
        let found = network.named_tensors().unwrap().into_iter().find(|(name, _)| name == "fc.weight").unwrap().1;
        assert_eq!(found.to_vec2::<f32>().unwrap(), expected.to_vec2::<f32>().unwrap());
    }
}

#[test]
fn a_colour_stem_sees_grey_alike_in_one_channel() {
    let grey_config = ResNetConfig { in_channels: 1, ..PLAIN };
    let mut colour = build(PLAIN, 1);
    let mut grey = build(grey_config, 2);
    let loaded = load(&mut grey, &file(&tensors(PLAIN)), Fit::Transfer).unwrap();
    assert!(loaded.stem_summed && !loaded.head_replaced());
    let mut values = vec![0.0; 2 * 32 * 32];
    cn_random::fill_normal(1, "grey", 1.0, &mut values);
    let one = Tensor::from_vec(values, (2, 32, 32, 1), &Device::Cpu).unwrap();
    let three = Tensor::cat(&[&one, &one, &one], 3).unwrap();
    let of = |network: &mut Network, x: &Tensor| network.forward(x, Mode::Eval).unwrap().to_vec2::<f32>().unwrap();
    let (a, b) = (of(&mut grey, &one).concat(), of(&mut colour, &three).concat());
    let largest = b.iter().fold(0f32, |m, v| m.max(v.abs()));
    let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-5 * largest.max(1.0), "{worst} of {largest}");
}

#[test]
fn a_grey_stem_serves_three_channels() {
    let grey = ResNetConfig { in_channels: 1, ..PLAIN };
    let mut network = build(PLAIN, 2);
    let loaded = load(&mut network, &file(&tensors(grey)), Fit::Transfer).unwrap();
    assert!(loaded.stem_spread && !loaded.stem_summed && !loaded.head_replaced());
    // Grey images in three channels give what the grey network gives.
    let mut values = vec![0.0; 2 * 32 * 32];
    cn_random::fill_normal(1, "grey", 1.0, &mut values);
    let images = Tensor::from_vec(values, (2, 32, 32, 1), &Device::Cpu).unwrap();
    let expected = build(grey, 1).forward(&images, Mode::Eval).unwrap().to_vec2::<f32>().unwrap();
    let images = images.repeat((1, 1, 1, 3)).unwrap();
    let found = network.forward(&images, Mode::Eval).unwrap().to_vec2::<f32>().unwrap();
    for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((found - expected).abs() < 1e-3 * expected.abs().max(1.0), "{found}, not {expected}");
    }
    refused(PLAIN, &tensors(grey), Fit::Exact);
}

#[test]
fn a_stem_of_halves_is_summed_without_losing_bits() {
    let mut tensors = tensors(PLAIN);
    let shape = tensors["conv1.weight"].dims().to_vec();
    // 2048 + 1 is no half, and 2048 + 1 + 1 is one.
    let channel = |value: f32| Tensor::full(value, (shape[0], 1, shape[2], shape[3]), &Device::Cpu).unwrap();
    let stem = Tensor::cat(&[channel(2048.0), channel(1.0), channel(1.0)], 1).unwrap();
    tensors.insert("conv1.weight".into(), stem.to_dtype(DType::F16).unwrap());
    let mut grey = build(ResNetConfig { in_channels: 1, ..PLAIN }, 2);
    load(&mut grey, &file(&tensors), Fit::Transfer).unwrap();
    let stem = grey.named_tensors().unwrap().into_iter().find(|(name, _)| name == "conv1.weight").unwrap().1;
    assert!(stem.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|&v| v == 2050.0));
}
