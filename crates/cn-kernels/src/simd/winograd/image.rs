//! Tiles of images to points, and back.

use super::rule::{LINE, Rule};
use super::{Square, Tile, by_rule, square};
use crate::conv::Write;
use crate::simd::Isa;
use crate::simd::isa::for_each_isa;
use crate::simd::lanes::{Lanes, load, store};
use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;

/// A channels-last image of which tiles are read or written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plane {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl Plane {
    pub(crate) fn len(&self) -> usize {
        self.height * self.width * self.channels
    }
}

/// Which of the three square maps between an image and its transformed tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Map {
    /// `B^T d B`: reads a square that begins before the tile where the rule says so (padding 1).
    Input,
    /// `A dy A^T`: reads `M` square.
    OutputGrad,
    /// `A^T m A`: writes `M` square.
    Output,
}

impl Map {
    /// Pixels of the image from one tile to the next.
    fn step(self, tile: Tile) -> usize {
        if self == Self::Input { tile.next() } else { tile.out() }
    }
}

/// Points of some tiles: point `f` of tile `t` has its channels at `f * stride + t * channels`.
#[derive(Clone, Copy, Debug)]
struct Job {
    map: Map,
    image: *mut f32,
    plane: Plane,
    points: *mut f32,
    stride: usize,
    add: bool,
}

/// Some rows of tiles of one image, in the order of the points: row by row, column by column.
#[derive(Clone)]
pub(crate) struct Tiles {
    pub tile: Tile,
    pub plane: Plane,
    pub rows: Range<usize>,
}

impl Tiles {
    /// Tiles side by side.
    fn columns(&self, map: Map) -> usize {
        self.plane.width.div_ceil(map.step(self.tile))
    }

    fn check(&self, map: Map, points: usize, stride: usize) {
        assert!(self.rows.end <= self.plane.height.div_ceil(map.step(self.tile)), "rows of the image");
        let len = self.rows.len() * self.columns(map) * self.plane.channels;
        assert!((self.tile.points() - 1) * stride + len <= points, "every point");
    }
}

/// `B^T d B` of some tiles of `image`, into `points` (from its first tile on, `stride` between points).
pub(crate) fn input(isa: Isa, tiles: &Tiles, image: &[f32], points: &mut [f32], stride: usize) {
    read(isa, Map::Input, tiles, image, points, stride);
}

/// `A dy A^T` of some tiles of `image`, into `points`.
pub(crate) fn output_grad(isa: Isa, tiles: &Tiles, image: &[f32], points: &mut [f32], stride: usize) {
    read(isa, Map::OutputGrad, tiles, image, points, stride);
}

fn read(isa: Isa, map: Map, tiles: &Tiles, image: &[f32], points: &mut [f32], stride: usize) {
    assert!(image.len() == tiles.plane.len(), "one whole image");
    tiles.check(map, points.len(), stride);
    let (image, points) = (image.as_ptr().cast_mut(), points.as_mut_ptr());
    let job = Job { map, image, plane: tiles.plane, points, stride, add: false };
    // SAFETY: `image` holds the whole plane and these maps only read it; `points` holds every point of `tiles`.
    unsafe { run(isa, &job, tiles) }
}

/// `A^T m A` of `points` into or onto `out`, which begins at the first row of the tiles and holds their whole rows.
pub(crate) fn output(isa: Isa, tiles: &Tiles, (points, stride): (&mut [f32], usize), out: &mut [f32], write: Write) {
    let (plane, m) = (tiles.plane, tiles.tile.out());
    let height = (tiles.rows.end * m).min(plane.height) - tiles.rows.start * m;
    assert!(out.len() == height * plane.width * plane.channels, "the rows of the tiles");
    tiles.check(Map::Output, points.len(), stride);
    let tiles = Tiles { plane: Plane { height, ..plane }, rows: 0..tiles.rows.len(), ..*tiles };
    let (image, points, add) = (out.as_mut_ptr(), points.as_mut_ptr(), write == Write::Add);
    let job = Job { map: Map::Output, image, plane: tiles.plane, points, stride, add };
    // SAFETY: `out` holds the whole plane, counted from its first row; `points` holds every point of `tiles`.
    unsafe { run(isa, &job, &tiles) }
}

/// A batch of images whose tiles are all transformed: point `f` of tile `t` at `f * stride + t * channels`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    pub map: Map,
    pub tile: Tile,
    pub plane: Plane,
    pub images: usize,
}

/// Transformed numbers of a point that are worth a task of their own.
const PIECE: usize = 512;

