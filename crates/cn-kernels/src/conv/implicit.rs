//! Any convolution of `f32` as matrix products over windows that are gathered block by block.

use super::packed::{Packed, tap_chunks};
use super::windows::{Taps, gather, scatter};
use super::{ConvShape, Write};
use crate::parallel::{even_piece, map_pieces};
use crate::scratch::Scratch;
use crate::simd::Isa;
use crate::simd::matmul::{Left, Out, PANEL, Panel, matmul};
use crate::simd::norm::{After, affine_in_place};
use crate::simd::pairs::{Along, Matrix};
use rayon::prelude::*;
use std::ops::Range;

/// Output pixels per block: their windows and one panel of weights stay in the second-level cache.
const BLOCK: usize = 96;
/// Output pixels whose windows one task gathers, where all are gathered beforehand.
const GATHER: usize = 8;
/// Numbers that one task copies.
const COPY: usize = 1 << 14;
/// Matrix columns of a block of windows.
const DEPTH: usize = 1152;
/// Below as many output pixels, the weights are the larger matrix, and threads share them out.
const FEW_PIXELS: usize = 768;

pub(super) fn forward(isa: Isa, s: &ConvShape, x: &[f32], w: &[f32], y: &mut [f32]) {
    forward_packed(isa, s, x, &Packed::forward(isa, s, w), None, y);
}

/// The forward pass with weights from [`Packed::forward`], and what follows it.
pub(super) fn forward_packed(isa: Isa, s: &ConvShape, x: &[f32], w: &Packed, after: Option<After<'_>>, y: &mut [f32]) {
    if pixels(s) < FEW_PIXELS && w.panels() > 1 {
        forward_by_panel(isa, s, x, w, y);
        finish(isa, after, 0, y);
    } else {
        forward_by_block(isa, s, x, w, after, y);
    }
}

/// Applies what follows the pass to `y`, which begins at element `first` of the whole output.
fn finish(isa: Isa, after: Option<After<'_>>, first: usize, y: &mut [f32]) {
    if let Some(after) = after {
        let residual = after.residual.map(|r| &r[first..first + y.len()]);
        affine_in_place(isa, &After { residual, ..after }, y);
    }
}

fn pixels(s: &ConvShape) -> usize {
    s.batch * s.out_height() * s.out_width()
}

fn forward_by_block(isa: Isa, s: &ConvShape, x: &[f32], weights: &Packed, after: Option<After<'_>>, y: &mut [f32]) {
    let o = s.out_channels;
    let chunks = tap_chunks(s, DEPTH);
    let step = even_piece(pixels(s), BLOCK);
    y.par_chunks_mut(step * o).enumerate().for_each(|(block, y)| {
        let (first, rows) = (block * step, y.len() / o);
        let mut windows = Scratch::new(rows * chunks[0].len() * s.in_channels);
        for taps in &chunks {
            let left = gathered((isa, Along::Rows), s, taps, x, first..first + rows, &mut windows);
            for p in 0..weights.panels() {
                let right = weights.panel(p, taps.start * s.in_channels);
                let out = Out { data: &mut y[p * PANEL..], stride: o, write: write_of(taps) };
                matmul(isa, [rows, left.row_stride], left, right, out);
            }
        }
        finish(isa, after, first * o, y);
    });
}

fn forward_by_panel(isa: Isa, s: &ConvShape, x: &[f32], weights: &Packed, y: &mut [f32]) {
    let (o, rows, k) = (s.out_channels, pixels(s), isa.places(s.window_len()));
    let all = 0..s.kernel[0] * s.kernel[1];
    let mut windows = Scratch::new(rows * k);
    windows.par_chunks_mut(GATHER * k).enumerate().for_each(|(b, out)| {
        let pixels = b * GATHER..b * GATHER + out.len() / k;
        if isa.has_pairs() {
            let m = Matrix { rows: pixels.len(), width: s.window_len() };
            let mut windows = Scratch::new(m.rows * m.width);
            gather(isa, s, &all, x, pixels, &mut windows);
            isa.pair_from(Along::Rows, m, &windows, out);
        } else {
            gather(isa, s, &all, x, pixels, out);
        }
    });
    let columns: Vec<Scratch> = (0..weights.panels())
        .into_par_iter()
        .with_max_len(1)
        .map(|p| {
            let mut columns = Scratch::new(rows * PANEL);
            for taps in tap_chunks(s, DEPTH) {
                let first = taps.start * s.in_channels;
                let left = Left { data: &windows[isa.places(first)..], row_stride: k, col_stride: 1 };
                let depth = isa.places(taps.len() * s.in_channels);
                let out = Out { data: &mut columns, stride: PANEL, write: write_of(&taps) };
                matmul(isa, [rows, depth], left, weights.panel(p, first), out);
            }
            columns
        })
        .collect();
    y.par_chunks_mut(o).with_min_len(COPY / o).enumerate().for_each(|(row, y)| {
        for (y, columns) in y.chunks_mut(PANEL).zip(&columns) {
            y.copy_from_slice(&columns[row * PANEL..][..y.len()]);
        }
    });
}

fn write_of(taps: &Taps) -> Write {
    if taps.start == 0 { Write::Set } else { Write::Add }
}

