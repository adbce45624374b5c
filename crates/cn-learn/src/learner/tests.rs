use super::*;
use crate::testing::{N_VAL, SEED, batches, bits, learner, network, two_phases};
use crate::{EarlyStopping, Monitor, NotFinite, SaveBest, Validated};
use candle_core::{DType, Tensor};
use cn_ops::{AdamConfig, Draw, Hyper, Loss, Mode, Network};
use std::num::NonZeroUsize;

mod averages;
mod by_hand;
mod not_finite;
mod on_gpu;
mod stopping;

const STEPS_PER_EPOCH: usize = 6;

/// Writes down what it hears, and stops after `stop_after` steps.
#[derive(Default)]
struct Log {
    lines: Vec<String>,
    losses: Vec<f32>,
    stop_after: Option<u64>,
    /// Stops in the validation after this many steps.
    stop_judging_after: Option<u64>,
    steps_done: u64,
    checkpoints: Vec<Checkpoint>,
    keep: bool,
}

impl Handler for Log {
    fn name(&self) -> &'static str {
        "log"
    }
    fn on_fit_start(&mut self, fit: &FitStart<'_>) -> Result<()> {
        self.lines.push(format!("fit {} {} {}", fit.phases.len(), fit.steps_per_epoch, fit.n_val));
        Ok(())
    }
    fn on_phase_start(&mut self, phase: &PhaseStart<'_>) -> Result<()> {
        self.lines.push(format!("phase {}", phase.index));
        Ok(())
    }
    fn on_epoch_start(&mut self, position: &Position) -> Result<()> {
        self.lines.push(format!("epoch {}", position.epoch));
        Ok(())
    }
    fn on_step(&mut self, step: &mut Step<'_>) -> Result<Flow> {
        self.losses.push(step.loss()?);
        self.steps_done = step.position.steps_done;
        let stop = self.stop_after == Some(step.position.steps_done);
        Ok(if stop { Flow::Stop } else { Flow::Continue })
    }
    fn on_validate(&mut self, validated: &Validated) -> Result<Flow> {
        self.lines.push(format!("{}/{}", validated.n_done, validated.n_images));
        let stop = self.stop_judging_after == Some(self.steps_done);
        Ok(if stop { Flow::Stop } else { Flow::Continue })
    }
    fn on_epoch_end(&mut self, _: &mut EpochEnd<'_>) -> Result<Flow> {
        self.lines.push("end".into());
        Ok(Flow::Continue)
    }
    fn on_fit_end(&mut self, _: &Position) -> Result<()> {
        self.lines.push("done".into());
        Ok(())
    }
    fn wants_checkpoint(&mut self, _: Moment, _: &Position) -> Result<bool> {
        Ok(self.keep)
    }
    fn on_checkpoint(&mut self, _: Moment, checkpoint: &Checkpoint) -> Result<()> {
        self.checkpoints.push(checkpoint.clone());
        Ok(())
    }
}

fn value_of(learner: &Learner<Network>, name: &str) -> Result<Vec<f32>> {
    let parameters = learner.model().parameters();
    let entry = parameters.entries().iter().find(|e| e.name == name).expect("a parameter of this name");
    Ok(parameters.value_of(entry)?.flatten_all()?.to_vec1()?)
}

#[test]
fn a_small_network_learns() -> Result<()> {
    let mut learner = learner()?;
    let before = learner.evaluate()?;
    learner.fit_one_cycle(8, Rates::Uniform(1e-2), &mut [])?;
    let after = learner.evaluate()?;
    assert!(before.metric("top1") < Some(0.9), "{:?}", before.metrics);
    assert_eq!((after.metric("top1"), after.metric("exact_match")), (Some(1.0), Some(1.0)), "{:?}", after.metrics);
    assert!(after.loss < before.loss / 4.0, "{} to {}", before.loss, after.loss);
    assert_eq!(learner.history().len(), 8);
    let last = &learner.history()[7];
    assert_eq!((last.val_loss, last.get("top1"), last.step), (after.loss, Some(1.0), 48));
    Ok(())
}

