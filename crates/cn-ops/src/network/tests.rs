use super::*;
use crate::testing::*;
use crate::{
    Adam, AdamConfig, BatchNorm, ConcatPool, Conv2d, Conv2dConfig, Draw, Dropout, Hyper, Linear, Loss, MaxPool2d,
    MaxPool2dConfig, Relu, Residual, Sequential, Trace,
};
use candle_core::{DType, Device};
use std::sync::{Arc, Mutex};

fn conv(name: &str, kernel: [usize; 4], stride: usize, dtype: DType) -> Conv2d {
    let config = Conv2dConfig { stride: [stride; 2], padding: [kernel[2] / 2; 2] };
    Conv2d::new((fill(name, &kernel) * 0.5).unwrap().to_dtype(dtype).unwrap(), config).unwrap()
}

fn norm(channels: usize, dtype: DType) -> BatchNorm {
    let ones = Tensor::ones(channels, dtype, &Device::Cpu).unwrap();
    BatchNorm::new(ones.clone(), (ones * 0.1).unwrap()).unwrap()
}

/// A ResNet of two blocks with fastai's kind of head.
fn resnet(dtype: DType, width: usize) -> Sequential {
    let block = |i: usize, o: usize, stride: usize, name: &str| {
        let branch = Sequential::new()
            .push("conv1", conv(&format!("{name}.1"), [o, i, 3, 3], stride, dtype))
            .push("bn1", norm(o, dtype).relu())
            .push("conv2", conv(&format!("{name}.2"), [o, o, 3, 3], 1, dtype));
        let block = Residual::new(branch, "bn2", norm(o, dtype).relu());
        if stride == 1 {
            return block;
        }
        let shortcut = conv(&format!("{name}.d"), [o, i, 1, 1], stride, dtype);
        block.with_shortcut("downsample", Sequential::new().push("0", shortcut).push("1", norm(o, dtype)))
    };
    let linear = |name: &str, shape: [usize; 2]| Linear::new(fill(name, &shape).to_dtype(dtype).unwrap()).unwrap();
    let windows = MaxPool2dConfig { kernel: [3, 3], stride: [2, 2], padding: [1, 1] };
    let head = Sequential::new()
        .push("0", ConcatPool::new())
        .push("2", norm(4 * width, dtype))
        .push("3", Dropout::new(0.25, "head.3").unwrap())
        .push("4", linear("head.4", [8, 4 * width]))
        .push("5", Relu::new())
        .push("6", norm(8, dtype))
        .push("7", Dropout::new(0.5, "head.7").unwrap())
        .push("8", linear("head.8", [3, 8]));
    Sequential::new()
        .push("conv1", conv("stem", [width, 1, 7, 7], 2, dtype))
        .push("bn1", norm(width, dtype).relu())
        .push("maxpool", MaxPool2d::new(windows))
        .push("layer1", Sequential::new().push("0", block(width, width, 1, "a")))
        .push("layer2", Sequential::new().push("0", block(width, 2 * width, 2, "b")))
        .push("head", head)
}

fn network(dtype: DType) -> Network {
    Network::new(resnet(dtype, 4), |name| usize::from(name.starts_with("head"))).unwrap()
}

fn targets(batch: usize, dtype: DType) -> Tensor {
    let rows: Vec<f64> = (0..batch).flat_map(|b| (0..3).map(move |k| f64::from(u8::from(b % 3 == k)))).collect();
    tensor(rows, &[batch, 3]).to_dtype(dtype).unwrap()
}

/// One step; returns the loss.
fn step(network: &mut Network, adam: &mut Adam, images: &Tensor, epoch: u32) -> f64 {
    let batch = images.dims()[0];
    let mode = Mode::Train(Draw { seed: 42, epoch, ids: &IDS[..batch] });
    let logits = network.forward(images, mode).unwrap();
    let (loss, d_logits) = Loss::Bce.compute(&logits, &targets(batch, images.dtype())).unwrap();
    network.parameters().zero_grads().unwrap();
    network.backward(&d_logits).unwrap();
    adam.step(network.parameters(), &Hyper { lr: &[1e-3, 1e-2], beta1: 0.9 }).unwrap();
    values(&loss)[0]
}

