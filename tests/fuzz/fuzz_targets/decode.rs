//! Image files of all formats, under limits that a fuzzer can reach.
//!
//! The checksums of PNG are off where `cfg(fuzzing)` is set: the crate that reads them sees to that.
#![no_main]

// As a folder of modules, since those of `decode` have a folder of their own.
#[allow(dead_code, unreachable_pub, unused_imports)]
#[path = "../../../crates/cn-data/src"]
mod data {
    pub(crate) mod decode;
}

use data::decode::{self, Channels, DecodeConfig, MemoryBudget};
use libfuzzer_sys::fuzz_target;

/// A panic in a crate that decodes costs one image, as everywhere; one in our own code ends the target.
fn let_decoders_panic() {
    let ends = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let foreign = info.location().is_some_and(|place| place.file().contains("/registry/src/"));
        if !foreign {
            ends(info);
        }
    }));
}

fuzz_target!(init: let_decoders_panic(), |bytes: &[u8]| {
    let channels = [Channels::AsFiles, Channels::Grey, Channels::Rgb][bytes.len() % 3];
    let config = DecodeConfig { channels, longest_side: 64, max_image_pixels: 1 << 16, ..DecodeConfig::default() };
    if let Ok(image) = decode::decode(bytes, &config, &MemoryBudget::default()) {
        assert!(image.height > 0 && image.width > 0 && image.height.max(image.width) <= 64);
        assert_eq!(image.pixels.len(), (image.height * image.width * image.channels) as usize);
        match channels {
            Channels::AsFiles => assert!(matches!(image.channels, 1 | 3)),
            Channels::Grey => assert_eq!(image.channels, 1),
            Channels::Rgb => assert_eq!(image.channels, 3),
        }
    }
});
