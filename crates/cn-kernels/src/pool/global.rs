//! Pools over all positions of an image.

use crate::simd::pool as vector;
use crate::{Float, Isa};
use rayon::prelude::*;

/// Positions that `f32` can count, which is what vectors carry them as.
const MOST_POSITIONS: usize = 1 << f32::MANTISSA_DIGITS;

/// Positions of each image of `x (B, P, C)`, for `B` images.
fn positions<T>(batch: usize, channels: usize, x: &[T]) -> usize {
    assert!(batch > 0 && channels > 0, "at least one image of at least one channel");
    let positions = x.len() / (batch * channels);
    assert!(
        positions > 0 && x.len() == batch * positions * channels,
        "(B, P, C) of {batch} images, {channels} channels"
    );
    positions
}

/// The same for a concat pool: `y (B, 2 C)`, `winners (B, C)`.
fn concat_positions<T>(channels: usize, x: &[T], y: &[T], winners: &[u32]) -> usize {
    let batch = winners.len().checked_div(channels).unwrap_or(0);
    let positions = positions(batch, channels, x);
    assert!(winners.len() == batch * channels && y.len() == 2 * winners.len(), "(B, 2 C) and (B, C)");
    assert!(u32::try_from(positions).is_ok(), "positions that 32 bits can count");
    positions
}

/// `y (B, 2 C)`: over the positions of `x (B, P, C)`, the largest value of each channel, then the mean of each.
///
/// `winners (B, C)` receives the position of the largest value, the first of equal ones; NaN is above all.
///
/// # Panics
///
/// If `winners` is not `(B, C)`, or `x` is not `(B, P, C)` for some `P`.
pub fn concat_forward<T: Float>(channels: usize, x: &[T], y: &mut [T], winners: &mut [u32]) {
    let positions = concat_positions(channels, x, y, winners);
    let images = y.par_chunks_mut(2 * channels).zip(winners.par_chunks_mut(channels));
    images.zip(x.par_chunks(positions * channels)).for_each(|((y, w), x)| {
        let (max, mean) = y.split_at_mut(channels);
        match T::as_f32(x) {
            Some(x) if positions <= MOST_POSITIONS => {
                let [max, mean] = [max, mean].map(|part| T::as_f32_mut(part).expect("one element type"));
                vector::largest_and_mean(Isa::current(), x, max, mean, w);
            }
            _ => largest_and_mean(x, max, mean, w),
        }
    });
}

fn largest_and_mean<T: Float>(x: &[T], max: &mut [T], mean: &mut [T], winners: &mut [u32]) {
    let channels = max.len();
    max.fill(T::NEG_INFINITY);
    mean.fill(T::ZERO);
    winners.fill(0);
    for (p, x) in x.chunks_exact(channels).enumerate() {
        for c in 0..channels {
            let better = x[c] > max[c] || x[c].to_f64().is_nan();
            max[c] = if better { x[c] } else { max[c] };
            winners[c] = if better { p as u32 } else { winners[c] };
            mean[c] += x[c];
        }
    }
    let positions = T::from_f64((x.len() / channels) as f64);
    mean.iter_mut().for_each(|m| *m = *m / positions);
}

/// Backward pass of [`concat_forward`]: `dx (B, P, C)` from `dy (B, 2 C)`.
///
/// # Panics
///
/// As [`concat_forward`].
pub fn concat_backward<T: Float>(channels: usize, dy: &[T], winners: &[u32], dx: &mut [T]) {
    let positions = concat_positions(channels, dx, dy, winners);
    let share = 1.0 / positions as f64;
    let images = dx.par_chunks_mut(positions * channels).zip(dy.par_chunks(2 * channels));
    images.zip(winners.par_chunks(channels)).for_each(|((dx, dy), w)| {
        let (d_max, d_mean) = dy.split_at(channels);
        match (T::as_f32(d_max), T::as_f32(d_mean)) {
            (Some(d_max), Some(d_mean)) if positions <= MOST_POSITIONS => {
                let dx = T::as_f32_mut(dx).expect("one element type");
                vector::spread(Isa::current(), [d_max, d_mean], share as f32, w, dx);
            }
            _ => {
                spread_mean(d_mean, T::from_f64(share), dx);
                w.iter().zip(d_max).enumerate().for_each(|(c, (&p, d))| dx[p as usize * channels + c] += *d);
            }
        }
    });
}

