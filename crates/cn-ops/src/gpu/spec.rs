//! What a network consists of, in words that a device can be told.

use crate::{Conv2dConfig, MaxPool2dConfig};

/// A layer and what is inside; names are the full ones of its tensors.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Spec {
    /// Convolution with the weight `name.weight (O, I, Kh, Kw)`.
    Conv {
        /// Full name.
        name: String,
        /// O, I, Kh, Kw.
        sizes: [usize; 4],
        /// Whether there is `name.bias`.
        bias: Bias,
        /// How the windows lie.
        config: Conv2dConfig,
    },
    /// Batch norm.
    Norm(NormSpec),
    /// Max pool.
    MaxPool(MaxPool2dConfig),
    /// Maxima and means over all positions.
    ConcatPool,
    /// Means over all positions.
    MeanPool,
    /// All of an image in one row.
    Flatten,
    /// Rectifier.
    Relu,
    /// Dropout.
    Dropout {
        /// Share that is dropped.
        p: f64,
        /// Identifier of the draws' purpose.
        purpose: u32,
    },
    /// Fully connected layer with the weight `name.weight (O, I)`.
    Linear {
        /// Full name.
        name: String,
        /// O, I.
        sizes: [usize; 2],
        /// Whether there is `name.bias`.
        bias: Bias,
    },
    /// Layers one after the other.
    Sequence(Vec<Spec>),
    /// `activation(norm(branch(x)) + shortcut(x))`.
    Residual {
        /// The branch without its last norm.
        branch: Box<Spec>,
        /// That norm.
        norm: NormSpec,
        /// The shortcut; the identity if there is none.
        shortcut: Option<Box<Spec>>,
    },
}

impl Spec {
    /// Channels that the first convolution reads.
    pub(super) fn in_channels(&self) -> Option<usize> {
        match self {
            Self::Conv { sizes: [_, inputs, ..], .. } => Some(*inputs),
            Self::Sequence(children) => children.iter().find_map(Self::in_channels),
            Self::Residual { branch, .. } => branch.in_channels(),
            _ => None,
        }
    }
}

/// Whether a layer has a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// It has none.
    Without,
    /// It has one.
    With,
}

/// A batch norm with the parameters `name.weight`, `name.bias` and the running moments of the same name.
#[derive(Clone, Debug, PartialEq)]
pub struct NormSpec {
    /// Full name.
    pub name: String,
    /// C.
    pub channels: usize,
    /// Added to the variance.
    pub eps: f64,
    /// Share of the batch's moments in the running ones.
    pub momentum: f64,
    /// What follows.
    pub activation: cn_kernels::norm::Activation,
}
