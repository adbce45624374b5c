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

/// What becomes of the checkpoint of an epoch once others follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Epochs {
    /// It is kept until the next epoch's.
    Kept,
    Passed,
}

/// How one checkpoint gets to the disk.
type Write = fn(&CheckpointFolder, &Checkpoint, Rank) -> Result<()>;

/// Writes to a folder on a thread of its own, one checkpoint at a time.
///
/// When it is dropped, what is under way or waits is written to its end.
#[derive(Debug)]
pub(super) struct Writer {
    folder: CheckpointFolder,
    write: Write,
    pub(super) epochs: Epochs,
    under_way: Option<JoinHandle<Result<()>>>,
    /// What is written next.
    waiting: Option<(Checkpoint, Rank)>,
}

impl Writer {
    pub(super) fn new(folder: CheckpointFolder) -> Self {
        Self { folder, write, epochs: Epochs::Passed, under_way: None, waiting: None }
    }

    /// One that writes by another function.
    #[cfg(test)]
    pub(super) fn through(folder: CheckpointFolder, write: Write) -> Self {
        Self { folder, write, epochs: Epochs::Passed, under_way: None, waiting: None }
    }

    pub(super) fn folder(&self) -> &CheckpointFolder {
        &self.folder
    }

    /// Begins to write; waits for the checkpoint before it.
    ///
    /// # Errors
    ///
    /// Those of the checkpoint before it, as all errors here come with the call that waits.
    pub(super) fn begin(&mut self, checkpoint: Checkpoint, rank: Rank) -> Result<()> {
        self.wait()?;
        self.start(checkpoint, rank)
    }

    /// Begins to write, or keeps the checkpoint until that is possible. One that waits already is given up for it, but not
    /// the best one for another: that is waited for.
    ///
    /// # Errors
    ///
    /// Those of a checkpoint before it.
    pub(super) fn queue(&mut self, checkpoint: Checkpoint, rank: Rank) -> Result<()> {
        self.poll()?;
        if self.under_way.is_none() {
            return self.start(checkpoint, rank);
        }
        if rank == Rank::Other && self.waiting.as_ref().is_some_and(|(_, rank)| *rank == Rank::Best) {
            self.join()?;
            self.start_waiting()?;
        }
        self.waiting = Some((checkpoint, rank));
        Ok(())
    }

    fn start(&mut self, checkpoint: Checkpoint, rank: Rank) -> Result<()> {
        let (folder, write, copy) = (self.folder.clone(), self.write, checkpoint.clone());
        let keeps = self.epochs == Epochs::Kept && checkpoint.is_whole_epoch();
        let all = move |checkpoint: &Checkpoint| {
            write(&folder, checkpoint, rank)?;
            if keeps { folder.keep_as_epoch() } else { Ok(()) }
        };
        let there = all.clone();
        let thread = Builder::new().name("checkpoint".into()).spawn(move || there(&copy));
        match thread {
            Ok(thread) => self.under_way = Some(thread),
            // Where there are no more threads, training waits.
            Err(_) => all(&checkpoint)?,
        }
        Ok(())
    }

    fn start_waiting(&mut self) -> Result<()> {
        self.waiting.take().map_or(Ok(()), |(checkpoint, rank)| self.start(checkpoint, rank))
    }

    /// Waits for what is under way and for what waits, if anything does.
    ///
    /// # Errors
    ///
    /// [`Error::CheckpointFile`] if one could not be written.
    pub(super) fn wait(&mut self) -> Result<()> {
        self.join()?;
        self.start_waiting()?;
        self.join()
    }

    fn join(&mut self) -> Result<()> {
        let Some(thread) = self.under_way.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| {
            let source = io::Error::other("the thread that writes it panicked");
            Err(Error::CheckpointFile { action: "write", path: self.folder.last(), bytes: None, source })
        })
    }

    /// The result of what is done already, without waiting; begins with what waited for that.
    ///
    /// # Errors
    ///
    /// As [`Writer::wait`].
    pub(super) fn poll(&mut self) -> Result<()> {
        if !self.under_way.as_ref().is_some_and(JoinHandle::is_finished) {
            return Ok(());
        }
        self.join()?;
        self.start_waiting()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A fit that ends well has waited; one that failed has an error to report already.
        if let Err(error) = self.wait() {
            tracing::error!(error = &error as &dyn std::error::Error, "the last checkpoint is lost");
        }
    }
}

pub(super) fn write(folder: &CheckpointFolder, checkpoint: &Checkpoint, rank: Rank) -> Result<()> {
    folder.write(checkpoint)?;
    match rank {
        Rank::Best => folder.keep_as_best(),
        Rank::Other => Ok(()),
    }
}
