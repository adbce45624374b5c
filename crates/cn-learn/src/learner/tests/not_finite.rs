//! Numbers that go wrong: such a step changes nothing, and is named.

use super::*;
use crate::{BadPlace, OnNan};
use candle_core::Device;
use cn_ops::{Activation, Entry, NotFiniteOutput, Parameters};

/// What is wrong with a step.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The logits of the batch's third image.
    Logits,
    /// An infinite gradient of the head.
    Gradient,
    /// The logits of the second image, of every batch that is judged.
    Judging,
}

/// A network that computes wrongly at some training steps.
struct Faulty {
    network: Network,
    fault: Fault,
    steps: Vec<u64>,
    /// Training passes so far, those that look for the place not among them.
    passes: u64,
}

impl Faulty {
    fn is_wrong(&self) -> bool {
        self.steps.contains(&(self.passes - 1))
    }
}

impl Model for Faulty {
    fn forward(&mut self, images: &Tensor, mode: Mode<'_>) -> cn_ops::Result<Activation> {
        let logits = self.network.forward(images, mode)?;
        if self.fault == Fault::Judging && matches!(mode, Mode::Eval) {
            logits.slice_set(&Tensor::full(f32::NAN, (1, logits.dims()[1]), &Device::Cpu)?, 0, 1)?;
        }
        if matches!(mode, Mode::Train(_)) {
            self.passes += 1;
            if self.fault == Fault::Logits && self.is_wrong() {
                logits.slice_set(&Tensor::full(f32::NAN, (1, logits.dims()[1]), &Device::Cpu)?, 0, 2)?;
            }
        }
        Ok(logits)
    }
    fn backward(&mut self, d_logits: &Activation) -> cn_ops::Result<()> {
        self.network.backward(d_logits)?;
        if self.fault == Fault::Gradient && self.is_wrong() {
            let parameters = self.network.parameters();
            let grad = parameters.grad_of(parameters.entries().last().expect("a head"))?;
            grad.slice_set(&Tensor::full(f32::INFINITY, grad.shape(), &Device::Cpu)?, 0, 0)?;
        }
        Ok(())
    }
    fn find_not_finite(&mut self, _: &Tensor, _: Mode<'_>) -> cn_ops::Result<Option<NotFiniteOutput>> {
        Ok(Some(NotFiniteOutput { layer: "head".into(), rows: vec![2] }))
    }
    fn parameters(&self) -> &Parameters {
        self.network.parameters()
    }
    fn set_trainable(&mut self, wanted: &dyn Fn(&Entry) -> bool) -> cn_ops::Result<()> {
        self.network.set_trainable(wanted)
    }
    fn named_tensors(&mut self) -> cn_ops::Result<Vec<(String, Tensor)>> {
        self.network.named_tensors()
    }
    fn load_tensors(&mut self, tensors: &[(String, Tensor)]) -> cn_ops::Result<()> {
        self.network.load_tensors(tensors)
    }
}

fn faulty(fault: Fault, steps: &[u64], on_nan: OnNan) -> Result<Learner<Faulty>> {
    let model = Faulty { network: network()?, fault, steps: steps.to_vec(), passes: 0 };
    Learner::new(model, batches(8, SEED)?, LearnerConfig { on_nan, ..LearnerConfig::multi_label(0.5) })
}

/// Tensors of the model and Adam's moments.
fn numbers<M: Model>(learner: &mut Learner<M>) -> Result<Vec<f64>> {
    let checkpoint = learner.checkpoint()?;
    let mut numbers = Vec::new();
    for tensor in checkpoint.weights.tensors().iter().map(|(_, t)| t).chain(&checkpoint.adam) {
        numbers.extend(tensor.flatten_all()?.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>()?);
    }
    Ok(numbers)
}

fn not_finite(result: Result<Outcome>) -> NotFinite {
    match result {
        Err(Error::NotFinite(bad)) => *bad,
        other => panic!("expected a step that is not finite, got {other:?}"),
    }
}

