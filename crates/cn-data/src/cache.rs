//! Decoded pixels kept between runs.
//!
//! One file a data set under the user's cache folder, named by its key. Numbers are little-endian:
//! header (magic, channels, images, bytes of pixels, key), heights and widths, digests of the files, checksums of the
//! blocks of pixels, checksum of all that; then the pixels.

use std::{
    env,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process,
    time::SystemTime,
};

use rayon::prelude::*;

use crate::{Digest, Index, LoadConfig, Pixels, load::Stat, pixels::Place};

/// Changes with the layout of the file or with what decoding gives.
const MAGIC: [u8; 8] = *b"cnpix\0\0\x04";
const HEADER: usize = 8 + 3 * 8 + 32;
/// Bytes that are read and checked at a time.
const BLOCK: usize = 4 << 20;
/// Old files are removed when there are more.
const MAX_FILES: usize = 16;

/// Where decoded pixels are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Cache {
    /// `$XDG_CACHE_HOME/cn`, else `~/.cache/cn`; nowhere if neither is known.
    #[default]
    User,
    /// In this folder, made if needed.
    Folder(PathBuf),
    /// Nowhere.
    Off,
}

impl Cache {
    fn folder(&self) -> Option<PathBuf> {
        match self {
            Self::Off => None,
            Self::Folder(folder) => Some(folder.clone()),
            Self::User => env::var_os("XDG_CACHE_HOME")
                .map(PathBuf::from)
                // The specification of XDG has relative paths ignored.
                .filter(|folder| folder.is_absolute())
                .or_else(|| Some(env::home_dir()?.join(".cache")))
                .map(|folder| folder.join("cn")),
        }
    }
}

/// The place of one data set in the cache.
#[derive(Debug)]
pub(crate) struct Entry {
    folder: PathBuf,
    key: Digest,
    n: usize,
}

impl Entry {
    /// Keyed by the index, the way of decoding, and path, size and times of each file; none if a file is missing.
    pub(crate) fn of(index: &Index, stats: &[Stat], config: &LoadConfig) -> Option<Self> {
        let folder = config.cache.folder()?;
        let root = index.root().canonicalize().ok()?;
        let mut text = format!("{}\n{}\n{:?}\n", root.display(), index.sha256(), config.decode);
        for (record, stat) in index.records().iter().zip(stats) {
            use std::fmt::Write as _;
            let (size, [written, changed]) = stat.size_and_times()?;
            writeln!(text, "{}\t{size}\t{written}\t{changed}", record.path).expect("writing to a string cannot fail");
        }
        Some(Self { folder, key: Digest::of(text.as_bytes()), n: index.len() })
    }

    fn path(&self) -> PathBuf {
        self.folder.join(format!("pixels-{}.bin", &self.key.to_string()[..32]))
    }

    /// The pixels, if they are there and whole.
    pub(crate) fn read(&self) -> Option<Pixels> {
        let path = self.path();
        match read(&path, self) {
            Ok(pixels) => {
                // Marks the file as used, for the removal of old ones; no harm if it fails.
                let _ = File::options().append(true).open(&path).and_then(|f| f.set_modified(SystemTime::now()));
                tracing::debug!(path = %path.display(), "pixels taken from the cache");
                Some(pixels)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cache not usable, decoding again");
                None
            }
        }
    }

    /// Keeps the pixels; whoever reads meanwhile sees the old file or the whole new one.
    pub(crate) fn write(&self, pixels: &Pixels) {
        let path = self.path();
        let beside = path.with_extension(format!("{}.tmp", process::id()));
        let written = fs::create_dir_all(&self.folder)
            .and_then(|()| write(&beside, self, pixels))
            .and_then(|()| fs::rename(&beside, &path));
        match written {
            Ok(()) => remove_oldest(&self.folder),
            Err(error) => {
                let _ = fs::remove_file(&beside);
                tracing::warn!(path = %path.display(), %error, "pixels not kept in the cache");
            }
        }
    }
}

fn write(path: &Path, entry: &Entry, pixels: &Pixels) -> io::Result<()> {
    let bytes = pixels.bytes();
    let mut head = MAGIC.to_vec();
    for number in [pixels.channels(), pixels.len(), bytes.len()] {
        head.extend((number as u64).to_le_bytes());
    }
    head.extend(entry.key.as_bytes());
    for place in pixels.places() {
        head.extend(place.height.to_le_bytes());
        head.extend(place.width.to_le_bytes());
    }
    let files = pixels.file_sha256().ok_or_else(|| damaged("images that are no files"))?;
    files.iter().for_each(|digest| head.extend(digest.as_bytes()));
    let sums: Vec<u64> = bytes.par_chunks(BLOCK).map(checksum).collect();
    sums.iter().for_each(|sum| head.extend(sum.to_le_bytes()));
    head.extend(checksum(&head).to_le_bytes());
    let mut file = File::create(path)?;
    file.write_all(&head)?;
    file.write_all(bytes)
}