impl Batch {
    /// Rows of tiles of an image.
    fn rows(&self) -> usize {
        self.plane.height.div_ceil(self.map.step(self.tile))
    }

    /// Tiles of a row.
    fn columns(&self) -> usize {
        self.plane.width.div_ceil(self.map.step(self.tile))
    }

    /// Tiles of all images.
    pub(crate) fn tiles(&self) -> usize {
        self.images * self.rows() * self.columns()
    }

    /// Transforms every tile of `x` by a map that reads images, images side by side on all threads.
    pub(crate) fn points(&self, isa: Isa, x: &[f32], points: &mut [f32], stride: usize) {
        let map = self.map;
        assert!(map != Map::Output && x.len() == self.images * self.plane.len(), "a whole batch to read");
        let len = self.tiles() * self.plane.channels;
        assert!(len <= stride && (self.tile.points() - 1) * stride + len <= points.len(), "every point");
        let all = Shared(points.as_mut_ptr());
        let (rows, row_len) = (self.rows(), self.columns() * self.plane.channels);
        // Rows of tiles, not images, so that one image keeps all threads busy too.
        let units = (0..self.images * rows).into_par_iter().with_min_len((PIECE / row_len).max(1));
        units.for_each(|unit| {
            let tiles = Tiles { tile: self.tile, plane: self.plane, rows: unit % rows..unit % rows + 1 };
            // SAFETY: the points of row of tiles `unit` begin at `first` of each point and end before those of the next
            // row, so that no two threads write to one place; all lie inside `points`, as checked.
            unsafe {
                let points = all.at(unit * row_len);
                let image = x[unit / rows * self.plane.len()..].as_ptr().cast_mut();
                run(isa, &Job { map, image, plane: self.plane, points, stride, add: false }, &tiles);
            }
        });
    }
}

/// Memory that several threads write to, each to places of its own.
struct Shared(*mut f32);

// SAFETY: the users of `at` write to disjoint places.
unsafe impl Sync for Shared {}

impl Shared {
    /// The place `offset` numbers from the start.
    ///
    /// # Safety
    ///
    /// `offset` lies inside the memory, and what is written there nobody else touches.
    unsafe fn at(&self, offset: usize) -> *mut f32 {
        // SAFETY: as the caller grants.
        unsafe { self.0.add(offset) }
    }
}

for_each_isa! {
    fn run = body; (job: &Job, tiles: &Tiles)
}

#[inline(always)]
unsafe fn body<L: Lanes>(job: &Job, tiles: &Tiles) {
    // SAFETY: as the callers of `run`.
    unsafe {
        by_rule!(tiles.tile, R => body_of::<L, R>(job, tiles));
    }
}

#[inline(always)]
unsafe fn body_of<L: Lanes, R: Rule>(job: &Job, tiles: &Tiles) {
    let channels = job.plane.channels;
    let mut points = job.points;
    let step = if job.map == Map::Input { R::NEXT } else { R::OUT };
    for row in tiles.rows.clone() {
        for column in 0..tiles.columns(job.map) {
            for c in (0..channels).step_by(L::N) {
                let n = (channels - c).min(L::N);
                // SAFETY: the tile and the channels lie inside what the callers of `run` have checked.
                unsafe {
                    let (top, left, rule) = (row * step, column * step, PhantomData::<R>);
                    let at = At { job, top, left, channel: c, n, points: points.add(c), inner: false, rule };
                    match job.map {
                        Map::Input => {
                            let before = R::BEFORE;
                            let inner = top >= before && left >= before && at.fits(top - before, left - before, R::IN);
                            square::<L, _>(&Input(At { inner, ..at }));
                        }
                        Map::OutputGrad => {
                            let inner = at.fits(top, left, R::OUT);
                            square::<L, _>(&OutputGrad(At { inner, ..at }));
                        }
                        Map::Output => {
                            let inner = at.fits(top, left, R::OUT);
                            square::<L, _>(&Output(At { inner, ..at }));
                        }
                    }
                }
            }
            points = points.wrapping_add(channels);
        }
    }
}

/// Some channels of one tile.
struct At<'a, R> {
    job: &'a Job,
    top: usize,
    left: usize,
    channel: usize,
    n: usize,
    points: *mut f32,
    /// All pixels of the tile lie inside the image.
    inner: bool,
    rule: PhantomData<R>,
}

