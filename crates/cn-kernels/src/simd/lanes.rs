//! Vectors of `f32`, one type for each instruction set.

/// A vector of `N` numbers and what can be done with it.
///
/// # Safety
///
/// Every method may be called only in code compiled for, and running on, a processor with the instruction set; those
/// that take a pointer read or write `N` numbers there (`n` for the `_part` forms, with `n <= N`).
pub(crate) trait Lanes: Copy {
    type V: Copy;
    const N: usize;
    /// Rows of the register tile of a matrix product.
    const ROWS: usize;
    unsafe fn zero() -> Self::V;
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    unsafe fn load_part(from: *const f32, n: usize) -> Self::V;
    unsafe fn store_part(to: *mut f32, v: Self::V, n: usize);
    /// `n` numbers, `stride` apart; the rest is 0.
    unsafe fn gather(from: *const f32, stride: usize, n: usize) -> Self::V;
    /// Nine numbers each from `n` places `stride` apart, turned round: vector `i` holds the `i`th of every place.
    #[inline(always)]
    unsafe fn gather_nine(from: *const f32, stride: usize, n: usize) -> [Self::V; 9] {
        // SAFETY: the caller grants nine numbers at each of `n` places.
        unsafe { [0, 1, 2, 3, 4, 5, 6, 7, 8].map(|i| Self::gather(from.add(i), stride, n)) }
    }
    /// Asks for the memory at `at`, which need not be readable.
    #[inline(always)]
    unsafe fn prefetch(_at: *const f32) {}
    /// The same, but not into the nearest cache.
    #[inline(always)]
    unsafe fn prefetch_far(_at: *const f32) {}
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// The larger of `x` and 0; NaN stays.
    unsafe fn relu(x: Self::V) -> Self::V;
    /// `v` where `y` is above 0 or NaN, else 0.
    unsafe fn where_positive(y: Self::V, v: Self::V) -> Self::V;
    /// `x` and `tag` where `x > best` or `x` is NaN, else `best` and `best_tag`.
    unsafe fn larger(x: Self::V, tag: Self::V, best: Self::V, best_tag: Self::V) -> (Self::V, Self::V);
    /// `v` where `a == b`, else 0.
    unsafe fn where_equal(a: Self::V, b: Self::V, v: Self::V) -> Self::V;
    /// `n` bytes as numbers.
    unsafe fn load_bytes(from: *const u8, n: usize) -> Self::V;
    /// `n` whole numbers from 0 to 255 as bytes.
    unsafe fn store_bytes(to: *mut u8, v: Self::V, n: usize);
    /// `a * b + c`; rounded once where the instruction set can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
}

/// A vector of which `n` numbers are there.
#[inline(always)]
pub(super) unsafe fn load<L: Lanes>(from: *const f32, n: usize) -> L::V {
    // SAFETY: the caller grants `n` numbers.
    unsafe { if n == L::N { L::load(from) } else { L::load_part(from, n) } }
}

/// Writes `n` numbers of a vector.
#[inline(always)]
pub(super) unsafe fn store<L: Lanes>(to: *mut f32, v: L::V, n: usize) {
    // SAFETY: the caller grants `n` numbers.
    unsafe { if n == L::N { L::store(to, v) } else { L::store_part(to, v, n) } }
}

