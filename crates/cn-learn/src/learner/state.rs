//! A learner as a checkpoint, and back.

use super::Learner;
use crate::checkpoint::{EmaState, Record, expect};
use crate::train_loss::TrainLoss;
use crate::weights::host_copy;
use crate::{Checkpoint, Error, Phase, Position, Result, Weights};
use candle_core::{DType, Tensor};
use cn_ops::Model;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// Adam counts its steps in 32 bits.
const MAX_STEPS: u64 = 1 << 31;

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
        left_out: learner.left_out,
        ema: learner.ema.as_ref().map(|ema| EmaState { decay: ema.decay(), updates: ema.updates() }),
        adam_steps: learner.optimizer.steps().to_vec(),
        train_loss: learner.train_loss.smooth()?,
        history: learner.history.clone(),
        handlers: BTreeMap::new(),
        extra: Value::Null,
    };
    let adam = [host_copy(learner.optimizer.m())?, host_copy(learner.optimizer.v())?];
    Ok(Checkpoint { weights: learner.weights()?, average: average(learner)?, adam, record })
}

/// A copy of the average of the weights, once there is one.
fn average<M: Model>(learner: &mut Learner<M>) -> Result<Option<Weights>> {
    let Some(ema) = &learner.ema else { return Ok(None) };
    ema.named_tensors(&mut learner.model)?.map(Weights::copy).transpose()
}

/// Checks everything before it changes anything.
pub(super) fn restore<M: Model>(learner: &mut Learner<M>, checkpoint: &Checkpoint) -> Result<()> {
    let record = &checkpoint.record;
    expect("the seed", &learner.batches.seed(), &record.seed)?;
    expect("the number of training images", &learner.batches.source().n_train(), &record.n_train)?;
    expect("the batch size", &learner.batches.config().batch_size, &record.batch_size)?;
    let own = learner.model.named_tensors()?;
    expect_kinds("the set of tensors", &own, checkpoint.weights.tensors())?;
    if learner.config.ema != checkpoint.ema() {
        let [expected, found] = [learner.config.ema, checkpoint.ema()].map(|decay| match decay {
            Some(decay) => decay.to_string(),
            None => "none".to_owned(),
        });
        return Err(Error::CheckpointMismatch { what: "the decay of the average", found, expected });
    }
    let averaged = checkpoint.average.as_ref().map_or(&[][..], Weights::tensors);
    if record.ema.is_some_and(|ema| ema.updates > 0) {
        expect_kinds("the set of averages", &own, averaged)?;
    }
    for moments in &checkpoint.adam {
        expect("the kind of Adam's moments", &kind(learner.optimizer.m()), &kind(moments))?;
    }
    expect("the number of Adam's counters", &learner.optimizer.steps().len(), &record.adam_steps.len())?;
    let second = &checkpoint.adam[1];
    if second.elem_count() > 0 && second.min_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()? < 0.0 {
        return Err(mismatch("Adam's second moments", "means of squares", &format_args!("numbers below 0")));
    }
    check(record, learner.batches.steps_per_epoch())?;
    let n_groups = learner.model.parameters().n_groups();
    if record.frozen_groups > 0 && record.frozen_groups >= n_groups {
        return Err(mismatch("the number of frozen groups", &format!("below {n_groups}"), &record.frozen_groups));
    }
    if let Some(name) = checkpoint.not_finite()? {
        return Err(mismatch("a tensor", "finite numbers", &format_args!("`{name}` with NaN or infinity")));
    }

    learner.set_frozen(record.frozen_groups)?;
    learner.load_weights(&checkpoint.weights)?;
    if let (Some(ema), Some(state)) = (&mut learner.ema, record.ema.filter(|ema| ema.updates > 0)) {
        ema.load(&mut learner.model, state.updates, averaged)?;
    }
    let [m, v] = &checkpoint.adam;
    learner.optimizer.load(m, v, &record.adam_steps)?;
    learner.plan.clone_from(&record.plan);
    learner.position = record.position;
    learner.momentum = record.momentum;
    learner.lr_scale = record.lr_scale;
    (learner.skipped, learner.left_out) = (record.skipped, record.left_out);
    learner.train_loss = TrainLoss::resumed(record.train_loss);
    learner.history.clone_from(&record.history);
    learner.restored_handlers.clone_from(&record.handlers);
    Ok(())
}

/// Refuses what no run writes, since training would count on from it.
fn check(record: &Record, steps_per_epoch: usize) -> Result<()> {
    record.plan.iter().try_for_each(Phase::check)?;
    let Position { phase, epoch, step, epochs_done, steps_done, .. } = record.position;
    let reached = match record.plan.get(phase) {
        Some(phase) => epoch < phase.epochs && step <= steps_per_epoch,
        None => (phase, epoch, step) == (record.plan.len(), 0, 0),
    };
    let planned: u64 = record.plan.iter().map(|phase| phase.epochs as u64).sum();
    let countable = u64::from(epochs_done) + planned < u64::from(u32::MAX) && steps_done < MAX_STEPS;
    if !(reached && countable) {
        return Err(mismatch("the position", "one within the phases", &record.position));
    }
    let most = record.adam_steps.iter().map(|&n| n.into()).max().unwrap_or(0).max(record.train_loss.n_steps());
    let most = most.max(record.ema.map_or(0, |ema| ema.updates));
    if most > steps_done {
        return Err(mismatch("the number of steps", &format!("at least {most}, which others count"), &steps_done));
    }
    // The last group is trained in every phase: its counter has at least the steps of this one that were taken.
    let counted = u64::from(record.adam_steps.iter().copied().max().unwrap_or(0)).saturating_add(record.left_out);
    let in_phase = (epoch * steps_per_epoch + step) as u64;
    if record.position.phase_started && in_phase > counted {
        return Err(mismatch("the number of steps", &format!("at most {counted}, which Adam counts"), &in_phase));
    }
    if !(record.lr_scale.is_finite() && record.lr_scale > 0.0) {
        return Err(mismatch("the scale of the rates", "a finite number above 0", &record.lr_scale));
    }
    if !(0.0..1.0).contains(&record.momentum) {
        return Err(mismatch("the momentum", "0 up to, not with, 1", &record.momentum));
    }
    Ok(())
}

fn mismatch(what: &'static str, expected: &str, found: &impl Debug) -> Error {
    Error::CheckpointMismatch { what, found: format!("{found:?}"), expected: expected.into() }
}

fn kind(tensor: &Tensor) -> (DType, &[usize]) {
    (tensor.dtype(), tensor.dims())
}

/// Refuses tensors of other names, types or shapes, with the first one that differs.
fn expect_kinds(what: &'static str, own: &[(String, Tensor)], found: &[(String, Tensor)]) -> Result<()> {
    let kinds = |tensors| -> BTreeMap<&str, _> {
        let tensors: &[(String, Tensor)] = tensors;
        tensors.iter().map(|(name, tensor)| (name.as_str(), kind(tensor))).collect()
    };
    let (own, found) = (kinds(own), kinds(found));
    let names = own.keys().chain(found.keys());
    let Some(name) = names.into_iter().find(|name| own.get(*name) != found.get(*name)) else { return Ok(()) };
    let show = |kinds: &BTreeMap<&str, (DType, &[usize])>| {
        kinds.get(name).map(|(dtype, shape)| format!("`{name}` of {dtype:?} {shape:?}"))
    };
    let found = show(&found).unwrap_or_else(|| format!("one without `{name}`"));
    Err(Error::CheckpointMismatch { what, found, expected: show(&own).unwrap_or_else(|| "none of this name".into()) })
}
