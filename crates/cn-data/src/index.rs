//! The list of images with their labels and groups.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

use crate::template::stays_inside;
use crate::{Digest, Error, Result, Spec, folders, spec::FILE, split, table};

/// Labels of a data set, at most: twice those of the largest public ones.
const MAX_LABELS: usize = 50_000;

/// One image of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Path relative to the root of the data set, divided by `/`; for images in memory, any unique name.
    pub path: String,
    /// Its labels without repetition; empty for an image that nobody labelled.
    pub labels: Vec<String>,
    /// What it must not be torn apart from: the writer, the patient, the page.
    pub group: Option<String>,
}

/// The images of a data set in a fixed order; an image's position is its id.
///
/// Holds names only, no pixels. At least one record, no path twice.
#[derive(Debug, Clone)]
pub struct Index {
    name: String,
    root: PathBuf,
    records: Vec<Record>,
    display: BTreeMap<String, String>,
    licence: Option<String>,
    citation: Option<String>,
    fixed_val: Option<Vec<u32>>,
    table_sha256: Option<Digest>,
}

/// What a reader of tables or folders found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) records: Vec<Record>,
    pub(crate) display: BTreeMap<String, String>,
    pub(crate) fixed_val: Option<Vec<u32>>,
    pub(crate) table_sha256: Option<Digest>,
}