/// Eight numbers in an array, for the compiler to vectorise.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Lanes for Portable {
    type V = [f32; 8];
    const N: usize = 8;
    const ROWS: usize = 4;
    #[inline(always)]
    unsafe fn zero() -> Self::V {
        [0.0; 8]
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        // SAFETY: the caller grants N readable numbers.
        unsafe { from.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        // SAFETY: the caller grants N writable numbers.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, n: usize) -> Self::V {
        // SAFETY: the caller grants n readable numbers.
        std::array::from_fn(|i| if i < n { unsafe { *from.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_part(to: *mut f32, v: Self::V, n: usize) {
        for (i, v) in v.iter().enumerate().take(n) {
            // SAFETY: the caller grants n writable numbers.
            unsafe { *to.add(i) = *v }
        }
    }
    #[inline(always)]
    unsafe fn gather(from: *const f32, stride: usize, n: usize) -> Self::V {
        // SAFETY: the caller grants n readable numbers.
        std::array::from_fn(|i| if i < n { unsafe { *from.add(i * stride) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn sqrt(a: Self::V) -> Self::V {
        a.map(f32::sqrt)
    }
    #[inline(always)]
    unsafe fn relu(x: Self::V) -> Self::V {
        x.map(|x| if x < 0.0 { 0.0 } else { x })
    }
    #[inline(always)]
    unsafe fn where_positive(y: Self::V, v: Self::V) -> Self::V {
        std::array::from_fn(|i| if y[i] <= 0.0 { 0.0 } else { v[i] })
    }
    #[inline(always)]
    unsafe fn larger(x: Self::V, tag: Self::V, best: Self::V, best_tag: Self::V) -> (Self::V, Self::V) {
        let wins = |i: usize| x[i] > best[i] || x[i].is_nan();
        let choose = |a: Self::V, b: Self::V| std::array::from_fn(|i| if wins(i) { a[i] } else { b[i] });
        (choose(x, best), choose(tag, best_tag))
    }
    #[inline(always)]
    unsafe fn where_equal(a: Self::V, b: Self::V, v: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] == b[i] { v[i] } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8, n: usize) -> Self::V {
        // SAFETY: the caller grants n readable bytes.
        std::array::from_fn(|i| if i < n { unsafe { f32::from(*from.add(i)) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_bytes(to: *mut u8, v: Self::V, n: usize) {
        for (i, v) in v.iter().enumerate().take(n) {
            // SAFETY: the caller grants n writable bytes.
            unsafe { *to.add(i) = *v as u8 }
        }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // Two roundings: `mul_add` is a library call where the baseline has no such instruction.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::*;

    /// AVX2 and FMA.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2;

    /// AVX-512 F, BW, DQ and VL.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512;

    #[inline(always)]
    unsafe fn mask8(n: usize) -> __m256i {
        // SAFETY: as the trait: the caller has AVX2.
        unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
    }

    /// One line a method: each calls the instruction of its name under the caller's promise.
    macro_rules! instructions {
        ($($name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? = $body:expr;)*) => {
            $(#[inline(always)]
            unsafe fn $name($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller has the instruction set and grants the memory, as the trait demands.
                unsafe { $body }
            })*
        };
    }

    impl Lanes for Avx2 {
        type V = __m256;
        const N: usize = 8;
        const ROWS: usize = 6;
        instructions! {
            zero() -> __m256 = _mm256_setzero_ps();
            splat(x: f32) -> __m256 = _mm256_set1_ps(x);
            load(from: *const f32) -> __m256 = _mm256_loadu_ps(from);
            store(to: *mut f32, v: __m256) = _mm256_storeu_ps(to, v);
            load_part(from: *const f32, n: usize) -> __m256 = _mm256_maskload_ps(from, mask8(n));
            store_part(to: *mut f32, v: __m256, n: usize) = _mm256_maskstore_ps(to, mask8(n), v);
            gather(from: *const f32, stride: usize, n: usize) -> __m256 = {
                let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                let index = _mm256_mullo_epi32(lanes, _mm256_set1_epi32(stride as i32));
                let mask = _mm256_castsi256_ps(mask8(n));
                _mm256_mask_i32gather_ps::<4>(_mm256_setzero_ps(), from, index, mask)
            };
            prefetch(at: *const f32) = _mm_prefetch::<_MM_HINT_T0>(at.cast());
            prefetch_far(at: *const f32) = _mm_prefetch::<_MM_HINT_T1>(at.cast());
            add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
            sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
            mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
            div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
            sqrt(a: __m256) -> __m256 = _mm256_sqrt_ps(a);
            relu(x: __m256) -> __m256 = _mm256_max_ps(_mm256_setzero_ps(), x);
            where_positive(y: __m256, v: __m256) -> __m256 =
                _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLE_UQ>(y, _mm256_setzero_ps()), v);
            larger(x: __m256, tag: __m256, best: __m256, best_tag: __m256) -> (__m256, __m256) = {
                let wins = _mm256_or_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(x, best), _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
                (_mm256_blendv_ps(best, x, wins), _mm256_blendv_ps(best_tag, tag, wins))
            };
            where_equal(a: __m256, b: __m256, v: __m256) -> __m256 = _mm256_and_ps(_mm256_cmp_ps::<_CMP_EQ_OQ>(a, b), v);
            load_bytes(from: *const u8, n: usize) -> __m256 = {
                let mut bytes = [0u8; 8];
                std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), n);
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_set_epi64x(0, i64::from_le_bytes(bytes))))
            };
            store_bytes(to: *mut u8, v: __m256, n: usize) = {
                let words = _mm256_cvttps_epi32(v);
                let halves = _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
                let bytes = _mm_cvtsi128_si64(_mm_packus_epi16(halves, halves)).to_le_bytes();
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, n);
            };
            fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        }
    }

    /// Sixteen rows of nine numbers as nine columns; 51 shuffles, where nine gathers read 144 numbers one by one.
    #[inline(always)]
    unsafe fn turn(rows: [__m512; 16]) -> [__m512; 9] {
        // SAFETY: as the trait: the caller has AVX-512.
        unsafe {
            let zero = _mm512_setzero_ps();
            // `columns[k][g]` holds columns k, k + 4, k + 8 of rows 4 g to 4 g + 3, one in each quarter.
            let mut columns = [[zero; 4]; 4];
            for g in 0..4 {
                let [a, b, c, d] = [rows[4 * g], rows[4 * g + 1], rows[4 * g + 2], rows[4 * g + 3]];
                let pd = |v| _mm512_castps_pd(v);
                let (lo0, lo1) = (pd(_mm512_unpacklo_ps(a, b)), pd(_mm512_unpacklo_ps(c, d)));
                let (hi0, hi1) = (pd(_mm512_unpackhi_ps(a, b)), pd(_mm512_unpackhi_ps(c, d)));
                columns[0][g] = _mm512_castpd_ps(_mm512_unpacklo_pd(lo0, lo1));
                columns[1][g] = _mm512_castpd_ps(_mm512_unpackhi_pd(lo0, lo1));
                columns[2][g] = _mm512_castpd_ps(_mm512_unpacklo_pd(hi0, hi1));
                columns[3][g] = _mm512_castpd_ps(_mm512_unpackhi_pd(hi0, hi1));
            }
            let mut out = [zero; 9];
            for k in 0..4 {
                let [a, b, c, d] = columns[k];
                let (p, q) = (_mm512_shuffle_f32x4::<0b01_00_01_00>(a, b), _mm512_shuffle_f32x4::<0b01_00_01_00>(c, d));
                out[k] = _mm512_shuffle_f32x4::<0b10_00_10_00>(p, q);
                out[k + 4] = _mm512_shuffle_f32x4::<0b11_01_11_01>(p, q);
            }
            let [a, b, c, d] = columns[0];
            let (p, q) = (_mm512_shuffle_f32x4::<0b10_10_10_10>(a, b), _mm512_shuffle_f32x4::<0b10_10_10_10>(c, d));
            out[8] = _mm512_shuffle_f32x4::<0b10_00_10_00>(p, q);
            out
        }
    }

    impl Lanes for Avx512 {
        type V = __m512;
        const N: usize = 16;
        const ROWS: usize = 6;
        #[inline(always)]
        unsafe fn gather_nine(from: *const f32, stride: usize, n: usize) -> [__m512; 9] {
            // SAFETY: the caller grants nine numbers at each of `n` places; the others are not read.
            unsafe {
                let mut rows = [_mm512_setzero_ps(); 16];
                for (i, row) in rows.iter_mut().enumerate().take(n) {
                    *row = _mm512_maskz_loadu_ps(0x1ff, from.add(i * stride));
                }
                turn(rows)
            }
        }
        instructions! {
            zero() -> __m512 = _mm512_setzero_ps();
            splat(x: f32) -> __m512 = _mm512_set1_ps(x);
            load(from: *const f32) -> __m512 = _mm512_loadu_ps(from);
            store(to: *mut f32, v: __m512) = _mm512_storeu_ps(to, v);
            load_part(from: *const f32, n: usize) -> __m512 = _mm512_maskz_loadu_ps(((1u32 << n) - 1) as u16, from);
            store_part(to: *mut f32, v: __m512, n: usize) = _mm512_mask_storeu_ps(to, ((1u32 << n) - 1) as u16, v);
            gather(from: *const f32, stride: usize, n: usize) -> __m512 = {
                let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
                let index = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(stride as i32));
                _mm512_mask_i32gather_ps::<4>(_mm512_setzero_ps(), ((1u32 << n) - 1) as u16, index, from)
            };
            prefetch(at: *const f32) = _mm_prefetch::<_MM_HINT_T0>(at.cast());
            prefetch_far(at: *const f32) = _mm_prefetch::<_MM_HINT_T1>(at.cast());
            add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
            sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
            mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
            div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
            sqrt(a: __m512) -> __m512 = _mm512_sqrt_ps(a);
            relu(x: __m512) -> __m512 = _mm512_max_ps(_mm512_setzero_ps(), x);
            where_positive(y: __m512, v: __m512) -> __m512 =
                _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLE_UQ>(y, _mm512_setzero_ps()), v);
            larger(x: __m512, tag: __m512, best: __m512, best_tag: __m512) -> (__m512, __m512) = {
                let wins = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, best) | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
                (_mm512_mask_mov_ps(best, wins, x), _mm512_mask_mov_ps(best_tag, wins, tag))
            };
            where_equal(a: __m512, b: __m512, v: __m512) -> __m512 =
                _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b), v);
            load_bytes(from: *const u8, n: usize) -> __m512 =
                _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(((1u32 << n) - 1) as u16, from.cast())));
            store_bytes(to: *mut u8, v: __m512, n: usize) =
                _mm512_mask_cvtepi32_storeu_epi8(to.cast(), ((1u32 << n) - 1) as u16, _mm512_cvttps_epi32(v));
            fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        }
    }
}
