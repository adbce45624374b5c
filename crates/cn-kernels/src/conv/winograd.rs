//! 3 x 3 convolutions with stride 1 and padding 1, with a quarter of the multiplications (Lavin & Gray,
//! arXiv:1509.09308).
//!
//! Tiles of the input are transformed to points, points are multiplied as matrices over the channels, products are
//! transformed back. Forward pass and input gradient are the same computation with the weight turned around. Two
//! orders: by block of tiles, with all weights transformed beforehand, where pixels are many; by panel of output
//! channels, with all tiles transformed beforehand and weights in passing, where weights are.

use super::{ConvShape, Write};
use crate::parallel::map_pieces;
use crate::scratch::Scratch;
use crate::simd::Isa;
use crate::simd::matmul::{Left, Out, PANEL, Panel, matmul};
use crate::simd::winograd::{self as transform, Plane, Stack, Tile, Tiles};
use rayon::prelude::*;
use std::ops::Range;

/// Whether the algorithm applies.
pub(super) fn applies(s: &ConvShape) -> bool {
    s.kernel == [3, 3] && s.stride == [1, 1] && s.padding == [1, 1]
}

/// The tile that needs the fewer multiplications; none if the plain algorithm needs no more.
pub(super) fn best_tile(s: &ConvShape) -> Option<Tile> {
    let cost = |tile: Tile| s.height.div_ceil(tile.out()) * s.width.div_ceil(tile.out()) * tile.points();
    let plain = s.height * s.width * 9;
    let tile = if cost(Tile::Two) < cost(Tile::Four) { Tile::Two } else { Tile::Four };
    (applies(s) && s.in_channels.min(s.out_channels) >= 16 && cost(tile) * 4 <= plain * 3).then_some(tile)
}

/// A pass from one image batch to another of the same height and width.
struct Filter<'a> {
    isa: Isa,
    tile: Tile,
    batch: usize,
    from: Plane,
    to: Plane,
    weight: Weight<'a>,
}

/// The weight `(O, I, 3, 3)`, as one of the passes reads it.
#[derive(Clone, Copy)]
struct Weight<'a> {
    data: &'a [f32],
    in_channels: usize,
    direction: Direction,
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Forward,
    Backward,
}

pub(super) fn forward(isa: Isa, tile: Tile, s: &ConvShape, x: &[f32], w: &[f32], y: &mut [f32]) {
    let weight = Weight { data: w, in_channels: s.in_channels, direction: Direction::Forward };
    let (from, to) = planes(s);
    Filter { isa, tile, batch: s.batch, from, to, weight }.run(x, y, Write::Set);
}

pub(super) fn backward_input(isa: Isa, tile: Tile, s: &ConvShape, dy: &[f32], w: &[f32], dx: &mut [f32], write: Write) {
    let weight = Weight { data: w, in_channels: s.in_channels, direction: Direction::Backward };
    let (to, from) = planes(s);
    Filter { isa, tile, batch: s.batch, from, to, weight }.run(dy, dx, write);
}

fn planes(s: &ConvShape) -> (Plane, Plane) {
    let plane = |channels| Plane { height: s.height, width: s.width, channels };
    (plane(s.in_channels), plane(s.out_channels))
}

