//! A convolution in use: the norm behind it is part of its weight, and bias, residual and ReLU come with the product.

use crate::backend::{ConvAddresses, ConvJob, ConvKind, Products};
use crate::conv::{Launched, tiles};
use crate::device::{address_of, is_aligned};
use crate::launch::{Grid, args};
use crate::norm::{Running, ScaleShift};
use crate::picked::Picked;
use crate::stem::Stem;
use crate::{Activation, Buffer, ConvShape, Device, Element, Result};

/// `y = activation(norm(conv(x) + bias) + residual)` with running moments, as one product.
#[derive(Clone, Debug)]
pub struct FoldedConvolution {
    device: Device,
    shape: ConvShape,
    /// Of the shape, or of the product of the pixels that are picked.
    job: ConvJob,
    picked: Option<Picked>,
    activation: Activation,
    /// Where the kernels for few channels do it.
    stem: Option<Stem>,
    eps: f64,
    weight: Buffer,
    bias: Buffer,
    /// The bias in the type of the images, as a library wants it.
    narrow_bias: Buffer,
}

/// What a [`FoldedConvolution`] is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FoldedConfig {
    /// Sizes.
    pub shape: ConvShape,
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
    /// `(O, Kh, Kw, I)` in `f32`.
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
        let FoldedConfig { shape, element, products, activation, eps } = config;
        shape.check()?;
        let (picked, product) = Picked::new(device, shape, element)?;
        let job = ConvJob { kind: ConvKind::Fused(activation), shape: product, element, products };
        let stem = if element == Element::Bf16 { Stem::new(device, shape) } else { None };
        if stem.is_none() {
            device.0.plan(&job)?;
        }
        let (o, size) = (shape.out_channels, element.size());
        Ok(Self {
            device: device.clone(),
            shape,
            job,
            picked,
            activation,
            stem,
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
        let o = s.out_channels;
        from.weight.check("weight", s.weight_len() * 4)?;
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
            (s.weight_len() / o) as i32,
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
        x.check("x", self.shape.input_len() * size)?;
        y.check("y", s.output_len() * size)?;
        residual.map_or(Ok(()), |residual| residual.check("residual", s.output_len() * size))?;
        if let Some(stem) = self.stem.as_ref().filter(|_| residual.is_none() && is_aligned(&[y])) {
            return stem.forward([x, &self.weight], (Some(&self.bias), self.activation), y);
        }
        let x = self.picked.as_ref().map_or(Ok(x), |picked| picked.pick(x))?;
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
