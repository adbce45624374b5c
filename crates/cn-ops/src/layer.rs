//! The trait that every layer has, and what travels through a network beside the activations.

use crate::gpu::Spec;
use crate::storage::{check_shape, read, with_float, write};
use crate::timings::Way;
use crate::{Activation, Interrupt, Param, Pool, Result, Timings};
use candle_core::{Shape, Tensor};
use cn_kernels::conv::ConvShape;
use cn_kernels::{Precision, linear};
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

/// What a forward pass in training does with running statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statistics {
    /// They move towards those of the batch.
    Move,
    /// This batch has moved them already.
    Stay,
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
    /// Whether [`crate::Recomputed`] parts save their input alone.
    pub recomputes: bool,
    /// What becomes of running statistics in training.
    pub(crate) statistics: Statistics,
    /// Precision of products, on layers that know several.
    pub precision: Precision,
    /// Named activations and gradients that somebody wants.
    pub trace: Option<&'a mut Trace>,
    /// Times of layers that somebody wants.
    pub timings: Option<&'a mut Timings>,
    /// Sizes of the convolutions whose weights are put in order for use, where somebody wants them.
    pub(crate) prepared: Option<&'a mut Vec<ConvShape>>,
    /// Whether to end before the next layer.
    pub(crate) interrupt: Interrupt,
    /// Full name of the layer that runs; kept up to date only where somebody asks for it.
    path: String,
}

impl<'a> Pass<'a> {
    /// A forward pass that a backward pass will follow.
    #[must_use]
    pub fn train(pool: &Pool, draw: Draw<'a>) -> Self {
        Self { mode: Mode::Train(draw), saves: true, ..Self::eval(pool) }
    }

    /// A forward pass with running statistics, which keeps nothing.
    #[must_use]
    pub fn eval(pool: &Pool) -> Self {
        Self {
            mode: Mode::Eval,
            pool: pool.clone(),
            saves: false,
            recomputes: false,
            statistics: Statistics::Move,
            precision: Precision::F32,
            trace: None,
            timings: None,
            prepared: None,
            interrupt: Interrupt::default(),
            path: String::new(),
        }
    }

    /// Whether layers may do each other's work: nobody asks for what lies between them.
    pub(crate) fn fuses(&self) -> bool {
        matches!(self.mode, Mode::Eval) && !self.saves && self.trace.is_none() && self.timings.is_none()
    }

    /// The same, but a backward pass may follow (Grad-CAM asks for it in eval mode).
    #[must_use]
    pub fn saving(mut self) -> Self {
        self.saves = true;
        self
    }

    /// The same, but [`crate::Recomputed`] parts save their input alone.
    #[must_use]
    pub fn recomputing(mut self) -> Self {
        self.recomputes = true;
        self
    }

    /// A forward pass that saves, as this backward pass needs it once more.
    pub(crate) fn again<'b>(&'b mut self, mode: Mode<'b>) -> Pass<'b> {
        Pass {
            mode,
            pool: self.pool.clone(),
            saves: true,
            recomputes: false,
            statistics: Statistics::Stay,
            precision: self.precision,
            trace: None,
            timings: self.timings.as_deref_mut(),
            prepared: None,
            interrupt: self.interrupt.clone(),
            path: self.path.clone(),
        }
    }

    /// The same with products of `precision`.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// The same, and `trace` receives what it asks for.
    #[must_use]
    pub fn traced(mut self, trace: &'a mut Trace) -> Self {
        self.trace = Some(trace);
        self
    }

    /// The same, and `timings`, if there are any, receive how long each layer takes; layers then do not do each other's work.
    #[must_use]
    pub fn timed(mut self, timings: impl Into<Option<&'a mut Timings>>) -> Self {
        self.timings = timings.into();
        self
    }

