//! The file of a checkpoint, as it is written.

use super::Checkpoint;
use crate::{Error, Result};
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, DType, Storage, Tensor};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub(super) const RECORD: &str = "cn-learn";
pub(super) const DIGEST: &str = "sha256";
pub(super) const MODEL: &str = "model.";
pub(super) const EMA: &str = "ema.";
pub(super) const ADAM: [&str; 2] = ["adam.m", "adam.v"];
pub(super) const LENGTH_LEN: usize = 8;
pub(super) const DIGEST_LEN: usize = 32;
/// Elements that are turned into bytes at a time.
pub(super) const PART_LEN: usize = 1 << 20;

/// Writes to `path`; what has that name already becomes `previous`, where that is wanted, once the new file is whole.
pub(super) fn write(checkpoint: &Checkpoint, path: &Path, previous: Option<&Path>) -> Result<()> {
    let failed = |source| {
        let bytes = Some(size(checkpoint));
        Error::CheckpointFile { action: "write", path: path.to_owned(), bytes, source }
    };
    let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), Path::to_owned);
    // Always the same name: what a killed process leaves behind goes with the next one. It is made anew, so that nothing is
    // written through a link.
    let temporary = folder.join(format!(".{}.tmp", name.to_string_lossy()));
    let _ = std::fs::remove_file(&temporary);
    let written = write_file(checkpoint, &temporary).and_then(|()| {
        if let Some(previous) = previous.filter(|_| path.exists()) {
            std::fs::rename(path, previous)?;
        }
        std::fs::rename(&temporary, path)?;
        sync_folder(&folder)
    });
    if written.is_err() {
        // The first error is the one to report.
        let _ = std::fs::remove_file(&temporary);
    }
    written.map_err(failed)
}

/// A rename is on disk once its folder is.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Bytes of the file.
fn size(checkpoint: &Checkpoint) -> u64 {
    let tensors = named(checkpoint);
    let header = header(checkpoint, &tensors).map_or(0, |header| header.len());
    let values: usize = tensors.iter().map(|(_, tensor)| tensor.elem_count() * tensor.dtype().size_in_bytes()).sum();
    (LENGTH_LEN + header + values + DIGEST_LEN) as u64
}

fn write_file(checkpoint: &Checkpoint, path: &Path) -> io::Result<()> {
    let tensors = named(checkpoint);
    let mut out = Hashing { file: File::create_new(path)?, hash: Sha256::new() };
    let header = header(checkpoint, &tensors)?;
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for (_, tensor) in &tensors {
        write_elements(&mut out, tensor)?;
    }
    let Hashing { mut file, hash } = out;
    file.write_all(&hash.finalize())?;
    file.sync_all()
}

fn named(checkpoint: &Checkpoint) -> Vec<(String, &Tensor)> {
    let sets = [(MODEL, Some(&checkpoint.weights)), (EMA, checkpoint.average.as_ref())];
    let model = sets.into_iter().flat_map(|(prefix, weights)| {
        let tensors = weights.map_or(&[][..], |weights| weights.tensors());
        tensors.iter().map(move |(name, tensor)| (format!("{prefix}{name}"), tensor))
    });
    let adam = ADAM.into_iter().map(String::from).zip(&checkpoint.adam);
    // Larger elements first, so that all of them are aligned as the format wants it.
    let mut all: Vec<_> = adam.chain(model).collect();
    all.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.dtype().size_in_bytes()));
    all
}

/// The format's header: JSON with the place of each tensor, padded by spaces to eight bytes.
fn header(checkpoint: &Checkpoint, tensors: &[(String, &Tensor)]) -> io::Result<Vec<u8>> {
    let record = serde_json::to_string(&checkpoint.record)?;
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!({ RECORD: record }));
    let mut start = 0;
    let mut place = |name: &str, dtype: &str, shape: &[usize], len: usize| {
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, start + len] });
        header.insert(name.into(), entry);
        start += len;
    };
    for (name, tensor) in tensors {
        let len = tensor.elem_count() * tensor.dtype().size_in_bytes();
        place(name, dtype_name(tensor.dtype())?, tensor.dims(), len);
    }
    place(DIGEST, "U8", &[DIGEST_LEN], DIGEST_LEN);
    let mut bytes = serde_json::to_vec(&header)?;
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    Ok(bytes)
}

fn dtype_name(dtype: DType) -> io::Result<&'static str> {
    match dtype {
        DType::F64 => Ok("F64"),
        DType::F32 => Ok("F32"),
        DType::I64 => Ok("I64"),
        DType::U32 => Ok("U32"),
        DType::U8 => Ok("U8"),
        other => Err(io::Error::new(io::ErrorKind::Unsupported, format!("tensors of type {other:?}"))),
    }
}

/// Writes the elements, little-endian, a part at a time: a second copy of the largest tensor would be in memory else.
fn write_elements(out: &mut impl Write, tensor: &Tensor) -> io::Result<()> {
    let unsupported = |what: &str| io::Error::new(io::ErrorKind::Unsupported, format!("tensors {what}"));
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { return Err(unsupported("that are not on the host")) };
    let (start, end) = layout.contiguous_offsets().ok_or_else(|| unsupported("with gaps"))?;
    macro_rules! little_endian {
        ($values:expr) => {{
            let mut part = Vec::new();
            for values in $values[start..end].chunks(PART_LEN) {
                let size = size_of_val(&values[0]);
                part.resize(values.len() * size, 0);
                // As slices of one size, the compiler copies many at a time.
                part.chunks_exact_mut(size)
                    .zip(values)
                    .for_each(|(to, value)| to.copy_from_slice(&value.to_le_bytes()));
                out.write_all(&part)?;
            }
            Ok(())
        }};
    }
    match storage {
        CpuStorage::F64(values) => little_endian!(values),
        CpuStorage::F32(values) => little_endian!(values),
        CpuStorage::I64(values) => little_endian!(values),
        CpuStorage::U32(values) => little_endian!(values),
        CpuStorage::U8(values) => out.write_all(&values[start..end]),
        other => Err(unsupported(&format!("of type {:?}", other.dtype()))),
    }
}

struct Hashing {
    file: File,
    hash: Sha256,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hash.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
