//! The transforms of Winograd's minimal filtering F(M x M, 3 x 3), M = 2 or 4 (Lavin & Gray, arXiv:1509.09308).
//!
//! All of them map a square of vectors to another square by one matrix on each side, over channels side by side:
//! `B^T d B` of the input, `G g G^T` of the weight, `A^T m A` to the output, and `A dy A^T`, `G^T m G` for the weight
//! gradient. The points are 0, 1, -1, infinity for M = 2, and 2, -2 besides for M = 4.

use super::Isa;
use super::isa::for_each_isa;
use super::lanes::Lanes;
use crate::conv::Write;
use std::ops::Range;

/// Output rows and columns of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tile {
    Two,
    Four,
}

impl Tile {
    /// M, rows of the output that a tile gives.
    pub(crate) fn out(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// Products of a tile: `(M + 2)^2`.
    pub(crate) fn points(self) -> usize {
        (self.out() + 2) * (self.out() + 2)
    }
}

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
enum Map {
    /// `B^T d B`: reads `M + 2` square at one row and column before the tile (padding 1).
    Input,
    /// `A dy A^T`: reads `M` square.
    OutputGrad,
    /// `A^T m A`: writes `M` square.
    Output,
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
    pub(crate) fn columns(&self) -> usize {
        self.plane.width.div_ceil(self.tile.out())
    }

    fn check(&self, points: usize, stride: usize) {
        assert!(self.rows.end <= self.plane.height.div_ceil(self.tile.out()), "rows of the image");
        let len = self.rows.len() * self.columns() * self.plane.channels;
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
    tiles.check(points.len(), stride);
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
    tiles.check(points.len(), stride);
    let tiles = Tiles { plane: Plane { height, ..plane }, rows: 0..tiles.rows.len(), ..*tiles };
    let (image, points, add) = (out.as_mut_ptr(), points.as_mut_ptr(), write == Write::Add);
    let job = Job { map: Map::Output, image, plane: tiles.plane, points, stride, add };
    // SAFETY: `out` holds the whole plane, counted from its first row; `points` holds every point of `tiles`.
    unsafe { run(isa, &job, &tiles) }
}

for_each_isa! {
    fn run = body; (job: &Job, tiles: &Tiles)
}

#[inline(always)]
unsafe fn body<L: Lanes>(job: &Job, tiles: &Tiles) {
    // SAFETY: as the callers of `run`.
    unsafe {
        match tiles.tile {
            Tile::Two => body_of::<L, 2>(job, tiles),
            Tile::Four => body_of::<L, 4>(job, tiles),
        }
    }
}

#[inline(always)]
unsafe fn body_of<L: Lanes, const M: usize>(job: &Job, tiles: &Tiles) {
    let channels = job.plane.channels;
    let mut points = job.points;
    for row in tiles.rows.clone() {
        for column in 0..tiles.columns() {
            for c in (0..channels).step_by(L::N) {
                let n = (channels - c).min(L::N);
                // SAFETY: the tile and the channels lie inside what the callers of `run` have checked.
                unsafe {
                    let at = At { job, top: row * M, left: column * M, channel: c, n, points: points.add(c) };
                    match job.map {
                        Map::Input => {
                            let inner = row > 0 && column > 0 && at.fits(row * M - 1, column * M - 1, M + 2);
                            square::<L, _>(&Input::<M>(at, inner));
                        }
                        Map::OutputGrad => {
                            let inner = at.fits(row * M, column * M, M);
                            square::<L, _>(&OutputGrad::<M>(at, inner));
                        }
                        Map::Output => {
                            let inner = at.fits(row * M, column * M, M);
                            square::<L, _>(&Output::<M>(at, inner));
                        }
                    }
                }
            }
            points = points.wrapping_add(channels);
        }
    }
}

/// Some channels of one tile.
struct At<'a> {
    job: &'a Job,
    top: usize,
    left: usize,
    channel: usize,
    n: usize,
    points: *mut f32,
}

impl At<'_> {
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
        unsafe { if self.n == L::N { L::load(from) } else { L::load_part(from, self.n) } }
    }

    #[inline(always)]
    unsafe fn write<L: Lanes>(&self, to: *mut f32, v: L::V) {
        // SAFETY: the caller names a pixel or a point, of which `n` channels remain.
        unsafe { if self.n == L::N { L::store(to, v) } else { L::store_part(to, v, self.n) } }
    }

    #[inline(always)]
    unsafe fn store_point<L: Lanes, const M: usize>(&self, i: usize, j: usize, v: L::V) {
        // SAFETY: every point has its place, as `check` has seen.
        unsafe { self.write::<L>(self.points.add((i * (M + 2) + j) * self.job.stride), v) }
    }

    /// Pixel `(y, x)`, or zero outside the image.
    #[inline(always)]
    unsafe fn padded<L: Lanes>(&self, inner: bool, y: usize, x: usize) -> L::V {
        let inside = inner || (y < self.job.plane.height && x < self.job.plane.width);
        // SAFETY: only pixels inside the plane are read.
        unsafe { if inside { self.read::<L>(self.pixel(y, x)) } else { L::zero() } }
    }
}

