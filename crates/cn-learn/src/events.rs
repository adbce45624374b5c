//! What hangs on the training loop: progress, history, stopping, saving.

use crate::train_loss::TrainLoss;
use crate::{Checkpoint, EpochRecord, Evaluation, Hypers, NotFinite, Phase, Position, Result, Weights};
use cn_ops::Model;
use serde_json::Value;
use std::fmt;

/// What a handler wants to happen next; of several handlers the strongest wish counts. A phase that one wants to end is
/// over also where another one stops the fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    /// Go on.
    #[default]
    Continue,
    /// End this phase, go on with the next one.
    EndPhase,
    /// End the fit here; [`crate::Learner::resume`] can continue it.
    Stop,
}

/// What all handlers together want to happen next.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wishes {
    /// The strongest wish.
    pub(crate) flow: Flow,
    /// Whether one wants the phase to end, also where another one wants the fit to.
    pub(crate) ends_phase: bool,
}

impl Wishes {
    pub(crate) fn add(&mut self, flow: Flow) {
        self.flow = self.flow.max(flow);
        self.ends_phase |= flow == Flow::EndPhase;
    }
}

/// When a checkpoint can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// After an optimizer step.
    Step,
    /// After an epoch with its validation.
    Epoch,
    /// Before the step at which the fit ends with [`crate::Error::NotFinite`].
    NotFinite,
}

/// The start of a fit, or its continuation.
#[derive(Clone, Copy, Debug)]
pub struct FitStart<'a> {
    /// All phases of the fit.
    pub phases: &'a [Phase],
    /// Where it begins: beyond the start when it is continued.
    pub position: Position,
    /// Training steps an epoch.
    pub steps_per_epoch: usize,
    /// Images a training batch.
    pub batch_size: usize,
    /// Images of the validation part.
    pub n_val: usize,
}

/// The start of a phase.
#[derive(Clone, Copy, Debug)]
pub struct PhaseStart<'a> {
    /// Index of the phase.
    pub index: usize,
    /// The phase.
    pub phase: &'a Phase,
}

/// A training step that is done.
pub struct Step<'a> {
    /// Where the learner is now, after the step.
    pub position: Position,
    /// Images of its batch.
    pub ids: &'a [u32],
    /// Rates and momentum that it used.
    pub hypers: &'a Hypers,
    pub(crate) losses: &'a mut TrainLoss,
}

impl Step<'_> {
    /// The loss of the last step that was taken, before its update. On an accelerator this waits for the device.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn loss(&mut self) -> Result<f32> {
        self.losses.last()
    }

    /// The smoothed loss, fastai's `train_loss`. On an accelerator this waits for the device.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn smooth_loss(&mut self) -> Result<f32> {
        Ok(self.losses.smooth()?.value().unwrap_or(f32::NAN))
    }
}

impl fmt::Debug for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("position", &self.position).field("hypers", self.hypers).finish_non_exhaustive()
    }
}

/// A validation batch that is done.
#[derive(Clone, Copy, Debug)]
pub struct Validated {
    /// Images done so far.
    pub n_done: usize,
    /// Images in all.
    pub n_images: usize,
}

/// The end of an epoch, after its validation.
pub struct EpochEnd<'a> {
    /// Its numbers.
    pub record: &'a EpochRecord,
    /// Predictions on the validation part, if there is one.
    pub evaluation: Option<&'a Evaluation>,
    pub(crate) left_out: bool,
    pub(crate) model: &'a mut dyn Model,
}

impl EpochEnd<'_> {
    /// Whether [`LearnerConfig::validate_every`](crate::LearnerConfig) left the validation of this epoch out.
    #[must_use]
    pub fn is_left_out(&self) -> bool {
        self.left_out
    }

    /// A copy of all parameters and buffers, on the host.
    ///
    /// # Errors
    ///
    /// If memory runs out.
    pub fn weights(&mut self) -> Result<Weights> {
        Weights::of(self.model)
    }
}

impl fmt::Debug for EpochEnd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochEnd").field("record", self.record).finish_non_exhaustive()
    }
}

/// Something that watches training, and may end it.
///
/// Handlers are called in the order in which they were given, on the thread that trains. Every method has a default
/// that does nothing.
pub trait Handler {
    /// Its name, the key of its state in checkpoints.
    fn name(&self) -> &'static str;

    /// Before everything else.
    ///
    /// # Errors
    ///
    /// An error ends the fit; so it does in all methods.
    fn on_fit_start(&mut self, fit: &FitStart<'_>) -> Result<()> {
        let _ = fit;
        Ok(())
    }

    /// Before the first epoch of a phase; not when a phase is continued.
    ///
    /// # Errors
    ///
    /// Ends the fit.
    fn on_phase_start(&mut self, phase: &PhaseStart<'_>) -> Result<()> {
        let _ = phase;
        Ok(())
    }

    /// Before the first step of an epoch, or the first one after continuing.
    ///
    /// # Errors
    ///
    /// Ends the fit.
    fn on_epoch_start(&mut self, position: &Position) -> Result<()> {
        let _ = position;
        Ok(())
    }

    /// After each optimizer step, or one that was left out.
    ///
    /// # Errors
    ///
    /// Ends the fit.
    fn on_step(&mut self, step: &mut Step<'_>) -> Result<Flow> {
        let _ = step;
        Ok(Flow::Continue)
    }

    /// When a step is left out under [`crate::OnNan::Skip`]; [`Handler::on_step`] follows.
    ///
    /// # Errors
    ///
    /// Ends the fit.
    fn on_skipped(&mut self, step: &NotFinite) -> Result<()> {
        let _ = step;
        Ok(())
    }

    /// After each batch of the validation. [`Flow::Stop`] leaves it at once, and a fit that goes on begins it anew;
    /// [`Flow::EndPhase`] has its place after the epoch and does nothing here.
    ///
    /// # Errors
    ///
    /// Ends the fit.
    fn on_validate(&mut self, validated: &Validated) -> Result<Flow> {
        let _ = validated;
        Ok(Flow::Continue)
    }

    /// After each epoch and its validation.
    ///
    /// # Errors
    ///
    /// Ends the fit.
    fn on_epoch_end(&mut self, epoch: &mut EpochEnd<'_>) -> Result<Flow> {
        let _ = epoch;
        Ok(Flow::Continue)
    }

    /// After everything else, also after [`Flow::Stop`]; not after an error.
    ///
    /// # Errors
    ///
    /// The fit returns it.
    fn on_fit_end(&mut self, position: &Position) -> Result<()> {
        let _ = position;
        Ok(())
    }

    /// Whether a checkpoint should be taken now. If one handler wants it, all get it.
    ///
    /// # Errors
    ///
    /// Ends the fit.
    fn wants_checkpoint(&mut self, moment: Moment, position: &Position) -> Result<bool> {
        let _ = (moment, position);
        Ok(false)
    }

    /// Receives a checkpoint. It is a copy that another thread may write while training goes on.
    ///
    /// # Errors
    ///
    /// Ends the fit.
    fn on_checkpoint(&mut self, moment: Moment, checkpoint: &Checkpoint) -> Result<()> {
        let _ = (moment, checkpoint);
        Ok(())
    }

    /// What it must remember over a restart, if anything.
    fn state(&self) -> Option<Value> {
        None
    }

    /// Continues from what [`Handler::state`] gave, as JSON, which may come from strangers.
    ///
    /// # Errors
    ///
    /// If the state is not one of its own.
    fn restore(&mut self, state: &str) -> Result<()> {
        let _ = state;
        Ok(())
    }
}
