//! The inner loops of batch normalisation over `(rows, channels)` of `f32`.

use super::Isa;
use super::isa::for_each_isa;
use super::lanes::{Lanes, load, store};
use crate::norm::Activation;

/// Vectors side by side whose sums stay in registers.
const GROUP: usize = 4;

/// Adds, for each channel, the sum and the sum of squares of `x - origin` over the rows of `x`.
pub(crate) fn moment_sums(isa: Isa, x: &[f32], origin: &[f32], sums: &mut [f32], squares: &mut [f32]) {
    let channels = origin.len();
    assert!(x.len().is_multiple_of(channels) && sums.len() == channels && squares.len() == channels, "whole rows");
    // SAFETY: `x` holds whole rows of `channels`, as long as the other slices.
    unsafe { run_moment_sums(isa, x, origin, sums, squares) }
}

for_each_isa! {
    fn run_moment_sums = moment_sums_body; (x: &[f32], origin: &[f32], sums: &mut [f32], squares: &mut [f32])
}

#[inline(always)]
unsafe fn moment_sums_body<L: Lanes>(x: &[f32], origin: &[f32], sums: &mut [f32], squares: &mut [f32]) {
    let channels = origin.len();
    let rows = x.len() / channels;
    let mut c = 0;
    // SAFETY: columns `c` and up to `GROUP` vectors after it are inside a row, in the last vector with `part` numbers.
    unsafe {
        while c + GROUP * L::N <= channels {
            moment_columns::<L, GROUP>(rows, channels, 0, x, origin, sums, squares, c);
            c += GROUP * L::N;
        }
        while c < channels {
            moment_columns::<L, 1>(rows, channels, (channels - c) % L::N, x, origin, sums, squares, c);
            c += L::N;
        }
    }
}

/// The sums of `G` vectors of columns, from column `c` on.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn moment_columns<L: Lanes, const G: usize>(
    rows: usize,
    channels: usize,
    part: usize,
    x: &[f32],
    origin: &[f32],
    sums: &mut [f32],
    squares: &mut [f32],
    c: usize,
) {
    // SAFETY: as the caller.
    unsafe {
        let part = if channels - c < L::N { part } else { 0 };
        let mut zero = [L::zero(); G];
        read::<L, G>(origin.as_ptr().add(c), part, &mut zero);
        let (mut sum, mut square) = ([L::zero(); G], [L::zero(); G]);
        let mut row = [L::zero(); G];
        for r in 0..rows {
            read::<L, G>(x.as_ptr().add(r * channels + c), part, &mut row);
            for g in 0..G {
                let d = L::sub(row[g], zero[g]);
                sum[g] = L::add(sum[g], d);
                square[g] = L::fma(d, d, square[g]);
            }
        }
        accumulate::<L, G>(sums.as_mut_ptr().add(c), part, &sum);
        accumulate::<L, G>(squares.as_mut_ptr().add(c), part, &square);
    }
}

#[inline(always)]
unsafe fn read<L: Lanes, const G: usize>(from: *const f32, part: usize, to: &mut [L::V; G]) {
    for (g, to) in to.iter_mut().enumerate() {
        // SAFETY: the caller grants `G` vectors, or `part` numbers if that is not 0.
        *to = unsafe { if part > 0 { L::load_part(from, part) } else { L::load(from.add(g * L::N)) } };
    }
}

#[inline(always)]
unsafe fn accumulate<L: Lanes, const G: usize>(to: *mut f32, part: usize, values: &[L::V; G]) {
    // SAFETY: the caller grants `G` vectors, or `part` numbers if that is not 0.
    unsafe {
        let mut old = [L::zero(); G];
        read::<L, G>(to, part, &mut old);
        for g in 0..G {
            let sum = L::add(old[g], values[g]);
            if part > 0 {
                L::store_part(to, sum, part);
            } else {
                L::store(to.add(g * L::N), sum);
            }
        }
    }
}

/// `y = activation(scale x + shift + residual)` over whole rows.
pub(crate) struct Affine<'a> {
    pub x: &'a [f32],
    pub residual: Option<&'a [f32]>,
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    pub activation: Activation,
}

/// Computes `job` into `y`.
pub(crate) fn affine(isa: Isa, job: &Affine<'_>, y: &mut [f32]) {
    let channels = job.scale.len();
    assert!(y.len().is_multiple_of(channels) && job.x.len() == y.len() && job.shift.len() == channels, "whole rows");
    assert!(job.residual.is_none_or(|r| r.len() == y.len()), "length of the residual");
    // SAFETY: all slices hold the same whole rows, as checked.
    unsafe { run_affine(isa, job, y) }
}

