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
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`; rounded once where the instruction set can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
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
            add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
            sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
            mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
            fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        }
    }

    impl Lanes for Avx512 {
        type V = __m512;
        const N: usize = 16;
        const ROWS: usize = 6;
        instructions! {
            zero() -> __m512 = _mm512_setzero_ps();
            splat(x: f32) -> __m512 = _mm512_set1_ps(x);
            load(from: *const f32) -> __m512 = _mm512_loadu_ps(from);
            store(to: *mut f32, v: __m512) = _mm512_storeu_ps(to, v);
            load_part(from: *const f32, n: usize) -> __m512 = _mm512_maskz_loadu_ps(((1u32 << n) - 1) as u16, from);
            store_part(to: *mut f32, v: __m512, n: usize) = _mm512_mask_storeu_ps(to, ((1u32 << n) - 1) as u16, v);
            add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
            sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
            mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
            fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        }
    }
}
