//! Batch normalisation, with an optional residual sum and ReLU in the same pass.

use crate::device::address_of;
use crate::launch::{Grid, args};
use crate::{Buffer, Device, Element, Error, Result};

/// Channels and threads of a block that sums rows; as in the kernels.
const CHANNELS: usize = 32;
const ROWS: u32 = 8;
/// Rows of a piece at least, and pieces at most: the shape alone decides, so the bits do not depend on the GPU.
const MIN_PIECE: usize = 64;
const MAX_PIECES: usize = 256;

/// What follows the affine map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    Identity,
    /// `max(x, 0)`, with derivative 0 at 0.
    Relu,
}

/// A batch norm over the rows of `(rows, C)` on a device, and the memory that it needs from pass to pass.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    device: Device,
    element: Element,
    rows: usize,
    channels: usize,
    eps: f64,
    momentum: f64,
    activation: Activation,
    /// `(4, C)`: mean, 1 / std, scale, shift.
    saved: Buffer,
    /// `(3, C)` of the backward pass.
    factors: Buffer,
    partial: Buffer,
}

/// The numbers of a [`BatchNorm`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormConfig {
    /// Rows: images times positions.
    pub rows: usize,
    /// C.
    pub channels: usize,
    /// Type of inputs and outputs; sums and parameters are `f32`.
    pub element: Element,
    /// Added to the variance.
    pub eps: f64,
    /// Share of the batch's moments in the running ones.
    pub momentum: f64,
    /// What follows, after a residual is added.
    pub activation: Activation,
}

/// Scale and shift, `(C)` each.
#[derive(Clone, Copy, Debug)]
pub struct ScaleShift<'a> {
    /// Scales.
    pub gamma: &'a Buffer,
    /// Shifts.
    pub beta: &'a Buffer,
}

/// Running moments, `(C)` each.
#[derive(Clone, Copy, Debug)]
pub struct Running<'a> {
    /// Means.
    pub mean: &'a Buffer,
    /// Variances.
    pub var: &'a Buffer,
}

/// What a backward pass reads: input and output of the forward pass, and the gradient of the output.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// Input.
    pub x: &'a Buffer,
    /// Output; only read under [`Activation::Relu`].
    pub y: &'a Buffer,
    /// Gradient of the output.
    pub dy: &'a Buffer,
}

/// What a backward pass overwrites.
#[derive(Clone, Copy, Debug)]
pub struct Gradients<'a> {
    /// Of the input.
    pub dx: &'a Buffer,
    /// Of the residual.
    pub d_residual: Option<&'a Buffer>,
    /// Of the scales, `(C)`.
    pub dgamma: &'a Buffer,
    /// Of the shifts, `(C)`.
    pub dbeta: &'a Buffer,
}

impl BatchNorm {
    /// Takes the memory that passes need.
    ///
    /// # Errors
    ///
    /// If a size is 0, or memory runs out.
    pub fn new(device: &Device, config: BatchNormConfig) -> Result<Self> {
        let BatchNormConfig { rows, channels, element, eps, momentum, activation } = config;
        if rows == 0 || channels == 0 || channels > 1 << 20 {
            let found = format!("({rows}, {channels})");
            return Err(Error::Setting { name: "rows and channels of a norm", found, expected: "at least 1 each" });
        }
        let (_, pieces) = pieces(rows);
        let take = |n: usize| device.allocate(n * channels * 4, "sums of a norm");
        let (saved, factors, partial) = (take(4)?, take(3)?, take(2 * pieces)?);
        Ok(Self { device: device.clone(), element, rows, channels, eps, momentum, activation, saved, factors, partial })
    }

    fn bytes(&self) -> usize {
        self.rows * self.channels * self.element.size()
    }

