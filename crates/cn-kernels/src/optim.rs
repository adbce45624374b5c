//! Optimizer updates over flat slices.

use crate::parallel::rows_per_piece;
use crate::simd::optim::{AdamRates, adam as adam_vectors};
use crate::{Float, Isa};
use rayon::prelude::*;

/// What one Adam update uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment, the schedule's momentum; may change from step to step.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay, decoupled: parameters shrink by `lr * weight_decay` first (arXiv:1711.05101).
    pub weight_decay: f64,
    /// Updates so far, this one included; from 1.
    pub step: u32,
}

/// The slices of one update, all of one length.
#[derive(Debug)]
pub struct AdamSlices<'a, T> {
    /// Parameters.
    pub params: &'a mut [T],
    /// Their gradients, zero afterwards.
    pub grads: &'a mut [T],
    /// First moments.
    pub m: &'a mut [T],
    /// Second moments.
    pub v: &'a mut [T],
}

/// One Adam update with decoupled decay (arXiv:1412.6980), the bias corrected by the current `beta1` as fastai does.
///
/// Clears the gradients in passing, which saves the next step a pass over them.
///
/// # Panics
///
/// If the lengths differ, or `step` is 0.
pub fn adam<T: Float>(hyper: &AdamStep, s: AdamSlices<'_, T>) {
    let n = s.params.len();
    assert!(s.grads.len() == n && s.m.len() == n && s.v.len() == n, "equal lengths");
    assert!(hyper.step > 0, "steps count from 1");
    let debias = |beta: f64| 1.0 - beta.powi(i32::try_from(hyper.step).unwrap_or(i32::MAX));
    let (rate, unbias) = (hyper.lr / debias(hyper.beta1), 1.0 / debias(hyper.beta2));
    let piece = rows_per_piece(1);
    let moments = s.m.par_chunks_mut(piece).zip(s.v.par_chunks_mut(piece));
    s.params.par_chunks_mut(piece).zip(s.grads.par_chunks_mut(piece)).zip(moments).for_each(
        |((params, grads), (m, v))| {
            update(hyper, [rate, unbias], AdamSlices { params, grads, m, v });
        },
    );
}

fn update<T: Float>(hyper: &AdamStep, [rate, unbias]: [f64; 2], s: AdamSlices<'_, T>) {
    let keep = 1.0 - hyper.lr * hyper.weight_decay;
    let (beta, rest) = ([hyper.beta1, hyper.beta2], [1.0 - hyper.beta1, 1.0 - hyper.beta2]);
    if let Some(grads) = T::as_f32_mut(s.grads) {
        let vectors = (T::as_f32_mut(s.params), T::as_f32_mut(s.m), T::as_f32_mut(s.v));
        let (Some(params), Some(m), Some(v)) = vectors else { unreachable!("one element type") };
        let narrow = |x: [f64; 2]| x.map(|x| x as f32);
        let (beta, rest, eps) = (narrow(beta), narrow(rest), hyper.eps as f32);
        let rates = AdamRates { keep: keep as f32, beta, rest, rate: rate as f32, unbias: unbias as f32, eps };
        return adam_vectors(Isa::current(), &rates, &mut AdamSlices { params, grads, m, v });
    }
    let f = T::from_f64;
    for (((p, g), m), v) in s.params.iter_mut().zip(s.grads).zip(s.m).zip(s.v) {
        *m = f(beta[0]) * *m + f(rest[0]) * *g;
        *v = f(beta[1]) * *v + f(rest[1]) * *g * *g;
        *p = *p * f(keep) - f(rate) * *m / ((*v * f(unbias)).sqrt() + f(hyper.eps));
        *g = T::ZERO;
    }
}