impl Index {
    /// Opens the data set in `folder`: by its `dataset.toml`, or in one of the layouts that are known without one.
    ///
    /// In this order: `dataset.toml`; Chinese MNIST as published on Kaggle; `train/<label>/*` with `val`, `valid`,
    /// `validation` or `test` beside `train` as a validation part; `<label>/*`. Files are listed, not opened.
    ///
    /// # Errors
    ///
    /// If the folder is missing or has no known layout, or its table is not as described; errors name the line.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_with(folder, &Spec::default())
    }

    /// As [`Index::open`], with what `spec` says in place of what the folder says.
    ///
    /// # Errors
    ///
    /// As [`Index::open`]; also if `spec` names columns and there is no table.
    pub fn open_with(folder: &Path, spec: &Spec) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::NoFolder { path: folder.to_owned() });
        }
        // A table that is named is not the published one.
        let own = if spec.csv.is_some() { Spec::read(folder)? } else { Spec::of_folder(folder)? };
        let outside = |csv: &&PathBuf| spec.csv.is_none() && !csv.to_str().is_some_and(stays_inside);
        if let Some(csv) = own.as_ref().and_then(|own| own.csv.as_ref()).filter(outside) {
            return Err(Error::CsvOutside { path: folder.join(FILE), csv: csv.clone() });
        }
        let spec = own.map_or_else(|| spec.clone(), |own| spec.over(&own));
        let found = match &spec.csv {
            Some(csv) => table::read(folder, &folder.join(csv), &spec)?,
            None if spec.names_columns() => {
                return Err(Error::IncompleteSpec { path: folder.to_owned(), missing: "csv" });
            }
            None => folders::read(folder)?,
        };
        let folder_name = || folder.canonicalize().ok()?.file_name()?.to_str().map(str::to_owned);
        let name = spec.name.or_else(folder_name).unwrap_or_else(|| "data".to_owned());
        let index = Self::new(name, folder.to_owned(), found)?;
        tracing::debug!(name = index.name, images = index.len(), "index read");
        Ok(Self { licence: spec.licence, citation: spec.citation, ..index })
    }

    /// A data set in memory, or whose files stand below `root` by the records' own paths.
    ///
    /// ```
    /// use cn_data::{Index, Record};
    ///
    /// let record = |i: u32| Record {
    ///     path: format!("drawn/{i}"),
    ///     labels: vec![(i % 2).to_string()],
    ///     group: Some(format!("writer {}", i / 10)),
    /// };
    /// let index = Index::from_records("toy", "", (0..40).map(record).collect())?;
    /// assert_eq!(index.groups().len(), 4);
    /// # Ok::<(), cn_data::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If there is no record, a path stands twice, or there are more than some 200 million.
    pub fn from_records(name: impl Into<String>, root: impl Into<PathBuf>, records: Vec<Record>) -> Result<Self> {
        Self::new(name.into(), root.into(), Found { records, ..Found::default() })
    }

    /// The index with these display names of labels.
    #[must_use]
    pub fn with_display(self, display: BTreeMap<String, String>) -> Self {
        Self { display, ..self }
    }

    fn new(name: String, root: PathBuf, found: Found) -> Result<Self> {
        let Found { records, display, fixed_val, table_sha256 } = found;
        if records.is_empty() {
            let path = if root.as_os_str().is_empty() { PathBuf::from(name) } else { root };
            return Err(Error::NoImages { path });
        }
        if records.len() >= split::MAX_IMAGES {
            return Err(Error::TooManyImages { n: records.len(), max: split::MAX_IMAGES - 1 });
        }
        let labels: HashSet<&str> = records.iter().flat_map(|r| r.labels.iter().map(String::as_str)).collect();
        if labels.len() > MAX_LABELS {
            return Err(Error::TooManyLabels { n: labels.len(), max: MAX_LABELS });
        }
        let mut seen = HashSet::with_capacity(records.len());
        if let Some(twice) = records.iter().find(|r| !seen.insert(r.path.as_str())) {
            return Err(Error::DuplicateRecord { image: twice.path.clone() });
        }
        Ok(Self { name, root, records, display, licence: None, citation: None, fixed_val, table_sha256 })
    }

    /// Name of the data set.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Folder that the records' paths are relative to.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All records, by id.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Number of images, N.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // An index is never empty.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Where the file of image `id` is expected.
    ///
    /// # Panics
    ///
    /// If `id` is not below [`Index::len`].
    #[must_use]
    pub fn path(&self, id: u32) -> PathBuf {
        self.root.join(&self.records[id as usize].path)
    }

    /// How `label` is shown to people: its display name, or itself.
    #[must_use]
    pub fn display<'a>(&'a self, label: &'a str) -> &'a str {
        self.display.get(label).map_or(label, String::as_str)
    }

    /// Licence of the images, where the description names one.
    #[must_use]
    pub fn licence(&self) -> Option<&str> {
        self.licence.as_deref()
    }

    /// How to cite the data set, where the description says so.
    #[must_use]
    pub fn citation(&self) -> Option<&str> {
        self.citation.as_deref()
    }

    /// Ids of the validation part that the folders themselves set apart, ascending; `None` if they do not.
    #[must_use]
    pub fn fixed_val(&self) -> Option<&[u32]> {
        self.fixed_val.as_deref()
    }

    /// Images of each group, by the group's name; images without a group are not counted.
    #[must_use]
    pub fn groups(&self) -> BTreeMap<&str, usize> {
        count(self.records.iter().filter_map(|r| r.group.as_deref()))
    }

    /// Images of each label, by the label.
    #[must_use]
    pub fn class_counts(&self) -> BTreeMap<&str, usize> {
        count(self.records.iter().flat_map(|r| r.labels.iter().map(String::as_str)))
    }

    /// Digest of what the index was made from.
    ///
    /// For a table, of the CSV's bytes: what `sha256sum` says, also after [`Index::subset`]. Else of the records: a
    /// line `path`, tab, labels divided by unit separators, tab, group for each.
    #[must_use]
    pub fn sha256(&self) -> Digest {
        self.table_sha256.unwrap_or_else(|| {
            let line =
                |r: &Record| format!("{}\t{}\t{}\n", r.path, r.labels.join("\u{1f}"), r.group.as_deref().unwrap_or(""));
            Digest::of(self.records.iter().map(line).collect::<String>().as_bytes())
        })
    }

    /// The index of these images alone, renumbered in the order of `ids`.
    ///
    /// # Errors
    ///
    /// If `ids` is empty, holds an image twice or one that does not exist.
    pub fn subset(&self, ids: &[u32]) -> Result<Self> {
        let n = self.len();
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= n) {
            return Err(Error::BadParts { id, n });
        }
        let records = ids.iter().map(|&id| self.records[id as usize].clone()).collect();
        let fixed_val = self
            .fixed_val
            .as_ref()
            .map(|val| (0..).zip(ids).filter(|(_, old)| val.binary_search(old).is_ok()).map(|(new, _)| new).collect());
        let found = Found { records, display: self.display.clone(), fixed_val, table_sha256: self.table_sha256 };
        let index = Self::new(self.name.clone(), self.root.clone(), found)?;
        Ok(Self { licence: self.licence.clone(), citation: self.citation.clone(), ..index })
    }

    /// `n` of the images, as even over the classes as their numbers allow, in the order of this index.
    ///
    /// The choice depends on the records, `n` and `seed` alone, and a smaller `n` takes a part of a larger one's. All
    /// images if there are not more than `n`. Images with several labels count as a class of their own.
    ///
    /// # Errors
    ///
    /// If `n` is 0.
    pub fn limit(&self, n: usize, seed: u64) -> Result<Self> {
        if n == 0 {
            return Err(Error::LimitZero);
        }
        let mut ids = split::balanced_order(self, seed);
        ids.truncate(n);
        ids.sort_unstable();
        self.subset(&ids)
    }
}

fn count<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    counts
}

#[cfg(test)]
pub(crate) mod tests;
