//! The names of the splits.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How named groups are shown.
pub(crate) const VAL_GROUPS: &str = "val-groups";

/// How images come into the validation part.
///
/// Reads and shows itself as on the command line: `random`, `group`, `stratified`, `kfold:5/0`, `fixed`; named groups
/// show as `val-groups`. Serialised as that text, named groups as `{ val_groups = ["3", "14"] }`.
///
/// ```
/// use cn_data::SplitMethod;
///
/// let method: SplitMethod = "kfold:5/0".parse()?;
/// assert_eq!(method, SplitMethod::KFold { k: 5, fold: 0 });
/// # Ok::<(), cn_data::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
#[non_exhaustive]
pub enum SplitMethod {
    /// fastai's `RandomSplitter(valid_pct, seed)`, bit for bit; tears groups apart.
    Random,
    /// A random share of the groups, whole; as near to the share of images as their sizes allow.
    Group,
    /// Exactly these groups.
    ValGroups(Vec<String>),
    /// A random share of each class.
    Stratified,
    /// One of `k` parts that together cover all images: of whole groups where every image has one, else stratified.
    KFold {
        /// Number of parts, at least 2.
        k: u32,
        /// Which part validates, from 0.
        fold: u32,
    },
    /// As the folders of the data set say, see [`crate::Index::fixed_val`].
    Fixed,
}

impl SplitMethod {
    /// Checks what can be checked without a data set.
    pub(super) fn check(&self) -> Result<()> {
        match *self {
            Self::KFold { k, fold } if k < 2 || fold >= k => Err(Error::BadFold { k, fold }),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for SplitMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random => f.write_str("random"),
            Self::Group => f.write_str("group"),
            Self::ValGroups(_) => f.write_str(VAL_GROUPS),
            Self::Stratified => f.write_str("stratified"),
            Self::KFold { k, fold } => write!(f, "kfold:{k}/{fold}"),
            Self::Fixed => f.write_str("fixed"),
        }
    }
}

impl FromStr for SplitMethod {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fold = || {
            let (k, fold) = text.strip_prefix("kfold:")?.split_once('/')?;
            Some(Self::KFold { k: k.parse().ok()?, fold: fold.parse().ok()? })
        };
        let method = match text {
            "random" => Self::Random,
            "group" => Self::Group,
            "stratified" => Self::Stratified,
            "fixed" => Self::Fixed,
            _ => fold().ok_or_else(|| Error::UnknownMethod { text: text.to_owned() })?,
        };
        method.check().map(|()| method)
    }
}

/// The stored form.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Name(String),
    Groups { val_groups: Vec<String> },
}

impl TryFrom<Stored> for SplitMethod {
    type Error = Error;

    fn try_from(stored: Stored) -> Result<Self> {
        match stored {
            Stored::Name(name) => name.parse(),
            Stored::Groups { val_groups } => Ok(Self::ValGroups(val_groups)),
        }
    }
}

impl From<SplitMethod> for Stored {
    fn from(method: SplitMethod) -> Self {
        match method {
            SplitMethod::ValGroups(val_groups) => Self::Groups { val_groups },
            other => Self::Name(other.to_string()),
        }
    }
}

/// The name that fewest edits lead to, if they change no more than a third of it; cases count as equal.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let name = name.trim().to_lowercase();
    let edits = |other: &&str| strsim::levenshtein(&name, &other.to_lowercase());
    let best = known.min_by_key(edits)?;
    let length = name.chars().count().max(best.chars().count());
    (edits(&best) <= length / 3).then(|| best.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) {
        let method: SplitMethod = text.parse().expect(text);
        assert_eq!(method.to_string(), text);
        let json = serde_json::to_string(&method).expect("serialises");
        assert_eq!(json, format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<SplitMethod>(&json).expect("reads back"), method);
    }

    #[test]
    fn names_round_trip() {
        ["random", "group", "stratified", "fixed", "kfold:5/0", "kfold:10/9"].into_iter().for_each(round_trip);
    }

    #[test]
    fn only_a_name_that_is_near_is_suggested() {
        let near = |name| nearest(name, ["1", "2", "10", "g3", "writer 7"].into_iter());
        for (name, expected) in [("writr 7", "writer 7"), ("Writer 8", "writer 7"), ("G3", "g3"), ("101", "10")] {
            assert_eq!(near(name).as_deref(), Some(expected), "{name}");
        }
        for name in ["xx", "7", "", "reader", "1000"] {
            assert_eq!(near(name), None, "{name}");
        }
    }

    #[test]
    fn named_groups_are_stored_as_a_list() {
        let method = SplitMethod::ValGroups(vec!["3".into(), "a,b".into()]);
        let json = serde_json::to_string(&method).expect("serialises");
        assert_eq!(json, r#"{"val_groups":["3","a,b"]}"#);
        assert_eq!(serde_json::from_str::<SplitMethod>(&json).expect("reads back"), method);
    }

    #[test]
    fn other_names_are_refused() {
        for text in ["", "Random", "kfold", "kfold:5", "kfold:5/", "kfold:a/b", "kfold:-5/0", "val-groups"] {
            assert!(matches!(text.parse::<SplitMethod>(), Err(Error::UnknownMethod { .. })), "{text}");
        }
        for text in ["kfold:1/0", "kfold:5/5", "kfold:0/0"] {
            assert!(matches!(text.parse::<SplitMethod>(), Err(Error::BadFold { .. })), "{text}");
        }
    }
}
