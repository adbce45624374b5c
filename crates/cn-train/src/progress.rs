//! How far training is: a bar on a terminal, else a line now and then.

use crate::output::Ui;
use cn_learn::{FitStart, Position};
use cn_report::clock;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// Bars are drawn at most this often.
const REDRAW: Duration = Duration::from_millis(100);
/// Lines are printed at most this often.
const LINE: Duration = Duration::from_secs(30);

/// Steps of an epoch before the time left is told: the first ones are slower than the rest.
const ENOUGH: usize = 10;

/// Draws how far a fit is.
pub(crate) struct Progress {
    ui: Ui,
    bar: Option<ProgressBar>,
    plan: Plan,
    epoch_start: Instant,
    steps: usize,
    drawn: Instant,
    validation: Duration,
    validation_start: Option<Instant>,
}

/// The length of a fit.
#[derive(Default)]
struct Plan {
    /// Epochs of each phase.
    epochs: Vec<usize>,
    steps_per_epoch: usize,
    batch_size: usize,
    n_val: usize,
}

impl Plan {
    /// (epochs before this one, epochs of all phases).
    fn epochs(&self, position: &Position) -> (usize, usize) {
        let before: usize = self.epochs.iter().take(position.phase).sum();
        (before + position.epoch, self.epochs.iter().sum())
    }
}

impl Progress {
    pub(crate) fn new(ui: Ui) -> Self {
        let now = Instant::now();
        let plan = Plan::default();
        Self {
            ui,
            bar: None,
            plan,
            epoch_start: now,
            steps: 0,
            drawn: now,
            validation: Duration::ZERO,
            validation_start: None,
        }
    }

    pub(crate) fn fit_start(&mut self, fit: &FitStart<'_>) {
        self.plan = Plan {
            epochs: fit.phases.iter().map(|phase| phase.epochs).collect(),
            steps_per_epoch: fit.steps_per_epoch,
            batch_size: fit.batch_size,
            n_val: fit.n_val,
        };
    }

    pub(crate) fn epoch_start(&mut self, position: &Position) {
        (self.epoch_start, self.steps) = (Instant::now(), 0);
        let (before, epochs) = self.plan.epochs(position);
        self.start_bar(format!("epoch {}/{epochs}", before + 1), self.plan.steps_per_epoch, position.step);
    }

    /// After a step; `loss` is asked for only where it is shown.
    pub(crate) fn step<E>(&mut self, position: &Position, loss: impl FnOnce() -> Result<f32, E>) -> Result<(), E> {
        self.steps += 1;
        let every = if self.bar.is_some() { REDRAW } else { LINE };
        if self.drawn.elapsed() < every {
            return Ok(());
        }
        self.drawn = Instant::now();
        let left = match self.steps {
            0..ENOUGH => String::new(),
            _ => format!("  {} left", clock(self.left(position))),
        };
        let text = format!("{}  loss {:.4}{left}", self.rate(), loss()?);
        match &self.bar {
            Some(bar) => {
                bar.set_position(position.step as u64);
                bar.set_message(text);
            }
            None => {
                let (before, epochs) = self.plan.epochs(position);
                let (step, steps) = (position.step, self.plan.steps_per_epoch);
                self.ui.note(format_args!("epoch {}/{epochs}  step {step}/{steps}  {text}", before + 1));
            }
        }
        Ok(())
    }

    fn rate(&self) -> String {
        let images = (self.steps * self.plan.batch_size) as f64;
        format!("{:.0} images/s", images / self.epoch_start.elapsed().as_secs_f64().max(1e-9))
    }

    /// Seconds to the end of all phases, as it goes now.
    fn left(&self, position: &Position) -> f64 {
        let (before, epochs) = self.plan.epochs(position);
        let steps = (epochs - before) * self.plan.steps_per_epoch - position.step;
        let step = self.epoch_start.elapsed().as_secs_f64() / self.steps.max(1) as f64;
        steps as f64 * step + (epochs - before) as f64 * self.validation.as_secs_f64()
    }

    pub(crate) fn validated(&mut self, n_done: usize) {
        if self.validation_start.is_none() {
            self.validation_start = Some(Instant::now());
            self.start_bar("validation".into(), self.plan.n_val, 0);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(n_done as u64);
        }
    }

    pub(crate) fn epoch_end(&mut self) {
        if let Some(start) = self.validation_start.take() {
            self.validation = start.elapsed();
        }
        self.clear();
    }

    /// Takes the bar away, so that a lasting line can be printed.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn start_bar(&mut self, name: String, len: usize, position: usize) {
        self.clear();
        if !self.ui.has_bars() {
            return;
        }
        let style = ProgressStyle::with_template("{prefix:12} {bar:30} {pos:>5}/{len}  {msg}");
        let bar = ProgressBar::new(len as u64).with_prefix(name).with_position(position as u64);
        self.bar = Some(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())));
    }
}