#[test]
fn the_memory_of_a_step_is_known_before_it_and_nothing_else_changes() {
    let bits = |network: &mut Network| -> Vec<Vec<f64>> {
        let tensors = network.named_tensors().unwrap();
        tensors.iter().map(|(_, tensor)| values(&tensor.to_dtype(DType::F64).unwrap())).collect()
    };
    for side in [12, 19] {
        let mut network = network(DType::F32);
        let mut adam = Adam::new(network.parameters(), AdamConfig::default()).unwrap();
        let images = |batch: usize| fill("x", &[batch, side, side, 1]).to_dtype(DType::F32).unwrap();
        step(&mut network, &mut adam, &images(3), 0);
        let before = bits(&mut network);
        let bytes = network.activation_bytes([side, side, 1]).unwrap();
        assert_eq!(bits(&mut network), before);

        let start = network.pool().allocated();
        step(&mut network, &mut adam, &images(4), 1);
        assert_eq!(network.pool().allocated() - start, 4 * bytes.train);
        network.pool().clear();
        let start = network.pool().allocated();
        network.forward(&images(4), Mode::Eval).unwrap();
        assert_eq!(network.pool().allocated() - start, 4 * bytes.eval);
        assert!(bytes.eval < bytes.train);
    }
    assert!(network(DType::F32).activation_bytes([12, 12, 5]).is_err(), "five channels");
}

#[test]
fn gradients_of_a_whole_network_are_those_of_finite_differences() {
    let x = fill("x", &[4, 12, 12, 1]);
    for mode in [training(4), Mode::Eval] {
        let mut network = network(DType::F64);
        let mut logits = |network: &mut Network| {
            let pass = pass(network.pool(), mode);
            let y = network.forward_pass(&x, pass).unwrap();
            let dy = fill("dy", y.dims());
            (values(&(&*y * &dy).unwrap().sum_all().unwrap())[0], dy)
        };
        let (_, dy) = logits(&mut network);
        network.backward_pass(&dy.into(), Pass::eval(&network.pool().clone())).unwrap();
        let grads = values(network.parameters().grads());
        let flat = network.parameters().values().clone();
        let at =
            |network: &mut Network, i: usize, shift: f64, logits: &mut dyn FnMut(&mut Network) -> (f64, Tensor)| {
                let old = set(&flat, i, |old| old + shift);
                let value = logits(network).0;
                set(&flat, i, |_| old);
                value
            };
        let scale = grads.iter().fold(0f64, |m, g| m.max(g.abs()));
        for i in (0..grads.len()).step_by(7) {
            let numeric = (at(&mut network, i, 1e-6, &mut logits) - at(&mut network, i, -1e-6, &mut logits)) / 2e-6;
            assert!((grads[i] - numeric).abs() < 1e-6 * scale, "parameter {i}: {} instead of {numeric}", grads[i]);
        }
    }
}

#[test]
fn training_learns_and_takes_no_memory_after_the_first_step() {
    let mut network = network(DType::F32);
    let mut adam = Adam::new(network.parameters(), AdamConfig::default()).unwrap();
    let images = fill("x", &[6, 16, 16, 1]).to_dtype(DType::F32).unwrap();
    let first = step(&mut network, &mut adam, &images, 0);
    let allocated = network.pool().allocated();
    assert!(allocated > 0);
    let losses: Vec<f64> = (1..60).map(|epoch| step(&mut network, &mut adam, &images, epoch)).collect();
    assert_eq!(network.pool().allocated(), allocated);
    let last = losses[50..].iter().sum::<f64>() / 9.0;
    assert!(last < 0.7 * first, "{first} {losses:?}");
    network.forward(&images, Mode::Eval).unwrap();
    assert_eq!(network.pool().allocated(), allocated, "using it needs no more than training it");
}

/// Writes down how many bytes the activations hold when a pass comes by: all of them, and the one that it brings.
struct Gauge(Arc<Mutex<Vec<[usize; 2]>>>);

impl Gauge {
    fn read(&self, pass: &Pass<'_>, brought: &Activation) {
        let bytes = brought.elem_count() * brought.dtype().size_in_bytes();
        self.0.lock().unwrap().push([pass.pool.in_use(), bytes]);
    }
}

