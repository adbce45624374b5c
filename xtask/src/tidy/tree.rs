//! The files of the workspace, as git sees them.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Every file that is or could be tracked, with its bytes.
pub(super) struct Tree {
    /// By path from the root, with forward slashes.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// The root as text, which no file should contain.
    pub(super) root: String,
}

impl Tree {
    /// Asks git, so that ignored files stay out; without git or a repository, walks past `target` and dot-folders.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let names = match from_git(root) {
            Some(names) => names,
            None => walk(root, "")?,
        };
        let mut files = BTreeMap::new();
        for name in names {
            // A file that is tracked and deleted has no content, which is no error here.
            if let Ok(bytes) = fs::read(root.join(&name)) {
                files.insert(name, bytes);
            }
        }
        let root = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        Ok(Self { files, root: root.to_string_lossy().into_owned() })
    }

    /// A tree of these files; for tests.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
        let root = "/somewhere/else".into();
        Self { files, root }
    }

    /// The files that are text, without invalid UTF-8 ones.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(name, bytes)| {
            let text = std::str::from_utf8(bytes).ok()?;
            (!text.contains('\0')).then_some((name.as_str(), text))
        })
    }

    /// One text file.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.files.get(name)?).ok()
    }
}

fn from_git(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let names: Vec<_> = text.split_terminator('\0').map(str::to_owned).collect();
    (output.status.success() && !names.is_empty()).then_some(names)
}

fn walk(root: &Path, below: &str) -> Result<Vec<String>> {
    let folder = root.join(below);
    let mut names = Vec::new();
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        if !entry.file_type()?.is_dir() {
            names.push(path);
        } else if !matches!(path.as_str(), ".git" | "target" | "runs" | "data") {
            names.extend(walk(root, &path)?);
        }
    }
    Ok(names)
}
