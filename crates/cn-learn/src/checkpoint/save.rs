//! When a run writes checkpoints.

use super::CheckpointFolder;
use super::writer::{Epochs, Rank, Writer};
use crate::{Checkpoint, EpochEnd, FitStart, Flow, Handler, Moment, Monitor, Position, Result, Step, Validated};
use serde_json::Value;
use std::fmt;
use std::time::{Duration, Instant};

type Asked = Box<dyn Fn() -> bool + Send>;

/// Writes to a [`CheckpointFolder`] after each epoch, every so many steps or minutes, and when the program is asked to
/// end.
///
/// Training waits for the copy of the state alone: a thread hashes and writes it while the next steps are done. The fit
/// ends with the error of a write that failed: at the next step that finds it, at the next checkpoint, or at its end.
pub struct SaveCheckpoints {
    writer: Writer,
    every: Option<u64>,
    interval: Option<Duration>,
    /// When the last one was begun, or the fit.
    last: Instant,
    stop: Option<Asked>,
    before_nan: BeforeNan,
    extra: Value,
    monitor: Monitor,
    /// Of the epoch that the next checkpoint follows.
    rank: Rank,
    /// Steps that were done at the newest one, and at the best.
    newest: Option<u64>,
    best: Option<u64>,
    busy: WhenBusy,
}

/// What happens to a checkpoint while the one before it is still being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhenBusy {
    /// Training waits.
    Waits,
    /// It waits in memory, or takes the place of one that does.
    Queues,
}

/// What happens before a step whose numbers are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BeforeNan {
    Writes,
    Nothing,
}

impl SaveCheckpoints {
    /// Writes after each epoch; the best one has the lowest `val_loss`.
    #[must_use]
    pub fn to(folder: CheckpointFolder) -> Self {
        Self {
            writer: Writer::new(folder),
            every: None,
            interval: None,
            last: Instant::now(),
            stop: None,
            before_nan: BeforeNan::Writes,
            extra: Value::Null,
            monitor: Monitor::new("val_loss"),
            rank: Rank::Other,
            newest: None,
            best: None,
            busy: WhenBusy::Waits,
        }
    }

    /// Writes every `steps` steps too.
    #[must_use]
    pub fn every(self, steps: u64) -> Self {
        Self { every: Some(steps.max(1)), ..self }
    }

