//! What a run writes while it trains: epochs, checkpoints.

use crate::output::Ui;
use crate::progress::Progress;
use crate::session::METRICS;
use crate::signals::Stop;
use cn_learn::{
    Checkpoint, EpochEnd, Error, Evaluation, FitStart, Flow, Handler, Moment, PhaseStart, Position, Result, Step,
    Validated,
};
use cn_report::{EpochRecord, EpochTable, EventFile, RunFolder, StepRecord};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Steps that a run keeps of itself, about: every tenth of a short run, fewer of a long one.
const KEPT_STEPS: u64 = 500;
const SHORTEST_GAP: u64 = 10;

/// Keeps the epochs of a run, on disk and in the table that people see.
pub(crate) struct Recorder {
    ui: Ui,
    run: RunFolder,
    progress: Progress,
    table: EpochTable,
    process_start: Instant,
    batch_size: usize,
    epoch_start: Instant,
    /// When the last step of the epoch was done.
    trained: Instant,
    /// When the validation of an epoch was done, until what follows it is done too.
    judged: Option<Instant>,
    kept: Kept,
    /// Steps from one that is kept to the next.
    gap: u64,
    events: EventFile,
    /// The validation after the last epoch.
    pub(crate) evaluation: Option<Evaluation>,
}

/// What is remembered over a restart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) records: Vec<EpochRecord>,
    #[serde(default)]
    pub(crate) steps: Vec<StepRecord>,
    pub(crate) to_first_step: Option<f64>,
    /// Seconds of training and of validation, and images trained and validated.
    pub(crate) train: f64,
    pub(crate) validate: f64,
    /// Seconds after the validation of epochs: of writing, checkpoints most of all.
    #[serde(default)]
    pub(crate) saving: f64,
    pub(crate) n_trained: u64,
    pub(crate) n_validated: u64,
    /// Seconds and steps of the epoch that a checkpoint cut.
    epoch_seconds: f64,
    epoch_steps: usize,
    /// Seconds of the run's processes before this one.
    pub(crate) before: f64,
}

impl Recorder {
    pub(crate) fn new(ui: Ui, run: RunFolder, process_start: Instant) -> Self {
        let events = EventFile::new(run.root(), wall_time());
        Self {
            ui,
            run,
            progress: Progress::new(ui),
            table: EpochTable::new(METRICS),
            process_start,
            batch_size: 0,
            epoch_start: process_start,
            trained: process_start,
            judged: None,
            kept: Kept::default(),
            gap: SHORTEST_GAP,
            events,
            evaluation: None,
        }
    }

    pub(crate) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Seconds of the run, all its processes together.
    pub(crate) fn total_seconds(&self) -> f64 {
        self.kept.before + self.process_start.elapsed().as_secs_f64()
    }

    /// Closes the epoch's clock, and makes its record.
    fn record(&mut self, end: &EpochEnd<'_>) -> EpochRecord {
        let own = end.record;
        let train = self.kept.epoch_seconds + (self.trained - self.epoch_start).as_secs_f64();
        let validate = self.trained.elapsed().as_secs_f64();
        self.judged = Some(Instant::now());
        let n_trained = (self.kept.epoch_steps * self.batch_size) as u64;
        self.kept.train += train;
        self.kept.validate += validate;
        self.kept.n_trained += n_trained;
        self.kept.n_validated += end.evaluation.map_or(0, |e| e.predictions.len() as u64);
        (self.kept.epoch_seconds, self.kept.epoch_steps) = (0.0, 0);
        EpochRecord {
            epoch: self.kept.records.len(),
            phase: own.phase,
            step: own.step,
            lr: own.lr.clone(),
            train_loss: own.train_loss,
            val_loss: end.evaluation.map(|e| e.loss),
            metrics: own.metrics.iter().map(|(name, score)| (name.clone(), score.0)).collect(),
            seconds: train + validate,
            img_s: n_trained as f64 / train,
        }
    }

    /// Adds what was spent since the last validation.
    fn close_epoch(&mut self) {
        self.kept.saving += self.judged.take().map_or(0.0, |judged| judged.elapsed().as_secs_f64());
    }

