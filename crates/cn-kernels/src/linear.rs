//! Matrix products and the fully connected layer.

use crate::Float;
use crate::conv::Write;
use crate::parallel::rows_per_piece;
use crate::simd::dense::dense;
use rayon::prelude::*;

/// A view of a matrix with any strides, in elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a, T> {
    pub data: &'a [T],
    pub row_stride: usize,
    pub col_stride: usize,
}

impl<'a, T> View<'a, T> {
    pub(crate) fn rows(data: &'a [T], row_stride: usize) -> Self {
        Self { data, row_stride, col_stride: 1 }
    }
    pub(crate) fn transposed(self) -> Self {
        Self { data: self.data, row_stride: self.col_stride, col_stride: self.row_stride }
    }
}

/// The result of a product: rows `stride` apart, overwritten or added to.
#[derive(Debug)]
pub(crate) struct Rows<'a, T> {
    pub data: &'a mut [T],
    pub stride: usize,
    pub write: Write,
}

/// `c (m, n)` = or += `a (m, k) b (k, n)`; one thread.
pub(crate) fn gemm<T: Float>(dims: [usize; 3], a: View<'_, T>, b: View<'_, T>, c: Rows<'_, T>) {
    if dims[0] > 0 && dims[1] > 0 {
        dense(dims, a, b, c);
    }
}

/// Rows to overwrite.
fn set<T>(data: &mut [T], stride: usize) -> Rows<'_, T> {
    Rows { data, stride, write: Write::Set }
}

/// Sizes of a fully connected layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// B, rows.
    pub batch: usize,
    /// Columns of the input.
    pub in_features: usize,
    /// Columns of the output.
    pub out_features: usize,
}

impl LinearShape {
    fn check<T>(&self, x: &[T], w: &[T], y: &[T]) {
        assert_eq!(x.len(), self.batch * self.in_features, "length of the input");
        assert_eq!(w.len(), self.out_features * self.in_features, "length of the weight");
        assert_eq!(y.len(), self.batch * self.out_features, "length of the output");
    }
}

/// `y (B, O) = x (B, I) w^T`, with `w` `(O, I)` as PyTorch keeps it.
///
/// # Panics
///
/// If the length of a slice does not fit `shape`.
pub fn forward<T: Float>(shape: &LinearShape, x: &[T], w: &[T], y: &mut [T]) {
    shape.check(x, w, y);
    let (i, o) = (shape.in_features, shape.out_features);
    y.par_chunks_mut(32 * o).zip(x.par_chunks(32 * i)).for_each(|(y, x)| {
        gemm([x.len() / i, o, i], View::rows(x, i), View::rows(w, i).transposed(), set(y, o));
    });
}

/// `dx (B, I) = dy (B, O) w`.
///
/// # Panics
///
/// If the length of a slice does not fit `shape`.
pub fn backward_input<T: Float>(shape: &LinearShape, dy: &[T], w: &[T], dx: &mut [T]) {
    shape.check(dx, w, dy);
    let (i, o) = (shape.in_features, shape.out_features);
    dx.par_chunks_mut(32 * i).zip(dy.par_chunks(32 * o)).for_each(|(dx, dy)| {
        gemm([dy.len() / o, i, o], View::rows(dy, o), View::rows(w, i), set(dx, i));
    });
}

/// `dw (O, I) += dy^T x`.
///
/// # Panics
///
/// If the length of a slice does not fit `shape`.
pub fn backward_weight<T: Float>(shape: &LinearShape, x: &[T], dy: &[T], dw: &mut [T]) {
    shape.check(x, dw, dy);
    let (b, i, o) = (shape.batch, shape.in_features, shape.out_features);
    dw.par_chunks_mut(32 * i).enumerate().for_each(|(piece, dw)| {
        let left = View::rows(&dy[piece * 32..], o).transposed();
        gemm([dw.len() / i, i, b], left, View::rows(x, i), Rows { data: dw, stride: i, write: Write::Add });
    });
}

/// `y (B, O) += bias (O)` in every row.
///
/// # Panics
///
/// If `y` does not hold whole rows of `bias`.
pub fn add_bias<T: Float>(bias: &[T], y: &mut [T]) {
    assert_eq!(y.len() % bias.len(), 0, "the output holds whole rows");
    for row in y.chunks_exact_mut(bias.len()) {
        row.iter_mut().zip(bias).for_each(|(y, b)| *y += *b);
    }
}

/// `sums (C) +=` the sum of the rows of `x (B, C)`.
///
/// # Panics
///
/// If `x` does not hold whole rows of `sums`.
pub fn add_column_sums<T: Float>(x: &[T], sums: &mut [T]) {
    assert_eq!(x.len() % sums.len(), 0, "the input holds whole rows");
    for row in x.chunks_exact(sums.len()) {
        sums.iter_mut().zip(row).for_each(|(s, x)| *s += *x);
    }
}

/// `y[i] += x[i]`.
///
/// # Panics
///
/// If the lengths differ.
pub fn add_assign<T: Float>(y: &mut [T], x: &[T]) {
    assert_eq!(y.len(), x.len(), "equal lengths");
    let piece = rows_per_piece(1);
    y.par_chunks_mut(piece).zip(x.par_chunks(piece)).for_each(|(y, x)| {
        y.iter_mut().zip(x).for_each(|(y, x)| *y += *x);
    });
}
