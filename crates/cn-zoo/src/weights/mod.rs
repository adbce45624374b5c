//! Weight files: read, checked, named, loaded, saved.

mod digest;
mod hub;
mod load;
mod names;
mod packed;
mod pickle;
mod pth;
mod safetensors;

pub use digest::weights_sha256;
pub use hub::{HubCache, HubFile};
pub use load::{Fit, Loaded, load};
pub use names::{canonical_name, fastai_name};

use crate::{Error, ResNetConfig, Result};
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

/// No file past this size is read: four hundred times a ResNet-18, and what a process can spare.
const MAX_BYTES: u64 = 2 << 30;
/// Bytes of a header: two hundred times that of a ResNet-50.
const MAX_HEADER_LEN: u64 = 1 << 20;
/// Version of what [`save`] writes beside the tensors.
const FORMAT_VERSION: &str = "1";

/// What a weight file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileFormat {
    /// safetensors.
    Safetensors,
    /// PyTorch's zip archive with a pickle.
    PyTorch,
    /// What [`save_packed`] writes.
    Packed,
}

impl FileFormat {
    /// Its name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::PyTorch => "PyTorch",
            Self::Packed => "packed",
        }
    }
}

/// Tensors from a file, in host memory, under our names ([`canonical_name`]).
///
/// Reads safetensors, PyTorch's `.pth` of the zip format, and what [`save_packed`] writes. Nothing in a file is
/// executed: the pickle of a `.pth` may name what state dicts need and nothing else. The state dict may lie under
/// `model`, `state_dict` or `model_state_dict`. The format is told by the contents, not by the file's name.
#[derive(Clone, Debug)]
pub struct WeightFile {
    format: FileFormat,
    tensors: BTreeMap<String, Tensor>,
    metadata: BTreeMap<String, String>,
}

impl WeightFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`Error::Unreadable`], or [`Error::InFile`] with what is wrong with the contents.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let unreadable = |source| Error::Unreadable { path: path.into(), source };
        // What says of itself that it is too large need not be read to be refused.
        if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_BYTES {
            let source = Box::new(Error::FileTooLarge { limit: MAX_BYTES });
            return Err(Error::InFile { path: path.into(), source });
        }
        let bytes = read_limited(path).map_err(unreadable)?;
        Self::from_bytes(&bytes).map_err(|source| Error::InFile { path: path.into(), source: Box::new(source) })
    }

    /// Reads the contents of a file.
    ///
    /// # Errors
    ///
    /// What is wrong with them: [`Error::UnknownFormat`], [`Error::Safetensors`], [`Error::Zip`],
    /// [`Error::ForbiddenGlobal`] and their like.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Error::FileTooLarge { limit: MAX_BYTES });
        }
        let (format, (tensors, metadata)) = match Format::of(bytes) {
            Format::Zip => (FileFormat::PyTorch, (pth::read(bytes)?, BTreeMap::new())),
            Format::Safetensors => (FileFormat::Safetensors, safetensors::read(bytes)?),
            Format::Packed => (FileFormat::Packed, packed::read(bytes)?),
            Format::Other(found) => return Err(Error::UnknownFormat { found }),
        };
        Ok(Self { format, tensors: renamed(tensors)?, metadata })
    }

    /// What it is written in.
    #[must_use]
    pub fn format(&self) -> FileFormat {
        self.format
    }

    /// The tensors by our names, in the order of these.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The tensor that we call `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// This file with a plain head of these outputs alone, in this order.
    ///
    /// # Errors
    ///
    /// If there is no such output; a file without a plain head stays as it is.
    pub fn with_outputs(&self, outputs: &[u32]) -> Result<Self> {
        let mut file = self.clone();
        for (name, tensor) in &mut file.tensors {
            if matches!(name.as_str(), "fc.weight" | "fc.bias") {
                *tensor = tensor.index_select(&Tensor::new(outputs, tensor.device())?, 0)?;
            }
        }
        Ok(file)
    }

    /// This file without its head, which belongs to other classes.
    #[must_use]
    pub fn without_head(&self) -> Self {
        let mut file = self.clone();
        file.tensors.retain(|name, _| !names::is_head(name));
        file
    }

    /// What a safetensors file says beside its tensors; empty for `.pth`.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

