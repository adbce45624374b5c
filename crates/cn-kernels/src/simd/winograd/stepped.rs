//! Minimal filtering of windows of three that are two apart (a strided window taken apart: Huang et al.,
//! arXiv:2002.00552).
//!
//! The first and the last tap of such windows see every other pixel, as two taps side by side see a line of these: two
//! outputs take three products, as in [`super::rule::Whole`]. The tap in the middle sees the pixels between them, one by
//! one. So two outputs of a line take five products in place of six, 25 in place of 36 for a square; the two of the
//! middle have the same weight. Nothing but sums: hardly an error.

use super::rule::{LINE, Rule, lines};
use crate::simd::lanes::Lanes;

/// From an image to one of half its size: `y[j] = g0 x[2 j - 1] + g1 x[2 j] + g2 x[2 j + 1]`.
pub(super) struct Step;

/// From a gradient of half the size to that of the image: `dx[2 j] = g1 dy[j]`, `dx[2 j + 1] = g0 dy[j] + g2 dy[j + 1]`,
/// with the taps turned around.
pub(super) struct Spread;

impl Rule for Step {
    const OUT: usize = 2;
    const POINTS: usize = 5;
    const WEIGHTS: usize = 4;
    const IN: usize = 5;
    const NEXT: usize = 4;
    const BEFORE: usize = 1;
    lines! {
        bt(d) = [L::sub(d[0], d[2]), d[2], L::sub(d[4], d[2]), d[1], d[3]];
        at(m) = [L::add(L::add(m[0], m[1]), m[3]), L::add(L::add(m[1], m[2]), m[4])];
        a(dy) = [dy[0], L::add(dy[0], dy[1]), dy[1], dy[0], dy[1]];
        g(g) = [g[0], L::add(g[0], g[2]), g[2], g[1]];
        gt(m) = [L::add(m[0], m[1]), m[3], L::add(m[1], m[2])];
    }
}

impl Rule for Spread {
    const OUT: usize = 4;
    const POINTS: usize = 5;
    const WEIGHTS: usize = 4;
    const IN: usize = 3;
    const NEXT: usize = 2;
    const BEFORE: usize = 0;
    lines! {
        bt(d) = [L::sub(d[0], d[1]), d[1], L::sub(d[2], d[1]), d[0], d[1]];
        at(m) = [m[3], L::add(m[0], m[1]), m[4], L::add(m[1], m[2])];
        a(dy) = [dy[1], L::add(dy[1], dy[3]), dy[3], dy[0], dy[2]];
        g(g) = [g[0], L::add(g[0], g[2]), g[2], g[1]];
        gt(m) = [L::add(m[0], m[1]), m[3], L::add(m[1], m[2])];
    }
}