    /// Writes after the first step that ends so long after the checkpoint before it, too.
    #[must_use]
    pub fn at_least_every(self, interval: Duration) -> Self {
        Self { interval: Some(interval), ..self }
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

    /// Training does not wait for a checkpoint that is still being written: the next one waits in memory, which then holds
    /// a second copy, and one that waits already is given up for it, unless it is of the best epoch. For epochs that take
    /// less time than the disk. What waits at the end of a fit is written by [`SaveCheckpoints::wait`], or when this is
    /// dropped; of a fit that is asked to stop, before it ends.
    #[must_use]
    pub fn never_waiting(self) -> Self {
        Self { busy: WhenBusy::Queues, ..self }
    }

    /// Waits until all checkpoints are on the disk.
    ///
    /// # Errors
    ///
    /// [`crate::Error::CheckpointFile`] if one could not be written.
    pub fn wait(&mut self) -> Result<()> {
        self.writer.wait()
    }

    /// Keeps the checkpoint of the last whole epoch beside those of steps, as [`CheckpointFolder::epoch`].
    #[must_use]
    pub fn keeping_epochs(mut self) -> Self {
        self.writer.epochs = Epochs::Kept;
        self
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

    /// Gives the checkpoint that a fit goes on from the other names that it was to have, should the process have ended
    /// before it had them.
    fn keep_again(&self, position: Position) -> Result<()> {
        let is_best = self.best == Some(position.steps_done);
        let folder = self.writer.folder();
        if !position.is_whole_epoch() || !(is_best || self.writer.epochs == Epochs::Kept) || !folder.last().exists() {
            return Ok(());
        }
        // A damaged one was not gone on from.
        if Checkpoint::read(&folder.last()).is_ok_and(|last| *last.position() == position) {
            if is_best {
                folder.keep_as_best()?;
            }
            if self.writer.epochs == Epochs::Kept {
                folder.keep_as_epoch()?;
            }
        }
        Ok(())
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

    fn on_fit_start(&mut self, fit: &FitStart<'_>) -> Result<()> {
        self.last = Instant::now();
        // A fit that goes on begins at a checkpoint.
        self.newest = (fit.position.steps_done > 0).then_some(fit.position.steps_done);
        self.keep_again(fit.position)
    }

    fn on_step(&mut self, _: &mut Step<'_>) -> Result<Flow> {
        self.writer.poll()?;
        Ok(self.flow())
    }

    fn on_validate(&mut self, _: &Validated) -> Result<Flow> {
        Ok(self.flow())
    }

    fn on_epoch_end(&mut self, end: &mut EpochEnd<'_>) -> Result<Flow> {
        self.rank = Rank::Other;
        if self.monitor.improves(end.record)? {
            (self.rank, self.best) = (Rank::Best, Some(end.record.step));
        }
        Ok(self.flow())
    }

    fn wants_checkpoint(&mut self, moment: Moment, position: &Position) -> Result<bool> {
        let due = self.every.is_some_and(|every| position.steps_done.is_multiple_of(every));
        let late = self.interval.is_some_and(|interval| self.last.elapsed() >= interval);
        let wanted = match moment {
            // A step that was interrupted did not happen: the newest one may be of right before it.
            Moment::Step => (due || late || self.is_stopped()) && self.newest != Some(position.steps_done),
            Moment::Epoch => true,
            // A second one of the same step would cost the one before it.
            Moment::NotFinite => self.before_nan == BeforeNan::Writes && self.newest != Some(position.steps_done),
        };
        if moment == Moment::NotFinite || (wanted && self.busy == WhenBusy::Waits) {
            // Before the copy is made, so that there are never two of them; and what the folder holds when a fit ends
            // is all of it.
            self.writer.wait()?;
        }
        Ok(wanted)
    }

    fn on_checkpoint(&mut self, moment: Moment, checkpoint: &Checkpoint) -> Result<()> {
        self.last = Instant::now();
        self.newest = Some(checkpoint.position().steps_done);
        let rank = std::mem::replace(&mut self.rank, Rank::Other);
        let checkpoint = checkpoint.clone().with_extra(self.extra.clone());
        match self.busy {
            WhenBusy::Waits => self.writer.begin(checkpoint, rank)?,
            WhenBusy::Queues => self.writer.queue(checkpoint, rank)?,
        }
        match moment {
            // The fit ends with an error, so that nobody would wait later.
            Moment::NotFinite => self.writer.wait(),
            Moment::Step | Moment::Epoch => Ok(()),
        }
    }

    fn on_fit_end(&mut self, _: &Position) -> Result<()> {
        match self.busy {
            WhenBusy::Queues if !self.is_stopped() => self.writer.poll(),
            WhenBusy::Waits | WhenBusy::Queues => self.writer.wait(),
        }
    }

    /// The best number so far, and its step.
    fn state(&self) -> Option<Value> {
        self.monitor.best().map(|best| serde_json::json!({ "best": best, "step": self.best }))
    }

    fn restore(&mut self, state: &Value) -> Result<()> {
        // Older checkpoints hold the number alone.
        self.monitor.restore(state["best"].as_f64().or(state.as_f64()));
        self.best = state["step"].as_u64();
        Ok(())
    }
}

impl fmt::Debug for SaveCheckpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaveCheckpoints")
            .field("writer", &self.writer)
            .field("every", &self.every)
            .field("interval", &self.interval)
            .field("monitor", &self.monitor)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::testing::{bits, learner, two_phases};
    use crate::{Learner, Outcome};
    use cn_ops::Network;
    use std::path::Path;
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
    fn the_best_one_is_used_where_the_others_are_lost() -> Result<()> {
        let (_dir, folder) = folder();
        trained(SaveCheckpoints::to(folder.clone()).every(5))?;
        let best = steps(&folder.best());
        for path in [folder.last(), folder.previous()] {
            std::fs::remove_file(&path).expect("removed");
            std::fs::write(path, "junk").expect("written");
        }
        let found = folder.newest()?.expect("one is whole");
        assert_eq!((found.checkpoint.position().steps_done, found.damage.is_some()), (best, true));
        Ok(())
    }

    #[test]
    fn the_best_one_is_used_where_the_last_is_gone_and_the_one_before_damaged() -> Result<()> {
        let (_dir, folder) = folder();
        trained(SaveCheckpoints::to(folder.clone()).every(5))?;
        let best = Checkpoint::read(&folder.best())?;
        std::fs::remove_file(folder.last()).expect("removed");
        std::fs::remove_file(folder.previous()).expect("removed");
        std::fs::write(folder.previous(), "junk").expect("written");
        let found = folder.newest()?.expect("one is whole");
        assert_eq!(found.checkpoint.position().steps_done, best.position().steps_done);
        folder.set_damaged_aside()?;
        folder.write(&best)?;
        // What lies in the way twice, a folder the second time.
        std::fs::write(folder.last().with_file_name("damaged.safetensors"), "an older one").expect("written");
        std::fs::remove_file(folder.last()).expect("removed");
        std::fs::create_dir(folder.last()).expect("made");
        folder.set_damaged_aside()?;
        folder.write(&best)?;
        assert!(folder.newest()?.expect("written").damage.is_none());
        Ok(())
    }

    #[test]
    fn names_that_a_checkpoint_lacks_are_given_when_its_run_goes_on() -> Result<()> {
        let (_dir, folder) = folder();
        let save = || SaveCheckpoints::to(folder.clone()).every(1).keeping_epochs();
        trained(save())?;
        let names = [folder.best(), folder.epoch()];
        assert_eq!(names.each_ref().map(|path| steps(path)), [12, 12], "the last epoch is the best");
        names.iter().for_each(|path| std::fs::remove_file(path).expect("removed"));
        let mut learner = learner()?;
        learner.restore(&Checkpoint::read(&folder.last())?)?;
        learner.resume(&mut [&mut save()])?;
        assert_eq!(names.each_ref().map(|path| steps(path)), [12, 12]);
        // A second time, nothing is left beside them.
        let mut learner = crate::testing::learner()?;
        learner.restore(&Checkpoint::read(&folder.last())?)?;
        learner.resume(&mut [&mut save()])?;
        let parent = folder.last().parent().expect("a folder").to_owned();
        assert_eq!(std::fs::read_dir(parent).expect("a folder").count(), 4);
        // Of a step, neither is made.
        names.iter().for_each(|path| std::fs::remove_file(path).expect("removed"));
        let mut learner = crate::testing::learner()?;
        learner.restore(&Checkpoint::read(&folder.previous())?)?;
        let mut save = save().stop_when(|| true);
        learner.resume(&mut [&mut save])?;
        assert!(!names.iter().any(|path| path.exists()));
        Ok(())
    }

    /// A disk that is slower than training, and counts.
    fn slowly(folder: &CheckpointFolder, checkpoint: &Checkpoint, rank: Rank) -> Result<()> {
        std::thread::sleep(Duration::from_millis(300));
        let count = folder.last().with_file_name("count");
        let n = std::fs::read_to_string(&count).map_or(0, |text| text.len());
        crate::checkpoint::writer::write(folder, checkpoint, rank)?;
        std::fs::write(count, "x".repeat(n + 1)).expect("written");
        Ok(())
    }

    #[test]
    fn a_slow_disk_holds_nothing_up_where_it_is_not_waited_for() -> Result<()> {
        let (_dir, waited_for) = folder();
        trained(SaveCheckpoints::to(waited_for.clone()).every(1))?;
        let (_dir, folder) = folder();
        let mut save = SaveCheckpoints::to(folder.clone()).every(1).never_waiting();
        save.writer = Writer::through(folder.clone(), slowly);
        let begin = Instant::now();
        let mut learner = learner()?;
        assert_eq!(learner.fit(&two_phases(), &mut [&mut save])?, Outcome::Finished);
        // Each of the twelve steps has one, and each epoch, of which the first may be the best and waited for.
        assert!(begin.elapsed() < Duration::from_millis(12 * 300), "{:?}", begin.elapsed());
        save.wait()?;
        assert_eq!((steps(&folder.last()), steps(&folder.best())), (12, steps(&waited_for.best())));
        let n = std::fs::read_to_string(folder.last().with_file_name("count")).expect("counted").len();
        assert!((2..10).contains(&n), "{n} of 14 were written");
        assert!(Checkpoint::read(&folder.last())?.is_finished());
        Ok(())
    }

    #[test]
    fn a_stop_is_on_the_disk_when_the_fit_ends() -> Result<()> {
        let (_dir, folder) = folder();
        let (asked, n) = (Arc::new(AtomicU64::new(0)), 5);
        let mut save = SaveCheckpoints::to(folder.clone()).every(1).never_waiting();
        save = save.stop_when(move || asked.fetch_add(1, Ordering::Relaxed) >= n);
        save.writer = Writer::through(folder.clone(), slowly);
        let mut learner = learner()?;
        assert_eq!(learner.fit(&two_phases(), &mut [&mut save])?, Outcome::Stopped);
        assert_eq!(steps(&folder.last()), learner.position().steps_done);
        Ok(())
    }

    #[test]
    fn what_could_not_be_written_is_told_by_whoever_waits() -> Result<()> {
        let (_dir, folder) = folder();
        let mut save = SaveCheckpoints::to(folder.clone()).never_waiting();
        save.writer = Writer::through(folder, |folder, _, _| {
            std::thread::sleep(Duration::from_millis(100));
            let (source, path) = (std::io::ErrorKind::StorageFull.into(), folder.last());
            Err(Error::CheckpointFile { action: "write", path, bytes: None, source })
        });
        let fitted = learner()?.fit(&two_phases(), &mut [&mut save]);
        let told = fitted.map(drop).and_then(|()| save.wait());
        assert!(matches!(told, Err(Error::CheckpointFile { action: "write", .. })), "{told:?}");
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
    fn an_interval_writes_between_epochs() -> Result<()> {
        let (_dir, folder) = folder();
        trained(SaveCheckpoints::to(folder.clone()).at_least_every(Duration::ZERO))?;
        assert_eq!((steps(&folder.previous()), steps(&folder.last())), (12, 12), "the last step, and the epoch");
        std::fs::remove_dir_all(folder.last().parent().expect("a folder")).expect("removed");
        trained(SaveCheckpoints::to(folder.clone()).at_least_every(Duration::from_secs(3600)))?;
        assert_eq!((steps(&folder.previous()), steps(&folder.last())), (6, 12));
        Ok(())
    }

    /// Takes the place of the folder from the 3rd step on.
    struct Breaks<'a>(&'a Path);

    impl Handler for Breaks<'_> {
        fn name(&self) -> &'static str {
            "breaks"
        }

        fn on_step(&mut self, step: &mut Step<'_>) -> Result<Flow> {
            if step.position.steps_done == 3 {
                std::fs::write(self.0, "in the way").expect("written");
            }
            Ok(Flow::Continue)
        }
    }

