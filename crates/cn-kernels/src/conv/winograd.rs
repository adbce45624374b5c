//! 3 x 3 convolutions with stride 1 or 2 and padding 1, with a quarter of the multiplications (Lavin & Gray,
//! arXiv:1509.09308), or a little over half of them (Huang et al., arXiv:2002.00552).
//!
//! Tiles of the input are transformed to points, points are multiplied as matrices over the channels, products are
//! transformed back. Forward pass and input gradient are the same computation with the weight turned around. Two
//! orders: by block of tiles, with all weights transformed beforehand, where pixels are many; by panel of output
//! channels, with all tiles transformed beforehand and weights in passing, where weights are.

use super::{ConvShape, Write};
use crate::parallel::{even_piece, map_pieces};
use crate::scratch::Scratch;
use crate::simd::Isa;
use crate::simd::matmul::{Left, Out, PANEL, Panel, matmul};
use crate::simd::norm::{After, affine_in_place};
use crate::simd::pairs::{Along, Matrix};
use crate::simd::winograd::{self as transform, Batch, Direction, GradPoints, Map, Plane, Tile, Tiles, Weight};
use rayon::prelude::*;
use std::ops::Range;

/// A pass from one image batch to another.
struct Filter<'a> {
    isa: Isa,
    tile: Tile,
    batch: usize,
    from: Plane,
    to: Plane,
    weight: Source<'a>,
    after: Option<After<'a>>,
}

/// Where the transformed weights come from.
enum Source<'a> {
    /// They are made on the way.
    Raw(Weight<'a>),
    /// They are there, `(panels, Tile::weights, c, PANEL)`.
    Points(&'a [f32]),
}

/// Numbers of the transformed weights of a forward pass.
pub(super) fn weights_len(isa: Isa, tile: Tile, [in_channels, out_channels]: [usize; 2]) -> usize {
    out_channels.div_ceil(PANEL) * tile.weights() * isa.places(in_channels) * PANEL
}

/// The transformed weights of a forward pass, `(panels, Tile::weights, I, PANEL)`.
pub(super) fn weights(isa: Isa, tile: Tile, in_channels: usize, w: &[f32]) -> Vec<f32> {
    let weight = Weight { data: w, in_channels, direction: Direction::Forward };
    let o = w.len() / (9 * in_channels);
    let mut all = vec![0.0; weights_len(isa, tile, [in_channels, o])];
    fill_weights(isa, tile, &weight, [in_channels, o], &mut all);
    all
}

fn fill_weights(isa: Isa, tile: Tile, weight: &Weight<'_>, [c, n]: [usize; 2], all: &mut [f32]) {
    let places = isa.places(c);
    all.par_chunks_mut(tile.weights() * places * PANEL).enumerate().for_each(|(p, out)| {
        let cols = p * PANEL..((p + 1) * PANEL).min(n);
        if !isa.has_pairs() {
            return weight.points(isa, tile, &(0..c), &cols, (out, c * PANEL));
        }
        let mut points = Scratch::new(tile.weights() * DEPTH * PANEL);
        for depth in (0..c).step_by(DEPTH) {
            let depths = depth..(depth + DEPTH).min(c);
            weight.points(isa, tile, &depths, &cols, (&mut points, DEPTH * PANEL));
            for (points, out) in points.chunks_exact(DEPTH * PANEL).zip(out.chunks_exact_mut(places * PANEL)) {
                let m = Matrix { rows: depths.len(), width: PANEL };
                isa.pair_from(Along::Columns, m, points, &mut out[depth / 2 * PANEL..]);
            }
        }
    });
}

/// The forward pass with weights from [`weights`], and what follows it.
pub(super) fn forward_prepared(isa: Isa, tile: Tile, s: &ConvShape, job: Prepared<'_>, y: &mut [f32]) {
    let (from, to) = planes(s);
    let (weight, after) = (Source::Points(job.weights), Some(job.after));
    Filter { isa, tile, batch: s.batch, from, to, weight, after }.run(job.x, y, Write::Set);
}

/// What a forward pass with prepared weights reads.
pub(super) struct Prepared<'a> {
    pub x: &'a [f32],
    pub weights: &'a [f32],
    pub after: After<'a>,
}

