//! The matrices of minimal filtering, one line at a time.

use crate::simd::lanes::Lanes;
use std::marker::PhantomData;

/// Places of a line, of which the first ones count.
pub(super) const LINE: usize = 6;

/// Filtering a line of a tile: `y = A^T (G g * B^T d)` for three taps.
///
/// # Safety
///
/// As [`Lanes`].
pub(super) trait Rule {
    /// Outputs of a line, and from one tile to the next.
    const OUT: usize;
    /// Products of a line.
    const POINTS: usize;
    /// Weights of a line: the last of them multiplies all points from its own on.
    const WEIGHTS: usize = Self::POINTS;
    /// Inputs of a line.
    const IN: usize;
    /// Inputs from one tile to the next.
    const NEXT: usize = Self::OUT;
    /// Inputs before the first of them.
    const BEFORE: usize;
    /// `B^T d`.
    unsafe fn bt<L: Lanes>(d: [L::V; LINE]) -> [L::V; LINE];
    /// `A^T m`.
    unsafe fn at<L: Lanes>(m: [L::V; LINE]) -> [L::V; LINE];
    /// `A dy`.
    unsafe fn a<L: Lanes>(dy: [L::V; LINE]) -> [L::V; LINE];
    /// `G g`.
    unsafe fn g<L: Lanes>(g: [L::V; LINE]) -> [L::V; LINE];
    /// `G^T m`.
    unsafe fn gt<L: Lanes>(m: [L::V; LINE]) -> [L::V; LINE];
}

/// Defines maps of a line by what they give, filled up with zeros: `name(line) = [...];`.
macro_rules! lines {
    ($($name:ident($line:ident) = $numbers:expr;)*) => {$(
        #[inline(always)]
        unsafe fn $name<L: Lanes>($line: [L::V; LINE]) -> [L::V; LINE] {
            // SAFETY: the caller has the instruction set.
            unsafe {
                let (mut line, numbers) = ([L::zero(); LINE], $numbers);
                line[..numbers.len()].copy_from_slice(&numbers);
                line
            }
        }
    )*};
}
pub(super) use lines;

/// Two outputs from the same two inputs between zeros: `y0 = g1 d0 + g2 d1`, `y1 = g0 d0 + g1 d1`.
///
/// A Toeplitz product by three multiplications, `g1 (d0 + d1)`, `(g2 - g1) d1` and `(g0 - g1) d0`.
pub(super) struct Whole;

impl Rule for Whole {
    const OUT: usize = 2;
    const POINTS: usize = 3;
    const IN: usize = 2;
    const BEFORE: usize = 0;
    lines! {
        bt(d) = [L::add(d[0], d[1]), d[1], d[0]];
        at(m) = [L::add(m[0], m[1]), L::add(m[0], m[2])];
        a(dy) = [L::add(dy[0], dy[1]), dy[0], dy[1]];
        g(g) = [g[1], L::sub(g[2], g[1]), L::sub(g[0], g[1])];
        gt(m) = [m[2], L::sub(m[0], L::add(m[1], m[2])), m[1]];
    }
}

/// F(2, 3), the points 0, 1, -1 and infinity.
pub(super) struct Two;

impl Rule for Two {
    const OUT: usize = 2;
    const POINTS: usize = 4;
    const IN: usize = 4;
    const BEFORE: usize = 1;
    lines! {
        bt(d) = [L::sub(d[0], d[2]), L::add(d[1], d[2]), L::sub(d[2], d[1]), L::sub(d[1], d[3])];
        at(m) = {
            let (sum, diff) = (L::add(m[1], m[2]), L::sub(m[1], m[2]));
            [L::add(m[0], sum), L::sub(diff, m[3])]
        };
        a(dy) = [dy[0], L::add(dy[0], dy[1]), L::sub(dy[0], dy[1]), L::sub(L::zero(), dy[1])];
        g(g) = {
            let (ends, half) = (L::add(g[0], g[2]), L::splat(0.5));
            let (plus, minus) = (L::mul(half, L::add(ends, g[1])), L::mul(half, L::sub(ends, g[1])));
            [g[0], plus, minus, g[2]]
        };
        gt(m) = {
            let (half, sum, diff) = (L::splat(0.5), L::add(m[1], m[2]), L::sub(m[1], m[2]));
            [L::fma(half, sum, m[0]), L::mul(half, diff), L::fma(half, sum, m[3])]
        };
    }
}

/// The points of an F(4, 3) besides 0 and infinity: two numbers and their negatives.
pub(super) trait Points {
    const A: f32;
    const B: f32;
}

/// The cheapest points, 1 and 2.
pub(super) struct Plain;

impl Points for Plain {
    const A: f32 = 1.0;
    const B: f32 = 2.0;
}

/// Points whose powers stay closer together, 3/4 and 3/2: half the error where operands are rounded to bfloat16.
pub(super) struct Balanced;

