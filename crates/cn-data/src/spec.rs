//! `dataset.toml`: where the labels stand and how the files are called.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, load::read_whole};

/// Name of the description beside the files.
pub(crate) const FILE: &str = "dataset.toml";
/// Bytes of it: TOML takes up to two hundred times its size in memory.
const MAX_LEN: u64 = 128 << 10;

/// Description of a data set: the keys of `dataset.toml`, and the flags that say the same by hand.
///
/// ```
/// let spec = cn_data::Spec {
///     csv: Some("labels.csv".into()),
///     image: Some("scans/{id}.png".into()),
///     label: Some("kinds".into()),
///     label_separator: Some(";".into()),
///     ..Default::default()
/// };
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Name of the data set; the folder's name if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// CSV file with a header, relative to the folder. Without one, the folders name the labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csv: Option<PathBuf>,
    /// Template of an image's path, relative to the folder, with columns in braces (`{{` is a brace).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Column of the label or labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What divides several labels in one field; without it a field is one label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_separator: Option<String>,
    /// Column that says how a label is shown to people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display: Option<String>,
    /// Column of the group that must not be torn apart (the writer, the patient).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Licence of the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// How to cite the data set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub citation: Option<String>,
}

impl Spec {
    /// Chinese MNIST in the layout of its Kaggle publication.
    #[must_use]
    pub fn chinese_mnist() -> Self {
        let text = |s: &str| Some(s.to_owned());
        Self {
            name: text("chinese-mnist"),
            csv: Some("chinese_mnist.csv".into()),
            image: text("data/data/input_{suite_id}_{sample_id}_{code}.jpg"),
            label: text("value"),
            label_separator: text(" "),
            display: text("character"),
            group: text("suite_id"),
            licence: text("CC BY 4.0"),
            citation: text(
                "K. Nazarpour, M. Chen (2017), Handwritten Chinese Numbers, Newcastle University, \
                 doi 10.17634/137930-3",
            ),
        }
    }

    /// Reads `dataset.toml` in `folder`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, has more than 128 KiB, is not TOML or has an unknown key.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        let text = read_whole(&path, MAX_LEN).and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other));
        match text {
            Ok(text) => toml::from_str(text.trim_start_matches('\u{feff}'))
                .map(Some)
                .map_err(|e| Error::BadSpec { path, source: Box::new(e) }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Unreadable { path, source }),
        }
    }

    /// What `folder` says of itself: its `dataset.toml`, or the published layout of Chinese MNIST.
    ///
    /// # Errors
    ///
    /// As [`Spec::read`].
    pub fn of_folder(folder: &Path) -> Result<Option<Self>> {
        let published = || {
            Some(Self::chinese_mnist()).filter(|spec| spec.csv.as_ref().is_some_and(|csv| folder.join(csv).is_file()))
        };
        Ok(Self::read(folder)?.or_else(published))
    }

    /// The text of a `dataset.toml` that reads back as this description.
    ///
    /// # Panics
    ///
    /// If the path of the CSV file is not UTF-8.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("strings and a UTF-8 path always serialise")
    }

    /// This description, with `base` for what it leaves open.
    ///
    /// Where both name a CSV file, the columns of `base` describe another table and are left out.
    #[must_use]
    pub(crate) fn over(&self, base: &Self) -> Self {
        let columns = if self.csv.is_some() { &Self::default() } else { base };
        let pick = |own: &Option<String>, other: &Option<String>| own.clone().or_else(|| other.clone());
        Self {
            name: pick(&self.name, &base.name),
            csv: self.csv.clone().or_else(|| base.csv.clone()),
            image: pick(&self.image, &columns.image),
            label: pick(&self.label, &columns.label),
            label_separator: pick(&self.label_separator, &columns.label_separator),
            display: pick(&self.display, &columns.display),
            group: pick(&self.group, &columns.group),
            licence: pick(&self.licence, &base.licence),
            citation: pick(&self.citation, &base.citation),
        }
    }

    /// Whether anything is said that only a table can answer.
    pub(crate) fn names_columns(&self) -> bool {
        [&self.image, &self.label, &self.label_separator, &self.display, &self.group].iter().any(|key| key.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_round_trip() {
        let spec = Spec::chinese_mnist();
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Spec::read(folder.path()).expect("no file is no error"), None);
        std::fs::write(folder.path().join(FILE), spec.to_toml()).expect("written");
        assert_eq!(Spec::read(folder.path()).expect("read"), Some(spec));
        std::fs::write(folder.path().join(FILE), "\n".repeat(129 << 10)).expect("written");
        let error = Spec::read(folder.path()).expect_err("too long");
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert_eq!(cause, "it has 132096 bytes, more than the 131072 that are read");
    }

    #[test]
    fn unknown_keys_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(FILE), "labels = \"value\"").expect("written");
        let error = Spec::read(folder.path()).expect_err("unknown key");
        let source = std::error::Error::source(&error).expect("a source").to_string();
        assert!(source.contains("labels") && source.contains("label_separator"), "{source}");
    }

    #[test]
    fn flags_win_and_another_table_has_other_columns() {
        let base = Spec::chinese_mnist();
        let group = Spec { group: Some("sample_id".into()), ..Spec::default() };
        assert_eq!(group.over(&base), Spec { group: Some("sample_id".into()), ..base.clone() });
        let other = Spec { csv: Some("b.csv".into()), label: Some("x".into()), ..Spec::default() };
        let merged = other.over(&base);
        assert_eq!((merged.image, merged.group, merged.name), (None, None, base.name));
    }
}
