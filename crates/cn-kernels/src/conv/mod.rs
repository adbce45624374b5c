//! Two-dimensional convolutions, channels last.

mod implicit;
mod packed;
mod reference;
mod shape;
mod windows;

use crate::{Float, Isa};
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
    match (T::as_f32(x), T::as_f32(w)) {
        (Some(x), Some(w)) => implicit::forward(Isa::current(), shape, x, w, f32_mut(y)),
        _ => reference::forward(shape, x, w, y),
    }
}

/// The gradient of the input: `dx (B, H, W, I)` from `dy (B, Ho, Wo, O)`.
///
/// # Panics
///
/// If the length of a slice does not fit `shape`.
pub fn backward_input<T: Float>(shape: &ConvShape, dy: &[T], w: &[T], dx: &mut [T], write: Write) {
    shape.check(dx, w, dy);
    match (T::as_f32(dy), T::as_f32(w)) {
        (Some(dy), Some(w)) => implicit::backward_input(Isa::current(), shape, dy, w, f32_mut(dx), write),
        _ => reference::backward_input(shape, dy, w, dx, write),
    }
}

/// The gradient of the weight, added to `dw (O, I, Kh, Kw)`.
///
/// # Panics
///
/// If the length of a slice does not fit `shape`.
pub fn backward_weight<T: Float>(shape: &ConvShape, x: &[T], dy: &[T], dw: &mut [T]) {
    shape.check(x, dw, dy);
    match (T::as_f32(x), T::as_f32(dy)) {
        (Some(x), Some(dy)) => implicit::backward_weight(Isa::current(), shape, x, dy, f32_mut(dw)),
        _ => reference::backward_weight(shape, x, dy, dw),
    }
}

fn f32_mut<T: Float>(out: &mut [T]) -> &mut [f32] {
    T::as_f32_mut(out).expect("outputs have the element type of the inputs")
}

#[cfg(test)]
mod tests;