pub(super) fn forward(isa: Isa, tile: Tile, s: &ConvShape, x: &[f32], w: &[f32], y: &mut [f32]) {
    let weight = Weight { data: w, in_channels: s.in_channels, direction: Direction::Forward };
    let (from, to) = planes(s);
    Filter { isa, tile, batch: s.batch, from, to, weight: Source::Raw(weight), after: None }.run(x, y, Write::Set);
}

pub(super) fn backward_input(isa: Isa, tile: Tile, s: &ConvShape, dy: &[f32], w: &[f32], dx: &mut [f32], write: Write) {
    let weight = Weight { data: w, in_channels: s.in_channels, direction: Direction::Backward };
    let ((to, from), tile) = (planes(s), tile.turned());
    Filter { isa, tile, batch: s.batch, from, to, weight: Source::Raw(weight), after: None }.run(dy, dx, write);
}

fn planes(s: &ConvShape) -> (Plane, Plane) {
    (
        Plane { height: s.height, width: s.width, channels: s.in_channels },
        Plane { height: s.out_height(), width: s.out_width(), channels: s.out_channels },
    )
}

/// Tiles in all, below which the weights are the larger matrix.
const FEW_TILES: usize = 160;
/// Numbers of transformed input and product that a block may have, to stay in the second-level cache.
const BLOCK: usize = 190_000;
/// Input channels of which the weights are transformed at a time.
const DEPTH: usize = 64;
/// Numbers that one task copies.
const COPY: usize = 1 << 14;

