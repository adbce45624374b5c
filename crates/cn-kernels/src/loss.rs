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

#[cfg(test)]
mod tests {
    use super::*;

    /// The slope of `loss` along each logit, by central differences.
    fn slopes(logits: &[f64], loss: impl Fn(&[f64]) -> f64) -> Vec<f64> {
        let step = 1e-5;
        let at = |i: usize, by: f64| {
            let mut moved = logits.to_vec();
            moved[i] += by;
            loss(&moved)
        };
        (0..logits.len()).map(|i| (at(i, step) - at(i, -step)) / (2.0 * step)).collect()
    }

    fn close(found: &[f64], expected: &[f64]) {
        let far = found.iter().zip(expected).find(|(a, b)| (*a - *b).abs() > 1e-9);
        assert!(far.is_none(), "{far:?} of {found:?}");
    }

    const LOGITS: [f64; 6] = [0.3, -1.2, 2.0, -0.7, 0.0, 5.0];

    #[test]
    fn binary_cross_entropy_is_the_mean_of_both_logarithms() {
        let targets = [1.0, 0.0, 0.2, 0.9, 1.0, 0.0];
        let mut d = [0.0; 6];
        let loss = bce_with_logits(&LOGITS, &targets, &mut d);
        let term = |(&x, &t): (&f64, &f64)| {
            let p = 1.0 / (1.0 + (-x).exp());
            -t * p.ln() - (1.0 - t) * (1.0 - p).ln()
        };
        let expected = LOGITS.iter().zip(&targets).map(term).sum::<f64>() / 6.0;
        assert!((loss - expected).abs() < 1e-12, "{loss}, expected {expected}");
        close(&d, &slopes(&LOGITS, |x| bce_with_logits(x, &targets, &mut [0.0; 6])));
    }

    #[test]
    fn binary_cross_entropy_stays_exact_where_logarithms_would_not() {
        // ln(1 + e^-40) is e^-40, of which ln(1.0 + 4e-18) keeps no digit.
        assert!((bce_term(40.0, 1.0) / (-40f64).exp() - 1.0).abs() < 1e-14);
        let mut d = [0f32; 4];
        let loss = bce_with_logits(&[1e4, -1e4, 1e4, -1e4], &[1.0, 0.0, 0.0, 1.0], &mut d);
        assert_eq!((loss, d), (5000.0, [0.0, 0.0, 0.25, -0.25]));
    }

    #[test]
    fn softmax_cross_entropy_takes_any_targets() {
        // A class, a distribution, and targets whose sum is not 1.
        for targets in [[0.0, 1.0, 0.0, 1.0, 0.0, 0.0], [0.1, 0.2, 0.7, 0.5, 0.5, 0.0], [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]]
        {
            let mut d = [0.0; 6];
            let loss = softmax_cross_entropy(3, &LOGITS, &targets, &mut d);
            let row = |(x, t): (&[f64], &[f64])| {
                let total: f64 = x.iter().map(|x| x.exp()).sum();
                x.iter().zip(t).map(|(x, t)| -t * (x.exp() / total).ln()).sum::<f64>()
            };
            let expected = LOGITS.chunks(3).zip(targets.chunks(3)).map(row).sum::<f64>() / 2.0;
            assert!((loss - expected).abs() < 1e-12, "{loss}, expected {expected}");
            close(&d, &slopes(&LOGITS, |x| softmax_cross_entropy(3, x, &targets, &mut [0.0; 6])));
        }
        let mut d = [0f32; 2];
        assert_eq!((softmax_cross_entropy(2, &[1e4, -1e4], &[0.0, 1.0], &mut d), d), (2e4, [1.0, -1.0]));
    }
}
