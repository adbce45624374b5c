//! What settings choose between, by name.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What becomes of drawings with dark ink on a bright ground.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum GroundKind {
    /// They become light ink on a dark ground, as padding, borders and the built-in weights have it
    #[default]
    Turned,
    /// They stay
    AsIs,
}

impl GroundKind {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub(super) fn is_turned(&self) -> bool {
        *self == Self::Turned
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StyleKind {
    #[default]
    Scans,
    Wide,
}

/// Whether the size of a batch may become smaller than it is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BatchFit {
    /// Somebody said it.
    #[default]
    Fixed,
    /// It is the recipe's: where there are fewer training images, those are one batch.
    Images,
    /// `auto`: also where memory is short.
    Memory,
}

/// What becomes of a run at a step whose loss or gradients are NaN or infinite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnNan {
    /// End, with a checkpoint from right before it
    #[default]
    Stop,
    /// Leave the step out and go on
    Skip,
    /// Go back to the end of the last epoch, or to the start, and on from there with half the learning rates
    Rollback,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum HeadKind {
    #[default]
    Fastai,
    Plain,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LossKind {
    #[default]
    Bce,
    Softmax,
}

/// Whether ImageNet's mean and deviation are applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Normalise {
    /// If the weights are pretrained, with the statistics that they were trained with.
    #[default]
    Pretrained,
    Imagenet,
    None,
}
