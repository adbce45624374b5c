//! Numbers that say how good predictions are.

use crate::Predictions;
use std::fmt;
use std::sync::Arc;

type Score = dyn Fn(&Predictions, &[f32]) -> f64 + Send + Sync;

/// A named number computed from predictions and targets `(N, K)`, over all images at once: what an average over batches,
/// weighted by their sizes, would give.
///
/// ```
/// use cn_learn::{Decode, Metric, Predictions};
///
/// let predictions =
///     Predictions { ids: vec![0, 1], logits: vec![2.0, -2.0, -2.0, -1.0], n_classes: 2, decode: Decode::Sigmoid };
/// let targets = [1.0, 0.0, 0.0, 1.0];
/// assert_eq!(Metric::accuracy_multi(0.5).of(&predictions, &targets), 0.75);
/// assert_eq!(Metric::exact_match(0.5).of(&predictions, &targets), 0.5);
/// assert_eq!(Metric::top1().of(&predictions, &targets), 1.0);
/// ```
#[derive(Clone)]
pub struct Metric {
    name: String,
    score: Arc<Score>,
}

impl Metric {
    /// A metric of one's own: `score` gets the predictions and the targets `(N, K)`.
    pub fn new(name: impl Into<String>, score: impl Fn(&Predictions, &[f32]) -> f64 + Send + Sync + 'static) -> Self {
        Self { name: name.into(), score: Arc::new(score) }
    }

    /// Share of the N K yes/no answers that are right, a yes being a probability above `threshold`; fastai's
    /// `accuracy_multi`. With one label an image and K classes, saying nothing scores 1 - 1/K.
    #[must_use]
    pub fn accuracy_multi(threshold: f64) -> Self {
        Self::new("accuracy_multi", move |predictions, targets| {
            let answers = predictions.above(threshold);
            share(answers.iter().zip(targets).map(|(&yes, &t)| yes == is_set(t)))
        })
    }

    /// Share of the images with all K answers right at `threshold`.
    #[must_use]
    pub fn exact_match(threshold: f64) -> Self {
        Self::new("exact_match", move |predictions, targets| {
            let (answers, k) = (predictions.above(threshold), predictions.n_classes.max(1));
            let right = |(yes, t): (&[bool], &[f32])| yes.iter().zip(t).all(|(&yes, &t)| yes == is_set(t));
            share(answers.chunks_exact(k).zip(targets.chunks_exact(k)).map(right))
        })
    }

    /// Share of the images with labels whose largest logit belongs to one of them.
    #[must_use]
    pub fn top1() -> Self {
        Self::new("top1", |predictions, targets| {
            let rows = targets.chunks_exact(predictions.n_classes.max(1));
            let labelled = predictions.top1().into_iter().zip(rows).filter(|(_, t)| t.iter().any(|&t| is_set(t)));
            share(labelled.map(|(class, t)| class.is_some_and(|class| is_set(t[class]))))
        })
    }

    /// The name, a key of records and a column of tables.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value; NaN for no images.
    #[must_use]
    pub fn of(&self, predictions: &Predictions, targets: &[f32]) -> f64 {
        (self.score)(predictions, targets)
    }
}

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metric").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Right and wrong answers about one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassCounts {
    /// Images of the class that got it.
    pub true_positives: usize,
    /// Images that got it and are not of the class.
    pub false_positives: usize,
    /// Images of the class that did not get it.
    pub false_negatives: usize,
}

impl ClassCounts {
    /// Counts of each class, a yes being a probability above `threshold`. `targets`: `(N, K)`.
    #[must_use]
    pub fn of(predictions: &Predictions, targets: &[f32], threshold: f64) -> Vec<Self> {
        let mut counts = vec![Self::default(); predictions.n_classes];
        for (i, (yes, &target)) in predictions.above(threshold).into_iter().zip(targets).enumerate() {
            let count = &mut counts[i % predictions.n_classes];
            match (yes, is_set(target)) {
                (true, true) => count.true_positives += 1,
                (true, false) => count.false_positives += 1,
                (false, true) => count.false_negatives += 1,
                (false, false) => {}
            }
        }
        counts
    }

    /// Images of the class.
    #[must_use]
    pub fn support(&self) -> usize {
        self.true_positives + self.false_negatives
    }

    /// Share of the images that got the class and are of it; 0 if none got it.
    #[must_use]
    pub fn precision(&self) -> f64 {
        ratio(self.true_positives, self.true_positives + self.false_positives)
    }

    /// Share of the images of the class that got it; 0 if there are none.
    #[must_use]
    pub fn recall(&self) -> f64 {
        ratio(self.true_positives, self.support())
    }

    /// Harmonic mean of precision and recall; 0 if both are.
    #[must_use]
    pub fn f1(&self) -> f64 {
        ratio(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)
    }
}

