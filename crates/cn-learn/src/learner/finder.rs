//! The learning-rate finder on a real model.

use super::Learner;
use crate::lr_find::Tracer;
use crate::train_loss::TrainLoss;
use crate::{Hypers, LrCurve, LrFindConfig, Result};
use cn_ops::Model;
use std::ops::ControlFlow;

pub(super) fn lr_find<M: Model>(learner: &mut Learner<M>, config: &LrFindConfig) -> Result<LrCurve> {
    config.check()?;
    let kept = learner.checkpoint()?;
    let losses = std::mem::take(&mut learner.train_loss);
    let ema = learner.ema.take();
    let curve = trace(learner, config);
    let restored = put_back(learner, &kept);
    (learner.train_loss, learner.ema) = (losses, ema);
    restored.and(curve)
}

/// Trains with the momentum and the freezing that the learner has, into further epochs if one is too short.
fn trace<M: Model>(learner: &mut Learner<M>, config: &LrFindConfig) -> Result<LrCurve> {
    let n_groups = learner.model.parameters().n_groups();
    let mut tracer = Tracer::new(*config);
    loop {
        let mut batches = learner.feed(learner.position.epochs_done, 0)?;
        while let Some(batch) = batches.next()? {
            let Some(lr) = tracer.next_lr() else { return Ok(tracer.finish()) };
            learner.train_loss = TrainLoss::default();
            let hypers = Hypers { lr: vec![lr; n_groups], momentum: learner.momentum };
            let loss = match learner.train_step(&batch, &hypers)? {
                ControlFlow::Continue(()) => learner.train_loss.last()?,
                ControlFlow::Break(_) => f32::NAN,
            };
            if !tracer.add(loss) {
                return Ok(tracer.finish());
            }
            batches.give_back(batch);
        }
        learner.position.epochs_done += 1;
    }
}

fn put_back<M: Model>(learner: &mut Learner<M>, kept: &crate::Checkpoint) -> Result<()> {
    learner.load_weights(&kept.weights)?;
    let [m, v] = &kept.adam;
    learner.optimizer.load(m, v, &kept.record.adam_steps)?;
    learner.position = kept.record.position;
    learner.momentum = kept.record.momentum;
    learner.skipped = kept.record.skipped;
    Ok(())
}