impl<R: Rule> At<'_, R> {
    /// Whether `size` rows and columns from `(top, left)` lie inside the image.
    #[inline(always)]
    fn fits(&self, top: usize, left: usize, size: usize) -> bool {
        top + size <= self.job.plane.height && left + size <= self.job.plane.width && self.n > 0
    }

    #[inline(always)]
    unsafe fn pixel(&self, y: usize, x: usize) -> *mut f32 {
        // SAFETY: the caller names a pixel of the plane.
        unsafe { self.job.image.add((y * self.job.plane.width + x) * self.job.plane.channels + self.channel) }
    }

    #[inline(always)]
    unsafe fn read<L: Lanes>(&self, from: *const f32) -> L::V {
        // SAFETY: the caller names a pixel, of which `n` channels remain.
        unsafe { load::<L>(from, self.n) }
    }

    #[inline(always)]
    unsafe fn write<L: Lanes>(&self, to: *mut f32, v: L::V) {
        // SAFETY: the caller names a pixel or a point, of which `n` channels remain.
        unsafe { store::<L>(to, v, self.n) }
    }

    #[inline(always)]
    unsafe fn point(&self, i: usize, j: usize) -> *mut f32 {
        // SAFETY: every point has its place, as `check` has seen.
        unsafe { self.points.add((i * R::POINTS + j) * self.job.stride) }
    }

    /// Pixel `(y, x)`, or zero outside the image.
    #[inline(always)]
    unsafe fn padded<L: Lanes>(&self, y: usize, x: usize) -> L::V {
        let inside = self.inner || (y < self.job.plane.height && x < self.job.plane.width);
        // SAFETY: only pixels inside the plane are read.
        unsafe { if inside { self.read::<L>(self.pixel(y, x)) } else { L::zero() } }
    }
}

struct Input<'a, R>(At<'a, R>);

impl<L: Lanes, R: Rule> Square<L> for Input<'_, R> {
    const IN: usize = R::IN;
    const OUT: usize = R::POINTS;
    #[inline(always)]
    unsafe fn load(&self, i: usize, j: usize) -> L::V {
        // SAFETY: `padded` reads inside the plane only; a row or column before the first wraps to one outside.
        unsafe {
            self.0.padded::<L>((self.0.top + i).wrapping_sub(R::BEFORE), (self.0.left + j).wrapping_sub(R::BEFORE))
        }
    }
    #[inline(always)]
    unsafe fn line(x: [L::V; LINE]) -> [L::V; LINE] {
        // SAFETY: the caller has the instruction set.
        unsafe { R::bt::<L>(x) }
    }
    #[inline(always)]
    unsafe fn store(&self, i: usize, j: usize, v: L::V) {
        // SAFETY: every point has its place, as `check` has seen.
        unsafe { self.0.write::<L>(self.0.point(i, j), v) }
    }
}

struct OutputGrad<'a, R>(At<'a, R>);

impl<L: Lanes, R: Rule> Square<L> for OutputGrad<'_, R> {
    const IN: usize = R::OUT;
    const OUT: usize = R::POINTS;
    #[inline(always)]
    unsafe fn load(&self, i: usize, j: usize) -> L::V {
        // SAFETY: `padded` reads inside the plane only.
        unsafe { self.0.padded::<L>(self.0.top + i, self.0.left + j) }
    }
    #[inline(always)]
    unsafe fn line(x: [L::V; LINE]) -> [L::V; LINE] {
        // SAFETY: the caller has the instruction set.
        unsafe { R::a::<L>(x) }
    }
    #[inline(always)]
    unsafe fn store(&self, i: usize, j: usize, v: L::V) {
        // SAFETY: every point has its place, as `check` has seen.
        unsafe { self.0.write::<L>(self.0.point(i, j), v) }
    }
}

struct Output<'a, R>(At<'a, R>);

impl<L: Lanes, R: Rule> Square<L> for Output<'_, R> {
    const IN: usize = R::POINTS;
    const OUT: usize = R::OUT;
    #[inline(always)]
    unsafe fn load(&self, i: usize, j: usize) -> L::V {
        // SAFETY: every point has its place, as `check` has seen.
        unsafe { self.0.read::<L>(self.0.point(i, j)) }
    }
    #[inline(always)]
    unsafe fn line(x: [L::V; LINE]) -> [L::V; LINE] {
        // SAFETY: the caller has the instruction set.
        unsafe { R::at::<L>(x) }
    }
    #[inline(always)]
    unsafe fn store(&self, i: usize, j: usize, v: L::V) {
        let (y, x) = (self.0.top + i, self.0.left + j);
        // SAFETY: only pixels inside the plane are written.
        unsafe {
            if self.0.inner || (y < self.0.job.plane.height && x < self.0.job.plane.width) {
                let to = self.0.pixel(y, x);
                self.0.write::<L>(to, if self.0.job.add { L::add(self.0.read::<L>(to), v) } else { v });
            }
        }
    }
}
