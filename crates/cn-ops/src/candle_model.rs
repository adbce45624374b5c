//! Models that were written for candle's own autograd.

use crate::network::load_into;
use crate::storage::{check_shape, dims, read, with_float, write};
use crate::{Activation, Entry, Error, Mode, Model, Parameters, Result};
use candle_core::{ModuleT, Tensor, Var};

/// Names that PyTorch and candle-nn give to tensors that are saved but not trained.
const BUFFERS: [&str; 3] = ["running_mean", "running_var", "num_batches_tracked"];

/// A [`Model`] made of any candle module and its variables.
///
/// Images are permuted to candle's `(B, C, H, W)`. A training pass keeps candle's graph until `backward`; gradients are
/// copied into the flat buffer, and the values that the optimizer writes there are copied into the variables before
/// each forward pass. The flat buffer is the truth: what else writes to the variables of parameters is overwritten.
///
/// Batch norms of candle-nn follow the mode; its dropout draws from candle's own generator, which has no seed on the
/// CPU. Its max pool has wrong gradients: take [`crate::autograd::max_pool2d`] instead.
#[derive(Debug)]
pub struct CandleModel<M> {
    module: M,
    /// Trained variables, in the order of the entries.
    vars: Vec<(String, Var)>,
    buffers: Vec<(String, Var)>,
    parameters: Parameters,
    logits: Option<Tensor>,
}

impl<M: ModuleT + Send> CandleModel<M> {
    /// A model of `module`, which computes logits `(B, K)` of `(B, C, H, W)` with `vars`.
    ///
    /// Variables named `running_mean`, `running_var` or `num_batches_tracked` are buffers. Those of one dimension, that
    /// is norms and biases, do not decay; `group_of` gives each name its parameter group.
    ///
    /// # Errors
    ///
    /// If the variables differ in type or device, or memory runs out.
    pub fn new(module: M, vars: Vec<(String, Var)>, group_of: impl Fn(&str) -> usize) -> Result<Self> {
        let is_buffer = |name: &str| name.rsplit('.').next().is_some_and(|last| BUFFERS.contains(&last));
        let (buffers, vars): (Vec<_>, Vec<_>) = vars.into_iter().partition(|(name, _)| is_buffer(name));
        let norms: Vec<&str> = buffers.iter().filter_map(|(name, _)| name.strip_suffix(".running_mean")).collect();
        let is_norm = |name: &str| name.rsplit_once('.').is_some_and(|(layer, _)| norms.contains(&layer));
        let parameters = Parameters::join(vars.iter().map(|(name, var)| (name.as_str(), var.as_tensor())), |entry| {
            entry.group = group_of(&entry.name);
            entry.decay = entry.shape.rank() > 1;
            entry.norm = is_norm(&entry.name);
        })?;
        Ok(Self { module, vars, buffers, parameters, logits: None })
    }

    /// The module.
    #[must_use]
    pub fn module(&self) -> &M {
        &self.module
    }

    /// Gives the variables the values that the optimizer left in the flat buffer.
    fn sync(&self) -> Result<()> {
        for (entry, (_, var)) in self.parameters.entries().iter().zip(&self.vars) {
            var.set(&self.parameters.value_of(entry)?)?;
        }
        Ok(())
    }
}

impl<M: ModuleT + Send> Model for CandleModel<M> {
    fn forward(&mut self, images: &Tensor, mode: Mode<'_>) -> Result<Activation> {
        dims::<4>("images", images, "(B, H, W, C)")?;
        self.sync()?;
        let images = images.detach().permute((0, 3, 1, 2))?.contiguous()?;
        let train = matches!(mode, Mode::Train(_));
        let logits = self.module.forward_t(&images, train)?;
        dims::<2>("logits", &logits, "(B, K)")?;
        let output = logits.detach().contiguous()?.into();
        self.logits = train.then_some(logits);
        Ok(output)
    }

    fn backward(&mut self, d_logits: &Activation) -> Result<()> {
        let logits = self.logits.take().ok_or(Error::NothingSaved { layer: "CandleModel" })?;
        check_shape("d_logits", d_logits, logits.dims())?;
        // The gradient of this sum is `d_logits` at the logits.
        let gradients = (&logits * d_logits.to_tensor()?)?.sum_all()?.backward()?;
        for (entry, (_, var)) in self.parameters.entries().iter().zip(&self.vars) {
            match gradients.get(var) {
                Some(gradient) if entry.trainable => add_to(&self.parameters.grad_of(entry)?, gradient)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn set_trainable(&mut self, wanted: &dyn Fn(&Entry) -> bool) -> Result<()> {
        self.parameters.mark_trainable(wanted)
    }

    fn named_tensors(&mut self) -> Result<Vec<(String, Tensor)>> {
        let entries = self.parameters.entries().iter();
        let values = entries.map(|entry| Ok((entry.name.clone(), self.parameters.value_of(entry)?)));
        let buffers = self.buffers.iter().map(|(name, var)| Ok((name.clone(), var.as_tensor().clone())));
        values.chain(buffers).collect()
    }

    fn load_tensors(&mut self, tensors: &[(String, Tensor)]) -> Result<()> {
        load_into(&self.named_tensors()?, tensors)
    }
}

fn add_to(sum: &Tensor, gradient: &Tensor) -> Result<()> {
    let gradient = gradient.detach().contiguous()?;
    with_float!("gradient", sum, T => {
        let gradient = read::<T>(&gradient)?;
        write::<T, _>(sum, |sum| cn_kernels::linear::add_assign(sum, &gradient))
    })
}

#[cfg(test)]
mod tests;
