//! What a learner's model says, and how well.

use super::{Learner, Phase};
use crate::evaluation::{Judge, decode, evaluate};
use crate::predictor::predict;
use crate::{Evaluation, Flow, Handler, Predictions, Result};
use cn_augment::Image;
use cn_ops::Model;
use std::ops::ControlFlow;

impl<M: Model> Learner<M> {
    /// Whether the epoch that was just trained is to be validated.
    pub(super) fn is_validated(&self, phase: &Phase) -> bool {
        let done = self.position.epoch + 1;
        done >= phase.epochs || done.is_multiple_of(self.config.validate_every.get())
    }

    /// Loss, metrics and predictions on the validation part.
    ///
    /// # Errors
    ///
    /// [`crate::Error::NoImages`] if it is empty, or if the model or the data fail.
    pub fn evaluate(&mut self) -> Result<Evaluation> {
        let ids = self.batches.source().val_ids().to_vec();
        self.evaluate_ids(&ids)
    }

    /// Loss, metrics and predictions on these images, in this order.
    ///
    /// # Errors
    ///
    /// As [`Learner::evaluate`].
    pub fn evaluate_ids(&mut self, ids: &[u32]) -> Result<Evaluation> {
        let judge = Judge { loss: self.config.loss, metrics: &self.config.metrics };
        let go_on = &mut |_| Ok(ControlFlow::Continue(()));
        Ok(evaluate(&mut self.model, &self.batches, judge, ids, go_on)?.expect("nobody asked to stop"))
    }

    /// What the model says about images that need not belong to the data, in this order.
    ///
    /// # Errors
    ///
    /// [`crate::Error::NoImages`] for none, or if the model fails.
    pub fn predict(&mut self, images: &[Image<'_>]) -> Result<Predictions> {
        let batches = images.chunks(self.batches.config().eval_batch_size).map(|images| self.batches.of_images(images));
        predict(&mut self.model, batches, decode(self.config.loss))
    }

    /// The evaluation, `None` without images; a break if a handler wants to stop before its end.
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
        let evaluation = match evaluate(&mut self.model, &self.batches, judge, &ids, &mut tell) {
            Err(error) if error.is_interruption() => return Ok(ControlFlow::Break(())),
            evaluation => evaluation?,
        };
        Ok(evaluation.map_or(ControlFlow::Break(()), |evaluation| ControlFlow::Continue(Some(evaluation))))
    }
}
