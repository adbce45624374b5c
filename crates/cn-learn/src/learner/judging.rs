//! What a learner's model says, and how well.

use super::{Learner, Phase};
use crate::evaluation::{Judge, decode, evaluate};
use crate::predictor::predict;
use crate::{BadPlace, Error, Evaluation, Flow, Handler, NotFinite, Predictions, Result};
use cn_augment::Image;
use cn_ops::Model;
use std::ops::ControlFlow;

impl<M: Model> Learner<M> {
    /// Runs `f` with the average of the weights in place of the weights, where there is one.
    pub(super) fn averaged<R>(&mut self, f: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        self.swap_average()?;
        let found = f(self);
        self.swap_average()?;
        found
    }

    fn swap_average(&mut self) -> Result<()> {
        match &mut self.ema {
            Some(ema) => Ok(ema.swap(&mut self.model)?),
            None => Ok(()),
        }
    }

    /// Whether the epoch that was just trained is to be validated.
    pub(super) fn is_validated(&self, phase: &Phase) -> bool {
        let done = self.position.epoch + 1;
        done >= phase.epochs || done.is_multiple_of(self.config.validate_every.get())
    }

    /// Loss, metrics and predictions on the validation part, by the average of the weights where there is one.
    ///
    /// # Errors
    ///
    /// [`crate::Error::NoImages`] if it is empty, or if the model or the data fail.
    pub fn evaluate(&mut self) -> Result<Evaluation> {
        let ids = self.batches.source().val_ids().to_vec();
        self.evaluate_ids(&ids)
    }

    /// The same on these images, in this order.
    ///
    /// # Errors
    ///
    /// As [`Learner::evaluate`].
    pub fn evaluate_ids(&mut self, ids: &[u32]) -> Result<Evaluation> {
        let go_on = &mut |_| Ok(ControlFlow::Continue(()));
        self.averaged(|learner| {
            let judge = Judge { loss: learner.config.loss, metrics: &learner.config.metrics };
            Ok(evaluate(&mut learner.model, (&learner.batches, &mut learner.resident), judge, ids, go_on)?
                .expect("nobody asked to stop"))
        })
    }

    /// What the model, or the average of its weights, says about images that need not belong to the data, in this order.
    ///
    /// # Errors
    ///
    /// [`crate::Error::NoImages`] for none, or if the model fails.
    pub fn predict(&mut self, images: &[Image<'_>]) -> Result<Predictions> {
        self.averaged(|learner| {
            let chunks = images.chunks(learner.batches.config().eval_batch_size);
            let batches = chunks.map(|images| learner.batches.of_images(images));
            predict(&mut learner.model, batches, decode(learner.config.loss))
        })
    }

    /// The evaluation, `None` without images; a break if a handler wants to stop before its end;
    /// [`Error::NotFinite`] if its loss is.
    pub(super) fn validate(
        &mut self,
        handlers: &mut [&mut dyn Handler],
    ) -> Result<ControlFlow<(), Option<Evaluation>>> {
        let ids = self.batches.source().val_ids().to_vec();
        if ids.is_empty() {
            return Ok(ControlFlow::Continue(None));
        }
        let judge = Judge { loss: self.config.loss, metrics: &self.config.metrics };
        let mut tell = |validated| {
            let mut flow = Flow::Continue;
            for handler in handlers.iter_mut() {
                flow = flow.max(handler.on_validate(&validated)?);
            }
            Ok(if flow == Flow::Stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        let data = (&self.batches, &mut self.resident);
        let evaluation = match evaluate(&mut self.model, data, judge, &ids, &mut tell) {
            Err(error) if error.is_interruption() => return Ok(ControlFlow::Break(())),
            evaluation => evaluation?,
        };
        match evaluation {
            // Whatever is done about such steps: this model answers nothing, and no later step mends it.
            Some(evaluation) if !evaluation.loss.is_finite() => {
                Err(Error::NotFinite(Box::new(self.bad_validation(&evaluation, &ids))))
            }
            Some(evaluation) => Ok(ControlFlow::Continue(Some(evaluation))),
            None => Ok(ControlFlow::Break(())),
        }
    }

    fn bad_validation(&self, evaluation: &Evaluation, ids: &[u32]) -> NotFinite {
        let losses = evaluation.predictions.losses(&evaluation.targets);
        let bad: Vec<u32> =
            ids.iter().zip(&losses).filter_map(|(&id, loss)| (!loss.is_finite()).then_some(id)).collect();
        let ids = if bad.is_empty() { ids.to_vec() } else { bad };
        let names = ids.iter().map(|&id| self.batches.source().name(id)).collect();
        let (step, epoch) = (self.position.steps_done.saturating_sub(1), self.position.epochs_done);
        NotFinite { step, epoch, place: BadPlace::Validation, ids, names }
    }
}
