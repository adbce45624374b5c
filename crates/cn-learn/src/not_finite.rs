//! What is known of a step whose loss or gradients are NaN or infinite.

use std::fmt;

/// What a learner does at a step whose loss or gradients are NaN or infinite. Such a step never changes the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnNan {
    /// Ends the fit with [`crate::Error::NotFinite`].
    #[default]
    Stop,
    /// Leaves the step out, as if its batch had not been; ends the fit after so many in a row.
    Skip {
        /// Steps in a row that may be left out.
        at_most: u32,
    },
}

/// A step that was not taken, since its numbers were none, or after which validation gave none, or a weight was none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFinite {
    /// The step, from 0 over the learner's life.
    pub step: u64,
    /// Its epoch, from 0.
    pub epoch: u32,
    /// Where the first number was that is NaN or infinite.
    pub place: BadPlace,
    /// Images that have such numbers there, or, where all or none can be told apart, all of the batch, or of the
    /// validation part.
    pub ids: Vec<u32>,
    /// What people call them, see [`crate::Source::name`].
    pub names: Vec<String>,
}

/// Where numbers went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadPlace {
    /// In the output of a layer.
    Output {
        /// Its full name, PyTorch's.
        layer: String,
    },
    /// In the loss alone.
    Loss,
    /// In the gradient of a parameter; the loss is a number.
    Gradient {
        /// Its full name, PyTorch's.
        name: String,
    },
    /// In the running statistics of a norm; the loss is a number.
    Statistics {
        /// Their full name, PyTorch's.
        name: String,
    },
    /// In a parameter, after steps whose own numbers were finite; no images are named.
    Weight {
        /// Its full name, PyTorch's.
        name: String,
    },
    /// In the loss of the validation images, after a step whose own numbers were finite.
    Validation,
}

impl fmt::Display for BadPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output { layer } => write!(f, "the output of the layer `{layer}`"),
            Self::Loss => f.write_str("the loss"),
            Self::Gradient { name } => write!(f, "the gradient of `{name}`"),
            Self::Statistics { name } => write!(f, "the running statistics `{name}`"),
            Self::Weight { name } => write!(f, "the weight `{name}`"),
            Self::Validation => f.write_str("the validation loss"),
        }
    }
}

impl fmt::Display for NotFinite {
    /// `step 12, in epoch 0: the output of the layer `conv1` is not finite for the images `a/7.jpg`, `b/3.jpg``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        let Self { step, epoch, place, names, .. } = self;
        let verb = if matches!(place, BadPlace::Statistics { .. }) { "are" } else { "is" };
        write!(f, "step {step}, in epoch {epoch}: {place} {verb} not finite")?;
        if names.is_empty() {
            return Ok(());
        }
        f.write_str(" for the images ")?;
        for (i, name) in names.iter().take(SHOWN).enumerate() {
            write!(f, "{}`{name}`", if i > 0 { ", " } else { "" })?;
        }
        match names.len() {
            n if n > SHOWN => write!(f, " and {} more", n - SHOWN),
            _ => Ok(()),
        }
    }
}
