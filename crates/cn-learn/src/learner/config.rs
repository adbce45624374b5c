//! What a learner is told.

use crate::{Metric, OnNan};
use cn_ops::{AdamConfig, Loss};
use std::num::NonZeroUsize;

/// What a learner minimises, by what, and what it measures.
#[derive(Clone, Debug)]
pub struct LearnerConfig {
    /// What training minimises.
    pub loss: Loss,
    /// The optimizer.
    pub adam: AdamConfig,
    /// What is measured after each epoch.
    pub metrics: Vec<Metric>,
    /// What becomes of a step whose loss or gradients are no numbers.
    pub on_nan: OnNan,
    /// Decay of the average of the weights ([`cn_ops::Ema`]) that is judged and saved in place of the weights themselves;
    /// `None` for no average.
    pub ema: Option<f64>,
    /// Epochs from one validation to the next; the last epoch of a phase is always validated.
    pub validate_every: NonZeroUsize,
}

impl LearnerConfig {
    /// Binary cross-entropy, fastai's Adam, and `accuracy_multi` and `exact_match` at `threshold` with `top1`.
    #[must_use]
    pub fn multi_label(threshold: f64) -> Self {
        let metrics = vec![Metric::accuracy_multi(threshold), Metric::exact_match(threshold), Metric::top1()];
        Self {
            loss: Loss::Bce,
            adam: AdamConfig::default(),
            metrics,
            on_nan: OnNan::Stop,
            ema: None,
            validate_every: NonZeroUsize::MIN,
        }
    }

    /// Softmax cross-entropy, fastai's Adam, and `top1`.
    #[must_use]
    pub fn single_label() -> Self {
        let loss = Loss::CrossEntropy { label_smoothing: 0.0 };
        Self {
            loss,
            adam: AdamConfig::default(),
            metrics: vec![Metric::top1()],
            on_nan: OnNan::Stop,
            ema: None,
            validate_every: NonZeroUsize::MIN,
        }
    }
}
