//! Files to packed pixels, all cores at once.

use std::{
    fs::{self, File, Metadata},
    io::{ErrorKind, Read as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::SystemTime,
};

use rayon::prelude::*;

use crate::{
    BadReason, Digest, Error, Index, Result,
    cache::{self, Cache},
    decode::{DecodeConfig, Decoded, MemoryBudget, decode, grey_to_rgb},
    pixels::{BadImage, Pixels, Place},
};

/// Images that one task decodes: enough to make the hand-over cheap, few enough to keep all cores busy to the end.
const TASK: usize = 64;
/// Bytes of a file a pixel of the limit, far beyond what any format needs.
const BYTES_A_PIXEL: u64 = 16;

/// How to load images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadConfig {
    /// How files become pixels.
    pub decode: DecodeConfig,
    /// Where decoded pixels are kept for the next time.
    pub cache: Cache,
    /// What to do about images that cannot be used.
    pub damaged: Damaged,
}

/// What to do about missing and damaged images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Damaged {
    /// Fail, naming all of them.
    #[default]
    Refuse,
    /// Go on without them.
    Skip,
}

/// What [`Pixels::load`] gives.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The images that could be decoded; image `i` is that of record `kept[i]`.
    pub pixels: Pixels,
    /// Ids of the images that could be decoded, ascending.
    pub kept: Vec<u32>,
    /// The others; empty unless [`Damaged::Skip`] was asked for.
    pub skipped: Vec<BadImage>,
    /// Whether nothing had to be decoded.
    pub from_cache: bool,
}

impl Pixels {
    /// Decodes all images of `index` on the threads of the current rayon pool, or takes them from the cache.
    ///
    /// # Errors
    ///
    /// If images are missing or damaged, all of them by name, unless they are to be skipped and others are left; if
    /// they take more memory than allowed. A cache that cannot be read or written is no error.
    pub fn load(index: &Index, config: &LoadConfig) -> Result<Loaded> {
        Self::load_with_progress(index, config, &|_| {})
    }

    /// As [`Pixels::load`], telling `progress` how many images are done, from several threads and out of order.
    ///
    /// # Errors
    ///
    /// As [`Pixels::load`].
    pub fn load_with_progress(index: &Index, config: &LoadConfig, progress: &(dyn Fn(usize) + Sync)) -> Result<Loaded> {
        let _span = tracing::debug_span!("load").entered();
        let paths: Vec<PathBuf> = (0..index.len() as u32).map(|id| index.path(id)).collect();
        let stats: Vec<Stat> = paths.par_iter().with_min_len(TASK).map(|path| Stat::of(path)).collect();
        let entry = cache::Entry::of(index, &stats, config);
        if let Some(pixels) = entry.as_ref().and_then(cache::Entry::read) {
            progress(index.len());
            let kept = (0..index.len() as u32).collect();
            return Ok(Loaded { pixels, kept, skipped: Vec::new(), from_cache: true });
        }
        let name = |id: u32| index.records()[id as usize].path.clone();
        let loaded = decode_all(&Files { paths, stats, name: &name }, config, progress)?;
        if loaded.skipped.is_empty()
            && let Some(entry) = entry
        {
            entry.write(&loaded.pixels);
        }
        Ok(loaded)
    }

    /// Decodes files that belong to no data set, without a cache.
    ///
    /// # Errors
    ///
    /// As [`Pixels::load`].
    pub fn read(paths: Vec<PathBuf>, config: &LoadConfig) -> Result<Loaded> {
        if paths.is_empty() {
            return Err(Error::NoImages { path: PathBuf::from(".") });
        }
        let stats = paths.iter().map(|path| Stat::of(path)).collect();
        let name = |id: u32| paths[id as usize].display().to_string();
        decode_all(&Files { paths: paths.clone(), stats, name: &name }, config, &|_| {})
    }
}

/// What the system says of a file; `None` where it says nothing, of anything but a file too.
#[derive(Debug, Clone)]
pub(crate) struct Stat(Result<FileStat, BadReason>);

