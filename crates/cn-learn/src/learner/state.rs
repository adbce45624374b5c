//! A learner as a checkpoint, and back.

use super::Learner;
use crate::checkpoint::{Record, expect};
use crate::train_loss::TrainLoss;
use crate::weights::host_copy;
use crate::{Checkpoint, Result};
use candle_core::Tensor;
use cn_ops::Model;
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) fn checkpoint<M: Model>(learner: &mut Learner<M>) -> Result<Checkpoint> {
    learner.model.settle(&mut learner.optimizer)?;
    let record = Record {
        format: Record::FORMAT,
        seed: learner.batches.seed(),
        n_train: learner.batches.source().n_train(),
        batch_size: learner.batches.config().batch_size,
        plan: learner.plan.clone(),
        position: learner.position,
        frozen_groups: learner.frozen_groups,
        momentum: learner.momentum,
        lr_scale: learner.lr_scale,
        skipped: learner.skipped,
        adam_steps: learner.optimizer.steps().to_vec(),
        train_loss: learner.train_loss.smooth()?,
        history: learner.history.clone(),
        handlers: BTreeMap::new(),
        extra: Value::Null,
    };
    let adam = [host_copy(learner.optimizer.m())?, host_copy(learner.optimizer.v())?];
    Ok(Checkpoint { weights: learner.weights()?, adam, record })
}

/// Checks everything before it changes anything.
pub(super) fn restore<M: Model>(learner: &mut Learner<M>, checkpoint: &Checkpoint) -> Result<()> {
    let record = &checkpoint.record;
    expect("the seed", &learner.batches.seed(), &record.seed)?;
    expect("the number of training images", &learner.batches.source().n_train(), &record.n_train)?;
    expect("the batch size", &learner.batches.config().batch_size, &record.batch_size)?;
    expect("the set of tensors", &shapes(&learner.model.named_tensors()?), &shapes(checkpoint.weights.tensors()))?;
    expect("the number of Adam's moments", &learner.optimizer.m().dims(), &checkpoint.adam[0].dims())?;
    expect("the number of Adam's counters", &learner.optimizer.steps().len(), &record.adam_steps.len())?;

    learner.set_frozen(record.frozen_groups)?;
    learner.load_weights(&checkpoint.weights)?;
    let [m, v] = &checkpoint.adam;
    learner.optimizer.load(m, v, &record.adam_steps)?;
    learner.plan.clone_from(&record.plan);
    learner.position = record.position;
    learner.momentum = record.momentum;
    (learner.lr_scale, learner.skipped) = (record.lr_scale, record.skipped);
    learner.train_loss = TrainLoss::resumed(record.train_loss);
    learner.history.clone_from(&record.history);
    learner.restored_handlers.clone_from(&record.handlers);
    Ok(())
}

/// Names and shapes, in the order of names.
fn shapes(tensors: &[(String, Tensor)]) -> BTreeMap<&str, &[usize]> {
    tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.dims())).collect()
}