/// The windows of some pixels, as a product with the weights reads them, or turned, as one with the gradient does.
fn gathered<'a>(
    (isa, along): (Isa, Along),
    s: &ConvShape,
    taps: &Taps,
    x: &[f32],
    pixels: Range<usize>,
    windows: &'a mut [f32],
) -> Left<'a> {
    let depth = taps.len() * s.in_channels;
    let len = pixels.len() * depth;
    let m = Matrix { rows: pixels.len(), width: depth };
    gather(isa, s, taps, x, pixels, &mut windows[..len]);
    isa.pair(along, m, &mut windows[..len]);
    match along {
        Along::Rows => Left { data: &windows[..len], row_stride: isa.places(depth), col_stride: 1 },
        Along::Columns => Left { data: &windows[..len], row_stride: 1, col_stride: depth },
    }
}

/// Rows of `from` as products read them: themselves, or pairs in `to`.
fn paired<'a>(isa: Isa, (along, m): (Along, Matrix), from: &'a [f32], to: &'a mut [f32]) -> &'a [f32] {
    if !isa.has_pairs() {
        return from;
    }
    isa.pair_from(along, m, from, to);
    to
}

pub(super) fn backward_input(isa: Isa, s: &ConvShape, dy: &[f32], w: &[f32], dx: &mut [f32], write: Write) {
    let (o, k) = (s.out_channels, s.window_len());
    let weights = Packed::transposed(isa, s, w);
    let (out_pixels, in_len) = (s.out_height() * s.out_width(), s.height * s.width * s.in_channels);
    // Whole images, so that no two threads scatter to one place; several if they are small, to use the weights well.
    let images = even_piece(s.batch, BLOCK.div_ceil(2 * out_pixels));
    dx.par_chunks_mut(images * in_len).enumerate().for_each(|(group, dx)| {
        let places = isa.places(o);
        let (mut windows, mut pairs) = (Scratch::new(BLOCK * k), Scratch::new(BLOCK * places));
        if write == Write::Set {
            dx.fill(0.0);
        }
        let first = group * images;
        let (start, end) = (first * out_pixels, (first + dx.len() / in_len) * out_pixels);
        for at in (start..end).step_by(BLOCK) {
            let rows = BLOCK.min(end - at);
            let left = Left {
                data: paired(isa, (Along::Rows, Matrix { rows, width: o }), &dy[at * o..], &mut pairs),
                row_stride: places,
                col_stride: 1,
            };
            for p in 0..weights.panels() {
                let out = Out { data: &mut windows[p * PANEL..], stride: k, write: Write::Set };
                matmul(isa, [rows, places], left, weights.panel(p, 0), out);
            }
            scatter(isa, s, &windows[..rows * k], at..at + rows, first, dx);
        }
    });
}

/// Largest weight, in elements, of which each group of images forms a sum of its own.
const SMALL_WEIGHT: usize = 160_000;
/// Groups of images that form sums of their own; fixed, so that the order of additions is.
const GROUPS: usize = 8;

pub(super) fn backward_weight(isa: Isa, s: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let all = 0..s.kernel[0] * s.kernel[1];
    if s.weight_len() <= SMALL_WEIGHT {
        let pixels = pixels(s);
        let sums = map_pieces(pixels, pixels.div_ceil(GROUPS), |pixels| weight_sum(isa, s, &all, x, dy, pixels));
        for sum in &sums {
            add_windows_first(s, &all, sum, dw);
        }
    } else {
        let chunks = tap_chunks(s, 1);
        let sums = map_pieces(chunks.len(), 1, |c| weight_sum(isa, s, &chunks[c.start], x, dy, 0..pixels(s)));
        for (taps, sum) in chunks.iter().zip(&sums) {
            add_windows_first(s, taps, sum, dw);
        }
    }
}

/// The gradient of the weights of some taps, from some pixels: `(taps * I, O)`.
fn weight_sum(isa: Isa, s: &ConvShape, taps: &Taps, x: &[f32], dy: &[f32], pixels: Range<usize>) -> Scratch {
    let (o, k) = (s.out_channels, taps.len() * s.in_channels);
    let mut sum = Scratch::new(k * o);
    let (mut windows, mut pairs) = (Scratch::new(BLOCK * k), Scratch::new(BLOCK * o));
    for at in pixels.clone().step_by(BLOCK) {
        let rows = BLOCK.min(pixels.end - at);
        let left = gathered((isa, Along::Columns), s, taps, x, at..at + rows, &mut windows);
        let dy = paired(isa, (Along::Columns, Matrix { rows, width: o }), &dy[at * o..], &mut pairs);
        let write = if at == pixels.start { Write::Set } else { Write::Add };
        for col in (0..o).step_by(PANEL) {
            let right = Panel { data: &dy[col..], stride: o, cols: PANEL.min(o - col) };
            let out = Out { data: &mut sum[col..], stride: o, write };
            matmul(isa, [k, isa.places(rows)], left, right, out);
        }
    }
    sum
}

/// Adds `(taps, I, O)` to `(O, I, Kh, Kw)`.
fn add_windows_first(s: &ConvShape, taps: &Taps, sum: &[f32], dw: &mut [f32]) {
    let (o, i, all) = (s.out_channels, s.in_channels, s.kernel[0] * s.kernel[1]);
    dw.par_chunks_mut(16 * i * all).enumerate().for_each(|(block, dw)| {
        for c in 0..i {
            for t in taps.clone() {
                let sum = &sum[((t - taps.start) * i + c) * o + block * 16..];
                for (dw, sum) in dw.chunks_exact_mut(i * all).zip(sum) {
                    dw[c * all + t] += *sum;
                }
            }
        }
    });
}