    /// Runs the forward pass of the child `name` of the present layer; every container calls its children so.
    ///
    /// # Errors
    ///
    /// As the child.
    pub fn forward_child(&mut self, name: &str, child: &mut dyn Layer, x: &Activation) -> Result<Activation> {
        self.within(name, Way::Forward, |pass| {
            let y = child.forward(x, pass)?;
            if let Some(timings) = pass.timings.as_deref_mut() {
                timings.shapes(&pass.path, x.dims(), y.dims());
            }
            if let Some(trace) = pass.trace.as_deref_mut() {
                trace.activation(&pass.path, &y)?;
            }
            Ok(y)
        })
    }

    /// Runs the backward pass of the child `name` of the present layer.
    ///
    /// # Errors
    ///
    /// As the child.
    pub fn backward_child(
        &mut self,
        name: &str,
        child: &mut dyn Layer,
        dy: Activation,
        dx: InputGrad,
    ) -> Result<Option<Activation>> {
        self.within(name, Way::Backward, |pass| {
            if let Some(trace) = pass.trace.as_deref_mut() {
                trace.gradient(&pass.path, &dy)?;
            }
            child.backward(dy, dx, pass)
        })
    }

    fn within<R>(&mut self, name: &str, way: Way, run: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        self.interrupt.check()?;
        // A part without a name of its own is nobody whom one could ask for.
        if (self.trace.is_none() && self.timings.is_none()) || name.is_empty() {
            return run(self);
        }
        let outer = self.path.len();
        if outer > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        let start = self.timings.as_deref_mut().map(Timings::enter);
        let result = run(self);
        if let (Some(timings), Some(start)) = (self.timings.as_deref_mut(), start) {
            timings.leave(&self.path, way, start);
        }
        self.path.truncate(outer);
        result
    }
}

/// Copies of activations, and of the gradients that reach them, by the name of the layer that made them.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    wanted: Vec<String>,
    watch: Watch,
    /// Outputs of the layers that were asked for.
    pub activations: BTreeMap<String, Tensor>,
    /// Gradients of those outputs, once `backward` has run.
    pub gradients: BTreeMap<String, Tensor>,
    /// The first output with a number that is none, if a trace [watches](Trace::watching_numbers) and found one.
    pub not_finite: Option<NotFiniteOutput>,
}

/// Whether a [`Trace`] looks at every number of every output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Watch {
    #[default]
    No,
    Yes,
}

/// An output with a number that is NaN or infinite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFiniteOutput {
    /// Full name of the layer that made it.
    pub layer: String,
    /// Those images of the batch, from 0, that have such numbers.
    pub rows: Vec<usize>,
}

