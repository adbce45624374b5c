//! Weight files of every format, told apart by their first bytes: safetensors, PyTorch's archives, packed ones, pickles.
//!
//! A pickle alone is also put into an archive whose checksums are right: behind those of a mutated archive nothing of
//! its program would be seen.
#![no_main]

#[allow(dead_code)]
#[path = "../../../xtask/src/raw_zip.rs"]
mod raw_zip;

use candle_core::{DType, Device, Tensor};
use cn_ops::{BatchNorm, Conv2d, Conv2dConfig, Flatten, Linear, Network, Sequential};
use cn_zoo::{Arch, Fit, ResNetConfig, WeightFile};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;

/// What a state dict may ask for: two storages.
const STORAGES: [usize; 2] = [64, 288];

/// A network with the names of a ResNet's stem and head, small enough for files that a fuzzer makes.
fn network() -> Network {
    let tensor = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).expect("memory");
    let conv = Conv2dConfig { stride: [1, 1], padding: [1, 1] };
    let layers = Sequential::new()
        .push("conv1", Conv2d::new(tensor(&[2, 1, 3, 3]), conv).expect("a layer"))
        .push("bn1", BatchNorm::new(tensor(&[2]), tensor(&[2])).expect("a layer"))
        .push("flat", Flatten::new())
        .push("fc", Linear::new(tensor(&[3, 8])).expect("a layer"));
    Network::new(layers, |name| usize::from(name.starts_with("fc"))).expect("a network")
}

thread_local! {
    static NETWORK: RefCell<Network> = RefCell::new(network());
}

fn judge(bytes: &[u8]) {
    let Ok(file) = WeightFile::from_bytes(bytes) else { return };
    let n_bytes: usize = file.tensors().map(|(_, tensor)| tensor.elem_count() * tensor.dtype().size_in_bytes()).sum();
    assert!(n_bytes <= 8 * bytes.len(), "{n_bytes} bytes of tensors in a file of {}", bytes.len());
    let _ = Arch::of_file(&file);
    let _ = ResNetConfig::of_file(&file);
    let _ = file.with_outputs(&[0, 2]);
    NETWORK.with_borrow_mut(|network| {
        for fit in [Fit::Exact, Fit::Transfer] {
            let Ok(loaded) = cn_zoo::load(network, &file, fit) else { continue };
            assert!(loaded.taken.iter().all(|name| file.get(name).is_some()));
        }
        let _ = cn_zoo::load(network, &file.without_head(), Fit::Transfer);
    });
}

fuzz_target!(|bytes: &[u8]| {
    judge(bytes);
    if bytes.starts_with(b"\x80") {
        let storages = STORAGES.map(|n| (0..n).map(|i| i as u8).collect::<Vec<u8>>());
        let [first, second] = &storages;
        let entries = [
            raw_zip::file("x/data.pkl", bytes),
            raw_zip::file("x/byteorder", b"little"),
            raw_zip::file("x/data/0", first),
            raw_zip::file("x/data/1", second),
        ];
        judge(&raw_zip::archive(&entries));
    }
});