impl Layer for Gauge {
    fn forward(&mut self, x: &Activation, pass: &mut Pass<'_>) -> Result<Activation> {
        self.read(pass, x);
        Ok(x.clone())
    }
    fn backward(&mut self, dy: Activation, dx: InputGrad, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        self.read(pass, &dy);
        dx.give(dy)
    }
    fn visit(&mut self, _: &str, _: &mut crate::Visit<'_>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn activations_are_free_as_soon_as_backward_has_passed() {
    let found = Arc::new(Mutex::new(Vec::new()));
    let gauge = || Gauge(Arc::clone(&found));
    let mut layers = Sequential::new().push("gauge", gauge());
    for (i, child) in resnet(DType::F64, 4).into_children().into_iter().enumerate() {
        layers = layers.push(format!("{i}"), child).push(format!("gauge{i}"), gauge());
    }
    let pool = Pool::default();
    let y = layers.forward(&fill("x", &[4, 16, 16, 1]).into(), &mut pass(&pool, training(4))).unwrap();
    let dy = fill("dy", y.dims());
    drop(y);
    layers.backward(dy.into(), InputGrad::Skip, &mut pass(&pool, training(4))).unwrap();
    let found = found.lock().unwrap();
    let (there, back) = found.split_at(found.len() / 2);
    assert_eq!((there.len(), there[0][0]), (7, 0));
    // At each place no more is held than on the way there, but for the gradient.
    for ([held, _], [still, gradient]) in there.iter().zip(back.iter().rev()) {
        assert!(still <= &(held + gradient), "{still} bytes, {held} on the way there and a gradient of {gradient}");
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let run = |threads: usize| {
        cn_kernels::with_threads(threads, || {
            let mut network = Network::new(resnet(DType::F32, 16), |_| 0).unwrap();
            let mut adam = Adam::new(network.parameters(), AdamConfig::default()).unwrap();
            let images = fill("x", &[8, 40, 40, 1]).to_dtype(DType::F32).unwrap();
            let mode = training(8);
            for _ in 0..2 {
                let logits = network.forward(&images, mode).unwrap();
                let (_, d_logits) = Loss::Bce.compute(&logits, &targets(8, DType::F32)).unwrap();
                network.backward(&d_logits).unwrap();
                adam.step(network.parameters(), &Hyper { lr: &[1e-3], beta1: 0.9 }).unwrap();
            }
            let tensors = network.named_tensors().unwrap();
            tensors.iter().flat_map(|(_, t)| values(t)).map(f64::to_bits).collect::<Vec<_>>()
        })
        .unwrap()
    };
    let one = run(1);
    assert!(one == run(2) && one == run(4));
}

#[test]
fn trace_names_layers_by_their_place() {
    let mut network = network(DType::F64);
    let x = fill("x", &[3, 16, 16, 1]);
    let names = ["conv1", "layer2.0", "layer2.0.downsample", "layer2.0.conv1", "head.5"];
    let mut trace = Trace::of(names);
    let pass = pass(network.pool(), training(3)).traced(&mut trace);
    let logits = network.forward_pass(&x, pass).unwrap();
    let pass = Pass::eval(network.pool()).traced(&mut trace);
    network.backward_pass(&fill("dy", logits.dims()).into(), pass).unwrap();
    let found: Vec<&str> = trace.activations.keys().map(String::as_str).collect();
    let mut expected = names.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected);
    for name in names {
        assert_eq!(trace.activations[name].dims(), trace.gradients[name].dims(), "{name}");
    }
    assert_eq!(trace.activations["layer2.0"].dims(), [3, 2, 2, 8]);

    // The head alone, from the traced activation, gives the traced gradient and the same logits.
    let mut head = resnet(DType::F64, 4);
    let parameters = Parameters::gather(&mut head, |_| 0).unwrap();
    copy_into(parameters.values(), network.parameters().values()).unwrap();
    let pool = Pool::default();
    let mut tail = Tail(head);
    let mut p = crate::testing::pass(&pool, training(3));
    let y = tail.forward(&trace.activations["layer2.0"].clone().into(), &mut p).unwrap();
    assert_eq!(values(&y), values(&logits));
    let dx = tail.backward(fill("dy", y.dims()).into(), InputGrad::New, &mut p).unwrap().unwrap();
    assert_eq!(values(&dx), values(&trace.gradients["layer2.0"]));
}

/// The last child of a [`resnet`].
struct Tail(Sequential);

impl Layer for Tail {
    fn forward(&mut self, x: &Activation, pass: &mut Pass<'_>) -> Result<Activation> {
        self.0.last_mut().forward(x, pass)
    }
    fn backward(&mut self, dy: Activation, dx: InputGrad, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        self.0.last_mut().backward(dy, dx, pass)
    }
    fn visit(&mut self, prefix: &str, f: &mut crate::Visit<'_>) -> Result<()> {
        self.0.visit(prefix, f)
    }
}

#[test]
fn a_second_use_of_an_activation_is_not_disturbed() {
    // The logits of one batch must survive the forward pass of the next, though memory is used again.
    let mut network = network(DType::F64);
    let a = network.forward(&fill("a", &[2, 16, 16, 1]), Mode::Eval).unwrap();
    let before = values(&a);
    let b = network.forward(&fill("b", &[2, 16, 16, 1]), Mode::Eval).unwrap();
    assert_eq!(values(&a), before);
    assert_ne!(values(&b), before);
}

#[test]
fn tensors_have_pytorchs_names_and_round_trip() {
    let mut source = network(DType::F64);
    let mut adam = Adam::new(source.parameters(), AdamConfig::default()).unwrap();
    let x = fill("x", &[4, 16, 16, 1]);
    step(&mut source, &mut adam, &x, 0);
    let tensors = source.named_tensors().unwrap();
    let names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    let bn = ["bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var", "bn1.num_batches_tracked"];
    assert_eq!(names[0], "conv1.weight");
    assert_eq!(names[1..6], bn);
    assert!(names.contains(&"layer2.0.downsample.1.running_var") && names.contains(&"head.8.weight"));

    let mut copy = network(DType::F64);
    copy.load_tensors(&tensors).unwrap();
    let logits = |network: &mut Network| values(&network.forward(&x, Mode::Eval).unwrap());
    assert_eq!(logits(&mut copy), logits(&mut source));
    let tracked = copy.named_tensors().unwrap().remove(5).1;
    assert_eq!((tracked.dtype(), values(&tracked)), (DType::I64, vec![1.0]));
    step(&mut source, &mut adam, &x, 1);
    assert_ne!(logits(&mut copy), logits(&mut source), "loading copies");
    // A model can be given its own tensors, which share memory with it.
    let own = copy.named_tensors().unwrap();
    copy.load_tensors(&own).unwrap();
}

#[test]
fn loading_checks_everything_before_it_writes() {
    let mut network = network(DType::F64);
    let before = values(network.parameters().values());
    let good = ("conv1.weight".to_string(), fill("other", &[4, 1, 7, 7]));
    let mut refuse = |bad: (&str, Tensor)| {
        let error = network.load_tensors(&[good.clone(), (bad.0.to_string(), bad.1)]).unwrap_err();
        assert_eq!(values(network.parameters().values()), before);
        error
    };
    assert!(matches!(refuse(("fc.weight", fill("x", &[1]))), Error::UnknownTensor { name } if name == "fc.weight"));
    assert!(
        matches!(refuse(("head.8.weight", fill("x", &[8, 3]))), Error::Shape { name, .. } if name == "head.8.weight")
    );
    assert!(matches!(refuse(("conv1.weight", fill("x", &[4, 1, 7, 7]))), Error::DuplicateName { .. }));
    network.load_tensors(&[good]).unwrap();
    assert_ne!(values(network.parameters().values()), before);
}

#[test]
fn two_tensors_of_one_name_are_an_error() {
    let twice = Sequential::new().push("a", norm(2, DType::F32)).push("a", norm(2, DType::F32));
    let mut network = Network::new(twice, |_| 0).unwrap();
    assert!(matches!(network.named_tensors(), Err(Error::DuplicateName { name }) if name == "a.weight"));
}

#[test]
fn frozen_entries_do_not_move_but_norms_may() {
    let mut network = network(DType::F64);
    network.set_trainable(&|entry| entry.group == 1 || entry.norm).unwrap();
    let mut adam = Adam::new(network.parameters(), AdamConfig::default()).unwrap();
    let before = values(network.parameters().values());
    step(&mut network, &mut adam, &fill("x", &[6, 16, 16, 1]), 0);
    let after = values(network.parameters().values());
    for e in network.parameters().entries() {
        let range = e.offset..e.offset + e.len;
        assert_eq!(before[range.clone()] != after[range], e.group == 1 || e.norm, "{}", e.name);
        assert_eq!(e.decay, e.name.ends_with("weight") && !e.norm, "{}", e.name);
    }
}

#[test]
fn backward_needs_a_forward_pass_in_training() {
    let mut network = network(DType::F64);
    let x = fill("x", &[2, 16, 16, 1]);
    let d_logits: Activation = fill("dy", &[2, 3]).into();
    assert!(matches!(network.backward(&d_logits), Err(Error::NothingSaved { .. })));
    network.forward(&x, Mode::Eval).unwrap();
    assert!(matches!(network.backward(&d_logits), Err(Error::NothingSaved { .. })));
    network.forward(&x, training(2)).unwrap();
    network.backward(&d_logits).unwrap();
    assert_eq!(values(&d_logits), values(&fill("dy", &[2, 3])));
}

#[test]
fn a_network_without_parameters_is_one_too() {
    let mut network = Network::new(crate::MeanPool::new(), |_| 0).unwrap();
    assert_eq!((network.parameters().n_groups(), network.parameters().values().elem_count()), (0, 0));
    assert_eq!(network.forward(&fill("x", &[2, 3, 3, 4]), Mode::Eval).unwrap().dims(), [2, 4]);
}

/// Logits in eval mode with layers doing each other's work, and without, which a pass that saves is.
fn both_ways(net: &mut Network, x: &Tensor) -> [Vec<f64>; 2] {
    let fused = values(&net.forward_pass(x, Pass::eval(net.pool())).unwrap().to_dtype(DType::F64).unwrap());
    let plain = Pass::eval(net.pool()).saving();
    [fused, values(&net.forward_pass(x, plain).unwrap().to_dtype(DType::F64).unwrap())]
}

#[test]
fn norms_done_in_passing_change_nothing_and_follow_the_weights() {
    let mut net = network(DType::F32);
    let x = fill("x", &[4, 20, 20, 1]).to_dtype(DType::F32).unwrap();
    let ids = [0, 1, 2, 3];
    let mut adam = Adam::new(net.parameters(), AdamConfig::default()).unwrap();
    let mut seen: Vec<Vec<f64>> = Vec::new();
    for step in 0..3 {
        let [fused, plain] = both_ways(&mut net, &x);
        close(&fused, &plain, 1e-5);
        // Weights that were put in order for an older version must not be used again.
        assert!(seen.iter().all(|old| *old != fused), "step {step}");
        seen.push(fused);
        let logits = net.forward(&x, Mode::Train(Draw { seed: 1, epoch: 0, ids: &ids })).unwrap();
        let (_, d_logits) = Loss::Bce.compute(&logits, &targets(4, DType::F32)).unwrap();
        net.backward(&d_logits).unwrap();
        adam.step(net.parameters(), &Hyper { lr: &[0.1, 0.1], beta1: 0.9 }).unwrap();
        net.parameters().zero_grads().unwrap();
    }
    let saved: Vec<_> =
        net.named_tensors().unwrap().into_iter().map(|(n, t)| (n, (t.copy().unwrap() * 0.5).unwrap())).collect();
    let saved: Vec<_> = saved.into_iter().filter(|(n, _)| n.ends_with("weight")).collect();
    net.load_tensors(&saved).unwrap();
    let [fused, plain] = both_ways(&mut net, &x);
    close(&fused, &plain, 1e-5);
}

#[test]
fn products_of_bf16_are_close_in_every_pass() {
    let x = fill("x", &[4, 32, 32, 1]).to_dtype(DType::F32).unwrap();
    let run = |precision, mode: Mode<'_>| {
        let layers = resnet(DType::F32, 16);
        let mut network = Network::new(layers, |_| 0).unwrap().with_precision(precision);
        let logits = network.forward(&x, mode).unwrap();
        if matches!(mode, Mode::Eval) {
            return values(&logits);
        }
        let (_, d_logits) = Loss::Bce.compute(&logits, &targets(4, DType::F32)).unwrap();
        network.backward(&d_logits).unwrap();
        values(network.parameters().grads())
    };
    for mode in [training(4), Mode::Eval] {
        let (exact, rounded) = (run(Precision::F32, mode), run(Precision::Bf16, mode));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cosine = dot(&exact, &rounded) / (dot(&exact, &exact) * dot(&rounded, &rounded)).sqrt();
        // Gradients differ more than outputs: some ReLUs open that were shut.
        assert!(cosine > 0.85, "{cosine}");
        assert_eq!(exact != rounded, Precision::Bf16.is_supported(), "{cosine}");
    }
}

