//! The checkpoints of a run: the last, the one before it, the best.

use super::file;
use crate::{Checkpoint, EpochEnd, Error, Flow, Handler, Moment, Monitor, Position, Result, Step, Validated};
use serde_json::Value;
use std::fmt;
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

    /// Writes the last checkpoint; the one that was it becomes the one before.
    ///
    /// # Errors
    ///
    /// [`Error::CheckpointFile`]; the two files are intact then, or one of them if they could not be renamed.
    pub fn write(&self, checkpoint: &Checkpoint) -> Result<()> {
        std::fs::create_dir_all(&self.path).map_err(|e| failed("write", &self.path, e))?;
        // The two that are there stay until the new one is on the disk.
        file::write(checkpoint, &self.last(), Some(&self.previous()))
    }

    /// Moves the last checkpoint, which cannot be read, out of the way to `damaged.safetensors`: the next one would
    /// make it the previous one, in place of the one that can be read.
    ///
    /// # Errors
    ///
    /// [`Error::CheckpointFile`].
    pub fn set_damaged_aside(&self) -> Result<()> {
        let last = self.last();
        std::fs::rename(&last, self.path.join("damaged.safetensors")).map_err(|e| failed("move", &last, e))
    }

    /// Keeps the last checkpoint as the best: a second name for its file, where the file system knows such names, else
    /// a copy.
    ///
    /// # Errors
    ///
    /// [`Error::CheckpointFile`]; the best one so far is intact then.
    pub fn keep_as_best(&self) -> Result<()> {
        let fresh = self.path.join("best.tmp");
        let _ = std::fs::remove_file(&fresh); // Left behind by a crash.
        std::fs::hard_link(self.last(), &fresh)
            .or_else(|_| std::fs::copy(self.last(), &fresh).map(drop))
            .and_then(|()| std::fs::rename(&fresh, self.best()))
            .map_err(|e| failed("keep", &self.last(), e))
    }

    /// The newest checkpoint that can be read; `None` if there is no file at all.
    ///
    /// # Errors
    ///
    /// If there are files and none can be read: the error of the newest.
    pub fn newest(&self) -> Result<Option<NewestCheckpoint>> {
        let mut damage = None;
        for path in [self.last(), self.previous()].into_iter().filter(|path| path.exists()) {
            match Checkpoint::read(&path) {
                Ok(checkpoint) => return Ok(Some(NewestCheckpoint { checkpoint, damage })),
                // Whoever writes to the run has just made it the previous one.
                Err(Error::CheckpointFile { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                Err(error) => damage = damage.or(Some(error)),
            }
        }
        damage.map_or(Ok(None), Err)
    }
}

fn failed(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::CheckpointFile { action, path: path.to_owned(), bytes: None, source }
}

type Asked = Box<dyn Fn() -> bool + Send>;

/// Writes to a [`CheckpointFolder`] after each epoch, every so many steps, and when the program is asked to end.
pub struct SaveCheckpoints {
    folder: CheckpointFolder,
    every: Option<u64>,
    stop: Option<Asked>,
    before_nan: BeforeNan,
    extra: Value,
    monitor: Monitor,
    improved: Improved,
}

/// What happens before a step whose numbers are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BeforeNan {
    Writes,
    Nothing,
}

/// Whether the epoch that a checkpoint follows was the best so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Improved {
    Yes,
    No,
}

impl SaveCheckpoints {
    /// Writes after each epoch; the best one has the lowest `val_loss`.
    #[must_use]
    pub fn to(folder: CheckpointFolder) -> Self {
        let monitor = Monitor::new("val_loss");
        let before_nan = BeforeNan::Writes;
        Self { folder, every: None, stop: None, before_nan, extra: Value::Null, monitor, improved: Improved::No }
    }

    /// Writes every `steps` steps too.
    #[must_use]
    pub fn every(self, steps: u64) -> Self {
        Self { every: Some(steps.max(1)), ..self }
    }

    /// Asks `stop` after each step, batch of validation and epoch; once it says yes, writes and ends the fit with
    /// [`Flow::Stop`].
    #[must_use]
    pub fn stop_when(self, stop: impl Fn() -> bool + Send + 'static) -> Self {
        Self { stop: Some(Box::new(stop)), ..self }
    }