fn read(path: &Path, entry: &Entry) -> io::Result<Pixels> {
    if !fs::metadata(path)?.is_file() {
        return Err(damaged("another kind"));
    }
    let mut file = File::open(path)?;
    let mut head = vec![0; HEADER];
    file.read_exact(&mut head)?;
    let number = |i: usize| u64::from_le_bytes(head[8 + 8 * i..][..8].try_into().expect("eight bytes"));
    let (channels, n, total) = (number(0), number(1), number(2));
    let known = head[..8] == MAGIC && head[32..] == entry.key.as_bytes()[..];
    if !known || n != entry.n as u64 || !matches!(channels, 1 | 3) {
        return Err(damaged("another format or data set"));
    }
    let n = entry.n;
    let blocks = total.div_ceil(BLOCK as u64);
    let head_len = HEADER as u64 + n as u64 * (8 + 32) + blocks.saturating_mul(8) + 8;
    // The length is checked before anything is allocated by what the header says.
    if head_len.saturating_add(total) != file.metadata()?.len() {
        return Err(damaged("a wrong length"));
    }
    head.resize(head_len as usize, 0);
    file.read_exact(&mut head[HEADER..])?;
    let (head, sum) = head.split_at(head_len as usize - 8);
    if checksum(head).to_le_bytes() != *sum {
        return Err(damaged("a wrong checksum"));
    }
    let (sides, rest) = head[HEADER..].split_at(n * 8);
    let (digests, sums) = rest.split_at(n * 32);
    let places = places(sides, channels as usize);
    let files = digests.chunks_exact(32).map(|d| Digest::from_bytes(d.try_into().expect("32 bytes"))).collect();
    let bytes = read_pixels(path, head_len, total as usize, sums)?;
    Ok(Pixels::from_files(channels as usize, bytes, places, files))
}

/// Where the images of these heights and widths stand.
fn places(sides: &[u8], channels: usize) -> Vec<Place> {
    let side = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let mut offset = 0;
    let place = |sides: &[u8]| {
        let place = Place { offset, height: side(&sides[..4]), width: side(&sides[4..]) };
        offset += place.height as usize * place.width as usize * channels;
        place
    };
    sides.chunks_exact(8).map(place).collect()
}

/// Reads the blocks in parallel, each through a file handle of its own, and checks them.
fn read_pixels(path: &Path, start: u64, total: usize, sums: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; total];
    bytes.par_chunks_mut(BLOCK).zip(sums.par_chunks_exact(8)).enumerate().try_for_each(|(i, (block, sum))| {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(start + (i * BLOCK) as u64))?;
        file.read_exact(block)?;
        if checksum(block).to_le_bytes() == *sum { Ok(()) } else { Err(damaged("a wrong checksum")) }
    })?;
    Ok(bytes)
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the file has {what}"))
}

/// A 64-bit checksum against accidents: any change of a single word changes it, others but for 1 in 2^64.
///
/// Four lanes of xor, multiply by an odd number, rotate: each step is a bijection of the lane, and four of them run
/// side by side, so it is as fast as memory. SHA-256 would take most of the time of a load.
fn checksum(bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
    let step = |lane: u64, word: u64| (lane ^ word).wrapping_mul(MULTIPLIER).rotate_left(29);
    let mut lanes = [1, 2, 3, 4];
    let mut chunks = bytes.chunks_exact(32);
    for chunk in &mut chunks {
        for (lane, word) in lanes.iter_mut().zip(chunk.chunks_exact(8)) {
            *lane = step(*lane, u64::from_le_bytes(word.try_into().expect("eight bytes")));
        }
    }
    let rest = chunks.remainder().iter().fold(bytes.len() as u64, |sum, &b| step(sum, b.into()));
    lanes.into_iter().fold(rest, step)
}

/// Keeps the cache from growing without end: the files that were not used for longest go.
fn remove_oldest(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut files: Vec<(SystemTime, PathBuf)> = entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("pixels-") && name.ends_with(".bin")
        })
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    files.sort_unstable();
    let surplus = files.len().saturating_sub(MAX_FILES);
    for (_, path) in &files[..surplus] {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests;
