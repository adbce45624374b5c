//! Two-dimensional convolutions, channels last.

mod implicit;
mod packed;
mod plan;
mod prepared;
mod reach;
mod reference;
mod shape;
mod windows;
mod winograd;

use crate::scratch::Scratch;
use crate::{Float, Isa, Precision};
use plan::Algorithm;
pub use plan::PLAN_VERSION;
pub use prepared::{Epilogue, Prepared};
use reach::Reach;
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
/// `precision` is that of the products of `f32`; `f64` keeps its own.
///
/// # Panics
///
/// If the length of a slice does not fit `shape`.
pub fn forward<T: Float>(shape: &ConvShape, precision: Precision, [x, w]: [&[T]; 2], y: &mut [T]) {
    shape.check(x, w, y);
    match (T::as_f32(x), T::as_f32(w)) {
        (Some(x), Some(w)) => forward_f32(isa_of(precision, shape), shape, x, w, f32_mut(y)),
        _ => reference::forward(shape, x, w, y),
    }
}

/// The gradient of the input: `dx (B, H, W, I)` from `dy (B, Ho, Wo, O)`.
///
/// # Panics
///
/// If the length of a slice does not fit `shape`.
pub fn backward_input<T: Float>(
    shape: &ConvShape,
    precision: Precision,
    [dy, w]: [&[T]; 2],
    dx: &mut [T],
    write: Write,
) {
    shape.check(dx, w, dy);
    match (T::as_f32(dy), T::as_f32(w)) {
        (Some(dy), Some(w)) => backward_input_f32(isa_of(precision, shape), shape, dy, w, f32_mut(dx), write),
        _ => reference::backward_input(shape, dy, w, dx, write),
    }
}

/// The gradient of the weight, added to `dw (O, I, Kh, Kw)`.
///
/// # Panics
///
/// If the length of a slice does not fit `shape`.
pub fn backward_weight<T: Float>(shape: &ConvShape, precision: Precision, [x, dy]: [&[T]; 2], dw: &mut [T]) {
    shape.check(x, dw, dy);
    match (T::as_f32(x), T::as_f32(dy)) {
        (Some(x), Some(dy)) => backward_weight_f32(isa_of(precision, shape), shape, x, dy, f32_mut(dw)),
        _ => reference::backward_weight(shape, x, dy, dw),
    }
}

/// The instruction set for products of `precision`; channels that make no whole pairs keep `f32`, but for those of a
/// grey or coloured image, whose windows are gathered whole.
fn isa_of(precision: Precision, s: &ConvShape) -> Isa {
    let even = s.in_channels.is_multiple_of(2) || s.in_channels < 16;
    match precision {
        Precision::Bf16 if even => Isa::current().pairs(),
        _ => Isa::current(),
    }
}

fn forward_f32(isa: Isa, s: &ConvShape, x: &[f32], w: &[f32], y: &mut [f32]) {
    if let Some(reach) = Reach::of(s) {
        return forward_f32(isa, &reach.shape, x, &reach.cut(w), y);
    }
    match plan::train(isa, s) {
        Algorithm::Winograd(tile) => winograd::forward(isa, tile, s, x, w, y),
        Algorithm::Implicit => implicit::forward(isa, s, x, w, y),
    }
}

fn backward_input_f32(isa: Isa, s: &ConvShape, dy: &[f32], w: &[f32], dx: &mut [f32], write: Write) {
    if let Some(reach) = Reach::of(s) {
        return backward_input_f32(isa, &reach.shape, dy, &reach.cut(w), dx, write);
    }
    match plan::train(isa, s) {
        Algorithm::Winograd(tile) => winograd::backward_input(isa, tile, s, dy, w, dx, write),
        Algorithm::Implicit => implicit::backward_input(isa, s, dy, w, dx, write),
    }
}

fn backward_weight_f32(isa: Isa, s: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    if let Some(reach) = Reach::of(s) {
        let mut part = Scratch::new(reach.shape.weight_len());
        part.fill(0.0);
        backward_weight_f32(isa, &reach.shape, x, dy, &mut part);
        return reach.add(&part, dw);
    }
    match plan::train(isa, s) {
        Algorithm::Winograd(tile) => winograd::backward_weight(isa, tile, s, x, dy, dw),
        Algorithm::Implicit => implicit::backward_weight(isa, s, x, dy, dw),
    }
}

fn f32_mut<T: Float>(out: &mut [T]) -> &mut [f32] {
    T::as_f32_mut(out).expect("outputs have the element type of the inputs")
}

#[cfg(test)]
mod tests;