#[test]
fn softmax_learns_too() -> Result<()> {
    let mut learner = Learner::new(network()?, batches(8, SEED)?, LearnerConfig::single_label())?;
    learner.fine_tune(8, 2e-2, &mut [])?;
    assert_eq!(learner.evaluate()?.metric("top1"), Some(1.0));
    Ok(())
}

#[test]
fn handlers_hear_everything_in_order() -> Result<()> {
    let mut log = Log::default();
    learner()?.fit(&two_phases(), &mut [&mut log])?;
    let epoch = ["epoch 0", "8/21", "16/21", "21/21", "end"];
    let mut want = vec!["fit 2 6 21", "phase 0"];
    want.extend(epoch);
    want.push("phase 1");
    want.extend(epoch);
    want.push("done");
    assert_eq!(log.lines, want);
    assert_eq!(log.losses.len(), 2 * STEPS_PER_EPOCH);
    Ok(())
}

#[test]
fn a_stop_in_the_validation_loses_nothing() -> Result<()> {
    let mut never = learner()?;
    never.fit(&two_phases(), &mut [])?;
    for after in [6, 12] {
        let mut log = Log { stop_judging_after: Some(after), keep: true, ..Log::default() };
        let mut stopped = learner()?;
        assert_eq!(stopped.fit(&two_phases(), &mut [&mut log])?, Outcome::Stopped);
        assert_eq!(log.lines.iter().rev().take(2).collect::<Vec<_>>(), ["done", "8/21"]);
        assert_eq!(stopped.history().len() as u64, after / 6 - 1);
        let mut resumed = learner()?;
        resumed.restore(log.checkpoints.last().expect("one at the stop"))?;
        assert_eq!(resumed.resume(&mut [])?, Outcome::Finished);
        assert_eq!(stopped.resume(&mut [])?, Outcome::Finished);
        for learner in [&mut resumed, &mut stopped] {
            assert_eq!(bits(learner)?, bits(&mut never)?);
            assert_eq!(learner.history(), never.history());
        }
    }
    Ok(())
}

#[test]
fn frozen_groups_train_their_norms_alone() -> Result<()> {
    let mut learner = learner()?;
    let names = ["conv.weight", "norm.weight", "norm.bias", "head.weight"];
    let values = |learner: &Learner<Network>| names.map(|name| value_of(learner, name).expect("floats"));
    let before = values(&learner);
    learner.freeze()?;
    learner.fit_one_cycle(1, Rates::Uniform(1e-2), &mut [])?;
    let after = values(&learner);
    let changed: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a != b).collect();
    assert_eq!(changed, [false, true, true, true]);
    learner.unfreeze()?;
    assert_eq!(learner.optimizer().steps(), [0; 4]);
    learner.fit_one_cycle(1, Rates::Uniform(1e-2), &mut [])?;
    assert_ne!(after[0], value_of(&learner, "conv.weight")?);
    assert!(learner.freeze_to(2).is_err_and(|e| e.to_string().contains("group 2")));
    Ok(())
}

#[test]
fn a_fit_keeps_moments_and_freezing_forgets_them() -> Result<()> {
    let mut learner = learner()?;
    learner.fit_one_cycle(1, Rates::Uniform(1e-3), &mut [])?;
    learner.fit_one_cycle(1, Rates::Uniform(1e-3), &mut [])?;
    assert_eq!(learner.optimizer().steps(), [12; 4]);
    learner.fit(&two_phases(), &mut [])?;
    assert_eq!(learner.optimizer().steps(), [6; 4]);
    Ok(())
}

#[test]
fn the_learning_rates_are_the_schedules() -> Result<()> {
    #[derive(Default)]
    struct Hears(Vec<Hypers>);
    impl Handler for Hears {
        fn name(&self) -> &'static str {
            "rates"
        }
        fn on_step(&mut self, step: &mut Step<'_>) -> Result<Flow> {
            self.0.push(step.hypers.clone());
            Ok(Flow::Continue)
        }
    }
    let (mut rates, phases) = (Hears::default(), two_phases());
    let mut learner = learner()?;
    learner.fit(&phases, &mut [&mut rates])?;
    let want: Vec<Hypers> = phases
        .iter()
        .map(|phase| phase.schedule(2, STEPS_PER_EPOCH))
        .flat_map(|schedule| (0..schedule.n_steps()).map(move |step| schedule.at(step)))
        .collect();
    assert_eq!(rates.0, want);
    assert_eq!((&learner.history()[1].lr, learner.history()[1].momentum), (&want[11].lr, want[11].momentum));
    Ok(())
}