/// Each position receives its `share` of the gradient of the mean.
fn spread_mean<T: Float>(dy: &[T], share: T, dx: &mut [T]) {
    for row in dx.chunks_exact_mut(dy.len()) {
        row.iter_mut().zip(dy).for_each(|(dx, d)| *dx = *d * share);
    }
}

/// `y (B, C)`: the mean over the positions of `x (B, P, C)`.
///
/// # Panics
///
/// If `x` is not `(B, P, C)` for the `B` of `y`.
pub fn mean_forward<T: Float>(channels: usize, x: &[T], y: &mut [T]) {
    let positions = mean_positions(channels, x, y);
    let share = T::from_f64(1.0 / positions as f64);
    y.par_chunks_mut(channels).zip(x.par_chunks(positions * channels)).for_each(|(y, x)| {
        y.fill(T::ZERO);
        x.chunks_exact(channels).for_each(|x| y.iter_mut().zip(x).for_each(|(y, x)| *y += *x));
        y.iter_mut().for_each(|y| *y = *y * share);
    });
}

fn mean_positions<T>(channels: usize, x: &[T], y: &[T]) -> usize {
    let batch = y.len().checked_div(channels).unwrap_or(0);
    let positions = positions(batch, channels, x);
    assert!(y.len() == batch * channels, "(B, C)");
    positions
}

/// Backward pass of [`mean_forward`].
///
/// # Panics
///
/// As [`mean_forward`].
pub fn mean_backward<T: Float>(channels: usize, dy: &[T], dx: &mut [T]) {
    let positions = mean_positions(channels, dx, dy);
    let share = T::from_f64(1.0 / positions as f64);
    dx.par_chunks_mut(positions * channels)
        .zip(dy.par_chunks(channels))
        .for_each(|(dx, dy)| spread_mean(dy, share, dx));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fill;

    /// Concat pool and its gradient by one loop over the channels.
    fn check<T: Float>(batch: usize, positions: usize, channels: usize, levels: f64) {
        let cast = |v: &[f64]| v.iter().map(|&x| T::from_f64((x * levels).round() + 0.0)).collect::<Vec<T>>();
        let (x, dy) = (cast(&fill(batch * positions * channels, 1)), cast(&fill(2 * batch * channels, 2)));
        let (mut y, mut winners) = (vec![T::ONE; dy.len()], vec![9; batch * channels]);
        concat_forward(channels, &x, &mut y, &mut winners);
        let mut dx = vec![T::ONE; x.len()];
        concat_backward(channels, &dy, &winners, &mut dx);
        let share = T::from_f64(1.0 / positions as f64);
        for (b, c) in (0..batch).flat_map(|b| (0..channels).map(move |c| (b, c))) {
            let at = |p: usize| (b * positions + p) * channels + c;
            let winner = (0..positions).rev().max_by(|&p, &q| x[at(p)].to_f64().total_cmp(&x[at(q)].to_f64())).unwrap();
            let sum = (0..positions).fold(T::ZERO, |sum, p| sum + x[at(p)]);
            let (max, mean) = (2 * b * channels + c, (2 * b + 1) * channels + c);
            let name = format!("image {b} of {batch}, channel {c} of {channels}, {positions} positions");
            assert!(y[max] == x[at(winner)] && winners[b * channels + c] == winner as u32, "{name}");
            assert!(y[mean] == sum / T::from_f64(positions as f64), "{name}");
            for p in 0..positions {
                let spread = dy[mean] * share;
                assert!(dx[at(p)] == if p == winner { spread + dy[max] } else { spread }, "{name}");
            }
        }
    }

    #[test]
    fn concat_pools_match_naive_with_and_without_ties() {
        for (batch, positions, channels) in [(3, 4, 512), (2, 9, 37), (1, 1, 16), (2, 30, 5), (1, 300, 33)] {
            for levels in [1.0, 1000.0] {
                check::<f32>(batch, positions, channels, levels);
                check::<f64>(batch, positions, channels, levels);
            }
        }
    }

    #[test]
    fn minus_infinity_and_nan_have_a_winner() {
        let low = f32::NEG_INFINITY;
        for (x, winner) in [([low, low, low], 0), ([1.0, f32::NAN, 2.0], 1), ([low, -1.0, low], 1)] {
            let (mut y, mut winners) = ([0.0; 2], [7]);
            concat_forward(1, &x, &mut y, &mut winners);
            assert_eq!((winners[0], y[0].to_bits()), (winner, x[winner as usize].to_bits()));
        }
    }
}
