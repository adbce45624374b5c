//! The matrices of minimal filtering, one line at a time.

use crate::simd::lanes::Lanes;

/// Filtering a line of a tile: `y = A^T (G g * B^T d)` for three taps.
///
/// Lines are passed in six places, of which the first ones count.
///
/// # Safety
///
/// As [`Lanes`].
pub(super) trait Rule {
    /// Outputs of a line.
    const OUT: usize;
    /// Products of a line.
    const POINTS: usize;
    /// Inputs of a line.
    const IN: usize;
    /// Inputs before the first output.
    const BEFORE: usize;
    /// `B^T d`.
    unsafe fn bt<L: Lanes>(d: [L::V; 6]) -> [L::V; 6];
    /// `A^T m`.
    unsafe fn at<L: Lanes>(m: [L::V; 6]) -> [L::V; 6];
    /// `A dy`.
    unsafe fn a<L: Lanes>(dy: [L::V; 6]) -> [L::V; 6];
    /// `G g`.
    unsafe fn g<L: Lanes>(g: [L::V; 6]) -> [L::V; 6];
    /// `G^T m`.
    unsafe fn gt<L: Lanes>(m: [L::V; 6]) -> [L::V; 6];
}

/// Two outputs from the same two inputs between zeros: `y0 = g1 d0 + g2 d1`, `y1 = g0 d0 + g1 d1`.
///
/// A Toeplitz product by three multiplications, `g1 (d0 + d1)`, `(g2 - g1) d1` and `(g0 - g1) d0`.
pub(super) struct Whole;

impl Rule for Whole {
    const OUT: usize = 2;
    const POINTS: usize = 3;
    const IN: usize = 2;
    const BEFORE: usize = 0;
    #[inline(always)]
    unsafe fn bt<L: Lanes>(d: [L::V; 6]) -> [L::V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe { [L::add(d[0], d[1]), d[1], d[0], L::zero(), L::zero(), L::zero()] }
    }
    #[inline(always)]
    unsafe fn at<L: Lanes>(m: [L::V; 6]) -> [L::V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe { [L::add(m[0], m[1]), L::add(m[0], m[2]), L::zero(), L::zero(), L::zero(), L::zero()] }
    }
    #[inline(always)]
    unsafe fn a<L: Lanes>(dy: [L::V; 6]) -> [L::V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe { [L::add(dy[0], dy[1]), dy[0], dy[1], L::zero(), L::zero(), L::zero()] }
    }
    #[inline(always)]
    unsafe fn g<L: Lanes>(g: [L::V; 6]) -> [L::V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe { [g[1], L::sub(g[2], g[1]), L::sub(g[0], g[1]), L::zero(), L::zero(), L::zero()] }
    }
    #[inline(always)]
    unsafe fn gt<L: Lanes>(m: [L::V; 6]) -> [L::V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe { [m[2], L::sub(m[0], L::add(m[1], m[2])), m[1], L::zero(), L::zero(), L::zero()] }
    }
}

/// F(2, 3), the points 0, 1, -1 and infinity.
pub(super) struct Two;

