//! What holds of all kernels: the same bits at any number of threads, and all tests with every instruction set.

use crate::conv::{ConvShape, Epilogue, Prepared, Write};
use crate::linear::LinearShape;
use crate::norm::{Activation, BatchNorm, Gradients, Saved, Source};
use crate::optim::{AdamSlices, AdamStep};
use crate::pool::PoolShape;
use crate::{Isa, Precision, conv, linear, norm, optim, pool, with_threads};

/// Small numbers that look random, from a hash of their position.
pub(crate) fn fill(n: usize, salt: u64) -> Vec<f64> {
    let hash = |i: u64| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (i << 7)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40;
    (0..n as u64).map(|i| hash(i + (salt << 32)) as f64 / f64::from(1 << 23) - 1.0).collect()
}

fn narrow(n: usize, salt: u64) -> Vec<f32> {
    fill(n, salt).iter().map(|&x| x as f32).collect()
}

/// Asserts that the bits of what `work` gives do not depend on the number of threads.
fn same_at_any_number_of_threads(name: &str, work: impl Fn() -> Vec<Vec<f32>> + Send + Sync) {
    let bits = |threads| {
        let all = with_threads(threads, &work).expect("threads");
        all.iter().map(|part| part.iter().map(|x| x.to_bits()).collect::<Vec<u32>>()).collect::<Vec<_>>()
    };
    let one = bits(1);
    assert!(one.iter().flatten().any(|&bits| bits != 0), "{name} gives something");
    assert!([2, 3, 4].iter().all(|&threads| bits(threads) == one), "{name}");
}

#[test]
fn norms_do_not_depend_on_threads() {
    // Several pieces of rows, the last one shorter, and channels that fill no vector.
    for channels in [64, 37] {
        let n = 5003 * channels;
        let (x, residual, dy, gamma, beta) =
            (narrow(n, 1), narrow(n, 2), narrow(n, 3), narrow(channels, 4), narrow(channels, 5));
        for source in [Source::Batch, Source::Running] {
            same_at_any_number_of_threads("norm", || {
                let bn = BatchNorm { gamma: &gamma, beta: &beta, eps: 1e-5, activation: Activation::Relu };
                let moments = norm::moments(&x, channels, 1e-5);
                let mut y = vec![0.0; n];
                norm::forward(&bn, &moments, &x, Some(&residual), &mut y);
                let (mut dx, mut dr) = (vec![0.0; n], vec![0.0; n]);
                let (mut dgamma, mut dbeta) = (vec![0.0; channels], vec![0.0; channels]);
                let saved = Saved { x: &x, y: Some(&y), moments: &moments, source };
                let out = Gradients { dx: &mut dx, d_residual: Some(&mut dr), dgamma: &mut dgamma, dbeta: &mut dbeta };
                norm::backward(&bn, &saved, &dy, out);
                vec![moments.mean.clone(), moments.var.clone(), y, dx, dr, dgamma, dbeta]
            });
        }
    }
}

#[test]
fn pools_do_not_depend_on_threads() {
    for channels in [64, 19] {
        let shape =
            PoolShape { batch: 7, height: 17, width: 16, channels, kernel: [3, 3], stride: [2, 2], padding: [1, 1] };
        let (x, dy) = (narrow(shape.input_len(), 1), narrow(shape.output_len(), 2));
        same_at_any_number_of_threads("max pool", || {
            let (mut y, mut winners) = (vec![0.0; dy.len()], vec![0; dy.len()]);
            pool::max_forward(&shape, &x, &mut y, &mut winners);
            let mut dx = vec![0.0; x.len()];
            pool::max_backward(&shape, &dy, &winners, &mut dx);
            vec![y, dx]
        });
        let n = shape.batch * channels;
        same_at_any_number_of_threads("pools of whole maps", || {
            let (mut both, mut winners, mut mean) = (vec![0.0; 2 * n], vec![0; n], vec![0.0; n]);
            pool::concat_forward(channels, &x, &mut both, &mut winners);
            pool::mean_forward(channels, &x, &mut mean);
            let (mut dx, mut d_mean) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            pool::concat_backward(channels, &dy[..2 * n], &winners, &mut dx);
            pool::mean_backward(channels, &dy[..n], &mut d_mean);
            vec![both, mean, dx, d_mean]
        });
    }
}

