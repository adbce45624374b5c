//! What forward passes change in a model.

use crate::{Model, Result};
use candle_core::{DType, Tensor};
use std::collections::HashSet;

/// Copies of what a forward pass in training mode changes: running statistics and counters, small beside all else.
#[derive(Clone, Debug)]
pub struct Buffers(Vec<(String, Tensor)>);

impl Buffers {
    /// Those of `model`, as they are now.
    ///
    /// # Errors
    ///
    /// If memory runs out.
    pub fn of(model: &mut (impl Model + ?Sized)) -> Result<Self> {
        let tensors = model.named_tensors()?;
        let trained: HashSet<&str> = model.parameters().entries().iter().map(|entry| entry.name.as_str()).collect();
        let buffers = tensors.into_iter().filter(|(name, _)| !trained.contains(name.as_str()));
        Ok(Self(buffers.map(|(name, tensor)| Ok((name, tensor.copy()?))).collect::<Result<_>>()?))
    }

    /// The name of the first one that holds NaN or an infinity: the variance of activations can, that are finite.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn not_finite(&self) -> Result<Option<&str>> {
        for (name, tensor) in self.0.iter().filter(|(_, tensor)| tensor.dtype().is_float()) {
            let values: Vec<f32> = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
            if values.iter().any(|value| !value.is_finite()) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Gives `model` these values back.
    ///
    /// # Errors
    ///
    /// If it is another model.
    pub fn put_back(&self, model: &mut (impl Model + ?Sized)) -> Result<()> {
        model.load_tensors(&self.0)
    }
}
