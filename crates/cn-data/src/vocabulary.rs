//! Classes, and what the loss sees of an image's labels.

use std::collections::{BTreeSet, HashMap};

use crate::{Error, Index, Record, Result};

/// The classes, in the order of the model's outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    labels: Vec<String>,
    class_of: HashMap<String, u32>,
}

impl Vocabulary {
    /// The labels of the images `ids` (the training part), sorted as strings: fastai's order.
    ///
    /// So `"10"` stands before `"2"`.
    ///
    /// # Panics
    ///
    /// If an id is not below `index.len()`.
    #[must_use]
    pub fn of(index: &Index, ids: &[u32]) -> Self {
        let labels: BTreeSet<&String> = ids.iter().flat_map(|&id| &index.records()[id as usize].labels).collect();
        let labels: Vec<String> = labels.into_iter().cloned().collect();
        let class_of = (0..).zip(&labels).map(|(class, label)| (label.clone(), class)).collect();
        Self { labels, class_of }
    }

    /// These labels in this order, as a stored model names them.
    ///
    /// # Errors
    ///
    /// If a label stands twice.
    pub fn from_labels(labels: Vec<String>) -> Result<Self> {
        let mut class_of = HashMap::with_capacity(labels.len());
        for (class, label) in (0..).zip(&labels) {
            if class_of.insert(label.clone(), class).is_some() {
                return Err(Error::DuplicateLabel { label: label.clone() });
            }
        }
        Ok(Self { labels, class_of })
    }

    /// Number of classes, K.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no class at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The labels by class.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Class of a label.
    #[must_use]
    pub fn class(&self, label: &str) -> Option<u32> {
        self.class_of.get(label).copied()
    }
}

/// The classes of each image of an index; hands out multi-hot rows.
///
/// Kept as lists, not as an (N, K) array, which would be large for many classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    n_classes: usize,
    ends: Vec<u32>,
    classes: Vec<u32>,
}

impl Targets {
    /// Looks up the labels of all records.
    ///
    /// # Errors
    ///
    /// If a label is not in the vocabulary; the first such image is named.
    pub fn new(vocabulary: &Vocabulary, records: &[Record]) -> Result<Self> {
        let (mut ends, mut classes) = (Vec::with_capacity(records.len()), Vec::with_capacity(records.len()));
        for record in records {
            for label in &record.labels {
                classes.push(vocabulary.class(label).ok_or_else(|| Error::UnknownLabel {
                    label: label.clone(),
                    image: record.path.clone(),
                    n_classes: vocabulary.len(),
                })?);
            }
            ends.push(classes.len() as u32);
        }
        Ok(Self { n_classes: vocabulary.len(), ends, classes })
    }

    /// Number of images, N.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no images.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Number of classes, K.
    #[must_use]
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// Classes of image `id`, in the order of its labels.
    ///
    /// # Panics
    ///
    /// If `id` is not below [`Targets::len`].
    #[must_use]
    pub fn classes(&self, id: u32) -> &[u32] {
        let id = id as usize;
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.classes[start as usize..self.ends[id] as usize]
    }

    /// The rows of `ids`, (B, K) row-major: 1 for each class of the image, else 0.
    ///
    /// # Panics
    ///
    /// If an id is not below [`Targets::len`].
    #[must_use]
    pub fn multi_hot(&self, ids: &[u32]) -> Vec<f32> {
        let mut rows = vec![0.0; ids.len() * self.n_classes];
        for (row, &id) in rows.chunks_exact_mut(self.n_classes.max(1)).zip(ids) {
            self.classes(id).iter().for_each(|&class| row[class as usize] = 1.0);
        }
        rows
    }

    /// Whether each image has exactly one class, as softmax needs it.
    #[must_use]
    pub fn single(&self) -> bool {
        (1..).zip(&self.ends).all(|(expected, &end)| expected == end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(labels: &[&[&str]]) -> Index {
        let record = |(i, labels): (usize, &&[&str])| Record {
            path: i.to_string(),
            labels: labels.iter().map(ToString::to_string).collect(),
            group: None,
        };
        Index::from_records("test", "", labels.iter().enumerate().map(record).collect()).expect("valid")
    }

    #[test]
    fn order_is_that_of_strings() {
        let index = index(&[&["2"], &["10"], &["1"], &["零"], &["a", "B"], &["x"]]);
        let vocabulary = Vocabulary::of(&index, &[0, 1, 2, 3, 4]);
        assert_eq!(vocabulary.labels(), ["1", "10", "2", "B", "a", "零"]);
        assert_eq!((vocabulary.class("2"), vocabulary.class("x")), (Some(2), None));
    }

    #[test]
    fn rows_are_multi_hot() {
        let index = index(&[&["a"], &["b", "a"], &[], &["c"]]);
        let targets = Targets::new(&Vocabulary::of(&index, &[0, 1, 2, 3]), index.records()).expect("known");
        assert_eq!(targets.multi_hot(&[1, 2, 3]), [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!((targets.classes(1), targets.classes(2)), (&[1, 0][..], &[][..]));
        assert!(!targets.single());
    }

    #[test]
    fn one_label_each_is_single() {
        let index = index(&[&["a"], &["b"]]);
        assert!(Targets::new(&Vocabulary::of(&index, &[0, 1]), index.records()).expect("known").single());
    }

    #[test]
    fn unknown_labels_name_the_image() {
        let index = index(&[&["a"], &["b"]]);
        let error = Targets::new(&Vocabulary::of(&index, &[0]), index.records()).expect_err("b is unknown");
        assert_eq!(error.to_string(), "the label `b` of `1` is not among the 1 classes of the vocabulary");
    }

    #[test]
    fn labels_stand_once() {
        let twice = Vocabulary::from_labels(vec!["a".into(), "b".into(), "a".into()]);
        assert!(matches!(twice, Err(Error::DuplicateLabel { label }) if label == "a"));
    }
}
