//! Losses with their gradients.

use crate::storage::{dims, read, shape_error, with_float, write};
use crate::{Activation, Error, Result};
use candle_core::Tensor;
use cn_kernels::loss;

/// What a classifier minimises.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Loss {
    /// [`bce_with_logits`], for labels of which several may be true.
    Bce,
    /// [`softmax_cross_entropy`], for labels of which exactly one is true.
    CrossEntropy {
        /// Share of each target that is spread evenly over all classes, from 0 to 1.
        label_smoothing: f64,
    },
}

impl Loss {
    /// The loss of `logits (B, K)` against `targets (B, K)`: a scalar on the device, and the gradient of the logits.
    ///
    /// # Errors
    ///
    /// If the shapes differ or are empty, or `label_smoothing` is outside [0, 1].
    pub fn compute(&self, logits: &Tensor, targets: &Tensor) -> Result<(Tensor, Activation)> {
        match *self {
            Self::Bce => bce_with_logits(logits, targets),
            Self::CrossEntropy { label_smoothing: 0.0 } => softmax_cross_entropy(logits, targets),
            Self::CrossEntropy { label_smoothing: share } => {
                if !(0.0..=1.0).contains(&share) {
                    return Err(Error::Setting {
                        name: "label_smoothing",
                        value: share,
                        expected: "a number from 0 to 1",
                    });
                }
                let [_, classes] = dims("targets", targets, "(B, K)")?;
                softmax_cross_entropy(logits, &targets.affine(1.0 - share, share / classes.max(1) as f64)?)
            }
        }
    }
}

/// Binary cross-entropy of the sigmoids of `logits (B, K)` against `targets (B, K)` from 0 to 1: the mean over all
/// `B K` entries, and its gradient. Finite for every finite logit.
///
/// The loss is a scalar tensor of the logits' type; reading it is left to the caller.
///
/// # Errors
///
/// If the shapes differ or are empty.
pub fn bce_with_logits(logits: &Tensor, targets: &Tensor) -> Result<(Tensor, Activation)> {
    let targets = check(logits, targets)?;
    let d_logits = logits.zeros_like()?;
    let loss = with_float!("logits", logits, T => {
        let (x, t) = (read::<T>(logits)?, read::<T>(&targets)?);
        let loss = write::<T, _>(&d_logits, |d| loss::bce_with_logits(&x, &t, d))?;
        Ok::<_, Error>(Tensor::new(loss as T, logits.device())?)
    })?;
    Ok((loss, d_logits.into()))
}

/// Cross-entropy of the softmax of `logits (B, K)` against the distributions `targets (B, K)`: the mean over the rows,
/// and its gradient. Finite for every finite logit.
///
/// The loss is a scalar tensor of the logits' type; reading it is left to the caller.
///
/// # Errors
///
/// If the shapes differ or are empty.
pub fn softmax_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<(Tensor, Activation)> {
    let targets = check(logits, targets)?;
    let [_, classes] = dims("logits", logits, "(B, K)")?;
    let d_logits = logits.zeros_like()?;
    let loss = with_float!("logits", logits, T => {
        let (x, t) = (read::<T>(logits)?, read::<T>(&targets)?);
        let loss = write::<T, _>(&d_logits, |d| loss::softmax_cross_entropy(classes, &x, &t, d))?;
        Ok::<_, Error>(Tensor::new(loss as T, logits.device())?)
    })?;
    Ok((loss, d_logits.into()))
}

/// The targets in the type of the logits.
pub(crate) fn check(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    dims::<2>("logits", logits, "(B, K)")?;
    if logits.elem_count() == 0 {
        return Err(shape_error("logits", "(B, K), no size 0", logits.shape()));
    }
    crate::storage::check_shape("targets", targets, logits.dims())?;
    Ok(targets.detach().to_dtype(logits.dtype())?.contiguous()?)
}

#[cfg(test)]
mod tests;
