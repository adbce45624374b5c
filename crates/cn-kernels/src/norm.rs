//! Batch normalisation over the rows of `(rows, C)`, with an optional residual sum and ReLU in the same pass.
//!
//! `y = relu((x - mean) / sqrt(var + eps) * gamma + beta + residual)`; the variance is the biased one, the running
//! variance receives the unbiased one (Ioffe & Szegedy, arXiv:1502.03167, with PyTorch's conventions).

use crate::parallel::{map_pieces, rows_per_piece};
use crate::simd::norm::{self as vector, Mask};
use crate::{Float, Isa};
use rayon::prelude::*;
use std::ops::Range;

/// What follows the affine map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    Identity,
    /// `max(x, 0)`, with derivative 0 at 0.
    Relu,
}

/// A batch norm: scale and shift of each of C channels, and what follows.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm<'a, T> {
    /// Scales, `(C)`.
    pub gamma: &'a [T],
    /// Shifts, `(C)`.
    pub beta: &'a [T],
    /// Added to the variance.
    pub eps: f64,
    /// What follows, after the residual is added.
    pub activation: Activation,
}

impl<T: Float> BatchNorm<'_, T> {
    /// The norm with these moments as a scale and a shift of each channel.
    fn affine(&self, moments: &Moments<T>) -> [Vec<T>; 2] {
        let channels = 0..self.gamma.len();
        let scale: Vec<T> = channels.clone().map(|c| self.gamma[c] * moments.inv_std[c]).collect();
        let shift = channels.map(|c| self.beta[c] - moments.mean[c] * scale[c]).collect();
        [scale, shift]
    }
}

/// Moments of a batch, one value a channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments<T> {
    /// Means, `(C)`.
    pub mean: Vec<T>,
    /// Biased variances, `(C)`.
    pub var: Vec<T>,
    /// `1 / sqrt(var + eps)`, `(C)`.
    pub inv_std: Vec<T>,
}

impl<T: Float> Moments<T> {
    /// Moments given from outside, as running ones are.
    #[must_use]
    pub fn given(mean: &[T], var: &[T], eps: f64) -> Self {
        let inv_std = var.iter().map(|v| T::from_f64(1.0 / (v.to_f64() + eps).sqrt())).collect();
        Self { mean: mean.to_vec(), var: var.to_vec(), inv_std }
    }

    /// Moves running moments towards these: `running += momentum * (now - running)`, the variance unbiased.
    ///
    /// `rows` is the number of values a channel that these moments are of.
    pub fn update_running(&self, rows: usize, momentum: f64, running_mean: &mut [T], running_var: &mut [T]) {
        let unbiased = if rows > 1 { rows as f64 / (rows - 1) as f64 } else { 1.0 };
        let step =
            |running: &mut T, now: f64| *running = T::from_f64((1.0 - momentum) * running.to_f64() + momentum * now);
        running_mean.iter_mut().zip(&self.mean).for_each(|(r, m)| step(r, m.to_f64()));
        running_var.iter_mut().zip(&self.var).for_each(|(r, v)| step(r, v.to_f64() * unbiased));
    }
}

/// Moments of `x (rows, channels)`, over the rows.
///
/// Pieces are summed around their first row and joined in order (Chan, Golub & LeVeque 1979), so that a large mean does
/// not eat the variance.
///
/// # Panics
///
/// If `x` is empty or does not hold whole rows.
#[must_use]
pub fn moments<T: Float>(x: &[T], channels: usize, eps: f64) -> Moments<T> {
    assert!(!x.is_empty() && x.len().is_multiple_of(channels), "whole rows of {channels} channels");
    let rows = x.len() / channels;
    let pieces = map_pieces(rows, rows_per_piece(channels), |r| {
        let (sums, squares) = moment_sums(&x[r.start * channels..r.end * channels], channels);
        let (k, origin) = (r.len() as f64, &x[r.start * channels..]);
        let mean: Vec<f64> = sums.iter().zip(origin).map(|(s, o)| o.to_f64() + s.to_f64() / k).collect();
        let about_mean = |(s, q): (&T, &T)| (q.to_f64() - s.to_f64() * s.to_f64() / k).max(0.0);
        (k, mean, sums.iter().zip(&squares).map(about_mean).collect::<Vec<f64>>())
    });
    let (mut n, mut mean, mut m2) = (0.0, vec![0.0; channels], vec![0.0; channels]);
    for (k, piece_mean, piece_m2) in &pieces {
        for c in 0..channels {
            let d = piece_mean[c] - mean[c];
            mean[c] += d * k / (n + k);
            m2[c] += piece_m2[c] + d * d * n * k / (n + k);
        }
        n += k;
    }
    let var: Vec<f64> = m2.iter().map(|m| m / rows as f64).collect();
    Moments {
        mean: mean.iter().map(|&m| T::from_f64(m)).collect(),
        inv_std: var.iter().map(|v| T::from_f64(1.0 / (v + eps).sqrt())).collect(),
        var: var.iter().map(|&v| T::from_f64(v)).collect(),
    }
}