impl Filter<'_> {
    fn run(&self, x: &[f32], y: &mut [f32], write: Write) {
        let rows = self.grid().0;
        let n_tiles = self.batch * rows * self.grid().1;
        if n_tiles < FEW_TILES && self.to.channels > PANEL {
            self.by_panel(x, y, write);
        } else {
            self.by_block(x, y, write);
        }
    }

    /// Rows and columns of tiles of an image.
    fn grid(&self) -> (usize, usize) {
        grid(self.tile, self.to)
    }

    fn by_block(&self, x: &[f32], y: &mut [f32], write: Write) {
        let (points, columns) = (self.tile.points(), self.grid().1);
        let (c, n) = (self.from.channels, self.to.channels);
        let k = self.isa.places(c);
        let mut made = None;
        let weights = match &self.weight {
            Source::Points(all) => *all,
            Source::Raw(weight) => {
                let all = made.insert(Scratch::new(n.div_ceil(PANEL) * self.tile.weights() * k * PANEL));
                fill_weights(self.isa, self.tile, weight, [c, n], all);
                &**all
            }
        };
        let per_row = points * columns * (c + n);
        // A single image has two blocks at least, one for each of two threads.
        let halves = (self.batch * self.grid().0).div_ceil(2);
        let rows = (BLOCK / per_row).max(24usize.div_ceil(columns)).min(halves).max(1);
        let blocks = blocks(self.tile, self.to, self.batch, rows);
        let pieces = split(y, blocks.iter().map(|b| b.pixels * n));
        blocks.par_iter().zip(pieces).with_max_len(1).for_each(|(block, y)| {
            let tiles = block.rows.len() * columns;
            // The extra line keeps points of one tile from falling into one set of the first-level cache.
            let (stride, out_stride) = (tiles * c + 16, tiles * n + 16);
            let mut from = Scratch::new(points * stride);
            let mut to = Scratch::new(points * out_stride);
            block.each_image(self.grid(), self.from, x, |image, rows, at| {
                let tiles = Tiles { tile: self.tile, plane: self.from, rows };
                transform::input(self.isa, &tiles, image, &mut from[at * c..], stride);
            });
            for f in 0..points {
                self.isa.pair(Along::Rows, Matrix { rows: tiles, width: c }, &mut from[f * stride..]);
                let left = Left { data: &from[f * stride..], row_stride: k, col_stride: 1 };
                for (p, weights) in weights.chunks_exact(self.tile.weights() * k * PANEL).enumerate() {
                    let cols = PANEL.min(n - p * PANEL);
                    let data = &weights[self.tile.weight_of(f) * k * PANEL..];
                    let right = Panel { data, stride: PANEL, cols };
                    let out = &mut to[f * out_stride + p * PANEL..];
                    let out = Out { data: out, stride: n, write: Write::Set };
                    matmul(self.isa, [tiles, k], left, right, out);
                }
            }
            let mut at_pixel = 0;
            block.each_image(self.grid(), self.to, &[], |_, rows, at| {
                let pixels = pixel_rows(self.tile, self.to, &rows) * self.to.width;
                let tiles = Tiles { tile: self.tile, plane: self.to, rows };
                let out = &mut y[at_pixel * n..(at_pixel + pixels) * n];
                transform::output(self.isa, &tiles, (&mut to[at * n..], out_stride), out, write);
                self.finish((block.first_pixel + at_pixel) * n, out);
                at_pixel += pixels;
            });
        });
    }

    fn by_panel(&self, x: &[f32], y: &mut [f32], write: Write) {
        let (points, weights, c, n) = (self.tile.points(), self.tile.weights(), self.from.channels, self.to.channels);
        let batch = Batch { map: Map::Input, tile: self.tile, plane: self.from, images: self.batch };
        let k = self.isa.places(c);
        let from = Points::of(self.isa, batch, Along::Rows, x);
        let columns = map_pieces(n.div_ceil(PANEL), 1, |p| {
            let first = p.start * PANEL;
            let cols = PANEL.min(n - first);
            let stride = from.tiles * cols + 16;
            let mut to = Scratch::new(points * stride);
            // Weights that are there are read as they lie.
            let step = if matches!(self.weight, Source::Points(_)) { c } else { DEPTH };
            for depth in (0..c).step_by(step) {
                let depths = depth..(depth + step).min(c);
                let mut made = None;
                let (panel, len) = match &self.weight {
                    Source::Points(all) => {
                        (&all[(p.start * weights * k + self.isa.places(depth)) * PANEL..], k * PANEL)
                    }
                    Source::Raw(weight) => {
                        let len = depths.len() * PANEL;
                        let panel = made.insert(Scratch::new(weights * len));
                        weight.points(self.isa, self.tile, &depths, &(first..first + cols), (panel, len));
                        for points in panel.chunks_exact_mut(len) {
                            let m = Matrix { rows: depths.len(), width: PANEL };
                            self.isa.pair(Along::Columns, m, points);
                        }
                        (&panel[..], len)
                    }
                };
                let write = if depth == 0 { Write::Set } else { Write::Add };
                for f in 0..points {
                    let data = &from.data[f * from.stride + self.isa.places(depth)..];
                    let left = Left { data, row_stride: k, col_stride: 1 };
                    let right = Panel { data: &panel[self.tile.weight_of(f) * len..], stride: PANEL, cols };
                    let out = Out { data: &mut to[f * stride..], stride: cols, write };
                    matmul(self.isa, [from.tiles, self.isa.places(depths.len())], left, right, out);
                }
            }
            let plane = Plane { channels: cols, ..self.to };
            let mut out = Scratch::new(self.batch * plane.len());
            let (rows, columns) = self.grid();
            let tiles = Tiles { tile: self.tile, plane, rows: 0..rows };
            for (b, out) in out.chunks_exact_mut(plane.len()).enumerate() {
                let points = &mut to[b * rows * columns * cols..];
                transform::output(self.isa, &tiles, (points, stride), out, Write::Set);
            }
            out
        });
        y.par_chunks_mut(n).with_min_len(COPY / n).enumerate().for_each(|(pixel, y)| {
            for (y, columns) in y.chunks_mut(PANEL).zip(&columns) {
                let columns = &columns[pixel * y.len()..][..y.len()];
                match write {
                    Write::Set => y.copy_from_slice(columns),
                    Write::Add => y.iter_mut().zip(columns).for_each(|(y, c)| *y += *c),
                }
            }
            self.finish(pixel * n, y);
        });
    }

    /// Applies what follows the pass to `y`, which begins at element `first` of the whole output.
    fn finish(&self, first: usize, y: &mut [f32]) {
        if let Some(after) = &self.after {
            let residual = after.residual.map(|r| &r[first..first + y.len()]);
            affine_in_place(self.isa, &After { residual, ..*after }, y);
        }
    }
}

fn grid(tile: Tile, plane: Plane) -> (usize, usize) {
    (plane.height.div_ceil(tile.out()), plane.width.div_ceil(tile.out()))
}

