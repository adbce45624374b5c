//! Losses over logits `(B, K)`, with their gradients, finite for every finite logit.

use crate::Float;

/// Binary cross-entropy with logits, the mean over all `B * K` entries: `max(x, 0) - x t + ln(1 + e^-|x|)`.
///
/// Returns the loss; `d_logits` receives its gradient, `(sigmoid(x) - t) / (B K)`. Computed in `f64` inside.
///
/// # Panics
///
/// If the lengths differ or are zero.
pub fn bce_with_logits<T: Float>(logits: &[T], targets: &[T], d_logits: &mut [T]) -> f64 {
    assert!(!logits.is_empty() && logits.len() == targets.len() && logits.len() == d_logits.len(), "equal lengths");
    let n = logits.len() as f64;
    let mut sum = 0.0;
    for ((x, t), d) in logits.iter().zip(targets).zip(d_logits) {
        let (x, t) = (x.to_f64(), t.to_f64());
        sum += bce_term(x, t);
        *d = T::from_f64((sigmoid(x) - t) / n);
    }
    sum / n
}

/// One term of the binary cross-entropy with logits.
#[must_use]
pub fn bce_term(x: f64, t: f64) -> f64 {
    x.max(0.0) - x * t + (-x.abs()).exp().ln_1p()
}

/// `1 / (1 + e^-x)` without overflow.
#[must_use]
pub fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// Cross-entropy of softmax with targets that are a distribution over the `n_classes` of each row; the mean over rows.
///
/// Returns the loss; `d_logits` receives its gradient, `(softmax(x) sum(t) - t) / B`. Computed in `f64` inside.
///
/// # Panics
///
/// If the lengths differ, are zero, or are not whole rows.
pub fn softmax_cross_entropy<T: Float>(n_classes: usize, logits: &[T], targets: &[T], d_logits: &mut [T]) -> f64 {
    assert!(!logits.is_empty() && logits.len() == targets.len() && logits.len() == d_logits.len(), "equal lengths");
    assert!(n_classes > 0 && logits.len().is_multiple_of(n_classes), "whole rows of {n_classes} classes");
    let rows = (logits.len() / n_classes) as f64;
    let mut sum = 0.0;
    let all = logits.chunks_exact(n_classes).zip(targets.chunks_exact(n_classes));
    for ((x, t), d) in all.zip(d_logits.chunks_exact_mut(n_classes)) {
        let max = x.iter().map(|x| x.to_f64()).fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = x.iter().map(|x| (x.to_f64() - max).exp()).sum();
        let mass: f64 = t.iter().map(|t| t.to_f64()).sum();
        for ((x, t), d) in x.iter().zip(t).zip(d) {
            let (x, t) = (x.to_f64() - max, t.to_f64());
            sum += t * (total.ln() - x);
            *d = T::from_f64((x.exp() / total * mass - t) / rows);
        }
    }
    sum / rows
}
