//! A network written down as steps for a device.
//!
//! Layers are walked through once. Each writes down what it launches in the forward pass, and returns how to write down
//! its backward pass; buffers are handed on as [`Layer`](crate::Layer)s hand on activations.

use super::memory::{Lease, Planner, Value};
use super::parameters::GpuParameters;
use super::spec::{Bias, NormSpec, Spec};
use crate::storage::shape_error;
use crate::{Error, Result};
use candle_core::Shape;
use cn_cuda::{
    Buffer, ConvShape, Convolution, Device, Dropout, Element, LinearShape, Products, StepState, Write, conv, train,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

mod norms;
mod pools;

use norms::Residuum;

/// One or several launches.
pub(super) type Step = Box<dyn FnMut() -> cn_cuda::Result<()> + Send>;

/// Writes down the backward pass of a layer, given the gradient of its output.
type Back<'a> = Box<dyn FnOnce(&mut Writer<'a>, Value, Grad) -> Result<Option<Value>> + 'a>;

/// What becomes of the gradient of a layer's input.
pub(super) enum Grad {
    /// Nobody needs it.
    Skip,
    /// It is returned.
    New,
    /// It is added to this one, which is returned.
    AddTo(Value),
}

/// Whether norms use the batch and dropout drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    Train,
    Eval,
}

/// What steps share.
pub(super) struct Context<'a> {
    pub(super) device: &'a Device,
    pub(super) parameters: &'a GpuParameters,
    /// Whether each parameter is trained; steps look at run time.
    pub(super) trained: &'a Arc<Vec<AtomicBool>>,
    pub(super) state: &'a StepState,
    /// Numbers of the batch's images.
    pub(super) ids: &'a Buffer,
    pub(super) products: Products,
}

