use serde::Serialize;

use super::answers::Answers;
use super::classes::ClassScore;
use super::ranking::Ranking;

/// Precision, recall, F1 and the rest over all classes, in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Averages {
    /// Mean over the classes: each counts the same, however few its images.
    #[serde(rename = "macro")]
    pub macro_: Average,
    /// Over all yes/no answers: each counts the same, so that large classes weigh more.
    pub micro: Average,
    /// Classes that the means of average precision and ROC AUC leave out: those without images here, or with all of them.
    pub n_unranked: usize,
}

/// One kind of average.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Average {
    /// A class that never passes counts as 0, as in scikit-learn.
    pub precision: f64,
    /// A class without images counts as 0.
    pub recall: f64,
    /// A class without both counts as 0.
    pub f1: f64,
    /// Classes without images are left out.
    #[serde(flatten)]
    pub ranking: Ranking,
}

impl Answers<'_> {
    /// Averages over the classes, equal to scikit-learn's with `zero_division=0`.
    #[must_use]
    pub fn averages(&self) -> Averages {
        let scores = self.class_scores();
        let [[_, fp], [fn_, tp]] = self.multilabel_bits();
        let ratio = |part: usize, whole: usize| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let mean = |of: fn(&ClassScore) -> Option<f64>| {
            scores.iter().map(|score| of(score).unwrap_or(0.0)).sum::<f64>() / scores.len() as f64
        };
        Averages {
            macro_: Average {
                precision: mean(|score| score.precision),
                recall: mean(|score| score.recall),
                f1: mean(|score| score.f1),
                ranking: self.macro_ranking(),
            },
            micro: Average {
                precision: ratio(tp, tp + fp),
                recall: ratio(tp, tp + fn_),
                f1: ratio(2 * tp, 2 * tp + fp + fn_),
                ranking: self.table().micro_ranking(),
            },
            n_unranked: self.table().class_rankings().iter().filter(|class| class.ranking.roc_auc.is_none()).count(),
        }
    }

    fn macro_ranking(&self) -> Ranking {
        let rankings = self.table().class_rankings();
        let mean = |of: fn(&Ranking) -> Option<f64>| {
            let known: Vec<f64> = rankings.iter().filter_map(|class| of(&class.ranking)).collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        };
        Ranking { average_precision: mean(|r| r.average_precision), roc_auc: mean(|r| r.roc_auc) }
    }
}
