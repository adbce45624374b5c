//! What a run writes of its epochs and steps while it trains.

use crate::config::MOST_EPOCHS;
use crate::output::Ui;
use crate::problem::Problem;
use crate::progress::Progress;
use crate::session::METRICS;
use cn_learn::{
    EpochEnd, Error, Evaluation, FitStart, Flow, Handler, NotFinite, PhaseStart, Position, Result, Step, Validated,
};
use cn_report::{EpochRecord, EpochTable, EventFile, RunFolder, StepRecord};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Instant;

/// Steps that a long run keeps of itself, at least; one of fewer than twice as many keeps all.
const KEPT_STEPS: u64 = 500;

/// The metric whose curve is drawn while training.
const QUOTED: &str = "exact_match";

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
    /// Where this process goes on from a checkpoint of its own: seconds of the processes before it.
    again: Option<f64>,
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
            progress: Progress::new(ui, QUOTED),
            table: EpochTable::new(METRICS),
            process_start,
            batch_size: 0,
            epoch_start: process_start,
            trained: process_start,
            judged: None,
            kept: Kept::default(),
            gap: 1,
            events,
            again: None,
            evaluation: None,
        }
    }

    /// The same for another try of a process, after one whose recorder this was.
    pub(crate) fn after(self, tried: &Self) -> Self {
        let before = tried.again.unwrap_or(tried.kept.before);
        Self { again: Some(before), kept: Kept { before, ..self.kept }, ..self }
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

    /// Keeps a step, in memory until the epoch ends, and for TensorBoard at once: a checkpoint may be taken of it, and the
    /// process may end.
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
        self.flush_events()
    }

    fn flush_events(&mut self) -> Result<()> {
        self.events.flush().map_err(|source| handler_error("recorder", source))
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
        self.flush_events()
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
        self.gap = ((epochs * fit.steps_per_epoch) as u64 / KEPT_STEPS).max(1);
        if fit.position.steps_done > 0 || self.again.is_some() || self.events.has_elders() {
            self.events.restart(wall_time(), fit.position.steps_done + 1);
        }
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
        let hypers = step.hypers;
        self.progress.step(&position, hypers, || step.smooth_loss())?;
        Ok(Flow::Continue)
    }

    fn on_skipped(&mut self, step: &NotFinite) -> Result<()> {
        self.ui.warn(format_args!("{step}: left out"));
        Ok(())
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
        self.progress.record(&record);
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

    fn restore(&mut self, state: &str) -> Result<()> {
        self.kept = serde_json::from_str(state).map_err(|e| {
            let problem = Problem::failure("the checkpoint's record of the epochs cannot be read").caused_by(e);
            handler_error("recorder", problem.hint("restore it from a copy, or begin a new run"))
        })?;
        let n = self.kept.records.len();
        if n > MOST_EPOCHS {
            let problem = Problem::failure(format!(
                "the checkpoint has records of {n} epochs, and at most {MOST_EPOCHS} are read"
            ));
            return Err(handler_error("recorder", problem.hint("restore it from a copy, or begin a new run")));
        }
        EpochRecord::check_columns(&self.kept.records, self.run.checkpoints())
            .map_err(|e| handler_error("recorder", e))?;
        // The checkpoint counts what this process did until then, which is counted from its start on.
        self.kept.before = self.again.unwrap_or(self.kept.before);
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