for_each_isa! {
    fn run_affine = affine_body; (job: &Affine<'_>, y: &mut [f32])
}

#[inline(always)]
unsafe fn affine_body<L: Lanes>(job: &Affine<'_>, y: &mut [f32]) {
    // SAFETY: as `affine`.
    unsafe {
        match (job.residual.is_some(), job.activation) {
            (false, Activation::Identity) => affine_rows::<L, false, false>(job, y),
            (false, Activation::Relu) => affine_rows::<L, false, true>(job, y),
            (true, Activation::Identity) => affine_rows::<L, true, false>(job, y),
            (true, Activation::Relu) => affine_rows::<L, true, true>(job, y),
        }
    }
}

#[inline(always)]
unsafe fn affine_rows<L: Lanes, const RESIDUAL: bool, const RELU: bool>(job: &Affine<'_>, y: &mut [f32]) {
    let channels = job.scale.len();
    let (x, residual) = (job.x.as_ptr(), job.residual.unwrap_or(job.x).as_ptr());
    for row in (0..y.len()).step_by(channels) {
        for c in (0..channels).step_by(L::N) {
            let n = (channels - c).min(L::N);
            // SAFETY: `row + c` and `n` numbers after it are inside every slice of rows, `c` inside those of channels.
            unsafe {
                let (scale, shift) = (load::<L>(job.scale.as_ptr().add(c), n), load::<L>(job.shift.as_ptr().add(c), n));
                let mut v = L::fma(load::<L>(x.add(row + c), n), scale, shift);
                if RESIDUAL {
                    v = L::add(v, load::<L>(residual.add(row + c), n));
                }
                store::<L>(y.as_mut_ptr().add(row + c), if RELU { L::relu(v) } else { v }, n);
            }
        }
    }
}

/// `y = activation(scale y + shift + residual)` in place over whole rows.
pub(crate) fn affine_in_place(isa: Isa, after: &After<'_>, y: &mut [f32]) {
    let channels = after.scale.len();
    assert!(y.len().is_multiple_of(channels) && after.shift.len() == channels, "whole rows");
    assert!(after.residual.is_none_or(|r| r.len() == y.len()), "length of the residual");
    // SAFETY: all slices hold the same whole rows, as checked.
    unsafe { run_affine_in_place(isa, after, y) }
}

/// What follows a convolution, over some rows of its output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct After<'a> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    pub residual: Option<&'a [f32]>,
    pub activation: Activation,
}

for_each_isa! {
    fn run_affine_in_place = affine_in_place_body; (after: &After<'_>, y: &mut [f32])
}

#[inline(always)]
unsafe fn affine_in_place_body<L: Lanes>(after: &After<'_>, y: &mut [f32]) {
    let channels = after.scale.len();
    for row in (0..y.len()).step_by(channels) {
        for c in (0..channels).step_by(L::N) {
            let (n, at) = ((channels - c).min(L::N), row + c);
            // SAFETY: as `affine_in_place`.
            unsafe {
                let scale = load::<L>(after.scale.as_ptr().add(c), n);
                let shift = load::<L>(after.shift.as_ptr().add(c), n);
                let mut v = L::fma(load::<L>(y.as_ptr().add(at), n), scale, shift);
                if let Some(residual) = after.residual {
                    v = L::add(v, load::<L>(residual.as_ptr().add(at), n));
                }
                let v = if after.activation == Activation::Relu { L::relu(v) } else { v };
                store::<L>(y.as_mut_ptr().add(at), v, n);
            }
        }
    }
}

/// Where the gradient of an output passes.
#[derive(Clone, Copy)]
pub(crate) enum Mask<'a, T> {
    /// Everywhere: there was no ReLU.
    All,
    /// Where these outputs are above 0, or NaN.
    Output(&'a [T]),
    /// Where `scale x + shift` is, which is computed once more: cheaper than to read what it gave.
    Affine { scale: &'a [T], shift: &'a [T] },
}

/// What the backward loops read: `g` is `dy` where the mask lets it pass.
pub(crate) struct Grad<'a> {
    pub x: &'a [f32],
    pub dy: &'a [f32],
    pub mask: Mask<'a, f32>,
}

impl Grad<'_> {
    fn check(&self, channels: usize) {
        assert!(self.x.len().is_multiple_of(channels) && self.dy.len() == self.x.len(), "whole rows");
        match self.mask {
            Mask::All => {}
            Mask::Output(y) => assert!(y.len() == self.x.len(), "length of the output"),
            Mask::Affine { scale, shift } => {
                assert!(scale.len() == channels && shift.len() == channels, "one value a channel");
            }
        }
    }
}

