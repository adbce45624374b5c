//! The transforms of Winograd's minimal filtering F(M x M, 3 x 3), M = 2 or 4 (Lavin & Gray, arXiv:1509.09308).
//!
//! All of them map a square of vectors to another square by one matrix on each side, over channels side by side:
//! `B^T d B` of the input, `G g G^T` of the weight, `A^T m A` to the output, and `A dy A^T`, `G^T m G` for the weight
//! gradient. The points are 0, 1, -1, infinity for M = 2, and 2, -2 besides for M = 4.

mod image;
mod weight;

use super::lanes::Lanes;
pub(crate) use image::{Batch, Map, Plane, Tiles, input, output, output_grad};
pub(crate) use weight::{Direction, GradPoints, Weight, weight_grad};

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