/// Tiles in all, below which the weights are the larger matrix.
const FEW_TILES: usize = 160;
/// Numbers of transformed input and product that a block may have, to stay in the second-level cache.
const BLOCK: usize = 190_000;
/// Input channels of which the weights are transformed at a time.
const DEPTH: usize = 64;

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
        let weights = self.weight.all_points(self.isa, self.tile, c, n);
        let per_row = points * columns * (c + n);
        let rows = (BLOCK / per_row).max(24usize.div_ceil(columns)).max(1);
        let blocks = blocks(self.tile, self.to, self.batch, rows);
        let pieces = split(y, blocks.iter().map(|b| b.pixels * n));
        blocks.par_iter().zip(pieces).with_max_len(1).for_each(|(block, y)| {
            let tiles = block.rows.len() * columns;
            // The extra line keeps points of one tile from falling into one set of the first-level cache.
            let (stride, out_stride) = (tiles * c + 16, tiles * n + 16);
            let mut from = Scratch::new(points * stride);
            let mut to = Scratch::new(points * out_stride);
            block.each_image(self.tile, self.from, x, |image, tiles, at| {
                transform::input(self.isa, &tiles, image, &mut from[at * c..], stride);
            });
            for f in 0..points {
                let left = Left { data: &from[f * stride..], row_stride: c, col_stride: 1 };
                for (p, weights) in weights.chunks_exact(points * c * PANEL).enumerate() {
                    let cols = PANEL.min(n - p * PANEL);
                    let right = Panel { data: &weights[f * c * PANEL..], stride: PANEL, cols };
                    let out = &mut to[f * out_stride + p * PANEL..];
                    let out = Out { data: out, stride: n, write: Write::Set };
                    matmul(self.isa, [tiles, c], left, right, out);
                }
            }
            let mut y = y;
            block.each_image(self.tile, self.to, &[], |_, tiles, at| {
                let len = pixel_rows(self.tile, self.to, &tiles.rows) * self.to.width * n;
                let (out, rest) = std::mem::take(&mut y).split_at_mut(len);
                transform::output(self.isa, &tiles, (&mut to[at * n..], out_stride), out, write);
                y = rest;
            });
        });
    }

    fn by_panel(&self, x: &[f32], y: &mut [f32], write: Write) {
        let points = self.tile.points();
        let (c, n) = (self.from.channels, self.to.channels);
        let from = Points::of(self.isa, self.tile, self.from, self.batch, x, transform::input);
        let columns = map_pieces(n.div_ceil(PANEL), 1, |p| {
            let first = p.start * PANEL;
            let cols = PANEL.min(n - first);
            let stride = from.tiles * cols + 16;
            let mut to = Scratch::new(points * stride);
            for depth in (0..c).step_by(DEPTH) {
                let depths = depth..(depth + DEPTH).min(c);
                let weights = self.weight.points(self.isa, self.tile, &depths, first..first + cols);
                let write = if depth == 0 { Write::Set } else { Write::Add };
                for f in 0..points {
                    let left = Left { data: &from.data[f * from.stride + depth..], row_stride: c, col_stride: 1 };
                    let right = Panel { data: &weights[f * depths.len() * PANEL..], stride: PANEL, cols };
                    let out = Out { data: &mut to[f * stride..], stride: cols, write };
                    matmul(self.isa, [from.tiles, depths.len()], left, right, out);
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
        y.par_chunks_mut(n).enumerate().for_each(|(pixel, y)| {
            for (y, columns) in y.chunks_mut(PANEL).zip(&columns) {
                let columns = &columns[pixel * y.len()..][..y.len()];
                match write {
                    Write::Set => y.copy_from_slice(columns),
                    Write::Add => y.iter_mut().zip(columns).for_each(|(y, c)| *y += *c),
                }
            }
        });
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
    pixels: usize,
}

/// The rows of tiles of a batch, `rows` at a time.
fn blocks(tile: Tile, plane: Plane, batch: usize, rows: usize) -> Vec<Block> {
    let per_image = grid(tile, plane).0;
    let pixels_before = |row: usize| {
        let (image, row) = (row / per_image, row % per_image);
        image * plane.height * plane.width + pixel_rows(tile, plane, &(0..row)) * plane.width
    };
    let all = batch * per_image;
    let block = |first: usize| {
        let last = (first + rows).min(all);
        Block { rows: first..last, pixels: pixels_before(last) - pixels_before(first) }
    };
    (0..all).step_by(rows).map(block).collect()
}

impl Block {
    /// Calls `visit(image, its tiles in this block, number of tiles before them)`; no `x` gives empty images.
    fn each_image(&self, tile: Tile, plane: Plane, x: &[f32], mut visit: impl FnMut(&[f32], Tiles, usize)) {
        let (per_image, columns) = grid(tile, plane);
        let mut row = self.rows.start;
        while row < self.rows.end {
            let image = row / per_image;
            let last = self.rows.end.min((image + 1) * per_image);
            let pixels = if x.is_empty() { x } else { &x[image * plane.len()..][..plane.len()] };
            let tiles = Tiles { tile, plane, rows: row - image * per_image..last - image * per_image };
            visit(pixels, tiles, (row - self.rows.start) * columns);
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

type Transform = fn(Isa, &Tiles, &[f32], &mut [f32], usize);

impl Points {
    fn of(isa: Isa, tile: Tile, plane: Plane, batch: usize, x: &[f32], map: Transform) -> Self {
        let (rows, columns) = grid(tile, plane);
        let tiles = batch * rows * columns;
        let stride = tiles * plane.channels + 16;
        let mut data = Scratch::new(tile.points() * stride);
        // Each thread transforms some images into memory of its own, which is then put in place point by point.
        let images = 8usize.div_ceil(rows * columns).max(batch.div_ceil(16));
        let parts = map_pieces(batch, images, |images| {
            let part_stride = images.len() * rows * columns * plane.channels;
            let mut part = Scratch::new(tile.points() * part_stride);
            for (at, image) in images.clone().enumerate() {
                let image = &x[image * plane.len()..][..plane.len()];
                let first = at * rows * columns * plane.channels;
                map(isa, &Tiles { tile, plane, rows: 0..rows }, image, &mut part[first..], part_stride);
            }
            (part, part_stride)
        });
        data.par_chunks_mut(stride).enumerate().for_each(|(f, data)| {
            let mut data = data;
            for (part, len) in &parts {
                let (here, rest) = data.split_at_mut(*len);
                here.copy_from_slice(&part[f * len..][..*len]);
                data = rest;
            }
        });
        Self { data, stride, tiles }
    }
}

impl Weight<'_> {
    /// Taps `(9, depths, PANEL)` of some input and output channels of the pass; columns past the last are zero.
    fn taps(&self, depths: &Range<usize>, cols: &Range<usize>) -> Scratch {
        let mut taps = Scratch::new(9 * depths.len() * PANEL);
        if cols.len() < PANEL {
            taps.fill(0.0);
        }
        let at = |tap: usize, depth: usize, col: usize| (tap * depths.len() + depth) * PANEL + col;
        match self.direction {
            Direction::Forward => {
                for (col, o) in cols.clone().enumerate() {
                    let w = &self.data[(o * self.in_channels + depths.start) * 9..][..depths.len() * 9];
                    for (depth, w) in w.as_chunks::<9>().0.iter().enumerate() {
                        (0..9).for_each(|tap| taps[at(tap, depth, col)] = w[tap]);
                    }
                }
            }
            Direction::Backward => {
                for (depth, o) in depths.clone().enumerate() {
                    let w = &self.data[(o * self.in_channels + cols.start) * 9..][..cols.len() * 9];
                    for (col, w) in w.as_chunks::<9>().0.iter().enumerate() {
                        (0..9).for_each(|tap| taps[at(tap, depth, col)] = w[8 - tap]);
                    }
                }
            }
        }
        taps
    }

    /// Points `(points, depths, PANEL)` of some input and output channels of the pass.
    fn points(&self, isa: Isa, tile: Tile, depths: &Range<usize>, cols: Range<usize>) -> Scratch {
        let len = depths.len() * PANEL;
        let taps = self.taps(depths, &cols);
        let mut points = Scratch::new(tile.points() * len);
        let to = Stack { data: &mut points[..], stride: len };
        transform::weight(isa, tile, Stack { data: &taps, stride: len }, to, len);
        points
    }

    /// Points `(panels, points, c, PANEL)` of all channels.
    fn all_points(&self, isa: Isa, tile: Tile, c: usize, n: usize) -> Scratch {
        let panel_len = tile.points() * c * PANEL;
        let mut all = Scratch::new(n.div_ceil(PANEL) * panel_len);
        all.par_chunks_mut(panel_len).enumerate().for_each(|(p, out)| {
            let cols = p * PANEL..((p + 1) * PANEL).min(n);
            for depth in (0..c).step_by(DEPTH) {
                let depths = depth..(depth + DEPTH).min(c);
                let len = depths.len() * PANEL;
                let taps = self.taps(&depths, &cols);
                let to = Stack { data: &mut out[depth * PANEL..], stride: c * PANEL };
                transform::weight(isa, tile, Stack { data: &taps, stride: len }, to, len);
            }
        });
        all
    }
}

/// Largest weight, in elements, of which each group of tiles forms a sum of its own.
const SMALL_WEIGHT: usize = 128 * 128 * 9;
/// Groups of tiles that form sums of their own; fixed, so that the order of additions is.
const GROUPS: usize = 8;

pub(super) fn backward_weight(isa: Isa, tile: Tile, s: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let grad = WeightGrad { isa, tile, s, x, dy };
    let (rows, columns) = grid(tile, planes(s).0);
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
        let (per_image, columns) = grid(self.tile, from);
        let all_rows = s.batch * per_image;
        let step = (BLOCK / (points * columns * (i + o))).max(48usize.div_ceil(columns)).max(1);
        let blocks = blocks(self.tile, from, s.batch, step);
        let group = all_rows.div_ceil(step).div_ceil(GROUPS);
        // The columns are padded to whole vectors, which the transform wants.
        let width = o.next_multiple_of(16);
        let sums = map_pieces(blocks.len(), group, |range| {
            let mut sum = Scratch::zeroed(points * i * width);
            for block in &blocks[range] {
                let tiles = block.rows.len() * columns;
                let (stride, dy_stride) = (tiles * i + 16, tiles * o + 16);
                let (mut x, mut dy) = (Scratch::new(points * stride), Scratch::new(points * dy_stride));
                block.each_image(self.tile, from, self.x, |image, tiles, at| {
                    transform::input(self.isa, &tiles, image, &mut x[at * i..], stride);
                });
                block.each_image(self.tile, to, self.dy, |image, tiles, at| {
                    transform::output_grad(self.isa, &tiles, image, &mut dy[at * o..], dy_stride);
                });
                for f in 0..points {
                    let left = Left { data: &x[f * stride..], row_stride: 1, col_stride: i };
                    for col in (0..o).step_by(PANEL) {
                        let data = &dy[f * dy_stride + col..];
                        let right = Panel { data, stride: o, cols: PANEL.min(o - col) };
                        let sum = &mut sum[f * i * width + col..];
                        let out = Out { data: sum, stride: width, write: Write::Add };
                        matmul(self.isa, [i, tiles], left, right, out);
                    }
                }
            }
            let mut taps = Scratch::new(9 * i * width);
            let len = i * width;
            let to = Stack { data: &mut taps[..], stride: len };
            transform::weight_grad(self.isa, self.tile, Stack { data: &sum, stride: len }, to, len);
            taps
        });
        dw.par_chunks_mut(16 * i * 9).enumerate().for_each(|(block, dw)| {
            for taps in &sums {
                add_taps(i, 0..i, width, block * 16, taps, dw);
            }
        });
    }

    /// Points of the gradient of some output channels, from all tiles, by each thread.
    fn by_panel(&self, dw: &mut [f32]) {
        let s = self.s;
        let (from, to) = planes(s);
        let (i, o, points) = (s.in_channels, s.out_channels, self.tile.points());
        let x = Points::of(self.isa, self.tile, from, s.batch, self.x, transform::input);
        let dy = Points::of(self.isa, self.tile, to, s.batch, self.dy, transform::output_grad);
        dw.par_chunks_mut(PANEL * i * 9).enumerate().for_each(|(p, dw)| {
            let cols = PANEL.min(o - p * PANEL);
            for depth in (0..i).step_by(DEPTH) {
                let depths = depth..(depth + DEPTH).min(i);
                let len = depths.len() * PANEL;
                let mut sum = Scratch::new(points * len);
                if cols < PANEL {
                    sum.fill(0.0);
                }
                for f in 0..points {
                    let left = Left { data: &x.data[f * x.stride + depth..], row_stride: 1, col_stride: i };
                    let right = Panel { data: &dy.data[f * dy.stride + p * PANEL..], stride: o, cols };
                    let sum = &mut sum[f * len..];
                    let out = Out { data: sum, stride: PANEL, write: Write::Set };
                    matmul(self.isa, [depths.len(), x.tiles], left, right, out);
                }
                let mut taps = Scratch::new(9 * len);
                let to = Stack { data: &mut taps[..], stride: len };
                transform::weight_grad(self.isa, self.tile, Stack { data: &sum, stride: len }, to, len);
                add_taps(i, depths, PANEL, 0, &taps, dw);
            }
        });
    }
}

/// Adds taps `(9, depths, width)`, from column `first` on, to some rows of the weight `(O, I, 3, 3)`.
fn add_taps(in_channels: usize, depths: Range<usize>, width: usize, first: usize, taps: &[f32], dw: &mut [f32]) {
    for (col, dw) in dw.chunks_exact_mut(in_channels * 9).enumerate() {
        let dw = dw[depths.start * 9..depths.end * 9].as_chunks_mut::<9>().0;
        for (depth, dw) in dw.iter_mut().enumerate() {
            for (tap, dw) in dw.iter_mut().enumerate() {
                *dw += taps[(tap * depths.len() + depth) * width + first + col];
            }
        }
    }
}
