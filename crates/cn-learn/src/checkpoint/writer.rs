//! Checkpoints on their way to the disk while training goes on.

use super::CheckpointFolder;
use crate::{Checkpoint, Error, Result};
use std::io;
use std::thread::{Builder, JoinHandle};

/// Whether a checkpoint is the best so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    Best,
    Other,
}

/// Writes to a folder on a thread of its own, one checkpoint at a time.
///
/// When it is dropped, what is under way is written to its end.
#[derive(Debug)]
pub(super) struct Writer {
    folder: CheckpointFolder,
    under_way: Option<JoinHandle<Result<()>>>,
}

impl Writer {
    pub(super) fn new(folder: CheckpointFolder) -> Self {
        Self { folder, under_way: None }
    }

    /// Begins to write; waits for the checkpoint before it.
    ///
    /// # Errors
    ///
    /// Those of the checkpoint before it, as all errors here come with the call that waits.
    pub(super) fn begin(&mut self, checkpoint: &Checkpoint, rank: Rank) -> Result<()> {
        self.wait()?;
        let (folder, checkpoint_) = (self.folder.clone(), checkpoint.clone());
        let thread = Builder::new().name("checkpoint".into()).spawn(move || write(&folder, &checkpoint_, rank));
        match thread {
            Ok(thread) => self.under_way = Some(thread),
            // Where there are no more threads, training waits.
            Err(_) => write(&self.folder, checkpoint, rank)?,
        }
        Ok(())
    }

    /// Waits for what is under way, if anything is.
    ///
    /// # Errors
    ///
    /// [`Error::CheckpointFile`] if it could not be written.
    pub(super) fn wait(&mut self) -> Result<()> {
        let Some(thread) = self.under_way.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| {
            let source = io::Error::other("the thread that writes it panicked");
            Err(Error::CheckpointFile { action: "write", path: self.folder.last(), bytes: None, source })
        })
    }

    /// The result of what is done already, without waiting.
    ///
    /// # Errors
    ///
    /// As [`Writer::wait`].
    pub(super) fn poll(&mut self) -> Result<()> {
        if self.under_way.as_ref().is_some_and(JoinHandle::is_finished) { self.wait() } else { Ok(()) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A fit that ends well has waited; one that failed has an error to report already.
        if let Err(error) = self.wait() {
            tracing::error!(%error, "the last checkpoint is lost");
        }
    }
}

fn write(folder: &CheckpointFolder, checkpoint: &Checkpoint, rank: Rank) -> Result<()> {
    folder.write(checkpoint)?;
    match rank {
        Rank::Best => folder.keep_as_best(),
        Rank::Other => Ok(()),
    }
}
