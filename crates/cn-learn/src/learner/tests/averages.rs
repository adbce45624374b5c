//! Averages of the weights, judged and saved in their place.

use super::*;

const DECAY: f64 = 0.8;

fn averaging() -> Result<Learner<Network>> {
    let config = LearnerConfig { ema: Some(DECAY), ..LearnerConfig::multi_label(0.5) };
    Learner::new(network()?, batches(8, SEED)?, config)
}

fn floats(weights: &Weights) -> Result<Vec<(String, Vec<f64>)>> {
    let of = |tensor: &Tensor| tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1();
    weights.tensors().iter().map(|(name, tensor)| Ok((name.clone(), of(tensor)?))).collect()
}

/// Keeps the weights of the model after each step, and those that epochs end with.
#[derive(Default)]
struct Weighed {
    steps: Vec<Weights>,
    epochs: Vec<Weights>,
}

impl Handler for Weighed {
    fn name(&self) -> &'static str {
        "weighed"
    }
    fn on_epoch_end(&mut self, end: &mut EpochEnd<'_>) -> Result<Flow> {
        self.epochs.push(end.weights()?);
        Ok(Flow::Continue)
    }
    fn wants_checkpoint(&mut self, moment: Moment, _: &Position) -> Result<bool> {
        Ok(moment == Moment::Step)
    }
    fn on_checkpoint(&mut self, _: Moment, checkpoint: &Checkpoint) -> Result<()> {
        self.steps.push(checkpoint.weights().clone());
        Ok(())
    }
}

#[test]
fn the_average_is_of_the_weights_after_each_step_and_is_what_is_judged() -> Result<()> {
    let (mut averaged, mut plain) = (averaging()?, learner()?);
    let mut weighed = Weighed::default();
    averaged.fit(&two_phases(), &mut [&mut weighed])?;
    plain.fit(&two_phases(), &mut [])?;
    let weights = averaged.weights()?;
    assert_eq!(floats(&weights)?, floats(&plain.weights()?)?, "training is the same");

    let mut expected = floats(&weighed.steps[0])?;
    for (n, weights) in weighed.steps.iter().enumerate().skip(1) {
        let decay = DECAY.min((1.0 + n as f64) / (10.0 + n as f64));
        for ((name, average), (_, now)) in expected.iter_mut().zip(floats(weights)?) {
            let decay = if name.ends_with("num_batches_tracked") { 0.0 } else { decay };
            average.iter_mut().zip(now).for_each(|(average, now)| *average = decay * *average + (1.0 - decay) * now);
        }
    }
    let checkpoint = averaged.checkpoint()?;
    let average = checkpoint.average().expect("twelve steps");
    for ((name, found), (_, expected)) in floats(average)?.iter().zip(&expected) {
        let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs().max(1.0));
        assert!(near, "{name}: {found:?}, expected {expected:?}");
    }
    assert_eq!(floats(&weighed.epochs[1])?, floats(average)?, "what handlers see at the end of an epoch");
    assert_ne!(floats(average)?, floats(&weights)?);

    // The model of the average by itself.
    plain.load_weights(average)?;
    let (by_average, history) = (plain.evaluate()?, averaged.history()[1].val_loss);
    assert_eq!([averaged.evaluate()?.loss, history], [by_average.loss; 2]);
    assert_eq!(floats(&averaged.weights()?)?, floats(&weights)?, "and training would go on with the weights");
    averaged.adopt_average()?;
    assert_eq!(floats(&averaged.weights()?)?, floats(average)?);
    assert_eq!(averaged.evaluate()?.loss, by_average.loss);
    Ok(())
}

#[test]
fn a_run_that_goes_on_has_the_same_average() -> Result<()> {
    let mut whole = averaging()?;
    let mut log = Log { keep: true, ..Log::default() };
    whole.fit(&two_phases(), &mut [&mut log])?;
    let want = bits(&mut whole)?;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("checkpoint.safetensors");
    for checkpoint in &log.checkpoints {
        checkpoint.write(&path)?;
        let mut resumed = averaging()?;
        resumed.restore(&Checkpoint::read(&path)?)?;
        resumed.resume(&mut [])?;
        assert_eq!(bits(&mut resumed)?, want, "from {:?}", checkpoint.position());
    }
    Ok(())
}

#[test]
fn a_validation_that_is_ended_leaves_the_weights_to_training() -> Result<()> {
    let mut never = averaging()?;
    never.fit(&two_phases(), &mut [])?;
    let mut stopped = averaging()?;
    let mut log = Log { stop_judging_after: Some(6), keep: true, ..Log::default() };
    assert_eq!(stopped.fit(&two_phases(), &mut [&mut log])?, Outcome::Stopped);
    assert_eq!(stopped.resume(&mut [])?, Outcome::Finished);
    assert_eq!(bits(&mut stopped)?, bits(&mut never)?);
    Ok(())
}

#[test]
fn the_finder_leaves_the_average_alone() -> Result<()> {
    let mut learner = averaging()?;
    learner.fit(&two_phases(), &mut [])?;
    let before = bits(&mut learner)?;
    learner.lr_find(&LrFindConfig { n_steps: 5, ..LrFindConfig::default() })?;
    assert_eq!(bits(&mut learner)?, before);
    Ok(())
}

#[test]
fn averages_that_do_not_fit_are_refused_before_anything_changes() -> Result<()> {
    let mut learner = averaging()?;
    learner.fit(&two_phases(), &mut [])?;
    let whole = learner.checkpoint()?;
    let before = bits(&mut learner)?;
    let average = whole.average().expect("twelve steps").tensors().to_vec();
    let mut odd = average.clone();
    odd[0].1 = (odd[0].1.ones_like()? * f64::NAN)?;
    let cases = [
        ("set of averages", Checkpoint { average: None, ..whole.clone() }),
        (
            "set of averages",
            Checkpoint { average: Some(Weights::from_tensors(average[1..].to_vec())), ..whole.clone() },
        ),
        ("NaN or infinity", Checkpoint { average: Some(Weights::from_tensors(odd)), ..whole.clone() }),
        ("decay of the average", super::learner()?.checkpoint()?),
    ];
    for (what, checkpoint) in cases {
        let error = learner.restore(&checkpoint).expect_err(what).to_string();
        assert!(error.contains(what), "{what}: {error}");
        assert_eq!(bits(&mut learner)?, before, "{what}");
    }
    let mut spoilt = whole.clone();
    spoilt.record.ema.as_mut().expect("an average").updates = 13;
    assert!(learner.restore(&spoilt).expect_err("of twelve steps").to_string().contains("number of steps"));
    let error = super::learner()?.restore(&whole).expect_err("no average is kept").to_string();
    assert_eq!(error, "the checkpoint does not fit: the decay of the average is 0.8, expected none");
    learner.restore(&whole)
}

#[test]
fn a_decay_that_is_none_is_refused() -> Result<()> {
    let config = LearnerConfig { ema: Some(1.0), ..LearnerConfig::multi_label(0.5) };
    assert!(Learner::new(network()?, batches(8, SEED)?, config).is_err());
    Ok(())
}