    /// Keeps a step, in memory until the epoch ends.
    fn keep_step(&mut self, step: &mut Step<'_>) -> Result<()> {
        let done = step.position.steps_done;
        if !done.is_multiple_of(self.gap) {
            return Ok(());
        }
        let lr = step.hypers.lr.last().copied().unwrap_or(f64::NAN);
        let (momentum, train_loss) = (step.hypers.momentum, f64::from(step.smooth_loss()?));
        self.kept.steps.push(StepRecord { step: done, lr, momentum, train_loss });
        let now = wall_time();
        for (tag, value) in [("loss/train", train_loss), ("schedule/lr", lr), ("schedule/momentum", momentum)] {
            self.events.scalar(now, done, tag, value);
        }
        Ok(())
    }

    /// The epoch for TensorBoard.
    fn tell_epoch(&mut self, record: &EpochRecord) -> Result<()> {
        let now = wall_time();
        let loss = record.val_loss.map(|loss| ("loss/validation".to_owned(), loss));
        let metrics = record.metrics.iter().map(|(name, value)| (format!("validation/{name}"), value));
        let speed = [("speed/images_per_second".to_owned(), record.img_s)];
        for (tag, value) in loss.into_iter().chain(metrics).chain(speed) {
            self.events.scalar(now, record.step, &tag, value);
        }
        self.events.flush().map_err(|source| handler_error("recorder", source))
    }

    fn write(&self) -> Result<()> {
        let failed = |source: cn_report::Error| handler_error("recorder", source);
        StepRecord::write_all(&self.kept.steps, self.run.steps()).map_err(failed)?;
        EpochRecord::write_all(&self.kept.records, self.run.metrics()).map_err(failed)?;
        EpochRecord::write_history(&self.kept.records, self.run.history()).map_err(failed)
    }
}

/// Seconds since 1970, as TensorBoard counts.
pub(crate) fn wall_time() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64())
}

fn handler_error(handler: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Handler { handler, source: source.into() }
}

impl Handler for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    fn on_fit_start(&mut self, fit: &FitStart<'_>) -> Result<()> {
        self.batch_size = fit.batch_size;
        let epochs: usize = fit.phases.iter().map(|phase| phase.epochs).sum();
        self.gap = ((epochs * fit.steps_per_epoch) as u64 / KEPT_STEPS).max(SHORTEST_GAP);
        self.progress.fit_start(fit);
        if fit.position.phase_started {
            self.ui.say(self.table.header());
        }
        Ok(())
    }

    fn on_phase_start(&mut self, phase: &PhaseStart<'_>) -> Result<()> {
        if phase.index > 0 {
            self.ui.say("");
        }
        self.ui.say(self.table.header());
        Ok(())
    }

    fn on_epoch_start(&mut self, position: &Position) -> Result<()> {
        self.close_epoch();
        self.epoch_start = Instant::now();
        self.trained = self.epoch_start;
        self.progress.epoch_start(position);
        Ok(())
    }

    fn on_step(&mut self, step: &mut Step<'_>) -> Result<Flow> {
        self.trained = Instant::now();
        self.kept.epoch_steps += 1;
        let since_start = || self.process_start.elapsed().as_secs_f64();
        self.kept.to_first_step.get_or_insert_with(since_start);
        self.keep_step(step)?;
        let position = step.position;
        self.progress.step(&position, || step.smooth_loss())?;
        Ok(Flow::Continue)
    }

    fn on_validate(&mut self, validated: &Validated) -> Result<Flow> {
        self.progress.validated(validated.n_done);
        Ok(Flow::Continue)
    }

    fn on_epoch_end(&mut self, end: &mut EpochEnd<'_>) -> Result<Flow> {
        self.progress.epoch_end();
        let record = self.record(end);
        self.ui.say(self.table.row(end.record.epoch, &record));
        self.ui.json(&Event { event: "epoch", record: &record });
        self.tell_epoch(&record)?;
        self.kept.records.push(record);
        self.evaluation = end.evaluation.cloned();
        self.write()?;
        Ok(Flow::Continue)
    }

    fn on_fit_end(&mut self, _: &Position) -> Result<()> {
        self.close_epoch();
        self.progress.clear();
        Ok(())
    }

    fn state(&self) -> Option<Value> {
        let mut kept = self.kept.clone();
        kept.epoch_seconds += if kept.epoch_steps > 0 { (self.trained - self.epoch_start).as_secs_f64() } else { 0.0 };
        kept.before = self.total_seconds();
        serde_json::to_value(kept).ok()
    }

    fn restore(&mut self, state: &Value) -> Result<()> {
        self.kept = Kept::deserialize(state).map_err(|e| handler_error("recorder", e))?;
        // Epochs that ran after the checkpoint are forgotten.
        self.write()
    }
}

