//! The safetensors format.

use super::MAX_HEADER_LEN;
use super::digest::{bytes_of, dtype_name};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::{BufWriter, Write};
use std::path::Path;

/// The tensors and the metadata of a file. The crate refuses overlaps, holes and overflows.
///
/// # Errors
///
/// [`Error::Safetensors`] for a malformed file, also one whose header is longer than 1 MiB, [`Error::RepeatedName`],
/// [`Error::ElementType`].
pub(crate) fn read(bytes: &[u8]) -> Result<(BTreeMap<String, Tensor>, BTreeMap<String, String>)> {
    if bytes.first_chunk().is_some_and(|length| u64::from_le_bytes(*length) > MAX_HEADER_LEN) {
        return Err(SafeTensorError::HeaderTooLarge.into());
    }
    let (length, header) = SafeTensors::read_metadata(bytes)?;
    if let Some(name) = repeated_name(&bytes[8..8 + length]) {
        return Err(Error::RepeatedName { name });
    }
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let mut tensors = BTreeMap::new();
    for (name, view) in SafeTensors::deserialize(bytes)?.tensors() {
        let Some(dtype) = dtype_of(view.dtype()) else {
            return Err(Error::ElementType { name, found: view.dtype().to_string() });
        };
        tensors.insert(name, Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)?);
    }
    Ok((tensors, metadata))
}

/// The first name that stands twice in a header, of whose tensors the crate takes the last.
fn repeated_name(header: &[u8]) -> Option<String> {
    struct Repeated(Option<String>);

    impl<'de> Deserialize<'de> for Repeated {
        fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
            struct Names;

            impl<'de> Visitor<'de> for Names {
                type Value = Repeated;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a header of safetensors")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Repeated, A::Error> {
                    let (mut seen, mut repeated) = (HashSet::new(), None);
                    while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
                        if let Some(name) = seen.replace(name) {
                            repeated.get_or_insert(name);
                        }
                    }
                    Ok(Repeated(repeated))
                }
            }

            from.deserialize_map(Names)
        }
    }

    serde_json::from_slice::<Repeated>(header).ok()?.0
}

fn dtype_of(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::U8 | Dtype::BOOL => DType::U8,
        Dtype::U32 => DType::U32,
        Dtype::I16 => DType::I16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        _ => return None,
    })
}

/// Writes a file beside `path`, flushes it to the disk and renames it: after a crash there is the old file or the new
/// one, never a part.
///
/// The bytes depend on the arguments alone (safetensors' own writer orders metadata at random): tensors lie in the order
/// of their names after those of larger elements, which keeps them aligned.
///
/// # Errors
///
/// [`Error::Unwritable`], [`Error::ElementType`].
pub(crate) fn write(path: &Path, tensors: &[(String, Tensor)], metadata: &BTreeMap<String, String>) -> Result<()> {
    let mut sorted: Vec<&(String, Tensor)> = tensors.iter().collect();
    sorted.sort_by(|(a, x), (b, y)| y.dtype().size_in_bytes().cmp(&x.dtype().size_in_bytes()).then(a.cmp(b)));
    let header = header(&sorted, metadata)?;
    let tensors_len: usize = sorted.iter().map(|(_, t)| t.elem_count() * t.dtype().size_in_bytes()).sum();
    let bytes = Some((8 + header.len() + tensors_len) as u64);
    atomically(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for (_, tensor) in sorted {
            file.write_all(&bytes_of(tensor).map_err(std::io::Error::other)?)?;
        }
        Ok(())
    })
    .map_err(|source| Error::Unwritable { path: path.into(), bytes, source })
}

/// JSON padded with blanks to a multiple of 8 bytes.
fn header(tensors: &[&(String, Tensor)], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut json = serde_json::Map::new();
    json.insert("__metadata__".into(), serde_json::json!(metadata));
    let mut start = 0;
    for (name, tensor) in tensors {
        let end = start + tensor.elem_count() * tensor.dtype().size_in_bytes();
        let dtype = dtype_name(name, tensor.dtype())?;
        json.insert(
            name.clone(),
            serde_json::json!({"dtype": dtype, "shape": tensor.dims(), "data_offsets": [start, end]}),
        );
        start = end;
    }
    let mut bytes = serde_json::Value::Object(json).to_string().into_bytes();
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    Ok(bytes)
}

/// Runs `fill` on a new file beside `path` and puts it in the place of `path` once it is whole and on the disk.
pub(super) fn atomically(path: &Path, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    // A temporary file is private by default, weights are not.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = builder.prefix(&format!(".{name}.")).suffix(".tmp").tempfile_in(folder)?;
    let mut writer = BufWriter::with_capacity(1 << 20, temporary);
    fill(&mut writer)?;
    let temporary = writer.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|failed| failed.error)?;
    // The rename itself is on the disk once the folder is; not every system can open one.
    if let Ok(folder) = std::fs::File::open(folder) {
        folder.sync_all()?;
    }
    Ok(())
}
