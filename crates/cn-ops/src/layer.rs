//! The trait that every layer has, and what travels through a network beside the activations.

use crate::{Activation, Param, Pool, Result};
use candle_core::Tensor;
use std::collections::BTreeMap;

/// The key of everything random in one training batch: image `ids[b]` draws from (seed, epoch, id) alone.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    /// Seed of the run.
    pub seed: u64,
    /// Epoch, from 0.
    pub epoch: u32,
    /// Image ids, `(B)`.
    pub ids: &'a [u32],
}

/// How layers behave that treat training and use differently.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// Batch statistics, running ones move, dropout is active.
    Train(Draw<'a>),
    /// Running statistics, no dropout.
    Eval,
}

/// One pass through a network: its mode, its memory, and who listens.
#[derive(Debug)]
pub struct Pass<'a> {
    /// Training or use.
    pub mode: Mode<'a>,
    /// Where activations come from.
    pub pool: Pool,
    /// Whether a backward pass will follow.
    pub saves: bool,
    /// Named activations and gradients that somebody wants.
    pub trace: Option<&'a mut Trace>,
}

impl<'a> Pass<'a> {
    /// A forward pass that a backward pass will follow.
    #[must_use]
    pub fn train(pool: &Pool, draw: Draw<'a>) -> Self {
        Self { mode: Mode::Train(draw), pool: pool.clone(), saves: true, trace: None }
    }

    /// A forward pass with running statistics, which keeps nothing.
    #[must_use]
    pub fn eval(pool: &Pool) -> Self {
        Self { mode: Mode::Eval, pool: pool.clone(), saves: false, trace: None }
    }

    /// The same, but a backward pass may follow (Grad-CAM asks for it in eval mode).
    #[must_use]
    pub fn saving(mut self) -> Self {
        self.saves = true;
        self
    }

    /// The same, and `trace` receives what it asks for.
    #[must_use]
    pub fn traced(mut self, trace: &'a mut Trace) -> Self {
        self.trace = Some(trace);
        self
    }
}

/// Copies of activations, and of the gradients that reach them, by the name of the layer that made them.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    wanted: Vec<String>,
    /// Outputs of the layers that were asked for.
    pub activations: BTreeMap<String, Tensor>,
    /// Gradients of those outputs, once `backward` has run.
    pub gradients: BTreeMap<String, Tensor>,
}

impl Trace {
    /// A trace of the layers with these full names, such as `layer4.1`.
    pub fn of(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { wanted: names.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Keeps a copy of the output of `name`, if it is wanted; containers call this after each child.
    ///
    /// # Errors
    ///
    /// If the device is out of memory.
    pub fn activation(&mut self, name: &str, value: &Activation) -> Result<()> {
        if self.wanted.iter().any(|w| w == name) {
            self.activations.insert(name.into(), value.to_tensor()?);
        }
        Ok(())
    }

    /// Keeps a copy of the gradient of the output of `name`, if it is wanted; containers call this before each child.
    ///
    /// # Errors
    ///
    /// If the device is out of memory.
    pub fn gradient(&mut self, name: &str, value: &Activation) -> Result<()> {
        if self.wanted.iter().any(|w| w == name) {
            self.gradients.insert(name.into(), value.to_tensor()?);
        }
        Ok(())
    }
}

/// What a backward pass does with the gradient of its input.
#[derive(Clone, Debug)]
pub enum InputGrad {
    /// Nobody needs it: the layer reads images.
    Skip,
    /// Returned in memory from the pool.
    New,
    /// Added to this activation, which is returned.
    AddTo(Activation),
}

/// A parameter or a buffer, as [`Layer::visit`] shows it.
#[derive(Debug)]
pub enum Slot<'a> {
    /// A tensor that is trained.
    Param(&'a mut Param),
    /// A tensor that is saved but not trained, such as a running mean.
    Buffer(&'a mut Tensor),
}

/// What [`Layer::visit`] calls with the full name of each parameter and buffer.
pub type Visit<'a> = dyn FnMut(&str, Slot<'_>) -> Result<()> + 'a;

/// A part of a network with an explicit backward pass.
pub trait Layer: Send {
    /// The output for `x`. Saves what `backward` needs if `pass.saves`, and nothing otherwise.
    ///
    /// # Errors
    ///
    /// If the shape, type or device of `x` does not fit, or memory runs out.
    fn forward(&mut self, x: &Activation, pass: &mut Pass<'_>) -> Result<Activation>;

    /// Adds the gradients of the trainable parameters to theirs, and returns that of the input (`None` for
    /// [`InputGrad::Skip`]). Uses up what `forward` saved.
    ///
    /// # Errors
    ///
    /// [`crate::Error::NothingSaved`] without a forward pass that saved, or as `forward`.
    fn backward(&mut self, dy: Activation, dx: InputGrad, pass: &mut Pass<'_>) -> Result<Option<Activation>>;

    /// Shows every parameter and buffer, always in the same order, under `prefix` and PyTorch's names.
    ///
    /// # Errors
    ///
    /// What `f` returns.
    fn visit(&mut self, prefix: &str, f: &mut Visit<'_>) -> Result<()>;
}

/// `prefix.name`, or `name` alone at the root.
pub(crate) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.into() } else { format!("{prefix}.{name}") }
}