impl Rule for Two {
    const OUT: usize = 2;
    const POINTS: usize = 4;
    const IN: usize = 4;
    const BEFORE: usize = 1;
    #[inline(always)]
    unsafe fn bt<L: Lanes>(d: [L::V; 6]) -> [L::V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let (zero, sum) = (L::zero(), L::add(d[1], d[2]));
            [L::sub(d[0], d[2]), sum, L::sub(d[2], d[1]), L::sub(d[1], d[3]), zero, zero]
        }
    }
    #[inline(always)]
    unsafe fn at<L: Lanes>(m: [L::V; 6]) -> [L::V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let (zero, sum, diff) = (L::zero(), L::add(m[1], m[2]), L::sub(m[1], m[2]));
            [L::add(m[0], sum), L::sub(diff, m[3]), zero, zero, zero, zero]
        }
    }
    #[inline(always)]
    unsafe fn a<L: Lanes>(dy: [L::V; 6]) -> [L::V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let zero = L::zero();
            [dy[0], L::add(dy[0], dy[1]), L::sub(dy[0], dy[1]), L::sub(zero, dy[1]), zero, zero]
        }
    }
    #[inline(always)]
    unsafe fn g<L: Lanes>(g: [L::V; 6]) -> [L::V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let (ends, half) = (L::add(g[0], g[2]), L::splat(0.5));
            let (plus, minus) = (L::mul(half, L::add(ends, g[1])), L::mul(half, L::sub(ends, g[1])));
            [g[0], plus, minus, g[2], L::zero(), L::zero()]
        }
    }
    #[inline(always)]
    unsafe fn gt<L: Lanes>(m: [L::V; 6]) -> [L::V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let (zero, half, sum, diff) = (L::zero(), L::splat(0.5), L::add(m[1], m[2]), L::sub(m[1], m[2]));
            [L::fma(half, sum, m[0]), L::mul(half, diff), L::fma(half, sum, m[3]), zero, zero, zero]
        }
    }
}

/// F(4, 3), the points 0, 1, -1, 2, -2 and infinity.
pub(super) struct Four;

impl Rule for Four {
    const OUT: usize = 4;
    const POINTS: usize = 6;
    const IN: usize = 6;
    const BEFORE: usize = 1;
    #[inline(always)]
    unsafe fn bt<L: Lanes>(d: [L::V; 6]) -> [L::V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let (two, four, minus_four, minus_five) = (L::splat(2.0), L::splat(4.0), L::splat(-4.0), L::splat(-5.0));
            let (even4, odd4) = (L::fma(minus_four, d[2], d[4]), L::fma(minus_four, d[1], d[3]));
            let (even1, odd1) = (L::sub(d[4], d[2]), L::mul(two, L::sub(d[3], d[1])));
            [
                L::fma(four, d[0], L::fma(minus_five, d[2], d[4])),
                L::add(even4, odd4),
                L::sub(even4, odd4),
                L::add(even1, odd1),
                L::sub(even1, odd1),
                L::fma(four, d[1], L::fma(minus_five, d[3], d[5])),
            ]
        }
    }
    #[inline(always)]
    unsafe fn at<L: Lanes>(m: [L::V; 6]) -> [L::V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let (zero, sum, diff) = (L::zero(), L::add(m[1], m[2]), L::sub(m[1], m[2]));
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
    #[inline(always)]
    unsafe fn a<L: Lanes>(dy: [L::V; 6]) -> [L::V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let (even, odd) = (L::add(dy[0], dy[2]), L::add(dy[1], dy[3]));
            let even2 = L::fma(L::splat(4.0), dy[2], dy[0]);
            let odd2 = L::mul(L::splat(2.0), L::fma(L::splat(4.0), dy[3], dy[1]));
            [dy[0], L::add(even, odd), L::sub(even, odd), L::add(even2, odd2), L::sub(even2, odd2), dy[3]]
        }
    }
    #[inline(always)]
    unsafe fn g<L: Lanes>(g: [L::V; 6]) -> [L::V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let (ends, sixth) = (L::add(g[0], g[2]), L::splat(-1.0 / 6.0));
            let even = L::fma(L::splat(1.0 / 24.0), g[0], L::mul(L::splat(1.0 / 6.0), g[2]));
            let odd = L::mul(L::splat(1.0 / 12.0), g[1]);
            [
                L::mul(L::splat(0.25), g[0]),
                L::mul(sixth, L::add(ends, g[1])),
                L::mul(sixth, L::sub(ends, g[1])),
                L::add(even, odd),
                L::sub(even, odd),
                g[2],
            ]
        }
    }
    #[inline(always)]
    unsafe fn gt<L: Lanes>(m: [L::V; 6]) -> [L::V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let (zero, sum, diff) = (L::zero(), L::add(m[1], m[2]), L::sub(m[1], m[2]));
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
}
