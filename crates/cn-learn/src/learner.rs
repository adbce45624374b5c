//! The training loop.

pub(crate) use self::feed::{Feed, Resident};
use crate::events::Wishes;
use crate::train_loss::TrainLoss;
use crate::{
    BadPlace, Batches, Checkpoint, EpochEnd, EpochRecord, Error, Evaluation, FitStart, Flow, Handler, Hypers, LrCurve,
    LrFindConfig, Moment, NotFinite, Phase, PhaseStart, Position, Rates, Result, Schedule, Score, Step, Weights,
};
use cn_ops::{Adam, Ema, Model};
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

mod config;
mod feed;
mod finder;
mod guard;
mod judging;
mod state;
mod step;

pub use config::LearnerConfig;

/// How a fit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All phases are done, those included that a handler cut short.
    Finished,
    /// A handler asked for [`Flow::Stop`]; [`Learner::resume`] goes on.
    Stopped,
}

/// A model, an optimizer and batches, and where training is.
///
/// Everything random is keyed by the seed of the batches, the epoch and the image, so that a learner that goes on from
/// a [`Checkpoint`] gives the bits of one that never stopped, at any number of threads.
#[derive(Debug)]
pub struct Learner<M> {
    model: M,
    optimizer: Adam,
    ema: Option<Ema>,
    batches: Batches,
    config: LearnerConfig,
    plan: Vec<Phase>,
    position: Position,
    train_loss: TrainLoss,
    history: Vec<EpochRecord>,
    frozen_groups: usize,
    momentum: f64,
    lr_scale: f64,
    /// Steps left out since the last one that was taken.
    skipped: u32,
    /// Steps of this phase that were left out.
    left_out: u64,
    restored_handlers: BTreeMap<String, Box<RawValue>>,
    resident: Resident,
}

/// fastai's momentum before a schedule sets one.
const FIRST_MOMENTUM: f64 = 0.9;

impl<M: Model> Learner<M> {
    /// A learner at the start, with nothing frozen.
    ///
    /// # Errors
    ///
    /// If a number of the optimizer or the decay of the average is out of its range, or memory runs out.
    pub fn new(model: M, batches: Batches, config: LearnerConfig) -> Result<Self> {
        Ok(Self {
            optimizer: Adam::new(model.parameters(), config.adam)?,
            ema: config.ema.map(Ema::new).transpose()?,
            model,
            batches,
            config,
            plan: Vec::new(),
            position: Position::default(),
            train_loss: TrainLoss::default(),
            history: Vec::new(),
            frozen_groups: 0,
            momentum: FIRST_MOMENTUM,
            lr_scale: 1.0,
            skipped: 0,
            left_out: 0,
            restored_handlers: BTreeMap::new(),
            resident: Resident::Unknown,
        })
    }

    /// Trains through `phases`, one after the other. Moments, rates and history of earlier fits are kept.
    ///
    /// # Errors
    ///
    /// If a phase is not possible, or anything fails on the way; the learner stays where it was then.
    pub fn fit(&mut self, phases: &[Phase], handlers: &mut [&mut dyn Handler]) -> Result<Outcome> {
        phases.iter().try_for_each(Phase::check)?;
        self.plan = phases.to_vec();
        self.position = Position {
            epochs_done: self.position.epochs_done + u32::from(self.position.step > 0),
            steps_done: self.position.steps_done,
            ..Position::default()
        };
        self.run(handlers)
    }

    /// One phase of the one-cycle schedule, fastai's `fit_one_cycle`: whatever is frozen stays so.
    ///
    /// # Errors
    ///
    /// As [`Learner::fit`].
    pub fn fit_one_cycle(&mut self, epochs: usize, lr: Rates, handlers: &mut [&mut dyn Handler]) -> Result<Outcome> {
        self.fit(&[Phase::one_cycle(epochs, lr)], handlers)
    }

    /// A frozen epoch for the head, then `epochs` for all groups, fastai's `fine_tune`. Its default rate is 2e-3.
    ///
    /// # Errors
    ///
    /// As [`Learner::fit`].
    pub fn fine_tune(&mut self, epochs: usize, base_lr: f64, handlers: &mut [&mut dyn Handler]) -> Result<Outcome> {
        self.fit(&Phase::fine_tune(epochs, base_lr, 1), handlers)
    }

