//! What stands between convolutions.

use super::{BATCH, CPU, candles, group, naive, ours, random};
use candle_core::{D, DType, Module, ModuleT, Tensor, Var};
use cn_ops::{
    Adam, AdamConfig, BatchNorm, ConcatPool, Hyper, Linear, MaxPool2d, MaxPool2dConfig, MeanPool, Parameters,
    Precision, Residual, Sequential, bce_with_logits,
};
use criterion::{Criterion, Throughput};

/// Norm and ReLU, and with the sum between them that ends a block.
pub(super) fn batch_norms(c: &mut Criterion) {
    for (side, channels) in [(32, 64), (64, 64), (16, 64), (8, 128), (16, 128), (4, 512)] {
        let mut group = group(c, &format!("norm, ReLU, {channels} channels, {side} px"));
        let [one, zero] = [1.0f32, 0.0].map(|v| Tensor::full(v, channels, &CPU).expect("memory"));
        let norm = || BatchNorm::new(one.clone(), zero.clone()).expect("memory").relu();
        let x = random(&[BATCH, side, side, channels]);
        ours(&mut group, norm(), &x, Precision::F32);
        let var = |t: &Tensor| Var::from_tensor(t).expect("memory").as_tensor().clone();
        let theirs = candle_nn::BatchNorm::new(channels, var(&zero), var(&one), var(&one), var(&zero), 1e-5);
        let theirs = theirs.expect("shapes fit");
        let planes = random(&[BATCH, channels, side, side]);
        candles(&mut group, &planes, |x| theirs.forward_t(x, true)?.relu());
        group.finish();
        let mut group = super::group(c, &format!("norm, sum, ReLU, {channels} channels, {side} px"));
        ours(&mut group, Residual::new(Sequential::new(), "norm", norm()), &x, Precision::F32);
        candles(&mut group, &planes, |x| (theirs.forward_t(x, true)? + x)?.relu());
        naive::norm(&mut group, BATCH * side * side, channels);
    }
}

/// candle has no pool with these windows.
pub(super) fn max_pool(c: &mut Criterion) {
    for side in [32, 64] {
        let mut group = group(c, &format!("max pool 3x3 by 2, 64 channels, {side} px"));
        let windows = MaxPool2dConfig { kernel: [3, 3], stride: [2, 2], padding: [1, 1] };
        ours(&mut group, MaxPool2d::new(windows), &random(&[BATCH, side, side, 64]), Precision::F32);
        naive::max_pool(&mut group, side, 64);
    }
}

pub(super) fn pools_of_whole_maps(c: &mut Criterion) {
    for side in [2, 4, 7] {
        let (x, planes) = (random(&[BATCH, side, side, 512]), random(&[BATCH, 512, side, side]));
        let mut group = group(c, &format!("mean pool, 512 channels, {side} px"));
        ours(&mut group, MeanPool::new(), &x, Precision::F32);
        candles(&mut group, &planes, |x| x.mean((2, 3)));
        group.finish();
        let mut group = super::group(c, &format!("concat pool, 512 channels, {side} px"));
        ours(&mut group, ConcatPool::new(), &x, Precision::F32);
        candles(&mut group, &planes, |x| Tensor::cat(&[x.flatten_from(2)?.max(D::Minus1)?, x.mean((2, 3))?], 1));
        naive::concat_pool(&mut group, side * side, 512);
    }
}

/// The layers of the head that the notebook has.
pub(super) fn linear(c: &mut Criterion) {
    for (inputs, outputs) in [(1024, 512), (512, 15)] {
        let mut group = group(c, &format!("linear, {inputs} to {outputs}"));
        let (weight, x) = (random(&[outputs, inputs]), random(&[BATCH, inputs]));
        ours(&mut group, Linear::new(weight.clone()).expect("memory"), &x, Precision::F32);
        let weight = Var::from_tensor(&weight).expect("memory");
        let theirs = candle_nn::Linear::new(weight.as_tensor().clone(), None);
        candles(&mut group, &x, |x| theirs.forward(x));
        naive::linear(&mut group, inputs, outputs);
    }
}

pub(super) fn loss(c: &mut Criterion) {
    let mut group = group(c, "binary cross-entropy, 15 classes");
    let (logits, targets) = (random(&[BATCH, 15]), random(&[BATCH, 15]).ge(0.0).expect("memory"));
    let targets = targets.to_dtype(DType::F32).expect("memory");
    group.bench_function("ours/forward+backward", |b| b.iter(|| bce_with_logits(&logits, &targets).map(drop)));
    let numbers = |t: &Tensor| t.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("memory");
    naive::loss(&mut group, &numbers(&logits), &numbers(&targets));
    let logits = Var::from_tensor(&logits).expect("memory");
    group.bench_function("candle/forward+backward", |b| {
        b.iter(|| candle_nn::loss::binary_cross_entropy_with_logit(&logits, &targets)?.backward().map(drop));
    });
}

pub(super) fn adam(c: &mut Criterion) {
    use candle_nn::Optimizer;
    let mut group = group(c, "Adam, 11.7 million weights");
    let shape = [11_711_552 / 512, 512];
    let mut layer = Linear::new(random(&shape)).expect("memory");
    let parameters = Parameters::gather(&mut layer, |_| 0).expect("memory");
    let mut optimizer = Adam::new(&parameters, AdamConfig::default()).expect("memory");
    group.throughput(Throughput::Bytes(7 * 4 * parameters.values().elem_count() as u64));
    group.bench_function("ours", |b| b.iter(|| optimizer.step(&parameters, &Hyper { lr: &[1e-9], beta1: 0.9 })));
    let var = Var::from_tensor(&random(&shape)).expect("memory");
    let grads = var.sum_all().and_then(|y| y.backward()).expect("memory");
    let mut optimizer = candle_nn::AdamW::new_lr(vec![var], 1e-9).expect("memory");
    group.bench_function("candle", |b| b.iter(|| optimizer.step(&grads)));
    naive::adam(&mut group, shape[0] * shape[1]);
}