#[test]
fn a_bad_step_ends_the_fit_with_all_as_it_was_before_it() -> Result<()> {
    let mut before = faulty(Fault::Logits, &[], OnNan::Stop)?;
    before.fit(&two_phases(), &mut [&mut Log { stop_after: Some(4), ..Log::default() }])?;
    let before = numbers(&mut before)?;
    for fault in [Fault::Logits, Fault::Gradient] {
        let (mut learner, mut log) = (faulty(fault, &[4], OnNan::Stop)?, Log { keep: true, ..Log::default() });
        let bad = not_finite(learner.fit(&two_phases(), &mut [&mut log]));
        assert_eq!((bad.step, bad.epoch, learner.position().steps_done), (4, 0, 4));
        assert_eq!(numbers(&mut learner)?, before);
        assert_eq!(log.checkpoints.last().map(|c| c.position().steps_done), Some(4), "nothing is lost");
        // Of the test data, each image is called as its number.
        assert_eq!(bad.names, bad.ids.iter().map(u32::to_string).collect::<Vec<_>>());
        assert!(bad.to_string().contains(&format!(" is not finite for the images `{}`", bad.ids[0])), "{bad}");
        match fault {
            Fault::Logits => {
                assert_eq!((bad.place, bad.ids.len()), (BadPlace::Output { layer: "head".into() }, 1));
            }
            Fault::Gradient => {
                assert_eq!((bad.place, bad.ids.len()), (BadPlace::Gradient { name: "head.weight".into() }, 8));
            }
            Fault::Judging => unreachable!("not among them"),
        }
    }
    Ok(())
}

#[test]
fn a_validation_that_is_no_number_ends_the_fit_after_its_epoch_and_is_not_saved() -> Result<()> {
    for on_nan in [OnNan::Stop, OnNan::Skip { at_most: 9 }] {
        let (mut learner, mut log) = (faulty(Fault::Judging, &[], on_nan)?, Log { keep: true, ..Log::default() });
        let bad = not_finite(learner.fit(&two_phases(), &mut [&mut log]));
        let steps = learner.batches().steps_per_epoch() as u64;
        assert_eq!((bad.place.clone(), bad.epoch, bad.step), (BadPlace::Validation, 0, steps - 1));
        // The second of each batch.
        let judged = learner.batches().source().val_ids();
        let size = learner.batches().config().eval_batch_size;
        let expected: Vec<u32> = judged.chunks(size).filter_map(|batch| batch.get(1).copied()).collect();
        assert_eq!(bad.ids, expected);
        assert!(bad.to_string().contains(": the validation loss is not finite for the images `"), "{bad}");
        assert!(log.checkpoints.iter().all(|checkpoint| checkpoint.position().epochs_done == 0));
        assert!(learner.history().is_empty());
    }
    Ok(())
}

/// Counts the steps that were left out.
#[derive(Default)]
struct Skipped(Vec<u64>);

impl Handler for Skipped {
    fn name(&self) -> &'static str {
        "skipped"
    }
    fn on_skipped(&mut self, step: &NotFinite) -> Result<()> {
        self.0.push(step.step);
        Ok(())
    }
}

#[test]
fn bad_steps_can_be_left_out_and_too_many_in_a_row_end_the_fit() -> Result<()> {
    let bad_steps = [2, 3, 8];
    let (mut learner, mut skipped) =
        (faulty(Fault::Gradient, &bad_steps, OnNan::Skip { at_most: 2 })?, Skipped::default());
    assert_eq!(learner.fit(&two_phases(), &mut [&mut skipped])?, Outcome::Finished);
    assert_eq!(skipped.0, bad_steps);
    assert_eq!(learner.position().steps_done, 12);
    // The second phase began anew, with one of its six steps left out.
    assert!(learner.optimizer().steps().iter().all(|&steps| steps == 5), "{:?}", learner.optimizer().steps());
    assert!(numbers(&mut learner)?.iter().all(|number| number.is_finite()));

    let mut learner = faulty(Fault::Logits, &bad_steps, OnNan::Skip { at_most: 1 })?;
    assert_eq!(not_finite(learner.fit(&two_phases(), &mut [])).step, 3);
    Ok(())
}

#[test]
fn a_run_that_leaves_steps_out_resumes_between_them() -> Result<()> {
    let on_nan = OnNan::Skip { at_most: 2 };
    let mut log = Log { stop_after: Some(3), keep: true, ..Log::default() };
    faulty(Fault::Logits, &[2, 3], on_nan)?.fit(&two_phases(), &mut [&mut log])?;
    let mut resumed = faulty(Fault::Logits, &[0, 1], on_nan)?;
    resumed.restore(log.checkpoints.last().expect("kept"))?;
    assert_eq!(not_finite(resumed.resume(&mut [])).step, 4, "one before the stop, one after it, and a third");
    Ok(())
}

