//! Training where the images lie: on a GPU, emulated here.

use super::*;
use crate::learner::feed::Resident;
use crate::testing::dataset;
use crate::{BadPlace, BatchConfig, Source};
use cn_augment::Image;
use cn_ops::gpu::GpuConfig;
use std::sync::Arc;

/// The same data without a stack: batches are made by the host, and uploaded.
struct OneByOne(Arc<dyn Source>);

impl Source for OneByOne {
    fn n_classes(&self) -> usize {
        self.0.n_classes()
    }
    fn n_train(&self) -> usize {
        self.0.n_train()
    }
    fn train_order(&self, seed: u64, epoch: u32) -> Result<Vec<u32>> {
        self.0.train_order(seed, epoch)
    }
    fn val_ids(&self) -> &[u32] {
        self.0.val_ids()
    }
    fn images<'a>(&'a self, ids: &[u32], room: &'a mut Vec<u8>) -> Result<Vec<Image<'a>>> {
        self.0.images(ids, room)
    }
    fn targets(&self, ids: &[u32]) -> Result<Vec<f32>> {
        self.0.targets(ids)
    }
}

/// A learner on the emulation, or a printed line where there is no compiler for it.
fn on_gpu(source: Arc<dyn Source>) -> Result<Option<Learner<Network>>> {
    let Some(device) = cn_cuda::Device::emulated_or_skip().map_err(cn_ops::Error::from)? else { return Ok(None) };
    let config: BatchConfig = batches(8, SEED)?.config().clone();
    let batches = Batches::new(source, config, SEED)?;
    let network = network()?.on_gpu(&device, GpuConfig::default())?;
    Ok(Some(Learner::new(network, batches, LearnerConfig::multi_label(0.5))?))
}

#[test]
fn images_on_the_gpu_give_the_bits_of_uploaded_ones() -> Result<()> {
    let Some(mut resident) = on_gpu(dataset())? else { return Ok(()) };
    let Some(mut uploaded) = on_gpu(Arc::new(OneByOne(dataset())))? else { return Ok(()) };
    for learner in [&mut resident, &mut uploaded] {
        learner.lr_find(&LrFindConfig { n_steps: 5, ..LrFindConfig::default() })?;
        assert_eq!(learner.fit(&two_phases(), &mut [])?, Outcome::Finished);
        // Judged in between by batches of which the last is smaller: recorded steps must still find their images.
        let phase = Phase { frozen: None, ..Phase::one_cycle(3, Rates::Last { last: 1e-3 }) };
        assert_eq!(learner.fit(&[phase], &mut [])?, Outcome::Finished);
    }
    assert!(matches!(resident.resident, Resident::Yes(_)) && matches!(uploaded.resident, Resident::No));
    assert_eq!(bits(&mut resident)?, bits(&mut uploaded)?);

    // And nearly the weights of the CPU's own steps.
    let mut here = learner()?;
    here.fit(&two_phases(), &mut [])?;
    let score = |learner: &Learner<Network>| learner.history().get(1).map(|epoch| epoch.train_loss);
    let (Some(here), Some(there)) = (score(&here), score(&resident)) else { panic!("epochs are recorded") };
    assert!((here - there).abs() < 1e-3 * here, "{here} {there}");
    Ok(())
}

#[test]
fn a_step_that_is_not_finite_is_named_by_its_images() -> Result<()> {
    let Some(mut learner) = on_gpu(dataset())? else { return Ok(()) };
    let mut tensors = learner.model_mut().named_tensors()?;
    let (name, first) = tensors.swap_remove(0);
    let bad = (name, Tensor::full(f32::NAN, first.shape(), first.device())?);
    learner.model_mut().load_tensors(&[bad])?;
    let Err(Error::NotFinite(bad)) = learner.fit(&two_phases(), &mut []) else { panic!("NaN trains") };
    assert!(matches!(&bad.place, BadPlace::Output { .. }), "{:?}", bad.place);
    assert_eq!((bad.step, bad.ids.len()), (0, 8));
    Ok(())
}

#[test]
fn a_variance_that_overflows_is_a_step_that_is_not_finite() -> Result<()> {
    let learners = [Some(learner()?), on_gpu(dataset())?];
    for mut learner in learners.into_iter().flatten() {
        let mut tensors = learner.model_mut().named_tensors()?;
        let (name, first) = tensors.swap_remove(0);
        // Activations of this size are finite, and their squares are not.
        let large = (name, Tensor::full(1e25f32, first.shape(), first.device())?);
        learner.model_mut().load_tensors(&[large])?;
        let Err(Error::NotFinite(bad)) = learner.fit(&two_phases(), &mut []) else { panic!("it trains") };
        assert_eq!(bad.place, BadPlace::Statistics { name: "norm.running_var".into() });
        assert_eq!(bad.step, 0);
        assert!(learner.checkpoint()?.weights.not_finite()?.is_none(), "the step was taken back");
    }
    Ok(())
}