#[test]
fn the_smoothed_loss_starts_anew_with_each_phase() -> Result<()> {
    let (mut learner, mut log) = (learner()?, Log::default());
    learner.fit(&two_phases(), &mut [&mut log])?;
    for (record, losses) in learner.history().iter().zip(log.losses.chunks(STEPS_PER_EPOCH)) {
        let mut smooth = crate::SmoothLoss::default();
        losses.iter().for_each(|&loss| smooth.add(loss));
        assert_eq!(Some(record.train_loss as f32), smooth.value());
    }
    Ok(())
}

#[test]
fn training_gives_the_same_bits_at_any_number_of_threads() -> Result<()> {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            let mut learner = learner()?;
            learner.fit(&two_phases(), &mut [])?;
            bits(&mut learner)
        })
    };
    let one = run(1)?;
    assert_eq!(run(2)?, one);
    assert_eq!(run(4)?, one);
    Ok(())
}

#[test]
fn another_seed_gives_other_weights() -> Result<()> {
    let run = |seed| {
        let mut learner = Learner::new(network()?, batches(8, seed)?, LearnerConfig::multi_label(0.5))?;
        learner.fit(&two_phases(), &mut [])?;
        bits(&mut learner)
    };
    assert_ne!(run(1)?.0, run(2)?.0);
    Ok(())
}

#[test]
fn stopped_at_any_step_and_resumed_elsewhere_the_bits_are_the_same() -> Result<()> {
    let mut whole = learner()?;
    assert_eq!(whole.fit(&two_phases(), &mut [])?, Outcome::Finished);
    let want = bits(&mut whole)?;
    let folder = tempfile::tempdir().expect("a folder");
    for stop in 1..=12 {
        let mut first = learner()?;
        let mut log = Log { stop_after: Some(stop), ..Log::default() };
        assert_eq!(first.fit(&two_phases(), &mut [&mut log])?, Outcome::Stopped);
        assert_eq!(first.position().steps_done, stop);
        let path = folder.path().join("checkpoint.safetensors");
        first.checkpoint()?.write(&path)?;
        drop(first);

        let mut second = learner()?;
        second.restore(&Checkpoint::read(&path)?)?;
        assert_eq!(second.resume(&mut [])?, Outcome::Finished);
        assert_eq!(bits(&mut second)?, want, "stopped after step {stop}");
    }
    Ok(())
}

#[test]
fn every_checkpoint_of_a_run_leads_to_its_end() -> Result<()> {
    let (mut whole, mut log) = (learner()?, Log { keep: true, ..Log::default() });
    let mut stopping = EarlyStopping::new(Monitor::new("val_loss"), 2);
    whole.fit(&two_phases(), &mut [&mut log, &mut stopping])?;
    let want = bits(&mut whole)?;
    assert_eq!(log.checkpoints.len(), 14);
    for checkpoint in &log.checkpoints {
        let mut learner = learner()?;
        let mut stopping = EarlyStopping::new(Monitor::new("val_loss"), 2);
        learner.restore(checkpoint)?;
        learner.resume(&mut [&mut stopping])?;
        assert_eq!(bits(&mut learner)?, want, "from {:?}", checkpoint.position());
    }
    assert!(log.checkpoints[13].is_finished() && !log.checkpoints[12].is_finished());
    Ok(())
}

#[test]
fn a_checkpoint_of_another_run_is_refused() -> Result<()> {
    let checkpoint = learner()?.checkpoint()?;
    let refuse = |batches| {
        let mut other = Learner::new(network()?, batches, LearnerConfig::multi_label(0.5))?;
        let before = bits(&mut other)?;
        let error = other.restore(&checkpoint).expect_err("another run");
        assert_eq!(bits(&mut other)?, before);
        Ok::<_, Error>(error.to_string())
    };
    assert_eq!(refuse(batches(8, 7)?)?, "the checkpoint does not fit: the seed is 42, expected 7");
    assert_eq!(refuse(batches(5, SEED)?)?, "the checkpoint does not fit: the batch size is 8, expected 5");
    Ok(())
}

