//! Learners from settings and data.

use crate::config::{self, Config, LossKind};
use crate::model::planes;
use crate::output::Ui;
use crate::problem::Problem;
use crate::start::Start;
use crate::stream::Stream;
use anyhow::Result;
use candle_core::Device;
use cn_augment::{Normalisation, Planes};
use cn_data::Dataset;
use cn_learn::{BatchConfig, Batches, Learner, LearnerConfig, Metric, OnNan, Source};
use cn_ops::{AdamConfig, Loss, Network, Precision};
use cn_report::{Activation, Prediction, Predictions};
use cn_zoo::Loaded;
use std::sync::Arc;

/// Steps in a row that are left out at most: beyond, nothing trains.
const SKIPPED: u32 = 10;

/// Names of the metrics, the columns of the table.
pub(crate) const METRICS: [&str; 3] = ["accuracy_multi", "exact_match", "top1"];

/// The precision of `config`, or `f32` and a word about it where this processor has no such products.
pub(crate) fn settle_precision(ui: Ui, config: &mut Config) -> Result<()> {
    if config::gpu_of(&config.device).is_some() {
        // Every GPU that the kernels run on has all.
        return Ok(());
    }
    let precision: Precision = config.precision.parse()?;
    if !precision.is_supported() {
        let isa = cn_ops::Isa::current();
        ui.warn(format_args!("no products of {precision} here ({isa} without AVX512-BF16): computing in f32"));
        config.precision = Precision::F32.to_string();
    }
    Ok(())
}

/// A network with the weights to start from, and what was taken of them.
pub(crate) fn network(config: &Config, dataset: &Dataset, start: &Start) -> Result<(Network, Option<Loaded>)> {
    start.for_data(dataset)?.build(config, dataset.vocabulary().len())
}

/// A learner at the start of the recipe.
pub(crate) fn learner(
    config: &Config,
    dataset: Arc<Dataset>,
    start: &Start,
    network: Network,
) -> Result<Learner<Network>> {
    let network = on_device(network, &config.device, &config.precision)?;
    let batches = batches(config, dataset, start.normalisation(config)?)?;
    let mut learner = Learner::new(network, batches, learner_config(config))?;
    if config.freeze_pretrained && start.is_pretrained() {
        learner.freeze()?;
    }
    Ok(learner)
}

/// The network on a device.
pub(crate) fn on_device(network: Network, device: &str, precision: &str) -> Result<Network> {
    let Some(ordinal) = config::gpu_of(device) else { return Ok(network) };
    let element = match config::precision_here(precision)? {
        Precision::F32 => cn_cuda::Element::F32,
        Precision::Bf16 => cn_cuda::Element::Bf16,
    };
    let is_tf32 = precision == config::TF32;
    let products = if is_tf32 { cn_cuda::Products::Tf32 } else { cn_cuda::Products::Exact };
    Ok(network.on_gpu(&cn_cuda::Device::cuda(ordinal)?, cn_ops::gpu::GpuConfig { element, products })?)
}

/// The batches of the settings.
fn batches(config: &Config, dataset: Arc<Dataset>, normalisation: Normalisation) -> Result<Batches> {
    // Endless handwriting is light on dark, whatever it is judged by.
    let ground = if config.synthetic.steps.is_some() { None } else { dataset.pixels().ground() };
    let train = config.train_policy(ground)?;
    let eval = config.eval_policy()?;
    let batches = BatchConfig {
        batch_size: config.batch_size,
        eval_batch_size: config.batch_size,
        channels: config.channels,
        normalisation,
        // A GPU takes the channels: there a stem of three costs little.
        planes: if config::gpu_of(&config.device).is_some() { Planes::Channels } else { planes(dataset.pixels()) },
        device: Device::Cpu,
        ..BatchConfig::new(train, eval)
    };
    Ok(Batches::new(source(config, dataset), batches, config.seed)?)
}

/// The data themselves, or endless handwriting that they judge.
fn source(config: &Config, dataset: Arc<Dataset>) -> Arc<dyn Source> {
    match config.synthetic.steps {
        Some(steps) => Arc::new(Stream::new(dataset, config.synthetic.seed, steps.saturating_mul(config.batch_size))),
        None => dataset,
    }
}

/// What turns outputs into probabilities after training with the loss of the settings.
pub(crate) fn activation(config: &Config) -> Activation {
    match config.loss {
        LossKind::Bce => Activation::Sigmoid,
        LossKind::Softmax => Activation::Softmax,
    }
}

