//! Weights to points, and points of the weight's gradient back.

use super::rule::{LINE, Rule};
use super::{Square, Tile, by_rule, square};
use crate::conv::Write;
use crate::simd::Isa;
use crate::simd::isa::for_each_isa;
use crate::simd::lanes::{Lanes, load, store};
use crate::simd::matmul::PANEL;
use std::marker::PhantomData;
use std::ops::Range;

/// Which way a weight is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From input to output channels.
    Forward,
    /// From output to input channels, the window turned around.
    Backward,
}

/// A weight `(O, I, 3, 3)`, as one of the passes reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weight<'a> {
    pub data: &'a [f32],
    pub in_channels: usize,
    pub direction: Direction,
}

impl Weight<'_> {
    /// `G g G^T` for `depths` (channels that the pass sums over) and at most [`PANEL`] `cols` (channels that it gives):
    /// point `f` of depth `d` at `f * stride + d * PANEL`, counted from the first depth.
    pub(crate) fn points(
        &self,
        isa: Isa,
        tile: Tile,
        depths: &Range<usize>,
        cols: &Range<usize>,
        out: (&mut [f32], usize),
    ) {
        let (points, stride) = out;
        let out_channels = self.data.len() / (9 * self.in_channels);
        let (from, to) = match self.direction {
            Direction::Forward => (self.in_channels, out_channels),
            Direction::Backward => (out_channels, self.in_channels),
        };
        assert!(depths.end <= from && cols.end <= to && cols.len() <= PANEL, "channels of the weight");
        assert!((tile.weights() - 1) * stride + depths.len() * PANEL <= points.len(), "every point");
        let job = Points { weight: self, depths, cols, points: points.as_mut_ptr(), stride };
        // SAFETY: the channels lie inside the weight and all points inside the slice, as checked.
        unsafe { run_points(isa, &job, tile) }
    }
}

struct Points<'a> {
    weight: &'a Weight<'a>,
    depths: &'a Range<usize>,
    cols: &'a Range<usize>,
    points: *mut f32,
    stride: usize,
}

for_each_isa! {
    fn run_points = points_body; (job: &Points<'_>, tile: Tile)
}

#[inline(always)]
unsafe fn points_body<L: Lanes>(job: &Points<'_>, tile: Tile) {
    let i = job.weight.in_channels;
    for col in (0..job.cols.len()).step_by(L::N) {
        let n = (job.cols.len() - col).min(L::N);
        for (row, depth) in job.depths.clone().enumerate() {
            let forward = job.weight.direction == Direction::Forward;
            let (first, lane) = match job.weight.direction {
                Direction::Forward => (((job.cols.start + col) * i + depth) * 9, i * 9),
                Direction::Backward => ((depth * i + job.cols.start + col) * 9, 9),
            };
            // SAFETY: as `Weight::points`: nine taps of `n` columns from `first`, `lane` apart, and their points.
            unsafe {
                let mut taps = L::gather_nine(job.weight.data.as_ptr().add(first), lane, n);
                if !forward {
                    taps.reverse();
                }
                let (points, stride) = (job.points.add(row * PANEL + col), job.stride);
                by_rule!(tile, R => square(&Taps::<L, R> { taps, n, points, stride, rule: PhantomData }));
            }
        }
    }
}

/// Nine taps of some columns, and where their points go.
struct Taps<L: Lanes, R> {
    taps: [L::V; 9],
    n: usize,
    points: *mut f32,
    stride: usize,
    rule: PhantomData<R>,
}

impl<L: Lanes, R: Rule> Square<L> for Taps<L, R> {
    const IN: usize = 3;
    const OUT: usize = R::WEIGHTS;
    #[inline(always)]
    unsafe fn load(&self, i: usize, j: usize) -> L::V {
        self.taps[i * 3 + j]
    }
    #[inline(always)]
    unsafe fn line(x: [L::V; LINE]) -> [L::V; LINE] {
        // SAFETY: the caller has the instruction set.
        unsafe { R::g::<L>(x) }
    }
    #[inline(always)]
    unsafe fn store(&self, i: usize, j: usize, v: L::V) {
        // SAFETY: every point has its place.
        unsafe { store::<L>(self.points.add((i * R::WEIGHTS + j) * self.stride), v, self.n) }
    }
}

/// Points of a weight gradient: point `f` of output channel `o`, input channel `i` at `f * stride + o * row + i`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GradPoints<'a> {
    pub data: &'a [f32],
    pub stride: usize,
    pub row: usize,
    pub out_channels: usize,
    pub in_channels: usize,
}

