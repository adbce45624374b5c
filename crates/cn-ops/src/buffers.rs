//! What forward passes change in a model.

use crate::ema::blend;
use crate::storage::{check_shape, copy_into};
use crate::{Error, Model, Result};
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

    /// The one of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, tensor)| tensor)
    }

    /// Moves the numbers that are averaged towards those of `other`, of the same model; counters become those of `other`.
    pub(crate) fn blend(&self, decay: f64, other: &Self) -> Result<()> {
        for (name, own) in &self.0 {
            let tensor = other.get(name).ok_or_else(|| Error::UnknownTensor { name: name.clone() })?;
            if own.dtype().is_float() { blend(decay, own, tensor)? } else { copy_into(own, tensor)? }
        }
        Ok(())
    }

    /// Overwrites each with what `of` gives for its name.
    pub(crate) fn fill<'a>(&self, of: impl Fn(&str) -> Result<&'a Tensor>) -> Result<()> {
        for (name, own) in &self.0 {
            let from = of(name)?;
            check_shape(name, from, own.dims())?;
            copy_into(own, from)?;
        }
        Ok(())
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
