//! Which images a model has seen, so that nobody takes them for news.

use std::collections::BTreeMap;
use std::path::Path;

use super::{MOST_OF_IMAGES, atomic::write_atomic, read_at_most};
use crate::error::{Error, Result};

/// The image files that a model was trained on, and those that the weights it began with were: SHA-256 and a name each,
/// in the form that `sha256sum` writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrainedOn {
    names: BTreeMap<String, String>,
}

impl TrainedOn {
    /// Reads `trained-on.sha256`; no file holds no images: older runs have none, and drawn images are no files.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or a line holds no hash.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if !path.exists() {
            return Ok(Self::default());
        }
        let bytes = read_at_most(path, MOST_OF_IMAGES)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut names = BTreeMap::new();
        for (line, number) in text.lines().zip(1..) {
            // A name with a line break is marked by a backslash before the hash.
            let (sha256, name) = line.strip_prefix('\\').unwrap_or(line).split_once("  ").unwrap_or((line, ""));
            if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(Error::Cell {
                    path: path.to_owned(),
                    line: number,
                    column: "sha256".into(),
                    found: sha256.to_owned(),
                    expected: "a hash of 64 hex digits",
                });
            }
            names.insert(sha256.to_owned(), name.to_owned());
        }
        Ok(Self { names })
    }

    /// Writes `trained-on.sha256`.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let line = |(sha256, name): (&String, &String)| match name.contains(['\n', '\r', '\\']) {
            true => {
                let name = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
                format!("\\{sha256}  {name}\n")
            }
            false => format!("{sha256}  {name}\n"),
        };
        write_atomic(path, self.names.iter().map(line).collect::<String>().as_bytes())
    }

    /// Adds an image file by the lower-case hex of its SHA-256; the first name of a content stays.
    pub fn insert(&mut self, sha256: String, name: &str) {
        self.names.entry(sha256).or_insert_with(|| name.to_owned());
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: Self) {
        other.names.into_iter().for_each(|(sha256, name)| self.insert(sha256, &name));
    }

    /// Whether the file with this hash was trained on.
    #[must_use]
    pub fn contains(&self, sha256: &str) -> bool {
        self.names.contains_key(sha256)
    }

    /// How many different files.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_whatever_the_names() -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t");
        let mut seen = TrainedOn::default();
        for (digit, name) in ["a/1.png", "two  spaces", "line\nbreak", "back\\slash", ""].iter().enumerate() {
            seen.insert(format!("{digit}").repeat(64), name);
        }
        seen.insert("0".repeat(64), "a copy");
        seen.write(&path)?;
        let again = TrainedOn::read(&path)?;
        assert_eq!((again.len(), again.contains(&"3".repeat(64)), again.contains(&"9".repeat(64))), (5, true, false));
        assert_eq!(std::fs::read_to_string(&path).expect("text").lines().count(), 5);
        assert!(TrainedOn::read(folder.path().join("missing"))?.is_empty());

        std::fs::write(&path, format!("{}  a\nnonsense\n", "0".repeat(64))).expect("written");
        let error = TrainedOn::read(&path).expect_err("no hash");
        assert!(error.to_string().contains("line 2"), "{error}");
        Ok(())
    }
}
