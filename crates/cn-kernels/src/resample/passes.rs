//! The two passes of a resize. Sums stay below 2^31: weights are not negative and add up to 2^22.

use super::axis::{Axis, WEIGHT_BITS};

const HALF: i32 = 1 << (WEIGHT_BITS - 1);

fn to_byte(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).min(255) as u8
}

/// Horizontal pass of one row: outputs from `first` on, as many as `out` holds.
pub(super) fn across(axis: &Axis, first: usize, row: &[u8], channels: usize, out: &mut [u8]) {
    match (channels, axis.taps()) {
        (1, 2) => across_two::<1>(axis, first, row, out),
        (3, 2) => across_two::<3>(axis, first, row, out),
        _ => across_any(axis, first, row, channels, out),
    }
}

/// Two taps, as in every enlargement.
fn across_two<const C: usize>(axis: &Axis, first: usize, row: &[u8], out: &mut [u8]) {
    let (starts, weights) = axis.from(first);
    let windows = starts.iter().zip(weights.as_chunks::<2>().0);
    for (out, (&start, &[w0, w1])) in out.as_chunks_mut::<C>().0.iter_mut().zip(windows) {
        let pixels = &row[start as usize * C..][..2 * C];
        for (c, out) in out.iter_mut().enumerate() {
            *out = to_byte(HALF + i32::from(pixels[c]) * w0 + i32::from(pixels[C + c]) * w1);
        }
    }
}

fn across_any(axis: &Axis, first: usize, row: &[u8], channels: usize, out: &mut [u8]) {
    let (starts, weights) = axis.from(first);
    let windows = starts.iter().zip(weights.chunks_exact(axis.taps()));
    for (out, (&start, weights)) in out.chunks_exact_mut(channels).zip(windows) {
        let pixels = &row[start as usize * channels..][..weights.len() * channels];
        for (c, out) in out.iter_mut().enumerate() {
            let taps = pixels[c..].iter().step_by(channels).zip(weights);
            *out = to_byte(taps.fold(HALF, |sum, (&p, &w)| sum + i32::from(p) * w));
        }
    }
}

/// Vertical pass: one output row as the weighted sum of input rows of the same length.
pub(super) fn down<'a>(weights: &[i32], row: impl Fn(usize) -> &'a [u8], sums: &mut Vec<i32>, out: &mut [u8]) {
    if let &[w0, w1] = weights {
        for ((out, &a), &b) in out.iter_mut().zip(row(0)).zip(row(1)) {
            *out = to_byte(HALF + i32::from(a) * w0 + i32::from(b) * w1);
        }
        return;
    }
    sums.clear();
    sums.resize(out.len(), HALF);
    for (tap, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight != 0) {
        for (sum, &p) in sums.iter_mut().zip(row(tap)) {
            *sum += i32::from(p) * weight;
        }
    }
    for (out, &sum) in out.iter_mut().zip(sums.iter()) {
        *out = to_byte(sum);
    }
}
