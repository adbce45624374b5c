use std::collections::BTreeMap;

use serde::Serialize;

use super::{ImageLoss, Rate};
use crate::error::{Error, Result};
use crate::run_folder::{Activation, Prediction, Predictions, ValSummary};

/// What a probability has to exceed (strictly, as in fastai) to count as a yes: one value, or one for each class.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds(Kind);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Uniform(f32),
    PerClass(Vec<f32>),
}

impl Thresholds {
    /// The same for every class.
    ///
    /// # Errors
    ///
    /// [`Error::Threshold`] if it is NaN or outside 0..=1.
    pub fn uniform(threshold: f32) -> Result<Self> {
        check(threshold).map(|()| Self(Kind::Uniform(threshold)))
    }

    /// One for each class, in the order of the classes.
    ///
    /// # Errors
    ///
    /// [`Error::Threshold`] if one is NaN or outside 0..=1.
    pub fn per_class(thresholds: Vec<f32>) -> Result<Self> {
        thresholds.iter().try_for_each(|&threshold| check(threshold))?;
        Ok(Self(Kind::PerClass(thresholds)))
    }

    fn of(&self, class: usize) -> f32 {
        match &self.0 {
            Kind::Uniform(threshold) => *threshold,
            Kind::PerClass(thresholds) => thresholds[class],
        }
    }

    fn the_one(&self) -> Option<f32> {
        match self.0 {
            Kind::Uniform(threshold) => Some(threshold),
            Kind::PerClass(_) => None,
        }
    }
}

fn check(value: f32) -> Result<()> {
    // A NaN is in no range.
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(Error::Threshold { value }) }
}

/// The yes/no answers that a table of predictions gives at a threshold, and what they are worth.
///
/// Made by [`Predictions::answers`].
#[derive(Debug, Clone)]
pub struct Answers<'a> {
    pub(super) table: &'a Predictions,
    pub(super) thresholds: Thresholds,
    pub(super) activation: Activation,
    /// For each image the classes that pass, ascending.
    pub(super) passed: Vec<Vec<usize>>,
}

/// How many classes the images were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AnswerCounts {
    /// Images for which no class passes: refused.
    pub none: usize,
    /// Images for which one passes.
    pub one: usize,
    /// Images for which several pass.
    pub several: usize,
}

/// The images of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupScore {
    /// The group.
    pub group: String,
    /// Images whose whole label set is right, of all of the group.
    pub exact: Rate,
}

impl Predictions {
    /// The answers at `thresholds`; `activation` is what gave the probabilities, and decides what their loss is.
    ///
    /// # Errors
    ///
    /// [`Error::ThresholdCount`] if the thresholds are per class and not as many as the classes.
    pub fn answers(&self, thresholds: Thresholds, activation: Activation) -> Result<Answers<'_>> {
        let expected = self.classes().len();
        match &thresholds.0 {
            Kind::PerClass(values) if values.len() != expected => {
                Err(Error::ThresholdCount { found: values.len(), expected })
            }
            _ => {
                let passed = self.rows().iter().map(|row| passing(row, &thresholds)).collect();
                Ok(Answers { table: self, thresholds, activation, passed })
            }
        }
    }

    /// Images whose most probable class is one of their targets; of equal probabilities the first class counts.
    #[must_use]
    pub fn top1(&self) -> Rate {
        let labelled = self.rows().iter().filter(|row| !row.targets.is_empty());
        Rate::count(labelled.map(|row| row.targets.contains(&row.most_probable())))
    }
}

fn passing(row: &Prediction, thresholds: &Thresholds) -> Vec<usize> {
    let classes = row.probabilities.iter().enumerate();
    classes.filter(|&(class, &p)| p > thresholds.of(class)).map(|(class, _)| class).collect()
}

