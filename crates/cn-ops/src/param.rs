//! Trained tensors, and the flat buffer that holds them all.

use crate::storage::{Element, read, shape_error, with_float, write};
use crate::{Layer, Result, Slot};
use candle_core::{DType, Device, Shape, Tensor};
use cn_kernels::linear;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A trained tensor and its gradient.
///
/// Once [`Parameters::gather`] has run, both are views of flat buffers: never hold a read of one view while writing
/// another one of the same buffer.
#[derive(Debug)]
pub struct Param {
    value: Tensor,
    grad: Tensor,
    trainable: bool,
    decay: bool,
    norm: bool,
    state: Arc<State>,
}

/// What all parameters of a model have in common.
#[derive(Debug, Default)]
struct State {
    /// Changes with the values.
    version: AtomicU64,
    /// Whether every gradient is known to be zero.
    cleared: AtomicBool,
}

impl Param {
    /// A weight, which decays.
    ///
    /// # Errors
    ///
    /// If the device is out of memory.
    pub fn weight(value: Tensor) -> Result<Self> {
        let value = value.detach().contiguous()?;
        let grad = value.zeros_like()?;
        Ok(Self { value, grad, trainable: true, decay: true, norm: false, state: Arc::default() })
    }

    /// A scale or shift of a norm, which never decays and stays trainable when its group is frozen.
    ///
    /// # Errors
    ///
    /// If the device is out of memory.
    pub fn norm(value: Tensor) -> Result<Self> {
        Ok(Self { decay: false, norm: true, ..Self::weight(value)? })
    }

    /// A bias, which does not decay.
    ///
    /// # Errors
    ///
    /// If the device is out of memory.
    pub fn bias(value: Tensor) -> Result<Self> {
        Ok(Self { decay: false, ..Self::weight(value)? })
    }

    /// The values.
    #[must_use]
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// The gradient, of the same shape; backward passes add to it.
    #[must_use]
    pub fn grad(&self) -> &Tensor {
        self.state.cleared.store(false, Ordering::Relaxed);
        &self.grad
    }

    /// Whether a backward pass must fill the gradient.
    #[must_use]
    pub fn is_trainable(&self) -> bool {
        self.trainable
    }

    /// Changes with the values: a layer that keeps something made from them makes it again under another version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.state.version.load(Ordering::Relaxed)
    }

    /// From here on trained with `other`, and of its version: its values are made of the other's.
    pub(crate) fn follow(&mut self, other: &Self) {
        self.trainable = other.trainable;
        self.state = Arc::clone(&other.state);
    }
}

/// Adds `bias`, if there is one, to every row of `y`.
pub(crate) fn add_bias<T: Element>(bias: Option<&Param>, y: &Tensor) -> Result<()> {
    let Some(bias) = bias else { return Ok(()) };
    let bias = read::<T>(bias.value())?;
    write::<T, _>(y, |y| linear::add_bias(&bias, y))
}

/// Adds the sums of the rows `dy` to the gradient of `bias`, if there is one that is trained.
pub(crate) fn add_bias_grad<T: Element>(bias: Option<&Param>, dy: &[T]) -> Result<()> {
    match bias.filter(|bias| bias.is_trainable()) {
        Some(bias) => write::<T, _>(bias.grad(), |sums| linear::add_column_sums(dy, sums)),
        None => Ok(()),
    }
}

/// One tensor inside the flat buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Full name, PyTorch's.
    pub name: String,
    /// Shape of the tensor.
    pub shape: Shape,
    /// First element in the flat buffer.
    pub offset: usize,
    /// Number of elements.
    pub len: usize,
    /// Parameter group, from 0 (early layers) up.
    pub group: usize,
    /// Whether weight decay applies.
    pub decay: bool,
    /// Whether it belongs to a norm.
    pub norm: bool,
    /// Whether it is trained at present.
    pub trainable: bool,
}

/// All trained tensors of a model in one flat buffer, and their gradients in another.
#[derive(Debug)]
pub struct Parameters {
    values: Tensor,
    grads: Tensor,
    entries: Vec<Entry>,
    state: Arc<State>,
}

impl Parameters {
    /// Moves the parameters of `layer` into one flat buffer, in the order of [`Layer::visit`]; `group_of` gives each
    /// name its parameter group.
    ///
    /// # Errors
    ///
    /// If the parameters differ in type or device, or memory runs out.
    pub fn gather(layer: &mut dyn Layer, group_of: impl Fn(&str) -> usize) -> Result<Self> {
        let (mut tensors, mut flags) = (Vec::new(), Vec::new());
        layer.visit("", &mut |name, slot| {
            if let Slot::Param(p) = slot {
                tensors.push((name.to_string(), p.value.clone()));
                flags.push((p.decay, p.norm, p.trainable));
            }
            Ok(())
        })?;
        let mut flags = flags.into_iter();
        let parameters = Self::join(tensors.iter().map(|(name, value)| (name.as_str(), value)), |entry| {
            (entry.decay, entry.norm, entry.trainable) = flags.next().expect("one for each parameter");
            entry.group = group_of(&entry.name);
        })?;
        let mut next = parameters.entries.iter();
        layer.visit("", &mut |_, slot| {
            if let Slot::Param(p) = slot {
                let entry: &Entry = next.next().expect("`visit` shows the same parameters every time");
                p.value = view(&parameters.values, entry)?;
                p.grad = view(&parameters.grads, entry)?;
                p.state = Arc::clone(&parameters.state);
            }
            Ok(())
        })?;
        Ok(parameters)
    }

