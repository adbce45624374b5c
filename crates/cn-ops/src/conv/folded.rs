//! Convolution of channels that are sums of fewer planes.

use super::{Conv2d, Conv2dConfig};
use crate::gpu::Spec;
use crate::storage::{dims, read, shape_error, with_float, write};
use crate::{Activation, After, InputGrad, Layer, Pass, Result, Visit};
use candle_core::{DType, Tensor};
use cn_kernels::Float;

/// A [`Conv2d`] that also takes its input folded: `P` planes `(B, H, W, P)` in place of the `C` channels that are sums of
/// them, as all channels of a grey picture are sums of one plane of grey and one of ones.
///
/// Either input gives the same output and the same gradient of the weight `(O, C, Kh, Kw)`, up to rounding, at the border
/// too: padding adds zeros to planes and channels alike. Planes take `C / P` times fewer products.
#[derive(Debug)]
pub struct FoldedConv2d {
    conv: Conv2d,
    /// The convolution of the planes. Its weight is made of the other's at each pass, which costs next to nothing.
    planes: Conv2d,
    mix: Mix,
    /// What the last forward pass saw.
    input: Input,
}

#[derive(Clone, Copy, Debug)]
enum Input {
    Channels,
    Planes,
}

impl FoldedConv2d {
    /// A convolution with this `weight (O, C, Kh, Kw)`, of which channel `c` is the sum of `mix[c][p]` times plane `p`;
    /// `mix (C, P)`, with `P` below `C`.
    ///
    /// # Errors
    ///
    /// If a shape does not fit, or the device is out of memory.
    pub fn new(weight: Tensor, config: Conv2dConfig, mix: &Tensor) -> Result<Self> {
        let [outputs, channels, kh, kw] = dims("weight", &weight, "(O, C, Kh, Kw)")?;
        let planes = match dims("mix", mix, "(C, P)")? {
            [rows, planes] if rows == channels && (1..channels).contains(&planes) => planes,
            _ => {
                return Err(shape_error(
                    "mix",
                    &format!("({channels}, P), P from 1 and below {channels}"),
                    mix.shape(),
                ));
            }
        };
        let factors = mix.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        let folded = Tensor::zeros((outputs, planes, kh, kw), weight.dtype(), weight.device())?;
        Ok(Self {
            conv: Conv2d::new(weight, config)?,
            planes: Conv2d::new(folded, config)?,
            mix: Mix { factors, channels, planes, taps: kh * kw },
            input: Input::Channels,
        })
    }

    /// The convolution for `x`, ready for a forward pass.
    fn of(&mut self, x: &Activation) -> Result<&mut Conv2d> {
        if x.dims().last() != Some(&self.mix.planes) {
            self.input = Input::Channels;
            return Ok(&mut self.conv);
        }
        self.input = Input::Planes;
        self.planes.weight.follow(&self.conv.weight);
        let (weight, folded) = (self.conv.weight.value(), self.planes.weight.value());
        with_float!("weight", weight, T => {
            let weight = read::<T>(weight)?;
            write::<T, _>(folded, |folded| self.mix.fold(&weight, folded))
        })?;
        Ok(&mut self.planes)
    }

    fn backward_planes(&mut self, dy: Activation, dx: InputGrad, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        self.planes.weight.follow(&self.conv.weight);
        let folded = self.planes.weight.grad().clone();
        with_float!("weight", folded, T => write::<T, _>(&folded, |folded| folded.fill(0.0)))?;
        let dx = self.planes.backward(dy, dx, pass)?;
        if self.conv.weight.is_trainable() {
            with_float!("weight", folded, T => {
                let folded = read::<T>(&folded)?;
                write::<T, _>(self.conv.weight.grad(), |grad| self.mix.add_unfolded(&folded, grad))
            })?;
        }
        Ok(dx)
    }
}

impl Layer for FoldedConv2d {
    fn forward(&mut self, x: &Activation, pass: &mut Pass<'_>) -> Result<Activation> {
        self.of(x)?.forward(x, pass)
    }

    fn backward(&mut self, dy: Activation, dx: InputGrad, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        match self.input {
            Input::Channels => self.conv.backward(dy, dx, pass),
            Input::Planes => self.backward_planes(dy, dx, pass),
        }
    }

    fn forward_then(&mut self, x: &Activation, after: &After<'_>, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        self.of(x)?.forward_then(x, after, pass)
    }

    fn spec(&self, prefix: &str) -> Result<Spec> {
        // A device sees the channels, which cost it little.
        self.conv.spec(prefix)
    }

    fn visit(&mut self, prefix: &str, f: &mut Visit<'_>) -> Result<()> {
        self.conv.visit(prefix, f)
    }
}

/// How channels are sums of planes, and how many taps a weight has for each of them.
#[derive(Debug)]
struct Mix {
    /// `(C, P)`.
    factors: Vec<f64>,
    channels: usize,
    planes: usize,
    taps: usize,
}

impl Mix {
    fn factor(&self, channel: usize, plane: usize) -> f64 {
        self.factors[channel * self.planes + plane]
    }

    /// `folded (O, P, Kh, Kw)`: the weight of a plane is the sum over the channels of their weights times its factor.
    fn fold<T: Float>(&self, weight: &[T], folded: &mut [T]) {
        for (i, folded) in folded.chunks_exact_mut(self.taps).enumerate() {
            let (output, plane) = (i / self.planes, i % self.planes);
            for (tap, folded) in folded.iter_mut().enumerate() {
                let at = |channel| (output * self.channels + channel) * self.taps + tap;
                let term = |channel| self.factor(channel, plane) * weight[at(channel)].to_f64();
                *folded = T::from_f64((0..self.channels).map(term).sum());
            }
        }
    }

    /// Adds to `grad (O, C, Kh, Kw)`, by the chain rule, what the gradient of the folded weight says.
    fn add_unfolded<T: Float>(&self, folded: &[T], grad: &mut [T]) {
        for (i, grad) in grad.chunks_exact_mut(self.taps).enumerate() {
            let (output, channel) = (i / self.channels, i % self.channels);
            for (tap, grad) in grad.iter_mut().enumerate() {
                let at = |plane| (output * self.planes + plane) * self.taps + tap;
                let term = |plane| self.factor(channel, plane) * folded[at(plane)].to_f64();
                *grad += T::from_f64((0..self.planes).map(term).sum());
            }
        }
    }
}

#[cfg(test)]
mod tests;
