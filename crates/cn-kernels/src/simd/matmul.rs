//! Matrix products of `f32`, or of pairs of bfloat16: panels of the right-hand matrix, and a register tile over them.

use super::Isa;
use super::isa::for_each_isa;
use super::lanes::Lanes;
use crate::conv::Write;
use std::marker::PhantomData;

/// Columns of a panel: four vectors of AVX-512, eight of AVX2.
pub(crate) const PANEL: usize = 64;

/// The left-hand matrix: row `r`, column `k` at `r * row_stride + k * col_stride`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left<'a> {
    pub data: &'a [f32],
    pub row_stride: usize,
    pub col_stride: usize,
}

/// One panel of the right-hand matrix: `k` rows of `stride` numbers, of which `cols` count, at most [`PANEL`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panel<'a> {
    pub data: &'a [f32],
    pub stride: usize,
    pub cols: usize,
}

/// The result: row `r` starts at `r * stride`; set or added to.
#[derive(Debug)]
pub(crate) struct Out<'a> {
    pub data: &'a mut [f32],
    pub stride: usize,
    pub write: Write,
}

/// `c (m, cols)` = or += `a (m, k) b (k, cols)`, on one thread.
pub(crate) fn matmul(isa: Isa, [m, k]: [usize; 2], a: Left<'_>, b: Panel<'_>, c: Out<'_>) {
    let (c, c_stride, w) = (c.data, c.stride, c.write);
    if m == 0 || b.cols == 0 {
        return;
    }
    assert!(b.cols <= PANEL && (m - 1) * c_stride + b.cols <= c.len(), "the result fits");
    assert!(k == 0 || (m - 1) * a.row_stride + (k - 1) * a.col_stride < a.data.len(), "the left side fits");
    assert!(k == 0 || (k - 1) * b.stride + b.cols <= b.data.len(), "the panel fits");
    let job = Job {
        k,
        a: a.data.as_ptr(),
        row_stride: a.row_stride,
        col_stride: a.col_stride,
        b: b.data.as_ptr(),
        b_stride: b.stride,
        c: c.as_mut_ptr(),
        c_stride,
        add: w == Write::Add,
        packed: b.stride == PANEL,
    };
    // SAFETY: the asserts above keep every read and write of `m` rows, `k` steps and `cols` columns inside the slices.
    unsafe { run(isa, &job, m, b.cols) }
}

/// A product over raw memory, whose bounds [`matmul`] has checked.
struct Job {
    k: usize,
    a: *const f32,
    row_stride: usize,
    col_stride: usize,
    b: *const f32,
    b_stride: usize,
    c: *mut f32,
    c_stride: usize,
    add: bool,
    /// Whether the panel is contiguous.
    packed: bool,
}

/// # Safety
///
/// `job` reads and writes inside memory of its own for `m` rows and `cols` columns.
unsafe fn run(isa: Isa, job: &Job, m: usize, cols: usize) {
    #[cfg(target_arch = "x86_64")]
    if isa.has_pairs() {
        // SAFETY: an `Isa` with pairs exists only where the processor has AVX512-BF16; the rest as the caller grants.
        return unsafe { pairs(job, m, cols) };
    }
    // SAFETY: as the caller grants.
    unsafe { singles(isa, job, m, cols) }
}

for_each_isa! {
    fn singles = singles_body; (job: &Job, m: usize, cols: usize)
}

