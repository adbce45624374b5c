//! Rows of `f32` to pairs of bfloat16, the operands of AVX512-BF16's products; a pair takes the place of one `f32`.

use super::Isa;

/// How the two numbers of a pair lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Along {
    /// Side by side in a row: `(rows, k)` becomes `(rows, ceil(k / 2))`.
    Rows,
    /// One above the other: `(k, width)` becomes `(ceil(k / 2), width)`.
    Columns,
}

/// A matrix of `rows` by `width`, contiguous.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    pub rows: usize,
    pub width: usize,
}

impl Isa {
    /// Places that `k` numbers take in a product with this instruction set.
    pub(crate) fn places(self, k: usize) -> usize {
        if self.has_pairs() { k.div_ceil(2) } else { k }
    }

    /// Puts a matrix in the form that products read: pairs where this instruction set has them, in place; the last pair
    /// of an odd number of them is filled up by zero.
    pub(crate) fn pair(self, along: Along, m: Matrix, data: &mut [f32]) {
        if self.has_pairs() {
            let data = &mut data[..m.rows * m.width];
            // SAFETY: an `Isa` with pairs exists only where the processor has AVX512-BF16; the slice holds the matrix.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                x86::pair(along, m, data.as_ptr(), data.as_mut_ptr());
            }
        }
    }

    /// As [`Isa::pair`], from elsewhere; a plain copy without pairs.
    pub(crate) fn pair_from(self, along: Along, m: Matrix, from: &[f32], to: &mut [f32]) {
        let from = &from[..m.rows * m.width];
        if !self.has_pairs() {
            return to[..from.len()].copy_from_slice(from);
        }
        let len = match along {
            Along::Rows => m.rows * m.width.div_ceil(2),
            Along::Columns => m.rows.div_ceil(2) * m.width,
        };
        assert!(len <= to.len(), "room for every pair");
        // SAFETY: an `Isa` with pairs exists only where the processor has AVX512-BF16; both slices are long enough.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            x86::pair(along, m, from.as_ptr(), to.as_mut_ptr());
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Along, Matrix};
    use std::arch::x86_64::*;

    /// # Safety
    ///
    /// The processor has the features; `from` holds the matrix; `to` has room for its pairs and is `from` or apart from
    /// it: every place is written after it was read for the last time.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    pub(super) unsafe fn pair(along: Along, m: Matrix, from: *const f32, to: *mut f32) {
        // SAFETY: as the caller grants.
        unsafe {
            match along {
                Along::Rows => (0..m.rows).for_each(|row| {
                    beside(m.width, from.add(row * m.width), to.add(row * m.width.div_ceil(2)));
                }),
                Along::Columns => (0..m.rows.div_ceil(2)).for_each(|row| {
                    let upper = from.add(2 * row * m.width);
                    let lower = (2 * row + 1 < m.rows).then(|| upper.add(m.width));
                    above(m.width, upper, lower, to.add(row * m.width));
                }),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    unsafe fn beside(k: usize, from: *const f32, to: *mut f32) {
        for at in (0..k).step_by(32) {
            let n = (k - at).min(32);
            // SAFETY: the masks keep reads and writes inside the row.
            unsafe {
                let low = _mm512_maskz_loadu_ps(first(n.min(16)), from.add(at));
                let high = _mm512_maskz_loadu_ps(first(n.saturating_sub(16)), from.wrapping_add(at + 16));
                let pairs = _mm512_cvtne2ps_pbh(high, low);
                _mm512_mask_storeu_ps(
                    to.add(at / 2),
                    first(n.div_ceil(2)),
                    std::mem::transmute::<__m512bh, __m512>(pairs),
                );
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    unsafe fn above(width: usize, upper: *const f32, lower: Option<*const f32>, to: *mut f32) {
        let mut order = [0i16; 32];
        for (i, place) in order.iter_mut().enumerate() {
            *place = (i / 2 + 16 * (i % 2)) as i16;
        }
        for at in (0..width).step_by(16) {
            let mask = first((width - at).min(16));
            // SAFETY: the masks keep reads and writes inside the rows.
            unsafe {
                let order = _mm512_loadu_epi16(order.as_ptr());
                let upper = _mm512_maskz_loadu_ps(mask, upper.add(at));
                let lower = lower.map_or(_mm512_setzero_ps(), |lower| _mm512_maskz_loadu_ps(mask, lower.add(at)));
                let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(lower, upper));
                _mm512_mask_storeu_ps(to.add(at), mask, _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, both)));
            }
        }
    }

    fn first(n: usize) -> __mmask16 {
        ((1u32 << n) - 1) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The halves of a pair.
    fn halves(pair: f32) -> [f32; 2] {
        [f32::from_bits(pair.to_bits() << 16), f32::from_bits(pair.to_bits() & 0xffff_0000)]
    }

    #[test]
    fn pairs_are_rounded_neighbours_in_place_and_elsewhere() {
        let isa = Isa::best().pairs();
        if !isa.has_pairs() {
            return println!("skipped: this processor has no AVX512-BF16");
        }
        let value = |i: usize| 1.0 + (i % 97) as f32 / 77.0;
        for (rows, width) in [(1, 1), (2, 3), (3, 16), (5, 33), (4, 64), (7, 50), (2, 31)] {
            let m = Matrix { rows, width };
            let from: Vec<f32> = (0..rows * width).map(value).collect();
            let at = |r: usize, c: usize| if r < rows && c < width { from[r * width + c] } else { 0.0 };
            for along in [Along::Rows, Along::Columns] {
                let (mut inside, mut apart) = (from.clone(), vec![0.0; rows * width]);
                isa.pair(along, m, &mut inside);
                isa.pair_from(along, m, &from, &mut apart);
                let (pair_rows, places) = match along {
                    Along::Rows => (rows, width.div_ceil(2)),
                    Along::Columns => (rows.div_ceil(2), width),
                };
                for r in 0..pair_rows {
                    for c in 0..places {
                        let expected = match along {
                            Along::Rows => [at(r, 2 * c), at(r, 2 * c + 1)],
                            Along::Columns => [at(2 * r, c), at(2 * r + 1, c)],
                        };
                        for found in [halves(inside[r * places + c]), halves(apart[r * places + c])] {
                            for (found, expected) in found.into_iter().zip(expected) {
                                assert!((found - expected).abs() <= expected.abs() / 256.0, "{along:?} {m:?}");
                            }
                        }
                    }
                }
            }
        }
    }
}
