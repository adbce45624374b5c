//! Packed weights: small enough to ship inside a program.
//!
//! ```text
//! "CNPACK1\n"                 8 bytes
//! length of the header        8 bytes, little-endian
//! {"metadata": {..}, "tensors": [{"name": .., "shape": [..], "bits": 6 or 32}, ..]}
//! for each tensor             32: the f32 values; 6: an f32 scale for each row (first axis), then the codes
//! ```
//!
//! Four codes of 6 bits lie in three bytes, the first one in the lowest bits; a code `q` of a row stands for
//! `(q - 32) * scale`. Kernels of convolutions and matrices have codes, everything else is small and stays exact.

use super::MAX_HEADER_LEN;
use super::names::is_counter;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(crate) const MAGIC: &[u8] = b"CNPACK1\n";
/// Codes are -31 to 31, stored from 1 to 63.
const MOST: f32 = 31.0;
const ZERO: i32 = 32;
/// Scales that are tried for a row, as shares of the one that reaches its largest value.
const SHARES: [f32; 12] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45];

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    metadata: BTreeMap<String, String>,
    tensors: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    shape: Vec<usize>,
    bits: u8,
}

impl Entry {
    fn n(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim))
    }

    /// Bytes of the tensor in the file; `None` for what no file has.
    fn len(&self) -> Option<usize> {
        let n = self.n()?;
        match (self.bits, self.shape.as_slice()) {
            (32, _) => n.checked_mul(4),
            (6, [rows, _, ..]) if *rows > 0 => rows.checked_mul(4)?.checked_add(n.div_ceil(4).checked_mul(3)?),
            _ => None,
        }
    }
}

/// The bytes of a packed file with these tensors, batch counters left out.
///
/// # Errors
///
/// If a tensor is not of floats.
pub(crate) fn pack(tensors: &[(String, Tensor)], metadata: BTreeMap<String, String>) -> Result<Vec<u8>> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    let mut sorted: Vec<_> = tensors.iter().filter(|(name, _)| !is_counter(name)).collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, tensor) in sorted {
        let values = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let shape = tensor.dims().to_vec();
        let bits = if shape.len() >= 2 { 6 } else { 32 };
        if bits == 6 {
            data.extend(codes(&values, shape[0]));
        } else {
            data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        }
        entries.push(Entry { name: name.clone(), shape, bits });
    }
    let header =
        serde_json::to_vec(&Header { metadata, tensors: entries }).map_err(|source| Error::Packed { source })?;
    let length = (header.len() as u64).to_le_bytes();
    Ok([MAGIC, &length, &header, &data].concat())
}

/// Scales and codes of a matrix of `rows` rows.
fn codes(values: &[f32], rows: usize) -> Vec<u8> {
    let row_len = (values.len() / rows.max(1)).max(1);
    let scales: Vec<f32> = values.chunks(row_len).map(best_scale).collect();
    let codes: Vec<u32> =
        values.chunks(row_len).zip(&scales).flat_map(|(row, &s)| row.iter().map(move |&v| stored(v, s))).collect();
    let mut bytes: Vec<u8> = scales.iter().flat_map(|s| s.to_le_bytes()).collect();
    for four in codes.chunks(4) {
        let word = four.iter().rev().fold(0, |word, code| word << 6 | code);
        bytes.extend(&word.to_le_bytes()[..3]);
    }
    bytes
}

/// The scale with the least squared error: reaching the largest value wastes codes on it.
fn best_scale(row: &[f32]) -> f32 {
    let largest = row.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    let error = |scale: f32| row.iter().map(|&v| (f64::from(v - value(stored(v, scale), scale))).powi(2)).sum::<f64>();
    let scales = SHARES.map(|share| share * largest / MOST);
    scales.into_iter().min_by(|&a, &b| error(a).total_cmp(&error(b))).unwrap_or(0.0)
}

fn stored(value: f32, scale: f32) -> u32 {
    let code = if scale > 0.0 { (value / scale).round().clamp(-MOST, MOST) } else { 0.0 };
    (code as i32 + ZERO) as u32
}

fn value(code: u32, scale: f32) -> f32 {
    (code as i32 - ZERO) as f32 * scale
}

/// The tensors, in `f32`, and the metadata of a packed file.
///
/// # Errors
///
/// [`Error::Packed`] for a header that is none, [`Error::PackedHeader`] for one that is longer than 1 MiB,
/// [`Error::PackedLength`] if the file is shorter or longer than it says, [`Error::RepeatedName`].
pub(crate) fn read(bytes: &[u8]) -> Result<(BTreeMap<String, Tensor>, BTreeMap<String, String>)> {
    let found = bytes.len();
    let cut = || Error::PackedLength { expected: None, found };
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(cut)?;
    let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_LEN {
        return Err(Error::PackedHeader { found: length, limit: MAX_HEADER_LEN });
    }
    let length = usize::try_from(length).map_err(|_| cut())?;
    let (header, mut data) = rest.split_at_checked(length).ok_or_else(cut)?;
    let header: Header = serde_json::from_slice(header).map_err(|source| Error::Packed { source })?;
    let sizes: Option<Vec<usize>> = header.tensors.iter().map(Entry::len).collect();
    let total = sizes.as_ref().and_then(|sizes| sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size)));
    if total != Some(data.len()) {
        let expected = total.and_then(|total| total.checked_add(found - data.len()));
        return Err(Error::PackedLength { expected, found });
    }
    let mut tensors = BTreeMap::new();
    for (entry, size) in header.tensors.iter().zip(sizes.unwrap_or_default()) {
        let (own, others) = data.split_at(size);
        data = others;
        let values = if entry.bits == 6 { decoded(own, entry) } else { floats(own) };
        let tensor = Tensor::from_vec(values, entry.shape.as_slice(), &Device::Cpu)?;
        if tensors.insert(entry.name.clone(), tensor).is_some() {
            return Err(Error::RepeatedName { name: entry.name.clone() });
        }
    }
    Ok((tensors, header.metadata))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// The values of scales and codes, whose length is right.
