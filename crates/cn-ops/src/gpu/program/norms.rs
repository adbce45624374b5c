//! Norms: alone, with a residual, with the pool behind, and folded into the convolution before.

use super::pools::pool_shape;
use super::{Back, Grad, Pass, Writer, misfit};
use crate::gpu::memory::Value;
use crate::gpu::spec::{Bias, NormSpec, Spec};
use crate::{Error, Result};
use cn_cuda::norm::{Gradients, Running, Saved, ScaleShift};
use cn_cuda::{BatchNorm, BatchNormConfig, Buffer, ConvShape, FoldedConfig, FoldedConvolution, Unfolded};

/// Whether the gradient of the residual is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Residuum {
    Skip,
    New,
}

/// As [`Back`], also with the gradient of the residual.
pub(super) type NormBack<'a> =
    Box<dyn FnOnce(&mut Writer<'a>, Value, Grad, Residuum) -> Result<(Option<Value>, Option<Value>)> + 'a>;

/// The tensors of a norm.
#[derive(Clone)]
struct NormTensors {
    gamma: Buffer,
    beta: Buffer,
    mean: Buffer,
    var: Buffer,
    dgamma: Buffer,
    dbeta: Buffer,
}

impl NormTensors {
    fn forward(&self) -> (ScaleShift<'_>, Running<'_>) {
        (ScaleShift { gamma: &self.gamma, beta: &self.beta }, Running { mean: &self.mean, var: &self.var })
    }
}

fn activation_of(norm: &NormSpec) -> cn_cuda::Activation {
    match norm.activation {
        cn_kernels::norm::Activation::Identity => cn_cuda::Activation::Identity,
        cn_kernels::norm::Activation::Relu => cn_cuda::Activation::Relu,
    }
}

impl<'a> Writer<'a> {
    /// A convolution and the norm behind it, in use.
    pub(super) fn folded(
        &mut self,
        conv: &'a Spec,
        norm: &'a NormSpec,
        x: Value,
        residual: Option<&Value>,
    ) -> Result<Value> {
        let Spec::Conv { name, sizes: [out_channels, in_channels, kh, kw], bias, config } = conv else {
            return Err(Error::NotOnGpu { name: norm.name.clone(), reason: "it does not follow a convolution" });
        };
        if x.dims.len() != 4 || x.channels() != *in_channels || norm.channels != *out_channels {
            return Err(misfit(name, &x, &format!("(B, H, W, {in_channels})")));
        }
        let &[batch, height, width, _] = x.dims.as_slice() else { return Err(misfit(name, &x, "(B, H, W, I)")) };
        let (stride, padding, out_channels, kernel) = (config.stride, config.padding, *out_channels, [*kh, *kw]);
        let shape =
            ConvShape { batch, height, width, in_channels: *in_channels, out_channels, kernel, stride, padding };
        let y = self.planner.value(&[batch, shape.out_height(), shape.out_width(), out_channels], x.element)?;
        if residual.is_some_and(|residual| residual.dims != y.dims || residual.element != y.element) {
            return Err(misfit(&norm.name, &y, "the shape of the shortcut"));
        }
        let (element, products, activation) = (x.element, self.context.products, activation_of(norm));
        let config = FoldedConfig { shape, element, products, activation, eps: norm.eps };
        let folded = FoldedConvolution::new(self.context.device, config)?;
        let parameters = self.context.parameters;
        let weight = parameters.value(&format!("{name}.weight"))?;
        let bias = (*bias == Bias::With).then(|| parameters.value(&format!("{name}.bias"))).transpose()?;
        let (gamma, beta) =
            (parameters.value(&format!("{}.weight", norm.name))?, parameters.value(&format!("{}.bias", norm.name))?);
        let mean = parameters.buffer(&format!("{}.running_mean", norm.name))?;
        let var = parameters.buffer(&format!("{}.running_var", norm.name))?;
        let fold = folded.clone();
        self.folds.push(Box::new(move || {
            let (scales, running) = (ScaleShift { gamma: &gamma, beta: &beta }, Running { mean: &mean, var: &var });
            fold.fold(Unfolded { weight: &weight, bias: bias.as_ref(), scales, running })
        }));
        let (from, rest, to) = (x.buffer(), residual.map(Value::buffer), y.buffer());
        self.push(move || folded.run(&from, rest.as_ref(), &to));
        Ok(y)
    }

    /// A norm for values like `x`, and its tensors.
    fn batch_norm(&self, spec: &NormSpec, x: &Value) -> Result<(BatchNorm, NormTensors)> {
        let NormSpec { name, channels, eps, momentum, .. } = spec;
        if x.channels() != *channels || (self.pass == Pass::Train && x.rows() < 2) {
            return Err(misfit(name, x, &format!("at least two rows of {channels} channels")));
        }
        let (rows, channels, eps, momentum) = (x.rows(), *channels, *eps, *momentum);
        let config =
            BatchNormConfig { rows, channels, element: x.element, eps, momentum, activation: activation_of(spec) };
        let parameters = self.context.parameters;
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let tensors = NormTensors {
            gamma: parameters.value(&weight)?,
            beta: parameters.value(&bias)?,
            mean: parameters.buffer(&format!("{name}.running_mean"))?,
            var: parameters.buffer(&format!("{name}.running_var"))?,
            dgamma: parameters.grad(&weight)?,
            dbeta: parameters.grad(&bias)?,
        };
        Ok((BatchNorm::new(self.context.device, config)?, tensors))
    }

    /// A norm and the max pool behind it, in training.
    pub(super) fn norm_pool(
        &mut self,
        spec: &'a NormSpec,
        config: &crate::MaxPool2dConfig,
        x: Value,
    ) -> Result<(Value, Back<'a>)> {
        let shape = pool_shape(config, &x)?;
        let (norm, tensors) = self.batch_norm(spec, &x)?;
        let dims = [shape.batch, shape.out_height(), shape.out_width(), shape.channels];
        let y = self.planner.value(&dims, x.element)?;
        let winners = self.planner.bytes(shape.output_len())?;
        let (forward, from, to, places, of) =
            (norm.clone(), x.buffer(), y.buffer(), Buffer::clone(&winners), tensors.clone());
        self.push(move || forward.forward_pooled(of.forward(), &from, &shape, [&to, &places]));
        let back: Back<'a> = Box::new(move |writer, dy, grad| {
            // The sums over the batch come with the gradient of `x`, so that it is computed even if it is not wanted.
            let dx = writer.like(&x)?;
            let (x, dy, to, places) = (x.buffer(), dy.buffer(), dx.buffer(), Buffer::clone(&winners));
            writer.push(move || {
                let out = [&to, &tensors.dgamma, &tensors.dbeta];
                norm.backward_pooled(&tensors.gamma, &x, (&shape, &dy, &places), out)
            });
            let given = writer.give(grad, dx);
            drop(winners);
            given
        });
        Ok((y, back))
    }

    pub(super) fn norm(
        &mut self,
        spec: &'a NormSpec,
        x: Value,
        residual: Option<&Value>,
    ) -> Result<(Value, NormBack<'a>)> {
        if residual.is_some_and(|residual| residual.dims != x.dims || residual.element != x.element) {
            return Err(misfit(&spec.name, &x, "the shape of the shortcut"));
        }
        let (norm, tensors) = self.batch_norm(spec, &x)?;
        let y = self.like(&x)?;
        let (layer, from, to, rest, pass) =
            (norm.clone(), x.buffer(), y.buffer(), residual.map(Value::buffer), self.pass);
        let of = tensors.clone();
        self.push(move || match pass {
            Pass::Train => layer.forward(of.forward(), &from, rest.as_ref(), &to),
            Pass::Eval => layer.forward_running(of.forward(), &from, rest.as_ref(), &to),
        });
        // Without a residual, the backward pass does not read the output.
        let output = residual.map(|_| y.clone());
        let back: NormBack<'a> = Box::new(move |writer, dy, grad, residuum| {
            // The sums over the batch come with the gradient of `x`, so that it is computed even if it is not wanted.
            let dx = writer.like(&x)?;
            let rest = if residuum == Residuum::New { Some(writer.like(&x)?) } else { None };
            let (x, y, dy, to) = (x.buffer(), output.as_ref().map(Value::buffer), dy.buffer(), dx.buffer());
            let d_residual = rest.as_ref().map(Value::buffer);
            writer.push(move || {
                let saved = Saved { x: &x, y: y.as_ref(), dy: &dy };
                let d_residual = d_residual.as_ref();
                let NormTensors { gamma, dgamma, dbeta, .. } = &tensors;
                norm.backward(gamma, saved, Gradients { dx: &to, d_residual, dgamma, dbeta })
            });
            Ok((writer.give(grad, dx)?, rest))
        });
        Ok((y, back))
    }
}
