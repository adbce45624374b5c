//! Which output of a model speaks of which label of a data set.

use crate::problem::Problem;
use anyhow::Result;
use cn_data::Index;
use cn_report::{ClassNames, ModelCard, Prediction, Predictions, Thresholds};
use std::collections::HashMap;

/// The classes of a data set, each with the model's output for it.
pub(super) struct ClassMap {
    /// Labels of the data set, in the order of the model's outputs.
    labels: Vec<String>,
    outputs: Vec<usize>,
    n_outputs: usize,
    thresholds: Vec<f32>,
    names: ClassNames,
}

impl ClassMap {
    /// Maps by what people are shown, else by the label; outputs that the data set has no label for are left out.
    pub(super) fn new(card: &ModelCard, index: &Index) -> Result<Self> {
        let place = |label: &str| card.output_of(label, index.display(label));
        let counts = index.class_counts();
        let unknown: Vec<&str> = counts.keys().copied().filter(|label| place(label).is_none()).collect();
        if !unknown.is_empty() {
            let known: Vec<&str> = card.labels().collect();
            let problem = format!("the model does not know the labels {}; it knows {}", list(&unknown), list(&known));
            return Err(Problem::failure(problem).hint("judge it on data with labels that it was trained on").into());
        }
        let mut pairs: Vec<(usize, &str)> = counts.keys().filter_map(|label| Some((place(label)?, *label))).collect();
        pairs.sort_unstable();
        if let Some(twice) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let problem = format!("the labels `{}` and `{}` are shown alike", twice[0].1, twice[1].1);
            return Err(Problem::failure(problem).hint("give each label a display name of its own").into());
        }
        Ok(Self {
            labels: pairs.iter().map(|(_, label)| (*label).to_owned()).collect(),
            outputs: pairs.iter().map(|(output, _)| *output).collect(),
            n_outputs: card.classes.len(),
            thresholds: pairs.iter().map(|(output, _)| card.classes[*output].threshold).collect(),
            names: ClassNames::new(pairs.iter().map(|(_, label)| (*label, index.display(label)))),
        })
    }

    pub(super) fn names(&self) -> &ClassNames {
        &self.names
    }

    /// One for all classes where they are equal.
    pub(super) fn thresholds(&self) -> Result<Thresholds> {
        Ok(match self.thresholds.as_slice() {
            [first, rest @ ..] if rest.iter().all(|value| value == first) => Thresholds::uniform(*first)?,
            values => Thresholds::per_class(values.to_vec())?,
        })
    }

    /// The table of all outputs `(N, K)` for the images of `index`, restricted to its labels.
    pub(super) fn table(&self, index: &Index, probabilities: &[f32]) -> Result<Predictions> {
        let mut table = Predictions::new(self.labels.iter().cloned())?;
        let class: HashMap<&str, usize> = self.labels.iter().map(String::as_str).zip(0..).collect();
        for (record, row) in index.records().iter().zip(probabilities.chunks_exact(self.n_outputs)) {
            table.push(Prediction {
                path: record.path.clone(),
                group: record.group.clone(),
                targets: record.labels.iter().filter_map(|label| class.get(label.as_str()).copied()).collect(),
                probabilities: self.outputs.iter().map(|&output| row[output]).collect(),
            })?;
        }
        Ok(table)
    }
}

fn list(labels: &[&str]) -> String {
    labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ")
}
