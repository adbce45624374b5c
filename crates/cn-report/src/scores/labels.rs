use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::error::Result;
use crate::run_folder::{Prediction, Predictions, write_atomic};

/// Share of a group's classes that are taken for another one beyond which its labels look shifted, not its hand odd.
const SHIFTED: f64 = 0.2;

/// How much the model's answer speaks against the label of an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelSuspect {
    /// The row of the table.
    pub row: usize,
    /// -1 (the label is surely wrong, by the model) to 1 (surely right).
    pub margin: f64,
    /// The classes that the model would have said.
    pub suggested: Vec<usize>,
}

/// A group whose images of several classes are mostly taken for other classes, as after a slip in its labels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShiftedGroup {
    /// The group.
    pub group: String,
    /// The classes that are displaced.
    pub classes: Vec<ShiftedClass>,
    /// Classes that the group has images of.
    pub n_classes: usize,
}

/// A class of a [`ShiftedGroup`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ShiftedClass {
    /// The label's class.
    pub labelled: usize,
    /// What most of its images are taken for.
    pub said: usize,
    /// How many of them.
    pub n: usize,
    /// Images of the class.
    pub of: usize,
}

impl Predictions {
    /// All images by how little their labels are believed, the most suspicious first; equal ones by path.
    ///
    /// With one label an image, the margin is `p(label) - max p(other)`, the normalised margin of confident learning
    /// (Northcutt et al. 2021, <https://arxiv.org/abs/1911.00068>); with several, the least certain answer of all
    /// classes, `min(2 q - 1)` with `q` the probability of what the labels say. Only predictions of models that did not
    /// train on the image tell anything: those of a cross-validation, or of a validation part.
    #[must_use]
    pub fn label_suspects(&self) -> Vec<LabelSuspect> {
        let single = self.is_single_label();
        let suspect = |(row, image): (usize, &Prediction)| {
            let (margin, suggested) = if single { single_margin(image) } else { multi_margin(image) };
            LabelSuspect { row, margin, suggested }
        };
        let mut suspects: Vec<LabelSuspect> = self.rows().iter().enumerate().map(suspect).collect();
        let path = |suspect: &LabelSuspect| &self.rows()[suspect.row].path;
        suspects.sort_by(|a, b| a.margin.total_cmp(&b.margin).then_with(|| path(a).cmp(path(b))));
        suspects
    }

    /// Writes the suspects as CSV: `path`, `group`, `label`, `suggested` (several divided by `|`) and `margin`.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write_label_suspects(&self, suspects: &[LabelSuspect], path: impl AsRef<Path>) -> Result<()> {
        let mut out = csv::Writer::from_writer(Vec::new());
        let several =
            |classes: &[usize]| classes.iter().map(|&c| self.classes()[c].as_str()).collect::<Vec<_>>().join("|");
        let memory = "a table in memory can be written";
        out.write_record(["path", "group", "label", "suggested", "margin"]).expect(memory);
        for suspect in suspects {
            let row = &self.rows()[suspect.row];
            let group = row.group.as_deref().unwrap_or_default();
            let [label, suggested] = [&row.targets, &suspect.suggested].map(|classes| several(classes));
            out.write_record([&row.path, group, &label, &suggested, &suspect.margin.to_string()]).expect(memory);
        }
        write_atomic(path, &out.into_inner().expect(memory))
    }

    /// Groups in which at least two classes, and a fifth of those that the group has, are mostly taken for another one;
    /// empty where an image has several labels.
    #[must_use]
    pub fn shifted_groups(&self) -> Vec<ShiftedGroup> {
        if !self.is_single_label() {
            return Vec::new();
        }
        let mut groups: BTreeMap<&str, BTreeMap<usize, Vec<usize>>> = BTreeMap::new();
        for row in self.rows() {
            let (Some(group), Some(&label)) = (&row.group, row.targets.first()) else { continue };
            groups.entry(group).or_default().entry(label).or_default().push(row.most_probable());
        }
        let shifted = |(group, answers): (&str, BTreeMap<usize, Vec<usize>>)| {
            let classes: Vec<ShiftedClass> =
                answers.iter().filter_map(|(&labelled, said)| displaced(labelled, said)).collect();
            let many = classes.len() >= 2 && classes.len() as f64 >= SHIFTED * answers.len() as f64;
            many.then(|| ShiftedGroup { group: group.to_owned(), classes, n_classes: answers.len() })
        };
        groups.into_iter().filter_map(shifted).collect()
    }
}

fn single_margin(image: &Prediction) -> (f64, Vec<usize>) {
    let label = image.targets[0];
    let p = |class: usize| f64::from(image.probabilities[class]);
    let others = (0..image.probabilities.len()).filter(|&class| class != label);
    let other = image.most_probable_of(others).map_or(0.0, p);
    (p(label) - other, vec![image.most_probable()])
}