#[derive(Debug, Clone, Copy)]
struct FileStat {
    size: u64,
    modified: Option<SystemTime>,
    /// Seconds and nanoseconds of the last change of content, name or rights, which no program can set; zeros where the
    /// system keeps none.
    changed: [i64; 2],
}

impl FileStat {
    fn of(about: &Metadata) -> Self {
        #[cfg(unix)]
        let changed = {
            use std::os::unix::fs::MetadataExt as _;
            [about.ctime(), about.ctime_nsec()]
        };
        #[cfg(not(unix))]
        let changed = [0; 2];
        Self { size: about.len(), modified: about.modified().ok(), changed }
    }
}

impl Stat {
    pub(crate) fn of(path: &Path) -> Self {
        Self(match fs::metadata(path) {
            Ok(meta) if meta.is_file() => Ok(FileStat::of(&meta)),
            Ok(_) => Err(BadReason::NotAFile),
            Err(e) => Err(reason_of(&e)),
        })
    }

    /// Size, nanoseconds since 1970 of the last writing, and those of any change; `None` for what is no file.
    pub(crate) fn size_and_times(&self) -> Option<(u64, [i128; 2])> {
        let stat = self.0.as_ref().ok()?;
        let time = stat.modified.map_or(0, |time| match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => after.as_nanos() as i128,
            Err(before) => -(before.duration().as_nanos() as i128),
        });
        let [seconds, rest] = stat.changed.map(i128::from);
        Some((stat.size, [time, seconds * 1_000_000_000 + rest]))
    }
}

/// The whole of a file that strangers may have made, of at most so many bytes; a pipe or a device may have no end.
pub(crate) fn read_whole(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let len = len_of(path)?;
    if len > most {
        return Err(std::io::Error::other(format!("it has {len} bytes, more than the {most} that are read")));
    }
    fs::read(path)
}

/// Bytes of a file; an error for what may have no end.
pub(crate) fn len_of(path: &Path) -> std::io::Result<u64> {
    let about = fs::metadata(path)?;
    if about.is_file() || about.is_dir() {
        Ok(about.len())
    } else {
        Err(std::io::Error::other("it is a pipe or a device, no file"))
    }
}

fn reason_of(error: &std::io::Error) -> BadReason {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => BadReason::Missing,
        ErrorKind::IsADirectory => BadReason::NotAFile,
        _ => BadReason::Unreadable(error.to_string()),
    }
}

/// The files to decode, by id.
struct Files<'a> {
    paths: Vec<PathBuf>,
    stats: Vec<Stat>,
    name: &'a dyn Fn(u32) -> String,
}

/// What a task decoded: the images one after the other, with what each of them is.
#[derive(Default)]
struct Part {
    bytes: Vec<u8>,
    images: Vec<Header>,
    bad: Vec<(u32, BadReason)>,
}

struct Header {
    id: u32,
    height: u32,
    width: u32,
    channels: u32,
    digest: Digest,
}

fn decode_all(files: &Files<'_>, config: &LoadConfig, progress: &(dyn Fn(usize) + Sync)) -> Result<Loaded> {
    let (total, done) = (AtomicU64::new(0), AtomicUsize::new(0));
    let budget = MemoryBudget::default();
    let limit = config.decode.max_total_bytes;
    let n = files.paths.len();
    let parts: Vec<Part> = files
        .paths
        .par_chunks(TASK)
        .zip(files.stats.par_chunks(TASK))
        .enumerate()
        .map(|(task, (paths, stats))| {
            let part = decode_part((task * TASK) as u32, paths, stats, &config.decode, &budget);
            let bytes = part.bytes.len() as u64;
            if total.fetch_add(bytes, Ordering::Relaxed) + bytes > limit {
                return Err(Error::TooManyBytes { limit });
            }
            progress(done.fetch_add(paths.len(), Ordering::Relaxed) + paths.len());
            Ok(part)
        })
        .collect::<Result<_>>()?;
    let bad = |(id, reason): &(u32, BadReason)| BadImage { id: *id, path: (files.name)(*id), reason: reason.clone() };
    let bad: Vec<BadImage> = parts.iter().flat_map(|part| part.bad.iter().map(bad)).collect();
    if bad.len() == n || config.damaged == Damaged::Refuse && !bad.is_empty() {
        return Err(Error::BadImages { bad, n });
    }
    if !bad.is_empty() {
        tracing::warn!(skipped = bad.len(), of = n, "images that cannot be used left out");
    }
    let kept = parts.iter().flat_map(|part| part.images.iter().map(|image| image.id)).collect();
    let pixels = packed(parts, limit)?;
    Ok(Loaded { pixels, kept, skipped: bad, from_cache: false })
}