/// Rows of pixels under some rows of tiles.
fn pixel_rows(tile: Tile, plane: Plane, rows: &Range<usize>) -> usize {
    (rows.end * tile.out()).min(plane.height) - (rows.start * tile.out()).min(plane.height)
}

/// Rows of tiles, counted over the whole batch, and the pixels under them.
struct Block {
    rows: Range<usize>,
    first_pixel: usize,
    pixels: usize,
}

/// The rows of tiles of a batch, about `rows` at a time.
fn blocks(tile: Tile, plane: Plane, batch: usize, rows: usize) -> Vec<Block> {
    let per_image = grid(tile, plane).0;
    let pixels_before = |row: usize| {
        let (image, row) = (row / per_image, row % per_image);
        image * plane.height * plane.width + pixel_rows(tile, plane, &(0..row)) * plane.width
    };
    let all = batch * per_image;
    let rows = even_piece(all, rows);
    let block = |first: usize| {
        let last = (first + rows).min(all);
        let first_pixel = pixels_before(first);
        Block { rows: first..last, first_pixel, pixels: pixels_before(last) - first_pixel }
    };
    (0..all).step_by(rows).map(block).collect()
}

impl Block {
    /// Calls `visit(image, its rows of tiles in this block, number of tiles before them)`, for images that have so many
    /// rows and columns of tiles; no `x` gives empty images.
    fn each_image(
        &self,
        (per_image, columns): (usize, usize),
        plane: Plane,
        x: &[f32],
        mut visit: impl FnMut(&[f32], Range<usize>, usize),
    ) {
        let mut row = self.rows.start;
        while row < self.rows.end {
            let image = row / per_image;
            let last = self.rows.end.min((image + 1) * per_image);
            let pixels = if x.is_empty() { x } else { &x[image * plane.len()..][..plane.len()] };
            let rows = row - image * per_image..last - image * per_image;
            visit(pixels, rows, (row - self.rows.start) * columns);
            row = last;
        }
    }
}

/// Cuts `y` into pieces of these lengths.
fn split(mut y: &mut [f32], lens: impl Iterator<Item = usize>) -> Vec<&mut [f32]> {
    lens.map(|len| {
        let (piece, rest) = std::mem::take(&mut y).split_at_mut(len);
        y = rest;
        piece
    })
    .collect()
}

/// The transformed tiles of a whole batch: point `f` of tile `t` at `f * stride + t * channels`.
struct Points {
    data: Scratch,
    stride: usize,
    tiles: usize,
}

impl Points {
    fn of(isa: Isa, batch: Batch, along: Along, x: &[f32]) -> Self {
        let (tiles, width) = (batch.tiles(), batch.plane.channels);
        let stride = tiles * width + 16;
        let mut data = Scratch::new(batch.tile.points() * stride);
        batch.points(isa, x, &mut data, stride);
        data.par_chunks_mut(stride).for_each(|point| isa.pair(along, Matrix { rows: tiles, width }, point));
        Self { data, stride, tiles }
    }
}

/// Largest weight, in elements, of which each group of tiles forms a sum of its own.
const SMALL_WEIGHT: usize = 128 * 128 * 9;
/// Groups of tiles that form sums of their own; fixed, so that the order of additions is.
const GROUPS: usize = 8;

pub(super) fn backward_weight(isa: Isa, tile: Tile, s: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let grad = WeightGrad { isa, tile, s, x, dy };
    let (rows, columns) = grid(tile, planes(s).1);
    if s.weight_len() <= SMALL_WEIGHT || s.batch * rows * columns >= 1024 {
        grad.by_group(dw);
    } else {
        grad.by_panel(dw);
    }
}

struct WeightGrad<'a> {
    isa: Isa,
    tile: Tile,
    s: &'a ConvShape,
    x: &'a [f32],
    dy: &'a [f32],
}

