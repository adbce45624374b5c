//! Data sets as strangers describe them: `dataset.toml`, a zero byte, and the table.
#![no_main]

use cn_data::{Index, Spec, Split, SplitConfig, SplitMethod, Targets, Vocabulary};
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let folder = parent.join(format!("cn-fuzz-index-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    let (description, table) = match bytes.iter().position(|&byte| byte == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (&b""[..], bytes),
    };
    let toml = FOLDER.join("dataset.toml");
    if description.is_empty() {
        let _ = std::fs::remove_file(&toml);
    } else {
        std::fs::write(&toml, description).expect("written");
    }
    std::fs::write(FOLDER.join("chinese_mnist.csv"), table).expect("written");
    let Ok(index) = Index::open_with(&FOLDER, &Spec::default()) else { return };
    for record in index.records() {
        // None at all where a field of several labels is empty.
        assert!(record.labels.iter().all(|label| !label.is_empty()));
        let path = std::path::Path::new(&record.path);
        assert!(path.is_relative() && !path.components().any(|part| part == std::path::Component::ParentDir));
    }
    for method in [SplitMethod::Random, SplitMethod::Group, SplitMethod::Stratified] {
        let config = SplitConfig { method, val_fraction: 0.2, seed: 1 };
        let Ok(split) = Split::new(&index, &config) else { continue };
        assert_eq!(split.train().len() + split.val().len(), index.records().len());
        let vocabulary = Vocabulary::of(&index, split.train());
        let _ = Targets::new(&vocabulary, index.records());
    }
});
