//! A convolution in use: the norm behind it is part of its weight, and bias, residual and ReLU come with the product.

use crate::backend::{ConvAddresses, ConvJob, ConvKind, Products};
use crate::conv::{Launched, tiles};
use crate::device::address_of;
use crate::launch::{Grid, args};
use crate::norm::{Running, ScaleShift};
use crate::{Activation, Buffer, ConvShape, Device, Element, Error, Result};

/// `y = activation(norm(conv(x) + bias) + residual)` with running moments, as one product.
#[derive(Clone, Debug)]
pub struct FoldedConvolution {
    device: Device,
    job: ConvJob,
    activation: Activation,
    /// Channels of the weight; images may have more, of zeros.
    channels: usize,
    eps: f64,
    weight: Buffer,
    bias: Buffer,
    /// The bias in the type of the images, as a library wants it.
    narrow_bias: Buffer,
}

/// What a [`FoldedConvolution`] is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FoldedConfig {
    /// Sizes, with the channels that images have.
    pub shape: ConvShape,
    /// Channels of the weight, at most those of the images.
    pub channels: usize,
    /// Type of the images.
    pub element: Element,
    /// Arithmetic of `f32` products.
    pub products: Products,
    /// What follows.
    pub activation: Activation,
    /// Added to the variance.
    pub eps: f64,
}

/// What is folded.
#[derive(Clone, Copy, Debug)]
pub struct Unfolded<'a> {
    /// `(O, Kh, Kw, channels)` in `f32`.
    pub weight: &'a Buffer,
    /// Of the convolution, `(O)`.
    pub bias: Option<&'a Buffer>,
    /// Of the norm.
    pub scales: ScaleShift<'a>,
    /// Of the norm.
    pub running: Running<'a>,
}

impl FoldedConvolution {
    /// Takes the memory of weight and bias, and plans the product.
    ///
    /// # Errors
    ///
    /// If the shape is not possible, or memory runs out.
    pub fn new(device: &Device, config: FoldedConfig) -> Result<Self> {
        let FoldedConfig { shape, channels, element, products, activation, eps } = config;
        shape.check()?;
        if channels == 0 || channels > shape.in_channels {
            let found = format!("{channels} of {}", shape.in_channels);
            return Err(Error::Setting { name: "channels of a weight", found, expected: "1 to those of the images" });
        }
        let job = ConvJob { kind: ConvKind::Fused(activation), shape, element, products };
        device.0.plan(&job)?;
        let (o, size) = (shape.out_channels, element.size());
        Ok(Self {
            device: device.clone(),
            job,
            activation,
            channels,
            eps,
            weight: device.allocate(shape.weight_len() * size, "weights in use")?,
            bias: device.allocate(o * 4, "biases in use")?,
            narrow_bias: device.allocate(o * size, "biases in use")?,
        })
    }

    /// Folds these values, which are used until the next call.
    ///
    /// # Errors
    ///
    /// If a size does not fit, or the device fails.
    pub fn fold(&self, from: Unfolded<'_>) -> Result<()> {
        let s = &self.job.shape;
        let (o, taps) = (s.out_channels, s.kernel[0] * s.kernel[1]);
        from.weight.check("weight", o * taps * self.channels * 4)?;
        let (norm, running) = (from.scales, from.running);
        for (name, buffer) in [("gamma", norm.gamma), ("beta", norm.beta), ("mean", running.mean), ("var", running.var)]
        {
            buffer.check(name, o * 4)?;
        }
        from.bias.map_or(Ok(()), |bias| bias.check("bias", o * 4))?;
        let args = args![
            from.weight.address(),
            address_of(from.bias),
            norm.gamma.address(),
            norm.beta.address(),
            running.mean.address(),
            running.var.address(),
            self.eps,
            o as i32,
            taps as i32,
            self.channels as i32,
            s.in_channels as i32,
            self.weight.address(),
            self.bias.address(),
            self.narrow_bias.address(),
        ];
        self.device.launch_for("fold_norm", self.job.element, Grid::over(s.weight_len()), args)
    }

    /// `y (B, Ho, Wo, O)` of images `x` and perhaps a residual like `y`.
    ///
    /// # Errors
    ///
    /// If a size does not fit, or the device fails.
    pub fn run(&self, x: &Buffer, residual: Option<&Buffer>, y: &Buffer) -> Result<()> {
        let (s, size) = (&self.job.shape, self.job.element.size());
        x.check("x", s.input_len() * size)?;
        y.check("y", s.output_len() * size)?;
        residual.map_or(Ok(()), |residual| residual.check("residual", s.output_len() * size))?;
        let rest = address_of(residual);
        let at = ConvAddresses {
            inputs: [x.address(), self.weight.address()],
            output: y.address(),
            bias: self.narrow_bias.address(),
            residual: rest,
            adds: false,
        };
        if self.device.0.convolve(&self.job, at)? {
            return Ok(());
        }
        let relu = i32::from(self.activation == Activation::Relu);
        let grid = tiles(s.positions(), s.out_channels, 1)?;
        let args = args![x.address(), self.weight.address(), s.raw(), self.bias.address(), rest, relu, y.address()];
        self.device.launch_for("conv_forward", self.job.element, grid, args)
    }
}
