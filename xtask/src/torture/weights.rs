//! Weight files that are malformed, lie, or would run code.

use super::images::MORE_KIB;
use super::{Scene, Tally};
use crate::raw_zip::{archive, file};
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;

/// Bytes of a file that holds no whole set of weights.
const MOST_SMALL: usize = 8 << 20;
const COMMAND: &str = "train --synthetic --limit 60 --image-size 32 --batch-size 8 --dry-run --weights";

pub(super) fn run(scene: &Scene) -> Result<Tally> {
    let place = &scene.place;
    place.reference()?;
    let whole = Whole::read(&place.path("reference/model.safetensors"))?;
    fs::write(place.path("w.safetensors"), whole.bytes(&whole.header))?;
    let good = place.run(&format!("{COMMAND} w.safetensors"))?;
    good.succeeded().context("the file is refused before it is spoilt")?;
    fs::write(place.path("w.safetensors"), b"")?;
    let refused = place.run(&format!("{COMMAND} w.safetensors"))?;
    let mut tally = Tally::default();
    let mut more = 0;
    for (name, bytes) in safetensors(&whole).into_iter().chain(pickles()).chain(packed()) {
        let path = match name.split_once(' ') {
            Some(("pickle", _)) => "w.pth",
            Some(("packed", _)) => "w.bin",
            _ => "w.safetensors",
        };
        // Only a file as long as a good one may take what that takes.
        let usual = if bytes.len() < MOST_SMALL { refused.peak_kib } else { good.peak_kib };
        fs::write(place.path(path), bytes)?;
        let outcome = place.run(&format!("{COMMAND} {path}")).and_then(|ended| {
            let own = ended.peak_kib.saturating_sub(usual);
            more = more.max(own);
            ended.refused(&[path])?;
            ensure!(own < MORE_KIB, "{} MiB more memory than usual", own >> 10);
            ensure!(!place.path("canary").exists(), "it ran code");
            Ok(())
        });
        tally.add(|| name.into(), outcome);
    }
    tally.note = format!(", {} MiB more memory", more >> 10);
    Ok(tally)
}

/// A good file, in parts.
struct Whole {
    header: Map<String, Value>,
    data: Vec<u8>,
}

impl Whole {
    fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path)?;
        let (len, rest) = bytes.split_first_chunk::<8>().context("no length")?;
        let (header, data) = rest.split_at(u64::from_le_bytes(*len) as usize);
        Ok(Self { header: serde_json::from_slice(header)?, data: data.to_vec() })
    }

    fn bytes(&self, header: &Map<String, Value>) -> Vec<u8> {
        let header = Value::Object(header.clone()).to_string();
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &self.data].concat()
    }

    /// The file with one change of its header.
    fn with(&self, change: impl FnOnce(&mut Map<String, Value>)) -> Vec<u8> {
        let mut header = self.header.clone();
        change(&mut header);
        self.bytes(&header)
    }

    /// The file with these four bytes at the beginning of a tensor.
    fn with_number(&self, tensor: &str, number: f32) -> Vec<u8> {
        let at = self.header[tensor]["data_offsets"][0].as_u64().unwrap_or(0) as usize;
        let mut data = self.data.clone();
        data[at..at + 4].copy_from_slice(&number.to_le_bytes());
        Self { header: self.header.clone(), data }.bytes(&self.header)
    }
}

const STEM: &str = "conv1.weight";
const NORM: &str = "bn1.weight";

