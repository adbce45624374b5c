use super::*;

#[test]
fn every_kernel_agrees_with_the_cpu() {
    let Some(device) = Device::emulated_or_skip().unwrap() else { return };
    for seed in 0..3 {
        let checks = check_kernels(&device, seed).unwrap();
        assert!(checks.len() > 150, "{}", checks.len());
        let failed: Vec<_> = checks.iter().filter(|check| !check.passes()).collect();
        assert!(failed.is_empty(), "{failed:#?}");
    }
}

#[test]
fn a_wrong_result_fails() {
    let Some(device) = Device::emulated_or_skip().unwrap() else { return };
    let mut lab = Lab { device: &device, seed: 0, checks: Vec::new(), n_draws: 0 };
    for found in [&[1.0, 2.1][..], &[1.0], &[f32::NAN, 2.0]] {
        lab.compare("wrong".into(), F32, found, &[1.0, 2.0]);
    }
    assert!(lab.checks.iter().all(|check| !check.passes()));
}

/// A ResNet in small: every kind of layer, both kinds of blocks.
fn small_resnet() -> crate::Network {
    use crate::{BatchNorm, ConcatPool, Conv2d, Conv2dConfig, Dropout, Linear, MaxPool2d, MaxPool2dConfig, Relu};
    use crate::{Residual, Sequential};
    use candle_core::{Device::Cpu, Tensor};
    let tensor = |name: &str, shape: &[usize], std: f32| {
        let mut values = vec![0.0; shape.iter().product()];
        fill_normal(7, name, std, &mut values);
        Tensor::from_vec(values, shape, &Cpu).unwrap()
    };
    let conv = |name: &str, [i, o]: [usize; 2], k: usize, s: usize| {
        let config = Conv2dConfig { stride: [s, s], padding: [k / 2, k / 2] };
        Conv2d::new(tensor(name, &[o, i, k, k], (2.0 / (o * k * k) as f32).sqrt()), config).unwrap()
    };
    let norm = |c: usize| {
        let weight = (tensor("gamma", &[c], 0.1).affine(1.0, 1.0)).unwrap();
        BatchNorm::new(weight, tensor("beta", &[c], 0.1)).unwrap()
    };
    let pool = MaxPool2dConfig { kernel: [3, 3], stride: [2, 2], padding: [1, 1] };
    let branch = |name: &str, [i, o]: [usize; 2], s: usize| {
        Sequential::new()
            .push("conv1", conv(&format!("{name}.1"), [i, o], 3, s))
            .push("bn1", norm(o).relu())
            .push("conv2", conv(&format!("{name}.2"), [o, o], 3, 1))
    };
    let shortcut = Sequential::new().push("0", conv("down", [8, 12], 1, 2)).push("1", norm(12));
    let head = Sequential::new()
        .push("0", ConcatPool::new())
        .push("2", norm(24))
        .push("3", Dropout::new(0.25, "head.3").unwrap())
        .push("4", Linear::new(tensor("l4", &[16, 24], 0.3)).unwrap().with_bias(tensor("b4", &[16], 0.3)).unwrap())
        .push("5", Relu::new())
        .push("6", norm(16))
        .push("7", Dropout::new(0.5, "head.7").unwrap())
        .push("8", Linear::new(tensor("l8", &[5, 16], 0.4)).unwrap());
    let stem = conv("conv1", [3, 8], 7, 2).with_bias(tensor("stem", &[8], 0.3)).unwrap();
    let layers = Sequential::new()
        .push("conv1", stem)
        .push("bn1", norm(8).relu())
        .push("maxpool", MaxPool2d::new(pool))
        .push("block1", Residual::new(branch("block1", [8, 8], 1), "bn2", norm(8).relu()))
        .push(
            "block2",
            Residual::new(branch("block2", [8, 12], 2), "bn2", norm(12).relu()).with_shortcut("downsample", shortcut),
        )
        .push("block3", Residual::new(branch("block3", [12, 12], 1), "bn2", norm(12)))
        .push("head", head);
    crate::Network::new(layers, |name| usize::from(name.starts_with("head"))).unwrap()
}

#[test]
fn training_steps_agree_with_the_cpu() {
    let Some(device) = Device::emulated_or_skip().unwrap() else { return };
    for element in [Element::F32, Element::Bf16] {
        let checks = check_network(&device, &mut small_resnet(), [16, 24, 20, 3], element).unwrap();
        assert!(checks.len() >= 7);
        let failed: Vec<_> = checks.iter().filter(|check| !check.passes()).collect();
        assert!(failed.is_empty(), "{failed:#?}");
    }
}

