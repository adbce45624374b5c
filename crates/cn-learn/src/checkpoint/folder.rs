//! The checkpoints of a run: the last, the one before it, the best.

use super::file;
use crate::{Checkpoint, Error, Result};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A folder with `last.safetensors`, `previous.safetensors` and `best.safetensors`.
///
/// A write that is broken off leaves `last` or `previous` whole, so that a run loses one checkpoint at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointFolder {
    path: PathBuf,
}

/// What [`CheckpointFolder::newest`] finds.
#[derive(Debug)]
pub struct NewestCheckpoint {
    /// The newest checkpoint that can be read.
    pub checkpoint: Checkpoint,
    /// Its file.
    pub path: PathBuf,
    /// What is wrong with a newer one, about which a person should be warned.
    pub damage: Option<Error>,
}

impl CheckpointFolder {
    /// The folder at `path`, which is made by the first write.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The newest file.
    #[must_use]
    pub fn last(&self) -> PathBuf {
        self.path.join("last.safetensors")
    }

    /// The file before [`CheckpointFolder::last`].
    #[must_use]
    pub fn previous(&self) -> PathBuf {
        self.path.join("previous.safetensors")
    }

    /// The file of the best epoch.
    #[must_use]
    pub fn best(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    /// The file of the last whole epoch, where it is kept: later checkpoints may be of steps between two.
    #[must_use]
    pub fn epoch(&self) -> PathBuf {
        self.path.join("epoch.safetensors")
    }

    /// Writes the last checkpoint; the one that was it becomes the one before. Makes the folder, not those around it: a
    /// run whose folder was removed is not begun again by its next checkpoint.
    ///
    /// # Errors
    ///
    /// [`Error::CheckpointFile`]; the two files are intact then, or one of them if they could not be renamed.
    pub fn write(&self, checkpoint: &Checkpoint) -> Result<()> {
        match std::fs::create_dir(&self.path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed("write", &self.path, error)),
            _ => {}
        }
        // The two that are there stay until the new one is on the disk.
        file::write(checkpoint, &self.last(), Some(&self.previous()))
    }

    /// Moves the last checkpoint, which cannot be read, out of the way to `damaged.safetensors`, or `damaged-2.safetensors`
    /// and so on: the next one would make it the previous one, in place of the one that can be read.
    ///
    /// # Errors
    ///
    /// [`Error::CheckpointFile`].
    pub fn set_damaged_aside(&self) -> Result<()> {
        let last = self.last();
        let numbered = (2..).map(|n| self.path.join(format!("damaged-{n}.safetensors")));
        let mut free = std::iter::once(self.path.join("damaged.safetensors")).chain(numbered);
        let to = free.find(|path| path.symlink_metadata().is_err()).expect("there are more numbers than files");
        match std::fs::rename(&last, to) {
            // It is the previous one that cannot be read.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            moved => moved.map_err(|e| failed("move", &last, e)),
        }
    }

    /// Keeps the last checkpoint as the best: a second name for its file, where the file system knows such names, else
    /// a copy.
    ///
    /// # Errors
    ///
    /// [`Error::CheckpointFile`]; the best one so far is intact then.
    pub fn keep_as_best(&self) -> Result<()> {
        self.keep_as(&self.best())
    }

    /// Keeps the last checkpoint as that of the last whole epoch, in the same way.
    ///
    /// # Errors
    ///
    /// [`Error::CheckpointFile`]; the one before it is intact then.
    pub fn keep_as_epoch(&self) -> Result<()> {
        self.keep_as(&self.epoch())
    }

    fn keep_as(&self, path: &Path) -> Result<()> {
        let fresh = path.with_extension("tmp");
        let _ = std::fs::remove_file(&fresh); // Left behind by a crash.
        std::fs::hard_link(self.last(), &fresh)
            .or_else(|_| copy(&self.last(), &fresh))
            .and_then(|()| std::fs::rename(&fresh, path))
            .and_then(|()| file::sync_folder(&self.path))
            .map_err(|e| failed("keep", &self.last(), e))?;
        // Where both are names of one file already, a rename does nothing (POSIX), and leaves both.
        let _ = std::fs::remove_file(&fresh);
        Ok(())
    }

    /// The checkpoint of a whole epoch for which `is_it`: the one that is kept of the last epoch, or another where that is
    /// another one or cannot be read. One at a time is in memory.
    #[must_use]
    pub fn epoch_where(&self, is_it: impl Fn(&Checkpoint) -> bool) -> Option<NewestCheckpoint> {
        let mut damage = None;
        for path in [self.epoch(), self.last(), self.previous(), self.best()].into_iter().filter(|path| path.exists()) {
            match Checkpoint::read(&path) {
                Ok(checkpoint) if checkpoint.is_whole_epoch() && is_it(&checkpoint) => {
                    return Some(NewestCheckpoint { checkpoint, path, damage });
                }
                Ok(_) => {}
                Err(error) => damage = damage.or(Some(error)),
            }
        }
        None
    }

    /// The newest checkpoint that can be read, that of the last epoch or the best one where both others cannot; `None` if
    /// there is no file at all.
    ///
    /// # Errors
    ///
    /// If there are files and none can be read: the error of the newest. Also where it cannot be known whether there are.
    pub fn newest(&self) -> Result<Option<NewestCheckpoint>> {
        self.newest_where(|_| true)
    }

    /// The newest checkpoint that can be read and `is_own`; others count as damaged.
    ///
    /// # Errors
    ///
    /// As [`CheckpointFolder::newest`], and [`Error::CheckpointForeign`].
    pub fn newest_where(&self, is_own: impl Fn(&Checkpoint) -> bool) -> Result<Option<NewestCheckpoint>> {
        let mut damage = None;
        let files = [self.last(), self.previous(), self.epoch(), self.best()];
        for path in files {
            match path.try_exists() {
                Ok(true) => {}
                Ok(false) if path.is_symlink() => {
                    let reason = "it is a link to nowhere".to_owned();
                    damage = damage.or(Some(Error::CheckpointDamaged { path, reason }));
                    continue;
                }
                Ok(false) => continue,
                // What lies there is not known, and a run that began anew would take its place.
                Err(error) => return Err(failed("read", &path, error)),
            }
            match Checkpoint::read(&path) {
                Ok(checkpoint) if is_own(&checkpoint) => {
                    return Ok(Some(NewestCheckpoint { checkpoint, path, damage }));
                }
                Ok(_) => damage = damage.or(Some(Error::CheckpointForeign { path })),
                // Whoever writes to the run has just made it the previous one.
                Err(Error::CheckpointFile { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                // Nothing is wrong with it, and to go back behind it would lose what it holds.
                Err(error @ Error::CheckpointFormat { .. }) => return Err(error),
                Err(error) => damage = damage.or(Some(error)),
            }
        }
        damage.map_or(Ok(None), Err)
    }
}

/// A copy that is on the disk.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::copy(from, to)?;
    File::options().write(true).open(to)?.sync_all()
}

fn failed(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::CheckpointFile { action, path: path.to_owned(), bytes: None, source }
}
