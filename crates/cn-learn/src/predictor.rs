//! What a model says about images, without a data set and without a learner.

use crate::evaluation::Logits;
use crate::{BatchConfig, Decode, Error, Predictions, Result};
use candle_core::{Device, Tensor};
use cn_augment::{Batcher, Image, Policy};
use cn_ops::{Mode, Model};

/// Asks any model about images that have no labels: the part of training that a program needs that only predicts.
///
/// ```
/// use cn_augment::{Image, Policy};
/// use cn_learn::{BatchConfig, Decode, Predictor};
/// use cn_ops::{Flatten, Linear, Network, Sequential};
/// use candle_core::{Device, Tensor};
///
/// // Two classes, dark and bright, told apart by the sum of 16 pixels.
/// let weights = Tensor::from_vec([[-1f32; 16], [1.; 16]].concat(), (2, 16), &Device::Cpu)?;
/// let linear = Linear::new(weights)?.with_bias(Tensor::from_vec(vec![8f32, -8.], 2, &Device::Cpu)?)?;
/// let mut model = Network::new(Sequential::new().push("flat", Flatten::new()).push("fc", linear), |_| 0)?;
///
/// let whole = Policy::whole(4)?;
/// let config = BatchConfig { channels: 1, ..BatchConfig::new(whole.clone(), whole) };
/// let predictor = Predictor::new(&config, Decode::Softmax)?;
/// let image = |pixels| Image { pixels, height: 4, width: 4, channels: 1 };
/// let predictions = predictor.predict(&mut model, &[image(&[250; 16]), image(&[3; 16])])?;
/// assert!(predictions.probabilities()[1] > 0.99 && predictions.probabilities()[2] > 0.99);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Predictor {
    policy: Policy,
    batcher: Batcher,
    batch_size: usize,
    device: Device,
    decode: Decode,
}

impl Predictor {
    /// Images as evaluation sees them by `config`, of which the training part is not used; `decode` makes
    /// probabilities.
    ///
    /// # Errors
    ///
    /// If the batch size or the channels are not possible.
    pub fn new(config: &BatchConfig, decode: Decode) -> Result<Self> {
        if config.eval_batch_size == 0 {
            return Err(Error::Setting { name: "eval_batch_size", value: 0.0, expected: "at least 1" });
        }
        Ok(Self {
            policy: config.eval.clone(),
            batcher: Batcher::new(config.channels, config.normalisation.clone())?.with_planes(config.planes),
            batch_size: config.eval_batch_size,
            device: config.device.clone(),
            decode,
        })
    }

    /// What `model` says about `images`, in this order; their ids are their positions.
    ///
    /// # Errors
    ///
    /// [`Error::NoImages`] for none, or if an image does not match its shape or the model fails.
    pub fn predict(&self, model: &mut dyn Model, images: &[Image<'_>]) -> Result<Predictions> {
        let batches = images.chunks(self.batch_size).map(|images| self.batch(images));
        predict(model, batches, self.decode)
    }

    fn batch(&self, images: &[Image<'_>]) -> Result<Tensor> {
        let ids: Vec<u32> = (0..).take(images.len()).collect();
        let geometry = self.policy.geometries(images, 0, 0, &ids)?;
        Ok(self.batcher.batch(images, &geometry, &self.device)?)
    }
}

/// What `model` says about batch after batch; the ids are the positions of the images.
pub(crate) fn predict(
    model: &mut dyn Model,
    batches: impl Iterator<Item = Result<Tensor>>,
    decode: Decode,
) -> Result<Predictions> {
    let mut logits = Logits::default();
    for images in batches {
        logits.add(&*model.forward(&images?, Mode::Eval)?)?;
    }
    let ids = (0..).take(logits.n_images()).collect();
    logits.read(ids, decode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{N_VAL, batches, dataset, learner, network};
    use crate::{Source, image_of};

    #[test]
    fn a_predictor_says_what_a_learner_says() -> Result<()> {
        let (mut learner, mut network) = (learner()?, network()?);
        let data = dataset();
        let images: Vec<_> = data.val_ids().iter().map(|&id| image_of(data.pixels().image(id))).collect();
        let predictor = Predictor::new(batches(8, 1)?.config(), Decode::Sigmoid)?;
        let found = predictor.predict(&mut network, &images)?;
        assert_eq!(found.ids, (0..N_VAL as u32).collect::<Vec<_>>());
        assert_eq!(found.logits, learner.evaluate()?.predictions.logits);
        assert_eq!(found.probabilities(), learner.predict(&images)?.probabilities());
        Ok(())
    }

    #[test]
    fn a_gpu_says_what_the_cpu_says() -> Result<()> {
        let Some(device) = cn_cuda::Device::emulated_or_skip().map_err(cn_ops::Error::from)? else { return Ok(()) };
        let data = dataset();
        let images: Vec<_> = data.pixels().images().map(image_of).collect();
        let predictor = Predictor::new(batches(8, 1)?.config(), Decode::Sigmoid)?;
        let here = predictor.predict(&mut network()?, &images)?.logits;
        let mut network = network()?.on_gpu(&device, cn_ops::gpu::GpuConfig::default())?;
        let there = predictor.predict(&mut network, &images)?.logits;
        let close = here.iter().zip(&there).all(|(a, b)| (a - b).abs() < 1e-3 * a.abs().max(1.0));
        assert!(here.len() == there.len() && close, "{here:?} {there:?}");
        Ok(())
    }

    #[test]
    fn the_batch_size_changes_nothing() -> Result<()> {
        let data = dataset();
        let images: Vec<_> = data.pixels().images().map(image_of).collect();
        let logits = |eval_batch_size| {
            let config = BatchConfig { eval_batch_size, ..batches(8, 1)?.config().clone() };
            Ok::<_, Error>(Predictor::new(&config, Decode::Softmax)?.predict(&mut network()?, &images)?.logits)
        };
        let all = logits(images.len())?;
        let close = |a: &[f32]| a.iter().zip(&all).all(|(a, b)| (a - b).abs() < 1e-5);
        assert_eq!(all.len(), images.len() * 3);
        for size in [1, 7] {
            let logits = logits(size)?;
            assert!(logits.len() == all.len() && close(&logits), "batches of {size}");
        }
        Ok(())
    }

    #[test]
    fn nothing_to_ask_about_is_an_error() -> Result<()> {
        let config = batches(8, 1)?.config().clone();
        let nothing = Predictor::new(&config, Decode::Sigmoid)?.predict(&mut network()?, &[]);
        assert!(matches!(nothing, Err(Error::NoImages)));
        let config = BatchConfig { eval_batch_size: 0, ..config };
        assert!(matches!(Predictor::new(&config, Decode::Sigmoid), Err(Error::Setting { .. })));
        Ok(())
    }
}
