use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Writes `bytes` to `path` so that a reader, or the next start after a crash, finds the old file or the new one whole.
///
/// The bytes go to a new file in the same folder, are flushed to the disk, and take the name at once; then the folder
/// is flushed, so that the name survives a power cut. On failure the new file is removed.
///
/// # Errors
///
/// [`Error::Write`] with what the system said; `path` then holds what it held before.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    let temp = temp_path(path);
    let result = write_new(&temp, bytes).and_then(|()| fs::rename(&temp, path));
    if let Err(source) = result {
        let _ = fs::remove_file(&temp); // The first error is the one to tell.
        return Err(Error::Write { path: path.to_owned(), bytes: Some(bytes.len() as u64), source });
    }
    flush_folder(path).map_err(|source| Error::Write { path: path.to_owned(), bytes: None, source })
}

/// A name beside `path` that no other writer uses: process and a count tell them apart.
fn temp_path(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{count}.tmp", std::process::id()))
}

/// Whether `name` is that of an unfinished `file`, as whoever writes a run's files calls it: `.FILE.` and what tells
/// writers apart and `.tmp`.
pub(super) fn is_part_of(name: &str, file: &str) -> bool {
    let writer = || name.strip_prefix('.')?.strip_prefix(file)?.strip_prefix('.')?.strip_suffix(".tmp");
    writer().is_some_and(|writer| {
        !writer.is_empty() && writer.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn flush_folder(path: &Path) -> io::Result<()> {
    // Only Unix opens a folder as a file; elsewhere the rename is as durable as it gets.
    if !cfg!(unix) {
        return Ok(());
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
