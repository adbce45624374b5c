//! One process at a time: an advisory lock on a file, which the system lets go when its holder dies.
//!
//! A holder that is killed, or whose machine lost power, leaves at most a file that nobody holds. Those who only read
//! need no lock.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! use cn_lock::{AfterUse, Attempt, Lock};
//! let path = std::env::temp_dir().join(format!("cn-lock-example-{}", std::process::id()));
//! let held = Lock::acquire(&path, AfterUse::Removed, || println!("somebody else works there: waiting"))?;
//! // Whoever comes meanwhile learns who holds it.
//! let Attempt::Busy { holder } = Lock::try_acquire(&path, AfterUse::Removed)? else { unreachable!() };
//! assert_eq!(holder, Some(std::process::id()));
//! drop(held);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What becomes of the lock's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterUse {
    /// Nobody else uses it.
    Removed,
    /// Other programs lock it too, and expect it to stay.
    Kept,
}

/// A held lock. Dropping it lets the next process in.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    after: AfterUse,
}

/// What [`Lock::try_acquire`] came to.
#[derive(Debug)]
pub enum Attempt {
    /// The lock is ours.
    Held(Lock),
    /// Another one has it.
    Busy {
        /// Its process, if it has written down which.
        holder: Option<u32>,
    },
}

impl Lock {
    /// Waits for the lock at `path`, calling `on_wait` once if another process holds it.
    ///
    /// # Errors
    ///
    /// If the file cannot be made or the file system has no locks.
    pub fn acquire(path: &Path, after: AfterUse, on_wait: impl FnOnce()) -> io::Result<Self> {
        let mut on_wait = Some(on_wait);
        loop {
            let file = open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    if let Some(tell) = on_wait.take() {
                        tell();
                    }
                    file.lock()?; // Sleeps in the kernel: no polling, and a killed holder frees it at once.
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            if let Some(lock) = Self::of(file, path, after)? {
                return Ok(lock);
            }
        }
    }

    /// Takes the lock at `path`, or says who has it; never waits.
    ///
    /// # Errors
    ///
    /// As [`Lock::acquire`].
    pub fn try_acquire(path: &Path, after: AfterUse) -> io::Result<Attempt> {
        loop {
            let file = open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(Attempt::Busy { holder: holder(path) }),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            if let Some(lock) = Self::of(file, path, after)? {
                return Ok(Attempt::Held(lock));
            }
        }
    }

    /// The lock on `file`, which is locked, unless its holder before us removed it: what we locked then has no name,
    /// and a third process may hold a new one. Only the lock on the named file counts.
    fn of(file: File, path: &Path, after: AfterUse) -> io::Result<Option<Self>> {
        if !is_file_at(&file, path)? {
            return Ok(None);
        }
        let mut lock = Self { file, path: path.to_owned(), after };
        lock.write_holder();
        Ok(Some(lock))
    }

    /// Leaves the process id in the file, for messages to whoever comes next.
    fn write_holder(&mut self) {
        let _ = self.file.set_len(0);
        let _ = writeln!(self.file, "{}", std::process::id());
    }
}

fn open(path: &Path) -> io::Result<File> {
    // To open a pipe may take for ever.
    if fs::metadata(path).is_ok_and(|about| !about.is_file() && !about.is_dir()) {
        return Err(io::Error::other(format!("the lock `{}` is a pipe or a device", path.display())));
    }
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}

/// The process that holds the lock at `path`, as far as its file says: some systems let nobody read a locked file.
fn holder(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while still held, which is only sound where `is_file_at` can tell files apart.
        if cfg!(unix) && self.after == AfterUse::Removed {
            let _ = fs::remove_file(&self.path);
        }
        let _ = self.file.unlock();
    }
}

#[cfg(unix)]
fn is_file_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let held = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((held.dev(), held.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(not(unix))]
fn is_file_at(_file: &File, _path: &Path) -> io::Result<bool> {
    Ok(true) // The file is never removed there.
}

#[cfg(test)]
mod tests;