#[test]
fn the_optimizer_and_linear_layers_do_not_depend_on_threads() {
    let n = 200_003;
    let (params, grads, m, v) = (narrow(n, 1), narrow(n, 2), narrow(n, 3), narrow(n, 4));
    same_at_any_number_of_threads("Adam", || {
        let (mut params, mut grads, mut m) = (params.clone(), grads.clone(), m.clone());
        let mut v: Vec<f32> = v.iter().map(|v| v.abs()).collect();
        let step = AdamStep { lr: 1e-3, beta1: 0.9, beta2: 0.99, eps: 1e-5, weight_decay: 0.01, step: 3 };
        optim::adam(&step, AdamSlices { params: &mut params, grads: &mut grads, m: &mut m, v: &mut v });
        vec![params, m, v]
    });
    let shape = LinearShape { batch: 100, in_features: 515, out_features: 77 };
    let (x, w, dy) = (narrow(100 * 515, 1), narrow(77 * 515, 2), narrow(100 * 77, 3));
    same_at_any_number_of_threads("linear", || {
        let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
        linear::forward(&shape, &x, &w, &mut y);
        linear::backward_input(&shape, &dy, &w, &mut dx);
        linear::backward_weight(&shape, &x, &dy, &mut dw);
        let mut sums = vec![0.0; 77];
        linear::add_column_sums(&dy, &mut sums);
        vec![y, dx, dw, sums]
    });
}

#[test]
fn convolutions_in_use_and_sums_of_gradients_do_not_depend_on_threads() {
    // (batch, map, channels, window, stride): many and few pixels, by minimal filtering and not, and maps of a pixel.
    let sizes = [
        (9, 12, [64, 64], 3, 1),
        (1, 8, [128, 192], 3, 1),
        (3, 2, [128, 128], 3, 1),
        (5, 1, [64, 128], 3, 1),
        (2, 9, [24, 72], 3, 2),
        (40, 9, [16, 80], 1, 2),
        (2, 31, [3, 64], 7, 2),
    ];
    for (batch, map, [i, o], k, step) in sizes {
        let s = ConvShape {
            batch,
            height: map,
            width: map,
            in_channels: i,
            out_channels: o,
            kernel: [k, k],
            stride: [step, step],
            padding: [k / 2, k / 2],
        };
        let (x, w) = (narrow(s.input_len(), 1), narrow(s.weight_len(), 2));
        let (dy, scale, shift) = (narrow(s.output_len(), 3), narrow(o, 4), narrow(o, 5));
        for precision in [Precision::F32, Precision::Bf16] {
            same_at_any_number_of_threads(&format!("{s:?} {precision}"), || {
                let prepared = Prepared::new(precision);
                let after =
                    Epilogue { scale: &scale, shift: &shift, residual: Some(&dy), activation: Activation::Relu };
                let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], x.clone(), w.clone());
                prepared.forward(&s, [&x, &w], &after, &mut y);
                conv::backward_input(&s, precision, [&dy, &w], &mut dx, Write::Add);
                conv::backward_weight(&s, precision, [&x, &dy], &mut dw);
                vec![y, dx, dw]
            });
        }
    }
}

/// The tests of this crate compute with the widest instruction set; here they run again with each of the others.
#[test]
fn every_instruction_set_passes_every_test() {
    const CHILD: &str = "CN_KERNELS_TESTS_AGAIN";
    if std::env::var_os(CHILD).is_some() {
        return;
    }
    for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::current()) {
        let tests = std::env::current_exe().expect("the path of these tests");
        let output = std::process::Command::new(tests).env("CN_ISA", isa.to_string()).env(CHILD, "1").output();
        let output = output.expect("the tests start");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains(" 0 failed"), "with {isa}:\n{text}");
    }
}