#[test]
fn a_run_that_left_steps_out_resumes_wherever_it_was_stopped() -> Result<()> {
    // Behind the bad steps good ones come, in the same phase and in the next.
    let (on_nan, bad_steps) = (OnNan::Skip { at_most: 2 }, [1, 2, 4, 9]);
    let mut whole = faulty(Fault::Gradient, &bad_steps, on_nan)?;
    whole.fit(&two_phases(), &mut [])?;
    let whole = numbers(&mut whole)?;
    for stop in 1..12 {
        let mut log = Log { stop_after: Some(stop), keep: true, ..Log::default() };
        faulty(Fault::Gradient, &bad_steps, on_nan)?.fit(&two_phases(), &mut [&mut log])?;
        let left: Vec<u64> = bad_steps.iter().filter_map(|&step| step.checked_sub(stop)).collect();
        let mut resumed = faulty(Fault::Gradient, &left, on_nan)?;
        resumed.restore(log.checkpoints.last().expect("kept"))?;
        assert_eq!(resumed.position().steps_done, stop);
        assert_eq!(resumed.resume(&mut [])?, Outcome::Finished);
        assert_eq!(numbers(&mut resumed)?, whole, "stopped after {stop}");
    }
    Ok(())
}

#[test]
fn a_network_names_the_layer() -> Result<()> {
    let mut learner = learner()?;
    let nan = Tensor::full(f32::NAN, (3, 6 * 64), &Device::Cpu)?;
    learner.model_mut().load_tensors(&[("head.weight".into(), nan)])?;
    let bad = not_finite(learner.fit(&two_phases(), &mut []));
    assert_eq!((bad.step, bad.place.clone(), bad.ids.len()), (0, BadPlace::Output { layer: "head".into() }, 8));
    let text = bad.to_string();
    assert!(
        text.starts_with("step 0, in epoch 0: the output of the layer `head` is not finite for the images "),
        "{text}"
    );
    Ok(())
}

#[test]
fn rates_that_break_the_weights_leave_checkpoints_that_are_numbers() -> Result<()> {
    let (mut learner, mut log) = (learner()?, Log { keep: true, ..Log::default() });
    learner.fit_one_cycle(1, Rates::Uniform(1e-3), &mut [&mut log])?;
    // The update is too large for an `f32`, and what follows it is no number.
    let bad = not_finite(learner.fit_one_cycle(1, Rates::Uniform(1e38), &mut [&mut log]));
    assert!(bad.step > 6, "{bad}");
    for checkpoint in &log.checkpoints {
        for (name, tensor) in checkpoint.weights().tensors() {
            let values = tensor.flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1::<f32>()?;
            assert!(values.iter().all(|value| value.is_finite()), "{name}");
        }
    }
    Ok(())
}

#[test]
fn the_finder_goes_beyond_what_can_be_computed() -> Result<()> {
    let mut learner = learner()?;
    let config = LrFindConfig { end_lr: 1e38, ..LrFindConfig::default() };
    let curve = learner.lr_find(&config)?;
    assert!(!curve.losses.is_empty());
    assert_eq!(learner.position().steps_done, 0);
    Ok(())
}

#[test]
fn rates_can_be_scaled_and_the_scale_is_kept() -> Result<()> {
    let mut halved = learner()?;
    halved.set_lr_scale(0.5)?;
    halved.fit_one_cycle(1, Rates::Uniform(2e-3), &mut [])?;
    let mut plain = learner()?;
    plain.fit_one_cycle(1, Rates::Uniform(1e-3), &mut [])?;
    assert_eq!(numbers(&mut halved)?, numbers(&mut plain)?);
    let mut restored = learner()?;
    restored.restore(&halved.checkpoint()?)?;
    assert_eq!(restored.lr_scale(), 0.5);
    assert!(restored.set_lr_scale(0.0).is_err() && restored.set_lr_scale(f64::NAN).is_err());
    Ok(())
}
