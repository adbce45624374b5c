//! From a weight file into a network.

use super::{
    WeightFile,
    names::{is_counter, is_head},
};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use cn_ops::Model;

/// How much of a network a weight file must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Every tensor, with its shape, and no other: the same network.
    Exact,
    /// The body, for a new task.
    ///
    /// - The head is taken if the file holds all of it with the same shapes; otherwise (another class count or another
    ///   kind of head) it keeps its present values, all of it.
    /// - A stem for several channels goes into one for a single channel as the sum over them. On grey images that is the
    ///   same network if all channels were normalised alike. ImageNet's channels were not (mean 0.485, 0.456, 0.406;
    ///   deviation 0.229, 0.224, 0.225): there the plain sum, with grey normalised by their averages (0.449 and 0.226),
    ///   is wrong by at most 1.4 % in each channel's slope and by a constant for each filter, which the batch norm behind
    ///   the stem removes in training. Nothing is rescaled.
    /// - A stem for a single channel goes into one for several as an equal share for each of them: the same network on
    ///   grey images.
    Transfer,
}

/// What [`load`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loaded {
    /// Tensors that came from the file.
    pub taken: Vec<String>,
    /// Tensors of the network that kept their values: those of a head that did not fit.
    pub missing: Vec<String>,
    /// Tensors of the file that were not used, but for batch counters.
    pub skipped: Vec<String>,
    /// Whether the stem's channels were summed into one.
    pub stem_summed: bool,
    /// Whether the stem's only channel was shared out over several.
    pub stem_spread: bool,
}

impl Loaded {
    /// Whether the head kept its own values.
    #[must_use]
    pub fn head_replaced(&self) -> bool {
        !self.missing.is_empty()
    }
}

/// Copies the weights of a file into a network, converted to its element type (f16, bf16, f32 or f64) and device.
///
/// PyTorch's batch counters (`num_batches_tracked`) are taken where the file has them; older files do not.
/// Everything is checked before the first tensor is written, so that an error leaves the network as it was.
///
/// # Errors
///
/// [`Error::Missing`], [`Error::WrongShape`] and, for [`Fit::Exact`], [`Error::Unexpected`] by name;
/// [`Error::NotFinite`] for NaN and infinities, also those that arise in conversion; [`Error::NegativeVariance`];
/// [`Error::NotFloat`].
pub fn load(model: &mut dyn Model, file: &WeightFile, fit: Fit) -> Result<Loaded> {
    let wanted = model.named_tensors()?;
    let keeps_head = fit == Fit::Transfer && !head_fits(&wanted, file);
    let mut loaded = Loaded::default();
    let mut tensors = Vec::new();
    let mut absent = Vec::new();
    for (name, present) in &wanted {
        if keeps_head && is_head(name) {
            if !is_counter(name) {
                loaded.missing.push(name.clone());
            }
            continue;
        }
        let Some(found) = file.get(name) else {
            if !is_counter(name) {
                absent.push(name);
            }
            continue;
        };
        let fitted = match fit {
            Fit::Transfer if folds(name, found, present) => {
                loaded.stem_summed = true;
                // In f32 at least: halves would lose bits in the sum.
                let wide = if found.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
                found.to_dtype(wide)?.sum_keepdim(1)?
            }
            Fit::Transfer if folds(name, present, found) => {
                loaded.stem_spread = true;
                let channels = present.dim(1)?;
                (found.to_dtype(DType::F32)? / channels as f64)?.repeat((1, channels, 1, 1))?
            }
            _ => found.clone(),
        };
        tensors.push((name.clone(), converted(name, &fitted, present)?));
        loaded.taken.push(name.clone());
    }
    if let Some(first) = absent.first() {
        return Err(Error::Missing { count: absent.len(), first: first.to_string() });
    }
    let unused = |name: &String| !loaded.taken.contains(name) && !is_counter(name);
    loaded.skipped = file.tensors().map(|(name, _)| name.to_owned()).filter(unused).collect();
    match loaded.skipped.first() {
        Some(first) if fit == Fit::Exact => {
            Err(Error::Unexpected { count: loaded.skipped.len(), first: first.clone() })
        }
        _ => {
            model.load_tensors(&tensors)?;
            Ok(loaded)
        }
    }
}

/// Whether the file holds every tensor of the head, with its shape.
fn head_fits(wanted: &[(String, Tensor)], file: &WeightFile) -> bool {
    let mut head = wanted.iter().filter(|(name, _)| is_head(name) && !is_counter(name));
    head.all(|(name, present)| file.get(name).is_some_and(|found| found.shape() == present.shape()))
}

/// Whether a stem for several channels is to become one for a single channel.
fn folds(name: &str, found: &Tensor, present: &Tensor) -> bool {
    match (found.dims(), present.dims()) {
        (&[o, i, h, w], &[po, 1, ph, pw]) => name == "conv1.weight" && i > 1 && (o, h, w) == (po, ph, pw),
        _ => false,
    }
}

/// `found` in the type and on the device of `present`, checked.
fn converted(name: &str, found: &Tensor, present: &Tensor) -> Result<Tensor> {
    if found.shape() != present.shape() {
        let (expected, found) = (present.shape().clone(), found.shape().clone());
        return Err(Error::WrongShape { name: name.into(), expected, found });
    }
    if is_counter(name) {
        return Ok(found.to_dtype(present.dtype())?.to_device(present.device())?);
    }
    if !matches!(found.dtype(), DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
        return Err(Error::NotFloat { name: name.into(), found: found.dtype() });
    }
    let tensor = found.to_device(&Device::Cpu)?.to_dtype(present.dtype())?;
    // f64 holds every value of every float type.
    let values = tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    if let Some(position) = values.iter().position(|v| !v.is_finite()) {
        return Err(Error::NotFinite { name: name.into(), position, value: values[position] });
    }
    if name.ends_with(".running_var")
        && let Some(position) = values.iter().position(|&v| v < 0.0)
    {
        return Err(Error::NegativeVariance { name: name.into(), position, value: values[position] });
    }
    Ok(tensor.to_device(present.device())?)
}

#[cfg(test)]
mod tests;