#[test]
fn a_network_that_trains_elsewhere_is_the_same_network() {
    use crate::gpu::GpuConfig;
    use crate::{Adam, AdamConfig, Draw, Hyper, Images, Loss, Mode, Model, StepEnd, TrainStep};
    use candle_core::{Device::Cpu, Tensor};
    let Some(device) = Device::emulated_or_skip().unwrap() else { return };
    let mut there = small_resnet().on_gpu(&device, GpuConfig::default()).unwrap();
    let mut here = small_resnet();
    let images = |bad: f32| {
        let mut pixels = vec![0.0; 4 * 12 * 12 * 3];
        fill_normal(3, "images", 1.0, &mut pixels);
        pixels[5] += bad;
        Tensor::from_vec(pixels, (4, 12, 12, 3), &Cpu).unwrap()
    };
    let targets = Tensor::from_vec((0..20).map(|i| f32::from(u8::from(i % 6 == 0))).collect(), (4, 5), &Cpu).unwrap();
    let mut adams = [&here, &there].map(|network| Adam::new(network.parameters(), AdamConfig::default()).unwrap());
    let ids = [1, 2, 3, 4];
    let mut step = |here: &mut crate::Network, there: &mut crate::Network, epoch: u32| {
        let (images, hyper) = (images(0.0), Hyper { lr: &[1e-3, 2e-3], beta1: 0.9 });
        let draw = Draw { seed: 5, epoch, ids: &ids };
        let logits = here.forward(&images, Mode::Train(draw)).unwrap();
        let (loss, d) = Loss::Bce.compute(&logits, &targets).unwrap();
        here.parameters().zero_grads().unwrap();
        here.backward(&d).unwrap();
        adams[0].step(here.parameters(), &hyper).unwrap();
        let whole = TrainStep { images: Images::Host(&images), targets: &targets, draw, loss: Loss::Bce, hyper };
        let end = there.train_step(&whole, &mut adams[1]).unwrap();
        let Some(StepEnd::Updated(found)) = end else { panic!("{end:?}") };
        let [loss, found] = [loss, found].map(|loss| loss.to_scalar::<f32>().unwrap());
        assert!((loss - found).abs() < 1e-3 * loss, "{loss} {found}");
    };
    step(&mut here, &mut there, 0);
    // What the host writes reaches the device; what is frozen stays.
    let before = here.named_tensors().unwrap()[0].1.copy().unwrap();
    for network in [&mut here, &mut there] {
        network.load_tensors(&[("conv1.weight".into(), before.affine(0.5, 0.0).unwrap())]).unwrap();
        network.set_trainable(&|entry| entry.group > 0 || entry.norm).unwrap();
    }
    step(&mut here, &mut there, 1);
    step(&mut here, &mut there, 1);
    let mut weights = [&mut here, &mut there].map(|network| network.named_tensors().unwrap()).into_iter();
    for ((name, a), (_, b)) in weights.next().unwrap().iter().zip(weights.next().unwrap()) {
        let [a, b] = [a, &b].map(|t| t.to_dtype(candle_core::DType::F32).unwrap().flatten_all().unwrap());
        let check = Check::of(name.clone(), 1e-3, &b.to_vec1::<f32>().unwrap(), &a.to_vec1::<f32>().unwrap());
        assert!(check.passes(), "{check:?}");
    }
    let logits = [&mut here, &mut there].map(|network| {
        network.forward(&images(0.0), Mode::Eval).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    });
    assert!(Check::of("logits".into(), 1e-2, &logits[1], &logits[0]).passes());

    // A step that is not finite changes nothing.
    let kept = there.named_tensors().unwrap().into_iter().map(|(_, t)| t.copy().unwrap()).collect::<Vec<_>>();
    there.settle(&mut adams[1]).unwrap();
    let counts = adams[1].steps().to_vec();
    let bad = images(f32::NAN);
    let (draw, hyper) = (Draw { seed: 5, epoch: 2, ids: &ids }, Hyper { lr: &[1e-3, 2e-3], beta1: 0.9 });
    let whole = TrainStep { images: Images::Host(&bad), targets: &targets, draw, loss: Loss::Bce, hyper };
    assert!(matches!(there.train_step(&whole, &mut adams[1]).unwrap(), Some(StepEnd::NotFinite)));
    there.settle(&mut adams[1]).unwrap();
    assert_eq!(adams[1].steps(), counts);
    for ((name, found), kept) in there.named_tensors().unwrap().into_iter().zip(kept) {
        let [found, kept] = [found, kept].map(|t| t.to_dtype(candle_core::DType::F64).unwrap().flatten_all().unwrap());
        assert_eq!(found.to_vec1::<f64>().unwrap(), kept.to_vec1::<f64>().unwrap(), "{name}");
    }
}

#[test]
fn a_batch_that_does_not_fit_is_told_with_one_that_does() {
    use crate::gpu::{GpuConfig, GpuNetwork};
    use crate::{AdamConfig, Hyper, Loss};
    if Device::emulated_or_skip().unwrap().is_none() {
        return;
    }
    // Room for the network and some images.
    let device = Device::emulated_with_memory(3 << 20).unwrap();
    let mut network = small_resnet();
    let mut gpu = GpuNetwork::new(&device, &mut network, GpuConfig::default()).unwrap();
    let mut step = |batch: usize| {
        let (ids, targets) = ((0..batch as u32).collect::<Vec<_>>(), vec![0.0; batch * 5]);
        let hyper = Hyper { lr: &[1e-3, 1e-3], beta1: 0.9 };
        let (adam, images) = (AdamConfig::default(), [batch, 24, 20, 3]);
        let step = crate::gpu::GpuStep {
            images,
            seed: 1,
            epoch: 0,
            ids: &ids,
            targets: &targets,
            loss: Loss::Bce,
            adam,
            hyper,
        };
        gpu.step(&step, |images| Ok(images.zero()?))
    };
    let error = step(1000).unwrap_err();
    let crate::Error::GpuBatch { batch: 1000, fits: Some(fits), .. } = error else { panic!("{error}") };
    let text = error.to_string();
    assert_eq!(text, format!("a batch of 1000 images of 20x24 px does not fit the GPU's memory; {fits} would fit"));
    step(fits).unwrap();
    assert!(step(2 * fits + 2).is_err(), "the halves are told from above");
    step(fits).unwrap();
}
