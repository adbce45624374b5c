//! Convolutions whose weights no longer change.

use super::packed::Packed;
use super::plan::{Algorithm, prepared as plan};
use super::{ConvShape, implicit, winograd};
use crate::Isa;
use crate::norm::Activation;
use crate::simd::norm::After;
use crate::simd::winograd::Tile;
use std::sync::OnceLock;

/// What follows a convolution, in the same pass: `y = activation(scale * y + shift + residual)`.
///
/// A batch norm with fixed moments is a scale and a shift; a bias is a shift alone.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    /// Factors, `(O)`.
    pub scale: &'a [f32],
    /// Summands, `(O)`.
    pub shift: &'a [f32],
    /// A tensor of the shape of the output.
    pub residual: Option<&'a [f32]>,
    /// What comes last.
    pub activation: Activation,
}

/// A weight, and the orders of it that forward passes have asked for so far.
#[derive(Debug)]
pub struct Prepared {
    weight: Vec<f32>,
    in_channels: usize,
    packed: OnceLock<Packed>,
    two: OnceLock<Vec<f32>>,
    four: OnceLock<Vec<f32>>,
}

impl Prepared {
    /// A copy of `weight (O, I, Kh, Kw)`.
    ///
    /// # Panics
    ///
    /// If `in_channels` is 0 or does not divide the length.
    #[must_use]
    pub fn new(weight: &[f32], in_channels: usize) -> Self {
        assert!(in_channels > 0 && weight.len().is_multiple_of(in_channels), "whole rows of {in_channels} channels");
        let empty = OnceLock::new;
        Self { weight: weight.to_vec(), in_channels, packed: OnceLock::new(), two: empty(), four: empty() }
    }

    /// `y (B, Ho, Wo, O)` from `x (B, H, W, I)`; the weight is put in order at the first call that needs the order.
    ///
    /// # Panics
    ///
    /// If the length of a slice does not fit `shape`, or `shape` the weight.
    pub fn forward(&self, shape: &ConvShape, x: &[f32], epilogue: &Epilogue<'_>, y: &mut [f32]) {
        shape.check(x, &self.weight, y);
        assert_eq!(shape.in_channels, self.in_channels, "input channels of the weight");
        let Epilogue { scale, shift, residual, activation } = *epilogue;
        let o = shape.out_channels;
        assert!(scale.len() == o && shift.len() == o, "one scale and one shift for each of {o} channels");
        assert!(residual.is_none_or(|r| r.len() == y.len()), "length of the residual");
        let (isa, after) = (Isa::current(), After { scale, shift, residual, activation });
        match plan(shape) {
            Algorithm::Winograd(tile) => {
                let job = winograd::Prepared { x, weights: self.points(isa, tile), after };
                winograd::forward_prepared(isa, tile, shape, job, y);
            }
            Algorithm::Implicit => {
                let packed = self.packed.get_or_init(|| Packed::forward(shape, &self.weight));
                implicit::forward_packed(isa, shape, x, packed, Some(after), y);
            }
        }
    }

    fn points(&self, isa: Isa, tile: Tile) -> &[f32] {
        let cell = match tile {
            Tile::Two => &self.two,
            Tile::Four => &self.four,
        };
        cell.get_or_init(|| winograd::weights(isa, tile, self.in_channels, &self.weight))
    }
}
