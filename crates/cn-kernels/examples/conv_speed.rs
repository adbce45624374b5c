//! GFLOP/s of the convolutions of a ResNet-18, forward and both gradients, at one image size.
//!
//! `cargo run --release -p cn-kernels --example conv_speed [SIZE] [BATCH] [THREADS] [PRECISION]`
#![allow(clippy::print_stdout)]

use cn_kernels::Precision;
use cn_kernels::conv::{self, ConvShape, Write};
use std::sync::LazyLock;
use std::time::Instant;

/// Seconds that this thread has run: on Linux its processor time, which other work on the machine does not stretch.
fn seconds() -> f64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = stat.and_then(|s| s.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| START.elapsed().as_secs_f64(), |n| n / 1e9)
}

/// Seconds of one call, the mean of many; by the clock of one thread if only one works.
fn time(threads: usize, mut f: impl FnMut()) -> f64 {
    let start = Instant::now();
    let now = || if threads == 1 { seconds() } else { start.elapsed().as_secs_f64() };
    f();
    let (first, mut calls) = (now(), 0);
    while start.elapsed().as_secs_f64() < 0.4 {
        f();
        calls += 1;
    }
    (now() - first) / f64::from(calls.max(1))
}

/// What is measured.
#[derive(Clone, Copy)]
struct Job {
    size: usize,
    batch: usize,
    threads: usize,
    precision: Precision,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default| args.get(i).map_or(Ok(default), |arg| arg.parse::<usize>());
    let (size, batch, threads) = (number(0, 64)?, number(1, 64)?, number(2, 2)?);
    let precision = args.get(3).map_or(Ok(Precision::F32), |arg| arg.parse())?;
    cn_kernels::with_threads(threads, || table(Job { size, batch, threads, precision }))?;
    Ok(())
}

fn table(job: Job) {
    println!(
        "{:>2} {:>5} {:>9} {:>6} | GFLOP/s of direct arithmetic: forward, data gradient, weight gradient | ms",
        "n", "image", "channels", "window"
    );
    let mut total = [0.0; 3];
    for (n, shape) in layers(job) {
        let times = times(job, &shape);
        print_row(n, &shape, times);
        (0..3).for_each(|i| total[i] += n as f64 * times[i]);
    }
    let sum: f64 = total.iter().sum();
    println!(
        "all layers, ms: {:.1} {:.1} {:.1}; convolutions alone: {:.0} images/s",
        total[0] * 1e3,
        total[1] * 1e3,
        total[2] * 1e3,
        job.batch as f64 / sum
    );
}

/// The convolutions of a ResNet-18, and how many there are of each.
fn layers(Job { size, batch, .. }: Job) -> [(usize, ConvShape); 11] {
    let layer = |div: usize, i, o, k: usize, s: usize| ConvShape {
        batch,
        height: size / div,
        width: size / div,
        in_channels: i,
        out_channels: o,
        kernel: [k, k],
        stride: [s, s],
        padding: [k / 2, k / 2],
    };
    [
        (1, layer(1, 3, 64, 7, 2)),
        (4, layer(4, 64, 64, 3, 1)),
        (1, layer(4, 64, 128, 3, 2)),
        (1, layer(4, 64, 128, 1, 2)),
        (3, layer(8, 128, 128, 3, 1)),
        (1, layer(8, 128, 256, 3, 2)),
        (1, layer(8, 128, 256, 1, 2)),
        (3, layer(16, 256, 256, 3, 1)),
        (1, layer(16, 256, 512, 3, 2)),
        (1, layer(16, 256, 512, 1, 2)),
        (3, layer(32, 512, 512, 3, 1)),
    ]
}

/// Seconds of the forward pass, the data gradient (0 for the first layer, which needs none) and the weight gradient.
fn times(Job { threads, precision, .. }: Job, s: &ConvShape) -> [f64; 3] {
    let random = |n: usize| (0..n).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect::<Vec<_>>();
    let (x, w, dy) = (random(s.input_len()), random(s.weight_len()), random(s.output_len()));
    let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
    [
        time(threads, || conv::forward(s, precision, [&x, &w], &mut y)),
        if s.in_channels == 3 {
            0.0
        } else {
            time(threads, || conv::backward_input(s, precision, [&dy, &w], &mut dx, Write::Set))
        },
        time(threads, || conv::backward_weight(s, precision, [&x, &dy], &mut dw)),
    ]
}

fn print_row(n: usize, s: &ConvShape, times: [f64; 3]) {
    let rate = times.map(|t| s.flops() / t / 1e9);
    println!(
        "{n:>2} {:>5} {:>9} {:>6} | {:>7.0} {:>7.0} {:>7.0} | {:>7.2} {:>7.2} {:>7.2}",
        s.height,
        format!("{}>{}", s.in_channels, s.out_channels),
        format!("{}/{}", s.kernel[0], s.stride[0]),
        rate[0],
        rate[1],
        rate[2],
        times[0] * 1e3,
        times[1] * 1e3,
        times[2] * 1e3
    );
}
