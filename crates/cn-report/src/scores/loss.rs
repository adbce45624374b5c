use serde::Serialize;

use crate::run_folder::{Activation, Prediction, Predictions};

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
    /// What the model was trained to lower, see [`Predictions::loss`].
    pub loss: f64,
}

impl Predictions {
    /// Mean loss of probabilities that `activation` gave, in f64; NaN without images: binary cross-entropy over images and
    /// classes for [`Activation::Sigmoid`], cross-entropy `-ln p(true class)` over images for [`Activation::Softmax`].
    ///
    /// `ln (1 - p)` is taken as at least `-25 ln 2` = -17.3: an f32 probability of exactly 1 stands for anything nearer
    /// to 1 than half a step of f32, so this is the most that such a table can prove; `ln p` as at least `-150 ln 2`.
    /// That matters only where a model is wrong and certain beyond a logit of 17; [`bce_with_logits`] gives the exact
    /// value.
    #[must_use]
    pub fn loss(&self, activation: Activation) -> f64 {
        let mut losses: Vec<f64> = self.rows().iter().map(|row| image_loss(row, activation)).collect();
        // Sorted, the sum is the same in whatever order the images came.
        losses.sort_unstable_by(f64::total_cmp);
        losses.iter().sum::<f64>() / losses.len() as f64
    }

    /// The loss of each image, in the order of the rows; clamped as in [`Predictions::loss`].
    #[must_use]
    pub fn image_losses(&self, activation: Activation) -> Vec<ImageLoss> {
        let losses = self.rows().iter().map(|row| image_loss(row, activation));
        losses.enumerate().map(|(row, loss)| ImageLoss { row, loss }).collect()
    }

    /// The `n` images with the highest loss, highest first; equal ones by path.
    #[must_use]
    pub fn top_losses(&self, n: usize, activation: Activation) -> Vec<ImageLoss> {
        let mut losses = self.image_losses(activation);
        let path = |image: &ImageLoss| &self.rows()[image.row].path;
        losses.sort_by(|a, b| b.loss.total_cmp(&a.loss).then_with(|| path(a).cmp(path(b))));
        losses.truncate(n);
        losses
    }
}

fn image_loss(row: &Prediction, activation: Activation) -> f64 {
    let ln = |p: f32| f64::from(p).ln().max(LN_HALF_LEAST);
    if activation == Activation::Softmax {
        return -row.targets.iter().map(|&class| ln(row.probabilities[class])).sum::<f64>();
    }
    let terms = row.probabilities.iter().enumerate().map(|(class, &p)| {
        let is_target = row.targets.binary_search(&class).is_ok();
        -if is_target { ln(p) } else { (-f64::from(p)).ln_1p().max(LN_HALF_ULP) }
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
            let row = Prediction { path: "a".into(), group: None, targets, probabilities: vec![p] };
            image_loss(&row, Activation::Sigmoid)
        };
        for p in [0.5f32, 1e-3, 1e-12, 1e-30, 1e-38] {
            assert!((loss(p, vec![0]) + f64::from(p).ln()).abs() < 1e-12, "{p}");
            assert!((loss(p, vec![]) + (-f64::from(p)).ln_1p()).abs() < 1e-12, "{p}");
        }
        assert!(loss(0.0, vec![0]).is_finite() && loss(0.0, vec![0]) > loss(f32::MIN_POSITIVE, vec![0]));
        assert_eq!(loss(1.0, vec![]), 25.0 * std::f64::consts::LN_2);
    }

    #[test]
    fn one_of_several_classes_costs_the_logarithm_of_its_probability() {
        let mut table = Predictions::new(["a", "b"]).unwrap();
        for (path, target, p) in [("1", 0, [0.75, 0.25]), ("2", 0, [0.5, 0.5]), ("3", 1, [1.0, 0.0])] {
            let probabilities = p.to_vec();
            table.push(Prediction { path: path.into(), group: None, targets: vec![target], probabilities }).unwrap();
        }
        let expected = [-(0.75f64.ln()), 2f64.ln(), 150.0 * 2f64.ln()];
        let found: Vec<f64> = table.image_losses(Activation::Softmax).iter().map(|image| image.loss).collect();
        assert_eq!(found, expected);
        assert!((table.loss(Activation::Softmax) - expected.iter().sum::<f64>() / 3.0).abs() < 1e-12);
        assert_eq!(table.top_losses(1, Activation::Softmax)[0].row, 2);
        assert!(table.loss(Activation::Sigmoid) < table.loss(Activation::Softmax));
    }
}
