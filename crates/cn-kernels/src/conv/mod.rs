//! Two-dimensional convolutions, channels last.

mod gemm;
mod shape;

use crate::Float;
pub use shape::{ConvShape, ShapeError};

/// What a kernel does with the values that its output holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Overwrites them.
    Set,
    /// Adds to them.
    Add,
}

/// `y (B, Ho, Wo, O)` = the cross-correlation of `x (B, H, W, I)` with `w (O, I, Kh, Kw)`.
///
/// # Panics
///
/// If the length of a slice does not fit `shape`.
pub fn forward<T: Float>(shape: &ConvShape, x: &[T], w: &[T], y: &mut [T]) {
    shape.check(x, w, y);
    gemm::forward(shape, x, w, y);
}

/// The gradient of the input: `dx (B, H, W, I)` from `dy (B, Ho, Wo, O)`.
///
/// # Panics
///
/// If the length of a slice does not fit `shape`.
pub fn backward_input<T: Float>(shape: &ConvShape, dy: &[T], w: &[T], dx: &mut [T], write: Write) {
    shape.check(dx, w, dy);
    gemm::backward_input(shape, dy, w, dx, write);
}

/// The gradient of the weight, added to `dw (O, I, Kh, Kw)`.
///
/// # Panics
///
/// If the length of a slice does not fit `shape`.
pub fn backward_weight<T: Float>(shape: &ConvShape, x: &[T], dy: &[T], dw: &mut [T]) {
    shape.check(x, dw, dy);
    gemm::backward_weight(shape, x, dy, dw);
}

#[cfg(test)]
mod tests;
