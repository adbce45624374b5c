//! The training loss that people watch.

use serde::{Deserialize, Serialize};

/// Weight of the past in the smoothed training loss, as in fastai.
const BETA: f32 = 0.98;

/// Exponentially smoothed training loss with the bias towards zero taken out: what fastai shows as `train_loss`.
///
/// ```
/// let mut loss = cn_learn::SmoothLoss::default();
/// loss.add(2.0);
/// loss.add(1.0);
/// assert!((loss.value().unwrap_or_default() - 1.494949).abs() < 1e-5);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SmoothLoss {
    // The bits, since JSON has no NaN and the continued run must have the same value.
    sum_bits: u32,
    n: u64,
}

impl SmoothLoss {
    /// Takes in the loss of the next batch. In `f32`, rounded as torch's `lerp` does.
    pub fn add(&mut self, loss: f32) {
        let sum = f32::from_bits(self.sum_bits);
        self.sum_bits = (sum - (sum - loss) * (1.0 - BETA)).to_bits();
        self.n += 1;
    }

    /// Batches so far.
    pub(crate) fn n_steps(&self) -> u64 {
        self.n
    }

    /// The smoothed loss, or `None` before the first batch.
    #[must_use]
    pub fn value(&self) -> Option<f32> {
        let past = BETA_F64.powf(self.n as f64);
        (self.n > 0).then(|| (f64::from(f32::from_bits(self.sum_bits)) / (1.0 - past)) as f32)
    }
}

/// The same weight for the bias, which fastai computes in `f64`.
const BETA_F64: f64 = 0.98;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{floats, golden};

    #[test]
    fn smoothing_is_fastais() {
        let want = &golden("ops")["avg_smooth_loss"];
        let mut loss = SmoothLoss::default();
        assert_eq!(loss.value(), None);
        for (raw, smoothed) in floats(&want["raw"]).into_iter().zip(floats(&want["smoothed"])) {
            loss.add(raw);
            let got = loss.value().expect("a batch");
            assert!((got / smoothed - 1.0).abs() < 2e-6, "{got} against {smoothed}");
        }
    }

    #[test]
    fn nan_survives_json() {
        let mut loss = SmoothLoss::default();
        loss.add(f32::NAN);
        let text = serde_json::to_string(&loss).expect("plain numbers");
        let again: SmoothLoss = serde_json::from_str(&text).expect("what was written");
        assert!(again.value().is_some_and(f32::is_nan));
    }
}