#[derive(Serialize)]
struct Event<'a> {
    event: &'static str,
    #[serde(flatten)]
    record: &'a EpochRecord,
}

/// Writes checkpoints: after each epoch, every so many steps, and when the program is asked to end.
pub(crate) struct Checkpointer {
    files: Checkpoints,
    every: Option<u64>,
    stop: Stop,
    /// What must be the same when the run goes on.
    identity: Value,
    best: Option<f64>,
    improved: bool,
}

impl Checkpointer {
    pub(crate) fn new(files: Checkpoints, every: Option<u64>, stop: Stop, identity: Value) -> Self {
        Self { files, every, stop, identity, best: None, improved: false }
    }

    fn flow(&self) -> Flow {
        if self.stop.exit_code().is_some() { Flow::Stop } else { Flow::Continue }
    }
}

impl Handler for Checkpointer {
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
        let loss = end.record.val_loss;
        // A NaN is never better.
        self.improved = self.best.is_none_or(|best| loss < best) && !loss.is_nan();
        if self.improved {
            self.best = Some(loss);
        }
        Ok(self.flow())
    }

    fn wants_checkpoint(&mut self, moment: Moment, position: &Position) -> bool {
        let due = self.every.is_some_and(|every| position.steps_done.is_multiple_of(every));
        moment == Moment::Epoch || due || self.stop.exit_code().is_some()
    }

    fn on_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.files.write(&checkpoint.clone().with_extra(self.identity.clone()))?;
        if std::mem::take(&mut self.improved) { self.files.keep_best() } else { Ok(()) }
    }

    fn state(&self) -> Option<Value> {
        self.best.map(Value::from)
    }

    fn restore(&mut self, state: &Value) -> Result<()> {
        self.best = state.as_f64();
        Ok(())
    }
}

fn failed(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::CheckpointFile { action, path: path.to_owned(), source }
}

/// The folder of checkpoints: the last one, the one before, the best one.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(crate) fn last(&self) -> PathBuf {
        self.folder.join("last.safetensors")
    }

    fn previous(&self) -> PathBuf {
        self.folder.join("previous.safetensors")
    }

    fn best(&self) -> PathBuf {
        self.folder.join("best.safetensors")
    }

    fn write(&self, checkpoint: &Checkpoint) -> Result<()> {
        std::fs::create_dir_all(&self.folder).map_err(|e| failed("write", &self.folder, e))?;
        let last = self.last();
        if last.exists() {
            std::fs::rename(&last, self.previous()).map_err(|e| failed("move", &last, e))?;
        }
        checkpoint.write(&last)
    }

    /// The last one is the best so far.
    fn keep_best(&self) -> Result<()> {
        self.link_best().map_err(|e| failed("keep", &self.last(), e))
    }

    /// A second name for the last one, where the file system knows such names, else a copy.
    fn link_best(&self) -> std::io::Result<()> {
        let fresh = self.folder.join("best.tmp");
        let _ = std::fs::remove_file(&fresh); // Left behind by a crash.
        std::fs::hard_link(self.last(), &fresh).or_else(|_| std::fs::copy(self.last(), &fresh).map(drop))?;
        std::fs::rename(fresh, self.best())
    }

    /// The newest checkpoint that can be read, and what was wrong with newer ones; `None` if there is none at all.
    ///
    /// # Errors
    ///
    /// If there are some and none can be read: the error of the newest.
    pub(crate) fn newest(&self) -> Result<Option<(Checkpoint, Option<Error>)>> {
        let mut first_error = None;
        for path in [self.last(), self.previous()].into_iter().filter(|path| path.exists()) {
            match Checkpoint::read(&path) {
                Ok(checkpoint) => return Ok(Some((checkpoint, first_error))),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(None), Err)
    }
}
