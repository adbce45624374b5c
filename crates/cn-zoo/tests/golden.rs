//! The numbers of fastai and PyTorch: every parameter, one pass in evaluation, one in training, three steps.
#![allow(clippy::unwrap_used, reason = "an error fails the test")]

use candle_core::{DType, Device, Tensor};
use cn_ops::{Adam, AdamConfig, Draw, Hyper, Mode, Model, Network, Pass, Trace, bce_with_logits};
use cn_zoo::{Arch, Head, ResNetConfig, canonical_name, fastai_name};
use serde_json::Value;
use std::collections::BTreeMap;

const CONFIG: ResNetConfig = ResNetConfig {
    arch: Arch::ResNet18,
    in_channels: 3,
    n_classes: 15,
    head: Head::FastAi { hidden: 512, dropout: 0.0 },
};
const IDS: [u32; 4] = [0, 1, 2, 3];

/// How far each kind of number may lie off. In f64 nothing but the order of summation differs; the bounds of f32 are
/// some ten times PyTorch's own distance from f64 (`f32_*` in the files).
struct Tolerance {
    dtype: DType,
    /// Relative for f64, absolute for f32, whose logits are of order 1.
    logits: f64,
    stages: f64,
    loss: f64,
    train_logits: f64,
    buffers: f64,
    /// Of the L2 norms.
    gradients: f64,
    /// Of single elements and sums, relative to the root mean square and the norm.
    gradient_values: f64,
    gradients_128: f64,
    step_losses: f64,
    step_deltas: f64,
}

const F64: Tolerance = Tolerance {
    dtype: DType::F64,
    logits: 1e-8,
    stages: 1e-8,
    loss: 1e-8,
    train_logits: 1e-8,
    buffers: 1e-8,
    gradients: 1e-8,
    gradient_values: 1e-8,
    gradients_128: 1e-8,
    step_losses: 1e-8,
    step_deltas: 1e-8,
};
const F32: Tolerance = Tolerance {
    dtype: DType::F32,
    logits: 1e-5,
    stages: 3e-5,
    loss: 1e-5,
    train_logits: 3e-4,
    buffers: 1e-4,
    gradients: 1e-3,
    gradient_values: 5e-3,
    gradients_128: 2e-2,
    step_losses: 2e-4,
    step_deltas: 2e-2,
};

