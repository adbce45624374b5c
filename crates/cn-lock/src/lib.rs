//! One process at a time: an advisory file lock that the system lets go when its holder dies.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What becomes of the lock's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterUse {
    /// Nobody else uses it.
    Removed,
    /// Other programs lock it too, and expect it to stay.
    Kept,
}

/// A held lock. Dropping it lets the next process in.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
    after: AfterUse,
}

impl Lock {
    /// Waits for the lock at `path`, calling `on_wait` once if another process holds it.
    ///
    /// # Errors
    ///
    /// If the file cannot be made or the file system has no locks.
    pub(crate) fn acquire(path: &Path, after: AfterUse, on_wait: impl FnOnce()) -> io::Result<Self> {
        let mut on_wait = Some(on_wait);
        loop {
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
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
            // The holder before us removed its file: what we locked then has no name, and
            // a third process may hold a new one. Only the lock on the named file counts.
            if is_file_at(&file, path)? {
                let mut lock = Self { file, path: path.to_owned(), after };
                lock.write_owner();
                return Ok(lock);
            }
        }
    }

    /// Leaves the process id in the file, for a person who wonders. Nothing reads it.
    fn write_owner(&mut self) {
        let _ = self.file.set_len(0);
        let _ = writeln!(self.file, "{}", std::process::id());
    }
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
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    #[test]
    fn eight_threads_never_meet_inside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let (inside, visits) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let _lock = Lock::acquire(&path, AfterUse::Removed, || {}).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        visits.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(visits.into_inner(), 200);
        assert!(!path.exists() || cfg!(not(unix)), "the lock file stayed");
    }

    /// Not a test of its own: the process that `a_killed_holder_lets_the_next_one_in` starts and kills.
    #[test]
    fn holder_for_the_next_test() {
        if let Ok(path) = std::env::var("XTASK_TEST_HOLD_LOCK") {
            let _lock = Lock::acquire(Path::new(&path), AfterUse::Removed, || {}).unwrap();
            println!("held");
            std::thread::sleep(Duration::from_secs(60));
        }
    }

    #[test]
    fn a_killed_holder_lets_the_next_one_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let mut holder = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "lock::tests::holder_for_the_next_test", "--nocapture"])
            .env("XTASK_TEST_HOLD_LOCK", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.contains("held")));

        let mut waited = false;
        let begin = std::thread::scope(|scope| {
            let next = scope.spawn(|| {
                let lock = Lock::acquire(&path, AfterUse::Removed, || waited = true).unwrap();
                drop(lock);
                Instant::now()
            });
            std::thread::sleep(Duration::from_millis(100));
            assert!(!next.is_finished(), "two processes held the lock");
            holder.kill().unwrap(); // SIGKILL: no destructor runs.
            let killed = Instant::now();
            next.join().unwrap().duration_since(killed)
        });
        holder.wait().unwrap();
        assert!(waited);
        assert!(begin < Duration::from_secs(1), "{begin:?} after the kill");
    }
}
