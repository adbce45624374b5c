use serde::Serialize;

use crate::run_folder::Predictions;

/// How well the probabilities of one class order the images, whatever the threshold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassRanking {
    /// The class's label.
    pub label: String,
    /// What the order is worth.
    #[serde(flatten)]
    pub ranking: Ranking,
}

/// Numbers of an order, without a threshold; equal to scikit-learn's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ranking {
    /// Sum of `(R_i - R_(i-1)) P_i` over the distinct probabilities; `None` without images of the class.
    pub average_precision: Option<f64>,
    /// Chance that an image of the class has a higher probability than one of the rest, equal ones counted as half;
    /// `None` without images of either kind.
    pub roc_auc: Option<f64>,
}

impl Predictions {
    /// How well each class is told from the rest.
    #[must_use]
    pub fn class_rankings(&self) -> Vec<ClassRanking> {
        let of = |class: usize| {
            let images = self.rows().iter();
            ranking(images.map(|row| (row.probabilities[class], row.targets.binary_search(&class).is_ok())).collect())
        };
        let labels = self.classes().iter().enumerate();
        labels.map(|(class, label)| ClassRanking { label: label.clone(), ranking: of(class) }).collect()
    }

    /// All yes/no answers as one class.
    pub(super) fn micro_ranking(&self) -> Ranking {
        let answers = self.rows().iter().flat_map(|row| {
            let classes = row.probabilities.iter().enumerate();
            classes.map(|(class, &p)| (p, row.targets.binary_search(&class).is_ok()))
        });
        ranking(answers.collect())
    }
}

/// Average precision and area under the curve of (probability, is it) pairs.
fn ranking(mut pairs: Vec<(f32, bool)>) -> Ranking {
    pairs.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let positives = pairs.iter().filter(|(_, is)| *is).count();
    let negatives = pairs.len() - positives;
    let (mut tp, mut fp, mut precision_sum, mut above) = (0, 0, 0.0, 0.0);
    for tied in pairs.chunk_by(|a, b| a.0 == b.0) {
        let hits = tied.iter().filter(|(_, is)| *is).count();
        let misses = tied.len() - hits;
        // Each hit stands above the negatives that are yet to come, and half above those beside it.
        above += hits as f64 * ((negatives - fp - misses) as f64 + misses as f64 / 2.0);
        (tp, fp) = (tp + hits, fp + misses);
        precision_sum += hits as f64 * tp as f64 / (tp + fp) as f64;
    }
    Ranking {
        average_precision: (positives > 0).then(|| precision_sum / positives as f64),
        roc_auc: (positives > 0 && negatives > 0).then(|| above / (positives as f64 * negatives as f64)),
    }
}
