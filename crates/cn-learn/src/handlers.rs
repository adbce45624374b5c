//! Handlers that most runs want.

use crate::{EpochEnd, EpochRecord, Error, Flow, Handler, PhaseStart, Result, Weights};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// A number that should get better, and the best value so far.
///
/// Less is better if the name has `loss` or `error` in it, else more. NaN is never better.
#[derive(Clone, Debug, PartialEq)]
pub struct Monitor {
    name: String,
    min_delta: f64,
    best: Option<f64>,
}

impl Monitor {
    /// Watches the number of this name, as [`EpochRecord::get`] knows it.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), min_delta: 0.0, best: None }
    }

    /// Counts as better only what is better by more than `min_delta`.
    #[must_use]
    pub fn min_delta(self, min_delta: f64) -> Self {
        Self { min_delta, ..self }
    }

    /// The best value so far.
    #[must_use]
    pub fn best(&self) -> Option<f64> {
        self.best
    }

    /// Takes over the best value of a run that goes on.
    pub(crate) fn restore(&mut self, best: Option<f64>) {
        self.best = best;
    }

    /// Whether the epoch has the number: all but the training loss need a validation.
    fn sees(&self, epoch: &EpochEnd<'_>) -> bool {
        !epoch.is_left_out() || self.name == "train_loss"
    }

    /// Whether the record's number is better than all before.
    pub(crate) fn improves(&mut self, record: &EpochRecord) -> Result<bool> {
        let value = record.get(&self.name);
        let value = value.ok_or_else(|| Error::UnknownMonitor { name: self.name.clone(), known: record.names() })?;
        let less = self.name.contains("loss") || self.name.contains("error");
        let better = match self.best {
            None => !value.is_nan(),
            Some(best) if less => value + self.min_delta < best,
            Some(best) => value - self.min_delta > best,
        };
        if better {
            self.best = Some(value);
        }
        Ok(better)
    }
}

/// Ends a phase when `patience` epochs in a row bring nothing better; starts anew with each phase, as in fastai.
#[derive(Clone, Debug)]
pub struct EarlyStopping {
    monitor: Monitor,
    patience: usize,
    waited: usize,
}

impl EarlyStopping {
    /// Watches `monitor`; fastai's defaults are `val_loss` and a patience of 1.
    #[must_use]
    pub fn new(monitor: Monitor, patience: usize) -> Self {
        Self { monitor, patience, waited: 0 }
    }
}

impl Handler for EarlyStopping {
    fn name(&self) -> &'static str {
        "early-stopping"
    }

    fn on_phase_start(&mut self, _: &PhaseStart<'_>) -> Result<()> {
        (self.monitor.best, self.waited) = (None, 0);
        Ok(())
    }

    fn on_epoch_end(&mut self, epoch: &mut EpochEnd<'_>) -> Result<Flow> {
        if !self.monitor.sees(epoch) {
            return Ok(Flow::Continue);
        }
        self.waited = if self.monitor.improves(epoch.record)? { 0 } else { self.waited + 1 };
        Ok(if self.waited >= self.patience.max(1) { Flow::EndPhase } else { Flow::Continue })
    }

    fn state(&self) -> Option<Value> {
        Tracked { best: self.monitor.best, waited: self.waited }.to_value()
    }

    fn restore(&mut self, state: &str) -> Result<()> {
        let tracked = Tracked::from_json(self.name(), state)?;
        (self.monitor.best, self.waited) = (tracked.best, tracked.waited);
        Ok(())
    }
}

/// What [`EarlyStopping`] and [`SaveBest`] remember.
#[derive(Debug, Serialize, Deserialize)]
struct Tracked {
    best: Option<f64>,
    waited: usize,
}

impl Tracked {
    fn to_value(&self) -> Option<Value> {
        serde_json::to_value(self).ok()
    }

    fn from_json(handler: &'static str, state: &str) -> Result<Self> {
        serde_json::from_str(state).map_err(|source| Error::Handler { handler, source: source.into() })
    }
}

type Save = Box<dyn FnMut(&Weights, &EpochRecord) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Send>;

/// Keeps the weights of the best epoch, over all phases, in memory or by a call.
///
/// Nothing is loaded at the end: [`crate::Learner::load_weights`] does it where it is wanted. After a restart the best
/// value is known again, but not weights that were kept in memory.
pub struct SaveBest {
    monitor: Monitor,
    kept: Option<Weights>,
    save: Option<Save>,
}

impl SaveBest {
    /// Keeps the best weights in memory.
    #[must_use]
    pub fn in_memory(monitor: Monitor) -> Self {
        Self { monitor, kept: None, save: None }
    }

    /// Calls `save` with the weights of each epoch that is better than all before; keeps nothing itself.
    pub fn with(
        monitor: Monitor,
        save: impl FnMut(&Weights, &EpochRecord) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    ) -> Self {
        Self { monitor, kept: None, save: Some(Box::new(save)) }
    }

    /// The best weights so far, if they are kept in memory.
    #[must_use]
    pub fn weights(&self) -> Option<&Weights> {
        self.kept.as_ref()
    }

    /// The best value so far.
    #[must_use]
    pub fn best(&self) -> Option<f64> {
        self.monitor.best
    }
}

impl Handler for SaveBest {
    fn name(&self) -> &'static str {
        "save-best"
    }

    fn on_epoch_end(&mut self, epoch: &mut EpochEnd<'_>) -> Result<Flow> {
        if self.monitor.sees(epoch) && self.monitor.improves(epoch.record)? {
            let weights = epoch.weights()?;
            match &mut self.save {
                Some(save) => {
                    save(&weights, epoch.record).map_err(|source| Error::Handler { handler: "save-best", source })?
                }
                None => self.kept = Some(weights),
            }
        }
        Ok(Flow::Continue)
    }

    fn state(&self) -> Option<Value> {
        Tracked { best: self.monitor.best, waited: 0 }.to_value()
    }

    fn restore(&mut self, state: &str) -> Result<()> {
        self.monitor.best = Tracked::from_json(self.name(), state)?.best;
        Ok(())
    }
}

impl fmt::Debug for SaveBest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaveBest").field("monitor", &self.monitor).finish_non_exhaustive()
    }
}
