//! The unfinished file and, beside it, what the server said about it.

use super::{Error, Unproven};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// `<to>.part`, append-only, and `<to>.part.json` with the hash of the address, validator and length.
pub(super) struct Part {
    file: File,
    path: PathBuf,
    about_path: PathBuf,
    about: About,
    len: u64,
    /// Whether a validator has to speak for the bytes that are there.
    is_unproven: bool,
    restarted: bool,
}

/// Which file the part is a part of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct About {
    /// SHA-256 of the address, which may hold secrets.
    address: String,
    validator: Option<String>,
    total: Option<u64>,
}

impl Part {
    /// Opens what an earlier run left for `url`, or begins anew.
    pub(super) fn open(to: &Path, url: &str, unproven: Unproven) -> Result<Self, Error> {
        let path = with_suffix(to, ".part");
        let about_path = with_suffix(to, ".part.json");
        let mut file =
            OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(disk("open", &path, 0))?;
        let address = sha256(url.as_bytes());
        let known = About::read(&about_path).filter(|about| about.address == address);
        if known.is_none() {
            file.set_len(0).map_err(disk("empty", &path, 0))?;
        }
        let len = file.seek(SeekFrom::End(0)).map_err(disk("read", &path, 0))?;
        let about = known.unwrap_or_else(|| About { address, ..About::default() });
        Ok(Self { file, path, about_path, about, len, is_unproven: unproven == Unproven::Anew, restarted: false })
    }

    /// Bytes that are there.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// What to send as `If-Range`.
    pub(super) fn validator(&self) -> Option<&str> {
        self.about.validator.as_deref()
    }

    /// Whether bytes that were there at the beginning have been thrown away.
    pub(super) fn restarted(&self) -> bool {
        self.restarted
    }

    /// Whether a file of `total` bytes can be the one that this is a part of.
    pub(super) fn may_be(&self, total: Option<u64>) -> bool {
        let known_and_same = match (self.about.total, total) {
            (Some(known), Some(total)) => known == total,
            _ => true,
        };
        known_and_same && total.is_none_or(|total| total >= self.len)
    }

    /// Whether the server's validator, if there is one, is the one that we began with.
    pub(super) fn agrees(&self, validator: Option<&str>) -> bool {
        match (self.about.validator.as_deref(), validator) {
            (Some(known), Some(now)) => known == now,
            _ => self.len == 0 || !self.is_unproven,
        }
    }

    /// Notes what the server says about the file, before its first byte is written.
    pub(super) fn describe(&mut self, validator: Option<String>, total: Option<u64>) -> Result<(), Error> {
        self.about.validator = validator;
        self.about.total = total;
        let text = self.about.to_json().to_string();
        fs::write(&self.about_path, text).map_err(disk("write", &self.about_path, 0))
    }

    /// Appends one chunk.
    pub(super) fn append(&mut self, chunk: &[u8]) -> Result<(), Error> {
        if let Err(source) = self.file.write_all(chunk) {
            let error = disk("write", &self.path, self.len)(source);
            // A disk that is full may have taken half the chunk: `len` is what counts.
            let _ = self.file.set_len(self.len);
            let _ = self.file.seek(SeekFrom::Start(self.len));
            return Err(error);
        }
        self.len += chunk.len() as u64;
        Ok(())
    }

    /// Throws away what is there.
    pub(super) fn restart(&mut self) -> Result<(), Error> {
        self.restarted |= self.len > 0;
        self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0))).map_err(disk("empty", &self.path, 0))?;
        self.len = 0;
        self.about.validator = None;
        self.about.total = None;
        Ok(())
    }

    /// Leaves what has arrived for the next run; if that is nothing, leaves nothing. Returns `error`.
    pub(super) fn abandon(self, error: Error) -> Error {
        if self.len == 0 {
            drop(self.file);
            let _ = fs::remove_file(&self.path);
            let _ = fs::remove_file(&self.about_path);
        }
        error
    }

    /// Makes the whole file durable and gives it its name. Returns its length.
    pub(super) fn finish(self, to: &Path) -> Result<u64, Error> {
        let at = self.len;
        self.file.sync_all().map_err(disk("finish", &self.path, at))?;
        drop(self.file); // Windows renames no open file.
        fs::rename(&self.path, to).map_err(disk("rename", &self.path, at))?;
        let _ = fs::remove_file(&self.about_path);
        #[cfg(unix)]
        if let Some(folder) = to.parent().and_then(|folder| File::open(folder).ok()) {
            let _ = folder.sync_all(); // Makes the rename durable; not every file system can.
        }
        Ok(at)
    }
}

impl About {
    fn read(path: &Path) -> Option<Self> {
        let value: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        Some(Self {
            address: value["address"].as_str()?.to_owned(),
            validator: value["validator"].as_str().map(str::to_owned),
            total: value["total"].as_u64(),
        })
    }

    fn to_json(&self) -> Value {
        json!({ "address": self.address, "validator": self.validator, "total": self.total })
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn disk(what: &'static str, path: &Path, at: u64) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Disk { what, path, at, source }
}
