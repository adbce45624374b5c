use std::collections::BTreeMap;

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
/// each image stands in exactly one cell and, of all classes, a row sums to the images of its class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// The classes, in order: names of the rows, and of the columns but the last.
    pub labels: Vec<String>,
    /// How many classes there are, also those that are left out.
    pub n_classes: usize,
    /// `counts[t][p]`: images of class `t` predicted as `p`; the last column holds those for which none passes.
    pub counts: Vec<Vec<usize>>,
}

impl Confusion {
    /// Classes of a matrix that people read: more of them fill pages.
    pub const READABLE: usize = 60;
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
    ///
    /// Of more than `most` classes those that are confused most, without what they were taken for among the others: a
    /// matrix takes memory by the square of its classes.
    #[must_use]
    pub fn confusion(&self, most: usize) -> Option<Confusion> {
        let cells = self.cells()?;
        let all = self.table.classes();
        let classes = most_confused(&cells, all.len(), most);
        let mut counts = vec![vec![0; classes.len() + 1]; classes.len()];
        for (&(truth, predicted), rows) in &cells {
            let column = if predicted == all.len() { Ok(classes.len()) } else { classes.binary_search(&predicted) };
            if let (Ok(row), Ok(column)) = (classes.binary_search(&truth), column) {
                counts[row][column] = rows.len();
            }
        }
        let labels = classes.iter().map(|&class| all[class].clone()).collect();
        Some(Confusion { labels, n_classes: all.len(), counts })
    }

    /// The cells of [`Answers::confusion`] off the diagonal that hold at least `at_least` images (and at least one):
    /// the fullest first, equal ones in the order of the classes, `None` last.
    #[must_use]
    pub fn most_confused(&self, at_least: usize) -> Option<Vec<ConfusedPair>> {
        let labels = self.table.classes();
        let mut pairs: Vec<ConfusedPair> = self
            .cells()?
            .into_iter()
            .filter(|((truth, predicted), rows)| truth != predicted && rows.len() >= at_least)
            .map(|((truth, predicted), mut rows)| {
                rows.sort_by_key(|&row| &self.table.rows()[row].path);
                let (truth, predicted) = (labels[truth].clone(), labels.get(predicted).cloned());
                ConfusedPair { truth, predicted, count: rows.len(), rows }
            })
            .collect();
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.count));
        Some(pairs)
    }

    /// The images by true class and predicted one, the class count for none.
    fn cells(&self) -> Option<Cells> {
        if !self.table.is_single_label() {
            return None;
        }
        let none = self.table.classes().len();
        let mut cells = Cells::new();
        for (i, (row, passed)) in self.table.rows().iter().zip(&self.passed).enumerate() {
            let predicted = row.most_probable_of(passed.iter().copied()).unwrap_or(none);
            cells.entry((row.targets[0], predicted)).or_default().push(i);
        }
        Some(cells)
    }
}

/// Rows of the table by true and predicted class.
type Cells = BTreeMap<(usize, usize), Vec<usize>>;

/// The `most` of `n_classes` classes with the most images on either side of a mistake, ascending; the first of equal
/// ones.
fn most_confused(cells: &Cells, n_classes: usize, most: usize) -> Vec<usize> {
    let mut errors = vec![0; n_classes + 1];
    for (&(truth, predicted), rows) in cells.iter().filter(|((truth, predicted), _)| truth != predicted) {
        errors[truth] += rows.len();
        errors[predicted] += rows.len();
    }
    let mut classes: Vec<usize> = (0..n_classes).collect();
    classes.sort_by_key(|&class| std::cmp::Reverse(errors[class]));
    classes.truncate(most);
    classes.sort_unstable();
    classes
}