/// `y = activation((x - mean) * inv_std * gamma + beta + residual)`; all of `x`, `residual`, `y` are `(rows, C)`.
///
/// # Panics
///
/// If the length of a slice does not fit.
pub fn forward<T: Float>(bn: &BatchNorm<'_, T>, moments: &Moments<T>, x: &[T], residual: Option<&[T]>, y: &mut [T]) {
    let channels = bn.gamma.len();
    assert!(x.len() == y.len() && x.len().is_multiple_of(channels), "equal, whole rows");
    assert!(residual.is_none_or(|r| r.len() == x.len()), "length of the residual");
    let [scale, shift] = bn.affine(moments);
    let piece = rows_per_piece(channels) * channels;
    y.par_chunks_mut(piece).enumerate().for_each(|(i, y)| {
        let range = i * piece..i * piece + y.len();
        let (x, residual) = (&x[range.clone()], residual.map(|r| &r[range]));
        affine(bn.activation, [&scale, &shift], x, residual, y);
    });
}

/// Sums, and sums of squares, of `x - origin` for each channel; `origin` is the first row.
fn moment_sums<T: Float>(x: &[T], channels: usize) -> (Vec<T>, Vec<T>) {
    let (mut sums, mut squares) = (vec![T::ZERO; channels], vec![T::ZERO; channels]);
    let origin = &x[..channels];
    if let (Some(x), Some(origin)) = (T::as_f32(x), T::as_f32(origin)) {
        let out = T::as_f32_mut(&mut sums).zip(T::as_f32_mut(&mut squares));
        let (sums, squares) = out.expect("one element type");
        vector::moment_sums(Isa::current(), x, origin, sums, squares);
    } else {
        for row in x.chunks_exact(channels) {
            for (c, x) in row.iter().enumerate() {
                let d = *x - origin[c];
                sums[c] += d;
                squares[c] += d * d;
            }
        }
    }
    (sums, squares)
}

fn affine<T: Float>(act: Activation, [scale, shift]: [&[T]; 2], x: &[T], residual: Option<&[T]>, y: &mut [T]) {
    if let (Some(x), Some(scale), Some(shift)) = (T::as_f32(x), T::as_f32(scale), T::as_f32(shift)) {
        let job = vector::Affine { x, residual: residual.and_then(T::as_f32), scale, shift, activation: act };
        return vector::affine(Isa::current(), &job, T::as_f32_mut(y).expect("one element type"));
    }
    let at = |c: usize, x: T| scale[c] * x + shift[c];
    match residual {
        Some(r) => for_rows(scale.len(), y, x, r, |c, y, x, r| *y = act.apply(at(c, x) + r)),
        None => for_rows(scale.len(), y, x, x, |c, y, x, _| *y = act.apply(at(c, x))),
    }
}

fn for_rows<T: Copy>(channels: usize, y: &mut [T], a: &[T], b: &[T], mut each: impl FnMut(usize, &mut T, T, T)) {
    for ((y, a), b) in y.chunks_exact_mut(channels).zip(a.chunks_exact(channels)).zip(b.chunks_exact(channels)) {
        for (c, ((y, a), b)) in y.iter_mut().zip(a).zip(b).enumerate() {
            each(c, y, *a, *b);
        }
    }
}

impl Activation {
    #[inline(always)]
    fn apply<T: Float>(self, x: T) -> T {
        // Written so that NaN passes through: a broken run must show.
        if self == Self::Relu && x < T::ZERO { T::ZERO } else { x }
    }

