//! Checkpoints whose checksum is right, so that everything behind it is reached too.
#![no_main]

use cn_learn::Checkpoint;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::LazyLock;

static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = PathBuf::from("/dev/shm");
    let folder = if folder.is_dir() { folder } else { std::env::temp_dir() };
    folder.join(format!("cn-fuzz-checkpoint-{}", std::process::id()))
});

fuzz_target!(|bytes: &[u8]| {
    let mut file = bytes.to_vec();
    // One in eight keeps the checksum that it came with.
    if bytes.first().is_none_or(|byte| byte % 8 != 7) {
        file.extend(Sha256::digest(bytes));
    }
    std::fs::write(&*PATH, &file).expect("written");
    if let Ok(checkpoint) = Checkpoint::read(&PATH) {
        let again = PATH.with_extension("again");
        checkpoint.write(&again).expect("what was read can be written");
        let same = Checkpoint::read(&again).expect("what was written can be read");
        assert_eq!(same.position(), checkpoint.position());
    }
});