#[test]
fn the_finder_changes_nothing() -> Result<()> {
    let mut learner = learner()?;
    learner.fit(&two_phases(), &mut [])?;
    let before = bits(&mut learner)?;
    let curve = learner.lr_find(&LrFindConfig { stop_diverging: false, ..LrFindConfig::default() })?;
    assert_eq!((curve.lrs.len(), curve.losses.len()), (100, 100));
    assert_eq!(bits(&mut learner)?, before);
    assert!(curve.suggestions().valley.is_some());
    // Its first loss is that of the next training step.
    let (mut again, mut log) = (learner.lr_find(&LrFindConfig::default())?, Log::default());
    again.losses.truncate(1);
    learner.fit_one_cycle(1, Rates::Uniform(1e-3), &mut [&mut log])?;
    assert!((again.losses[0] / log.losses[0] - 1.0).abs() < 1e-5, "{} {}", again.losses[0], log.losses[0]);
    Ok(())
}

#[test]
fn an_unknown_monitor_is_named() -> Result<()> {
    let mut stop = EarlyStopping::new(Monitor::new("auc"), 2);
    let error = learner()?.fit_one_cycle(1, Rates::Uniform(1e-3), &mut [&mut stop]).expect_err("no such metric");
    let want = "nothing called `auc` is measured, only train_loss, val_loss, accuracy_multi, exact_match, top1";
    assert_eq!(error.to_string(), want);
    Ok(())
}

#[test]
fn the_best_weights_are_kept_and_can_be_loaded() -> Result<()> {
    let mut learner = learner()?;
    let mut best = SaveBest::in_memory(Monitor::new("val_loss"));
    // A rate that spoils what the first phase has learned.
    let phases = [Phase::one_cycle(4, Rates::Uniform(1e-2)), Phase::one_cycle(1, Rates::Uniform(3.0))];
    learner.fit(&phases, &mut [&mut best])?;
    let losses: Vec<f64> = learner.history().iter().map(|r| r.val_loss).collect();
    let smallest = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(smallest < losses[4], "{losses:?}");
    assert_eq!(best.best(), Some(smallest));
    learner.load_weights(best.weights().expect("an epoch"))?;
    assert_eq!(learner.evaluate()?.loss, smallest);
    Ok(())
}

#[test]
fn predictions_come_in_the_order_of_the_ids() -> Result<()> {
    let mut learner = learner()?;
    let all = learner.evaluate()?.predictions;
    assert_eq!((all.len(), all.ids[0], all.ids[20]), (N_VAL, 70, 50));
    let backwards: Vec<u32> = all.ids.iter().rev().copied().collect();
    let again = learner.evaluate_ids(&backwards)?.predictions;
    let rows: Vec<&[f32]> = all.rows().collect();
    assert!(again.rows().eq(rows.into_iter().rev()));

    let (data, mut room) = (crate::testing::dataset(), Vec::new());
    let images = crate::Source::images(&*data, &all.ids, &mut room)?;
    let by_image = learner.predict(&images)?;
    assert_eq!((by_image.logits, by_image.ids[20]), (all.logits, 20));
    Ok(())
}

#[test]
fn the_loss_of_an_evaluation_is_the_mean_of_the_images() -> Result<()> {
    let got = learner()?.evaluate()?;
    let losses = got.predictions.losses(&got.targets);
    let mean = losses.iter().sum::<f64>() / losses.len() as f64;
    assert!((got.loss - mean).abs() < 1e-6, "{} {mean}", got.loss);
    let top = got.top_losses();
    assert!(top.is_sorted_by(|a, b| a.1 >= b.1) && top.len() == N_VAL);
    Ok(())
}

