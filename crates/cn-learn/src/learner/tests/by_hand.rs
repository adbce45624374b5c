//! The loop against one that is written out over `cn_ops`, bit for bit.

use super::*;
use crate::Batch;

/// `steps` steps of a phase, from the start of one of its epochs.
struct Stretch<'a> {
    phase: &'a Phase,
    epoch_of_phase: usize,
    /// What order, augmentation and dropout are keyed by.
    epoch: u32,
    steps: usize,
}

/// What training leaves: ids of its batches, and all tensors with Adam's moments as bits.
#[derive(Debug, PartialEq)]
struct Left {
    ids: Vec<Vec<u32>>,
    bits: Vec<Vec<u64>>,
}

impl Left {
    fn of(ids: Vec<Vec<u32>>, weights: &Weights, adam: &Adam) -> Result<Self> {
        let tensors = weights.tensors().iter().map(|(_, tensor)| tensor).chain([adam.m(), adam.v()]);
        let bits = tensors.map(|tensor| {
            let values: Vec<f64> = tensor.flatten_all()?.to_dtype(candle_core::DType::F64)?.to_vec1()?;
            Ok(values.into_iter().map(f64::to_bits).collect())
        });
        Ok(Self { ids, bits: bits.collect::<Result<_>>()? })
    }
}

fn by_hand(stretches: &[Stretch<'_>]) -> Result<Left> {
    let (mut model, batches) = (network()?, batches(8, SEED)?);
    let mut adam = Adam::new(model.parameters(), AdamConfig::default())?;
    let mut heard = Vec::new();
    for &Stretch { phase, epoch_of_phase, epoch, steps } in stretches {
        let schedule = phase.schedule(2, STEPS_PER_EPOCH);
        for (step, batch) in batches.train(epoch, 0)?.take(steps).enumerate() {
            let Batch { ids, images, targets } = batch?;
            let logits = model.forward(&images, Mode::Train(Draw { seed: SEED, epoch, ids: &ids }))?;
            let (_, d_logits) = Loss::Bce.compute(&logits, &targets)?;
            model.parameters().zero_grads()?;
            model.backward(&d_logits)?;
            let Hypers { lr, momentum } = schedule.at(epoch_of_phase * STEPS_PER_EPOCH + step);
            adam.step(model.parameters(), &Hyper { lr: &lr, beta1: momentum })?;
            heard.push(ids);
        }
    }
    Left::of(heard, &Weights::of(&mut model)?, &adam)
}

/// Writes down the ids, and answers `flow` after `steps` steps.
struct Ends {
    ids: Vec<Vec<u32>>,
    steps: u64,
    flow: Flow,
}

impl Ends {
    fn after(steps: u64, flow: Flow) -> Self {
        Self { ids: Vec::new(), steps, flow }
    }
}

impl Handler for Ends {
    fn name(&self) -> &'static str {
        "ends"
    }
    fn on_step(&mut self, step: &mut Step<'_>) -> Result<Flow> {
        self.ids.push(step.ids.to_vec());
        Ok(if step.position.steps_done == self.steps { self.flow } else { Flow::Continue })
    }
}

fn left_by(learner: &mut Learner<Network>, ids: Vec<Vec<u32>>) -> Result<Left> {
    let weights = learner.weights()?;
    Left::of(ids, &weights, learner.optimizer())
}

#[test]
fn two_epochs_are_the_loop_by_hand() -> Result<()> {
    let phase = Phase::one_cycle(2, Rates::Slice(1e-3, 1e-2));
    let (mut learner, mut all) = (learner()?, Ends::after(0, Flow::Continue));
    learner.fit(std::slice::from_ref(&phase), &mut [&mut all])?;
    let epoch = |epoch| Stretch { phase: &phase, epoch_of_phase: epoch as usize, epoch, steps: STEPS_PER_EPOCH };
    assert_eq!(left_by(&mut learner, all.ids)?, by_hand(&[epoch(0), epoch(1)])?);
    Ok(())
}

/// Three steps of a phase, then all of another, which must not draw as the first one did.
fn cut_short(phases: &[Phase; 2]) -> Result<Left> {
    let [first, second] = phases;
    by_hand(&[
        Stretch { phase: first, epoch_of_phase: 0, epoch: 0, steps: 3 },
        Stretch { phase: second, epoch_of_phase: 0, epoch: 1, steps: STEPS_PER_EPOCH },
    ])
}

#[test]
fn a_phase_that_ends_within_an_epoch_has_used_its_draws() -> Result<()> {
    let phases = [Phase::one_cycle(2, Rates::Uniform(1e-2)), Phase::one_cycle(1, Rates::Slice(1e-3, 1e-2))];
    let (mut learner, mut ends) = (learner()?, Ends::after(3, Flow::EndPhase));
    assert_eq!(learner.fit(&phases, &mut [&mut ends])?, Outcome::Finished);
    assert_eq!(learner.position().epochs_done, 2);
    assert_eq!(left_by(&mut learner, ends.ids)?, cut_short(&phases)?);
    Ok(())
}

#[test]
fn a_fit_that_stops_within_an_epoch_has_used_its_draws() -> Result<()> {
    let phases = [Phase::one_cycle(2, Rates::Uniform(1e-2)), Phase::one_cycle(1, Rates::Slice(1e-3, 1e-2))];
    let (mut learner, mut ends) = (learner()?, Ends::after(3, Flow::Stop));
    assert_eq!(learner.fit(&phases[..1], &mut [&mut ends])?, Outcome::Stopped);
    assert_eq!(learner.fit(&phases[1..], &mut [&mut ends])?, Outcome::Finished);
    assert_eq!(learner.position().epochs_done, 2);
    assert_eq!(left_by(&mut learner, ends.ids)?, cut_short(&phases)?);
    Ok(())
}