    /// Writes nothing right before a step that is not finite, so that the last checkpoint is from some way before it.
    #[must_use]
    pub fn not_before_nan(self) -> Self {
        Self { before_nan: BeforeNan::Nothing, ..self }
    }

    /// Gives each checkpoint this to carry, see [`Checkpoint::with_extra`].
    #[must_use]
    pub fn with_extra(self, extra: Value) -> Self {
        Self { extra, ..self }
    }

    /// Calls that epoch the best whose number is the best by `monitor`.
    #[must_use]
    pub fn best_by(self, monitor: Monitor) -> Self {
        Self { monitor, ..self }
    }

    fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop())
    }

    fn flow(&self) -> Flow {
        if self.is_stopped() { Flow::Stop } else { Flow::Continue }
    }
}

impl Handler for SaveCheckpoints {
    fn name(&self) -> &'static str {
        "checkpointer"
    }

    fn on_step(&mut self, _: &mut Step<'_>) -> Result<Flow> {
        Ok(self.flow())
    }

    fn on_validate(&mut self, _: &Validated) -> Result<Flow> {
        Ok(self.flow())
    }

    fn on_epoch_end(&mut self, end: &mut EpochEnd<'_>) -> Result<Flow> {
        self.improved = if self.monitor.improves(end.record)? { Improved::Yes } else { Improved::No };
        Ok(self.flow())
    }

    fn wants_checkpoint(&mut self, moment: Moment, position: &Position) -> bool {
        let due = self.every.is_some_and(|every| position.steps_done.is_multiple_of(every));
        match moment {
            Moment::Step => due || self.is_stopped(),
            Moment::Epoch => true,
            Moment::NotFinite => self.before_nan == BeforeNan::Writes,
        }
    }

    fn on_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.folder.write(&checkpoint.clone().with_extra(self.extra.clone()))?;
        match std::mem::replace(&mut self.improved, Improved::No) {
            Improved::Yes => self.folder.keep_as_best(),
            Improved::No => Ok(()),
        }
    }

    /// The best number so far.
    fn state(&self) -> Option<Value> {
        self.monitor.best().map(Value::from)
    }

    fn restore(&mut self, state: &Value) -> Result<()> {
        self.monitor.restore(state.as_f64());
        Ok(())
    }
}

