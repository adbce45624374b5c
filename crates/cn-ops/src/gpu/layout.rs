//! Orders of weights: `(O, I, Kh, Kw)` here and in files, `(O, Kh, Kw, I)` on the device.

use rayon::prelude::*;

/// From the order here to that of the device.
pub(super) fn to_device([o, i, kh, kw]: [usize; 4], weight: &[f32], out: &mut [f32]) {
    transpose([o, i, kh * kw], weight, out);
}

/// From the order of the device to that here.
pub(super) fn to_host([o, i, kh, kw]: [usize; 4], weight: &[f32], out: &mut [f32]) {
    transpose([o, kh * kw, i], weight, out);
}

/// `(O, A, B)` to `(O, B, A)`, one output after the other: a checkpoint waits for all of them.
fn transpose([o, a, b]: [usize; 3], weight: &[f32], out: &mut [f32]) {
    let len = (a * b).max(1);
    let weight = &weight[..o * a * b];
    out.par_chunks_exact_mut(len).zip(weight.par_chunks_exact(len)).for_each(|(out, weight)| {
        for (column, out) in out.chunks_exact_mut(a).enumerate() {
            for (out, value) in out.iter_mut().zip(weight[column..].iter().step_by(b)) {
                *out = *value;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_those_of_the_field() {
        let sizes = [2, 3, 2, 2];
        let weight: Vec<f32> = (0..24).map(|n| n as f32).collect();
        let (mut moved, mut back) = (vec![0.0; 24], vec![0.0; 24]);
        to_device(sizes, &weight, &mut moved);
        for (o, i, y, x) in (0..24).map(|n| (n / 12, n / 4 % 3, n / 2 % 2, n % 2)) {
            assert_eq!(moved[((o * 2 + y) * 2 + x) * 3 + i], weight[((o * 3 + i) * 2 + y) * 2 + x]);
        }
        to_host(sizes, &moved, &mut back);
        assert_eq!(back, weight);
    }
}