/// How a loop masks, for the compiler.
trait Masking<L: Lanes> {
    /// `dy` where it passes: `n` channels from `c` on, at `at` of the rows.
    ///
    /// # Safety
    ///
    /// As [`Lanes`]; both places lie inside.
    unsafe fn apply(&self, at: usize, c: usize, n: usize, x: L::V, dy: L::V) -> L::V;
}

struct All;

impl<L: Lanes> Masking<L> for All {
    #[inline(always)]
    unsafe fn apply(&self, _: usize, _: usize, _: usize, _: L::V, dy: L::V) -> L::V {
        dy
    }
}

struct Output<'a>(&'a [f32]);

impl<L: Lanes> Masking<L> for Output<'_> {
    #[inline(always)]
    unsafe fn apply(&self, at: usize, _: usize, n: usize, _: L::V, dy: L::V) -> L::V {
        // SAFETY: as the trait demands.
        unsafe { L::where_positive(load::<L>(self.0.as_ptr().add(at), n), dy) }
    }
}

struct Again<'a> {
    scale: &'a [f32],
    shift: &'a [f32],
}

impl<L: Lanes> Masking<L> for Again<'_> {
    #[inline(always)]
    unsafe fn apply(&self, _: usize, c: usize, n: usize, x: L::V, dy: L::V) -> L::V {
        // SAFETY: as the trait demands. The same operation as in `affine_rows`, and so the same sign.
        unsafe {
            let (scale, shift) = (self.scale.as_ptr().add(c), self.shift.as_ptr().add(c));
            L::where_positive(L::fma(x, load::<L>(scale, n), load::<L>(shift, n)), dy)
        }
    }
}

/// Adds, for each channel, the sums of `g` and of `g (x - mean)` over the rows.
pub(crate) fn grad_sums(isa: Isa, job: &Grad<'_>, mean: &[f32], g_sums: &mut [f32], gx_sums: &mut [f32]) {
    let channels = mean.len();
    job.check(channels);
    assert!(g_sums.len() == channels && gx_sums.len() == channels, "one sum a channel");
    // SAFETY: all slices hold the same whole rows of `channels`, as checked.
    unsafe { run_grad_sums(isa, job, mean, g_sums, gx_sums) }
}

for_each_isa! {
    fn run_grad_sums = grad_sums_body; (job: &Grad<'_>, mean: &[f32], g_sums: &mut [f32], gx_sums: &mut [f32])
}

#[inline(always)]
unsafe fn grad_sums_body<L: Lanes>(job: &Grad<'_>, mean: &[f32], g_sums: &mut [f32], gx_sums: &mut [f32]) {
    // SAFETY: as `grad_sums`.
    unsafe {
        match job.mask {
            Mask::All => grad_sums_by::<L, _>(job, &All, mean, g_sums, gx_sums),
            Mask::Output(y) => grad_sums_by::<L, _>(job, &Output(y), mean, g_sums, gx_sums),
            Mask::Affine { scale, shift } => {
                grad_sums_by::<L, _>(job, &Again { scale, shift }, mean, g_sums, gx_sums);
            }
        }
    }
}

#[inline(always)]
unsafe fn grad_sums_by<L: Lanes, M: Masking<L>>(
    job: &Grad<'_>,
    mask: &M,
    mean: &[f32],
    g_sums: &mut [f32],
    gx_sums: &mut [f32],
) {
    let channels = mean.len();
    let mut c = 0;
    // SAFETY: columns `c` and up to `GROUP` vectors after it are inside a row.
    unsafe {
        while c + GROUP * L::N <= channels {
            grad_columns::<L, M, GROUP>(job, mask, mean, [g_sums, gx_sums], c, 0);
            c += GROUP * L::N;
        }
        while c < channels {
            let left = channels - c;
            grad_columns::<L, M, 1>(job, mask, mean, [g_sums, gx_sums], c, if left < L::N { left } else { 0 });
            c += L::N;
        }
    }
}

#[inline(always)]
unsafe fn grad_columns<L: Lanes, M: Masking<L>, const G: usize>(
    job: &Grad<'_>,
    mask: &M,
    mean: &[f32],
    [g_sums, gx_sums]: [&mut [f32]; 2],
    c: usize,
    part: usize,
) {
    let channels = mean.len();
    // SAFETY: as the caller.
    unsafe {
        let zero = [L::zero(); G];
        let (mut means, mut sum, mut sum_x) = (zero, zero, zero);
        let (mut x, mut dy) = (zero, zero);
        read::<L, G>(mean.as_ptr().add(c), part, &mut means);
        for row in (c..job.x.len()).step_by(channels) {
            read::<L, G>(job.dy.as_ptr().add(row), part, &mut dy);
            read::<L, G>(job.x.as_ptr().add(row), part, &mut x);
            for g in 0..G {
                let n = if g + 1 == G && part > 0 { part } else { L::N };
                dy[g] = mask.apply(row + g * L::N, c + g * L::N, n, x[g], dy[g]);
            }
            for g in 0..G {
                sum[g] = L::add(sum[g], dy[g]);
                sum_x[g] = L::fma(dy[g], L::sub(x[g], means[g]), sum_x[g]);
            }
        }
        accumulate::<L, G>(g_sums.as_mut_ptr().add(c), part, &sum);
        accumulate::<L, G>(gx_sums.as_mut_ptr().add(c), part, &sum_x);
    }
}

/// One scale for `g`, one for `x`, and a shift, for each channel.
pub(crate) struct GradMap<'a> {
    pub g: &'a [f32],
    pub x: &'a [f32],
    pub shift: &'a [f32],
}

