use super::*;

/// Small numbers that look random, from a hash of their position.
fn fill(n: usize, salt: u64) -> Vec<f64> {
    (0..n as u64)
        .map(|i| ((i + salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / f64::from(1 << 23) - 1.0)
        .collect()
}

fn naive(s: &ConvShape, mut visit: impl FnMut(usize, usize, usize)) {
    let (ho, wo) = (s.out_height(), s.out_width());
    for b in 0..s.batch {
        for (oy, ox) in (0..ho).flat_map(|oy| (0..wo).map(move |ox| (oy, ox))) {
            for (ky, kx) in (0..s.kernel[0]).flat_map(|ky| (0..s.kernel[1]).map(move |kx| (ky, kx))) {
                let (iy, ix) = (oy * s.stride[0] + ky, ox * s.stride[1] + kx);
                if iy < s.padding[0] || ix < s.padding[1] {
                    continue;
                }
                let (iy, ix) = (iy - s.padding[0], ix - s.padding[1]);
                if iy >= s.height || ix >= s.width {
                    continue;
                }
                for o in 0..s.out_channels {
                    for i in 0..s.in_channels {
                        visit(
                            ((b * s.height + iy) * s.width + ix) * s.in_channels + i,
                            ((o * s.in_channels + i) * s.kernel[0] + ky) * s.kernel[1] + kx,
                            ((b * ho + oy) * wo + ox) * s.out_channels + o,
                        );
                    }
                }
            }
        }
    }
}

fn close(a: &[f64], b: &[f64], tolerance: f64) {
    let norm = b.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-30);
    let error = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
    assert!(error / norm < tolerance, "relative error {}", error / norm);
}

fn check(s: ConvShape) {
    let (x, w, dy) = (fill(s.input_len(), 1), fill(s.weight_len(), 2), fill(s.output_len(), 3));
    let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
    naive(&s, |i, j, k| {
        y[k] += x[i] * w[j];
        dx[i] += dy[k] * w[j];
        dw[j] += dy[k] * x[i];
    });
    let f32s = |v: &[f64]| v.iter().map(|&x| x as f32).collect::<Vec<f32>>();
    let f64s = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    let (mut y64, mut dx64, mut dw64) = (vec![9.0; y.len()], vec![9.0; x.len()], vec![0.0; w.len()]);
    forward(&s, &x, &w, &mut y64);
    backward_input(&s, &dy, &w, &mut dx64, Write::Set);
    backward_weight(&s, &x, &dy, &mut dw64);
    [(&y64, &y), (&dx64, &dx), (&dw64, &dw)].iter().for_each(|(a, b)| close(a, b, 1e-12));
    let (x, w, dy) = (f32s(&x), f32s(&w), f32s(&dy));
    let (mut y32, mut dx32, mut dw32) = (vec![9.0; y.len()], vec![9.0; x.len()], vec![0.0; w.len()]);
    forward(&s, &x, &w, &mut y32);
    backward_input(&s, &dy, &w, &mut dx32, Write::Set);
    backward_weight(&s, &x, &dy, &mut dw32);
    let pairs = [(&y32, &y), (&dx32, &dx), (&dw32, &dw)];
    pairs.iter().for_each(|(a, b)| close(&f64s(a), b, 2e-5));
    backward_input(&s, &dy, &w, &mut dx32, Write::Add);
    backward_weight(&s, &x, &dy, &mut dw32);
    let twice = |v: &[f64]| v.iter().map(|x| 2.0 * x).collect::<Vec<_>>();
    close(&f64s(&dx32), &twice(&dx), 2e-5);
    close(&f64s(&dw32), &twice(&dw), 2e-5);
}

fn shape(
    batch: usize,
    [height, width]: [usize; 2],
    [in_channels, out_channels]: [usize; 2],
    k: usize,
    s: usize,
    p: usize,
) -> ConvShape {
    ConvShape { batch, height, width, in_channels, out_channels, kernel: [k, k], stride: [s, s], padding: [p, p] }
}

#[test]
fn three_by_three_matches_naive() {
    check(shape(2, [8, 8], [16, 32], 3, 1, 1));
    check(shape(3, [7, 5], [5, 7], 3, 1, 1));
    check(shape(1, [1, 1], [3, 2], 3, 1, 1));
    check(shape(2, [9, 6], [17, 33], 3, 1, 0));
    check(shape(2, [13, 10], [64, 80], 3, 1, 1));
}

#[test]
fn strided_windows_match_naive() {
    check(shape(2, [16, 14], [3, 16], 7, 2, 3));
    check(shape(2, [16, 16], [1, 64], 7, 2, 3));
    check(shape(2, [8, 9], [16, 24], 3, 2, 1));
    check(shape(2, [8, 8], [16, 32], 1, 2, 0));
    check(shape(2, [6, 6], [8, 8], 1, 1, 0));
    check(shape(1, [5, 11], [2, 3], 2, 3, 1));
}

#[test]
fn uneven_windows_match_naive() {
    check(ConvShape {
        batch: 2,
        height: 7,
        width: 9,
        in_channels: 3,
        out_channels: 5,
        kernel: [1, 4],
        stride: [2, 1],
        padding: [0, 2],
    });
}

#[test]
fn impossible_shapes_are_named() {
    let error = shape(1, [2, 2], [1, 1], 5, 1, 1).validate().unwrap_err();
    assert!(error.to_string().contains("does not fit"), "{error}");
    assert!(matches!(shape(0, [2, 2], [1, 1], 1, 1, 0).validate(), Err(ShapeError::Zero(_))));
}
