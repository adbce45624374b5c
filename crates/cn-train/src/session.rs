//! Learners from settings and data.

use crate::config::{Config, LossKind};
use crate::model::Start;
use crate::problem::Problem;
use anyhow::Result;
use candle_core::Device;
use cn_augment::Normalisation;
use cn_data::Dataset;
use cn_learn::{BatchConfig, Batches, Evaluation, Learner, LearnerConfig, Metric, Source};
use cn_ops::{AdamConfig, Loss, Network};
use cn_report::{Prediction, Predictions};
use std::sync::Arc;

/// Names of the metrics, the columns of the table.
pub(crate) const METRICS: [&str; 3] = ["accuracy_multi", "exact_match", "top1"];

/// A learner at the start of the recipe.
pub(crate) fn learner(config: &Config, dataset: Arc<Dataset>, start: &Start) -> Result<Learner<Network>> {
    let network = start.build(config, dataset.vocabulary().len())?;
    let batches = batches(config, dataset, start.normalisation(config)?)?;
    let mut learner = Learner::new(network, batches, learner_config(config))?;
    if config.freeze_pretrained && start.is_pretrained() {
        learner.freeze()?;
    }
    Ok(learner)
}

/// The batches of the settings.
pub(crate) fn batches(config: &Config, source: Arc<dyn Source>, normalisation: Normalisation) -> Result<Batches> {
    let train = config.augment.policy(config.image_size)?;
    let eval = config.validation.fixed_policy(config.image_size)?;
    let batches = BatchConfig {
        batch_size: config.batch_size,
        eval_batch_size: config.batch_size,
        channels: config.channels,
        normalisation,
        device: Device::Cpu,
        ..BatchConfig::new(train, eval)
    };
    Ok(Batches::new(source, batches, config.seed)?)
}

/// What is minimised and measured.
pub(crate) fn learner_config(config: &Config) -> LearnerConfig {
    let loss = match config.loss {
        LossKind::Bce => Loss::Bce,
        LossKind::Softmax => Loss::CrossEntropy { label_smoothing: 0.0 },
    };
    let threshold = config.threshold;
    let metrics = vec![Metric::accuracy_multi(threshold), Metric::exact_match(threshold), Metric::top1()];
    LearnerConfig { loss, adam: AdamConfig::default(), metrics }
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

/// The table of an evaluation, with names in place of ids.
pub(crate) fn predictions(dataset: &Dataset, evaluation: &Evaluation) -> Result<Predictions> {
    let mut table = Predictions::new(dataset.vocabulary().labels().iter().cloned())?;
    let probabilities = evaluation.predictions.probabilities();
    let rows = probabilities.chunks_exact(dataset.vocabulary().len());
    for (&id, row) in evaluation.predictions.ids.iter().zip(rows) {
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
