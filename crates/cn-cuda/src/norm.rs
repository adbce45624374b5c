//! Batch normalisation, with an optional residual sum and ReLU in the same pass.

use crate::device::{address_of, pack_of};
use crate::launch::{Grid, args};
use crate::pool::{self, PoolShape};
use crate::{Buffer, Device, Element, Error, Result};

/// Threads of a block that sums, packs of channels and rows, and of one that joins sums; as in the kernels.
const LANES: u32 = 8;
const ROWS: u32 = 32;
const JOIN: [u32; 3] = [8, 128, 1];
/// Rows of a piece at least, and pieces at most: the shape alone decides, so the bits do not depend on the GPU.
const MIN_PIECE: usize = 256;
const MAX_PIECES: usize = 512;
/// Threads of a block that keeps all rows of some channels; as in the kernels.
const SMALL_THREADS: u32 = 512;
/// Rows that such a block holds, at most.
pub const SMALL_ROWS: usize = 4096;

/// What follows the affine map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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
    /// Output, where there was a residual; else its sign under [`Activation::Relu`] follows from the input.
    pub y: Option<&'a Buffer>,
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

    fn check_forward(&self, (p, running): (ScaleShift<'_>, Running<'_>)) -> Result<()> {
        self.check_channels(&[("gamma", p.gamma), ("beta", p.beta), ("mean", running.mean), ("var", running.var)])
    }

    fn sums_grid(&self, pack: usize) -> Grid {
        let (_, pieces) = pieces(self.rows);
        Grid::of_blocks([self.channels.div_ceil(LANES as usize * pack), pieces, 1], [LANES, ROWS, 1])
    }

    fn join_grid(&self) -> Grid {
        Grid::of_blocks([self.channels.div_ceil(JOIN[0] as usize), 1, 1], JOIN)
    }

    /// The grid of an elementwise pass, in which each thread keeps its channels.
    fn rows_grid(&self, pack: usize) -> Grid {
        Grid::over_rows(self.rows * self.channels / pack, self.channels / pack)
    }

    fn relu(&self) -> i32 {
        i32::from(self.activation == Activation::Relu)
    }

    /// Where a block can keep all rows of its channels: its grid.
    fn small_grid(&self, pack: usize) -> Option<Grid> {
        let grid = || Grid::of_blocks([self.channels.div_ceil(pack), 1, 1], [SMALL_THREADS, 1, 1]);
        (self.rows <= SMALL_ROWS).then(grid)
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
        self.check_forward((p, running))?;
        let pack = self.check_images(&[("x", x), ("y", y), ("residual", residual.unwrap_or(x))])?;
        let Some(grid) = self.small_grid(pack) else {
            self.moments((p, running), x)?;
            return self.apply(x, residual, y);
        };
        let args = args![
            x.address(),
            address_of(residual),
            self.rows as i32,
            self.channels as i32,
            p.gamma.address(),
            p.beta.address(),
            self.eps,
            self.momentum,
            running.mean.address(),
            running.var.address(),
            self.saved.address(),
            self.relu(),
            i32::from(pack > 1),
            y.address(),
        ];
        self.device.launch_for("norm_small", self.element, grid, args)
    }

    /// The channels that a thread takes at once of these images, if all are as long as the rows say.
    fn check_images(&self, named: &[(&'static str, &Buffer)]) -> Result<usize> {
        named.iter().try_for_each(|(name, buffer)| buffer.check(name, self.bytes()))?;
        let pack = |(_, buffer): &(_, &Buffer)| pack_of(self.element, self.channels, &[buffer]);
        Ok(named.iter().map(pack).min().unwrap_or(1))
    }

    /// Moments of the batch, and what the other passes read of them.
    fn moments(&self, (p, running): (ScaleShift<'_>, Running<'_>), x: &Buffer) -> Result<()> {
        x.check("x", self.bytes())?;
        let (piece, pieces) = pieces(self.rows);
        let (rows, channels) = (self.rows as i64, self.channels as i32);
        let pack = pack_of(self.element, self.channels, &[x]);
        let args = args![x.address(), rows, channels, piece as i32, i32::from(pack > 1), self.partial.address()];
        self.device.launch_for("norm_moments", self.element, self.sums_grid(pack), args)?;
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
        self.device.launch("norm_join", self.join_grid(), args)
    }

    /// The pool, if its images are what the norm writes, and the channels that a thread takes at once.
    fn check_pool(&self, s: &PoolShape, [x, y, winners]: [&Buffer; 3]) -> Result<usize> {
        pool::check(s)?;
        if s.batch * s.height * s.width != self.rows || s.channels != self.channels {
            let found = format!("{s:?}");
            return Err(Error::Setting { name: "pool behind a norm", found, expected: "the norm's rows and channels" });
        }
        x.check("x", self.bytes())?;
        y.check("y", s.output_len() * self.element.size())?;
        winners.check("winners", s.output_len())?;
        Ok(pack_of(self.element, self.channels, &[x, y, winners]))
    }

    /// `y = max_pool(activation(norm(x)))` with the moments of the batch; `winners` as [`pool::max_pool`] leaves them, but
    /// 255 where the rectifier has cut all of a window.
    ///
    /// # Errors
    ///
    /// If a size does not fit, or the device fails.
    pub fn forward_pooled(
        &self,
        (p, running): (ScaleShift<'_>, Running<'_>),
        x: &Buffer,
        s: &PoolShape,
        [y, winners]: [&Buffer; 2],
    ) -> Result<()> {
        self.check_forward((p, running))?;
        let pack = self.check_pool(s, [x, y, winners])?;
        self.moments((p, running), x)?;
        let wide = i32::from(pack > 1);
        let args =
            args![x.address(), self.saved.address(), pool::raw(s), self.relu(), wide, y.address(), winners.address(),];
        let grid = Grid::over_rows(s.output_len() / pack, self.channels / pack);
        self.device.launch_for("norm_max_pool", self.element, grid, args)
    }

    /// The backward pass of the last [`BatchNorm::forward_pooled`], from the gradient of the pool.
    ///
    /// # Errors
    ///
    /// If a size does not fit, or the device fails.
    pub fn backward_pooled(
        &self,
        gamma: &Buffer,
        x: &Buffer,
        (s, dy, winners): (&PoolShape, &Buffer, &Buffer),
        [dx, dgamma, dbeta]: [&Buffer; 3],
    ) -> Result<()> {
        self.check_channels(&[("gamma", gamma), ("dgamma", dgamma), ("dbeta", dbeta)])?;
        dx.check("dx", self.bytes())?;
        let pack = self.check_pool(s, [x, dy, winners])?.min(pack_of(self.element, self.channels, &[dx]));
        let wide = i32::from(pack > 1);
        let (_, pieces) = pieces(self.rows);
        let (rows, channels) = (self.rows as i64, self.channels as i32);
        let [x, dy, winners, dx] = [x, dy, winners, dx].map(Buffer::address);
        let (sums, partial) = (self.saved.address(), self.partial.address());
        let args = args![x, dy, winners, pool::raw(s), sums, wide, partial];
        self.device.launch_for("norm_pool_grad_sums", self.element, self.sums_grid(pack), args)?;
        let (dgamma, dbeta, factors) = (dgamma.address(), dbeta.address(), self.factors.address());
        let args = args![partial, rows, channels, pieces as i32, gamma.address(), sums, dgamma, dbeta, factors];
        self.device.launch("norm_grad_join", self.join_grid(), args)?;
        let args = args![x, dy, winners, pool::raw(s), factors, wide, dx];
        self.device.launch_for("norm_pool_grad_apply", self.element, self.rows_grid(pack), args)
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
        self.check_forward((p, running))?;
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
        let pack = self.check_images(&[("x", x), ("y", y), ("residual", residual.unwrap_or(x))])?;
        let (n, [x, rest, y]) = (self.rows * self.channels, [x.address(), address_of(residual), y.address()]);
        let (channels, wide) = (self.channels as i32, i32::from(pack > 1));
        let args = args![x, rest, self.saved.address(), channels, n as i64, self.relu(), wide, y];
        self.device.launch_for("norm_apply", self.element, self.rows_grid(pack), args)
    }

    /// The backward pass of the last [`BatchNorm::forward`].
    ///
    /// # Errors
    ///
    /// If a size does not fit, or the device fails.
    pub fn backward(&self, gamma: &Buffer, saved: Saved<'_>, out: Gradients<'_>) -> Result<()> {
        self.check_channels(&[("gamma", gamma), ("dgamma", out.dgamma), ("dbeta", out.dbeta)])?;
        let (or_x, or_dx) = (saved.y.unwrap_or(saved.x), out.d_residual.unwrap_or(out.dx));
        let images = [("x", saved.x), ("dy", saved.dy), ("dx", out.dx), ("y", or_x), ("d_residual", or_dx)];
        let pack = self.check_images(&images)?;
        let (rows, channels, wide) = (self.rows as i64, self.channels as i32, i32::from(pack > 1));
        let [x, y, dy] = [saved.x.address(), address_of(saved.y), saved.dy.address()];
        let (dx, rest) = (out.dx.address(), address_of(out.d_residual));
        let (dgamma, dbeta, factors) = (out.dgamma.address(), out.dbeta.address(), self.factors.address());
        let (gamma, sums, partial, relu) = (gamma.address(), self.saved.address(), self.partial.address(), self.relu());
        if let Some(grid) = self.small_grid(pack) {
            let args = args![x, y, dy, gamma, sums, rows as i32, channels, relu, wide, dgamma, dbeta, dx, rest];
            return self.device.launch_for("norm_small_grad", self.element, grid, args);
        }
        let (piece, pieces) = pieces(self.rows);
        let args = args![x, y, dy, sums, rows, channels, piece as i32, relu, wide, rest, partial];
        self.device.launch_for("norm_grad_sums", self.element, self.sums_grid(pack), args)?;
        let args = args![partial, rows, channels, pieces as i32, gamma, sums, dgamma, dbeta, factors];
        self.device.launch("norm_grad_join", self.join_grid(), args)?;
        // The masked gradient, where it was left.
        let (y, dy, relu) = if rest == 0 { (y, dy, relu) } else { (0, rest, 0) };
        let n = self.rows * self.channels;
        let args = args![x, y, dy, sums, factors, channels, n as i64, relu, wide, dx];
        self.device.launch_for("norm_grad_apply", self.element, self.rows_grid(pack), args)
    }
}

/// Rows of a piece, and the number of pieces.
fn pieces(rows: usize) -> (usize, usize) {
    let piece = MIN_PIECE.max(rows.div_ceil(MAX_PIECES));
    (piece, rows.div_ceil(piece))
}
