//! Helpers of the unit tests.

use crate::Image;

/// A file of reference numbers.
pub(crate) fn golden(name: &str) -> serde_json::Value {
    let path = format!("{}/../../tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("a golden file");
    serde_json::from_str(&text).expect("golden files are JSON")
}

pub(crate) fn number(value: &serde_json::Value) -> f64 {
    value.as_f64().expect("a number")
}

/// The bytes of a hexadecimal string.
pub(crate) fn bytes(value: &serde_json::Value) -> Vec<u8> {
    let text = value.as_str().expect("a string");
    let pair = |i| u8::from_str_radix(&text[i..i + 2], 16).expect("hexadecimal digits");
    (0..text.len()).step_by(2).map(pair).collect()
}

/// Some bytes without a pattern.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(0x9E37_79B9) ^ i.wrapping_mul(0x85EB_CA6B).rotate_left(9)) as u8).collect()
}

pub(crate) fn grey(pixels: &[u8], height: usize, width: usize) -> Image<'_> {
    Image { pixels, height, width, channels: 1 }
}

pub(crate) fn rgb(pixels: &[u8], height: usize, width: usize) -> Image<'_> {
    Image { pixels, height, width, channels: 3 }
}
