//! Zip archives: nothing is written outside of the folder, nothing beyond the limits.
#![no_main]

#[allow(dead_code)]
#[path = "../../../xtask/src/progress.rs"]
mod progress;
#[allow(dead_code)]
#[path = "../../../xtask/src/unpack.rs"]
mod unpack;

use libfuzzer_sys::fuzz_target;
use std::path::Path;

/// Files below `root`, and their bytes in all.
fn count(root: &Path, bytes: &mut u64) -> usize {
    let Ok(entries) = std::fs::read_dir(root) else { return 0 };
    let mut n = 0;
    for entry in entries {
        let entry = entry.expect("readable");
        let about = entry.path().symlink_metadata().expect("readable");
        assert!(!about.is_symlink(), "a link was made");
        if about.is_dir() {
            n += count(&entry.path(), bytes);
        } else {
            *bytes += about.len();
            n += 1;
        }
    }
    n
}

fuzz_target!(|bytes: &[u8]| {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.expect("a folder");
    let (archive, into) = (folder.path().join("x.zip"), folder.path().join("a/b/into"));
    std::fs::write(&archive, bytes).expect("written");
    let limits = unpack::Limits { entries: 100, entry_bytes: 1 << 16, total_bytes: 1 << 17, ratio: 100 };
    let mut progress = progress::Progress::new("fuzz", progress::Unit::Files);
    let unpacked = unpack::unpack(&archive, &into, &limits, &|_| true, &mut progress);
    let (mut inside, mut all) = (0, 0);
    let n = count(&into, &mut inside);
    let n_all = count(folder.path(), &mut all);
    assert_eq!(n + 1, n_all, "something was written outside");
    assert!(inside <= (1 << 17) + (1 << 16), "{inside} bytes");
    if let Ok(n_told) = unpacked {
        assert_eq!(n, n_told);
    }
});
