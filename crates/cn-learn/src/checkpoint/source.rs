//! The file of a checkpoint, as it is read: a tensor at a time, so that memory holds it once.

use super::file::{ADAM, DIGEST, DIGEST_LEN, EMA, LENGTH_LEN, MODEL, PART_LEN, RECORD};
use super::{Checkpoint, FORMAT, Record};
use crate::{Error, Position, Result, Weights};
use candle_core::{Device, Shape, Tensor, WithDType};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes of a file: ten times those of a ResNet-50 with averages.
const MAX_LEN: u64 = 4 << 30;
/// Bytes of a header, which holds the history of a run: that of tens of thousands of epochs.
const MAX_HEADER_LEN: u64 = 32 << 20;
/// Of a model, its averages and moments.
const MAX_TENSORS: usize = 10_000;

/// All of a file.
pub(super) fn read(path: &Path) -> Result<Checkpoint> {
    with(path, Source::checkpoint)
}

/// Where the run was, of a file whose bytes are all as they were written.
pub(super) fn position(path: &Path) -> Result<Position> {
    with(path, |source| Ok(source.record.position))
}

fn with<R>(path: &Path, f: impl FnOnce(Source) -> Result<R, Broken>) -> Result<R> {
    let failed = |source| Error::CheckpointFile { action: "read", path: path.to_owned(), bytes: None, source };
    let damaged = |reason| Error::CheckpointDamaged { path: path.to_owned(), reason };
    // A pipe or a device may have no end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(damaged("it is no file".into()));
    }
    let file = File::open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    if len > MAX_LEN {
        return Err(damaged(format!("it has {len} bytes, more than the {MAX_LEN} of any")));
    }
    Source::open(file).and_then(f).map_err(|broken| match broken {
        Broken::Io(source) => failed(source),
        Broken::Format(found) => Error::CheckpointFormat { found, expected: FORMAT },
        Broken::Bytes(reason) => damaged(reason),
    })
}

/// Why a file gives no checkpoint.
enum Broken {
    Io(io::Error),
    Format(u32),
    Bytes(String),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<serde_json::Error> for Broken {
    fn from(error: serde_json::Error) -> Self {
        Self::Bytes(error.to_string())
    }
}

fn broken(reason: impl ToString) -> Broken {
    Broken::Bytes(reason.to_string())
}

/// A file whose checksum is right, at the first byte of its tensors.
struct Source {
    file: File,
    metadata: Metadata,
    record: Record,
}

impl Source {
    fn open(mut file: File) -> Result<Self, Broken> {
        let content_len = check_digest(&mut file)?;
        file.seek(SeekFrom::Start(0))?;
        let too_short = || broken("it is too short");
        let room = content_len.checked_sub(LENGTH_LEN as u64).ok_or_else(too_short)?;
        let mut length = [0; LENGTH_LEN];
        file.read_exact(&mut length)?;
        let header_len = u64::from_le_bytes(length);
        if header_len > room {
            return Err(too_short());
        }
        if header_len > MAX_HEADER_LEN {
            return Err(broken(format_args!(
                "its header has {header_len} bytes, more than the {MAX_HEADER_LEN} of any run"
            )));
        }
        let mut header = vec![0; header_len as usize];
        file.read_exact(&mut header)?;
        // The digest and the metadata are no tensors of it.
        if serde_json::from_slice::<Keys>(&header)?.0 > MAX_TENSORS + 2 {
            return Err(broken(format_args!("it holds more than {MAX_TENSORS} tensors")));
        }
        let metadata: Metadata = serde_json::from_slice(&header)?;
        // The digest is the last of the tensors.
        if metadata.data_len() as u64 != room - header_len + DIGEST_LEN as u64 {
            return Err(broken("its tensors are not as long as its header says"));
        }
        let record = metadata.metadata().as_ref().and_then(|m| m.get(RECORD));
        let record = record.ok_or_else(|| broken("it has no record"))?;
        check_format(record)?;
        let record = serde_json::from_str(record)?;
        Ok(Self { file, metadata, record })
    }