    #[inline(always)]
    fn mask<T: Float>(self, y: T, dy: T) -> T {
        if self == Self::Relu && y <= T::ZERO { T::ZERO } else { dy }
    }
}

/// What the backward pass of a batch norm reads.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a, T> {
    /// Input of the forward pass, `(rows, C)`.
    pub x: &'a [T],
    /// Output of the forward pass, `(rows, C)`, where a residual was added; without one the sign of the output, which
    /// [`Activation::Relu`] asks for, is computed again from `x`.
    pub y: Option<&'a [T]>,
    /// Moments that the forward pass used.
    pub moments: &'a Moments<T>,
    /// Whether the moments came from this batch, and so depend on `x`.
    pub source: Source,
}

/// Where the moments of a forward pass came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The batch itself (training).
    Batch,
    /// Running averages, constants to the gradient (evaluation).
    Running,
}

/// What the backward pass of a batch norm writes.
#[derive(Debug)]
pub struct Gradients<'a, T> {
    /// Overwritten by the gradient of `x`, `(rows, C)`.
    pub dx: &'a mut [T],
    /// Overwritten by the gradient of the residual, `(rows, C)`.
    pub d_residual: Option<&'a mut [T]>,
    /// The gradient of gamma is added, `(C)`.
    pub dgamma: &'a mut [T],
    /// The gradient of beta is added, `(C)`.
    pub dbeta: &'a mut [T],
}

/// Backward pass of [`forward`], given `dy (rows, C)`.
///
/// # Panics
///
/// If the length of a slice does not fit.
pub fn backward<T: Float>(bn: &BatchNorm<'_, T>, saved: &Saved<'_, T>, dy: &[T], out: Gradients<'_, T>) {
    let channels = bn.gamma.len();
    assert!(dy.len() == saved.x.len() && dy.len() == out.dx.len(), "equal lengths");
    assert!(saved.y.is_none_or(|y| y.len() == dy.len()), "length of the output");
    let [a, offset] = bn.affine(saved.moments);
    let mask = match (bn.activation, saved.y) {
        (Activation::Identity, _) => Mask::All,
        (Activation::Relu, Some(y)) => Mask::Output(y),
        (Activation::Relu, None) => Mask::Affine { scale: &a, shift: &offset },
    };
    let (sum_g, sum_gx) = sums(saved, mask, dy);
    let rows = (dy.len() / channels) as f64;
    let moments = saved.moments;
    // dx = a g + b (x - mean) + c, with one a, b, c for each channel, as a g + b x + shift.
    let batch = if saved.source == Source::Batch { 1.0 } else { 0.0 };
    let coefficient = |c: usize, sum: f64| -batch * a[c].to_f64() * sum / rows;
    let b: Vec<f64> = (0..channels).map(|c| coefficient(c, sum_gx[c] * moments.inv_std[c].to_f64())).collect();
    let shift = |c: usize| T::from_f64(coefficient(c, sum_g[c]) - b[c] * moments.mean[c].to_f64());
    let shift: Vec<T> = (0..channels).map(shift).collect();
    let b: Vec<T> = b.into_iter().map(T::from_f64).collect();
    let piece = rows_per_piece(channels) * channels;
    let rows_of = |i: usize, len: usize| {
        let r = i * piece..i * piece + len;
        Rows { x: &saved.x[r.clone()], dy: &dy[r.clone()], mask: mask.of(r) }
    };
    let pieces = out.dx.par_chunks_mut(piece).enumerate();
    match out.d_residual {
        Some(dr) => pieces.zip(dr.par_chunks_mut(piece)).for_each(|((i, dx), dr)| {
            rows_of(i, dx.len()).map([&a, &b, &shift], dx, Some(dr));
        }),
        None => pieces.for_each(|(i, dx)| rows_of(i, dx.len()).map([&a, &b, &shift], dx, None)),
    }
    for c in 0..channels {
        out.dbeta[c] += T::from_f64(sum_g[c]);
        out.dgamma[c] += T::from_f64(sum_gx[c]);
    }
}

