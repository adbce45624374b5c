use super::*;
use crate::testing::*;
use crate::{
    Adam, AdamConfig, Conv2d, Conv2dConfig, Hyper, Linear, Loss, MaxPool2d, MaxPool2dConfig, MeanPool, Network,
    Sequential, autograd,
};
use candle_core::{DType, Device};
use candle_nn::{VarBuilder, VarMap};

const WINDOWS: MaxPool2dConfig = MaxPool2dConfig { kernel: [3, 3], stride: [2, 2], padding: [1, 1] };

/// Convolution, norm, pool, mean, linear, in candle's words.
struct Theirs {
    conv: candle_nn::Conv2d,
    bn: candle_nn::BatchNorm,
    fc: candle_nn::Linear,
}

impl ModuleT for Theirs {
    fn forward_t(&self, x: &Tensor, train: bool) -> candle_core::Result<Tensor> {
        let x = x.apply(&self.conv)?.apply_t(&self.bn, train)?;
        let x = autograd::max_pool2d(&x.permute((0, 2, 3, 1))?, WINDOWS).map_err(candle_core::Error::wrap)?;
        x.mean((1, 2))?.apply(&self.fc)
    }
}

fn theirs() -> CandleModel<Theirs> {
    let map = VarMap::new();
    let vars = VarBuilder::from_varmap(&map, DType::F64, &Device::Cpu);
    let config = candle_nn::Conv2dConfig { padding: 1, ..Default::default() };
    let conv = candle_nn::conv2d_no_bias(2, 4, 3, config, vars.pp("conv")).unwrap();
    let bn = candle_nn::batch_norm(4, 1e-5, vars.pp("bn")).unwrap();
    let fc = candle_nn::linear(4, 3, vars.pp("fc")).unwrap();
    let mut named: Vec<(String, Var)> =
        map.data().lock().unwrap().iter().map(|(n, v)| (n.clone(), v.clone())).collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    CandleModel::new(Theirs { conv, bn, fc }, named, |name| usize::from(name.starts_with("fc"))).unwrap()
}

fn ours() -> Network {
    let of = |name: &str, shape: &[usize]| fill(name, shape);
    let conv = Conv2d::new(of("w", &[4, 2, 3, 3]), Conv2dConfig { padding: [1, 1], ..Default::default() }).unwrap();
    let fc = Linear::new(of("fc", &[3, 4])).unwrap().with_bias(of("b", &[3])).unwrap();
    let layers = Sequential::new()
        .push("conv", conv)
        .push("bn", crate::BatchNorm::new(of("g", &[4]), of("s", &[4])).unwrap())
        .push("pool", MaxPool2d::new(WINDOWS))
        .push("mean", MeanPool::new())
        .push("fc", fc);
    Network::new(layers, |name| usize::from(name.starts_with("fc"))).unwrap()
}

/// Forward, loss, backward; returns the loss.
fn backward(model: &mut dyn Model) -> f64 {
    let images = fill("x", &[5, 6, 6, 2]);
    let targets = fill("t", &[5, 3]).abs().unwrap();
    let logits = model.forward(&images, training(5)).unwrap();
    let (loss, d_logits) = Loss::Bce.compute(&logits, &targets).unwrap();
    model.parameters().zero_grads().unwrap();
    model.backward(&d_logits).unwrap();
    values(&loss)[0]
}

fn step(model: &mut dyn Model, adam: &mut Adam) -> f64 {
    let loss = backward(model);
    adam.step(model.parameters(), &Hyper { lr: &[0.02, 0.05], beta1: 0.9 }).unwrap();
    loss
}

fn without_counts(model: &mut dyn Model) -> Vec<(String, Tensor)> {
    let mut tensors = model.named_tensors().unwrap();
    tensors.retain(|(name, _)| !name.ends_with("num_batches_tracked"));
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

#[test]
fn a_candle_module_trains_like_the_same_network_of_ours() {
    let (mut theirs, mut ours) = (theirs(), ours());
    theirs.load_tensors(&without_counts(&mut ours)).unwrap();
    let mut adams = [&theirs as &dyn Model, &ours].map(|m| Adam::new(m.parameters(), AdamConfig::default()).unwrap());
    let [a, b] = &mut adams;
    for _ in 0..5 {
        close(&[step(&mut theirs, a)], &[step(&mut ours, b)], 1e-10);
    }
    let images = fill("y", &[2, 6, 6, 2]);
    let logits = |model: &mut dyn Model| values(&model.forward(&images, Mode::Eval).unwrap());
    close(&logits(&mut theirs), &logits(&mut ours), 1e-10);
    for ((name, a), (other, b)) in without_counts(&mut theirs).iter().zip(&without_counts(&mut ours)) {
        assert_eq!(name, other);
        close(&values(a), &values(b), 1e-9);
    }
    let flags = |m: &dyn Model| {
        let mut flags: Vec<_> =
            m.parameters().entries().iter().map(|e| (e.name.clone(), e.group, e.decay, e.norm)).collect();
        flags.sort();
        flags
    };
    assert_eq!(flags(&theirs), flags(&ours));
}

#[test]
fn frozen_entries_get_no_gradient() {
    let mut model = theirs();
    model.set_trainable(&|entry| entry.group == 1).unwrap();
    let mut adam = Adam::new(model.parameters(), AdamConfig::default()).unwrap();
    let before = values(model.parameters().values());
    backward(&mut model);
    let grads = values(model.parameters().grads());
    step(&mut model, &mut adam);
    let after = values(model.parameters().values());
    for e in model.parameters().entries() {
        let range = e.offset..e.offset + e.len;
        assert_eq!(before[range.clone()] != after[range.clone()], e.group == 1, "{}", e.name);
        assert_eq!(grads[range].iter().any(|&g| g != 0.0), e.group == 1, "{}", e.name);
    }
}

#[test]
fn backward_needs_a_forward_pass_in_training() {
    let mut model = theirs();
    let images = fill("x", &[2, 6, 6, 2]);
    let d_logits: Activation = fill("dy", &[2, 3]).into();
    model.forward(&images, Mode::Eval).unwrap();
    assert!(matches!(model.backward(&d_logits), Err(Error::NothingSaved { .. })));
    model.forward(&images, training(2)).unwrap();
    assert!(matches!(model.backward(&fill("dy", &[3, 2]).into()), Err(Error::Shape { .. })));
    assert!(matches!(model.forward(&fill("x", &[2, 6, 6]), Mode::Eval), Err(Error::Shape { .. })));
}