impl Trace {
    /// A trace of the layers with these full names, such as `layer4.1`.
    pub fn of(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { wanted: names.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// A trace that looks for the first output that is not finite, and keeps no copies.
    #[must_use]
    pub fn watching_numbers() -> Self {
        Self { watch: Watch::Yes, ..Self::default() }
    }

    /// Keeps a copy of the output of `name`, if it is wanted; containers call this after each child.
    ///
    /// # Errors
    ///
    /// If the device is out of memory.
    pub fn activation(&mut self, name: &str, value: &Activation) -> Result<()> {
        if self.watch == Watch::Yes && self.not_finite.is_none() {
            let rows = rows_not_finite(value)?;
            self.not_finite = (!rows.is_empty()).then(|| NotFiniteOutput { layer: name.into(), rows });
        }
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

/// Those rows of the first dimension that have a number that is NaN or infinite.
fn rows_not_finite(value: &Tensor) -> Result<Vec<usize>> {
    let row_len = value.elem_count() / value.dims().first().copied().unwrap_or(1).max(1);
    with_float!("activation", value, T => {
        let value = read::<T>(value)?;
        let rows = value.chunks(row_len.max(1)).enumerate();
        Ok(rows.filter_map(|(i, row)| (!cn_kernels::all_finite(row)).then_some(i)).collect())
    })
}

/// What a backward pass does with the gradient of its input.
#[derive(Clone, Debug)]
pub enum InputGrad {
    /// Nobody needs it: the layer reads images.
    Skip,
    /// Returned in memory from the pool.
    New,
    /// Added to this activation, which is returned. Whoever passes it holds no other handle of its memory.
    AddTo(Activation),
}

impl InputGrad {
    /// Answers the request with what `compute` writes into a tensor of this shape (unspecified contents before).
    ///
    /// For layers that have no cheaper way to add: their sum goes through memory of its own.
    ///
    /// # Errors
    ///
    /// What `compute` returns, or if the activation to add to has another shape.
    pub fn fill(
        self,
        shape: impl Into<Shape>,
        like: &Tensor,
        pass: &Pass<'_>,
        compute: impl FnOnce(&Tensor) -> Result<()>,
    ) -> Result<Option<Activation>> {
        if matches!(self, Self::Skip) {
            return Ok(None);
        }
        let dx = pass.pool.take(shape, like.dtype(), like.device())?;
        compute(&dx)?;
        self.give(dx)
    }

    /// Answers the request with a gradient that exists already.
    ///
    /// # Errors
    ///
    /// If the activation to add to has another shape.
    pub fn give(self, dx: Activation) -> Result<Option<Activation>> {
        match self {
            Self::Skip => Ok(None),
            Self::New => Ok(Some(dx)),
            Self::AddTo(sum) => {
                check_shape("gradient of the input", &sum, dx.dims())?;
                with_float!("gradient of the input", sum, T => {
                    let dx = read::<T>(&dx)?;
                    write::<T, _>(&sum, |sum| linear::add_assign(sum, &dx))
                })?;
                Ok(Some(sum))
            }
        }
    }
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

    /// What the layer consists of, for a device that runs it by itself; `prefix` is its full name.
    ///
    /// # Errors
    ///
    /// [`crate::Error::NotOnGpu`] if it has no kernels there.
    fn spec(&self, prefix: &str) -> Result<Spec> {
        Err(crate::Error::NotOnGpu { name: prefix.into(), reason: "this kind of layer has no kernels there" })
    }

    /// The layer as a factor and a summand for each channel, if in eval mode it is one, so that the layer before it can
    /// do its work in passing. Only for `f32` on the CPU.
    ///
    /// # Errors
    ///
    /// If the device fails.
    fn as_affine(&self) -> Result<Option<Affine>> {
        Ok(None)
    }

    /// `forward`, and `after` it in the same pass; `None` if the layer cannot. Saves nothing.
    ///
    /// # Errors
    ///
    /// As `forward`.
    fn forward_then(&mut self, x: &Activation, after: &After<'_>, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        let _ = (x, after, pass);
        Ok(None)
    }
}

/// `y = activation(scale * x + shift)`, channel by channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Affine {
    /// Factors, `(C)`.
    pub scale: Vec<f32>,
    /// Summands, `(C)`.
    pub shift: Vec<f32>,
    /// What comes last.
    pub activation: cn_kernels::norm::Activation,
}

/// What [`Layer::forward_then`] does with the output of the layer.
#[derive(Clone, Copy, Debug)]
pub struct After<'a> {
    /// The map of each channel.
    pub affine: &'a Affine,
    /// Added before the activation; of the shape of the output.
    pub residual: Option<&'a Activation>,
}

/// `prefix.name`, or one of them where the other is empty.
pub(crate) fn join(prefix: &str, name: &str) -> String {
    match (prefix, name) {
        ("", one) | (one, "") => one.into(),
        _ => format!("{prefix}.{name}"),
    }
}

impl<L: Layer + ?Sized> Layer for Box<L> {
    fn forward(&mut self, x: &Activation, pass: &mut Pass<'_>) -> Result<Activation> {
        (**self).forward(x, pass)
    }

    fn backward(&mut self, dy: Activation, dx: InputGrad, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        (**self).backward(dy, dx, pass)
    }

    fn visit(&mut self, prefix: &str, f: &mut Visit<'_>) -> Result<()> {
        (**self).visit(prefix, f)
    }

    fn spec(&self, prefix: &str) -> Result<Spec> {
        (**self).spec(prefix)
    }

    fn as_affine(&self) -> Result<Option<Affine>> {
        (**self).as_affine()
    }

    fn forward_then(&mut self, x: &Activation, after: &After<'_>, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        (**self).forward_then(x, after, pass)
    }
}
