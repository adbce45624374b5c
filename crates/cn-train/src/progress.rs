//! How far training is: a live view on a terminal, else a line now and then.

mod live;
mod view;

use crate::output::Ui;
use cn_learn::{FitStart, Hypers, Position};
use cn_report::{EpochRecord, clock};
use live::Live;
use std::time::{Duration, Instant};
use view::View;

/// The view is drawn at most this often.
const REDRAW: Duration = Duration::from_millis(100);
/// Lines are printed at most this often.
const LINE: Duration = Duration::from_secs(30);
/// Time between two looks at a terminal that was too small for a live view.
const AGAIN: Duration = Duration::from_secs(2);

/// Steps of a fit before the time left is told: the first ones are slower than the rest.
const ENOUGH: usize = 10;

/// Draws how far a fit is.
pub(crate) struct Progress {
    ui: Ui,
    live: Option<Live>,
    view: View,
    plan: Plan,
    fit_start: Instant,
    epoch_start: Instant,
    /// Steps of this epoch, and of this fit.
    steps: usize,
    fit_steps: usize,
    drawn: Instant,
    validation: Duration,
    validation_start: Option<Instant>,
    /// When a live view was last tried.
    tried: Instant,
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
    /// `metric` is the one whose curve is shown.
    pub(crate) fn new(ui: Ui, metric: &'static str) -> Self {
        let now = Instant::now();
        Self {
            ui,
            live: None,
            view: View { metric_name: metric, ..View::default() },
            plan: Plan::default(),
            fit_start: now,
            epoch_start: now,
            steps: 0,
            fit_steps: 0,
            drawn: now,
            validation: Duration::ZERO,
            validation_start: None,
            tried: now,
        }
    }

    pub(crate) fn fit_start(&mut self, fit: &FitStart<'_>) {
        self.plan = Plan {
            epochs: fit.phases.iter().map(|phase| phase.epochs).collect(),
            steps_per_epoch: fit.steps_per_epoch,
            batch_size: fit.batch_size,
            n_val: fit.n_val,
        };
        self.fit_start = Instant::now();
        self.live = if self.ui.has_bars() { Live::new() } else { None };
    }

    pub(crate) fn epoch_start(&mut self, position: &Position) {
        (self.epoch_start, self.steps) = (Instant::now(), 0);
        let (before, epochs) = self.plan.epochs(position);
        self.view.epoch = [before + 1, epochs];
        self.view.step = [position.step, self.plan.steps_per_epoch];
        self.view.validated = None;
        self.draw();
    }

    /// After a step; `loss` is asked for only where it is shown.
    pub(crate) fn step<E>(
        &mut self,
        position: &Position,
        hypers: &Hypers,
        loss: impl FnOnce() -> Result<f32, E>,
    ) -> Result<(), E> {
        self.steps += 1;
        self.fit_steps += 1;
        // The terminal may have become large enough.
        if self.live.is_none() && self.ui.has_bars() && self.tried.elapsed() >= AGAIN {
            (self.live, self.tried) = (Live::new(), Instant::now());
        }
        let every = if self.live.is_some() { REDRAW } else { LINE };
        if self.drawn.elapsed() < every {
            return Ok(());
        }
        self.drawn = Instant::now();
        let left = (self.fit_steps >= ENOUGH).then(|| self.left(position));
        let (rate, loss) = (self.rate(), loss()?);
        if self.live.is_some() {
            let view = &mut self.view;
            view.step[0] = position.step;
            (view.steps_done, view.img_s, view.left) = (position.steps_done, rate, left);
            (view.lr, view.momentum) = (hypers.lr.last().copied().unwrap_or(f64::NAN), hypers.momentum);
            view.train_loss.push(position.steps_done, f64::from(loss));
            view.lrs.push(position.steps_done, view.lr);
            self.draw();
        } else {
            let (before, epochs) = self.plan.epochs(position);
            let (step, steps) = (position.step, self.plan.steps_per_epoch);
            let left = left.map_or_else(String::new, |left| format!("  {} left", clock(left)));
            let text = format!("{rate:.0} images/s  loss {loss:.4}{left}");
            self.ui.note(format_args!("epoch {}/{epochs}  step {step}/{steps}  {text}", before + 1));
        }
        Ok(())
    }

    /// Images a second of this epoch.
    fn rate(&self) -> f64 {
        let images = (self.steps * self.plan.batch_size) as f64;
        images / self.epoch_start.elapsed().as_secs_f64().max(1e-9)
    }

    /// Seconds to the end of all phases, as it goes now.
    fn left(&self, position: &Position) -> f64 {
        let (before, epochs) = self.plan.epochs(position);
        let steps = (epochs - before) * self.plan.steps_per_epoch - position.step;
        let step = self.epoch_start.elapsed().as_secs_f64() / self.steps.max(1) as f64;
        steps as f64 * step + (epochs - before) as f64 * self.validation.as_secs_f64()
    }

    pub(crate) fn validated(&mut self, n_done: usize) {
        self.validation_start.get_or_insert_with(Instant::now);
        self.view.validated = Some([n_done, self.plan.n_val]);
        self.view.step[0] = self.plan.steps_per_epoch;
        if self.drawn.elapsed() >= REDRAW {
            self.drawn = Instant::now();
            self.draw();
        }
    }

    pub(crate) fn epoch_end(&mut self) {
        if let Some(start) = self.validation_start.take() {
            self.validation = start.elapsed();
        }
        self.clear();
    }

    /// Adds an epoch to the curves.
    pub(crate) fn record(&mut self, record: &EpochRecord) {
        self.view.val_loss.push(record.step, record.val_loss.unwrap_or(f64::NAN));
        let metric = record.metrics.iter().find(|(name, _)| *name == self.view.metric_name);
        self.view.metric.push(record.step, metric.map_or(f64::NAN, |(_, value)| value));
    }

    fn draw(&mut self) {
        if let Some(live) = &mut self.live {
            self.view.elapsed = self.fit_start.elapsed().as_secs_f64();
            live.draw(&self.view);
        }
    }

    /// Takes the view away, so that a lasting line can be printed.
    pub(crate) fn clear(&mut self) {
        if let Some(live) = &mut self.live {
            live.clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
