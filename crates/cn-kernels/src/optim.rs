//! Optimizer updates over flat slices.

use crate::Float;
use crate::parallel::rows_per_piece;
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
    /// Their gradients.
    pub grads: &'a [T],
    /// First moments.
    pub m: &'a mut [T],
    /// Second moments.
    pub v: &'a mut [T],
}

/// One Adam update with decoupled decay (arXiv:1412.6980), the bias corrected by the current `beta1` as fastai does.
///
/// # Panics
///
/// If the lengths differ, or `step` is 0.
pub fn adam<T: Float>(hyper: &AdamStep, s: AdamSlices<'_, T>) {
    let n = s.params.len();
    assert!(s.grads.len() == n && s.m.len() == n && s.v.len() == n, "equal lengths");
    assert!(hyper.step > 0, "steps count from 1");
    let debias = |beta: f64| 1.0 - beta.powi(i32::try_from(hyper.step).unwrap_or(i32::MAX));
    let f = T::from_f64;
    let (keep, b1, b2) = (f(1.0 - hyper.lr * hyper.weight_decay), f(hyper.beta1), f(hyper.beta2));
    let (c1, c2, eps) = (f(1.0 - hyper.beta1), f(1.0 - hyper.beta2), f(hyper.eps));
    let (rate, inv2) = (f(hyper.lr / debias(hyper.beta1)), f(1.0 / debias(hyper.beta2)));
    let piece = rows_per_piece(1);
    let moments = s.m.par_chunks_mut(piece).zip(s.v.par_chunks_mut(piece));
    s.params.par_chunks_mut(piece).zip(s.grads.par_chunks(piece)).zip(moments).for_each(|((p, g), (m, v))| {
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            *m = b1 * *m + c1 * *g;
            *v = b2 * *v + c2 * *g * *g;
            *p = *p * keep - rate * *m / ((*v * inv2).sqrt() + eps);
        }
    });
}
