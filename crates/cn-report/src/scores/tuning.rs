use serde::Serialize;

use super::answers::Thresholds;
use crate::error::Result;
use crate::run_folder::Predictions;

/// The threshold of one class that gives the best F1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TunedThreshold {
    /// The class's label.
    pub label: String,
    /// What a probability has to exceed.
    pub threshold: f32,
    /// F1 of the class at it, on the images that it was tuned on; `None` where none of them is of the class.
    pub f1: Option<f64>,
}

impl Predictions {
    /// For each class the threshold of the best F1; of equally good ones, the middle of the widest gap between
    /// probabilities. A class without images keeps `default`.
    ///
    /// Tune on images that no number is reported on.
    #[must_use]
    pub fn tune_thresholds(&self, default: f32) -> Vec<TunedThreshold> {
        let of = |class: usize| {
            let rows = self.rows().iter();
            tune(rows.map(|row| (row.probabilities[class], row.targets.binary_search(&class).is_ok())).collect())
        };
        let labels = self.classes().iter().enumerate();
        labels
            .map(|(class, label)| match of(class) {
                Some((threshold, f1)) => TunedThreshold { label: label.clone(), threshold, f1: Some(f1) },
                None => TunedThreshold { label: label.clone(), threshold: default, f1: None },
            })
            .collect()
    }
}

impl Thresholds {
    /// Those of a tuning, in the order of the classes.
    ///
    /// # Errors
    ///
    /// If one is outside 0..=1.
    pub fn tuned(tuned: &[TunedThreshold]) -> Result<Self> {
        Self::per_class(tuned.iter().map(|class| class.threshold).collect())
    }
}

/// The best threshold and its F1.
fn tune(mut pairs: Vec<(f32, bool)>) -> Option<(f32, f64)> {
    pairs.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let positives = pairs.iter().filter(|(_, is)| *is).count();
    if positives == 0 {
        return None;
    }
    let mut best: Option<(f64, f32, f32)> = None; // F1, gap, threshold
    let (mut tp, mut passed) = (0, 0);
    let groups: Vec<_> = pairs.chunk_by(|a, b| a.0 == b.0).collect();
    for (i, tied) in groups.iter().enumerate() {
        tp += tied.iter().filter(|(_, is)| *is).count();
        passed += tied.len();
        let f1 = 2.0 * tp as f64 / (passed + positives) as f64;
        let (above, below) = (tied[0].0, groups.get(i + 1).map_or(0.0, |next| next[0].0));
        if above == below {
            continue; // Nothing lies below a probability of 0: it can never pass.
        }
        let middle = below + (above - below) / 2.0;
        let threshold = if middle < above { middle } else { below };
        let gap = above - below;
        if best.is_none_or(|(other, width, _)| f1 > other || (f1 == other && gap > width)) {
            best = Some((f1, gap, threshold));
        }
    }
    best.map(|(f1, _, threshold)| (threshold, f1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equally_good_thresholds_the_one_in_the_widest_gap_is_taken() {
        // Both the first cut and the last give an F1 of two thirds.
        let at = |probabilities: [f32; 4]| tune(probabilities.into_iter().zip([true, false, false, true]).collect());
        let (threshold, f1) = at([0.9, 0.3, 0.2, 0.1]).expect("positives");
        assert!((threshold - 0.6).abs() < 1e-6 && (f1 - 2.0 / 3.0).abs() < 1e-12);
        assert!((at([0.9, 0.8, 0.7, 0.4]).expect("positives").0 - 0.2).abs() < 1e-6);
    }
}
