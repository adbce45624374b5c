//! One number for a set of weights.

use crate::Result;
use candle_core::{DType, Tensor};
use sha2::{Digest, Sha256};

/// SHA-256 of a set of named tensors, in lower-case hex; equal for equal weights in whatever order and file.
///
/// Tensors are taken in the byte order of their names. For each of them is hashed, all integers as 8 bytes little-endian:
/// the length of the name and its UTF-8 bytes; the length of the element type's name and its bytes (`F32`, `F64`, `F16`,
/// `BF16`, `U8`, `U32`, `I16`, `I32`, `I64`, as safetensors writes them); the number of dimensions and each of them; the
/// number of bytes of the elements and those bytes, row-major, little-endian.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let a = ("a".to_string(), Tensor::new(&[1.0f32, 2.0], &Device::Cpu)?);
/// let b = ("b".to_string(), Tensor::new(&[3.0f32], &Device::Cpu)?);
/// assert_eq!(cn_zoo::weights_sha256(&[a.clone(), b.clone()])?, cn_zoo::weights_sha256(&[b, a])?);
/// # Ok::<(), cn_zoo::Error>(())
/// ```
///
/// # Errors
///
/// If an element type has no name in safetensors, or the device fails.
pub fn weights_sha256(tensors: &[(String, Tensor)]) -> Result<String> {
    let mut sorted: Vec<_> = tensors.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut hash = Sha256::new();
    for (name, tensor) in sorted {
        sized(&mut hash, name.as_bytes());
        sized(&mut hash, dtype_name(name, tensor.dtype())?.as_bytes());
        hash.update((tensor.rank() as u64).to_le_bytes());
        for &dim in tensor.dims() {
            hash.update((dim as u64).to_le_bytes());
        }
        sized(&mut hash, &bytes_of(tensor)?);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn sized(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// safetensors' name of an element type.
pub(crate) fn dtype_name(tensor: &str, dtype: DType) -> Result<&'static str> {
    Ok(match dtype {
        DType::U8 => "U8",
        DType::U32 => "U32",
        DType::I16 => "I16",
        DType::I32 => "I32",
        DType::I64 => "I64",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::F32 => "F32",
        DType::F64 => "F64",
        other => return Err(crate::Error::ElementType { name: tensor.into(), found: format!("{other:?}") }),
    })
}

/// The elements of a tensor on any device, row-major, little-endian.
pub(crate) fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>> {
    use safetensors::View;
    // candle's view panics where the device fails, so the copy to the host comes first.
    let host = tensor.to_device(&candle_core::Device::Cpu)?;
    Ok(View::data(&&host).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn tiny() -> Vec<(String, Tensor)> {
        let w = Tensor::new(&[[1.0f32, -2.0, 0.5], [0.0, 3.0, -0.25]], &Device::Cpu).unwrap();
        let b = Tensor::new(&[1.0f64, 2.0], &Device::Cpu).unwrap();
        vec![("w".into(), w), ("b".into(), b)]
    }

    // Computed by hashlib over the documented bytes.
    #[test]
    fn the_digest_never_changes() {
        assert_eq!(weights_sha256(&tiny()).unwrap(), HELD);
    }
    const HELD: &str = "be6110e75897e6ae3a7e60f9451628c76f72b68bb384d14e16420effa8640d61";

    #[test]
    fn name_type_shape_and_bytes_matter() {
        let base = weights_sha256(&tiny()).unwrap();
        let mut changed = [tiny(), tiny(), tiny(), tiny()];
        changed[0][0].0 = "v".into();
        changed[1][0].1 = changed[1][0].1.to_dtype(DType::F64).unwrap();
        changed[2][0].1 = changed[2][0].1.reshape((3, 2)).unwrap();
        changed[3][0].1 = changed[3][0].1.neg().unwrap();
        assert!(changed.iter().all(|tensors| weights_sha256(tensors).unwrap() != base));
    }

    #[test]
    fn layout_does_not_matter() {
        let [(_, w), _] = &tiny()[..] else { unreachable!() };
        let view = w.t().unwrap().contiguous().unwrap().t().unwrap();
        assert!(!view.is_contiguous());
        let of = |t: &Tensor| weights_sha256(&[("w".into(), t.clone())]).unwrap();
        assert_eq!(of(w), of(&view));
    }
}