/// Reads a file, but never much more than the limit, should it grow. A pipe or a device may have no end.
fn read_limited(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let about = std::fs::metadata(path)?;
    if !(about.is_file() || about.is_dir()) {
        return Err(std::io::Error::other("it is a pipe or a device, no file"));
    }
    let mut file = std::fs::File::open(path)?;
    let mut bytes = Vec::with_capacity(about.len().min(MAX_BYTES) as usize);
    file.by_ref().take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn renamed(tensors: BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
    let mut originals: BTreeMap<String, String> = BTreeMap::new();
    let mut result = BTreeMap::new();
    for (original, tensor) in tensors {
        let name = canonical_name(&original);
        if let Some(first) = originals.insert(name.clone(), original.clone()) {
            return Err(Error::DuplicateName { name, first, second: original });
        }
        result.insert(name, tensor);
    }
    Ok(result)
}

/// What the first bytes of a file say.
enum Format {
    Zip,
    Safetensors,
    Packed,
    Other(&'static str),
}

impl Format {
    fn of(bytes: &[u8]) -> Self {
        const MAGIC: [(&[u8], &str); 8] = [
            // A pickle alone begins with its protocol.
            (b"\x80", "a PyTorch file of the old format (before 1.6), or a bare pickle"),
            (b"GGUF", "GGUF"),
            (b"\x89HDF", "HDF5 (Keras)"),
            (b"\x93NUMPY", "a NumPy array"),
            (b"\x1f\x8b", "compressed with gzip"),
            (b"<", "a web page"),
            (b"version https://git-lfs", "a pointer of Git LFS, not the file itself"),
            (b"\x08", "ONNX or another protocol buffer"),
        ];
        if bytes.starts_with(b"PK\x03\x04") {
            return Self::Zip;
        }
        if bytes.starts_with(packed::MAGIC) {
            return Self::Packed;
        }
        // The header's length, then JSON. A length may begin with any of the magic bytes, so this comes first.
        if bytes.get(8) == Some(&b'{') {
            return Self::Safetensors;
        }
        if bytes.is_empty() {
            return Self::Other("empty");
        }
        let known = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic));
        known.map_or(Self::Other("of an unknown format"), |&(_, name)| Self::Other(name))
    }
}

/// Writes the tensors of a network as safetensors under our names, whole or not at all.
///
/// The metadata name the format's version and what builds the network again: `cn.format_version`, `cn.arch`,
/// `cn.in_channels`, `cn.n_classes`, `cn.head`; `format` is `pt`, as other readers expect. The same arguments give the
/// same bytes.
///
/// # Errors
///
/// [`Error::Unwritable`], [`Error::ElementType`].
pub fn save(path: impl AsRef<Path>, tensors: &[(String, Tensor)], config: &ResNetConfig) -> Result<()> {
    let mut metadata = config.to_metadata();
    metadata.insert("format".into(), "pt".into());
    metadata.insert("cn.format_version".into(), FORMAT_VERSION.into());
    safetensors::write(path.as_ref(), tensors, &metadata)
}

/// Writes the tensors of a network as a packed file: 6 bits for each value of a kernel, a quarter of what [`save`] writes
/// and less. [`WeightFile`] reads it as any other.
///
/// Each row of a kernel, the values that make one output, has a scale of its own, the one with the least squared error.
/// Norms and biases stay exact; batch counters are left out.
///
/// # Errors
///
/// [`Error::Unwritable`], or if a tensor is not of floats.
pub fn save_packed(path: impl AsRef<Path>, tensors: &[(String, Tensor)], config: &ResNetConfig) -> Result<()> {
    let mut metadata = config.to_metadata();
    metadata.insert("cn.format_version".into(), FORMAT_VERSION.into());
    let bytes = packed::pack(tensors, metadata)?;
    let path = path.as_ref();
    let write = |file: &mut dyn std::io::Write| file.write_all(&bytes);
    safetensors::atomically(path, write).map_err(|source| Error::Unwritable { path: path.into(), bytes: None, source })
}

#[cfg(test)]
mod tests;