/// `dx = map.g g + map.x x + map.shift`, and `d_residual = g` where it is wanted.
pub(crate) fn grad(isa: Isa, job: &Grad<'_>, map: &GradMap<'_>, dx: &mut [f32], d_residual: Option<&mut [f32]>) {
    let channels = map.g.len();
    job.check(channels);
    assert!(dx.len() == job.x.len() && map.x.len() == channels && map.shift.len() == channels, "rows and channels");
    assert!(d_residual.as_ref().is_none_or(|d| d.len() == dx.len()), "length of the residual's gradient");
    // SAFETY: all slices hold the same whole rows of `channels`, as checked.
    unsafe { run_grad(isa, job, map, dx, d_residual) }
}

for_each_isa! {
    fn run_grad = grad_body; (job: &Grad<'_>, map: &GradMap<'_>, dx: &mut [f32], d_residual: Option<&mut [f32]>)
}

#[inline(always)]
unsafe fn grad_body<L: Lanes>(job: &Grad<'_>, map: &GradMap<'_>, dx: &mut [f32], d_residual: Option<&mut [f32]>) {
    // SAFETY: as `grad`.
    unsafe {
        match (d_residual, job.mask) {
            (None, Mask::All) => grad_rows::<L, _>(job, &All, map, dx, None),
            (None, Mask::Output(y)) => grad_rows::<L, _>(job, &Output(y), map, dx, None),
            (None, Mask::Affine { scale, shift }) => grad_rows::<L, _>(job, &Again { scale, shift }, map, dx, None),
            (Some(d), Mask::All) => grad_rows::<L, _>(job, &All, map, dx, Some(d)),
            (Some(d), Mask::Output(y)) => grad_rows::<L, _>(job, &Output(y), map, dx, Some(d)),
            (Some(d), Mask::Affine { scale, shift }) => {
                grad_rows::<L, _>(job, &Again { scale, shift }, map, dx, Some(d));
            }
        }
    }
}

#[inline(always)]
unsafe fn grad_rows<L: Lanes, M: Masking<L>>(
    job: &Grad<'_>,
    mask: &M,
    map: &GradMap<'_>,
    dx: &mut [f32],
    mut d_residual: Option<&mut [f32]>,
) {
    let channels = map.g.len();
    for row in (0..dx.len()).step_by(channels) {
        for c in (0..channels).step_by(L::N) {
            let (n, at) = ((channels - c).min(L::N), row + c);
            // SAFETY: `at` and `n` numbers after it are inside every slice of rows, `c` inside those of channels.
            unsafe {
                let x = load::<L>(job.x.as_ptr().add(at), n);
                let g = mask.apply(at, c, n, x, load::<L>(job.dy.as_ptr().add(at), n));
                if let Some(d) = &mut d_residual {
                    store::<L>(d.as_mut_ptr().add(at), g, n);
                }
                let shift = load::<L>(map.shift.as_ptr().add(c), n);
                let scaled = L::fma(x, load::<L>(map.x.as_ptr().add(c), n), shift);
                store::<L>(dx.as_mut_ptr().add(at), L::fma(g, load::<L>(map.g.as_ptr().add(c), n), scaled), n);
            }
        }
    }
}
