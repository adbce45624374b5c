//! Copies of a model's tensors.

use crate::Result;
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
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
        Self::copy(model.named_tensors()?)
    }

    /// Copies these.
    pub(crate) fn copy(tensors: Vec<(String, Tensor)>) -> Result<Self> {
        let copy = |(name, tensor): (String, Tensor)| Ok((name, host_copy(&tensor)?));
        Ok(Self { tensors: Arc::new(tensors.into_iter().map(copy).collect::<Result<_>>()?) })
    }

    pub(crate) fn from_tensors(tensors: Vec<(String, Tensor)>) -> Self {
        Self { tensors: Arc::new(tensors) }
    }

    /// The name of the first one that holds NaN or an infinity.
    pub(crate) fn not_finite(&self) -> Result<Option<&str>> {
        for (name, tensor) in self.tensors.iter().filter(|(_, tensor)| tensor.dtype().is_float()) {
            if !is_finite(tensor)? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// The tensors, in the model's order.
    #[must_use]
    pub fn tensors(&self) -> &[(String, Tensor)] {
        &self.tensors
    }
}

pub(crate) fn is_finite(tensor: &Tensor) -> Result<bool> {
    let (storage, layout) = tensor.storage_and_layout();
    if let (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) = (&*storage, layout.contiguous_offsets()) {
        // Without a look at each number by itself, and without copies: training waits for this.
        let all = |part: &[f32]| part.iter().fold(true, |all, value| all & value.is_finite());
        return Ok(values[start..end].chunks(4096).all(all));
    }
    let sum = tensor.flatten_all()?.to_dtype(DType::F64)?.abs()?.sum_all()?.to_scalar::<f64>()?;
    Ok(sum.is_finite())
}

/// A copy on the host that shares no memory with `tensor`.
pub(crate) fn host_copy(tensor: &Tensor) -> Result<Tensor> {
    // `copy` would take all of the flat buffer that a parameter is a view of.
    Ok(tensor.force_contiguous()?.to_device(&Device::Cpu)?)
}
