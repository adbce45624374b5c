//! Copies of a model's tensors.

use crate::Result;
use candle_core::{DType, Device, Tensor};
use cn_ops::Model;
use std::sync::Arc;

/// A copy of all parameters and buffers of a model, on the host, under PyTorch's names; cheap to clone.
#[derive(Clone, Debug)]
pub struct Weights {
    tensors: Arc<Vec<(String, Tensor)>>,
}

impl Weights {
    /// Copies those of `model`.
    ///
    /// # Errors
    ///
    /// If memory runs out.
    pub fn of(model: &mut dyn Model) -> Result<Self> {
        let tensors = model.named_tensors()?;
        let copy = |(name, tensor): (String, Tensor)| Ok((name, host_copy(&tensor)?));
        Ok(Self { tensors: Arc::new(tensors.into_iter().map(copy).collect::<Result<_>>()?) })
    }

    pub(crate) fn from_tensors(tensors: Vec<(String, Tensor)>) -> Self {
        Self { tensors: Arc::new(tensors) }
    }

    /// Whether no number is NaN or infinite.
    pub(crate) fn are_finite(&self) -> Result<bool> {
        for (_, tensor) in self.tensors.iter().filter(|(_, tensor)| tensor.dtype().is_float()) {
            let sum = tensor.flatten_all()?.to_dtype(DType::F64)?.abs()?.sum_all()?.to_scalar::<f64>()?;
            if !sum.is_finite() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The tensors, in the model's order.
    #[must_use]
    pub fn tensors(&self) -> &[(String, Tensor)] {
        &self.tensors
    }
}

/// A copy on the host that shares no memory with `tensor`.
pub(crate) fn host_copy(tensor: &Tensor) -> Result<Tensor> {
    // `copy` would take all of the flat buffer that a parameter is a view of.
    Ok(tensor.force_contiguous()?.to_device(&Device::Cpu)?)
}
