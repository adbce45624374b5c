//! Unpacks a zip archive that nobody vouches for.
//!
//! Everything that the directory of the archive says is judged before the first byte is written, and what it says is
//! not believed: bytes are counted as they come. A name is taken only if it means the same file, inside the target,
//! on every system; there are no links, no devices, and no file is ever opened that was there before.

#[cfg(test)]
mod tests;

use crate::progress::{Progress, bytes};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

/// What an archive may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) entries: u64,
    /// Bytes of its directory: names, notes and what else is said of entries.
    pub(crate) directory_bytes: u64,
    /// Folders, also those that no entry names but stand before others.
    pub(crate) folders: usize,
    pub(crate) entry_bytes: u64,
    /// Bytes of all files, and of the archive itself.
    pub(crate) total_bytes: u64,
    /// Bytes out for one byte in; entries under [`SMALL`] bytes are not asked.
    pub(crate) ratio: u64,
}

/// Below this size no compression ratio is suspicious.
const SMALL: u64 = 64 << 10;

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 50_000,
            directory_bytes: 8 << 20,
            folders: 1_000,
            entry_bytes: 64 << 20,
            total_bytes: 1 << 30,
            ratio: 100,
        }
    }
}

/// Why an archive was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// No zip archive at all.
    #[error("`{}` is not a zip archive: it begins with `{begins}`", path.display())]
    NotZip { path: PathBuf, begins: String },
    /// The archive's directory makes no sense.
    #[error("the zip archive `{}` is damaged or cut short", path.display())]
    Damaged { path: PathBuf, source: ZipError },
    /// Too many entries.
    #[error("the archive has more than {limit} entries")]
    TooMany { limit: u64 },
    /// Too much is said of the entries.
    #[error("the archive's directory has more than {}", bytes(*limit))]
    DirectoryTooLarge { limit: u64 },
    /// Too many folders.
    #[error("the archive has more than {limit} folders")]
    TooManyFolders { limit: usize },
    /// More bytes than may come of it.
    #[error("the archive has more than {}", bytes(*limit))]
    ArchiveTooLarge { limit: u64 },
    /// A name that would lead elsewhere, or mean different files on different systems.
    #[error("the archive has an entry with an unsafe name, {name:?}: {why}")]
    UnsafeName { name: String, why: &'static str },
    /// Two entries for one file.
    #[error("the archive has more than one entry for {name:?}")]
    Duplicate { name: String },
    /// A file that is to lie where a folder is.
    #[error("the archive has a file where it has a folder, for {name:?}")]
    FileAndFolder { name: String },
    /// Two entries with the same bytes as name; the reader of archives does not say which.
    #[error("the archive has two entries of the same name")]
    SameName,
    /// A link, a device, an encrypted entry or a method that we do not read.
    #[error("the archive's entry {name:?} is {what}")]
    Unsupported { name: String, what: &'static str },
    /// Entries that share bytes.
    #[error("entries of the archive share bytes, as only a zip bomb's do")]
    Overlap,
    /// One entry is too large.
    #[error("the archive's entry {name:?} unpacks to more than {}", bytes(*limit))]
    EntryTooLarge { name: String, limit: u64 },
    /// All together are too large.
    #[error("the archive unpacks to more than {}", bytes(*limit))]
    TotalTooLarge { limit: u64 },
    /// Compressed as only a bomb is.
    #[error("the archive's entry {name:?} unpacks to more than {limit} times its size")]
    RatioTooHigh { name: String, limit: u64 },
    /// The bytes of an entry are not those that were packed.
    #[error("the archive's entry {name:?} is damaged")]
    EntryDamaged { name: String, source: io::Error },
    /// The disk refused.
    #[error("cannot {what} `{}` at byte {at}", path.display())]
    Disk { what: &'static str, path: PathBuf, at: u64, source: io::Error },
}

impl Error {
    /// Whether another copy of the archive may be better: it is broken, not hostile.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::EntryDamaged { .. })
    }
}

/// Unpacks the entries of `archive` for which `keep` holds into the new folder `into`. Returns their number.
///
/// All entries are judged, also those that are not kept. On an error `into` may hold some files: the caller removes
/// it whole.
///
/// # Errors
///
/// See [`Error`].
pub(crate) fn unpack(
    archive: &Path,
    into: &Path,
    limits: &Limits,
    keep: &dyn Fn(&str) -> bool,
    progress: &mut Progress,
) -> Result<usize, Error> {
    let about = fs::metadata(archive).map_err(disk("open", archive, 0))?;
    if !about.is_file() && !about.is_dir() {
        // To open a pipe may take for ever.
        return Err(disk("open", archive, 0)(io::Error::other("it is a pipe or a device, no file")));
    }
    let mut file = File::open(archive).map_err(disk("open", archive, 0))?;
    check_magic(&mut file, archive)?;
    check_directory(&mut file, archive, limits)?;
    let damaged = |source| Error::Damaged { path: archive.to_owned(), source };
    let mut zip = ZipArchive::new(io::BufReader::new(file)).map_err(damaged)?;
    let plan = judge(&mut zip, limits, keep).map_err(|refusal| match refusal {
        Refusal::Zip(source) => damaged(source),
        Refusal::Error(error) => error,
    })?;
    fs::create_dir_all(into).map_err(disk("make", into, 0))?;
    progress.set_total(Some(plan.len() as u64));
    let mut total = 0;
    for (done, entry) in plan.iter().enumerate() {
        total += write_entry(&mut zip, entry, into, limits)?;
        if total > limits.total_bytes {
            let limit = limits.total_bytes;
            return Err(Error::TotalTooLarge { limit });
        }
        progress.at(done as u64 + 1);
    }
    progress.finish();
    Ok(plan.len())
}

/// An entry that will be written.
struct Planned {
    index: usize,
    name: String,
    packed: u64,
}

enum Refusal {
    Zip(ZipError),
    Error(Error),
}

impl From<ZipError> for Refusal {
    fn from(error: ZipError) -> Self {
        Self::Zip(error)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

fn check_magic(file: &mut File, path: &Path) -> Result<(), Error> {
    let mut begin = [0; 12];
    let mut n = 0;
    while n < begin.len() {
        match file.read(&mut begin[n..]).map_err(disk("read", path, 0))? {
            0 => break,
            more => n += more,
        }
    }
    if begin.starts_with(b"PK") {
        return Ok(());
    }
    Err(Error::NotZip {
        path: path.to_owned(),
        begins: String::from_utf8_lossy(&begin[..n]).escape_debug().to_string(),
    })
}

/// Refuses an archive whose directory would take more memory than it may, before any of it is taken.
///
/// What the end records say is not asked, since several may stand there, and which one a reader believes is its own
/// choice: each entry that any of them leads to begins with a mark (APPNOTE 4.3.12), and these are counted, with the
/// lengths behind them. By chance a mark stands in packed bytes once in 4 GB.
fn check_directory(file: &mut File, path: &Path, limits: &Limits) -> Result<(), Error> {
    const MARK: &[u8] = b"PK\x01\x02";
    const FIXED: usize = 46;
    let length = file.seek(SeekFrom::End(0)).map_err(disk("read", path, 0))?;
    if length > limits.total_bytes {
        return Err(Error::ArchiveTooLarge { limit: limits.total_bytes });
    }
    let (mut at, mut entries, mut bytes) = (0, 0, 0);
    let mut chunk = Vec::new();
    while at + FIXED as u64 <= length {
        file.seek(SeekFrom::Start(at)).map_err(disk("read", path, at))?;
        chunk.clear();
        Read::by_ref(file).take(1 << 20).read_to_end(&mut chunk).map_err(disk("read", path, at))?;
        for start in (0..chunk.len()).filter(|&start| chunk[start] == b'P' && chunk[start..].starts_with(MARK)) {
            let Some(header) = chunk.get(start..start + FIXED) else { continue };
            let lengths = [28, 30, 32].map(|at| u64::from(u16::from_le_bytes([header[at], header[at + 1]])));
            entries += 1;
            bytes += FIXED as u64 + lengths.iter().sum::<u64>();
        }
        if entries > limits.entries {
            return Err(Error::TooMany { limit: limits.entries });
        }
        if bytes > limits.directory_bytes {
            return Err(Error::DirectoryTooLarge { limit: limits.directory_bytes });
        }
        // A header across the end of this chunk is the next one's; a file that was cut meanwhile has none.
        at += chunk.len().saturating_sub(FIXED - 1).max(1) as u64;
    }
    file.rewind().map_err(disk("read", path, 0))
}

/// Checks every entry of the archive's directory, and that no two share bytes.
fn judge<R: Read + Seek>(
    zip: &mut ZipArchive<R>,
    limits: &Limits,
    keep: &dyn Fn(&str) -> bool,
) -> Result<Vec<Planned>, Refusal> {
    // The reader keeps one of two entries with the same bytes as name; it must not choose for us.
    if zip.has_duplicate_names() {
        return Err(Error::SameName.into());
    }
    let mut names = Names { seen: HashMap::new(), folders: 0, most_folders: limits.folders };
    let mut plan = Vec::new();
    let mut total = 0_u64;
    for index in 0..zip.len() {
        let entry = zip.by_index_data(index)?;
        let raw = String::from_utf8_lossy(entry.name_raw()).into_owned();
        if std::str::from_utf8(entry.name_raw()).is_err() {
            return Err(unsafe_name(&raw, "it is not UTF-8").into());
        }
        let kind = if raw.ends_with('/') { Kind::Folder } else { Kind::File };
        let name = raw.strip_suffix('/').unwrap_or(&raw);
        check_name(name)?;
        check_kind(&entry, name, kind)?;
        names.add(name, kind)?;
        check_size(name, entry.size(), entry.compressed_size(), limits)?;
        total = total.saturating_add(entry.size());
        if total > limits.total_bytes {
            let limit = limits.total_bytes;
            return Err(Error::TotalTooLarge { limit }.into());
        }
        if kind == Kind::File && keep(name) {
            plan.push(Planned { index, name: name.to_owned(), packed: entry.compressed_size() });
        }
    }
    if zip.has_overlapping_entries()? {
        return Err(Error::Overlap.into());
    }
    Ok(plan)
}

/// What the name of an entry says it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
}

fn check_kind(entry: &zip::read::ZipFileEntry<'_>, name: &str, kind: Kind) -> Result<(), Error> {
    const KIND: u32 = 0o170_000;
    const FOLDER: u32 = 0o040_000;
    const FILE: u32 = 0o100_000;
    let what = match entry.unix_mode().unwrap_or(0) & KIND {
        0o120_000 => "a link",
        FOLDER if kind == Kind::File => "a folder under a file's name",
        0 | FILE | FOLDER if entry.encrypted() => "encrypted",
        0 | FILE | FOLDER => match entry.compression() {
            CompressionMethod::Stored | CompressionMethod::Deflated => return Ok(()),
            _ => "compressed in a way that is not read here (stored and deflated are)",
        },
        _ => "a device, a pipe or a socket",
    };
    let name = name.to_owned();
    Err(Error::Unsupported { name, what })
}

fn check_size(name: &str, size: u64, packed: u64, limits: &Limits) -> Result<(), Error> {
    let name = || name.to_owned();
    if size > limits.entry_bytes {
        let limit = limits.entry_bytes;
        return Err(Error::EntryTooLarge { name: name(), limit });
    }
    if size > SMALL && size / limits.ratio > packed {
        let limit = limits.ratio;
        return Err(Error::RatioTooHigh { name: name(), limit });
    }
    Ok(())
}

fn unsafe_name(name: &str, why: &'static str) -> Error {
    let name = name.chars().take(200).collect();
    Error::UnsafeName { name, why }
}

/// Takes only names that mean one file, below the target, on Linux, macOS and Windows alike.
fn check_name(name: &str) -> Result<(), Error> {
    let refuse = |why| Err(unsafe_name(name, why));
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > 1024 || name.split('/').count() > 32 {
        return refuse("it is too long or too deep");
    }
    if name.starts_with('/') {
        return refuse("it is absolute");
    }
    if name.contains('\\') {
        return refuse("it has a backslash, which separates folders on Windows");
    }
    if name.contains(':') {
        return refuse("it has a colon, which names a drive or a stream on Windows");
    }
    if name.chars().any(|c| c.is_control() || "<>\"|?*".contains(c)) {
        return refuse("it has a character that not every system takes");
    }
    name.split('/').try_for_each(|part| match part {
        "" => refuse("it has an empty part"),
        "." | ".." => refuse("it climbs out of or stays in a folder"),
        _ if part.len() > 255 => refuse("a part of it is too long"),
        _ if part.ends_with(['.', ' ']) => refuse("Windows drops the end of a part"),
        _ if is_reserved(part) => refuse("it is a device on Windows"),
        _ => Ok(()),
    })
}

/// `CON`, `nul.txt`, `com1`, ...
fn is_reserved(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or(part).to_ascii_lowercase();
    let numbered = |prefix| stem.strip_prefix(prefix).is_some_and(|n| n.len() == 1 && n.as_bytes()[0].is_ascii_digit());
    matches!(stem.as_str(), "con" | "prn" | "aux" | "nul") || numbered("com") || numbered("lpt")
}

/// The names seen so far, as a file system that ignores case sees them.
struct Names {
    seen: HashMap<String, Kind>,
    folders: usize,
    most_folders: usize,
}

impl Names {
    /// Adds a file or folder, and the folders above it; refuses a second file, and a file that is also a folder.
    fn add(&mut self, name: &str, kind: Kind) -> Result<(), Error> {
        let key = name.to_lowercase();
        for (at, _) in key.match_indices('/') {
            self.insert(&key[..at], Kind::Folder, name)?;
        }
        self.insert(&key, kind, name)
    }

    fn insert(&mut self, key: &str, kind: Kind, name: &str) -> Result<(), Error> {
        match self.seen.get(key) {
            Some(Kind::Folder) if kind == Kind::Folder => Ok(()),
            Some(other) if *other != kind => Err(Error::FileAndFolder { name: name.into() }),
            Some(_) => Err(Error::Duplicate { name: name.into() }),
            None => {
                self.folders += usize::from(kind == Kind::Folder);
                if self.folders > self.most_folders {
                    return Err(Error::TooManyFolders { limit: self.most_folders });
                }
                self.seen.insert(key.to_owned(), kind);
                Ok(())
            }
        }
    }
}

/// Writes one entry as a new file, counting what really comes. Returns its length.
fn write_entry<R: Read + Seek>(
    zip: &mut ZipArchive<R>,
    entry: &Planned,
    into: &Path,
    limits: &Limits,
) -> Result<u64, Error> {
    let name = &entry.name;
    let entry_damaged = |source| Error::EntryDamaged { name: name.clone(), source };
    let path = into.join(name);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(disk("make", folder, 0))?;
    }
    let mut out = OpenOptions::new().write(true).create_new(true).open(&path).map_err(disk("make", &path, 0))?;
    let mut reader = zip.by_index(entry.index).map_err(|error| entry_damaged(error.into()))?;
    let mut chunk = vec![0; 32 << 10];
    let mut at = 0;
    loop {
        let n = match reader.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(entry_damaged(error)), // Also a wrong CRC-32.
        };
        check_size(name, at + n as u64, entry.packed, limits)?;
        out.write_all(&chunk[..n]).map_err(disk("write", &path, at))?;
        at += n as u64;
    }
    if at != reader.size() {
        let text = format!("{at} bytes came, {} were announced", reader.size());
        let source = io::Error::new(io::ErrorKind::InvalidData, text);
        return Err(entry_damaged(source));
    }
    Ok(at)
}

fn disk(what: &'static str, path: &Path, at: u64) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Disk { what, path, at, source }
}
