//! Settings files: whatever is accepted survives being stored and read again.
#![no_main]
#![allow(dead_code, unused_imports)]

// As a folder of modules, since those of `config` have a folder of their own.
#[path = "../../../crates/cn-train/src"]
mod train {
    pub(crate) mod args;
    pub(crate) mod config;
    pub(crate) mod problem;
}

/// What the settings ask the rest of the program.
mod start {
    pub(crate) fn is_name(weights: &str) -> bool {
        ["auto", "none", "imagenet", "glyphs"].contains(&weights)
    }
}

use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;
use train::args::{Common, ConfigArgs};
use train::config::Config;
use train::{args, config, problem};

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
    // What training asks of them first.
    let _ = config.epochs();
    for phase in &config.phase {
        let schedule = phase.schedule(3, 140);
        let (first, last) = (schedule.at(0), schedule.at(schedule.n_steps() - 1));
        assert!(first.lr.iter().chain(&last.lr).all(|lr| !lr.is_nan()), "{phase:?}");
    }
});
