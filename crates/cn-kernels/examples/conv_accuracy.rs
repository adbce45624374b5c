//! Relative error of the `f32` convolutions of a ResNet-18 against `f64`, in the Euclidean norm.
//!
//! `cargo run -p cn-kernels --example conv_accuracy [PRECISION]`
#![allow(clippy::print_stdout)]

use cn_kernels::Precision;
use cn_kernels::conv::{self, ConvShape, Write};

/// Normal enough: the sum of four uniform hashes, mean 0.
fn noise(n: usize, salt: u64) -> Vec<f64> {
    let hash = |i: u64| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (i << 7)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40;
    let one = |i: u64| hash(i + (salt << 32)) as f64 / f64::from(1 << 24) - 0.5;
    (0..n as u64).map(|i| f64::from((one(4 * i) + one(4 * i + 1) + one(4 * i + 2) + one(4 * i + 3)) as f32)).collect()
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&x| x as f32).collect()
}

fn error(found: &[f32], exact: &[f64]) -> f64 {
    let norm = exact.iter().map(|x| x * x).sum::<f64>();
    let difference = found.iter().zip(exact).map(|(f, e)| (f64::from(*f) - e).powi(2)).sum::<f64>();
    (difference / norm).sqrt()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let precision: Precision = std::env::args().nth(1).map_or(Ok(Precision::F32), |arg| arg.parse())?;
    println!(
        "relative error of {precision} against f64: forward, data gradient, weight gradient ({})",
        cn_kernels::Isa::current()
    );
    for (size, i, o, k, s) in [
        (64, 3, 64, 7, 2),
        (16, 64, 64, 3, 1),
        (16, 64, 128, 3, 2),
        (16, 64, 128, 1, 2),
        (8, 128, 128, 3, 1),
        (8, 128, 256, 3, 2),
        (8, 128, 256, 1, 2),
        (4, 256, 256, 3, 1),
        (4, 256, 512, 3, 2),
        (4, 256, 512, 1, 2),
        (2, 512, 512, 3, 1),
        (8, 256, 256, 3, 1),
        (4, 512, 512, 3, 1),
    ] {
        let (kernel, stride, padding) = ([k, k], [s, s], [k / 2, k / 2]);
        let shape =
            ConvShape { batch: 8, height: size, width: size, in_channels: i, out_channels: o, kernel, stride, padding };
        let (x, w, dy) = (noise(shape.input_len(), 1), noise(shape.weight_len(), 2), noise(shape.output_len(), 3));
        let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
        conv::forward(&shape, Precision::F32, [&x, &w], &mut y);
        conv::backward_input(&shape, Precision::F32, [&dy, &w], &mut dx, Write::Set);
        conv::backward_weight(&shape, Precision::F32, [&x, &dy], &mut dw);
        let (x32, w32, dy32) = (narrow(&x), narrow(&w), narrow(&dy));
        let (mut y32, mut dx32, mut dw32) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
        conv::forward(&shape, precision, [&x32, &w32], &mut y32);
        conv::backward_input(&shape, precision, [&dy32, &w32], &mut dx32, Write::Set);
        conv::backward_weight(&shape, precision, [&x32, &dy32], &mut dw32);
        let [a, b, c] = [error(&y32, &y), error(&dx32, &dx), error(&dw32, &dw)];
        println!("{k}x{k}/{s} {i:>3} > {o:>3} at {size:>2} px: {a:.1e} {b:.1e} {c:.1e}");
    }
    Ok(())
}