/// A map of a square of vectors by one matrix on each side.
///
/// A trait and not closures, which the compiler may leave out of line and then compiles for the baseline.
///
/// # Safety
///
/// As [`Lanes`]; `load` and `store` are called for `i, j` below `IN` and `OUT`.
trait Square<L: Lanes> {
    const IN: usize;
    const OUT: usize;
    unsafe fn load(&self, i: usize, j: usize) -> L::V;
    unsafe fn line(x: [L::V; 6]) -> [L::V; 6];
    unsafe fn store(&self, i: usize, j: usize, v: L::V);
}

/// Applies `S::line` to every column of the square, then to every row of what comes out.
#[inline(always)]
unsafe fn square<L: Lanes, S: Square<L>>(s: &S) {
    // SAFETY: the caller has the instruction set and a square whose places all exist.
    unsafe {
        let mut half = [[L::zero(); 6]; 6];
        for j in 0..S::IN {
            let mut column = [L::zero(); 6];
            for (i, c) in column.iter_mut().enumerate().take(S::IN) {
                *c = s.load(i, j);
            }
            let column = S::line(column);
            for (row, c) in half.iter_mut().zip(column).take(S::OUT) {
                row[j] = c;
            }
        }
        for (i, row) in half.iter().enumerate().take(S::OUT) {
            let row = S::line(*row);
            for (j, v) in row.iter().enumerate().take(S::OUT) {
                s.store(i, j, *v);
            }
        }
    }
}

struct Input<'a, const M: usize>(At<'a>, bool);

impl<L: Lanes, const M: usize> Square<L> for Input<'_, M> {
    const IN: usize = M + 2;
    const OUT: usize = M + 2;
    #[inline(always)]
    unsafe fn load(&self, i: usize, j: usize) -> L::V {
        // SAFETY: `padded` reads inside the plane only; a row or column before the first wraps to one outside.
        unsafe { self.0.padded::<L>(self.1, (self.0.top + i).wrapping_sub(1), (self.0.left + j).wrapping_sub(1)) }
    }
    #[inline(always)]
    unsafe fn line(x: [L::V; 6]) -> [L::V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe { bt::<L, M>(x) }
    }
    #[inline(always)]
    unsafe fn store(&self, i: usize, j: usize, v: L::V) {
        // SAFETY: every point has its place, as `check` has seen.
        unsafe { self.0.store_point::<L, M>(i, j, v) }
    }
}

struct OutputGrad<'a, const M: usize>(At<'a>, bool);

impl<L: Lanes, const M: usize> Square<L> for OutputGrad<'_, M> {
    const IN: usize = M;
    const OUT: usize = M + 2;
    #[inline(always)]
    unsafe fn load(&self, i: usize, j: usize) -> L::V {
        // SAFETY: `padded` reads inside the plane only.
        unsafe { self.0.padded::<L>(self.1, self.0.top + i, self.0.left + j) }
    }
    #[inline(always)]
    unsafe fn line(x: [L::V; 6]) -> [L::V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe { a::<L, M>(x) }
    }
    #[inline(always)]
    unsafe fn store(&self, i: usize, j: usize, v: L::V) {
        // SAFETY: every point has its place, as `check` has seen.
        unsafe { self.0.store_point::<L, M>(i, j, v) }
    }
}

struct Output<'a, const M: usize>(At<'a>, bool);

impl<L: Lanes, const M: usize> Square<L> for Output<'_, M> {
    const IN: usize = M + 2;
    const OUT: usize = M;
    #[inline(always)]
    unsafe fn load(&self, i: usize, j: usize) -> L::V {
        // SAFETY: every point has its place, as `check` has seen.
        unsafe { self.0.read::<L>(self.0.points.add((i * (M + 2) + j) * self.0.job.stride)) }
    }
    #[inline(always)]
    unsafe fn line(x: [L::V; 6]) -> [L::V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe { at::<L, M>(x) }
    }
    #[inline(always)]
    unsafe fn store(&self, i: usize, j: usize, v: L::V) {
        let (y, x) = (self.0.top + i, self.0.left + j);
        // SAFETY: only pixels inside the plane are written.
        unsafe {
            if self.1 || (y < self.0.job.plane.height && x < self.0.job.plane.width) {
                let to = self.0.pixel(y, x);
                self.0.write::<L>(to, if self.0.job.add { L::add(self.0.read::<L>(to), v) } else { v });
            }
        }
    }
}

