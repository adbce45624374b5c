//! Files from elsewhere: good ones of PyTorch, and hostile ones.

use super::*;
use crate::{Arch, Head};
use candle_core::{DType, Device};
use cn_ops::Model as _;
use std::io::{Cursor, Write};
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

fn refused(bytes: &[u8]) -> Error {
    WeightFile::from_bytes(bytes).expect_err("this file must be refused")
}

fn fixture(name: &str) -> Result<WeightFile> {
    WeightFile::open(format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR")))
}

fn inner(error: Error) -> Error {
    match error {
        Error::InFile { source, .. } => *source,
        other => panic!("{other} does not name its file"),
    }
}

// What PyTorch and fastai wrote.

fn values(file: &WeightFile, name: &str) -> (DType, Vec<usize>, Vec<f64>) {
    let tensor = file.get(name).unwrap_or_else(|| panic!("`{name}` is missing"));
    let flat = tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
    (tensor.dtype(), tensor.dims().to_vec(), flat.to_vec1().unwrap())
}

#[test]
fn pytorch_files_are_read() {
    let file = fixture("state_dict.pth").unwrap();
    let base: Vec<f64> = (0..12).map(f64::from).collect();
    let transposed = [0.0, 4.0, 8.0, 1.0, 5.0, 9.0, 2.0, 6.0, 10.0, 3.0, 7.0, 11.0].to_vec();
    assert_eq!(values(&file, "plain"), (DType::F32, vec![3, 4], base));
    assert_eq!(values(&file, "transposed"), (DType::F32, vec![4, 3], transposed));
    assert_eq!(values(&file, "slice"), (DType::F32, vec![2, 2], vec![4.0, 6.0, 8.0, 10.0]));
    assert_eq!(values(&file, "scalar"), (DType::I64, vec![], vec![7.0]));
    assert_eq!(values(&file, "half"), (DType::F16, vec![2], vec![1.5, -2.0]));
    assert_eq!(values(&file, "bfloat"), (DType::BF16, vec![2], vec![0.5, 3.0]));
    assert_eq!(values(&file, "double"), (DType::F64, vec![1], vec![0.1]));
    assert_eq!(values(&file, "parameter"), (DType::F32, vec![1, 1], vec![2.0]));
    assert_eq!(file.get("empty").unwrap().dims(), [0, 3]);
    assert_eq!(file.tensors().count(), 9);
}

#[test]
fn a_learner_saved_by_fastai_gives_its_model() {
    let file = fixture("fastai.pth").unwrap();
    // This toy's `0.weight` is no name of a ResNet's and stays; `1.` becomes the head.
    assert_eq!(values(&file, "0.weight"), (DType::F32, vec![1, 2], vec![1.0, 2.0]));
    assert_eq!(values(&file, "0.bias"), (DType::F32, vec![1], vec![3.0]));
    assert_eq!(values(&file, "head.num_batches_tracked").0, DType::I64);
    assert_eq!(file.tensors().count(), 7);
}

#[test]
fn what_needs_code_is_refused_by_name() {
    let error = inner(fixture("module.pth").unwrap_err());
    assert!(error.hint().unwrap().contains("state_dict"));
    let name = "torch.nn.modules.container.Sequential";
    assert!(matches!(error, Error::ForbiddenGlobal { name: n, .. } if n == name));
}

#[test]
fn other_formats_are_refused_by_name() {
    let error = inner(fixture("legacy.pth").unwrap_err());
    assert!(matches!(error, Error::UnknownFormat { found } if found.contains("old format")));
    let cases: [(&[u8], &str); 8] = [
        (b"", "empty"),
        (b"GGUF\x03\x00\x00\x00\x00\x00", "GGUF"),
        (b"\x89HDF\r\n\x1a\n", "HDF5 (Keras)"),
        (b"\x93NUMPY\x01\x00", "a NumPy array"),
        (b"\x1f\x8b\x08\x00", "compressed with gzip"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS, not the file itself"),
        (b"\x00\x01\x02\x03\x04\x05\x06\x07\x08", "of an unknown format"),
    ];
    for (bytes, expected) in cases {
        assert!(matches!(refused(bytes), Error::UnknownFormat { found } if found == expected), "{expected}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = WeightFile::open("no/such/file.safetensors").unwrap_err();
    assert_eq!(error.to_string(), "cannot read the weight file `no/such/file.safetensors`");
}

// Hostile safetensors.

fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn tensor(dtype: &str, shape: &str, start: usize, end: usize) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
}

#[test]
fn malformed_safetensors_are_typed_errors() {
    let one = |dtype: &str, shape: &str, start, end| format!(r#"{{"a":{}}}"#, tensor(dtype, shape, start, end));
    let two = |a: String, b: String| format!(r#"{{"a":{a},"b":{b}}}"#);
    let mut long = safetensors("{}", &[]);
    long[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut large = safetensors("{}", &[]);
    large[..8].copy_from_slice(&100_000_001u64.to_le_bytes());
    let mut outside = safetensors("{}", &[]);
    outside[..8].copy_from_slice(&3u64.to_le_bytes());
    let good = safetensors(&one("F32", "[2]", 0, 8), &[0; 8]);
    let huge = format!("[{},2]", 1u64 << 63);
    let files = [
        ("header length past memory", long),
        ("header past 100 MB", large),
        ("header past the file", outside),
        ("not JSON", safetensors("{\"a\":", &[])),
        ("JSON of another kind", safetensors("{\"a\":[1]}", &[])),
        ("not UTF-8", [&5u64.to_le_bytes()[..], b"{\"\xff\":"].concat()),
        ("unknown element type", safetensors(&one("F31", "[2]", 0, 8), &[0; 8])),
        ("shape and bytes differ", safetensors(&one("F32", "[3]", 0, 8), &[0; 8])),
        ("end before start", safetensors(&one("F32", "[0]", 8, 0), &[0; 8])),
        ("data past the end", safetensors(&one("F32", "[4]", 0, 16), &[0; 8])),
        ("negative offset", safetensors(&one("F32", "[2]", 0, 8).replace("[0,8]", "[-8,0]"), &[0; 8])),
        ("negative size", safetensors(&one("F32", "[-2]", 0, 8), &[0; 8])),
        ("size overflows", safetensors(&one("F32", &huge, 0, 8), &[0; 8])),
        ("overlap", safetensors(&two(tensor("F32", "[2]", 0, 8), tensor("F32", "[2]", 4, 12)), &[0; 12])),
        ("hole", safetensors(&two(tensor("F32", "[1]", 0, 4), tensor("F32", "[1]", 8, 12)), &[0; 12])),
        ("unused data", safetensors(&one("F32", "[1]", 0, 4), &[0; 12])),
        ("cut short", good[..good.len() - 1].to_vec()),
        ("bytes behind", [&good[..], &[0]].concat()),
        ("metadata of another kind", safetensors(r#"{"__metadata__":{"a":1}}"#, &[])),
    ];
    for (what, bytes) in files {
        match refused(&bytes) {
            Error::Safetensors(_) => {}
            other => panic!("{what}: {other}"),
        }
    }
    assert!(WeightFile::from_bytes(&good).is_ok());
}

#[test]
fn element_types_without_a_tensor_are_named() {
    let bytes = safetensors(&format!(r#"{{"a":{}}}"#, tensor("I8", "[2]", 0, 2)), &[0; 2]);
    assert!(matches!(refused(&bytes), Error::ElementType { name, found } if name == "a" && found == "I8"));
}

#[test]
fn two_names_for_one_tensor_are_refused() {
    let header =
        format!(r#"{{"0.0.weight":{},"conv1.weight":{}}}"#, tensor("F32", "[1]", 0, 4), tensor("F32", "[1]", 4, 8));
    let error = refused(&safetensors(&header, &[0; 8]));
    assert_eq!(error.to_string(), "`0.0.weight` and `conv1.weight` both mean `conv1.weight`");
}

#[test]
fn a_tensor_that_is_there_twice_is_refused() {
    let header = format!(r#"{{"a":{},"a":{}}}"#, tensor("F32", "[1]", 0, 4), tensor("F32", "[2]", 0, 8));
    assert!(matches!(refused(&safetensors(&header, &[0; 8])), Error::RepeatedName { name } if name == "a"));
    let twice = dict(&[("a", PLAIN), ("b", PLAIN), ("a", View { shape: &[4], stride: &[1], ..PLAIN })]);
    let archive = stored(&[("m/data.pkl", &twice), ("m/data/0", &[0; 16])]);
    assert!(matches!(refused(&archive), Error::RepeatedName { name } if name == "a"));
}

// Hostile PyTorch files.

fn archive(files: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents) in files {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(contents).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn stored(files: &[(&str, &[u8])]) -> Vec<u8> {
    archive(files, CompressionMethod::Stored)
}

fn int(out: &mut Vec<u8>, n: i64) {
    out.extend([0x8a, 8]);
    out.extend(n.to_le_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn ints(out: &mut Vec<u8>, numbers: &[i64]) {
    out.push(b'(');
    numbers.iter().for_each(|&n| int(out, n));
    out.push(b't');
}

/// A float tensor in storage `key`.
struct View<'a> {
    key: &'a str,
    len: i64,
    offset: i64,
    shape: &'a [i64],
    stride: &'a [i64],
}

const PLAIN: View<'_> = View { key: "0", len: 4, offset: 0, shape: &[2, 2], stride: &[2, 1] };

fn view(out: &mut Vec<u8>, view: &View<'_>) {
    out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    text(out, "storage");
    out.extend(b"ctorch\nFloatStorage\n");
    text(out, view.key);
    text(out, "cpu");
    int(out, view.len);
    out.extend(b"tQ");
    int(out, view.offset);
    ints(out, view.shape);
    ints(out, view.stride);
    out.extend(b"\x89NtR");
}

/// `{names[0]: views[0], ...}`.
fn dict(entries: &[(&str, View<'_>)]) -> Vec<u8> {
    let mut out = b"\x80\x02}(".to_vec();
    for (name, entry) in entries {
        text(&mut out, name);
        view(&mut out, entry);
    }
    out.extend(b"u.");
    out
}

fn one_tensor(entry: View<'_>) -> Vec<u8> {
    stored(&[("m/data.pkl", &dict(&[("a", entry)])), ("m/data/0", &[0; 16])])
}

#[test]
fn the_built_archive_is_good_before_it_is_spoilt() {
    let file = WeightFile::from_bytes(&one_tensor(PLAIN)).unwrap();
    assert_eq!(values(&file, "a"), (DType::F32, vec![2, 2], vec![0.0; 4]));
}

#[test]
fn tensors_outside_their_storage_are_refused() {
    let past = "reaches past the end of its storage";
    let strides = "has another number of strides than of dimensions";
    let memory = "has more elements than memory can hold";
    let growth = "and those before it are many times larger than the file";
    let big = i64::MAX;
    let cases = [
        (View { offset: 1, ..PLAIN }, past),
        (View { offset: big, ..PLAIN }, past),
        (View { shape: &[2, 3], stride: &[3, 1], ..PLAIN }, past),
        (View { shape: &[2, 2], stride: &[3, 1], ..PLAIN }, past),
        (View { shape: &[2, 2], stride: &[big, 1], ..PLAIN }, past),
        (View { shape: &[2, 2], stride: &[2], ..PLAIN }, strides),
        (View { shape: &[big, big], stride: &[0, 0], ..PLAIN }, memory),
        // A stride of 0 repeats one value: a small file for a large tensor.
        (View { shape: &[1 << 40], stride: &[0], ..PLAIN }, growth),
        (View { len: 5, ..PLAIN }, "has a storage of another size than its file"),
        (View { len: big, ..PLAIN }, "has a storage of another size than its file"),
    ];
    for (entry, expected) in cases {
        match refused(&one_tensor(entry)) {
            Error::BadTensor { name, problem } => assert_eq!((name.as_str(), problem), ("a", expected)),
            other => panic!("{expected}: {other}"),
        }
    }
    for entry in [View { shape: &[-2, 2], ..PLAIN }, View { offset: -1, ..PLAIN }, View { len: -1, ..PLAIN }] {
        assert!(matches!(refused(&one_tensor(entry)), Error::Pickle { .. }));
    }
}

#[test]
fn many_names_for_one_storage_do_not_multiply_it() {
    let names: Vec<String> = (0..200).map(|i| format!("t{i}")).collect();
    let storage = vec![0u8; 1 << 20];
    let whole = |len: i64| View { key: "0", len, offset: 0, shape: &[1 << 18], stride: &[1] };
    let entries: Vec<(&str, View<'_>)> = names.iter().map(|name| (name.as_str(), whole(1 << 18))).collect();
    let bytes = stored(&[("m/data.pkl", &dict(&entries)), ("m/data/0", &storage)]);
    assert!(matches!(refused(&bytes), Error::BadTensor { .. }));
    assert!(WeightFile::from_bytes(&stored(&[("m/data.pkl", &dict(&entries_of(3))), ("m/data/0", &storage)])).is_ok());

    fn entries_of(n: usize) -> Vec<(&'static str, View<'static>)> {
        ["a", "b", "c"][..n]
            .iter()
            .map(|&name| (name, View { len: 1 << 18, shape: &[1 << 18], stride: &[1], ..PLAIN }))
            .collect()
    }
}

#[test]
fn archives_of_another_make_are_refused() {
    let pickle = dict(&[("a", PLAIN)]);
    let data: (&str, &[u8]) = ("m/data/0", &[0; 16]);
    let cases = [
        ("lacks its file `data/0`", stored(&[("m/data.pkl", &pickle)])),
        ("holds 0 files `data.pkl`", stored(&[data])),
        ("holds 2 files `data.pkl`", stored(&[("m/data.pkl", &pickle), ("n/data.pkl", &pickle), data])),
        ("compresses `data.pkl`", archive(&[("m/data.pkl", &pickle), data], CompressionMethod::Deflated)),
        ("is a TorchScript program", stored(&[("m/data.pkl", &pickle), data, ("m/code/a.py", b"")])),
        ("another byte order", stored(&[("m/data.pkl", &pickle), data, ("m/byteorder", b"big")])),
        ("holds more than 20000 files", {
            let many: Vec<String> = (0..20_000).map(|i| format!("m/{i}")).collect();
            stored(
                &[vec![("m/data.pkl", &pickle[..])], many.iter().map(|name| (&name[..], &b""[..])).collect()].concat(),
            )
        }),
        ("holds no dict", stored(&[("m/data.pkl", b"\x80\x02].")])),
        ("holds no tensors", stored(&[("m/data.pkl", b"\x80\x02}.")])),
    ];
    for (expected, bytes) in cases {
        match refused(&bytes) {
            Error::Archive { problem } => assert!(problem.contains(expected), "{problem}"),
            other => panic!("{expected}: {other}"),
        }
    }
}

#[test]
fn damaged_archives_are_refused() {
    let good = one_tensor(PLAIN);
    for end in [4, 30, good.len() / 2, good.len() - 1] {
        assert!(matches!(refused(&good[..end]), Error::Zip(_)), "cut at {end}");
    }
    // A flipped bit in the elements fails the archive's checksum.
    let name = b"m/data/0";
    let at = good.windows(name.len()).position(|w| w == name).unwrap() + name.len();
    let mut flipped = good.clone();
    flipped[at + 3] ^= 1;
    assert!(matches!(refused(&flipped), Error::Zip(_)));
}

#[test]
fn a_canary_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let canary = folder.path().join("canary");
    let mut pickle = b"\x80\x02cposix\nsystem\n".to_vec();
    text(&mut pickle, &format!("touch {}", canary.display()));
    pickle.extend(b"\x85R.");
    let path = folder.path().join("hostile.pth");
    std::fs::write(&path, stored(&[("m/data.pkl", &pickle)])).unwrap();
    let error = inner(WeightFile::open(&path).unwrap_err());
    assert!(matches!(error, Error::ForbiddenGlobal { name, .. } if name == "posix.system"));
    assert!(!canary.exists());
}

mod fuzz {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        // Any change of a few bytes is read or refused, and never a panic.
        #[test]
        fn changed_bytes_never_panic(changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4)) {
            let header = format!(r#"{{"a":{}}}"#, tensor("F32", "[2]", 0, 8));
            for mut bytes in [safetensors(&header, &[0; 8]), one_tensor(PLAIN)] {
                for &(at, value) in &changes {
                    let at = usize::from(at) % bytes.len();
                    bytes[at] = value;
                }
                let _ = WeightFile::from_bytes(&bytes);
            }
        }
    }
}

/// `{"epoch": None, key: {"a": zeros}}`, beside a tensor of the training script's own.
fn nested(key: &str) -> Vec<u8> {
    let mut out = b"\x80\x02}(".to_vec();
    text(&mut out, "momentum");
    view(&mut out, &PLAIN);
    text(&mut out, "epoch");
    out.push(b'N');
    text(&mut out, key);
    out.extend(b"}(");
    text(&mut out, "a");
    view(&mut out, &PLAIN);
    out.extend(b"uu.");
    stored(&[("m/data.pkl", &out), ("m/data/0", &[0; 16])])
}

#[test]
fn a_state_dict_beside_other_things_is_found_by_its_usual_names() {
    let names = |key| {
        let file = WeightFile::from_bytes(&nested(key)).unwrap();
        file.tensors().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
    };
    for key in ["model", "state_dict", "model_state_dict"] {
        assert_eq!(names(key), ["a"], "{key}");
    }
    assert_eq!(names("opt"), ["momentum"], "a dict of another name is not looked into");
}

#[test]
fn a_header_as_long_as_another_formats_first_bytes_is_a_header() {
    let header = format!(r#"{{"a":{}}}"#, tensor("F32", "[2]", 0, 8));
    // `<`, a pickle's protocol, gzip, a protocol buffer: each as the low bytes of a length.
    for length in [usize::from(b'<'), 0x80, 0x8b1f, 0x108] {
        let padded = format!("{header:length$}");
        assert_eq!(padded.len(), length);
        let file = WeightFile::from_bytes(&safetensors(&padded, &[0; 8])).unwrap();
        assert_eq!(file.format(), FileFormat::Safetensors, "{length:#x}");
    }
}

#[test]
fn every_element_type_of_safetensors_is_read_as_itself() {
    let types: [(&str, DType, &[u8]); 10] = [
        ("F16", DType::F16, &[0, 0x3c]),
        ("BF16", DType::BF16, &[0x80, 0x3f]),
        ("F32", DType::F32, &1f32.to_le_bytes()),
        ("F64", DType::F64, &1f64.to_le_bytes()),
        ("I16", DType::I16, &1i16.to_le_bytes()),
        ("I32", DType::I32, &1i32.to_le_bytes()),
        ("I64", DType::I64, &1i64.to_le_bytes()),
        ("U32", DType::U32, &1u32.to_le_bytes()),
        ("U8", DType::U8, &[1]),
        ("BOOL", DType::U8, &[1]),
    ];
    for (name, dtype, one) in types {
        let header = format!(r#"{{"a":{}}}"#, tensor(name, "[1]", 0, one.len()));
        let file = WeightFile::from_bytes(&safetensors(&header, one)).unwrap();
        assert_eq!(values(&file, "a"), (dtype, vec![1], vec![1.0]), "{name}");
    }
}

// Round trips.

const TINY: ResNetConfig =
    ResNetConfig { arch: crate::Arch::ResNet18, in_channels: 1, n_classes: 3, head: crate::Head::Linear };

#[test]
fn saved_files_hold_the_same_bytes_whatever_the_order() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    let x = Tensor::new(&[[1.0f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
    let n = Tensor::new(5i64, &Device::Cpu).unwrap();
    let h = Tensor::new(&[0.5f32], &Device::Cpu).unwrap().to_dtype(DType::F16).unwrap();
    let mut tensors = vec![("h".to_string(), h), ("x".to_string(), x), ("n".to_string(), n)];
    save(&a, &tensors, &TINY).unwrap();
    tensors.reverse();
    save(&b, &tensors, &TINY).unwrap();
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");

    let file = WeightFile::open(&a).unwrap();
    let read: Vec<(String, Tensor)> = file.tensors().map(|(name, t)| (name.into(), t.clone())).collect();
    assert_eq!(weights_sha256(&read).unwrap(), weights_sha256(&tensors).unwrap());
    assert_eq!(file.metadata()["cn.arch"], "resnet18");
    assert_eq!(file.metadata()["format"], "pt");
}

#[test]
fn a_file_is_replaced_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    std::fs::write(&path, b"old").unwrap();
    // An element type that the format lacks fails before anything is written.
    let odd = Tensor::new(&[1.0f32], &Device::Cpu).unwrap().to_dtype(DType::F8E4M3).unwrap();
    assert!(matches!(save(&path, &[("a".into(), odd)], &TINY), Err(Error::ElementType { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    let error = save(folder.path().join("no/such/folder/w"), &[], &TINY).unwrap_err();
    assert!(matches!(error, Error::Unwritable { .. }));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn packed_files_build_the_network_again() {
    let config = ResNetConfig { arch: Arch::ResNet18, in_channels: 1, n_classes: 15, head: Head::Linear };
    let mut network = config.build(1, DType::F32, &Device::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.bin");
    save_packed(&path, &network.named_tensors().unwrap(), &config).unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() < 9_000_000);
    let file = WeightFile::open(&path).unwrap();
    assert_eq!(ResNetConfig::of_file(&file).unwrap(), config);
    load(&mut network, &file, Fit::Exact).unwrap();

    let two = file.with_outputs(&[14, 3]).unwrap();
    assert_eq!(two.get("fc.weight").unwrap().dims(), [2, 512]);
    let rows = |file: &WeightFile| file.get("fc.weight").unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(rows(&two), [14, 3].map(|i: usize| rows(&file)[i].clone()));
    assert!(file.with_outputs(&[15]).is_err());
    assert!(file.without_head().tensors().all(|(name, _)| !name.starts_with("fc.")));
}