    /// Goes on with a fit that was stopped, or restored from a checkpoint; does nothing if it was done.
    ///
    /// # Errors
    ///
    /// As [`Learner::fit`].
    pub fn resume(&mut self, handlers: &mut [&mut dyn Handler]) -> Result<Outcome> {
        let states = std::mem::take(&mut self.restored_handlers);
        for handler in handlers.iter_mut() {
            if let Some(state) = states.get(handler.name()) {
                handler.restore(state.get())?;
            }
        }
        self.run(handlers)
    }

    fn run(&mut self, handlers: &mut [&mut dyn Handler]) -> Result<Outcome> {
        let start = FitStart {
            phases: &self.plan,
            position: self.position,
            steps_per_epoch: self.batches.steps_per_epoch(),
            batch_size: self.batches.config().batch_size,
            n_val: self.batches.source().val_ids().len(),
        };
        handlers.iter_mut().try_for_each(|handler| handler.on_fit_start(&start))?;
        let mut outcome = Outcome::Finished;
        while let Some(phase) = self.plan.get(self.position.phase).cloned() {
            if self.run_phase(&phase, handlers)? == Flow::Stop {
                outcome = Outcome::Stopped;
                break;
            }
        }
        handlers.iter_mut().try_for_each(|handler| handler.on_fit_end(&self.position))?;
        Ok(outcome)
    }

    fn run_phase(&mut self, phase: &Phase, handlers: &mut [&mut dyn Handler]) -> Result<Flow> {
        let index = self.position.phase;
        if !self.position.phase_started {
            self.start_phase(phase, handlers)?;
        }
        let schedule = phase.schedule(self.model.parameters().n_groups(), self.batches.steps_per_epoch());
        while self.position.phase == index {
            let flow = match self.train_epoch(&schedule, handlers)? {
                Flow::Continue => self.end_epoch(phase, &schedule, handlers)?,
                Flow::EndPhase => {
                    self.next_phase();
                    Flow::EndPhase
                }
                Flow::Stop => Flow::Stop,
            };
            if flow == Flow::Stop {
                return Ok(flow);
            }
        }
        Ok(Flow::Continue)
    }

    fn start_phase(&mut self, phase: &Phase, handlers: &mut [&mut dyn Handler]) -> Result<()> {
        tracing::debug!(phase = self.position.phase, epochs = phase.epochs, frozen = phase.frozen, "phase");
        match phase.frozen {
            Some(true) => self.freeze()?,
            Some(false) => self.unfreeze()?,
            None => {}
        }
        self.train_loss = TrainLoss::default();
        self.left_out = 0;
        self.position.phase_started = true;
        let start = PhaseStart { index: self.position.phase, phase };
        handlers.iter_mut().try_for_each(|handler| handler.on_phase_start(&start))
    }

