//! Operations at the shapes of ResNet-18 on images of 64 and 128 pixels, batch 64, beside candle's own where it has
//! them, and beside plain loops on one thread.
//!
//! Throughput is in images, of the optimizer in bytes; plain convolutions see one image.
#![allow(missing_docs, clippy::print_stdout)]

mod convolutions;
mod naive;
mod others;

use candle_core::{Device, Result as Candle, Tensor, Var};
use cn_ops::{Activation, Draw, InputGrad, Layer, Parameters, Pass, Pool, Precision};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use std::time::Duration;

const BATCH: usize = 64;
const CPU: Device = Device::Cpu;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1.0, shape, &CPU).expect("memory")
}

fn numbers(n: usize) -> Vec<f32> {
    random(&[n]).to_vec1().expect("memory")
}

fn group<'a>(c: &'a mut Criterion, name: &str) -> Group<'a> {
    let mut group = c.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(BATCH as u64));
    group
}

/// Times forward, and forward with backward, in training mode.
fn ours(group: &mut Group<'_>, mut layer: impl Layer, x: &Tensor, precision: Precision) {
    let name = match precision {
        Precision::F32 => "ours",
        Precision::Bf16 => "ours in bf16",
    };
    if !precision.is_supported() {
        println!("skipped {name}: this processor has no products of {precision}");
        return;
    }
    let (pool, ids) = (Pool::default(), (0..BATCH as u32).collect::<Vec<_>>());
    let pass = || Pass::train(&pool, Draw { seed: 1, epoch: 0, ids: &ids }).with_precision(precision);
    let _parameters = Parameters::gather(&mut layer, |_| 0).expect("memory");
    let x = Activation::from(x.clone());
    let y = layer.forward(&x, &mut pass()).expect("shapes fit");
    let dy = Activation::from(random(y.dims()));
    drop(y);
    group.bench_function(format!("{name}/forward"), |b| b.iter(|| layer.forward(&x, &mut pass()).map(drop)));
    group.bench_function(format!("{name}/forward+backward"), |b| {
        b.iter(|| {
            layer.forward(&x, &mut pass()).map(drop)?;
            layer.backward(dy.clone(), InputGrad::New, &mut pass()).map(drop)
        });
    });
}

/// Times forward in use: folded norms, weights in order, nothing kept.
fn ours_in_use(group: &mut Group<'_>, mut layer: impl Layer, x: &Tensor) {
    let (pool, x) = (Pool::default(), Activation::from(x.clone()));
    group.bench_function("ours/forward", |b| b.iter(|| layer.forward(&x, &mut Pass::eval(&pool)).map(drop)));
}

/// Times candle's layer, forward and with its autograd.
fn candles(group: &mut Group<'_>, x: &Tensor, f: impl Fn(&Tensor) -> Candle<Tensor>) {
    let x = Var::from_tensor(x).expect("memory");
    group.bench_function("candle/forward", |b| b.iter(|| f(&x.detach()).map(drop)));
    group.bench_function("candle/forward+backward", |b| b.iter(|| f(&x)?.sum_all()?.backward().map(drop)));
}

criterion_group!(
    benches,
    convolutions::in_training,
    convolutions::in_use,
    others::batch_norms,
    others::max_pool,
    others::pools_of_whole_maps,
    others::linear,
    others::loss,
    others::adam
);
criterion_main!(benches);
