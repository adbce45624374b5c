//! Where a run is, and what each epoch brought.

use serde::{Deserialize, Serialize};

/// Where a learner is in its phases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Index of the phase in the plan.
    pub phase: usize,
    /// Whether the phase has begun: what is frozen is set, moments are forgotten.
    pub phase_started: bool,
    /// Epoch within the phase.
    pub epoch: usize,
    /// Optimizer steps done in this epoch.
    pub step: usize,
    /// Epochs done over the learner's life, over all fits; the key of everything random.
    pub epochs_done: u32,
    /// Optimizer steps done over the learner's life.
    pub steps_done: u64,
}

impl Position {
    /// Whether an epoch was just done, and nothing of the next one.
    #[must_use]
    pub fn is_whole_epoch(&self) -> bool {
        self.step == 0 && self.epochs_done > 0
    }
}

/// Mean and scores of one epoch, a line of a table of results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Index of the phase in its plan.
    pub phase: usize,
    /// Epoch within the phase, from 0.
    pub epoch: usize,
    /// Optimizer steps over the learner's life, this epoch included.
    pub step: u64,
    /// Rates of the last step, one a group.
    pub lr: Vec<f64>,
    /// Momentum of the last step.
    pub momentum: f64,
    /// Smoothed training loss at the end of the epoch.
    #[serde(with = "nan_as_null")]
    pub train_loss: f64,
    /// Mean loss over the validation part; NaN without one.
    #[serde(with = "nan_as_null")]
    pub val_loss: f64,
    /// Metrics by name, in the order in which they were asked for.
    pub metrics: Vec<(String, Score)>,
}

/// A number that JSON can hold, NaN as `null`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Score(#[serde(with = "nan_as_null")] pub f64);

impl EpochRecord {
    /// The number called `name`: `train_loss`, `val_loss` (or fastai's `valid_loss`), or a metric.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        match name {
            "train_loss" => Some(self.train_loss),
            "val_loss" | "valid_loss" => Some(self.val_loss),
            _ => self.metrics.iter().find(|(n, _)| n == name).map(|(_, score)| score.0),
        }
    }

    /// What [`EpochRecord::get`] knows.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let losses = ["train_loss", "val_loss"].map(String::from);
        losses.into_iter().chain(self.metrics.iter().map(|(name, _)| name.clone())).collect()
    }
}

/// JSON has no NaN and no infinity.
mod nan_as_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_json() -> serde_json::Result<()> {
        let record = EpochRecord {
            phase: 1,
            epoch: 2,
            step: 3,
            lr: vec![1e-5 / 3.0, 1e-3 / 7.0],
            momentum: 0.1 + 0.2,
            train_loss: 0.1f32.into(),
            val_loss: f64::NAN,
            metrics: vec![("top1".into(), Score(1.0 / 3.0))],
        };
        let again: EpochRecord = serde_json::from_str(&serde_json::to_string(&record)?)?;
        assert!(again.val_loss.is_nan());
        assert_eq!(EpochRecord { val_loss: 0.0, ..again.clone() }, EpochRecord { val_loss: 0.0, ..record });
        assert_eq!((again.get("top1"), again.get("loss")), (Some(1.0 / 3.0), None));
        assert_eq!(again.names(), ["train_loss", "val_loss", "top1"]);
        Ok(())
    }
}