/// Matrices of `len` numbers one behind another: matrix `i` at `i * stride`. `len` is a multiple of 16.
#[derive(Debug)]
pub(crate) struct Stack<T> {
    pub data: T,
    pub stride: usize,
}

/// Points of the transformed weight from its nine taps.
pub(crate) fn weight(isa: Isa, tile: Tile, taps: Stack<&[f32]>, points: Stack<&mut [f32]>, len: usize) {
    let job = flat([9, tile.points()], &taps, points, len);
    // SAFETY: `flat` has checked that nine taps and all points lie inside the slices.
    unsafe { run_weight(isa, &job, tile) }
}

/// Nine taps of the weight gradient from its points: the transpose of [`weight`].
pub(crate) fn weight_grad(isa: Isa, tile: Tile, points: Stack<&[f32]>, taps: Stack<&mut [f32]>, len: usize) {
    let job = flat([tile.points(), 9], &points, taps, len);
    // SAFETY: `flat` has checked that nine taps and all points lie inside the slices.
    unsafe { run_weight_grad(isa, &job, tile) }
}

fn flat([n_from, n_to]: [usize; 2], from: &Stack<&[f32]>, to: Stack<&mut [f32]>, len: usize) -> Flat {
    assert!(len.is_multiple_of(16) && (n_from - 1) * from.stride + len <= from.data.len(), "matrices to read");
    assert!((n_to - 1) * to.stride + len <= to.data.len(), "matrices to write");
    Flat { from: from.data.as_ptr(), from_stride: from.stride, to: to.data.as_mut_ptr(), to_stride: to.stride, len }
}

struct Flat {
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
    to_stride: usize,
    len: usize,
}

for_each_isa! {
    fn run_weight = weight_body; (job: &Flat, tile: Tile)
}

for_each_isa! {
    fn run_weight_grad = weight_grad_body; (job: &Flat, tile: Tile)
}

#[inline(always)]
unsafe fn weight_body<L: Lanes>(job: &Flat, tile: Tile) {
    for at in (0..job.len).step_by(L::N) {
        // SAFETY: `weight` has checked the slices; `len` is a multiple of the vector's length.
        unsafe {
            match tile {
                Tile::Two => square::<L, _>(&Taps::<2>(job, at)),
                Tile::Four => square::<L, _>(&Taps::<4>(job, at)),
            }
        }
    }
}

#[inline(always)]
unsafe fn weight_grad_body<L: Lanes>(job: &Flat, tile: Tile) {
    for at in (0..job.len).step_by(L::N) {
        // SAFETY: `weight_grad` has checked the slices; `len` is a multiple of the vector's length.
        unsafe {
            match tile {
                Tile::Two => square::<L, _>(&TapsGrad::<2>(job, at)),
                Tile::Four => square::<L, _>(&TapsGrad::<4>(job, at)),
            }
        }
    }
}

struct Taps<'a, const M: usize>(&'a Flat, usize);
struct TapsGrad<'a, const M: usize>(&'a Flat, usize);

/// A square over flat memory: from `$n_in` by `$n_in` vectors to `$n_out` by `$n_out`, by `$line`.
macro_rules! flat_square {
    ($name:ident, $n_in:expr, $n_out:expr, $line:ident) => {
        impl<L: Lanes, const M: usize> Square<L> for $name<'_, M> {
            const IN: usize = $n_in;
            const OUT: usize = $n_out;
            #[inline(always)]
            unsafe fn load(&self, i: usize, j: usize) -> L::V {
                // SAFETY: all vectors of the square lie inside the slice, as checked.
                unsafe { L::load(self.0.from.add((i * $n_in + j) * self.0.from_stride + self.1)) }
            }
            #[inline(always)]
            unsafe fn line(x: [L::V; 6]) -> [L::V; 6] {
                // SAFETY: the caller has the instruction set.
                unsafe { $line::<L, M>(x) }
            }
            #[inline(always)]
            unsafe fn store(&self, i: usize, j: usize, v: L::V) {
                // SAFETY: all vectors of the square lie inside the slice, as checked.
                unsafe { L::store(self.0.to.add((i * $n_out + j) * self.0.to_stride + self.1), v) }
            }
        }
    };
}
flat_square!(Taps, 3, M + 2, g);
flat_square!(TapsGrad, M + 2, 3, gt);