/// `G^T m G` of `points` into or onto `dw`, whose rows `(I, 3, 3)` are `dw_row` apart.
pub(crate) fn weight_grad(
    isa: Isa,
    tile: Tile,
    points: &GradPoints<'_>,
    (dw, dw_row): (&mut [f32], usize),
    write: Write,
) {
    let (o, i) = (points.out_channels, points.in_channels);
    assert!(o > 0 && (o - 1) * dw_row + i * 9 <= dw.len(), "rows of the gradient");
    let last = (tile.weights() - 1) * points.stride + (o - 1) * points.row + i;
    assert!(last <= points.data.len(), "every point");
    // SAFETY: all points and all rows lie inside the slices, as checked.
    unsafe { run_grad(isa, tile, points, dw, dw_row, write) }
}

for_each_isa! {
    fn run_grad = grad_body; (tile: Tile, points: &GradPoints<'_>, dw: &mut [f32], dw_row: usize, write: Write)
}

#[inline(always)]
unsafe fn grad_body<L: Lanes>(tile: Tile, points: &GradPoints<'_>, dw: &mut [f32], dw_row: usize, write: Write) {
    let mut taps = [0f32; 9 * 16];
    for o in 0..points.out_channels {
        for i in (0..points.in_channels).step_by(L::N) {
            let n = (points.in_channels - i).min(L::N);
            // SAFETY: the points of `n` channels are there; `taps` holds nine vectors of any instruction set.
            unsafe {
                let from = points.data.as_ptr().add(o * points.row + i);
                let at = Narrow { points: from, stride: points.stride, n, taps: taps.as_mut_ptr() };
                by_rule!(tile, R => square::<L, _>(&NarrowBy::<R>(at, PhantomData)));
            }
            let dw = &mut dw[o * dw_row + i * 9..][..n * 9];
            for (lane, dw) in dw.as_chunks_mut::<9>().0.iter_mut().enumerate() {
                for (tap, dw) in dw.iter_mut().enumerate() {
                    let value = taps[tap * L::N + lane];
                    *dw = if write == Write::Add { *dw + value } else { value };
                }
            }
        }
    }
}

struct Narrow {
    points: *const f32,
    stride: usize,
    n: usize,
    taps: *mut f32,
}

struct NarrowBy<R>(Narrow, PhantomData<R>);

impl<L: Lanes, R: Rule> Square<L> for NarrowBy<R> {
    const IN: usize = R::WEIGHTS;
    const OUT: usize = 3;
    #[inline(always)]
    unsafe fn load(&self, i: usize, j: usize) -> L::V {
        // SAFETY: every point has its place.
        unsafe { load::<L>(self.0.points.add((i * R::WEIGHTS + j) * self.0.stride), self.0.n) }
    }
    #[inline(always)]
    unsafe fn line(x: [L::V; LINE]) -> [L::V; LINE] {
        // SAFETY: the caller has the instruction set.
        unsafe { R::gt::<L>(x) }
    }
    #[inline(always)]
    unsafe fn store(&self, i: usize, j: usize, v: L::V) {
        // SAFETY: there is room for nine vectors.
        unsafe { L::store(self.0.taps.add((i * 3 + j) * L::N), v) }
    }
}