#[test]
fn nothing_to_evaluate_and_wrong_outputs_are_named() -> Result<()> {
    let mut learner = learner()?;
    assert!(matches!(learner.evaluate_ids(&[]), Err(Error::NoImages)));
    assert!(matches!(learner.predict(&[]), Err(Error::NoImages)));
    assert!(matches!(learner.evaluate_ids(&[99]), Err(Error::NoSuchImage { id: 99, n_images: 71 })));
    assert!(learner.fit(&[Phase { epochs: 0, ..Phase::default() }], &mut []).is_err());
    assert!(matches!(batches(51, SEED), Err(Error::TooFewImages { n_images: 50, batch_size: 51 })));
    Ok(())
}

/// Asks for a checkpoint at each step if it is greedy, and for a stop after so many.
struct Wish {
    greedy: bool,
    stop_after: u64,
    asked: u64,
}

impl Handler for Wish {
    fn name(&self) -> &'static str {
        "wish"
    }
    fn on_step(&mut self, step: &mut Step<'_>) -> Result<Flow> {
        Ok(if step.position.steps_done == self.stop_after { Flow::Stop } else { Flow::Continue })
    }
    fn wants_checkpoint(&mut self, _: Moment, _: &Position) -> Result<bool> {
        self.asked += 1;
        Ok(self.greedy)
    }
}

#[test]
fn every_handler_is_asked_and_any_one_can_stop() -> Result<()> {
    for stops_first in [true, false] {
        let wish = |stops| Wish { greedy: stops, stop_after: if stops { 3 } else { 0 }, asked: 0 };
        let (mut a, mut b) = (wish(stops_first), wish(!stops_first));
        let mut learner = learner()?;
        assert_eq!(learner.fit(&two_phases(), &mut [&mut a, &mut b])?, Outcome::Stopped);
        assert_eq!((learner.position().steps_done, a.asked, b.asked), (3, 3, 3), "the first one stops: {stops_first}");
    }
    Ok(())
}

#[test]
fn a_checkpoint_of_other_data_or_another_model_is_refused() -> Result<()> {
    let whole = learner()?.checkpoint()?;
    let refuse = |spoil: &dyn Fn(&mut Checkpoint)| {
        let (mut checkpoint, mut learner) = (whole.clone(), learner()?);
        spoil(&mut checkpoint);
        let before = bits(&mut learner)?;
        let error = learner.restore(&checkpoint).expect_err("it does not fit").to_string();
        assert_eq!(bits(&mut learner)?, before, "{error}");
        Ok::<_, Error>(error)
    };
    let images = refuse(&|c| c.record.n_train = 49)?;
    assert_eq!(images, "the checkpoint does not fit: the number of training images is 49, expected 50");
    assert!(refuse(&|c| c.record.adam_steps.truncate(3))?.contains("the number of Adam's counters is 3, expected 4"));
    assert!(
        refuse(&|c| c.weights = Weights::from_tensors(c.weights.tensors()[1..].to_vec()))?
            .contains("the set of tensors")
    );
    assert!(refuse(&|c| c.adam[0] = c.adam[0].narrow(0, 0, 9).expect("nine"))?.contains("the kind of Adam's moments"));
    Ok(())
}

#[test]
fn the_finder_trains_like_a_fit_of_several_epochs() -> Result<()> {
    // Rates that hardly grow, over the ends of two epochs.
    let n_steps = 2 * STEPS_PER_EPOCH + 3;
    let config = LrFindConfig { start_lr: 1e-2, end_lr: 1e-2 * (1.0 + 1e-9), n_steps, stop_diverging: false };
    let curve = learner()?.lr_find(&config)?;
    // The momentum that a learner has before any schedule.
    let flat = Phase { curve: crate::Curve::Flat, moms: [0.9; 3], ..Phase::one_cycle(3, Rates::Uniform(1e-2)) };
    let mut log = Log { stop_after: Some(n_steps as u64), ..Log::default() };
    assert_eq!(learner()?.fit(&[flat], &mut [&mut log])?, Outcome::Stopped);
    let mut smooth = crate::SmoothLoss::default();
    for (i, (&loss, &found)) in log.losses.iter().zip(&curve.losses).enumerate() {
        smooth.add(loss);
        let expected = smooth.value().expect("a loss");
        assert!((found / expected - 1.0).abs() < 1e-5, "step {i}: {found}, not {expected}");
    }
    assert_eq!((curve.losses.len(), log.losses.len()), (n_steps, n_steps));
    Ok(())
}