/// Whether a target says yes.
fn is_set(target: f32) -> bool {
    target > 0.5
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn share(right: impl Iterator<Item = bool>) -> f64 {
    let (hits, n) = right.fold((0usize, 0usize), |(hits, n), right| (hits + usize::from(right), n + 1));
    hits as f64 / n as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Decode;
    use crate::golden::{floats, golden, numbers};

    fn golden_batch() -> (Predictions, Vec<f32>, serde_json::Value) {
        let want = golden("ops")["accuracy_multi"].clone();
        let logits: Vec<f32> = want["logits"].as_array().expect("rows").iter().flat_map(floats).collect();
        let mut targets = vec![0.0; logits.len()];
        for (image, class) in numbers(&want["target_class"]).into_iter().enumerate() {
            targets[image * 15 + class as usize] = 1.0;
        }
        (Predictions { ids: (0..8).collect(), logits, n_classes: 15, decode: Decode::Sigmoid }, targets, want)
    }

    #[test]
    fn metrics_are_fastais() {
        let (predictions, targets, want) = golden_batch();
        let check = |metric: Metric, key: &str| {
            let (got, want) = (metric.of(&predictions, &targets), want[key].as_f64().expect("a number"));
            assert!((got - want).abs() < 1e-6, "{key}: {got} against {want}");
        };
        check(Metric::accuracy_multi(0.2), "thresh_0_2");
        check(Metric::accuracy_multi(0.5), "thresh_0_5");
        check(Metric::exact_match(0.2), "exact_match_0_2");
        check(Metric::exact_match(0.5), "exact_match_0_5");
        check(Metric::top1(), "top1");
    }

    #[test]
    fn a_metric_over_all_images_is_the_weighted_mean_over_batches() {
        let (predictions, targets, want) = golden_batch();
        let want = &want["batches_5_and_3"];
        let metric = Metric::accuracy_multi(0.2);
        let k = predictions.n_classes;
        let of = |images: std::ops::Range<usize>| {
            let logits = predictions.logits[images.start * k..images.end * k].to_vec();
            let part = Predictions { ids: predictions.ids[images.clone()].to_vec(), logits, ..predictions.clone() };
            metric.of(&part, &targets[images.start * k..images.end * k])
        };
        let batches = [of(0..5), of(5..8)];
        // fastai's are f32.
        for (got, want) in batches.iter().zip(numbers(&want["batch_values"])) {
            assert!((got - want).abs() < 1e-7, "{got} against {want}");
        }
        let weighted = want["weighted"].as_f64().expect("a number");
        assert!((metric.of(&predictions, &targets) - weighted).abs() < 1e-7);
        assert!(((5.0 * batches[0] + 3.0 * batches[1]) / 8.0 - weighted).abs() < 1e-7);
    }

    #[test]
    fn counts_add_up_to_the_golden_confusion() {
        let (predictions, targets, _) = golden_batch();
        let want = &golden("ops")["multilabel_confusion_0_5"];
        let counts = ClassCounts::of(&predictions, &targets, 0.5);
        let total = |of: fn(&ClassCounts) -> usize| Some(counts.iter().map(of).sum::<usize>() as u64);
        assert_eq!(total(|c| c.true_positives), want["true_positive"].as_u64());
        assert_eq!(total(|c| c.false_positives), want["false_positive"].as_u64());
        assert_eq!(total(|c| c.false_negatives), want["false_negative"].as_u64());
    }

    #[test]
    fn a_class_that_never_comes_has_zeros() {
        let none = ClassCounts::default();
        assert_eq!((none.precision(), none.recall(), none.f1()), (0.0, 0.0, 0.0));
        let some = ClassCounts { true_positives: 3, false_positives: 1, false_negatives: 2 };
        assert_eq!((some.precision(), some.recall(), some.support()), (0.75, 0.6, 5));
        assert!((some.f1() - 2.0 / (1.0 / 0.75 + 1.0 / 0.6)).abs() < 1e-12);
    }

    #[test]
    fn saying_nothing_scores_high_where_it_should_not() {
        let silent = Predictions { ids: vec![0], logits: vec![-9.0; 15], n_classes: 15, decode: Decode::Sigmoid };
        let mut targets = [0.0; 15];
        targets[3] = 1.0;
        assert!((Metric::accuracy_multi(0.5).of(&silent, &targets) - 14.0 / 15.0).abs() < 1e-12);
        assert_eq!(Metric::exact_match(0.5).of(&silent, &targets), 0.0);
    }

    /// Three images of two classes: logits, and targets that say yes above one half.
    fn three() -> (Predictions, [f32; 6]) {
        let logits = vec![3.0, -3.0, 3.0, 3.0, -3.0, 3.0];
        (
            Predictions { ids: vec![0, 1, 2], logits, n_classes: 2, decode: Decode::Sigmoid },
            [1.0, 0.0, 0.0, 1.0, 1.0, 1.0],
        )
    }

    #[test]
    fn counts_are_those_of_each_class() {
        let (predictions, targets) = three();
        let of = |true_positives, false_positives, false_negatives| ClassCounts {
            true_positives,
            false_positives,
            false_negatives,
        };
        assert_eq!(ClassCounts::of(&predictions, &targets, 0.5), [of(1, 1, 1), of(2, 0, 0)]);
    }

    #[test]
    fn a_smoothed_target_says_what_it_is_nearer_to() {
        let (predictions, hard) = three();
        let soft = hard.map(|t| 0.9 * t + 0.05);
        for metric in [Metric::accuracy_multi(0.5), Metric::exact_match(0.5), Metric::top1()] {
            assert_eq!(metric.of(&predictions, &soft), metric.of(&predictions, &hard), "{metric:?}");
        }
        assert_eq!(ClassCounts::of(&predictions, &soft, 0.5), ClassCounts::of(&predictions, &hard, 0.5));
    }

    #[test]
    fn no_images_have_no_score() {
        let none = Predictions { ids: vec![], logits: vec![], n_classes: 3, decode: Decode::Softmax };
        for metric in [Metric::accuracy_multi(0.5), Metric::exact_match(0.5), Metric::top1()] {
            assert!(metric.of(&none, &[]).is_nan(), "{metric:?}");
        }
    }
}