impl WeightGrad<'_> {
    /// Points of the gradient of all channels, summed over some tiles by each thread.
    fn by_group(&self, dw: &mut [f32]) {
        let s = self.s;
        let (from, to) = planes(s);
        let (i, o, points) = (s.in_channels, s.out_channels, self.tile.points());
        let grid = grid(self.tile, to);
        let columns = grid.1;
        let step = (BLOCK / (points * columns * (i + o))).max(48usize.div_ceil(columns)).max(1);
        let blocks = blocks(self.tile, to, s.batch, step);
        let group = blocks.len().div_ceil(GROUPS);
        let sums = map_pieces(blocks.len(), group, |range| {
            let mut sum = Scratch::new(self.tile.weights() * o * i);
            for (n, block) in blocks[range].iter().enumerate() {
                let tiles = block.rows.len() * columns;
                let (stride, dy_stride) = (tiles * i + 16, tiles * o + 16);
                let (mut x, mut dy) = (Scratch::new(points * stride), Scratch::new(points * dy_stride));
                block.each_image(grid, from, self.x, |image, rows, at| {
                    let tiles = Tiles { tile: self.tile, plane: from, rows };
                    transform::input(self.isa, &tiles, image, &mut x[at * i..], stride);
                });
                block.each_image(grid, to, self.dy, |image, rows, at| {
                    let tiles = Tiles { tile: self.tile, plane: to, rows };
                    transform::output_grad(self.isa, &tiles, image, &mut dy[at * o..], dy_stride);
                });
                let k = self.isa.places(tiles);
                for f in 0..points {
                    self.isa.pair(Along::Columns, Matrix { rows: tiles, width: i }, &mut x[f * stride..]);
                    self.isa.pair(Along::Columns, Matrix { rows: tiles, width: o }, &mut dy[f * dy_stride..]);
                    let left = Left { data: &dy[f * dy_stride..], row_stride: 1, col_stride: o };
                    let first = n == 0 && self.tile.is_first(f);
                    let write = if first { Write::Set } else { Write::Add };
                    for col in (0..i).step_by(PANEL) {
                        let right = Panel { data: &x[f * stride + col..], stride: i, cols: PANEL.min(i - col) };
                        let at = self.tile.weight_of(f) * o * i + col;
                        let out = Out { data: &mut sum[at..], stride: i, write };
                        matmul(self.isa, [o, k], left, right, out);
                    }
                }
            }
            let mut dw = Scratch::new(o * i * 9);
            let points = GradPoints { data: &sum, stride: o * i, row: i, out_channels: o, in_channels: i };
            transform::weight_grad(self.isa, self.tile, &points, (&mut dw, i * 9), Write::Set);
            dw
        });
        dw.par_chunks_mut(16 * i * 9).enumerate().for_each(|(part, dw)| {
            for sum in &sums {
                dw.iter_mut().zip(&sum[part * 16 * i * 9..]).for_each(|(dw, sum)| *dw += *sum);
            }
        });
    }

    /// Points of the gradient of some output channels, from all tiles, by each thread.
    fn by_panel(&self, dw: &mut [f32]) {
        let s = self.s;
        let (from, to) = planes(s);
        let (i, o, points) = (s.in_channels, s.out_channels, self.tile.points());
        let batch = |map, plane| Batch { map, tile: self.tile, plane, images: s.batch };
        let x = Points::of(self.isa, batch(Map::Input, from), Along::Columns, self.x);
        let dy = Points::of(self.isa, batch(Map::OutputGrad, to), Along::Columns, self.dy);
        let k = self.isa.places(x.tiles);
        dw.par_chunks_mut(PANEL * i * 9).enumerate().for_each(|(p, dw)| {
            let rows = PANEL.min(o - p * PANEL);
            let len = rows * PANEL;
            let mut sum = Scratch::new(self.tile.weights() * len);
            for first in (0..i).step_by(PANEL) {
                let cols = PANEL.min(i - first);
                for f in 0..points {
                    let left = Left { data: &dy.data[f * dy.stride + p * PANEL..], row_stride: 1, col_stride: o };
                    let right = Panel { data: &x.data[f * x.stride + first..], stride: i, cols };
                    let write = if self.tile.is_first(f) { Write::Set } else { Write::Add };
                    let out = Out { data: &mut sum[self.tile.weight_of(f) * len..], stride: PANEL, write };
                    matmul(self.isa, [rows, k], left, right, out);
                }
                let points = GradPoints { data: &sum, stride: len, row: PANEL, out_channels: rows, in_channels: cols };
                transform::weight_grad(self.isa, self.tile, &points, (&mut dw[first * 9..], i * 9), Write::Add);
            }
        });
    }
}
