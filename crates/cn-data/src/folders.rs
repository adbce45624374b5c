//! An index from folders: the name of a folder is the label of what it holds.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Error, Record, Result, index::Found};

/// Names that a training part goes by in any case, the best first.
const TRAIN: [&str; 2] = ["train", "training"];
/// The same of a validation part.
const VAL: [&str; 5] = ["val", "valid", "validation", "test", "testing"];
/// Endings of the formats that can be decoded.
const ENDINGS: [&str; 8] = ["jpg", "jpeg", "png", "bmp", "gif", "webp", "tif", "tiff"];
/// Deepest folder looked into; far beyond any real data set.
const MAX_DEPTH: u32 = 32;

/// Lists `folder/train/<label>/*`, with a validation part if there is one, else `folder/<label>/*`.
pub(crate) fn read(folder: &Path) -> Result<Found> {
    let mut records = Vec::new();
    let mut fixed_val = None;
    if let Some(train) = part(folder, &TRAIN)?.filter(|train| is_of_parts(folder, train).unwrap_or(true)) {
        add_part(&mut records, &folder.join(&train), &format!("{train}/"))?;
        let first = records.len() as u32;
        if let Some(val) = part(folder, &VAL)? {
            add_part(&mut records, &folder.join(&val), &format!("{val}/"))?;
            fixed_val = Some((first..records.len() as u32).collect());
        }
    } else {
        add_part(&mut records, folder, "")?;
    }
    if records.is_empty() {
        return Err(Error::NotRecognised { path: folder.to_owned() });
    }
    Ok(Found { records, fixed_val, ..Found::default() })
}

/// The images below `path`, or `path` itself if it is a file, as full paths in byte order.
///
/// Looks into folders at any depth, but not through links to folders; hidden files and other endings are left out.
///
/// # Errors
///
/// If a folder cannot be read, or a name is not UTF-8.
pub fn find_images(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut names = Vec::new();
    walk(path, "", MAX_DEPTH, &mut names)?;
    names.sort_unstable();
    Ok(names.into_iter().map(|name| path.join(name)).collect())
}

/// The folder in `folder` that goes by the best of these names.
fn part(folder: &Path, names: &[&str]) -> Result<Option<String>> {
    let mut found = Vec::new();
    for Entry { name, .. } in entries(folder)?.into_iter().filter(|entry| entry.path.is_dir()) {
        let lower = name.to_lowercase();
        if let Some(place) = names.iter().position(|known| *known == lower) {
            // As it is spelled in the lists, if there are several.
            found.push((place, name != lower, name));
        }
    }
    Ok(found.into_iter().min().map(|(_, _, name)| name))
}

/// Whether a folder is divided into parts. It is not where `train` holds no labels, but stands beside other ones: then it
/// is one of them.
fn is_of_parts(folder: &Path, train: &str) -> Result<bool> {
    let is_part = |name: &str| TRAIN.iter().chain(&VAL).any(|known| *known == name.to_lowercase());
    let has_labels = entries(&folder.join(train))?.iter().any(|entry| entry.path.is_dir());
    Ok(has_labels || entries(folder)?.iter().filter(|entry| entry.path.is_dir()).all(|entry| is_part(&entry.name)))
}

/// Adds the images of `part/<label>/`, by label and path; `prefix` leads from the root to `part`.
fn add_part(records: &mut Vec<Record>, part: &Path, prefix: &str) -> Result<()> {
    for Entry { path, name, .. } in entries(part)?.into_iter().filter(|entry| entry.path.is_dir()) {
        let mut images = Vec::new();
        walk(&path, &format!("{prefix}{name}/"), MAX_DEPTH, &mut images)?;
        if images.is_empty() {
            tracing::warn!(folder = %path.display(), "folder without images left out");
        }
        images.sort_unstable();
        let record = |path| Record { path, labels: vec![name.clone()], group: None };
        records.extend(images.into_iter().map(record));
    }
    Ok(())
}

/// Adds the images below `folder` to `images`, each with `prefix` before its path.
fn walk(folder: &Path, prefix: &str, depth: u32, images: &mut Vec<String>) -> Result<()> {
    for Entry { path, name, is_real_folder } in entries(folder)? {
        if is_real_folder {
            if depth > 0 {
                walk(&path, &format!("{prefix}{name}/"), depth - 1, images)?;
            }
        } else if has_image_ending(&name) {
            images.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

struct Entry {
    path: PathBuf,
    name: String,
    /// False for a link to a folder.
    is_real_folder: bool,
}

/// What stands in a folder and is not hidden, by name.
fn entries(folder: &Path) -> Result<Vec<Entry>> {
    let unreadable = |source| Error::Unreadable { path: folder.to_owned(), source };
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        let is_real_folder = entry.file_type().map_err(unreadable)?.is_dir();
        match entry.file_name().into_string() {
            Ok(name) if name.starts_with('.') => {}
            Ok(name) => entries.push(Entry { path, name, is_real_folder }),
            Err(_) => return Err(Error::NameNotUtf8 { path }),
        }
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn has_image_ending(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    ENDINGS.iter().any(|known| known.eq_ignore_ascii_case(ending))
}

#[cfg(test)]
mod tests;
