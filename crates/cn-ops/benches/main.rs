//! Operations at the shapes of ResNet-18 on 64-pixel images, batch 64, beside candle's own where it has them, and
//! beside plain loops over one image.
//!
//! Throughput is in images, of the optimizer in bytes.
#![allow(missing_docs)]

use candle_core::{DType, Device, Module, ModuleT, Result as Candle, Tensor, Var};
use cn_ops::{
    Activation, Adam, AdamConfig, BatchNorm, Conv2d, Conv2dConfig, Draw, Hyper, InputGrad, Layer, MaxPool2d,
    MaxPool2dConfig, Mode, Parameters, Pass, Pool, bce_with_logits,
};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use std::time::Duration;

const BATCH: usize = 64;
const CPU: Device = Device::Cpu;

fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1.0, shape, &CPU).expect("memory")
}

fn ids() -> Vec<u32> {
    (0..BATCH as u32).collect()
}

fn group<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(BATCH as u64));
    group
}

/// Times forward, and forward with backward, in training mode.
fn ours(group: &mut BenchmarkGroup<'_, WallTime>, mut layer: impl Layer, x: &Tensor) {
    let (pool, ids) = (Pool::default(), ids());
    let draw = Draw { seed: 1, epoch: 0, ids: &ids };
    let _parameters = Parameters::gather(&mut layer, |_| 0).expect("memory");
    let x = Activation::from(x.clone());
    let y = layer.forward(&x, &mut Pass::train(&pool, draw)).expect("shapes fit");
    let dy = Activation::from(random(y.dims()));
    drop(y);
    group.bench_function("ours/forward", |b| b.iter(|| layer.forward(&x, &mut Pass::train(&pool, draw)).map(drop)));
    group.bench_function("ours/forward+backward", |b| {
        b.iter(|| {
            layer.forward(&x, &mut Pass::train(&pool, draw)).map(drop)?;
            layer.backward(dy.clone(), InputGrad::New, &mut Pass::train(&pool, draw)).map(drop)
        });
    });
}

/// The same with candle's autograd.
fn candles(group: &mut BenchmarkGroup<'_, WallTime>, x: &Tensor, f: impl Fn(&Tensor) -> Candle<Tensor>) {
    let x = Var::from_tensor(x).expect("memory");
    group.bench_function("candle/forward", |b| b.iter(|| f(&x.detach()).map(drop)));
    group.bench_function("candle/forward+backward", |b| b.iter(|| f(&x)?.sum_all()?.backward().map(drop)));
}

/// Plain loops over one `(H, W, I)` image with an `(O, I, K, K)` weight.
struct Naive {
    side: usize,
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
}

impl Naive {
    fn time(&self, group: &mut BenchmarkGroup<'_, WallTime>) {
        let numbers = |n| random(&[n]).to_vec1::<f32>().expect("memory");
        let [i, o] = self.channels;
        let (image, weight) = (numbers(self.side * self.side * i), numbers(o * i * self.kernel * self.kernel));
        group.throughput(Throughput::Elements(1));
        group.bench_function("naive/forward, one image", |b| b.iter(|| self.forward(&image, &weight)));
        group.throughput(Throughput::Elements(BATCH as u64));
    }

    fn forward(&self, image: &[f32], weight: &[f32]) -> Vec<f32> {
        let (side, o) = (self.side.div_ceil(self.stride), self.channels[1]);
        let pixels = (0..side * side).map(|pixel| [pixel / side, pixel % side]);
        pixels.flat_map(|pixel| (0..o).map(move |o| self.sum(image, weight, pixel, o))).collect()
    }

    fn sum(&self, image: &[f32], weight: &[f32], [y, x]: [usize; 2], o: usize) -> f32 {
        let (i, k) = (self.channels[0], self.kernel);
        let inside = |at: usize, tap: usize| (at * self.stride + tap).checked_sub(k / 2).filter(|&at| at < self.side);
        let mut sum = 0.0;
        for (ky, kx) in (0..k).flat_map(|ky| (0..k).map(move |kx| (ky, kx))) {
            let (Some(y), Some(x)) = (inside(y, ky), inside(x, kx)) else { continue };
            for c in 0..i {
                sum += image[(y * self.side + x) * i + c] * weight[((o * i + c) * k + ky) * k + kx];
            }
        }
        sum
    }
}