#[test]
fn a_number_that_is_none_is_found_where_it_arises() {
    let images = fill("images", &[4, 16, 16, 1]).to_dtype(DType::F32).unwrap();
    let ids = [0, 1, 2, 3];
    let mode = Mode::Train(Draw { seed: 1, epoch: 0, ids: &ids });
    let mut network = network(DType::F32);
    assert_eq!(network.find_not_finite(&images, mode).unwrap(), None);
    let names: Vec<String> = network.parameters().entries().iter().map(|entry| entry.name.clone()).collect();
    for name in names {
        let entry = network.parameters().entries().iter().find(|e| e.name == name).unwrap().clone();
        let value = network.parameters().value_of(&entry).unwrap();
        let kept = value.copy().unwrap();
        let mut bad = kept.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        bad[0] = f32::NAN;
        network.load_tensors(&[(name.clone(), Tensor::from_vec(bad, kept.shape(), &Device::Cpu).unwrap())]).unwrap();

        let found = network.find_not_finite(&images, mode).unwrap().unwrap_or_else(|| panic!("{name}: nothing found"));
        let layer = name.rsplit_once('.').unwrap().0;
        assert_eq!(found.rows, [0, 1, 2, 3], "{name}");
        // A residual sum and its norm are one layer.
        assert!(found.layer == layer || layer.starts_with(&found.layer), "{name}: found {}", found.layer);
        // No layer after it, ReLU above all, makes a number of it again.
        let logits = network.forward(&images, mode).unwrap();
        let (loss, _) = Loss::Bce.compute(&logits, &targets(4, DType::F32)).unwrap();
        assert!(!loss.to_scalar::<f32>().unwrap().is_finite(), "{name}");
        network.load_tensors(&[(name, kept.copy().unwrap())]).unwrap();
    }
}

