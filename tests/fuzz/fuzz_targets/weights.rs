//! Weight files of every format, told apart by their first bytes: safetensors, PyTorch's archives, pickles.
#![no_main]

use cn_zoo::{Arch, ResNetConfig, WeightFile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = WeightFile::from_bytes(bytes) else { return };
    for (name, tensor) in file.tensors() {
        assert!(!name.is_empty() || tensor.rank() <= 64);
    }
    let _ = Arch::of_file(&file);
    let _ = ResNetConfig::of_file(&file);
});
