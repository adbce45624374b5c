//! Settings files: whatever is accepted survives being stored and read again.
#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../../crates/cn-train/src/args.rs"]
mod args;
#[path = "../../../crates/cn-train/src/config.rs"]
mod config;
#[path = "../../../crates/cn-train/src/problem.rs"]
mod problem;
/// What the settings ask the rest of the program.
mod start {
    pub(crate) fn is_name(weights: &str) -> bool {
        ["auto", "none", "imagenet", "glyphs"].contains(&weights)
    }
}

use args::{Common, ConfigArgs};
use config::Config;
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    parent.join(format!("cn-fuzz-config-{}.toml", std::process::id()))
});

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(&*PATH, bytes).expect("written");
    let mut flags = ConfigArgs::default();
    flags.batch.config = Some(PATH.clone());
    let Ok(config) = Config::try_from((&Common::default(), &flags)) else { return };
    let stored = config.to_toml().expect("what was accepted can be stored");
    std::fs::write(&*PATH, &stored).expect("written");
    let again = Config::of_run(&PATH).and_then(Config::resolved).expect("what was stored can be read");
    assert!(config.differences(&again).is_empty(), "{:?}", config.differences(&again));
});