fn multi_margin(image: &Prediction) -> (f64, Vec<usize>) {
    let is_label = |class: usize| image.targets.binary_search(&class).is_ok();
    let p = image.probabilities.iter().map(|&p| f64::from(p)).enumerate();
    let believed = p.map(|(class, p)| if is_label(class) { p } else { 1.0 - p });
    let margin = believed.map(|q| 2.0 * q - 1.0).fold(1.0, f64::min);
    let said = (0..image.probabilities.len()).filter(|&class| image.probabilities[class] > 0.5);
    (margin, said.collect())
}

/// The class that more than half of the answers, and at least two, say in place of `labelled`.
fn displaced(labelled: usize, said: &[usize]) -> Option<ShiftedClass> {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    said.iter().for_each(|&class| *counts.entry(class).or_default() += 1);
    let (&class, &n) = counts.iter().max_by_key(|(_, n)| **n)?;
    let many = class != labelled && n >= 2 && 2 * n > said.len();
    many.then_some(ShiftedClass { labelled, said: class, n, of: said.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(&str, &[usize], [f32; 3])]) -> Predictions {
        let mut table = Predictions::new(["a", "b", "c"]).unwrap();
        for (i, (group, targets, probabilities)) in rows.iter().enumerate() {
            let row = Prediction {
                path: format!("{i}.png"),
                group: Some((*group).to_owned()),
                targets: targets.to_vec(),
                probabilities: probabilities.to_vec(),
            };
            table.push(row).unwrap();
        }
        table
    }

    fn found(table: &Predictions) -> Vec<(usize, f64, Vec<usize>)> {
        let rounded = |margin: f64| (margin * 100.0).round() / 100.0;
        table.label_suspects().into_iter().map(|s| (s.row, rounded(s.margin), s.suggested)).collect()
    }

    #[test]
    fn the_surest_contradiction_comes_first() {
        let table = table(&[("x", &[0], [0.9, 0.2, 0.1]), ("x", &[0], [0.1, 0.9, 0.3]), ("x", &[2], [0.5, 0.1, 0.4])]);
        assert_eq!(found(&table), [(1, -0.8, vec![1]), (2, -0.1, vec![0]), (0, 0.7, vec![0])]);
    }

    #[test]
    fn of_several_labels_the_worst_counts() {
        let table = table(&[
            ("x", &[0, 1], [0.9, 0.8, 0.1]),
            ("x", &[0], [0.9, 0.8, 0.1]),
            ("x", &[], [0.1, 0.1, 0.1]),
            ("x", &[0, 2], [0.9, 0.1, 0.2]),
        ]);
        let expected = [(1, -0.6, vec![0, 1]), (3, -0.6, vec![0]), (0, 0.6, vec![0, 1]), (2, 0.8, vec![])];
        assert_eq!(found(&table), expected);
    }

    #[test]
    fn one_class_off_is_a_hand_and_several_are_a_slip() {
        let say = |class: usize| std::array::from_fn(|c| if c == class { 0.9 } else { 0.05 });
        let mut rows: Vec<(&str, &[usize], [f32; 3])> = Vec::new();
        // `odd` writes every b like a c; `slip` has a, b and c labelled one too early.
        for _ in 0..3 {
            rows.extend([("odd", &[0][..], say(0)), ("odd", &[1], say(2)), ("odd", &[2], say(2))]);
            rows.extend([("slip", &[0][..], say(1)), ("slip", &[1], say(2)), ("slip", &[2], say(0))]);
        }
        let found = table(&rows).shifted_groups();
        let classes = [(0, 1), (1, 2), (2, 0)].map(|(labelled, said)| ShiftedClass { labelled, said, n: 3, of: 3 });
        assert_eq!(found, [ShiftedGroup { group: "slip".into(), classes: classes.to_vec(), n_classes: 3 }]);
    }

    #[test]
    fn two_classes_of_eleven_are_no_slip() {
        // A hand that two of its characters are misread of is no row of labels that slipped.
        let shifted = |n_classes: usize| {
            let labels = (0..n_classes).map(|class| class.to_string());
            let mut table = Predictions::new(labels).unwrap();
            for class in 0..2 * n_classes {
                let (class, twice) = (class / 2, class % 2);
                let said = if class < 2 { 1 - class } else { class };
                let probabilities = (0..n_classes).map(|c| if c == said { 0.9 } else { 0.0 }).collect();
                let (path, group) = (format!("{class}-{twice}"), Some("hand".to_owned()));
                table.push(Prediction { path, group, targets: vec![class], probabilities }).unwrap();
            }
            table.shifted_groups().len()
        };
        assert_eq!((shifted(10), shifted(11)), (1, 0));
    }

    #[test]
    fn what_is_less_likely_than_not_is_never_suggested() {
        let table = table(&[("x", &[0, 1], [0.9, 0.45, 0.4])]);
        assert_eq!(found(&table), [(0, -0.1, vec![0])]);
    }

    #[test]
    fn half_is_not_most() {
        assert_eq!(displaced(0, &[1, 1, 0, 0]), None);
        assert_eq!(displaced(0, &[1]), None);
        assert_eq!(displaced(0, &[1, 1, 0]).map(|class| class.said), Some(1));
    }
}