/// Writes down steps.
pub(super) struct Writer<'a> {
    context: &'a Context<'a>,
    planner: Planner,
    pass: Pass,
    pub(super) steps: Vec<Step>,
    /// In use: what makes weights of them ready, to be run when parameters have changed.
    pub(super) folds: Vec<Step>,
    /// Parameters whose gradients are left in bf16.
    pub(super) narrow: Vec<usize>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(context: &'a Context<'a>, pass: Pass) -> Self {
        Self {
            context,
            planner: Planner::new(context.device),
            pass,
            steps: Vec::new(),
            folds: Vec::new(),
            narrow: Vec::new(),
        }
    }

    pub(super) fn planner(&self) -> &Planner {
        &self.planner
    }

    fn push(&mut self, step: impl FnMut() -> cn_cuda::Result<()> + Send + 'static) {
        self.steps.push(Box::new(step));
    }

    /// Memory like that of a value.
    fn like(&self, x: &Value) -> Result<Value> {
        Ok(self.planner.value(&x.dims, x.element)?)
    }

    /// Runs only while the parameter is trained.
    fn push_trained(
        &mut self,
        name: &str,
        mut step: impl FnMut() -> cn_cuda::Result<()> + Send + 'static,
    ) -> Result<()> {
        let (index, trained) = (self.context.parameters.index(name)?, Arc::clone(self.context.trained));
        self.push(move || if trained[index].load(Ordering::Relaxed) { step() } else { Ok(()) });
        Ok(())
    }

    /// Answers `grad` with what `compute` writes down for a buffer of its own.
    fn answer(
        &mut self,
        grad: Grad,
        like: &Value,
        compute: impl FnOnce(&mut Self, &Value) -> Result<()>,
    ) -> Result<Option<Value>> {
        if matches!(grad, Grad::Skip) {
            return Ok(None);
        }
        let dx = self.like(like)?;
        compute(self, &dx)?;
        self.give(grad, dx)
    }

    /// Answers `grad` with a gradient that is there.
    fn give(&mut self, grad: Grad, dx: Value) -> Result<Option<Value>> {
        match grad {
            Grad::Skip => Ok(None),
            Grad::New => Ok(Some(dx)),
            Grad::AddTo(sum) => {
                let (device, from, to, e) = (self.context.device.clone(), dx.buffer(), sum.buffer(), dx.element);
                self.push(move || train::add(&device, e, &from, &to));
                Ok(Some(sum))
            }
        }
    }

    /// The same numbers in memory that nothing else needs.
    fn owned(&mut self, value: Value) -> Result<Value> {
        if value.lease.is_unique() {
            return Ok(value);
        }
        let copy = self.like(&value)?;
        let (from, to) = (value.buffer(), copy.buffer());
        self.push(move || to.copy_from(&from));
        Ok(copy)
    }

    /// Writes down the forward pass of a layer.
    pub(super) fn layer(&mut self, spec: &'a Spec, x: Value) -> Result<(Value, Back<'a>)> {
        match spec {
            Spec::Conv { name, sizes, bias, config } => self.conv(name, ConvParts { sizes, bias, config }, x),
            Spec::Norm(norm) => {
                let (y, back) = self.norm(norm, x, None)?;
                Ok((y, Box::new(move |w, dy, grad| Ok(back(w, dy, grad, Residuum::Skip)?.0))))
            }
            Spec::MaxPool(config) => self.max_pool(config, x),
            Spec::ConcatPool => self.concat_pool(x),
            Spec::MeanPool => self.mean_pool(x),
            Spec::Flatten => Ok(flatten(x)),
            Spec::Relu => self.relu(x),
            Spec::Dropout { p, purpose } => self.dropout(Dropout { p: *p, purpose: *purpose }, x),
            Spec::Linear { name, sizes, bias } => self.linear(name, *sizes, *bias, x),
            Spec::Sequence(children) => self.sequence(children, x),
            Spec::Residual { branch, norm, shortcut } => self.residual(branch, norm, shortcut.as_deref(), x),
        }
    }

    fn sequence(&mut self, children: &'a [Spec], x: Value) -> Result<(Value, Back<'a>)> {
        let (mut x, mut backs) = (x, Vec::new());
        let mut children = children.iter().peekable();
        while let Some(child) = children.next() {
            if let (Pass::Eval, Spec::Conv { .. }, Some(Spec::Norm(norm))) = (self.pass, child, children.peek()) {
                children.next();
                x = self.folded(child, norm, x, None)?;
                continue;
            }
            if let (Pass::Train, Spec::Norm(norm), Some(Spec::MaxPool(pool))) = (self.pass, child, children.peek()) {
                children.next();
                let (y, back) = self.norm_pool(norm, pool, x)?;
                backs.push(back);
                x = y;
                continue;
            }
            let (y, back) = self.layer(child, x)?;
            // In use, nothing is kept: what `back` holds is free from here on.
            if self.pass == Pass::Train {
                backs.push(back);
            }
            x = y;
        }
        let back: Back<'a> = Box::new(move |w, dy, grad| {
            let mut backs = backs.into_iter();
            let Some(first) = backs.next() else { return w.give(grad, dy) };
            let mut dy = dy;
            for back in backs.rev() {
                dy = back(w, dy, Grad::New)?.expect("a new gradient is returned");
            }
            first(w, dy, grad)
        });
        Ok((x, back))
    }

    fn residual(
        &mut self,
        branch: &'a Spec,
        norm: &'a NormSpec,
        shortcut: Option<&'a Spec>,
        x: Value,
    ) -> Result<(Value, Back<'a>)> {
        if let (Pass::Eval, Spec::Sequence(children)) = (self.pass, branch)
            && let Some((last @ Spec::Conv { .. }, before)) = children.split_last()
        {
            let (inner, _) = self.sequence(before, x.clone())?;
            let skip = match shortcut {
                Some(shortcut) => self.layer(shortcut, x)?.0,
                None => x,
            };
            let y = self.folded(last, norm, inner, Some(&skip))?;
            return Ok((y, Box::new(|w, dy, grad| w.give(grad, dy))));
        }
        let (inner, branch_back) = self.layer(branch, x.clone())?;
        let (skip, shortcut_back) = match shortcut {
            Some(shortcut) => {
                let (skip, back) = self.layer(shortcut, x)?;
                (skip, Some(back))
            }
            None => (x, None),
        };
        let masks = norm.activation == cn_kernels::norm::Activation::Relu;
        let (y, norm_back) = self.norm(norm, inner, Some(&skip))?;
        let back: Back<'a> = Box::new(move |w, dy, grad| {
            let needs_mask = masks && (shortcut_back.is_some() || !matches!(grad, Grad::Skip));
            let residuum = if needs_mask { Residuum::New } else { Residuum::Skip };
            let (d_inner, d_skip) = norm_back(w, dy.clone(), Grad::New, residuum)?;
            let d_inner = d_inner.expect("a new gradient is returned");
            let d_skip = d_skip.unwrap_or_else(|| dy.clone());
            drop(dy);
            let is_new = matches!(grad, Grad::New);
            // A shortcut in steps adds to some pixels alone, so that the branch comes first.
            let (sum, last, d_last) = match shortcut_back {
                Some(back) => (branch_back(w, d_inner, grad)?, back, d_skip),
                None => (w.give(grad, d_skip)?, branch_back, d_inner),
            };
            let sum = if is_new { sum.map(|sum| w.owned(sum)).transpose()? } else { sum };
            last(w, d_last, sum.map_or(Grad::Skip, Grad::AddTo))
        });
        Ok((y, back))
    }

    fn conv(&mut self, name: &'a str, parts: ConvParts<'a>, x: Value) -> Result<(Value, Back<'a>)> {
        let ConvParts { sizes: [out_channels, in_channels, kh, kw], bias, config } = parts;
        let &[batch, height, width, channels] = x.dims.as_slice() else { return Err(misfit(name, &x, "(B, H, W, I)")) };
        if channels != *in_channels {
            return Err(misfit(name, &x, &format!("(B, H, W, {in_channels})")));
        }
        let (stride, padding) = (config.stride, config.padding);
        let (in_channels, out_channels, kernel) = (*in_channels, *out_channels, [*kh, *kw]);
        let shape = ConvShape { batch, height, width, in_channels, out_channels, kernel, stride, padding };
        let parameters = self.context.parameters;
        let weight = format!("{name}.weight");
        // Products read the type of the images.
        let w = if x.element == Element::F32 { parameters.value(&weight)? } else { parameters.operand(&weight)? };
        let convolution = Convolution::new(self.context.device, shape, x.element, self.context.products)?;
        let y = self.planner.value(&[batch, shape.out_height(), shape.out_width(), out_channels], x.element)?;
        let (forward, from, weights, to) = (convolution.clone(), x.buffer(), w.clone(), y.buffer());
        self.push(move || forward.forward(&from, &weights, &to));
        let bias_name = (*bias == Bias::With).then(|| format!("{name}.bias"));
        if let Some(bias) = &bias_name {
            let (device, e, bias, y) = (self.context.device.clone(), y.element, parameters.value(bias)?, y.buffer());
            self.push(move || train::add_bias(&device, e, &bias, &y));
        }
        let back: Back<'a> = Box::new(move |writer, dy, grad| {
            let (dw, from, dy_buffer) = (writer.context.parameters.grad(&weight)?, x.buffer(), dy.buffer());
            let mut of_weight = convolution.clone();
            let dy_of_weight = dy_buffer.clone();
            match writer.context.parameters.narrow_grad(&weight)? {
                Some(narrow) if of_weight.has_narrow_grads()? => {
                    let index = writer.context.parameters.index(&weight)?;
                    writer.narrow.push(index);
                    writer
                        .push_trained(&weight, move || of_weight.narrow_weight_grad(&from, &dy_of_weight, &narrow))?;
                }
                _ => writer.push_trained(&weight, move || of_weight.weight_grad(&from, &dy_of_weight, &dw))?,
            }
            if let Some(bias) = &bias_name {
                let (device, e) = (writer.context.device.clone(), dy.element);
                let (db, dy) = (writer.context.parameters.grad(bias)?, dy_buffer.clone());
                writer.push_trained(bias, move || conv::column_sums(&device, e, &dy, &db))?;
            }
            let (dx, write) = match grad {
                Grad::Skip => return Ok(None),
                Grad::New => (writer.like(&x)?, Write::Set),
                Grad::AddTo(sum) => (sum, Write::Add),
            };
            let to = dx.buffer();
            writer.push(move || convolution.data_grad(&dy_buffer, &w, &to, write));
            Ok(Some(dx))
        });
        Ok((y, back))
    }

    fn relu(&mut self, x: Value) -> Result<(Value, Back<'a>)> {
        let y = self.like(&x)?;
        let (device, e, from, to) = (self.context.device.clone(), x.element, x.buffer(), y.buffer());
        self.push(move || train::relu(&device, e, &from, &to));
        let output = y.clone();
        let back: Back<'a> = Box::new(move |writer, dy, grad| {
            writer.answer(grad, &output, |writer, dx| {
                let (device, y, dy, dx) = (writer.context.device.clone(), output.buffer(), dy.buffer(), dx.buffer());
                writer.push(move || train::relu_grad(&device, e, [&y, &dy], &dx));
                Ok(())
            })
        });
        Ok((y, back))
    }

    fn dropout(&mut self, layer: Dropout, x: Value) -> Result<(Value, Back<'a>)> {
        if self.pass == Pass::Eval || layer.p <= 0.0 {
            return Ok((x, Box::new(|writer, dy, grad| writer.give(grad, dy))));
        }
        let y = self.like(&x)?;
        let (state, ids, e, from, to) =
            (self.context.state.clone(), self.context.ids.clone(), x.element, x.buffer(), y.buffer());
        self.push(move || layer.run(e, &state, &ids, &from, &to));
        let back: Back<'a> = Box::new(move |writer, dy, grad| {
            let like = dy.clone();
            writer.answer(grad, &like, |writer, dx| {
                let (state, ids, from, to) =
                    (writer.context.state.clone(), writer.context.ids.clone(), dy.buffer(), dx.buffer());
                writer.push(move || layer.run(e, &state, &ids, &from, &to));
                Ok(())
            })
        });
        Ok((y, back))
    }

    fn linear(&mut self, name: &'a str, [out, inputs]: [usize; 2], bias: Bias, x: Value) -> Result<(Value, Back<'a>)> {
        if x.dims.len() != 2 || x.channels() != inputs || x.element != Element::F32 {
            return Err(misfit(name, &x, &format!("(B, {inputs}), behind a pool over all positions")));
        }
        let shape = LinearShape { batch: x.rows(), in_features: inputs, out_features: out };
        let parameters = self.context.parameters;
        let weight = format!("{name}.weight");
        let w = parameters.value(&weight)?;
        let bias_name = (bias == Bias::With).then(|| format!("{name}.bias"));
        let b = bias_name.as_ref().map(|bias| parameters.value(bias)).transpose()?;
        let y = self.planner.value(&[x.rows(), out], Element::F32)?;
        let (device, from, weights, to) = (self.context.device.clone(), x.buffer(), w.clone(), y.buffer());
        self.push(move || conv::linear(&device, &shape, [&from, &weights], b.as_ref(), &to));
        let back: Back<'a> = Box::new(move |writer, dy, grad| {
            let parameters = writer.context.parameters;
            let (device, from, to, dw) =
                (writer.context.device.clone(), x.buffer(), dy.buffer(), parameters.grad(&weight)?);
            let d = device.clone();
            writer.push_trained(&weight, move || conv::linear_weight_grad(&d, &shape, [&from, &to], &dw))?;
            if let Some(bias) = &bias_name {
                let (d, db, dy) = (device.clone(), parameters.grad(bias)?, dy.buffer());
                writer.push_trained(bias, move || conv::column_sums(&d, Element::F32, &dy, &db))?;
            }
            writer.answer(grad, &x, |writer, dx| {
                let (dy, dx) = (dy.buffer(), dx.buffer());
                writer.push(move || conv::linear_data_grad(&device, &shape, [&dy, &w], &dx));
                Ok(())
            })
        });
        Ok((y, back))
    }
}

/// What a convolution is told apart from its name.
struct ConvParts<'a> {
    sizes: &'a [usize; 4],
    bias: &'a Bias,
    config: &'a crate::Conv2dConfig,
}

/// Other sizes over the same memory.
fn flatten<'a>(x: Value) -> (Value, Back<'a>) {
    let dims = x.dims.clone();
    let rows = dims[0];
    let n: usize = dims.iter().product();
    let y = Value { dims: vec![rows, n / rows.max(1)], ..x };
    (y, Box::new(move |writer, dy, grad| writer.give(grad, Value { dims, ..dy })))
}

fn misfit(name: &str, x: &Value, expected: &str) -> Error {
    shape_error(name, expected, &Shape::from(x.dims.clone()))
}

/// Keeps memory out of other steps' hands.
pub(super) fn hold(value: &Value) -> Lease {
    value.lease.clone()
}