/// Moves each average towards its value: `average + (1 - decay) * (value - average)`.
///
/// # Panics
///
/// If the lengths differ.
pub fn ema<T: Float>(decay: f64, average: &mut [T], values: &[T]) {
    assert_eq!(average.len(), values.len(), "equal lengths");
    let share = T::from_f64(1.0 - decay);
    let piece = rows_per_piece(1);
    average.par_chunks_mut(piece).zip(values.par_chunks(piece)).for_each(|(average, values)| {
        average.iter_mut().zip(values).for_each(|(average, &value)| *average = *average + share * (value - *average));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_those_of_the_recurrence() {
        for n in [1, 33, 70_000] {
            let value = |i: usize, step: usize| ((i * 31 + step * 17) % 23) as f64 / 7.0 - 1.0;
            let mut average: Vec<f64> = (0..n).map(|i| value(i, 0)).collect();
            for step in 1..5 {
                ema(0.8, &mut average, &(0..n).map(|i| value(i, step)).collect::<Vec<_>>());
            }
            for (i, found) in average.into_iter().enumerate() {
                // The weights of a geometric series, the oldest with what is left.
                let expected: f64 = (0..5)
                    .map(|step| value(i, step) * 0.8f64.powi(4 - step as i32) * if step == 0 { 1.0 } else { 0.2 })
                    .sum();
                assert!((found - expected).abs() < 1e-12, "{i} of {n}: {found}, expected {expected}");
            }
        }
    }

    /// Three updates as the papers write them, one number at a time.
    fn by_hand(grads: [f64; 3], start: f64, hyper: AdamStep) -> [f64; 3] {
        let (mut p, mut m, mut v) = (start, 0.0, 0.0);
        for (g, step) in grads.into_iter().zip(1..) {
            p -= hyper.lr * hyper.weight_decay * p;
            m = hyper.beta1 * m + (1.0 - hyper.beta1) * g;
            v = hyper.beta2 * v + (1.0 - hyper.beta2) * g * g;
            let (m_hat, v_hat) = (m / (1.0 - hyper.beta1.powi(step)), v / (1.0 - hyper.beta2.powi(step)));
            p -= hyper.lr * m_hat / (v_hat.sqrt() + hyper.eps);
        }
        [p, m, v]
    }

    /// An epsilon and a decay that matter, so that their places do.
    const HYPER: AdamStep = AdamStep { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 0.05, weight_decay: 0.3, step: 1 };

    fn grads_of(i: usize) -> [f64; 3] {
        let at = |k: usize| ((i * 37 + k * 11) % 19) as f64 / 19.0 - 0.4;
        [at(1), at(2), 0.01 * at(3)]
    }

    fn check<T: Float>(n: usize, tolerance: f64, mut update_all: impl FnMut(&AdamStep, AdamSlices<'_, T>)) {
        let start = |i: usize| (i % 7) as f64 / 3.0 - 1.0;
        let mut params: Vec<T> = (0..n).map(|i| T::from_f64(start(i))).collect();
        let (mut m, mut v) = (vec![T::ZERO; n], vec![T::ZERO; n]);
        for step in 0..3 {
            let mut grads: Vec<T> = (0..n).map(|i| T::from_f64(grads_of(i)[step])).collect();
            let hyper = AdamStep { step: step as u32 + 1, ..HYPER };
            update_all(&hyper, AdamSlices { params: &mut params, grads: &mut grads, m: &mut m, v: &mut v });
            assert!(grads.iter().all(|g| g.to_f64() == 0.0), "gradients are cleared");
        }
        for i in 0..n {
            let expected = by_hand(grads_of(i), start(i), HYPER);
            let found = [params[i], m[i], v[i]].map(T::to_f64);
            let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= tolerance);
            assert!(near, "{i} of {n}: {found:?}, expected {expected:?}");
        }
    }

    #[test]
    fn updates_are_those_of_the_papers() {
        for n in [1, 7, 8, 33, 1000, 70_000] {
            check::<f64>(n, 1e-12, adam);
            check::<f32>(n, 1e-6, adam);
        }
    }

    #[test]
    fn every_instruction_set_updates_alike() {
        for isa in Isa::available() {
            check::<f32>(45, 1e-6, |hyper, mut s| {
                let debias = |beta: f64| 1.0 - beta.powi(hyper.step as i32);
                let narrow = |x: [f64; 2]| x.map(|x| x as f32);
                let rates = AdamRates {
                    keep: (1.0 - hyper.lr * hyper.weight_decay) as f32,
                    beta: narrow([hyper.beta1, hyper.beta2]),
                    rest: narrow([1.0 - hyper.beta1, 1.0 - hyper.beta2]),
                    rate: (hyper.lr / debias(hyper.beta1)) as f32,
                    unbias: (1.0 / debias(hyper.beta2)) as f32,
                    eps: hyper.eps as f32,
                };
                adam_vectors(isa, &rates, &mut s);
            });
        }
    }
}