impl Points for Balanced {
    const A: f32 = 0.75;
    const B: f32 = 1.5;
}

/// F(4, 3), the points 0, A, -A, B, -B and infinity.
pub(super) struct Four<P>(PhantomData<P>);

impl<P: Points> Rule for Four<P> {
    const OUT: usize = 4;
    const POINTS: usize = 6;
    const IN: usize = 6;
    const BEFORE: usize = 1;
    lines! {
        bt(d) = {
            let (a, b) = (L::splat(P::A), L::splat(P::B));
            let (minus_a2, minus_b2) = (L::splat(-P::A * P::A), L::splat(-P::B * P::B));
            let (product, minus_sum) = (L::splat(P::A * P::A * P::B * P::B), L::splat(-P::A * P::A - P::B * P::B));
            let (even_a, odd_a) = (L::fma(minus_b2, d[2], d[4]), L::mul(a, L::fma(minus_b2, d[1], d[3])));
            let (even_b, odd_b) = (L::fma(minus_a2, d[2], d[4]), L::mul(b, L::fma(minus_a2, d[1], d[3])));
            [
                L::fma(product, d[0], L::fma(minus_sum, d[2], d[4])),
                L::add(even_a, odd_a),
                L::sub(even_a, odd_a),
                L::add(even_b, odd_b),
                L::sub(even_b, odd_b),
                L::fma(product, d[1], L::fma(minus_sum, d[3], d[5])),
            ]
        };
        at(m) = {
            let scaled = |by: f32, v| L::mul(L::splat(by), v);
            let (sum_a, sum_b) = (L::add(m[1], m[2]), L::add(m[3], m[4]));
            let (diff_a, diff_b) = (L::sub(m[1], m[2]), L::sub(m[3], m[4]));
            let (a1, a2, a3) = (P::A, P::A * P::A, P::A * P::A * P::A);
            let [b1, b2, b3] = [P::B, P::B * P::B, P::B * P::B * P::B].map(|b| L::splat(b));
            [
                L::add(L::add(m[0], sum_a), sum_b),
                L::fma(b1, diff_b, scaled(a1, diff_a)),
                L::fma(b2, sum_b, scaled(a2, sum_a)),
                L::add(L::fma(b3, diff_b, scaled(a3, diff_a)), m[5]),
            ]
        };
        a(dy) = {
            let even = |x: f32| L::fma(L::splat(x * x), dy[2], dy[0]);
            let odd = |x: f32| L::mul(L::splat(x), L::fma(L::splat(x * x), dy[3], dy[1]));
            let (even_a, odd_a, even_b, odd_b) = (even(P::A), odd(P::A), even(P::B), odd(P::B));
            let [plus_a, minus_a] = [L::add(even_a, odd_a), L::sub(even_a, odd_a)];
            let [plus_b, minus_b] = [L::add(even_b, odd_b), L::sub(even_b, odd_b)];
            [dy[0], plus_a, minus_a, plus_b, minus_b, dy[3]]
        };
        g(g) = {
            let (a2, b2) = (f64::from(P::A * P::A), f64::from(P::B * P::B));
            let scale_a = L::splat((0.5 / (a2 * (a2 - b2))) as f32);
            let ends = L::fma(L::splat(P::A * P::A), g[2], g[0]);
            let middle = L::mul(L::splat(P::A), g[1]);
            let even = L::fma(
                L::splat((0.5 / (b2 * (b2 - a2))) as f32),
                g[0],
                L::mul(L::splat((0.5 / (b2 - a2)) as f32), g[2]),
            );
            let odd = L::mul(L::splat((0.5 / (f64::from(P::B) * (b2 - a2))) as f32), g[1]);
            [
                L::mul(L::splat((1.0 / (a2 * b2)) as f32), g[0]),
                L::mul(scale_a, L::add(ends, middle)),
                L::mul(scale_a, L::sub(ends, middle)),
                L::add(even, odd),
                L::sub(even, odd),
                g[2],
            ]
        };
        gt(m) = {
            let (a, b) = (f64::from(P::A), f64::from(P::B));
            let (in_a, in_b) = (0.5 / (a * a * (a * a - b * b)), 0.5 / (b * b * (b * b - a * a)));
            let (sum_a, sum_b) = (L::add(m[1], m[2]), L::add(m[3], m[4]));
            let (diff_a, diff_b) = (L::sub(m[1], m[2]), L::sub(m[3], m[4]));
            let splat = |x: f64| L::splat(x as f32);
            let first = L::fma(splat(in_a), sum_a, L::mul(splat(in_b), sum_b));
            [
                L::fma(splat(1.0 / (a * a * b * b)), m[0], first),
                L::fma(splat(in_a * a), diff_a, L::mul(splat(in_b * b), diff_b)),
                L::fma(splat(in_b * b * b), L::sub(sum_b, sum_a), m[5]),
            ]
        };
    }
}