/// What is minimised and measured.
pub(crate) fn learner_config(config: &Config) -> LearnerConfig {
    let loss = match config.loss {
        LossKind::Bce => Loss::Bce,
        LossKind::Softmax => Loss::CrossEntropy { label_smoothing: 0.0 },
    };
    let threshold = config.threshold;
    let metrics = vec![Metric::accuracy_multi(threshold), Metric::exact_match(threshold), Metric::top1()];
    let on_nan = match config.on_nan {
        config::OnNan::Skip => OnNan::Skip { at_most: SKIPPED },
        config::OnNan::Stop | config::OnNan::Rollback => OnNan::Stop,
    };
    let (ema, validate_every) = (config.ema, config.validate_every);
    LearnerConfig { loss, adam: AdamConfig::default(), metrics, on_nan, ema, validate_every }
}

/// Refuses images with several labels, or none, where the loss needs exactly one.
pub(crate) fn check_labels(config: &Config, dataset: &Dataset) -> Result<()> {
    if config.loss == LossKind::Softmax && !dataset.targets().single() {
        return Err(Problem::usage("the loss `softmax` needs exactly one label an image, and the data have others")
            .hint("use `loss = \"bce\"`")
            .into());
    }
    Ok(())
}

/// The table of predictions, with names in place of ids.
pub(crate) fn predictions(dataset: &Dataset, found: &cn_learn::Predictions) -> Result<Predictions> {
    let mut table = Predictions::new(dataset.vocabulary().labels().iter().cloned())?;
    let probabilities = found.probabilities();
    let rows = probabilities.chunks_exact(dataset.vocabulary().len());
    for (&id, row) in found.ids.iter().zip(rows) {
        let record = &dataset.index().records()[id as usize];
        table.push(Prediction {
            path: record.path.clone(),
            group: record.group.clone(),
            targets: dataset.targets().classes(id).iter().map(|&class| class as usize).collect(),
            probabilities: row.to_vec(),
        })?;
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DataConfig, Normalise, SyntheticConfig};
    use crate::data::Plan;
    use cn_data::Cache;

    /// Six steps on 24 drawn images, three channels.
    fn config(normalise: Normalise) -> Config {
        let data = DataConfig { synthetic: true, ..DataConfig::default() };
        let synthetic = SyntheticConfig { images: 30, ..SyntheticConfig::default() };
        Config { data, synthetic, normalise, image_size: 32, batch_size: 4, threads: 1, ..Config::default() }
    }

    fn learner_on(config: &Config) -> Learner<Network> {
        let ui = Ui::new(&crate::args::Common::default());
        let dataset = Plan::new(config).and_then(|plan| plan.load(ui, config, Cache::Off)).expect("drawn");
        let start = Start::scratch();
        let (network, _) = network(config, &dataset, &start).expect("a network");
        learner(config, Arc::new(dataset), &start, network).expect("a learner")
    }

    /// Losses before and after the training of one epoch.
    fn losses(mut learner: Learner<Network>) -> [f64; 2] {
        let judge = |learner: &mut Learner<Network>| learner.evaluate().expect("judged").loss;
        let before = judge(&mut learner);
        learner.fit_one_cycle(1, cn_learn::Rates::Last { last: 1e-4 }, &mut []).expect("trained");
        [before, judge(&mut learner)]
    }

    #[test]
    fn grey_images_train_as_planes_as_they_would_as_channels() {
        for (normalise, n_planes) in [(Normalise::Imagenet, 2), (Normalise::None, 1)] {
            let config = config(normalise);
            let learner = learner_on(&config);
            let first = learner.batches().train(0, 0).expect("a stream").next().expect("a batch").expect("made");
            assert_eq!(first.images.dims(), [4, 32, 32, n_planes]);

            let batches = BatchConfig { planes: Planes::Channels, ..learner.batches().config().clone() };
            let source = Arc::clone(learner.batches().source());
            let network = Start::scratch().build(&config, source.n_classes()).expect("a network").0;
            let batches = Batches::new(source, batches, config.seed).expect("batches");
            let channels = Learner::new(network, batches, learner_config(&config)).expect("a learner");
            let (found, expected) = (losses(learner), losses(channels));
            assert!(expected[0] != expected[1]);
            // Adam makes a whole step even of a gradient that is rounding alone, so that losses drift apart in training.
            for (i, bound) in [1e-5, 5e-3].into_iter().enumerate() {
                let off = (found[i] / expected[i] - 1.0).abs();
                assert!(off < bound, "{found:?} with planes, {expected:?} with channels");
            }
        }
    }
}
