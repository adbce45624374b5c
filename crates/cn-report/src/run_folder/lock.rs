//! One writer a run.

use super::RunFolder;
use super::atomic::is_part_of;
use crate::error::{Error, Result};
use cn_lock::{AfterUse, Attempt, Lock};
use std::io::ErrorKind;

/// The right to write to a run, until it is dropped or its process dies. Readers need none.
#[derive(Debug)]
pub struct RunLock {
    lock: Option<Lock>,
}

impl RunLock {
    /// Whether others are kept out: not on file systems that have no locks.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.lock.is_some()
    }
}

impl RunFolder {
    /// Keeps other writers out, by the file `.lock` in the folder, which is made where it is not there; removes what a
    /// writer that died had not given its name yet.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if another process writes to the run, [`Error::Link`] as [`RunFolder::refuse_links`],
    /// [`Error::Write`] if the folder or the file cannot be made.
    pub fn lock(&self) -> Result<RunLock> {
        let failed = |source| Error::Write { path: self.root.clone(), bytes: None, source };
        std::fs::create_dir_all(&self.root).map_err(failed)?;
        self.refuse_links()?;
        match Lock::try_acquire(&self.root.join(".lock"), AfterUse::Removed) {
            Ok(Attempt::Held(lock)) => {
                self.remove_parts();
                Ok(RunLock { lock: Some(lock) })
            }
            Ok(Attempt::Busy { holder }) => Err(Error::Busy { path: self.root.clone(), holder }),
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(RunLock { lock: None }),
            Err(error) => Err(failed(error)),
        }
    }

    /// Refuses a run in whose folder something is a link: what is written there would be written elsewhere. For whoever is
    /// about to write to a run that may come from strangers.
    ///
    /// # Errors
    ///
    /// [`Error::Link`] with the first one.
    pub fn refuse_links(&self) -> Result<()> {
        for entry in std::fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                return Err(Error::Link { path: entry.path() });
            }
        }
        Ok(())
    }

    /// Removes unfinished files that only the holder of the lock writes. What cannot be removed does no harm.
    fn remove_parts(&self) {
        let own = self.files();
        let own: Vec<&str> = own.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        let is_part = |name: &str| own.iter().any(|file| is_part_of(name, file));
        for entry in std::fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(is_part) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}