/// Sums over the rows of the masked gradient `g`, and of `g * xhat`.
fn sums<T: Float>(saved: &Saved<'_, T>, mask: Mask<'_, T>, dy: &[T]) -> (Vec<f64>, Vec<f64>) {
    let channels = saved.moments.mean.len();
    let rows = dy.len() / channels;
    let pieces = map_pieces(rows, rows_per_piece(channels), |r| {
        let r = r.start * channels..r.end * channels;
        let rows = Rows { x: &saved.x[r.clone()], dy: &dy[r.clone()], mask: mask.of(r) };
        rows.sums(&saved.moments.mean)
    });
    let (mut sum_g, mut sum_gx) = (vec![0.0; channels], vec![0.0; channels]);
    for (g, gx) in &pieces {
        for c in 0..channels {
            sum_g[c] += g[c].to_f64();
            sum_gx[c] += gx[c].to_f64() * saved.moments.inv_std[c].to_f64();
        }
    }
    (sum_g, sum_gx)
}

impl<'a, T: Float> Mask<'a, T> {
    /// That of some rows.
    fn of(self, elements: Range<usize>) -> Self {
        match self {
            Self::Output(y) => Self::Output(&y[elements]),
            mask => mask,
        }
    }

    /// `dy` of element `i` of the rows, of channel `c`, where it passes.
    fn apply(self, i: usize, c: usize, x: T, dy: T) -> T {
        match self {
            Self::All => dy,
            Self::Output(y) => Activation::Relu.mask(y[i], dy),
            Self::Affine { scale, shift } => Activation::Relu.mask(scale[c] * x + shift[c], dy),
        }
    }

    fn vectors(self) -> Option<Mask<'a, f32>> {
        Some(match self {
            Self::All => Mask::All,
            Self::Output(y) => Mask::Output(T::as_f32(y)?),
            Self::Affine { scale, shift } => Mask::Affine { scale: T::as_f32(scale)?, shift: T::as_f32(shift)? },
        })
    }
}

/// Some rows of what a backward pass reads.
struct Rows<'a, T> {
    x: &'a [T],
    dy: &'a [T],
    mask: Mask<'a, T>,
}

impl<T: Float> Rows<'_, T> {
    fn vectors(&self) -> Option<vector::Grad<'_>> {
        Some(vector::Grad { x: T::as_f32(self.x)?, dy: T::as_f32(self.dy)?, mask: self.mask.vectors()? })
    }

    /// For each channel, the sums of `g` and of `g (x - mean)`.
    fn sums(&self, mean: &[T]) -> (Vec<T>, Vec<T>) {
        let channels = mean.len();
        let (mut g_sum, mut gx_sum) = (vec![T::ZERO; channels], vec![T::ZERO; channels]);
        if let (Some(rows), Some(mean)) = (self.vectors(), T::as_f32(mean)) {
            let out = T::as_f32_mut(&mut g_sum).zip(T::as_f32_mut(&mut gx_sum));
            let (g_sum, gx_sum) = out.expect("one element type");
            vector::grad_sums(Isa::current(), &rows, mean, g_sum, gx_sum);
        } else {
            for (i, x) in self.x.iter().enumerate() {
                let c = i % channels;
                let g = self.mask.apply(i, c, *x, self.dy[i]);
                g_sum[c] += g;
                gx_sum[c] += g * (*x - mean[c]);
            }
        }
        (g_sum, gx_sum)
    }

    /// `dx = a g + b x + shift`, and `d_residual = g`.
    fn map(&self, [a, b, shift]: [&[T]; 3], dx: &mut [T], d_residual: Option<&mut [T]>) {
        if let (Some(rows), Some(g), Some(x), Some(shift)) =
            (self.vectors(), T::as_f32(a), T::as_f32(b), T::as_f32(shift))
        {
            let dx = T::as_f32_mut(dx).expect("one element type");
            let map = vector::GradMap { g, x, shift };
            return vector::grad(Isa::current(), &rows, &map, dx, d_residual.and_then(T::as_f32_mut));
        }
        let channels = a.len();
        let g = |i: usize| self.mask.apply(i, i % channels, self.x[i], self.dy[i]);
        for (i, dx) in dx.iter_mut().enumerate() {
            let c = i % channels;
            *dx = a[c] * g(i) + b[c] * self.x[i] + shift[c];
        }
        if let Some(d) = d_residual {
            d.iter_mut().enumerate().for_each(|(i, d)| *d = g(i));
        }
    }
}

#[cfg(test)]
mod tests;