    #[test]
    fn a_write_that_fails_ends_the_fit_wherever_it_is_found() -> Result<()> {
        // Found at a later step or checkpoint, or where nothing follows, at the end.
        for every in [4, 100] {
            let (dir, folder) = folder();
            let mut save = SaveCheckpoints::to(folder.clone()).every(every);
            let path = dir.path().join("checkpoints");
            let plan = [crate::Phase::one_cycle(1, crate::Rates::Uniform(1e-3))];
            let error = learner()?.fit(&plan, &mut [&mut Breaks(&path), &mut save]).expect_err("no folder");
            assert!(matches!(error, Error::CheckpointFile { action: "write", .. }), "{error}");
        }
        Ok(())
    }

    #[test]
    fn what_is_under_way_is_written_before_the_writer_is_gone() -> Result<()> {
        let (_dir, folder) = folder();
        let checkpoint = learner()?.checkpoint()?;
        let mut writer = Writer::new(folder.clone());
        writer.begin(checkpoint, Rank::Best)?;
        drop(writer);
        assert_eq!((steps(&folder.last()), steps(&folder.best())), (0, 0));
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
    fn an_interrupted_step_is_taken_back_and_done_again() -> Result<()> {
        let mut whole = learner()?;
        whole.fit(&two_phases(), &mut [])?;
        // Each of these passes in turn ends somewhere in its middle: in forward, backward, validation.
        for passes in [1_u64, 8, 15, 40, 77, 101, 130] {
            let (_dir, folder) = folder();
            let asked = Arc::new(AtomicU64::new(0));
            let count = Arc::clone(&asked);
            let mut first = learner()?;
            first
                .model_mut()
                .set_interrupt(cn_ops::Interrupt::when(move || count.fetch_add(1, Ordering::Relaxed) >= passes));
            let stop = move || asked.load(Ordering::Relaxed) > passes;
            let mut save = SaveCheckpoints::to(folder.clone()).stop_when(stop);
            assert_eq!(first.fit(&two_phases(), &mut [&mut save])?, Outcome::Stopped, "{passes}");
            let mut second = learner()?;
            second.restore(&folder.newest()?.expect("written").checkpoint)?;
            assert_eq!(second.resume(&mut [&mut SaveCheckpoints::to(folder)])?, Outcome::Finished);
            assert_eq!(bits(&mut second)?, bits(&mut whole)?, "{passes}");
        }
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
            [Moment::Step, Moment::Epoch, Moment::NotFinite]
                .map(|m| save.wants_checkpoint(m, &Position::default()).expect("no writer failed"))
        };
        assert_eq!(wants(SaveCheckpoints::to(folder.clone())), [false, true, true]);
        assert_eq!(wants(SaveCheckpoints::to(folder).not_before_nan()), [false, true, false]);
    }
}