fn safetensors(whole: &Whole) -> Vec<(&'static str, Vec<u8>)> {
    let len = |n: u64, rest: &[u8]| [&n.to_le_bytes()[..], rest].concat();
    let notes = |item: &dyn Fn(usize) -> String, before: &str, after: &str| {
        let items: Vec<String> = (0..60_000).map(item).collect();
        let header = format!("{before}{}{after}", items.join(","));
        len(header.len() as u64, header.as_bytes())
    };
    let good = whole.bytes(&whole.header);
    let set = |tensor: &'static str, key: &'static str, value: Value| {
        whole.with(|header| drop(header[tensor].as_object_mut().expect("a tensor").insert(key.into(), value)))
    };
    vec![
        ("nothing", Vec::new()),
        ("seven bytes", vec![0; 7]),
        ("a header of 2^64 bytes", len(u64::MAX, b"{}")),
        ("a header of 100 GB", len(100_000_000_000, b"{}")),
        ("a header that is longer than the file", len(1000, b"{}")),
        ("no JSON", len(4, b"{{{{")),
        ("JSON nested without end", len(100_000, &vec![b'['; 100_000])),
        ("a list in place of a table", len(2, b"[]")),
        ("bytes that are no UTF-8", len(4, b"\xff\xfe{}")),
        ("no tensors", len(2, b"{}")),
        ("notes alone", notes(&|i| format!("\"{i}\":\"\""), r#"{"__metadata__":{"#, "}}")),
        ("a shape of ones", notes(&|_| "1".into(), r#"{"a":{"dtype":"F32","data_offsets":[0,4],"shape":["#, "]}}")),
        ("cut in the header", good[..100].to_vec()),
        ("cut in the data", good[..good.len() - 1000].to_vec()),
        ("bytes behind its end", [&good[..], b"more"].concat()),
        ("a type that is none", set(STEM, "dtype", json!("F13"))),
        ("a shape that is larger than its bytes", set(STEM, "shape", json!([64, 3, 7, 8]))),
        ("a shape that overflows", set(STEM, "shape", json!([u64::MAX, u64::MAX, 7, 7]))),
        ("a negative shape", set(STEM, "shape", json!([-64, 3, 7, 7]))),
        ("offsets that go back", set(STEM, "data_offsets", json!([100, 0]))),
        ("offsets outside", set(STEM, "data_offsets", json!([u64::MAX - 4, u64::MAX]))),
        ("two tensors on the same bytes", set(NORM, "data_offsets", whole.header[STEM]["data_offsets"].clone())),
        ("a hole", whole.with(|header| drop(header.remove(NORM)))),
        ("another stem", set(STEM, "shape", json!([64, 7, 3, 7]))),
        ("NaN among the weights", whole.with_number(STEM, f32::NAN)),
        ("infinity among the weights", whole.with_number(NORM, f32::INFINITY)),
        ("a web page", b"<!DOCTYPE html><html>not found</html>".to_vec()),
    ]
}

fn pickles() -> Vec<(&'static str, Vec<u8>)> {
    let zipped = |pickle: &[u8]| {
        archive(&[file("x/data.pkl", pickle), file("x/byteorder", b"little"), file("x/version", b"3\n")])
    };
    let many: Vec<String> = (0..60_000).map(|i| format!("x/{i}")).collect();
    let many: Vec<_> = many.iter().map(|name| file(name, b"")).collect();
    vec![
        ("pickle in an archive of 60,000 files", archive(&many)),
        ("pickle that makes a file", zipped(b"\x80\x02cposix\nsystem\nX\x0c\0\0\0touch canary\x85R.")),
        ("pickle that evaluates", zipped(b"\x80\x02cbuiltins\neval\nX\x04\x00\x00\x001+1 \x85R.")),
        ("pickle that opens", zipped(b"\x80\x04\x8c\x08builtins\x8c\x04open\x93\x8c\x06canary\x8c\x01w\x86R.")),
        ("pickle with an unknown opcode", zipped(b"\x80\x02\xff.")),
        ("pickle that is cut", zipped(b"\x80\x02}q\0(X\x05\0\0")),
        ("pickle that is empty", zipped(b"")),
        ("pickle without an archive", b"\x80\x02}q\0.".to_vec()),
        ("pickle whose archive is cut", zipped(b"\x80\x02}.")[..40].to_vec()),
        ("pickle of an empty table", zipped(b"\x80\x02}.")),
        ("pickle of ten million tables", zipped(&[b"\x80\x02", &vec![b'}'; 10_000_000][..], b"."].concat())),
        ("pickle of a tuple a million deep", zipped(&[b"\x80\x02)", &vec![0x85; 1_000_000][..], b"."].concat())),
    ]
}

/// The form of weights within the program, which a file may have too.
fn packed() -> Vec<(&'static str, Vec<u8>)> {
    let with = |len: u64, rest: &[u8]| [b"CNPACK1\n", &len.to_le_bytes()[..], rest].concat();
    let named = |tensors: &str, data: &[u8]| {
        let header = format!(r#"{{"metadata":{{}},"tensors":[{tensors}]}}"#);
        with(header.len() as u64, &[header.as_bytes(), data].concat())
    };
    let entry = |name: &str, shape: &str, bits: u8| format!(r#"{{"name":"{name}","shape":[{shape}],"bits":{bits}}}"#);
    let many = (0..200_000).map(|i| entry(&format!("{i:x}"), "0", 32)).collect::<Vec<_>>().join(",");
    let twice = [entry("fc.bias", "15", 32), entry("fc.bias", "15", 32)].join(",");
    vec![
        ("packed without a length", b"CNPACK1\n".to_vec()),
        ("packed with a header of 2^64 bytes", with(u64::MAX, b"{}")),
        ("packed with a header that is longer than the file", with(1000, b"{}")),
        ("packed without JSON", with(4, b"{{{{")),
        ("packed with JSON nested without end", with(100_000, &vec![b'['; 100_000])),
        ("packed with 200,000 tensors of nothing", named(&many, b"")),
        ("packed with a note of 7 MB", with(7 << 20, &vec![b'"'; 7 << 20])),
        ("packed with one tensor twice", named(&twice, &[0; 120])),
        ("packed with a shape that overflows", named(&entry("fc.weight", "4294967296,4294967296", 6), b"")),
        ("packed with seven bits", named(&entry("fc.bias", "15", 7), &[0; 60])),
        ("packed and longer than it says", named(&entry("fc.bias", "15", 32), &[0; 61])),
        ("packed with no tensor of a network", named(&entry("a", "15", 32), &[0; 60])),
    ]
}
