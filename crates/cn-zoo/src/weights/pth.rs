//! PyTorch's `.pth` files of the zip format (since 1.6), read without executing anything.
//!
//! The archive holds `NAME/data.pkl`, a pickle of the state dict, and one stored file `NAME/data/KEY` for each storage.

use super::pickle::{self, Built, Id, TensorRef, Value};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::collections::{BTreeMap, HashSet};
use std::io::{Cursor, Read};
use zip::{CompressionMethod, ZipArchive};

/// Where training scripts (and fastai's `learn.save`) put the state dict beside other things.
const NESTED: [&str; 3] = ["model", "state_dict", "model_state_dict"];
/// Tied weights are copied, so tensors may take more memory than the file; hostile files must not multiply it.
const GROWTH: usize = 4;
/// Files of an archive: sixty times those of a ResNet-50.
const MAX_FILES: usize = 20_000;
/// What the entry of a file in the archive's directory begins with.
const ENTRY: &[u8] = b"PK\x01\x02";

/// The tensors of a file, by its own names.
///
/// # Errors
///
/// [`Error::Zip`], [`Error::Archive`], [`Error::BadTensor`], and the pickle's.
pub(crate) fn read(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let mut archive = Archive::open(bytes)?;
    let built = pickle::run(&archive.file("data.pkl")?)?;
    let refs = state_dict(&built)?;
    check_memory(&refs, bytes.len())?;
    let mut by_storage: BTreeMap<&str, Vec<(&str, &TensorRef)>> = BTreeMap::new();
    for (&name, tensor) in &refs {
        by_storage.entry(&tensor.storage.key).or_default().push((name, tensor));
    }
    let mut tensors = BTreeMap::new();
    for (key, users) in by_storage {
        let storage = archive.file(&format!("data/{key}"))?;
        for (name, tensor) in users {
            let dtype = tensor.storage.dtype;
            let elements = elements(tensor, &storage).map_err(|problem| bad(name, problem))?;
            tensors.insert(name.to_owned(), Tensor::from_raw_buffer(&elements, dtype, &tensor.shape, &Device::Cpu)?);
        }
    }
    Ok(tensors)
}

fn bad(name: &str, problem: &'static str) -> Error {
    Error::BadTensor { name: name.into(), problem }
}

fn archive_error<T>(problem: impl Into<String>) -> Result<T> {
    Err(Error::Archive { problem: problem.into() })
}

struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// Name of the folder that everything lies in, with its slash.
    root: String,
}

impl<'a> Archive<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self> {
        // The directory would be read whole, whatever its end says it holds.
        if bytes.windows(ENTRY.len()).filter(|four| *four == ENTRY).nth(MAX_FILES).is_some() {
            return archive_error(format!("holds more than {MAX_FILES} files"));
        }
        let mut zip = ZipArchive::new(Cursor::new(bytes))?;
        if zip.has_duplicate_names() || zip.has_overlapping_entries()? {
            return archive_error("holds files that lie on top of each other");
        }
        let names: Vec<String> =
            zip.file_names().map(|name| name.map(|name| name.into_owned())).collect::<Result<_, _>>()?;
        let roots: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix("data.pkl")).collect();
        let &[root] = &roots[..] else {
            return archive_error(format!("holds {} files `data.pkl`, expected one", roots.len()));
        };
        if names.iter().any(|name| name.starts_with(&format!("{root}code/"))) {
            return archive_error("is a TorchScript program, expected a state dict");
        }
        let mut archive = Self { zip, root: root.into() };
        let byte_order = format!("{root}byteorder");
        if names.contains(&byte_order) && archive.file("byteorder")? != b"little" {
            return archive_error("was written on a machine of another byte order");
        }
        Ok(archive)
    }

    /// The contents of a file, whose checksum is verified.
    fn file(&mut self, name: &str) -> Result<Vec<u8>> {
        let mut entry = self.zip.by_name(&format!("{}{name}", self.root)).map_err(|source| match source {
            zip::result::ZipError::FileNotFound => Error::Archive { problem: format!("lacks its file `{name}`") },
            other => other.into(),
        })?;
        // PyTorch only stores; without decompression, no entry can be larger than the archive.
        if entry.compression() != CompressionMethod::Stored || entry.size() != entry.compressed_size() {
            return archive_error(format!("compresses `{name}`, expected it stored"));
        }
        let mut contents = Vec::new();
        entry.read_to_end(&mut contents).map_err(zip::result::ZipError::Io)?;
        Ok(contents)
    }
}

