//! The transforms of Winograd's minimal filtering F(M x M, 3 x 3), M = 2 or 4 (Lavin & Gray, arXiv:1509.09308).
//!
//! All of them map a square of vectors to another square by one matrix on each side, over channels side by side:
//! `B^T d B` of the input, `G g G^T` of the weight, `A^T m A` to the output, and `A dy A^T`, `G^T m G` for the weight
//! gradient. [`rule`] has the matrices, [`stepped`] those of windows two apart.

mod image;
mod rule;
mod stepped;
mod weight;

use super::lanes::Lanes;
pub(crate) use image::{Batch, Map, Plane, Tiles, input, output, output_grad};
use rule::{LINE, Rule};
use std::mem::MaybeUninit;
pub(crate) use weight::{Direction, GradPoints, Weight, weight_grad};

/// How a tile is filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tile {
    /// A map of 2 x 2 by itself: nothing but padding around it, so that 9 products do where `Two` takes 16.
    Whole,
    Two,
    Four,
    /// As `Four`, for products of bfloat16: by other points, which round better.
    FourBalanced,
    /// Windows two apart, 2 x 2 outputs.
    Step,
    /// The input gradient of `Step`.
    Spread,
}

/// Evaluates an expression with `$rule` as the rule of a tile.
macro_rules! by_rule {
    ($tile:expr, $rule:ident => $value:expr) => {{
        use $crate::simd::winograd::{rule, stepped};
        match $tile {
            Tile::Whole => by_rule!(@ $rule, rule::Whole, $value),
            Tile::Two => by_rule!(@ $rule, rule::Two, $value),
            Tile::Four => by_rule!(@ $rule, rule::Four<rule::Plain>, $value),
            Tile::FourBalanced => by_rule!(@ $rule, rule::Four<rule::Balanced>, $value),
            Tile::Step => by_rule!(@ $rule, stepped::Step, $value),
            Tile::Spread => by_rule!(@ $rule, stepped::Spread, $value),
        }
    }};
    (@ $rule:ident, $type:ty, $value:expr) => {{
        type $rule = $type;
        $value
    }};
}
use by_rule;

impl Tile {
    /// Rows of the output that a tile gives.
    pub(crate) fn out(self) -> usize {
        by_rule!(self, R => R::OUT)
    }

    /// Rows of the input from one tile to the next.
    pub(crate) fn next(self) -> usize {
        by_rule!(self, R => R::NEXT)
    }

    /// Products of a tile.
    pub(crate) fn points(self) -> usize {
        by_rule!(self, R => R::POINTS * R::POINTS)
    }

    /// Transformed weights: several points may share one.
    pub(crate) fn weights(self) -> usize {
        by_rule!(self, R => R::WEIGHTS * R::WEIGHTS)
    }

    /// The weight of point `f`.
    pub(crate) fn weight_of(self, f: usize) -> usize {
        let (points, weights) = by_rule!(self, R => (R::POINTS, R::WEIGHTS));
        (f / points).min(weights - 1) * weights + (f % points).min(weights - 1)
    }

    /// Whether point `f` is the first one of its weight.
    pub(crate) fn is_first(self, f: usize) -> bool {
        let (points, weights) = by_rule!(self, R => (R::POINTS, R::WEIGHTS));
        f / points < weights && f % points < weights
    }

    /// The tile by which the input gradient is computed.
    pub(crate) fn turned(self) -> Self {
        if self == Self::Step { Self::Spread } else { self }
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
    unsafe fn line(x: [L::V; LINE]) -> [L::V; LINE];
    unsafe fn store(&self, i: usize, j: usize, v: L::V);
}

/// Applies `S::line` to every column of the square, then to every row of what comes out.
#[inline(always)]
unsafe fn square<L: Lanes, S: Square<L>>(s: &S) {
    // SAFETY: the caller has the instruction set and a square whose places all exist; the first `OUT` rows of `half` have
    // their first `IN` vectors before they are read.
    unsafe {
        // Not cleared: 2 kB of zeros a square took two hundredths of a training step.
        let mut half = [[MaybeUninit::<L::V>::uninit(); LINE]; LINE];
        for j in 0..S::IN {
            let mut column = [L::zero(); LINE];
            for (i, c) in column.iter_mut().enumerate().take(S::IN) {
                *c = s.load(i, j);
            }
            let column = S::line(column);
            for (row, c) in half.iter_mut().zip(column).take(S::OUT) {
                row[j].write(c);
            }
        }
        for (i, half) in half.iter().enumerate().take(S::OUT) {
            let mut row = [L::zero(); LINE];
            for (r, h) in row.iter_mut().zip(half).take(S::IN) {
                *r = h.assume_init();
            }
            let row = S::line(row);
            for (j, v) in row.iter().enumerate().take(S::OUT) {
                s.store(i, j, *v);
            }
        }
    }
}