#[inline(always)]
unsafe fn singles_body<L: Lanes>(job: &Job, m: usize, cols: usize) {
    // SAFETY: as `run`.
    unsafe { body::<Single<L>>(job, m, cols) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,bmi2")]
unsafe fn pairs(job: &Job, m: usize, cols: usize) {
    // SAFETY: as `run`.
    unsafe { body::<Pair>(job, m, cols) }
}

/// What a product multiplies: the places of its operands, and how many numbers each of them holds.
///
/// # Safety
///
/// As [`Lanes`].
trait Product {
    type L: Lanes;
    /// `left * right + sum`.
    unsafe fn add(left: Vector<Self>, right: Vector<Self>, sum: Vector<Self>) -> Vector<Self>;
}

type Vector<P> = <<P as Product>::L as Lanes>::V;

/// One number a place.
struct Single<L>(PhantomData<L>);

impl<L: Lanes> Product for Single<L> {
    type L = L;
    #[inline(always)]
    unsafe fn add(left: L::V, right: L::V, sum: L::V) -> L::V {
        // SAFETY: the caller has the instruction set.
        unsafe { L::fma(left, right, sum) }
    }
}

/// Two bfloat16 a place.
#[cfg(target_arch = "x86_64")]
struct Pair;

#[cfg(target_arch = "x86_64")]
impl Product for Pair {
    type L = super::lanes::Avx512;
    #[inline(always)]
    unsafe fn add(left: Vector<Self>, right: Vector<Self>, sum: Vector<Self>) -> Vector<Self> {
        use std::arch::x86_64::{__m512, __m512bh, _mm512_dpbf16_ps};
        // SAFETY: the caller has AVX512-BF16; both types are 512 plain bits.
        unsafe {
            let [left, right] = [left, right].map(|v| std::mem::transmute::<__m512, __m512bh>(v));
            _mm512_dpbf16_ps(sum, left, right)
        }
    }
}

/// All tiles of a panel: [`Lanes::ROWS`] rows by at most four vectors.
#[inline(always)]
unsafe fn body<P: Product>(job: &Job, m: usize, cols: usize) {
    let lanes = P::L::N;
    let tile = if P::L::ROWS == 6 && lanes == 16 { 4 } else { 2 };
    for col in (0..cols).step_by(tile * lanes) {
        let n = (cols - col).min(tile * lanes);
        let (vectors, part) = (n.div_ceil(lanes), n % lanes);
        for row in (0..m).step_by(P::L::ROWS) {
            let rows = (m - row).min(P::L::ROWS);
            // SAFETY: rows and columns are those that `matmul` has checked.
            unsafe {
                match vectors {
                    1 => tile_rows::<P, 1>(job, row, rows, col, part),
                    2 => tile_rows::<P, 2>(job, row, rows, col, part),
                    3 => tile_rows::<P, 3>(job, row, rows, col, part),
                    _ => tile_rows::<P, 4>(job, row, rows, col, part),
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn tile_rows<P: Product, const V: usize>(job: &Job, row: usize, rows: usize, col: usize, part: usize) {
    // SAFETY: as `body`.
    unsafe {
        match rows {
            1 => tile::<P, 1, V>(job, row, col, part),
            2 => tile::<P, 2, V>(job, row, col, part),
            3 => tile::<P, 3, V>(job, row, col, part),
            4 => tile::<P, 4, V>(job, row, col, part),
            5 => tile::<P, 5, V>(job, row, col, part),
            _ => tile::<P, 6, V>(job, row, col, part),
        }
    }
}

/// Rows of the panel that are asked for in advance.
const AHEAD: usize = 24;

/// `R` rows by `V` vectors, kept in registers over all of `k`; `part` numbers in the last vector, 0 for all.
#[inline(always)]
unsafe fn tile<P: Product, const R: usize, const V: usize>(job: &Job, row: usize, col: usize, part: usize) {
    let lanes = P::L::N;
    // SAFETY: `matmul` has checked rows, columns and `k`; a last vector with `part` numbers is read and written in part.
    unsafe {
        let mut sums = [[P::L::zero(); V]; R];
        let (mut a, mut b) = (job.a.add(row * job.row_stride), job.b.add(col));
        for _ in 0..job.k {
            let right = load_row::<P::L, V>(b, part);
            if row == 0 {
                // The first rows of the result read the panel from memory, the others from a cache.
                (0..V).for_each(|v| P::L::prefetch(b.wrapping_add(AHEAD * job.b_stride + v * lanes)));
            } else if job.packed && row <= 2 * P::L::ROWS {
                // What follows a packed panel is read next: the second and third rows ask for half of it each.
                let first = if row == P::L::ROWS { 0 } else { V / 2 };
                let next = b.wrapping_add(job.k * PANEL + first * lanes);
                (0..V.div_ceil(2)).for_each(|v| P::L::prefetch_far(next.wrapping_add(v * lanes)));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let left = P::L::splat(*a.add(r * job.row_stride));
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = P::add(left, right, *sum);
                }
            }
            a = a.wrapping_add(job.col_stride);
            b = b.wrapping_add(job.b_stride);
        }
        for (r, sums) in sums.iter().enumerate() {
            let c = job.c.add((row + r) * job.c_stride + col);
            let old = if job.add { load_row::<P::L, V>(c, part) } else { [P::L::zero(); V] };
            for (v, sum) in sums.iter().enumerate() {
                let value = if job.add { P::L::add(*sum, old[v]) } else { *sum };
                if v + 1 == V && part > 0 {
                    P::L::store_part(c.add(v * lanes), value, part);
                } else {
                    P::L::store(c.add(v * lanes), value);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn load_row<L: Lanes, const V: usize>(from: *const f32, part: usize) -> [L::V; V] {
    // SAFETY: the caller grants V vectors, the last one with `part` numbers unless that is 0.
    std::array::from_fn(|v| unsafe {
        if v + 1 == V && part > 0 { L::load_part(from.add(v * L::N), part) } else { L::load(from.add(v * L::N)) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(m: usize, k: usize, cols: usize, write: Write) {
        let value = |i: usize| ((i * 7919 + 13) % 101) as f32 / 50.0 - 1.0;
        let (a, b): (Vec<f32>, Vec<f32>) =
            ((0..m * k).map(value).collect(), (0..k * PANEL).map(|i| value(i + 5)).collect());
        for isa in Isa::available() {
            for transposed in [false, true] {
                let (row_stride, col_stride) = if transposed { (1, m) } else { (k, 1) };
                let mut c = vec![0.5f32; m * 70];
                let left = Left { data: &a, row_stride, col_stride };
                let out = Out { data: &mut c, stride: 70, write };
                matmul(isa, [m, k], left, Panel { data: &b, stride: PANEL, cols }, out);
                for (i, found) in c.iter().enumerate() {
                    let (row, col) = (i / 70, i % 70);
                    let product =
                        |t: usize| f64::from(a[row * row_stride + t * col_stride]) * f64::from(b[t * PANEL + col]);
                    let start = if write == Write::Add { 0.5 } else { 0.0 };
                    let expected = if col < cols { start + (0..k).map(product).sum::<f64>() } else { 0.5 };
                    assert!((f64::from(*found) - expected).abs() < 1e-4, "{isa} {m}x{k}x{cols} at {row},{col}");
                }
            }
        }
    }

    #[test]
    fn every_tile_matches_naive() {
        for m in 1..=13 {
            for cols in [1, 7, 8, 15, 16, 17, 31, 33, 48, 50, 63, 64] {
                check(m, 9, cols, if m % 2 == 0 { Write::Set } else { Write::Add });
            }
        }
        check(5, 300, 64, Write::Set);
    }
}