fn decode_part(first: u32, paths: &[PathBuf], stats: &[Stat], config: &DecodeConfig, budget: &MemoryBudget) -> Part {
    let mut part = Part::default();
    let mut file = Vec::new();
    for ((id, path), stat) in (first..).zip(paths).zip(stats) {
        match read_file(path, stat, config, &mut file).and_then(|()| decode(&file, config, budget)) {
            Ok(Decoded { height, width, channels, pixels }) => {
                // The images of a task are most often of one size.
                part.bytes.reserve(if part.bytes.is_empty() { pixels.len() * paths.len() } else { 0 });
                part.bytes.extend_from_slice(&pixels);
                part.images.push(Header { id, height, width, channels, digest: Digest::of(&file) });
            }
            Err(reason) => part.bad.push((id, reason)),
        }
    }
    part
}

fn read_file(path: &Path, stat: &Stat, config: &DecodeConfig, file: &mut Vec<u8>) -> Result<(), BadReason> {
    let size = stat.0.clone()?.size;
    if size > config.max_image_pixels.saturating_mul(BYTES_A_PIXEL).saturating_add(1 << 20) {
        return Err(BadReason::FileTooLarge { bytes: size });
    }
    file.resize(size as usize, 0);
    File::open(path).and_then(|mut f| f.read_exact(file)).map_err(|e| reason_of(&e))
}

/// One buffer of all parts; each part is freed once it is copied.
fn packed(parts: Vec<Part>, limit: u64) -> Result<Pixels> {
    let headers = || parts.iter().flat_map(|part| &part.images);
    let channels = headers().map(|image| image.channels).max().unwrap_or(1);
    let area = |image: &Header| u64::from(image.height) * u64::from(image.width);
    let total = headers().map(|image| area(image) * u64::from(channels)).sum::<u64>();
    if total > limit {
        return Err(Error::TooManyBytes { limit });
    }
    let n = headers().count();
    let mut bytes = Vec::with_capacity(total as usize);
    let (mut places, mut files) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for part in parts {
        let mut rest = &part.bytes[..];
        for image in &part.images {
            let (own, others) = rest.split_at((area(image) * u64::from(image.channels)) as usize);
            rest = others;
            places.push(Place { offset: bytes.len(), height: image.height, width: image.width });
            files.push(image.digest);
            if image.channels == channels {
                bytes.extend_from_slice(own);
            } else {
                bytes.extend_from_slice(&grey_to_rgb(own));
            }
        }
    }
    Ok(Pixels::from_files(channels as usize, bytes, places, files))
}

/// Digests of the files of `index` as they are now, by id, read in parallel.
///
/// # Errors
///
/// If files are missing or unreadable, all of them by name.
pub fn hash_files(index: &Index) -> Result<Vec<Digest>> {
    let hash = |id: u32| {
        let path = index.path(id);
        Stat::of(&path).0.and_then(|_| fs::read(&path).map_err(|e| reason_of(&e))).map(|file| Digest::of(&file))
    };
    let digests: Vec<_> = (0..index.len() as u32).into_par_iter().with_min_len(TASK).map(hash).collect();
    let bad: Vec<BadImage> = (0..)
        .zip(&digests)
        .filter_map(|(id, digest)| {
            let reason = digest.as_ref().err()?.clone();
            Some(BadImage { id, path: index.records()[id as usize].path.clone(), reason })
        })
        .collect();
    if bad.is_empty() {
        Ok(digests.into_iter().flatten().collect())
    } else {
        Err(Error::BadImages { bad, n: index.len() })
    }
}

#[cfg(test)]
mod tests;
