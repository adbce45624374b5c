//! Zip archives: nothing is written outside of the folder, nothing beyond the limits.
//!
//! Bytes that do not begin as an archive describe one: its checksums and offsets are right then, and what lies behind
//! them is reached too.
#![no_main]

#[allow(dead_code)]
#[path = "../../../xtask/src/progress.rs"]
mod progress;
#[allow(dead_code)]
#[path = "../../../xtask/src/raw_zip.rs"]
mod raw_zip;
#[allow(dead_code)]
#[path = "../../../xtask/src/unpack.rs"]
mod unpack;

use libfuzzer_sys::fuzz_target;
use std::path::Path;

const LIMITS: unpack::Limits = unpack::Limits {
    entries: 100,
    directory_bytes: 16 << 10,
    folders: 50,
    entry_bytes: 1 << 16,
    total_bytes: 1 << 17,
    ratio: 100,
};
/// Types and permissions that an entry may have.
const MODES: [u32; 8] = [0o100_644, 0, 0o040_755, 0o120_777, 0o060_600, 0o010_644, 0o104_755, 0o140_644];

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

/// Entries of a byte for mode and method, one for what lies, lengths of name and data, name, data.
fn entries(mut bytes: &[u8]) -> Vec<raw_zip::Entry> {
    let mut entries = Vec::new();
    while let [kind, lies, n_name, n_data, rest @ ..] = bytes {
        let (name, rest) = rest.split_at(rest.len().min(usize::from(*n_name)));
        let (data, rest) = rest.split_at(rest.len().min(usize::from(*n_data)));
        bytes = rest;
        entries.push(raw_zip::Entry {
            name: name.into(),
            data: data.into(),
            mode: MODES[usize::from(kind & 7)],
            flags: if lies & 1 > 0 { 1 } else { 1 << 11 },
            method: [0, 8, 0, 12][usize::from(kind >> 3 & 3)],
            crc: (lies & 2 > 0).then_some(0),
            unpacked: (lies & 4 > 0).then_some(u32::from(*lies) << 12),
        });
    }
    entries
}

fn judge(bytes: &[u8]) {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.expect("a folder");
    let (archive, into) = (folder.path().join("x.zip"), folder.path().join("a/b/into"));
    std::fs::write(&archive, bytes).expect("written");
    let mut progress = progress::Progress::new("fuzz", progress::Unit::Files);
    let unpacked = unpack::unpack(&archive, &into, &LIMITS, &|_| true, &mut progress);
    let (mut inside, mut all) = (0, 0);
    let n = count(&into, &mut inside);
    let n_all = count(folder.path(), &mut all);
    assert_eq!(n + 1, n_all, "something was written outside");
    assert!(inside <= LIMITS.total_bytes + LIMITS.entry_bytes, "{inside} bytes");
    if let Ok(n_told) = unpacked {
        assert_eq!(n, n_told);
    }
}

fuzz_target!(|bytes: &[u8]| {
    if bytes.starts_with(b"PK") { judge(bytes) } else { judge(&raw_zip::archive(&entries(bytes))) }
});
