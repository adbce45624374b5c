//! Image files of all formats, under limits that a fuzzer can reach.
#![no_main]

#[allow(dead_code, unreachable_pub, unused_imports)]
#[path = "../../../crates/cn-data/src/decode.rs"]
mod decode;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let config =
        decode::DecodeConfig { longest_side: 64, max_image_pixels: 1 << 16, ..decode::DecodeConfig::default() };
    if let Ok(image) = decode::decode(bytes, &config) {
        assert!(image.height > 0 && image.width > 0 && image.height.max(image.width) <= 64);
        assert_eq!(image.pixels.len(), (image.height * image.width * image.channels) as usize);
    }
});
