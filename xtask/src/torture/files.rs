//! Folders of files: listed, hashed, copied.

use anyhow::{Context, Result};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Read as _;
use std::path::Path;

/// Files and links below `root`, with forward slashes, sorted.
pub(super) fn below(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if entry.file_type()?.is_dir() { folders.push(name) } else { names.push(name) }
        }
    }
    names.sort();
    Ok(names)
}

/// A hash over names and bytes of all files below `root`.
pub(super) fn hash(root: &Path) -> Result<Vec<u8>> {
    let mut hash = Sha256::new();
    for name in below(root)? {
        let path = root.join(&name);
        let bytes = if path.is_symlink() {
            fs::read_link(&path)?.to_string_lossy().into_owned().into_bytes()
        } else {
            fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?
        };
        hash.update(name.as_bytes());
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    Ok(hash.finalize().to_vec())
}

/// Copies the tree; checkpoints, which are replaced and never edited, as second names of their files.
pub(super) fn copy_run(from: &Path, to: &Path) -> Result<()> {
    for name in below(from)? {
        let (old, new) = (from.join(&name), to.join(&name));
        if let Some(parent) = new.parent() {
            fs::create_dir_all(parent)?;
        }
        if name.ends_with(".safetensors") {
            fs::hard_link(&old, &new)?;
        } else {
            fs::copy(&old, &new)?;
        }
    }
    Ok(())
}

/// The steps that a checkpoint's record counts.
pub(super) fn step_of_checkpoint(path: &Path) -> Result<u64> {
    let mut file = fs::File::open(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let mut header = Vec::new();
    file.take(u64::from_le_bytes(length)).read_to_end(&mut header)?;
    let header: Value = serde_json::from_slice(&header)?;
    let record = header["__metadata__"]["cn-learn"].as_str().context("the checkpoint has no record")?;
    let record: Value = serde_json::from_str(record)?;
    record["position"]["steps_done"].as_u64().context("its record counts no steps")
}

/// Whether the last 32 bytes of a checkpoint are the SHA-256 of those before.
pub(super) fn is_whole_checkpoint(path: &Path) -> Result<bool> {
    let bytes = fs::read(path)?;
    let Some((content, digest)) = bytes.split_last_chunk::<32>() else { return Ok(false) };
    Ok(Sha256::digest(content).as_slice() == digest)
}