impl<'a> Answers<'a> {
    /// The table that was asked.
    #[must_use]
    pub fn table(&self) -> &'a Predictions {
        self.table
    }

    /// The classes that pass for image `row`, ascending.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    #[must_use]
    pub fn passed(&self, row: usize) -> &[usize] {
        &self.passed[row]
    }

    /// Images whose whole label set is right. This is the number to quote.
    #[must_use]
    pub fn exact_match(&self) -> Rate {
        Rate::count(self.exact())
    }

    /// Yes/no answers that are right, of images times classes: fastai's `accuracy_multi`.
    ///
    /// It flatters: for one label in 15 classes, saying nothing scores 14/15.
    #[must_use]
    pub fn accuracy_multi(&self) -> Rate {
        let [[true_negative, _], [_, true_positive]] = self.multilabel_bits();
        let total = self.table.rows().len() * self.table.classes().len();
        Rate { hits: true_negative + true_positive, total }
    }

    /// [`Answers::accuracy_multi`] of a model that never says yes: what there is to beat.
    #[must_use]
    pub fn accuracy_multi_of_silence(&self) -> Rate {
        let total = self.table.rows().len() * self.table.classes().len();
        let labels: usize = self.table.rows().iter().map(|row| row.targets.len()).sum();
        Rate { hits: total - labels, total }
    }

    /// All yes/no answers in one 2x2 table: `[[true negative, false positive], [false negative, true positive]]`.
    ///
    /// This is what fastai's `ClassificationInterpretation` counts for several labels an image, and puts into the first
    /// four cells of a matrix named after the first two classes: its `most_confused` then says that those two are
    /// confused, whatever the classes. Their sum is not the number of wrong images either, since an image with a wrong
    /// class on and the right one off counts twice. Kept to compare with; use [`Answers::most_confused`].
    #[must_use]
    pub fn multilabel_bits(&self) -> [[usize; 2]; 2] {
        let mut bits = [[0; 2]; 2];
        for score in self.class_scores() {
            bits[0][0] += score.true_negative;
            bits[0][1] += score.false_positive;
            bits[1][0] += score.false_negative;
            bits[1][1] += score.true_positive;
        }
        bits
    }

    /// Images for which no class, one, or several pass.
    #[must_use]
    pub fn counts(&self) -> AnswerCounts {
        let having = |wanted: fn(usize) -> bool| self.passed.iter().filter(|classes| wanted(classes.len())).count();
        AnswerCounts { none: having(|n| n == 0), one: having(|n| n == 1), several: having(|n| n > 1) }
    }

    /// Exact match within each group, the worst group first, equal ones by name; empty where no image has a group.
    #[must_use]
    pub fn group_scores(&self) -> Vec<GroupScore> {
        let mut flags: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
        for (row, exact) in self.table.rows().iter().zip(self.exact()) {
            if let Some(group) = &row.group {
                flags.entry(group).or_default().push(exact);
            }
        }
        let score = |(group, flags): (&str, Vec<bool>)| GroupScore { group: group.into(), exact: Rate::count(flags) };
        let mut scores: Vec<GroupScore> = flags.into_iter().map(score).collect();
        scores.sort_by(|a, b| a.exact.share().total_cmp(&b.exact.share()));
        scores
    }

    /// What gave the probabilities.
    #[must_use]
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// The `n` images with the highest loss, see [`Predictions::top_losses`].
    #[must_use]
    pub fn top_losses(&self, n: usize) -> Vec<ImageLoss> {
        self.table.top_losses(n, self.activation)
    }

    /// The block `val` of `summary.json`.
    #[must_use]
    pub fn val_summary(&self) -> ValSummary {
        let exact = self.exact_match();
        ValSummary {
            loss: self.table.loss(self.activation),
            accuracy_multi: self.accuracy_multi().share(),
            threshold: self.thresholds.the_one(),
            exact_match: exact.share(),
            exact_match_ci95: exact.wilson95(),
            top1: self.table.top1().share(),
            refused: self.counts().none,
        }
    }

    fn exact(&self) -> impl Iterator<Item = bool> {
        self.table.rows().iter().zip(&self.passed).map(|(row, passed)| row.targets == *passed)
    }
}