/// The tensors of the dict itself, or of the dict that it holds under one of the usual names.
fn state_dict(built: &Built) -> Result<BTreeMap<&str, &TensorRef>> {
    let Some(entries) = built.entries(built.root) else {
        return archive_error("holds no dict, expected a state dict");
    };
    let nested = NESTED.iter().filter_map(|key| entries.iter().find(|(name, _)| name == key));
    for id in nested.map(|&(_, id)| id).chain([built.root]) {
        let found = tensors(built, id)?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    archive_error("holds no tensors, expected a state dict")
}

/// The tensors of a dict; what else it holds is left out.
fn tensors(built: &Built, dict: Id) -> Result<BTreeMap<&str, &TensorRef>> {
    let mut names = HashSet::new();
    let mut found = BTreeMap::new();
    for (name, id) in built.entries(dict).unwrap_or_default() {
        if !names.insert(name) {
            return Err(Error::RepeatedName { name: name.into() });
        }
        if let Value::Tensor(tensor) = built.get(id) {
            found.insert(name, tensor);
        }
    }
    Ok(found)
}

fn check_memory(refs: &BTreeMap<&str, &TensorRef>, file_len: usize) -> Result<()> {
    let mut total = 0usize;
    for (name, tensor) in refs {
        let count = count(&tensor.shape).ok_or_else(|| bad(name, "has more elements than memory can hold"))?;
        total = total.saturating_add(count.saturating_mul(tensor.storage.dtype.size_in_bytes()));
        if total > file_len.saturating_mul(GROWTH) {
            return Err(bad(name, "and those before it are many times larger than the file"));
        }
    }
    Ok(())
}

fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim))
}

/// The bytes of a strided view, row-major.
fn elements(tensor: &TensorRef, storage: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (shape, stride) = (&tensor.shape, &tensor.stride);
    let size = tensor.storage.dtype.size_in_bytes();
    if tensor.storage.len.checked_mul(size) != Some(storage.len()) {
        return Err("has a storage of another size than its file");
    }
    if shape.len() != stride.len() {
        return Err("has another number of strides than of dimensions");
    }
    let n = count(shape).ok_or("has more elements than memory can hold")?;
    if n == 0 {
        return Ok(Vec::new());
    }
    let reach = |last: usize, (&dim, &step): (&usize, &usize)| (dim - 1).checked_mul(step)?.checked_add(last);
    match shape.iter().zip(stride).try_fold(tensor.offset, reach) {
        Some(last) if last < tensor.storage.len => {}
        _ => return Err("reaches past the end of its storage"),
    }
    if is_contiguous(shape, stride) {
        return Ok(storage[tensor.offset * size..(tensor.offset + n) * size].to_vec());
    }
    let mut out = Vec::with_capacity(n * size);
    let mut index = vec![0; shape.len()];
    for _ in 0..n {
        let at = tensor.offset + index.iter().zip(stride).map(|(i, step)| i * step).sum::<usize>();
        out.extend_from_slice(&storage[at * size..(at + 1) * size]);
        advance(&mut index, shape);
    }
    Ok(out)
}

fn is_contiguous(shape: &[usize], stride: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(stride).rev().all(|(&dim, &step)| {
        let fits = dim == 1 || step == expected;
        expected *= dim;
        fits
    })
}

/// The next index in row-major order; the last one wraps to zeros.
fn advance(index: &mut [usize], shape: &[usize]) {
    for (i, &dim) in index.iter_mut().zip(shape).rev() {
        *i += 1;
        if *i < dim {
            return;
        }
        *i = 0;
    }
}