    fn checkpoint(mut self) -> Result<Checkpoint, Broken> {
        let (mut weights, mut averages, mut moments) = (Vec::new(), Vec::new(), [None, None]);
        for name in self.metadata.offset_keys() {
            let info = self.metadata.info(&name).cloned().ok_or_else(|| broken("its header is contradictory"))?;
            if let Some(i) = ADAM.iter().position(|moment| *moment == name) {
                moments[i] = Some(self.tensor(&name, &info)?);
            } else if let Some(name) = name.strip_prefix(MODEL) {
                weights.push((name.to_owned(), self.tensor(name, &info)?));
            } else if let Some(name) = name.strip_prefix(EMA) {
                averages.push((name.to_owned(), self.tensor(name, &info)?));
            } else if name != DIGEST {
                return Err(broken(format_args!("it holds `{name}`, which is no tensor of a checkpoint")));
            }
        }
        let [Some(m), Some(v)] = moments else { return Err(broken("Adam's moments are missing")) };
        let average = (!averages.is_empty()).then(|| Weights::from_tensors(averages));
        Ok(Checkpoint { weights: Weights::from_tensors(weights), average, adam: [m, v], record: self.record })
    }

    /// The tensor at the file's present place.
    fn tensor(&mut self, name: &str, info: &TensorInfo) -> Result<Tensor, Broken> {
        let shape = Shape::from(info.shape.as_slice());
        match info.dtype {
            Dtype::F64 => elements(&mut self.file, shape, f64::from_le_bytes),
            Dtype::F32 => elements(&mut self.file, shape, f32::from_le_bytes),
            Dtype::I64 => elements(&mut self.file, shape, i64::from_le_bytes),
            Dtype::U32 => elements(&mut self.file, shape, u32::from_le_bytes),
            Dtype::U8 => elements(&mut self.file, shape, u8::from_le_bytes),
            other => Err(broken(format_args!("`{name}` holds {other:?}"))),
        }
    }
}

/// Reads little-endian elements, a part at a time.
fn elements<T: WithDType, const N: usize>(
    file: &mut File,
    shape: Shape,
    from_bytes: impl Fn([u8; N]) -> T,
) -> Result<Tensor, Broken> {
    let mut left = shape.elem_count();
    let (mut values, mut part) = (Vec::new(), Vec::new());
    if values.try_reserve_exact(left).is_err() {
        return Err(broken(format_args!("a tensor of {} bytes is more than there is memory for", left * N)));
    }
    while left > 0 {
        let n = left.min(PART_LEN);
        part.resize(n * N, 0);
        file.read_exact(&mut part)?;
        values.extend(part.as_chunks().0.iter().map(|bytes| from_bytes(*bytes)));
        left -= n;
    }
    Tensor::from_vec(values, shape, &Device::Cpu).map_err(broken)
}

/// Keys of an object, counted without taking memory for them.
struct Keys(usize);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counter;

        impl<'de> Visitor<'de> for Counter {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut n = 0;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    n += 1;
                }
                Ok(Keys(n))
            }
        }

        deserializer.deserialize_map(Counter)
    }
}

/// The number of bytes before the digest, which must be that of them.
fn check_digest(file: &mut File) -> Result<u64, Broken> {
    let len = file.metadata()?.len();
    let content_len = len.checked_sub(DIGEST_LEN as u64).ok_or_else(|| broken("it is too short"))?;
    let (mut hash, mut part, mut left) = (Sha256::new(), vec![0; PART_LEN], content_len);
    while left > 0 {
        let part = &mut part[..left.min(PART_LEN as u64) as usize];
        file.read_exact(part)?;
        hash.update(&*part);
        left -= part.len() as u64;
    }
    let mut digest = [0; DIGEST_LEN];
    file.read_exact(&mut digest)?;
    if hash.finalize().as_slice() != digest {
        return Err(broken("its checksum is wrong"));
    }
    Ok(content_len)
}

/// The version is read by itself, since the record of another one may have other fields.
fn check_format(record: &str) -> Result<(), Broken> {
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
    }
    match serde_json::from_str::<Version>(record)?.format {
        FORMAT => Ok(()),
        other => Err(Broken::Format(other)),
    }
}