#[test]
fn an_image_that_is_no_number_is_named() {
    let images = fill("images", &[4, 16, 16, 1]).to_dtype(DType::F32).unwrap();
    let mut images = images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    images[2 * 256 + 100] = f32::INFINITY;
    let images = Tensor::from_vec(images, (4, 16, 16, 1), &Device::Cpu).unwrap();
    let found = network(DType::F32).find_not_finite(&images, Mode::Eval).unwrap().unwrap();
    assert_eq!((found.layer.as_str(), found.rows.as_slice()), ("conv1", &[2][..]));
}

#[test]
fn a_gradient_that_is_no_number_is_named_from_the_last_layer_back() {
    let mut network = network(DType::F32);
    let name_of = |network: &Network| network.parameters().not_finite_grad().unwrap().map(|entry| entry.name.clone());
    assert_eq!(name_of(&network), None);
    for name in ["conv1.weight", "layer2.0.bn2.bias", "head.8.weight"] {
        let entry = network.parameters().entries().iter().find(|e| e.name == name).unwrap().clone();
        let grad = network.parameters().grad_of(&entry).unwrap().flatten_all().unwrap();
        grad.slice_set(&Tensor::new(&[f32::NAN], &Device::Cpu).unwrap(), 0, grad.elem_count() - 1).unwrap();
        assert_eq!(name_of(&network).as_deref(), Some(name));
    }
    network.set_trainable(&|entry| entry.name != "head.8.weight").unwrap();
    assert_eq!(name_of(&network).as_deref(), Some("layer2.0.bn2.bias"), "what is frozen has no gradient");
}