    fn check_channels(&self, named: &[(&'static str, &Buffer)]) -> Result<()> {
        named.iter().try_for_each(|(name, buffer)| buffer.check(name, self.channels * 4))
    }

    fn sums_grid(&self) -> Grid {
        let (_, pieces) = pieces(self.rows);
        Grid::of_blocks([self.channels.div_ceil(CHANNELS), pieces, 1], [CHANNELS as u32, ROWS, 1])
    }

    fn relu(&self) -> i32 {
        i32::from(self.activation == Activation::Relu)
    }

    /// `y = activation(norm(x) + residual)` with the moments of the batch, which also move the running ones.
    ///
    /// # Errors
    ///
    /// If a size does not fit, or the device fails.
    pub fn forward(
        &self,
        (p, running): (ScaleShift<'_>, Running<'_>),
        x: &Buffer,
        residual: Option<&Buffer>,
        y: &Buffer,
    ) -> Result<()> {
        self.check_channels(&[("gamma", p.gamma), ("beta", p.beta), ("mean", running.mean), ("var", running.var)])?;
        x.check("x", self.bytes())?;
        let (piece, pieces) = pieces(self.rows);
        let (rows, channels) = (self.rows as i64, self.channels as i32);
        let args = args![x.address(), rows, channels, piece as i32, self.partial.address()];
        self.device.launch_for("norm_moments", self.element, self.sums_grid(), args)?;
        let args = args![
            self.partial.address(),
            rows,
            channels,
            piece as i32,
            pieces as i32,
            p.gamma.address(),
            p.beta.address(),
            self.eps,
            self.momentum,
            running.mean.address(),
            running.var.address(),
            self.saved.address(),
        ];
        self.device.launch("norm_join", Grid::of_items(self.channels), args)?;
        self.apply(x, residual, y)
    }

    /// The same with the running moments, which stay.
    ///
    /// # Errors
    ///
    /// As [`BatchNorm::forward`].
    pub fn forward_running(
        &self,
        (p, running): (ScaleShift<'_>, Running<'_>),
        x: &Buffer,
        residual: Option<&Buffer>,
        y: &Buffer,
    ) -> Result<()> {
        self.check_channels(&[("gamma", p.gamma), ("beta", p.beta), ("mean", running.mean), ("var", running.var)])?;
        let args = args![
            running.mean.address(),
            running.var.address(),
            self.channels as i32,
            p.gamma.address(),
            p.beta.address(),
            self.eps,
            self.saved.address(),
        ];
        self.device.launch("norm_running", Grid::of_items(self.channels), args)?;
        self.apply(x, residual, y)
    }

    fn apply(&self, x: &Buffer, residual: Option<&Buffer>, y: &Buffer) -> Result<()> {
        x.check("x", self.bytes())?;
        y.check("y", self.bytes())?;
        residual.map_or(Ok(()), |residual| residual.check("residual", self.bytes()))?;
        let n = self.rows * self.channels;
        let args = args![
            x.address(),
            address_of(residual),
            self.saved.address(),
            self.channels as i32,
            n as i64,
            self.relu(),
            y.address(),
        ];
        self.device.launch_for("norm_apply", self.element, Grid::over(n.div_ceil(4)), args)
    }

    /// The backward pass of the last [`BatchNorm::forward`].
    ///
    /// # Errors
    ///
    /// If a size does not fit, or the device fails.
    pub fn backward(&self, gamma: &Buffer, saved: Saved<'_>, out: Gradients<'_>) -> Result<()> {
        self.check_channels(&[("gamma", gamma), ("dgamma", out.dgamma), ("dbeta", out.dbeta)])?;
        for (name, buffer) in [("x", saved.x), ("y", saved.y), ("dy", saved.dy), ("dx", out.dx)] {
            buffer.check(name, self.bytes())?;
        }
        out.d_residual.map_or(Ok(()), |d| d.check("d_residual", self.bytes()))?;
        let (piece, pieces) = pieces(self.rows);
        let (rows, channels) = (self.rows as i64, self.channels as i32);
        let [x, y, dy] = [saved.x, saved.y, saved.dy].map(Buffer::address);
        let (sums, partial) = (self.saved.address(), self.partial.address());
        let args = args![x, y, dy, sums, rows, channels, piece as i32, self.relu(), partial];
        self.device.launch_for("norm_grad_sums", self.element, self.sums_grid(), args)?;
        let (dgamma, dbeta, factors) = (out.dgamma.address(), out.dbeta.address(), self.factors.address());
        let args = args![partial, rows, channels, pieces as i32, gamma.address(), sums, dgamma, dbeta, factors];
        self.device.launch("norm_grad_join", Grid::of_items(self.channels), args)?;
        let n = self.rows * self.channels;
        let (dx, rest) = (out.dx.address(), address_of(out.d_residual));
        let args = args![x, y, dy, factors, channels, n as i64, self.relu(), dx, rest];
        self.device.launch_for("norm_grad_apply", self.element, Grid::over(n.div_ceil(4)), args)
    }
}

/// Rows of a piece, and the number of pieces.
fn pieces(rows: usize) -> (usize, usize) {
    let piece = MIN_PIECE.max(rows.div_ceil(MAX_PIECES));
    (piece, rows.div_ceil(piece))
}
