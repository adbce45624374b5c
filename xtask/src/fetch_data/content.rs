//! Whether a folder holds the data set, the whole data set and nothing else; and if not, what differs.

use crate::progress::Progress;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The table, in the root of the data set.
pub(super) const CSV: &str = "chinese_mnist.csv";
/// The images, below the root; forward slashes, since this goes into the content hash.
pub(super) const IMAGES: &str = "data/data";
const HEADER: &str = "suite_id,sample_id,code,value,character";
/// `value` and `character` of code 1, 2, ...
const CLASSES: [(&str, &str); 15] = [
    ("0", "零"),
    ("1", "一"),
    ("2", "二"),
    ("3", "三"),
    ("4", "四"),
    ("5", "五"),
    ("6", "六"),
    ("7", "七"),
    ("8", "八"),
    ("9", "九"),
    ("10", "十"),
    ("100", "百"),
    ("1000", "千"),
    ("10000", "万"),
    ("100000000", "亿"),
];

/// What the data set holds.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) writers: u32,
    pub(super) samples: u32,
    /// SHA-256 over the lines `<sha256>  data/data/<name>\n`, in byte order of the path.
    pub(super) images_sha256: String,
    /// SHA-256 of the table with CR LF at the ends of its lines.
    pub(super) csv_sha256: String,
    /// First two bytes of each image's SHA-256, in the order of [`Expected::names`].
    pub(super) sums: Vec<u16>,
}

impl Expected {
    /// Names of the images: by writer, then sample, then code.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        let samples = self.samples;
        (1..=self.writers).flat_map(move |writer| {
            (1..=samples).flat_map(move |sample| {
                (1..=CLASSES.len()).map(move |code| format!("{IMAGES}/input_{writer}_{sample}_{code}.jpg"))
            })
        })
    }

    /// All rows that the table must have, in any order.
    fn rows(&self) -> BTreeSet<String> {
        let mut rows = BTreeSet::new();
        for writer in 1..=self.writers {
            for sample in 1..=self.samples {
                for (i, (value, character)) in CLASSES.iter().enumerate() {
                    let code = i + 1;
                    rows.insert(format!("{writer},{sample},{code},{value},{character}"));
                }
            }
        }
        rows
    }
}

/// A folder that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) images: usize,
    pub(super) writers: u32,
    pub(super) classes: usize,
    pub(super) images_sha256: String,
    /// Whether the table has the published rows in another order: a seeded split is then another one.
    pub(super) reordered: bool,
}

/// Why a folder is not the data set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum Error {
    /// Something else altogether.
    #[error("`{}` is not Chinese MNIST: {why}", path.display())]
    Other { path: PathBuf, why: String },
    /// The images are not those that were published.
    #[error("`{}` is not Chinese MNIST as published: {differences}", path.display())]
    Images { path: PathBuf, differences: Differences },
    /// The table's rows are not those that were published.
    #[error("the table `{}` is not the published one: {what}", path.display())]
    Table { path: PathBuf, what: String },
    /// A file or folder cannot be read.
    #[error("cannot read `{}`", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
}

/// Images that differ, by path below the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Differences {
    pub(super) missing: Vec<String>,
    pub(super) extra: Vec<String>,
    pub(super) changed: Vec<String>,
    pub(super) found_sha256: String,
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [(&self.missing, "missing"), (&self.extra, "too many"), (&self.changed, "changed")];
        for (names, kind) in kinds.into_iter().filter(|(names, _)| !names.is_empty()) {
            write!(f, "{} {kind} ({}); ", names.len(), few(names))?;
        }
        write!(f, "content hash {}", self.found_sha256)
    }
}

/// The first few of many.
fn few(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        text.push_str(", ...");
    }
    text
}

/// The folder with the table: `folder` itself or, as archives often have one folder around all, one a little below.
///
/// # Errors
///
/// If there is none, with what there is instead.
pub(super) fn find_root(folder: &Path) -> Result<PathBuf, Error> {
    let mut level = vec![folder.to_owned()];
    for _ in 0..3 {
        if let Some(root) = level.iter().find(|root| root.join(CSV).is_file()) {
            return Ok(root.clone());
        }
        let mut below = Vec::new();
        for folder in &level {
            let entries = sorted_entries(folder)?;
            below.extend(entries.into_iter().map(|n| folder.join(n)).filter(|p| p.is_dir()));
        }
        level = below;
    }
    let entries = sorted_entries(folder)?;
    let why = if entries.is_empty() {
        "it is empty".to_owned()
    } else {
        format!("there is no `{CSV}`; it holds {}", few(&entries))
    };
    let path = folder.to_owned();
    Err(Error::Other { path, why })
}