fn decoded(bytes: &[u8], entry: &Entry) -> Vec<f32> {
    let (rows, n) = (entry.shape[0], entry.n().unwrap_or(0));
    let (scales, codes) = bytes.split_at(4 * rows);
    let (scales, row_len) = (floats(scales), (n / rows).max(1));
    let codes = codes.as_chunks::<3>().0.iter().flat_map(|&[a, b, c]| {
        let word = u32::from_le_bytes([a, b, c, 0]);
        [0, 6, 12, 18].map(|shift| word >> shift & 63)
    });
    codes.take(n).enumerate().map(|(i, code)| value(code, scales[i / row_len])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors() -> Vec<(String, Tensor)> {
        let wave = |i: usize| ((i * 37 % 101) as f32 / 50.0 - 1.0) * (1.0 + (i % 7) as f32);
        let kernel = Tensor::from_vec((0..5 * 3 * 9).map(wave).collect::<Vec<f32>>(), (5, 3, 3, 3), &Device::Cpu);
        let bias = Tensor::new(&[0.1f32, -7.25, 1e-9], &Device::Cpu);
        let counter = Tensor::new(3i64, &Device::Cpu);
        let named = |name: &str, tensor: candle_core::Result<Tensor>| (name.to_owned(), tensor.unwrap());
        vec![
            named("conv1.weight", kernel),
            named("fc.bias", bias),
            named("bn1.num_batches_tracked", counter),
            named("empty.weight", Tensor::zeros((2, 4), DType::F32, &Device::Cpu)),
        ]
    }

    #[test]
    fn vectors_stay_exact_and_kernels_stay_near() {
        let metadata = BTreeMap::from([("cn.arch".to_owned(), "resnet18".to_owned())]);
        let (read, found) = read(&pack(&tensors(), metadata.clone()).unwrap()).unwrap();
        assert_eq!(found, metadata);
        assert_eq!(read.keys().collect::<Vec<_>>(), ["conv1.weight", "empty.weight", "fc.bias"]);
        assert_eq!(read["fc.bias"].to_vec1::<f32>().unwrap(), [0.1, -7.25, 1e-9]);
        assert_eq!(read["empty.weight"].to_vec2::<f32>().unwrap(), [[0.0; 4]; 2]);
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (old, new) = (values(&tensors()[0].1), values(&read["conv1.weight"]));
        assert_eq!(read["conv1.weight"].dims(), [5, 3, 3, 3]);
        for (old, new) in old.chunks(27).zip(new.chunks(27)) {
            let power: f32 = old.iter().map(|v| v * v).sum();
            let error: f32 = old.iter().zip(new).map(|(a, b)| (a - b).powi(2)).sum();
            assert!(error > 0.0 && error < 1e-3 * power, "{error} of {power}");
        }
    }

    #[test]
    fn the_same_tensors_give_the_same_bytes() {
        let mut other_order = tensors();
        other_order.reverse();
        assert_eq!(pack(&tensors(), BTreeMap::new()).unwrap(), pack(&other_order, BTreeMap::new()).unwrap());
    }

    #[test]
    fn every_cut_and_every_addition_is_found() {
        let bytes = pack(&tensors(), BTreeMap::new()).unwrap();
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err(), "cut at {end}");
        }
        assert!(read(&[&bytes[..], &[0]].concat()).is_err());
    }

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [MAGIC, &(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    #[test]
    fn shapes_that_no_memory_holds_are_refused() {
        let bytes = file(r#"{"metadata":{},"tensors":[{"name":"a","shape":[4294967296,4294967296],"bits":6}]}"#, &[]);
        assert!(matches!(read(&bytes), Err(Error::PackedLength { expected: None, .. })));
    }

    #[test]
    fn a_tensor_that_is_there_twice_is_refused() {
        let entry = r#"{"name":"a","shape":[1],"bits":32}"#;
        let once = file(&format!(r#"{{"metadata":{{}},"tensors":[{entry}]}}"#), &[0; 4]);
        assert_eq!(read(&once).unwrap().0.len(), 1);
        let twice = file(&format!(r#"{{"metadata":{{}},"tensors":[{entry},{entry}]}}"#), &[0; 8]);
        assert!(matches!(read(&twice), Err(Error::RepeatedName { name }) if name == "a"));
    }

    #[test]
    fn a_header_has_an_end() {
        let notes = |n: usize| {
            let header = format!(r#"{{"metadata":{{"note":"{}"}},"tensors":[]}}"#, "x".repeat(n));
            (header.len(), read(&file(&header, &[])))
        };
        let (around, _) = notes(0);
        let limit = MAX_HEADER_LEN as usize;
        assert!(notes(limit - around).1.is_ok());
        let (found, longer) = notes(limit - around + 1);
        assert!(matches!(longer, Err(Error::PackedHeader { found: n, .. }) if n == found as u64));
        let endless = [MAGIC, &u64::MAX.to_le_bytes()].concat();
        assert!(matches!(read(&endless), Err(Error::PackedHeader { found: u64::MAX, .. })));
    }
}