/// One line of `B^T`.
#[inline(always)]
unsafe fn bt<L: Lanes, const M: usize>(x: [L::V; 6]) -> [L::V; 6] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        if M == 2 {
            return [
                L::sub(x[0], x[2]),
                L::add(x[1], x[2]),
                L::sub(x[2], x[1]),
                L::sub(x[1], x[3]),
                L::zero(),
                L::zero(),
            ];
        }
        let (two, four, minus_four, minus_five) = (L::splat(2.0), L::splat(4.0), L::splat(-4.0), L::splat(-5.0));
        let (even4, odd4) = (L::fma(minus_four, x[2], x[4]), L::fma(minus_four, x[1], x[3]));
        let (even1, odd1) = (L::sub(x[4], x[2]), L::mul(two, L::sub(x[3], x[1])));
        [
            L::fma(four, x[0], L::fma(minus_five, x[2], x[4])),
            L::add(even4, odd4),
            L::sub(even4, odd4),
            L::add(even1, odd1),
            L::sub(even1, odd1),
            L::fma(four, x[1], L::fma(minus_five, x[3], x[5])),
        ]
    }
}

/// One line of `A^T`.
#[inline(always)]
unsafe fn at<L: Lanes, const M: usize>(m: [L::V; 6]) -> [L::V; 6] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let (zero, sum, diff) = (L::zero(), L::add(m[1], m[2]), L::sub(m[1], m[2]));
        if M == 2 {
            return [L::add(m[0], sum), L::sub(diff, m[3]), zero, zero, zero, zero];
        }
        let (sum2, diff2) = (L::add(m[3], m[4]), L::sub(m[3], m[4]));
        [
            L::add(L::add(m[0], sum), sum2),
            L::fma(L::splat(2.0), diff2, diff),
            L::fma(L::splat(4.0), sum2, sum),
            L::add(L::fma(L::splat(8.0), diff2, diff), m[5]),
            zero,
            zero,
        ]
    }
}

/// One line of `A`.
#[inline(always)]
unsafe fn a<L: Lanes, const M: usize>(y: [L::V; 6]) -> [L::V; 6] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let zero = L::zero();
        if M == 2 {
            return [y[0], L::add(y[0], y[1]), L::sub(y[0], y[1]), L::sub(zero, y[1]), zero, zero];
        }
        let (even, odd) = (L::add(y[0], y[2]), L::add(y[1], y[3]));
        let even2 = L::fma(L::splat(4.0), y[2], y[0]);
        let odd2 = L::mul(L::splat(2.0), L::fma(L::splat(4.0), y[3], y[1]));
        [y[0], L::add(even, odd), L::sub(even, odd), L::add(even2, odd2), L::sub(even2, odd2), y[3]]
    }
}

/// One line of `G`.
#[inline(always)]
unsafe fn g<L: Lanes, const M: usize>(w: [L::V; 6]) -> [L::V; 6] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let ends = L::add(w[0], w[2]);
        if M == 2 {
            let half = L::splat(0.5);
            let (plus, minus) = (L::mul(half, L::add(ends, w[1])), L::mul(half, L::sub(ends, w[1])));
            return [w[0], plus, minus, w[2], L::zero(), L::zero()];
        }
        let sixth = L::splat(-1.0 / 6.0);
        let even = L::fma(L::splat(1.0 / 24.0), w[0], L::mul(L::splat(1.0 / 6.0), w[2]));
        let odd = L::mul(L::splat(1.0 / 12.0), w[1]);
        [
            L::mul(L::splat(0.25), w[0]),
            L::mul(sixth, L::add(ends, w[1])),
            L::mul(sixth, L::sub(ends, w[1])),
            L::add(even, odd),
            L::sub(even, odd),
            w[2],
        ]
    }
}

/// One line of `G^T`.
#[inline(always)]
unsafe fn gt<L: Lanes, const M: usize>(m: [L::V; 6]) -> [L::V; 6] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let (zero, sum, diff) = (L::zero(), L::add(m[1], m[2]), L::sub(m[1], m[2]));
        if M == 2 {
            let half = L::splat(0.5);
            return [L::fma(half, sum, m[0]), L::mul(half, diff), L::fma(half, sum, m[3]), zero, zero, zero];
        }
        let (sum2, diff2, sixth) = (L::add(m[3], m[4]), L::sub(m[3], m[4]), L::splat(-1.0 / 6.0));
        [
            L::fma(L::splat(0.25), m[0], L::fma(sixth, sum, L::mul(L::splat(1.0 / 24.0), sum2))),
            L::fma(sixth, diff, L::mul(L::splat(1.0 / 12.0), diff2)),
            L::fma(L::splat(1.0 / 6.0), L::sub(sum2, sum), m[5]),
            zero,
            zero,
            zero,
        ]
    }
}