    /// Copies named tensors into one flat buffer; `describe` completes their entries.
    pub(crate) fn join<'a>(
        tensors: impl Iterator<Item = (&'a str, &'a Tensor)>,
        mut describe: impl FnMut(&mut Entry),
    ) -> Result<Self> {
        let (mut entries, mut flat, mut offset) = (Vec::new(), Vec::new(), 0);
        for (name, value) in tensors {
            let (name, shape, len) = (name.to_string(), value.shape().clone(), value.elem_count());
            let mut entry = Entry { name, shape, offset, len, group: 0, decay: true, norm: false, trainable: true };
            describe(&mut entry);
            entries.push(entry);
            offset += len;
            flat.push(value.detach().flatten_all()?);
        }
        let values = match flat.as_slice() {
            [] => Tensor::zeros(0, DType::F32, &Device::Cpu)?,
            // `cat` of one tensor would share its memory.
            flat => Tensor::cat(flat, 0)?.copy()?,
        };
        Ok(Self { grads: values.zeros_like()?, values, entries, state: Arc::default() })
    }

    /// All values, `(P)`.
    #[must_use]
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// Says that values were written: what layers keep of them is made anew. Optimizers and
    /// [`Model::load_tensors`](crate::Model::load_tensors) call it; so must who else writes to them.
    pub fn touch(&self) {
        self.state.version.fetch_add(1, Ordering::Relaxed);
    }

    /// All gradients, `(P)`; those of frozen parameters are zero.
    #[must_use]
    pub fn grads(&self) -> &Tensor {
        self.state.cleared.store(false, Ordering::Relaxed);
        &self.grads
    }

    /// The trained entry nearest to the output, if any, whose gradient has a number that is NaN or infinite, or too large
    /// to be squared, as [`crate::Adam`] does: where a backward pass first met one.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn not_finite_grad(&self) -> Result<Option<&Entry>> {
        with_float!("gradients", self.grads, T => {
            let grads = read::<T>(&self.grads)?;
            let grads = &*grads;
            let is_bad = |e: &Entry| !cn_kernels::all_squares_finite(&grads[e.offset..e.offset + e.len]);
            // In parallel, since on nearly every step all of them have to be read.
            Ok(self.entries.par_iter().rev().filter(|e| e.trainable).find_first(|e| is_bad(e)))
        })
    }

    /// What lies where, in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Number of parameter groups.
    #[must_use]
    pub fn n_groups(&self) -> usize {
        self.entries.iter().map(|e| e.group + 1).max().unwrap_or(0)
    }

    /// Sets every gradient to zero; free of cost if nobody has asked for one since an optimizer's step did so.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn zero_grads(&self) -> Result<()> {
        if !self.state.cleared.load(Ordering::Relaxed) {
            self.zero(0..self.grads.elem_count())?;
            self.mark_cleared();
        }
        Ok(())
    }

    fn zero(&self, range: Range<usize>) -> Result<()> {
        with_float!("gradients", self.grads, T => write::<T, _>(&self.grads, |g| g[range].fill(0.0)))
    }

    /// Says that every gradient is zero.
    pub(crate) fn mark_cleared(&self) {
        self.state.cleared.store(true, Ordering::Relaxed);
    }

    /// The values of one entry, a view.
    ///
    /// # Errors
    ///
    /// If `entry` is not one of [`Parameters::entries`].
    pub fn value_of(&self, entry: &Entry) -> Result<Tensor> {
        view(&self.values, entry)
    }

    /// The gradient of one entry, a view.
    ///
    /// # Errors
    ///
    /// If `entry` is not one of [`Parameters::entries`].
    pub fn grad_of(&self, entry: &Entry) -> Result<Tensor> {
        view(self.grads(), entry)
    }

    /// Trains exactly the entries that `wanted` names, in `layer` (whose parameters were gathered) and in updates. Those
    /// that are frozen lose their gradient.
    ///
    /// # Errors
    ///
    /// If `layer` is not the one that was gathered, or the device fails.
    pub fn set_trainable(&mut self, layer: &mut dyn Layer, wanted: impl Fn(&Entry) -> bool) -> Result<()> {
        self.mark_trainable(wanted)?;
        let mut next = self.entries.iter();
        layer.visit("", &mut |name, slot| {
            if let Slot::Param(p) = slot {
                let entry = next.next().filter(|e| e.name == name);
                let entry = entry.ok_or_else(|| shape_error(name, "a parameter that was gathered", p.value.shape()))?;
                p.trainable = entry.trainable;
            }
            Ok(())
        })
    }
}

impl Parameters {
    /// Trains exactly the entries that `wanted` names, in updates.
    pub(crate) fn mark_trainable(&mut self, wanted: impl Fn(&Entry) -> bool) -> Result<()> {
        for i in 0..self.entries.len() {
            let entry = &mut self.entries[i];
            entry.trainable = wanted(entry);
            if !entry.trainable {
                let range = entry.offset..entry.offset + entry.len;
                self.zero(range)?;
            }
        }
        Ok(())
    }
}

/// The part of a flat buffer, of values or of what is kept of each, that belongs to `entry`.
pub(crate) fn view(flat: &Tensor, entry: &Entry) -> Result<Tensor> {
    Ok(flat.narrow(0, entry.offset, entry.len)?.reshape(entry.shape.clone())?)
}
