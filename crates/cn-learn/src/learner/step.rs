//! One training step.

use super::feed::Fed;
use super::{Learner, guard};
use crate::evaluation::check_outputs;
use crate::{Error, Hypers, NotFinite, Result};
use candle_core::Tensor;
use cn_ops::{Buffers, Draw, Hyper, Mode, Model, StepEnd, TrainStep};
use std::ops::ControlFlow;

impl<M: Model> Learner<M> {
    /// Forward, loss, backward, update; the update is left out if a number is none.
    pub(super) fn train_step(&mut self, batch: &Fed, hypers: &Hypers) -> Result<ControlFlow<NotFinite>> {
        let draw = Draw { seed: self.batches.seed(), epoch: self.position.epochs_done, ids: batch.ids() };
        let mode = Mode::Train(draw);
        if let Some(images) = self.resident.images(batch)? {
            let hyper = Hyper { lr: &hypers.lr, beta1: hypers.momentum };
            let (targets, loss) = (batch.targets(), self.config.loss);
            match self.model.train_step(&TrainStep { images, targets, draw, loss, hyper }, &mut self.optimizer)? {
                Some(StepEnd::Updated(loss)) => return self.updated(hypers, loss),
                Some(StepEnd::NotFinite) => return Ok(ControlFlow::Break(guard::refuse_whole(self, batch, mode)?)),
                None => {}
            }
        }
        let before = Buffers::of(&mut self.model)?;
        let step = self.train_step_here(batch, hypers, mode, &before);
        if step.as_ref().is_err_and(Error::is_interruption) {
            before.put_back(&mut self.model)?;
        }
        step
    }

    /// The same on the CPU, layer by layer.
    fn train_step_here(
        &mut self,
        batch: &Fed,
        hypers: &Hypers,
        mode: Mode<'_>,
        before: &Buffers,
    ) -> Result<ControlFlow<NotFinite>> {
        let logits = self.model.forward(&batch.here(&self.batches)?, mode)?;
        check_outputs(&logits, self.batches.source().n_classes())?;
        let (loss, d_logits) = self.config.loss.compute(&logits, batch.targets())?;
        if !guard::is_finite(&loss)? || Buffers::of(&mut self.model)?.not_finite()?.is_some() {
            return Ok(ControlFlow::Break(guard::refuse(self, batch, mode, None, before)?));
        }
        self.model.parameters().zero_grads()?;
        self.model.backward(&d_logits)?;
        if let Some(entry) = self.model.parameters().not_finite_grad()? {
            let name = entry.name.clone();
            return Ok(ControlFlow::Break(guard::refuse(self, batch, mode, Some(name), before)?));
        }
        self.optimizer.step(self.model.parameters(), &Hyper { lr: &hypers.lr, beta1: hypers.momentum })?;
        self.updated(hypers, loss)
    }

    /// Notes a step that was taken.
    fn updated(&mut self, hypers: &Hypers, loss: Tensor) -> Result<ControlFlow<NotFinite>> {
        self.momentum = hypers.momentum;
        self.skipped = 0;
        if let Some(ema) = &mut self.ema {
            ema.update(&mut self.model)?;
        }
        self.train_loss.add(loss)?;
        Ok(ControlFlow::Continue(()))
    }
}