impl fmt::Debug for SaveCheckpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaveCheckpoints")
            .field("folder", &self.folder)
            .field("every", &self.every)
            .field("monitor", &self.monitor)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bits, learner, two_phases};
    use crate::{Learner, Outcome};
    use cn_ops::Network;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn folder() -> (tempfile::TempDir, CheckpointFolder) {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = CheckpointFolder::new(dir.path().join("checkpoints"));
        (dir, folder)
    }

    /// The checkpoint in a file.
    fn steps(path: &Path) -> u64 {
        Checkpoint::read(path).expect("whole").position().steps_done
    }

    /// Trains to the end and keeps checkpoints.
    fn trained(save: SaveCheckpoints) -> Result<Learner<Network>> {
        let (mut learner, mut save) = (learner()?, save);
        assert_eq!(learner.fit(&two_phases(), &mut [&mut save])?, Outcome::Finished);
        Ok(learner)
    }

    #[test]
    fn an_empty_folder_has_none() -> Result<()> {
        assert!(folder().1.newest()?.is_none());
        Ok(())
    }

    #[test]
    fn the_last_two_are_kept_and_the_best() -> Result<()> {
        let (_dir, folder) = folder();
        let learner = trained(SaveCheckpoints::to(folder.clone()).with_extra("mine".into()))?;
        let newest = folder.newest()?.expect("written");
        assert!(newest.damage.is_none() && newest.checkpoint.is_finished());
        assert_eq!(newest.checkpoint.extra(), "mine");
        assert_eq!((steps(&folder.previous()), steps(&folder.last())), (6, 12));
        let losses: Vec<f64> = learner.history().iter().map(|record| record.val_loss).collect();
        assert_eq!(steps(&folder.best()), if losses[1] < losses[0] { 12 } else { 6 });
        Ok(())
    }

    #[test]
    fn steps_between_epochs_are_written_on_demand() -> Result<()> {
        let (_dir, folder) = folder();
        trained(SaveCheckpoints::to(folder.clone()).every(5))?;
        assert_eq!((steps(&folder.previous()), steps(&folder.last())), (10, 12));
        Ok(())
    }

    #[test]
    fn a_damaged_last_one_gives_the_one_before_and_says_so() -> Result<()> {
        let (_dir, folder) = folder();
        trained(SaveCheckpoints::to(folder.clone()))?;
        let mut bytes = std::fs::read(folder.last()).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(folder.last(), bytes).expect("written");
        let newest = folder.newest()?.expect("one is whole");
        assert_eq!(newest.checkpoint.position().steps_done, 6);
        assert!(matches!(newest.damage, Some(Error::CheckpointDamaged { .. })));

        std::fs::write(folder.previous(), "nothing").expect("written");
        let error = folder.newest().expect_err("both are damaged");
        assert!(error.to_string().contains("last.safetensors"), "{error}");
        Ok(())
    }

    #[test]
    fn a_damaged_one_never_takes_the_place_of_a_good_one() -> Result<()> {
        let (_dir, folder) = folder();
        trained(SaveCheckpoints::to(folder.clone()))?;
        std::fs::write(folder.last(), "nothing").expect("written");
        let good = folder.newest()?.expect("one is whole").checkpoint;
        folder.set_damaged_aside()?;
        assert!(folder.newest()?.expect("still there").damage.is_none());
        folder.write(&good)?;
        assert_eq!((steps(&folder.previous()), steps(&folder.last())), (6, 6));
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn a_write_that_fails_leaves_both() -> Result<()> {
        let (_dir, folder) = folder();
        trained(SaveCheckpoints::to(folder.clone()))?;
        let last = Checkpoint::read(&folder.last())?;
        // A folder has the name that is written to first.
        let temporary = folder.last().with_file_name(".last.safetensors.tmp");
        std::fs::create_dir(&temporary).expect("made");
        let error = folder.write(&last).expect_err("it cannot be written");
        assert!(error.to_string().contains("last.safetensors` of "), "{error}");
        assert_eq!((steps(&folder.previous()), steps(&folder.last())), (6, 12));
        Ok(())
    }

    #[test]
    fn a_stop_is_written_and_goes_on_with_the_same_bits() -> Result<()> {
        let (_dir, folder) = folder();
        let asked = Arc::new(AtomicU64::new(0));
        let stop = move || asked.fetch_add(1, Ordering::Relaxed) >= 3;
        let mut first = learner()?;
        let mut save = SaveCheckpoints::to(folder.clone()).stop_when(stop);
        assert_eq!(first.fit(&two_phases(), &mut [&mut save])?, Outcome::Stopped);

        let stopped = folder.newest()?.expect("written").checkpoint;
        assert!(stopped.position().steps_done > 0 && !stopped.is_finished());
        let mut second = learner()?;
        second.restore(&stopped)?;
        let mut save = SaveCheckpoints::to(folder.clone());
        assert_eq!(second.resume(&mut [&mut save])?, Outcome::Finished);
        let mut whole = learner()?;
        whole.fit(&two_phases(), &mut [])?;
        assert_eq!(bits(&mut second)?, bits(&mut whole)?);
        assert_eq!(save.monitor.best(), second.history().iter().map(|r| r.val_loss).reduce(f64::min));
        Ok(())
    }

    #[test]
    fn what_is_written_after_the_best_epoch_does_not_take_its_place() -> Result<()> {
        let (_dir, folder) = folder();
        // Nothing after the first epoch is better by so much.
        let monitor = Monitor::new("val_loss").min_delta(100.0);
        trained(SaveCheckpoints::to(folder.clone()).every(5).best_by(monitor))?;
        assert_eq!((steps(&folder.best()), steps(&folder.last())), (6, 12));
        Ok(())
    }

    #[test]
    fn before_a_step_that_is_not_finite_it_writes_unless_told_not_to() {
        let (_dir, folder) = folder();
        let wants = |mut save: SaveCheckpoints| {
            [Moment::Step, Moment::Epoch, Moment::NotFinite].map(|m| save.wants_checkpoint(m, &Position::default()))
        };
        assert_eq!(wants(SaveCheckpoints::to(folder.clone())), [false, true, true]);
        assert_eq!(wants(SaveCheckpoints::to(folder).not_before_nan()), [false, true, false]);
    }
}
