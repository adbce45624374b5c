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
