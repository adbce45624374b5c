//! Averages of a model's weights over the steps of its training.

use crate::buffers::Buffers;
use crate::param::view;
use crate::storage::{check_shape, copy_into, read, with_float, write};
use crate::{Error, Model, Parameters, Result};
use candle_core::Tensor;
use cn_kernels::optim::ema;

/// An exponential moving average of all parameters and running statistics of a model (Polyak and Juditsky, 1992, with
/// weights that decay).
///
/// After step `n`, from 0, an average is `d * average + (1 - d) * value` with `d = min(decay, (1 + n) / (10 + n))`, so that
/// it forgets the first steps of a short run too (TensorFlow's `ExponentialMovingAverage` with `num_updates`); it begins as
/// the value after the first step. Counters are those of the last step.
///
/// It is kept on the CPU: a model that trains on a GPU is copied from there at each step.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    updates: u64,
    /// Of the parameters, in their order, and the rest by name; `None` before the first step.
    state: Option<(Tensor, Buffers)>,
}

impl Ema {
    /// An average of nothing yet.
    ///
    /// # Errors
    ///
    /// If `decay` is not between 0 and 1.
    pub fn new(decay: f64) -> Result<Self> {
        if !(decay > 0.0 && decay < 1.0) {
            return Err(Error::Setting { name: "ema", value: decay, expected: "a number between 0 and 1" });
        }
        Ok(Self { decay, updates: 0, state: None })
    }

    /// The share of the average that is left after a step, far from the start.
    #[must_use]
    pub fn decay(&self) -> f64 {
        self.decay
    }

    /// Steps that are part of it.
    #[must_use]
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Takes in the model as it is after a step.
    ///
    /// # Errors
    ///
    /// If it is another model than before, or memory runs out.
    pub fn update(&mut self, model: &mut (impl Model + ?Sized)) -> Result<()> {
        let buffers = Buffers::of(model)?;
        let values = model.parameters().values();
        match &mut self.state {
            None => self.state = Some((values.copy()?, buffers)),
            Some((average, averages)) => {
                check_shape("parameters", values, average.dims())?;
                let n = self.updates as f64;
                let decay = self.decay.min((1.0 + n) / (10.0 + n));
                blend(decay, average, values)?;
                averages.blend(decay, &buffers)?;
            }
        }
        self.updates += 1;
        Ok(())
    }

    /// Gives the model the average, and keeps what the model was in its place; a second call undoes the first. Nothing
    /// happens before the first step.
    ///
    /// # Errors
    ///
    /// If it is another model, or memory runs out.
    pub fn swap(&mut self, model: &mut (impl Model + ?Sized)) -> Result<()> {
        let Some((average, averages)) = &mut self.state else { return Ok(()) };
        let buffers = Buffers::of(model)?;
        let values = model.parameters().values();
        check_shape("parameters", values, average.dims())?;
        with_float!("parameters", values, T => {
            write::<T, _>(values, |values| write::<T, _>(average, |average| values.swap_with_slice(average)))?
        })?;
        model.parameters().touch();
        // The model hears of all that changed.
        averages.put_back(model)?;
        *averages = buffers;
        Ok(())
    }

    /// The averages by the model's names, in its order, without copies; `None` before the first step.
    ///
    /// # Errors
    ///
    /// If it is another model.
    pub fn named_tensors(&self, model: &mut (impl Model + ?Sized)) -> Result<Option<Vec<(String, Tensor)>>> {
        let Some((average, averages)) = &self.state else { return Ok(None) };
        let names = model.named_tensors()?;
        let entries = model.parameters().entries();
        let of = |name: String| {
            let tensor = match entries.iter().find(|entry| entry.name == name) {
                Some(entry) => view(average, entry)?,
                None => averages.get(&name).cloned().ok_or_else(|| unknown(&name))?,
            };
            Ok((name, tensor))
        };
        names.into_iter().map(|(name, _)| of(name)).collect::<Result<_>>().map(Some)
    }

    /// Takes over the average of another model of the same kind, by copy: of so many steps, by name.
    ///
    /// # Errors
    ///
    /// If names or shapes are not those of `model`.
    pub fn load(
        &mut self,
        model: &mut (impl Model + ?Sized),
        updates: u64,
        tensors: &[(String, Tensor)],
    ) -> Result<()> {
        let get = |name: &str| tensors.iter().find(|(n, _)| n == name).map(|(_, t)| t).ok_or_else(|| unknown(name));
        let averages = Buffers::of(model)?;
        let parameters: &Parameters = model.parameters();
        let average = parameters.values().zeros_like()?;
        for entry in parameters.entries() {
            let from = get(&entry.name)?;
            check_shape(&entry.name, from, entry.shape.dims())?;
            copy_into(&view(&average, entry)?, from)?;
        }
        averages.fill(get)?;
        (self.updates, self.state) = (updates, Some((average, averages)));
        Ok(())
    }
}

fn unknown(name: &str) -> Error {
    Error::UnknownTensor { name: name.to_owned() }
}

/// Moves `average` towards `values`, of the same shape.
pub(crate) fn blend(decay: f64, average: &Tensor, values: &Tensor) -> Result<()> {
    with_float!("values to average", average, T => {
        let values = read::<T>(values)?;
        write::<T, _>(average, |average| ema(decay, average, &values))
    })
}

#[cfg(test)]
mod tests;
