use super::*;

fn fill(n: usize, levels: u64) -> Vec<f64> {
    (0..n as u64).map(|i| ((i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) % levels) as f64 - 3.0).collect()
}

/// The winner of each window by nested loops: `(input, output, tap)` for each output.
fn naive(s: &PoolShape, x: &[f64]) -> Vec<(usize, usize, u8)> {
    let (ho, wo) = (s.out_height(), s.out_width());
    let mut all = Vec::new();
    for out in 0..s.output_len() {
        let (c, pixel) = (out % s.channels, out / s.channels);
        let (b, oy, ox) = (pixel / (ho * wo), pixel / wo % ho, pixel % wo);
        let mut best: Option<(usize, u8)> = None;
        for tap in 0..s.kernel[0] * s.kernel[1] {
            let y = (oy * s.stride[0] + tap / s.kernel[1]).checked_sub(s.padding[0]).filter(|&y| y < s.height);
            let x_at = (ox * s.stride[1] + tap % s.kernel[1]).checked_sub(s.padding[1]).filter(|&x| x < s.width);
            let Some((y, x_at)) = y.zip(x_at) else { continue };
            let at = ((b * s.height + y) * s.width + x_at) * s.channels + c;
            if best.is_none_or(|(i, _)| x[at] > x[i]) {
                best = Some((at, tap as u8));
            }
        }
        let (at, tap) = best.unwrap();
        all.push((at, out, tap));
    }
    all
}

fn check<T: Float>(s: PoolShape, levels: u64) {
    let (x, dy) = (fill(s.input_len(), levels), fill(s.output_len(), 1000));
    let narrow = |v: &[f64]| v.iter().map(|&x| T::from_f64(x)).collect::<Vec<T>>();
    let (mut y, mut winners) = (vec![T::ZERO; s.output_len()], vec![0; s.output_len()]);
    max_forward(&s, &narrow(&x), &mut y, &mut winners);
    let mut dx = vec![T::ONE; s.input_len()];
    max_backward(&s, &narrow(&dy), &winners, &mut dx);
    let mut expected = vec![0.0; x.len()];
    for (input, output, tap) in naive(&s, &x) {
        assert!(y[output].to_f64() == x[input] && winners[output] == tap, "{s:?} at {output}");
        expected[input] += dy[output];
    }
    assert!(dx.iter().zip(&expected).all(|(a, b)| a.to_f64() == *b), "{s:?}");
}

fn shape(
    batch: usize,
    [height, width]: [usize; 2],
    channels: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
) -> PoolShape {
    PoolShape { batch, height, width, channels, kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 2] }
}

#[test]
fn every_window_matches_naive_with_and_without_ties() {
    for levels in [2, 5, 100_000] {
        for s in [
            shape(2, [8, 8], 16, 3, 2, 1),
            shape(2, [7, 10], 5, 3, 2, 1),
            shape(1, [6, 6], 33, 2, 2, 0),
            shape(1, [9, 5], 8, 3, 1, 1),
            shape(2, [11, 7], 17, 2, 3, 0),
            shape(1, [5, 5], 3, 5, 1, 2),
        ] {
            check::<f32>(s, levels);
            check::<f64>(s, levels);
        }
    }
}

#[test]
fn nan_wins() {
    let s = shape(1, [2, 2], 1, 2, 2, 0);
    for x in [[f32::NAN, 1.0, 2.0, 3.0], [1.0, f32::NAN, 5.0, 2.0], [3.0, 2.0, 1.0, f32::NAN]] {
        let (mut y, mut winners) = ([0.0], [0]);
        max_forward(&s, &x, &mut y, &mut winners);
        assert!(y[0].is_nan() && x[winners[0] as usize].is_nan());
    }
}

#[test]
fn impossible_pools_are_not_valid() {
    assert!(!shape(1, [4, 4], 1, 2, 1, 2).is_valid());
    assert!(!shape(1, [1, 1], 1, 3, 1, 0).is_valid());
    assert!(!shape(1, [30, 30], 1, 16, 1, 0).is_valid());
}