fn golden(name: &str) -> Value {
    let path = format!("{}/../../tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The fill formula of the golden files.
fn fill(name: &str, n: usize, scale: f64, shift: f64) -> Vec<f32> {
    let seed = name.bytes().fold(0x811C_9DC5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    let value = |i: usize| {
        let mut x = seed.wrapping_add((i as u32).wrapping_mul(0x9E37_79B9));
        x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
        x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
        x ^= x >> 16;
        (shift + scale * (f64::from(x >> 8) / f64::from(1 << 23) - 1.0)) as f32
    };
    (0..n).map(value).collect()
}

/// The network with every tensor filled as the file says.
fn network(dtype: DType) -> Network {
    let mut network = CONFIG.build(42, dtype, &Device::Cpu).unwrap();
    let table = golden("model_parameters.json");
    let filled: Vec<(String, Tensor)> = table["tensors"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(theirs, row)| {
            let shape: Vec<usize> = numbers(&row["shape"]).iter().map(|&d| d as usize).collect();
            let values = fill(theirs, shape.iter().product(), number(&row["scale"]), number(&row["shift"]));
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            (canonical_name(theirs), tensor)
        })
        .collect();
    network.load_tensors(&filled).unwrap();
    network
}

/// `(B, H, W, C)` of one of the two inputs.
fn images(which: &str, dtype: DType) -> Tensor {
    let input = &golden("model_parameters.json")["inputs"][which];
    let shape: Vec<usize> = numbers(&input["shape"]).iter().map(|&d| d as usize).collect();
    let name = input["name"].as_str().unwrap();
    let values = fill(name, shape.iter().product(), number(&input["scale"]), number(&input["shift"]));
    assert_eq!(values[..6], numbers(&input["first"]).iter().map(|&v| v as f32).collect::<Vec<_>>());
    let nchw = Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
    nchw.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
}

fn targets(dtype: DType) -> Tensor {
    let classes = numbers(&golden("model.json")["target_class"]);
    let row = |&class: &f64| (0..15).map(move |k| f64::from(u8::from(f64::from(k) == class)));
    let values: Vec<f64> = classes.iter().flat_map(row).collect();
    Tensor::from_vec(values, (classes.len(), 15), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// Values row-major, in PyTorch's order of dimensions.
fn flat(tensor: &Tensor) -> Vec<f64> {
    let tensor = match tensor.rank() {
        4 => tensor.permute((0, 3, 1, 2)).unwrap(),
        _ => tensor.clone(),
    };
    vector(&tensor)
}

fn vector(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn l2(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// Compares number by number, relative to the expected value or to `scale` where that is larger.
fn close(what: &str, found: &[f64], expected: &[f64], tolerance: f64, scale: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (&f, &e)) in found.iter().zip(expected).enumerate() {
        let off = (f - e).abs() / e.abs().max(scale);
        assert!(off <= tolerance, "{what}[{i}]: {f} for {e}, off by {off:.2e}, allowed {tolerance:.0e}");
    }
}

fn train() -> Mode<'static> {
    Mode::Train(Draw { seed: 42, epoch: 0, ids: &IDS })
}

#[test]
fn parameters_are_those_of_fastai() {
    let table = golden("model_parameters.json");
    let rows = table["tensors"].as_object().unwrap();
    let mut model = network(DType::F32);
    let tensors: BTreeMap<String, Tensor> = model.named_tensors().unwrap().into_iter().collect();
    let entries: BTreeMap<_, _> = model.parameters().entries().iter().map(|e| (e.name.clone(), e.clone())).collect();

    for (theirs, row) in rows {
        let ours = canonical_name(theirs);
        assert_eq!(fastai_name(&ours).as_ref(), Some(theirs));
        match row["torchvision"].as_str() {
            Some(torchvision) => assert_eq!(torchvision, ours),
            None => assert!(ours.starts_with("head."), "{ours}"),
        }
        let tensor = &tensors[&ours];
        assert_eq!(tensor.dims().iter().map(|&d| d as f64).collect::<Vec<_>>(), numbers(&row["shape"]), "{ours}");
        let values = vector(tensor);
        assert_eq!(
            values[..3].iter().map(|&v| v as f32).collect::<Vec<_>>(),
            numbers(&row["first"]).iter().map(|&v| v as f32).collect::<Vec<_>>(),
            "{ours}"
        );
        close(&ours, &[values.iter().sum()], &[number(&row["sum"])], 1e-9, 1e-3);
        let Some(group) = row.get("group") else {
            assert!(!entries.contains_key(&ours), "{ours} is a buffer");
            continue;
        };
        let entry = &entries[&ours];
        assert_eq!(entry.group as u64, group.as_u64().unwrap(), "{ours}");
        assert_eq!(entry.decay, row["wd"].as_bool().unwrap(), "{ours}");
        assert_eq!(entry.norm || entry.group == 2, row["trained_when_frozen"].as_bool().unwrap(), "{ours}");
    }

    let known = |name: &&String| !name.ends_with("num_batches_tracked");
    assert_eq!(tensors.keys().filter(known).count(), rows.len());
    let counts = &table["counts"];
    let sum = |wanted: &dyn Fn(&cn_ops::Entry) -> bool| {
        let chosen = entries.values().filter(|e| wanted(e));
        chosen.fold((0.0, 0.0), |(tensors, values), e| (tensors + 1.0, values + e.len as f64))
    };
    assert_eq!(sum(&|_| true), (number(&counts["tensors"]), number(&counts["parameters"])));
    let groups = [0, 1, 2].map(|group| sum(&|e| e.group == group));
    assert_eq!(groups.map(|g| g.0).to_vec(), numbers(&counts["tensors_per_group"]));
    assert_eq!(groups.map(|g| g.1).to_vec(), numbers(&counts["parameters_per_group"]));
    assert_eq!(sum(&|e| e.norm).1, number(&counts["norm_parameters"]));
    assert_eq!(sum(&|e| e.norm || e.group == 2).1, number(&counts["trained_when_frozen"]));
    assert_eq!(CONFIG.n_parameters() as f64, number(&counts["parameters"]));
}

fn evaluation(tolerance: &Tolerance) {
    let golden = golden("model.json");
    let expected = &golden["eval"];
    let mut network = network(tolerance.dtype);
    let stages = [
        ("0.0", "conv1"),
        ("0.3", "maxpool"),
        ("0.4", "layer1"),
        ("0.5", "layer2"),
        ("0.6", "layer3"),
        ("0.7", "layer4"),
        ("1.1", "head.0"),
        ("1.2", "head.2"),
        ("1.4", "head.4"),
        ("1.6", "head.6"),
    ];
    assert_eq!(expected["stages"].as_object().unwrap().len(), stages.len());
    let mut trace = Trace::of(stages.map(|(_, ours)| ours));
    let pass = Pass::eval(network.pool()).traced(&mut trace);
    let logits = network.forward_pass(&images("eval", tolerance.dtype), pass).unwrap();
    close("logits", &flat(&logits), &numbers(&expected["logits"]), tolerance.logits, 1.0);
    for (theirs, ours) in stages {
        let (row, values) = (&expected["stages"][theirs], flat(&trace.activations[ours]));
        let n = values.len() as f64;
        assert_eq!(n, numbers(&row["shape"]).iter().product::<f64>(), "{ours}");
        let check = |what: &str, found: &[f64]| {
            close(
                &format!("{ours} {what}"),
                found,
                &numbers(&row[what]),
                tolerance.stages,
                number(&row["rms"]).max(1.0),
            );
        };
        check("first", &values[..6]);
        check("last", &values[values.len() - 2..]);
        check("mean", &[values.iter().sum::<f64>() / n]);
        check("rms", &[l2(&values) / n.sqrt()]);
        check("max_abs", &[values.iter().fold(0.0, |m: f64, v| m.max(v.abs()))]);
    }
}

#[test]
fn evaluation_matches_in_f64() {
    evaluation(&F64);
}

#[test]
fn evaluation_matches_in_f32() {
    evaluation(&F32);
}

/// Forward, loss, backward; returns the loss and the logits.
fn forward_backward(network: &mut Network, which: &str, dtype: DType) -> (f64, Vec<f64>) {
    network.parameters().zero_grads().unwrap();
    let logits = network.forward(&images(which, dtype), train()).unwrap();
    let (loss, d_logits) = bce_with_logits(&logits, &targets(dtype)).unwrap();
    let values = flat(&logits);
    network.backward(&d_logits).unwrap();
    (vector(&loss)[0], values)
}

/// The gradient of a parameter, by our name.
fn gradient(network: &Network, name: &str) -> Vec<f64> {
    let parameters = network.parameters();
    let entry = parameters.entries().iter().find(|e| e.name == name).unwrap();
    vector(&parameters.grad_of(entry).unwrap())
}

fn training(tolerance: &Tolerance) {
    let golden = golden("model.json");
    let expected = &golden["train"];
    let mut network = network(tolerance.dtype);
    let (loss, logits) = forward_backward(&mut network, "train", tolerance.dtype);
    close("loss", &[loss], &[number(&expected["loss"])], tolerance.loss, 0.0);
    close("logits", &logits, &numbers(&expected["logits"]), tolerance.train_logits, 1.0);

    let tensors: BTreeMap<String, Tensor> = network.named_tensors().unwrap().into_iter().collect();
    for (theirs, row) in expected["buffers_after_one_pass"].as_object().unwrap() {
        let values = vector(&tensors[&canonical_name(theirs)]);
        close(theirs, &values[..4], &numbers(&row["first"]), tolerance.buffers, 0.1);
        close(theirs, &[values.iter().sum()], &[number(&row["sum"])], tolerance.buffers, 1.0);
    }

    let rows = golden["train_gradients"].as_object().unwrap();
    assert_eq!(rows.len(), network.parameters().entries().len());
    for (theirs, row) in rows {
        let values = gradient(&network, &canonical_name(theirs));
        let norm = number(&row["l2"]);
        close(theirs, &[l2(&values)], &[norm], tolerance.gradients, 0.0);
        close(theirs, &[values.iter().sum()], &[number(&row["sum"])], tolerance.gradient_values, norm);
        let typical = norm / (values.len() as f64).sqrt();
        close(theirs, &values[..5], &numbers(&row["first"]), tolerance.gradient_values, typical);
    }
}

#[test]
fn training_matches_in_f64() {
    training(&F64);
}

#[test]
fn training_matches_in_f32() {
    training(&F32);
}

fn training_at_128(tolerance: &Tolerance) {
    let golden = golden("model.json");
    let expected = &golden["train_128"];
    let mut network = network(tolerance.dtype);
    let (loss, logits) = forward_backward(&mut network, "eval", tolerance.dtype);
    close("loss", &[loss], &[number(&expected["loss"])], tolerance.loss, 0.0);
    close("logits", &logits, &numbers(&expected["logits"]), tolerance.train_logits, 1.0);
    for (theirs, norm) in expected["grad_l2"].as_object().unwrap() {
        let values = gradient(&network, &canonical_name(theirs));
        close(theirs, &[l2(&values)], &[number(norm)], tolerance.gradients_128, 0.0);
    }
}

#[test]
fn training_at_128_matches_in_f64() {
    training_at_128(&F64);
}

#[test]
fn training_at_128_matches_in_f32() {
    training_at_128(&F32);
}

/// Three steps of Adam on the same batch, and the loss after them.
fn three_steps(tolerance: &Tolerance, which: &str) {
    let golden = golden("model.json");
    let expected = &golden[which];
    let mut network = network(tolerance.dtype);
    let frozen = which.ends_with("_frozen");
    network.set_trainable(&|entry| !frozen || entry.norm || entry.group == 2).unwrap();
    let before: BTreeMap<String, Vec<f64>> =
        network.named_tensors().unwrap().into_iter().map(|(name, tensor)| (name, vector(&tensor))).collect();
    let config = AdamConfig { weight_decay: number(&expected["wd"]), ..AdamConfig::default() };
    let mut adam = Adam::new(network.parameters(), config).unwrap();
    let lr = numbers(&expected["lrs"]);
    let losses: Vec<f64> = (0..4)
        .map(|step| {
            let (loss, _) = forward_backward(&mut network, "train", tolerance.dtype);
            if step < 3 {
                let hyper = Hyper { lr: &lr, beta1: number(&expected["mom"]) };
                adam.step(network.parameters(), &hyper).unwrap();
            }
            loss
        })
        .collect();
    close("losses", &losses, &numbers(&expected["losses"]), tolerance.step_losses, 1.0);

    let after: BTreeMap<String, Tensor> = network.named_tensors().unwrap().into_iter().collect();
    for (theirs, row) in expected["parameters"].as_object().unwrap() {
        let name = canonical_name(theirs);
        let (values, before) = (vector(&after[&name]), &before[&name]);
        let delta: Vec<f64> = values.iter().zip(before).map(|(a, b)| a - b).collect();
        close(theirs, &[l2(&delta)], &[number(&row["delta_l2"])], tolerance.step_deltas, 1e-12);
        // A parameter's own size hides what f32 does to its small change, so this adds little there.
        close(theirs, &values[..4], &numbers(&row["first"]), tolerance.step_deltas, 0.1);
    }
}

#[test]
fn three_steps_match_in_f64() {
    three_steps(&F64, "three_steps_unfrozen");
    three_steps(&F64, "three_steps_frozen");
}

#[test]
fn three_steps_match_in_f32() {
    three_steps(&F32, "three_steps_unfrozen");
    three_steps(&F32, "three_steps_frozen");
}
