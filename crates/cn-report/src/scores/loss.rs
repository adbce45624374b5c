use serde::Serialize;

use crate::run_folder::{Prediction, Predictions};

/// The least that `ln (1 - p)` of an f32 probability can tell: a logit above 17.3 rounds to probability 1, which then
/// stands for all of `1 - 2^-25 ..= 1`.
const LN_HALF_ULP: f64 = -25.0 * std::f64::consts::LN_2;
/// The same of `ln p`: what is below half the smallest f32, 2^-149, rounds to 0.
const LN_HALF_LEAST: f64 = -150.0 * std::f64::consts::LN_2;

/// The loss of one image.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ImageLoss {
    /// Index into [`Predictions::rows`].
    pub row: usize,
    /// Mean binary cross-entropy over the classes.
    pub loss: f64,
}

impl Predictions {
    /// Mean binary cross-entropy over all images and classes, in f64; NaN without images.
    ///
    /// `ln (1 - p)` is taken as at least `-25 ln 2` = -17.3: an f32 probability of exactly 1 stands for anything nearer
    /// to 1 than half a step of f32, so this is the most that such a table can prove; `ln p` as at least `-150 ln 2`.
    /// That matters only where a model is wrong and certain beyond a logit of 17; [`bce_with_logits`] gives the exact
    /// value.
    #[must_use]
    pub fn loss(&self) -> f64 {
        let mut losses: Vec<f64> = self.rows().iter().map(image_loss).collect();
        // Sorted, the sum is the same in whatever order the images came.
        losses.sort_unstable_by(f64::total_cmp);
        losses.iter().sum::<f64>() / losses.len() as f64
    }

    /// The loss of each image, in the order of the rows; clamped as in [`Predictions::loss`].
    #[must_use]
    pub fn image_losses(&self) -> Vec<ImageLoss> {
        let losses = self.rows().iter().map(image_loss);
        losses.enumerate().map(|(row, loss)| ImageLoss { row, loss }).collect()
    }

    /// The `n` images with the highest loss, highest first; equal ones by path.
    #[must_use]
    pub fn top_losses(&self, n: usize) -> Vec<ImageLoss> {
        let mut losses = self.image_losses();
        let path = |image: &ImageLoss| &self.rows()[image.row].path;
        losses.sort_by(|a, b| b.loss.total_cmp(&a.loss).then_with(|| path(a).cmp(path(b))));
        losses.truncate(n);
        losses
    }
}

fn image_loss(row: &Prediction) -> f64 {
    let terms = row.probabilities.iter().enumerate().map(|(class, &p)| {
        let p = f64::from(p);
        let is_target = row.targets.binary_search(&class).is_ok();
        -if is_target { p.ln().max(LN_HALF_LEAST) } else { (-p).ln_1p().max(LN_HALF_ULP) }
    });
    terms.sum::<f64>() / row.probabilities.len() as f64
}

/// Mean binary cross-entropy of logits, exact for any finite logit: `max(x, 0) - x t + ln(1 + e^-|x|)` in f64.
///
/// - `logits`, `targets`: (B, K) row-major, of one length; targets are 0 or 1, values between are allowed.
///
/// Returns NaN without values or with a NaN among them.
///
/// # Panics
///
/// If the lengths differ.
#[must_use]
pub fn bce_with_logits(logits: &[f32], targets: &[f32]) -> f64 {
    assert_eq!(logits.len(), targets.len(), "a target for each logit");
    let terms = logits.iter().zip(targets).map(|(&x, &t)| {
        let (x, t) = (f64::from(x), f64::from(t));
        x.max(0.0) - x * t + (-x.abs()).exp().ln_1p()
    });
    // `max` would turn a NaN logit into 0, but `x * t` keeps it.
    terms.sum::<f64>() / logits.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sure_mistakes_cost_what_their_logarithm_says() {
        let loss = |p: f32, targets: Vec<usize>| {
            image_loss(&Prediction { path: "a".into(), group: None, targets, probabilities: vec![p] })
        };
        for p in [0.5f32, 1e-3, 1e-12, 1e-30, 1e-38] {
            assert!((loss(p, vec![0]) + f64::from(p).ln()).abs() < 1e-12, "{p}");
            assert!((loss(p, vec![]) + (-f64::from(p)).ln_1p()).abs() < 1e-12, "{p}");
        }
        assert!(loss(0.0, vec![0]).is_finite() && loss(0.0, vec![0]) > loss(f32::MIN_POSITIVE, vec![0]));
        assert_eq!(loss(1.0, vec![]), 25.0 * std::f64::consts::LN_2);
    }
}