    fn train_epoch(&mut self, schedule: &Schedule, handlers: &mut [&mut dyn Handler]) -> Result<Flow> {
        handlers.iter_mut().try_for_each(|handler| handler.on_epoch_start(&self.position))?;
        let mut batches = self.feed(self.position.epochs_done, self.position.step)?;
        while let Some(batch) = batches.next()? {
            let hypers = self.hypers(schedule, self.step_of_phase());
            match self.train_step(&batch, &hypers) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(bad)) => self.leave_out(bad, handlers)?,
                Err(error) if error.is_interruption() => {
                    // The step did not happen.
                    self.offer_checkpoint(Moment::Step, handlers)?;
                    return Ok(Flow::Stop);
                }
                Err(error) => return Err(error),
            }
            self.position.step += 1;
            self.position.steps_done += 1;
            let flow = self.after_step(batch.ids(), &hypers, handlers)?;
            batches.give_back(batch);
            if flow > Flow::Continue {
                return Ok(flow);
            }
        }
        Ok(Flow::Continue)
    }

    fn hypers(&self, schedule: &Schedule, step: usize) -> Hypers {
        let mut hypers = schedule.at(step);
        hypers.lr.iter_mut().for_each(|lr| *lr *= self.lr_scale);
        hypers
    }

    /// What the rates of all schedules are multiplied with, 1 unless [`Learner::set_lr_scale`] was called.
    #[must_use]
    pub fn lr_scale(&self) -> f64 {
        self.lr_scale
    }

    /// Multiplies the rates of all schedules from here on, as for another try after [`Error::NotFinite`].
    ///
    /// # Errors
    ///
    /// If `scale` is not finite and above 0.
    pub fn set_lr_scale(&mut self, scale: f64) -> Result<()> {
        if !(scale.is_finite() && scale > 0.0) {
            return Err(Error::Setting { name: "lr_scale", value: scale, expected: "a finite number above 0" });
        }
        self.lr_scale = scale;
        Ok(())
    }

    fn after_step(&mut self, ids: &[u32], hypers: &Hypers, handlers: &mut [&mut dyn Handler]) -> Result<Flow> {
        let mut step = Step { position: self.position, ids, hypers, losses: &mut self.train_loss };
        let mut wishes = Wishes::default();
        for handler in handlers.iter_mut() {
            wishes.add(handler.on_step(&mut step)?);
        }
        if wishes.ends_phase && wishes.flow == Flow::Stop {
            // Who goes on begins with the next phase.
            self.next_phase();
        }
        self.offer_checkpoint(Moment::Step, handlers)?;
        Ok(wishes.flow)
    }

    /// Validates, records, and moves on to the next epoch or phase.
    fn end_epoch(&mut self, phase: &Phase, schedule: &Schedule, handlers: &mut [&mut dyn Handler]) -> Result<Flow> {
        let ControlFlow::Continue(wishes) = self.averaged(|learner| learner.judge_epoch(phase, schedule, handlers))?
        else {
            // The epoch is trained and not yet judged, so that going on begins with its validation.
            self.offer_checkpoint(Moment::Step, handlers)?;
            return Ok(Flow::Stop);
        };
        (self.position.epoch, self.position.step) = (self.position.epoch + 1, 0);
        self.position.epochs_done += 1;
        if wishes.ends_phase || self.position.epoch >= phase.epochs {
            self.next_phase();
        }
        self.offer_checkpoint(Moment::Epoch, handlers)?;
        Ok(wishes.flow)
    }

    /// Validates and records; a break if a handler wants to stop before that is done.
    fn judge_epoch(
        &mut self,
        phase: &Phase,
        schedule: &Schedule,
        handlers: &mut [&mut dyn Handler],
    ) -> Result<ControlFlow<(), Wishes>> {
        let left_out = !self.is_validated(phase);
        let validated = if left_out { ControlFlow::Continue(None) } else { self.validate(handlers)? };
        let ControlFlow::Continue(evaluation) = validated else { return Ok(ControlFlow::Break(())) };
        let record = self.record(schedule, evaluation.as_ref())?;
        self.history.push(record.clone());
        let model = &mut self.model;
        let mut end = EpochEnd { record: &record, evaluation: evaluation.as_ref(), left_out, model };
        let mut wishes = Wishes::default();
        for handler in handlers.iter_mut() {
            wishes.add(handler.on_epoch_end(&mut end)?);
        }
        Ok(ControlFlow::Continue(wishes))
    }

    fn record(&mut self, schedule: &Schedule, evaluation: Option<&Evaluation>) -> Result<EpochRecord> {
        let Hypers { lr, momentum } = self.hypers(schedule, self.step_of_phase().saturating_sub(1));
        let Position { phase, epoch, steps_done, .. } = self.position;
        let train_loss = self.train_loss.smooth()?.value().map_or(f64::NAN, f64::from);
        let val_loss = evaluation.map_or(f64::NAN, |e| e.loss);
        tracing::info!(phase, epoch, train_loss, val_loss, "epoch");
        let metrics = evaluation.map_or(&[][..], |e| &e.metrics);
        let metrics = metrics.iter().map(|(name, value)| (name.clone(), Score(*value))).collect();
        Ok(EpochRecord { phase, epoch, step: steps_done, lr, momentum, train_loss, val_loss, metrics })
    }

    fn step_of_phase(&self) -> usize {
        self.position.epoch * self.batches.steps_per_epoch() + self.position.step
    }

    fn next_phase(&mut self) {
        self.position = Position {
            phase: self.position.phase + 1,
            // An epoch that was cut short has used its draws.
            epochs_done: self.position.epochs_done + u32::from(self.position.step > 0),
            steps_done: self.position.steps_done,
            ..Position::default()
        };
    }

    /// Freezes all groups but the last, the head.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn freeze(&mut self) -> Result<()> {
        self.freeze_to(self.model.parameters().n_groups().saturating_sub(1))
    }

    /// Trains all groups.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn unfreeze(&mut self) -> Result<()> {
        self.freeze_to(0)
    }

    /// Freezes the groups below `group`. As in fastai their norms are still trained, and the optimizer forgets its
    /// moments and steps.
    ///
    /// # Errors
    ///
    /// If there is no such group, or the device fails.
    pub fn freeze_to(&mut self, group: usize) -> Result<()> {
        self.set_frozen(group)?;
        Ok(self.optimizer.reset()?)
    }

    fn set_frozen(&mut self, group: usize) -> Result<()> {
        let n_groups = self.model.parameters().n_groups();
        if group > 0 && group >= n_groups {
            return Err(Error::NoSuchGroup { group, n_groups });
        }
        self.model.set_trainable(&|entry| entry.group >= group || entry.norm)?;
        self.frozen_groups = group;
        Ok(())
    }

    /// Smoothed losses at growing learning rates, fastai's `lr_find`; nothing of the learner has changed afterwards.
    ///
    /// # Errors
    ///
    /// If the settings are not possible, or training fails; then too everything is put back.
    pub fn lr_find(&mut self, config: &LrFindConfig) -> Result<LrCurve> {
        finder::lr_find(self, config)
    }

    /// The state between two steps, without that of handlers.
    ///
    /// # Errors
    ///
    /// If memory runs out.
    pub fn checkpoint(&mut self) -> Result<Checkpoint> {
        state::checkpoint(self)
    }

    /// Goes to the state of a checkpoint of the same model, data, seed and batch size; [`Learner::resume`] trains on.
    ///
    /// # Errors
    ///
    /// [`Error::CheckpointMismatch`] if it is of another run, or another model.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        state::restore(self, checkpoint)
    }

    fn offer_checkpoint(&mut self, moment: Moment, handlers: &mut [&mut dyn Handler]) -> Result<()> {
        // Each is asked, also when another one has said yes.
        let mut wanted = false;
        for handler in handlers.iter_mut() {
            wanted |= handler.wants_checkpoint(moment, &self.position)?;
        }
        if !wanted {
            return Ok(());
        }
        let mut checkpoint = self.checkpoint()?;
        if let Some(name) = checkpoint.weights.not_finite()? {
            // Before a step that is not finite, it is that step that is told of.
            let place = BadPlace::Weight { name: name.to_owned() };
            let (step, epoch) = (self.position.steps_done.saturating_sub(1), self.position.epochs_done);
            let bad = NotFinite { step, epoch, place, ids: Vec::new(), names: Vec::new() };
            return if moment == Moment::NotFinite { Ok(()) } else { Err(Error::NotFinite(Box::new(bad))) };
        }
        let states = handlers.iter().filter_map(|h| Some((h.name().to_owned(), to_raw_value(&h.state()?).ok()?)));
        checkpoint.record.handlers = states.collect();
        handlers.iter_mut().try_for_each(|handler| handler.on_checkpoint(moment, &checkpoint))
    }

    /// A copy of the model's tensors, which training goes on with.
    ///
    /// # Errors
    ///
    /// If memory runs out.
    pub fn weights(&mut self) -> Result<Weights> {
        Weights::of(&mut self.model)
    }

    /// Overwrites the model's tensors; the optimizer stays as it is, and an average of the weights begins anew.
    ///
    /// # Errors
    ///
    /// If they are those of another model.
    pub fn load_weights(&mut self, weights: &Weights) -> Result<()> {
        self.model.load_tensors(weights.tensors())?;
        self.ema = self.config.ema.map(Ema::new).transpose()?;
        Ok(())
    }

    /// Makes the average of the weights, where there is one, the weights of the model: at the end of training, since the
    /// optimizer knows nothing of it. A later step begins a new average.
    ///
    /// # Errors
    ///
    /// If memory runs out.
    pub fn adopt_average(&mut self) -> Result<()> {
        if let Some(mut ema) = self.ema.take() {
            ema.swap(&mut self.model)?;
            self.ema = Some(Ema::new(ema.decay())?);
        }
        Ok(())
    }

    /// The epochs so far, over all fits.
    #[must_use]
    pub fn history(&self) -> &[EpochRecord] {
        &self.history
    }

    /// Where training is.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The batches.
    #[must_use]
    pub fn batches(&self) -> &Batches {
        &self.batches
    }

    /// What it minimises and measures.
    #[must_use]
    pub fn config(&self) -> &LearnerConfig {
        &self.config
    }

    /// The optimizer.
    #[must_use]
    pub fn optimizer(&self) -> &Adam {
        &self.optimizer
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The model, to run by hand.
    pub fn model_mut(&mut self) -> &mut M {
        &mut self.model
    }

    /// The model, trained.
    #[must_use]
    pub fn into_model(self) -> M {
        self.model
    }
}

#[cfg(test)]
mod tests;
