use serde::Serialize;

use crate::run_folder::{Prediction, Predictions};

/// Whether probabilities mean what they say.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// Expected calibration error (Guo et al., arXiv:1706.04599): how far confidence is from the share that is right, a
    /// mean over the bins by their images. NaN without images.
    pub ece: f64,
    /// Mean squared distance of the probabilities from 0 and 1, over all images and classes (Brier 1950).
    pub brier: f64,
    /// The reliability curve: bins that hold images, by confidence.
    pub bins: Vec<ReliabilityBin>,
}

/// Images of about the same confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ReliabilityBin {
    /// Confidence in the bin is above this (the first bin also holds 0) ...
    pub low: f64,
    /// ... up to this.
    pub high: f64,
    /// Images in it.
    pub count: usize,
    /// Their mean confidence: the probability of the most probable class.
    pub confidence: f64,
    /// The share of them whose most probable class is right.
    pub accuracy: f64,
}

impl Predictions {
    /// How far the probability of the most probable class is from the chance that it is right, in `n_bins` bins of one
    /// width.
    ///
    /// # Panics
    ///
    /// If `n_bins` is 0.
    #[must_use]
    pub fn calibration(&self, n_bins: usize) -> Calibration {
        assert!(n_bins > 0, "a curve needs a bin");
        let edge = |i: usize| i as f64 / n_bins as f64;
        let mut bins: Vec<Vec<(f64, bool)>> = vec![Vec::new(); n_bins];
        for row in self.rows() {
            let (confidence, right) = confidence(row);
            // As in scikit-learn, an edge belongs to the bin below it.
            let bin = (1..n_bins).filter(|&i| edge(i) < confidence).count();
            bins[bin].push((confidence, right));
        }
        let filled = bins.into_iter().enumerate().filter(|(_, images)| !images.is_empty());
        let bins: Vec<_> = filled.map(|(i, images)| reliability([edge(i), edge(i + 1)], images)).collect();
        let n = self.rows().len() as f64;
        let off: f64 = bins.iter().map(|bin| (bin.accuracy - bin.confidence).abs() * bin.count as f64).sum();
        Calibration { ece: off / n, brier: self.brier(), bins }
    }

    fn brier(&self) -> f64 {
        let mut images: Vec<f64> = self.rows().iter().map(squared_distance).collect();
        // Sorted, the sum is the same in whatever order the images came.
        images.sort_unstable_by(f64::total_cmp);
        images.iter().sum::<f64>() / (images.len() * self.classes().len()) as f64
    }
}

fn confidence(row: &Prediction) -> (f64, bool) {
    let class = row.most_probable();
    (f64::from(row.probabilities[class]), row.targets.contains(&class))
}

fn reliability([low, high]: [f64; 2], mut images: Vec<(f64, bool)>) -> ReliabilityBin {
    images.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let n = images.len() as f64;
    let right = images.iter().filter(|(_, right)| *right).count();
    let confidence = images.iter().map(|(confidence, _)| confidence).sum::<f64>() / n;
    ReliabilityBin { low, high, count: images.len(), confidence, accuracy: right as f64 / n }
}

fn squared_distance(row: &Prediction) -> f64 {
    let classes = row.probabilities.iter().enumerate();
    let off = classes.map(|(class, &p)| f64::from(p) - f64::from(u8::from(row.targets.binary_search(&class).is_ok())));
    off.map(|off| off * off).sum()
}