fn convolutions(c: &mut Criterion) {
    // (name, side of the input, I, O, kernel, stride)
    let shapes = [
        ("conv 7x7/2 3->64 64px", 64, 3, 64, 7, 2),
        ("conv 3x3 64 16px", 16, 64, 64, 3, 1),
        ("conv 3x3/2 64->128 16px", 16, 64, 128, 3, 2),
        ("conv 3x3 128 8px", 8, 128, 128, 3, 1),
        ("conv 3x3 256 4px", 4, 256, 256, 3, 1),
        ("conv 3x3 512 2px", 2, 512, 512, 3, 1),
        ("conv 1x1/2 64->128 16px", 16, 64, 128, 1, 2),
    ];
    for (name, side, i, o, kernel, stride) in shapes {
        let mut group = group(c, name);
        let (weight, padding) = (random(&[o, i, kernel, kernel]), kernel / 2);
        let config = Conv2dConfig { stride: [stride; 2], padding: [padding; 2] };
        ours(&mut group, Conv2d::new(weight.clone(), config).expect("memory"), &random(&[BATCH, side, side, i]));
        let config = candle_nn::Conv2dConfig { stride, padding, ..Default::default() };
        let weight = Var::from_tensor(&weight).expect("memory");
        let layer = candle_nn::Conv2d::new(weight.as_tensor().clone(), None, config);
        candles(&mut group, &random(&[BATCH, i, side, side]), |x| layer.forward(x));
        Naive { side, channels: [i, o], kernel, stride }.time(&mut group);
    }
}

fn batch_norms(c: &mut Criterion) {
    for (name, side, channels) in [("norm+relu 64 32px", 32, 64), ("norm+relu 128 8px", 8, 128)] {
        let mut group = group(c, name);
        let [one, zero] = [1.0f32, 0.0].map(|v| Tensor::full(v, channels, &CPU).expect("memory"));
        let norm = BatchNorm::new(one.clone(), zero.clone()).expect("memory").relu();
        ours(&mut group, norm, &random(&[BATCH, side, side, channels]));
        let var = |t: &Tensor| Var::from_tensor(t).expect("memory").as_tensor().clone();
        let norm = candle_nn::BatchNorm::new(channels, var(&zero), var(&one), var(&one), var(&zero), 1e-5);
        let norm = norm.expect("shapes fit");
        candles(&mut group, &random(&[BATCH, channels, side, side]), |x| norm.forward_t(x, true)?.relu());
    }
}

/// candle has no pool with these windows.
fn max_pool(c: &mut Criterion) {
    let mut group = group(c, "max pool 3x3/2 64 32px");
    let windows = MaxPool2dConfig { kernel: [3, 3], stride: [2, 2], padding: [1, 1] };
    ours(&mut group, MaxPool2d::new(windows), &random(&[BATCH, 32, 32, 64]));
}

fn loss(c: &mut Criterion) {
    let mut group = group(c, "bce 15 classes");
    let (logits, targets) = (random(&[BATCH, 15]), random(&[BATCH, 15]).ge(0.0).expect("memory"));
    let targets = targets.to_dtype(DType::F32).expect("memory");
    group.bench_function("ours/forward+backward", |b| b.iter(|| bce_with_logits(&logits, &targets).map(drop)));
    let logits = Var::from_tensor(&logits).expect("memory");
    group.bench_function("candle/forward+backward", |b| {
        b.iter(|| candle_nn::loss::binary_cross_entropy_with_logit(&logits, &targets)?.backward().map(drop));
    });
}

fn adam(c: &mut Criterion) {
    use candle_nn::Optimizer;
    let mut group = group(c, "adam 11.7 M");
    let shape = [11_711_552 / 512, 512];
    let mut layer = cn_ops::Linear::new(random(&shape)).expect("memory");
    let parameters = Parameters::gather(&mut layer, |_| 0).expect("memory");
    let mut optimizer = Adam::new(&parameters, AdamConfig::default()).expect("memory");
    group.throughput(Throughput::Bytes(7 * 4 * parameters.values().elem_count() as u64));
    group.bench_function("ours", |b| b.iter(|| optimizer.step(&parameters, &Hyper { lr: &[1e-9], beta1: 0.9 })));
    let var = Var::from_tensor(&random(&shape)).expect("memory");
    let grads = var.sum_all().and_then(|y| y.backward()).expect("memory");
    let mut optimizer = candle_nn::AdamW::new_lr(vec![var], 1e-9).expect("memory");
    group.bench_function("candle", |b| b.iter(|| optimizer.step(&grads)));
}

/// Forward in use: what a layer costs without what backward needs.
fn inference(c: &mut Criterion) {
    let mut group = group(c, "eval conv 3x3 64 16px");
    let config = Conv2dConfig { stride: [1, 1], padding: [1, 1] };
    let mut layer = Conv2d::new(random(&[64, 64, 3, 3]), config).expect("memory");
    let (pool, x) = (Pool::default(), Activation::from(random(&[BATCH, 16, 16, 64])));
    let mut pass = Pass::eval(&pool);
    assert!(matches!(pass.mode, Mode::Eval));
    group.bench_function("ours", |b| b.iter(|| layer.forward(&x, &mut pass).map(drop)));
}

criterion_group!(benches, convolutions, batch_norms, max_pool, loss, adam, inference);
criterion_main!(benches);
