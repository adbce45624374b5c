//! Matrix products of any element type and stride, by the `gemm` crate.

use crate::Float;
use crate::conv::Write;
use crate::linear::{Rows, View};

/// `c (m, n)` = or += `a (m, k) b (k, n)`, one thread; all sizes at least 1.
pub(crate) fn dense<T: Float>([m, n, k]: [usize; 3], a: View<'_, T>, b: View<'_, T>, c: Rows<'_, T>) {
    let (c, ldc, add) = (c.data, c.stride, c.write == Write::Add);
    let last = |v: &View<'_, T>, r: usize, c: usize| (r - 1) * v.row_stride + (c - 1) * v.col_stride;
    assert!(m > 0 && n > 0 && k > 0 && (m - 1) * ldc + n <= c.len(), "a result that fits");
    assert!(last(&a, m, k) < a.data.len() && last(&b, k, n) < b.data.len(), "matrices that fit");
    // SAFETY: the last element of each matrix lies inside its slice, as checked, and `c` is unique.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            ldc as isize,
            add,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
