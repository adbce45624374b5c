//! Which output of a model speaks of which label of a data set.

use crate::problem::Problem;
use anyhow::Result;
use cn_data::Index;
use cn_report::{ClassNames, ModelCard, Prediction, Predictions, Thresholds};
use std::collections::HashMap;

/// The model's classes, under the labels of a data set.
pub(super) struct ClassMap {
    /// In the order of the model's outputs.
    labels: Vec<String>,
    thresholds: Vec<f32>,
    names: ClassNames,
}

impl ClassMap {
    /// Maps by what people are shown, else by the label. Classes that no image has stay, since an answer can be one.
    pub(super) fn new(card: &ModelCard, index: &Index) -> Result<Self> {
        let place = |label: &str| card.output_of(label, index.display(label));
        let counts = index.class_counts();
        let unknown: Vec<&str> = counts.keys().copied().filter(|label| place(label).is_none()).collect();
        if !unknown.is_empty() {
            let known: Vec<&str> = card.labels().collect();
            let problem = format!("the model does not know the labels {}; it knows {}", list(&unknown), list(&known));
            return Err(Problem::failure(problem).hint("judge it on data with labels that it was trained on").into());
        }
        let mut found: Vec<Option<&str>> = vec![None; card.classes.len()];
        for (output, label) in counts.keys().filter_map(|label| Some((place(label)?, *label))) {
            if let Some(twin) = found[output].replace(label) {
                let problem = format!("the labels `{twin}` and `{label}` are shown alike");
                return Err(Problem::failure(problem).hint("give each label a display name of its own").into());
            }
        }
        let names = card.classes.iter().zip(&found).map(|(class, label)| match label {
            Some(label) => (*label, index.display(label)),
            None => (class.label.as_str(), class.display.as_str()),
        });
        Ok(Self {
            labels: names.clone().map(|(label, _)| label.to_owned()).collect(),
            thresholds: card.classes.iter().map(|class| class.threshold).collect(),
            names: ClassNames::new(names),
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

    /// The table of the outputs `(N, K)` for the images of `index`.
    pub(super) fn table(&self, index: &Index, probabilities: &[f32]) -> Result<Predictions> {
        let mut table = Predictions::new(self.labels.iter().cloned())?;
        let class: HashMap<&str, usize> = self.labels.iter().map(String::as_str).zip(0..).collect();
        for (record, row) in index.records().iter().zip(probabilities.chunks_exact(self.labels.len())) {
            table.push(Prediction {
                path: record.path.clone(),
                group: record.group.clone(),
                targets: record.labels.iter().filter_map(|label| class.get(label.as_str()).copied()).collect(),
                probabilities: row.to_vec(),
            })?;
        }
        Ok(table)
    }
}

fn list(labels: &[&str]) -> String {
    labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ")
}
