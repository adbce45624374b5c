//! Phases that end before their time.

use super::*;

#[test]
fn early_stopping_ends_the_phase_and_the_next_one_follows() -> Result<()> {
    let mut learner = learner()?;
    let mut stop = EarlyStopping::new(Monitor::new("val_loss").min_delta(100.0), 2);
    let phases = [Phase::one_cycle(8, Rates::Uniform(1e-3)), Phase::one_cycle(8, Rates::Uniform(1e-3))];
    assert_eq!(learner.fit(&phases, &mut [&mut stop])?, Outcome::Finished);
    let epochs: Vec<_> = learner.history().iter().map(|r| (r.phase, r.epoch)).collect();
    assert_eq!(epochs, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
    assert_eq!(learner.position().epochs_done, 6);
    Ok(())
}

/// Asks for this at the end of an epoch, or after a step.
struct Asks {
    after: After,
    flow: Flow,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum After {
    Step(u64),
    Epoch(u64),
}

impl Asks {
    fn at(&self, done: After) -> Result<Flow> {
        Ok(if done == self.after { self.flow } else { Flow::Continue })
    }
}

impl Handler for Asks {
    fn name(&self) -> &'static str {
        "asks"
    }
    fn on_step(&mut self, step: &mut Step<'_>) -> Result<Flow> {
        self.at(After::Step(step.position.steps_done))
    }
    fn on_epoch_end(&mut self, end: &mut EpochEnd<'_>) -> Result<Flow> {
        self.at(After::Epoch(end.record.step))
    }
}

#[test]
fn a_stop_where_a_phase_ends_early_ends_it_too() -> Result<()> {
    let phases = [Phase::one_cycle(3, Rates::Uniform(1e-3)), Phase::one_cycle(1, Rates::Uniform(1e-3))];
    for after in [After::Epoch(6), After::Step(8)] {
        let ends = || Asks { after, flow: Flow::EndPhase };
        let mut never = learner()?;
        never.fit(&phases, &mut [&mut ends()])?;
        let want = bits(&mut never)?;
        for stop_first in [false, true] {
            let (mut stopped, mut stop) = (learner()?, Asks { after, flow: Flow::Stop });
            let mut log = Log { keep: true, ..Log::default() };
            let mut end = ends();
            let [a, b]: [&mut dyn Handler; 2] = if stop_first { [&mut stop, &mut end] } else { [&mut end, &mut stop] };
            assert_eq!(stopped.fit(&phases, &mut [a, b, &mut log])?, Outcome::Stopped);
            let mut resumed = learner()?;
            resumed.restore(log.checkpoints.last().expect("one at the stop"))?;
            resumed.resume(&mut [&mut ends()])?;
            stopped.resume(&mut [&mut ends()])?;
            assert_eq!(bits(&mut resumed)?, want, "{after:?} {stop_first}");
            assert_eq!(bits(&mut stopped)?, want, "{after:?} {stop_first}");
        }
    }
    Ok(())
}

#[test]
fn epochs_without_validation_train_the_same_and_are_not_waited_for() -> Result<()> {
    let fit = |every: usize, patience| {
        let validate_every = NonZeroUsize::new(every).expect("not 0");
        let config = LearnerConfig { validate_every, ..LearnerConfig::multi_label(0.5) };
        let mut learner = Learner::new(network()?, batches(8, SEED)?, config)?;
        let mut stop = EarlyStopping::new(Monitor::new("exact_match").min_delta(2.0), patience);
        let mut best = SaveBest::in_memory(Monitor::new("exact_match"));
        learner.fit_one_cycle(8, Rates::Uniform(1e-2), &mut [&mut stop, &mut best])?;
        let judged = learner.history().iter().filter(|r| !r.val_loss.is_nan()).map(|r| r.epoch).collect::<Vec<_>>();
        Ok::<_, Error>((judged, learner.checkpoint()?.weights))
    };
    let ((every, all), (some, left_out)) = (fit(1, 9)?, fit(3, 9)?);
    assert_eq!((every.len(), some), (8, vec![2, 5, 7]));
    for ((name, a), (_, b)) in all.tensors().iter().zip(left_out.tensors()) {
        let bits = |t: &Tensor| t.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();
        assert_eq!(bits(a)?, bits(b)?, "{name}");
    }
    // Two validations that bring nothing after the first one.
    assert_eq!(fit(2, 2)?.0, [1, 3, 5]);
    Ok(())
}
