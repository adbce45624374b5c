//! When a run writes checkpoints.

use super::writer::{Epochs, Rank, Writer};
use super::{CheckpointFolder, source};
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
        if source::position(&folder.last()).is_ok_and(|last| last == position) {
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

    fn restore(&mut self, state: &str) -> Result<()> {
        #[derive(serde::Deserialize)]
        struct Best {
            best: Option<f64>,
            step: Option<u64>,
        }
        // Older checkpoints hold the number alone.
        let alone = || Best { best: serde_json::from_str(state).ok(), step: None };
        let Best { best, step } = serde_json::from_str(state).unwrap_or_else(|_| alone());
        self.monitor.restore(best);
        self.best = step;
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
mod tests;