/// Reads every file of the data set in `root` and compares.
///
/// Files that are neither the table nor in the folder of images are not looked at, nor is what there is no image.
///
/// # Errors
///
/// See [`Error`].
pub(super) fn check(root: &Path, expected: &Expected, progress: &mut Progress) -> Result<Whole, Error> {
    let found = hash_images(root, progress)?;
    let images_sha256 = content_hash(&found);
    if images_sha256 != expected.images_sha256 {
        return Err(describe_difference(root, expected, &found, images_sha256));
    }
    let reordered = check_table(&root.join(CSV), expected)?;
    Ok(Whole { images: found.len(), writers: expected.writers, classes: CLASSES.len(), images_sha256, reordered })
}

type Sums = BTreeMap<String, [u8; 32]>;

fn hash_images(root: &Path, progress: &mut Progress) -> Result<Sums, Error> {
    let folder = root.join(IMAGES);
    if !folder.is_dir() {
        let path = root.to_owned();
        let why = format!("there is no folder `{IMAGES}`");
        return Err(Error::Other { path, why });
    }
    let names: Vec<_> = sorted_entries(&folder)?.into_iter().filter(|name| is_image(name)).collect();
    progress.set_total(Some(names.len() as u64));
    let mut sums = Sums::new();
    for name in names {
        let path = folder.join(&name);
        let bytes = read(&path).map_err(unreadable(&path))?;
        sums.insert(format!("{IMAGES}/{name}"), Sha256::digest(bytes).into());
        progress.at(sums.len() as u64);
    }
    progress.finish();
    Ok(sums)
}

/// Whether a file in the folder of images is one, rather than what systems leave there (`._x.jpg`, `Thumbs.db`).
pub(super) fn is_image(name: &str) -> bool {
    !name.starts_with('.') && name.to_ascii_lowercase().ends_with(".jpg")
}

fn content_hash(sums: &Sums) -> String {
    let mut all = Sha256::new();
    // The order of a map of paths is the byte order.
    for (name, sum) in sums {
        all.update(format!("{}  {name}\n", hex(sum)));
    }
    hex(&all.finalize())
}

fn describe_difference(root: &Path, expected: &Expected, found: &Sums, found_sha256: String) -> Error {
    let names: BTreeMap<String, u16> = expected.names().zip(expected.sums.iter().copied()).collect();
    let known = found.keys().filter(|name| names.contains_key(*name)).count();
    if known == 0 {
        let path = root.to_owned();
        let why = format!("none of the {} images in `{IMAGES}` has one of its names", found.len());
        return Error::Other { path, why };
    }
    let begin = |sum: &[u8; 32]| u16::from_be_bytes([sum[0], sum[1]]);
    let differs = |name: &&String| names.get(*name).is_some_and(|sum| *sum != begin(&found[*name]));
    let differences = Differences {
        missing: names.keys().filter(|n| !found.contains_key(*n)).cloned().collect(),
        extra: found.keys().filter(|n| !names.contains_key(*n)).cloned().collect(),
        changed: found.keys().filter(differs).cloned().collect(),
        found_sha256,
    };
    Error::Images { path: root.to_owned(), differences }
}

/// A whole file of a folder that strangers may have made; to open a pipe may take for ever.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let about = fs::metadata(path)?;
    match about.is_file() || about.is_dir() {
        true => fs::read(path),
        false => Err(std::io::Error::other("it is a pipe or a device, no file")),
    }
}

/// Whether the table has the published rows in another order; an error if it has other rows.
fn check_table(path: &Path, expected: &Expected) -> Result<bool, Error> {
    let bytes = read(path).map_err(unreadable(path))?;
    let table = |what| {
        let path = path.to_owned();
        Error::Table { path, what }
    };
    let text = String::from_utf8(bytes).map_err(|_| table("it is not UTF-8".into()))?;
    let lines: Vec<&str> = text.trim_start_matches('\u{feff}').lines().collect();
    // Line ends and a byte order mark change with the tools on the way, and mean nothing.
    let published: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    if hex(&Sha256::digest(published)) == expected.csv_sha256 {
        return Ok(false);
    }
    match lines.first() {
        Some(header) if header.trim() == HEADER => {}
        Some(header) => return Err(table(format!("it begins with `{header}`, not `{HEADER}`"))),
        None => return Err(table("it is empty".into())),
    }
    let mut rows = expected.rows();
    for (i, line) in lines.iter().enumerate().skip(1) {
        let line = line.trim();
        if !line.is_empty() && !rows.remove(line) {
            let at = i + 1;
            return Err(table(format!("line {at}, `{line}`, is wrong or there twice")));
        }
    }
    match rows.first() {
        Some(row) => Err(table(format!("{} rows are missing, `{row}` first", rows.len()))),
        None => Ok(true),
    }
}

fn sorted_entries(folder: &Path) -> Result<Vec<String>, Error> {
    let mut names = fs::read_dir(folder)
        .and_then(|entries| {
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<io::Result<Vec<_>>>()
        })
        .map_err(unreadable(folder))?;
    names.sort();
    Ok(names)
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Unreadable { path, source }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // Writing to a string cannot fail.
        text
    })
}
