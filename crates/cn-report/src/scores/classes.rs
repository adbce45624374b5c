use serde::Serialize;

use super::answers::Answers;

/// One class against the rest: a 2x2 table and what follows from it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassScore {
    /// The class's label.
    pub label: String,
    /// Images that are it and pass.
    pub true_positive: usize,
    /// Images that are not it and pass.
    pub false_positive: usize,
    /// Images that are it and do not pass.
    pub false_negative: usize,
    /// Images that are not it and do not pass.
    pub true_negative: usize,
    /// Images that are it.
    pub support: usize,
    /// Of the images that pass, the share that are it; `None` where none passes.
    pub precision: Option<f64>,
    /// Of the images that are it, the share that pass; `None` where none is it.
    pub recall: Option<f64>,
    /// Harmonic mean of both, `2 tp / (2 tp + fp + fn)`; `None` where no image is it and none passes.
    pub f1: Option<f64>,
}

/// True class by predicted class, with a column for images that no class was given.
///
/// The predicted class is the most probable of those that pass (an image that several pass is still counted once), so
/// each image stands in exactly one cell and a row sums to the images of its class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// The classes, in order: names of the rows, and of the columns but the last.
    pub labels: Vec<String>,
    /// `counts[t][p]`: images of class `t` predicted as `p`; the last column holds those for which none passes.
    pub counts: Vec<Vec<usize>>,
}

/// Classes of a matrix that people read: more of them fill pages.
pub(crate) const MOST_CLASSES: usize = 60;

impl Confusion {
    /// The rows and columns of the `n` classes that are confused most, in the order of the classes; images of theirs that
    /// were taken for other classes are left out.
    #[must_use]
    pub fn of_most_confused(&self, n: usize) -> Self {
        let errors = |class: usize| {
            let as_others: usize = self.counts[class].iter().sum::<usize>() - self.counts[class][class];
            as_others + self.counts.iter().map(|row| row[class]).sum::<usize>() - self.counts[class][class]
        };
        let mut classes: Vec<usize> = (0..self.labels.len()).collect();
        classes.sort_by_cached_key(|&class| std::cmp::Reverse(errors(class)));
        classes.truncate(n);
        classes.sort_unstable();
        let row = |&truth: &usize| {
            let columns = classes.iter().copied().chain(std::iter::once(self.labels.len()));
            columns.map(|said| self.counts[truth][said]).collect()
        };
        Self {
            labels: classes.iter().map(|&class| self.labels[class].clone()).collect(),
            counts: classes.iter().map(row).collect(),
        }
    }
}

/// Images of one class that were taken for another, or for none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfusedPair {
    /// What they are.
    pub truth: String,
    /// What they were taken for; `None` where no class passes.
    pub predicted: Option<String>,
    /// How many.
    pub count: usize,
    /// Rows of the table, by path.
    pub rows: Vec<usize>,
}

fn ratio(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Answers<'_> {
    /// The 2x2 table, precision, recall and F1 of each class, for one or several labels an image.
    #[must_use]
    pub fn class_scores(&self) -> Vec<ClassScore> {
        let rows = self.table.rows();
        let n_classes = self.table.classes().len();
        let (mut support, mut positive, mut hits) = (vec![0; n_classes], vec![0; n_classes], vec![0; n_classes]);
        for (row, passed) in rows.iter().zip(&self.passed) {
            row.targets.iter().for_each(|&class| support[class] += 1);
            for &class in passed {
                positive[class] += 1;
                hits[class] += usize::from(row.targets.binary_search(&class).is_ok());
            }
        }
        let labels = self.table.classes().iter().enumerate();
        labels
            .map(|(class, label)| {
                let (tp, support, positive) = (hits[class], support[class], positive[class]);
                ClassScore {
                    label: label.clone(),
                    true_positive: tp,
                    false_positive: positive - tp,
                    false_negative: support - tp,
                    true_negative: rows.len() + tp - positive - support,
                    support,
                    precision: ratio(tp, positive),
                    recall: ratio(tp, support),
                    f1: ratio(2 * tp, support + positive),
                }
            })
            .collect()
    }

    /// Which class was taken for which; `None` unless every image has exactly one true class, since otherwise nothing
    /// says which wrong answer belongs to which true class.
    #[must_use]
    pub fn confusion(&self) -> Option<Confusion> {
        let labels = self.table.classes().to_vec();
        let mut counts = vec![vec![0; labels.len() + 1]; labels.len()];
        for (truth, predicted, _) in self.pairs()? {
            counts[truth][predicted] += 1;
        }
        Some(Confusion { labels, counts })
    }

    /// The cells of [`Answers::confusion`] off the diagonal that hold at least `at_least` images (and at least one):
    /// the fullest first, equal ones in the order of the classes, `None` last.
    #[must_use]
    pub fn most_confused(&self, at_least: usize) -> Option<Vec<ConfusedPair>> {
        let labels = self.table.classes();
        let mut cells = std::collections::BTreeMap::<(usize, usize), Vec<usize>>::new();
        for (truth, predicted, row) in self.pairs()? {
            if truth != predicted {
                cells.entry((truth, predicted)).or_default().push(row);
            }
        }
        let mut pairs: Vec<ConfusedPair> = cells
            .into_iter()
            .filter(|(_, rows)| rows.len() >= at_least)
            .map(|((truth, predicted), mut rows)| {
                rows.sort_by_key(|&row| &self.table.rows()[row].path);
                let (truth, predicted) = (labels[truth].clone(), labels.get(predicted).cloned());
                ConfusedPair { truth, predicted, count: rows.len(), rows }
            })
            .collect();
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.count));
        Some(pairs)
    }

    /// (true class, predicted class or the class count for none, row) of each image.
    fn pairs(&self) -> Option<impl Iterator<Item = (usize, usize, usize)>> {
        let none = self.table.classes().len();
        self.table.is_single_label().then(|| {
            let images = self.table.rows().iter().zip(&self.passed).enumerate();
            images.map(move |(i, (row, passed))| {
                let predicted = row.most_probable_of(passed.iter().copied()).unwrap_or(none);
                (row.targets[0], predicted, i)
            })
        })
    }
}
