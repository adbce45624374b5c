//! Convolutions whose weights no longer change.

use super::packed::{self, Packed};
use super::plan::{Algorithm, prepared as plan};
use super::{ConvShape, implicit, isa_of, winograd};
use crate::norm::Activation;
use crate::simd::norm::After;
use crate::simd::winograd::Tile;
use crate::{Isa, Precision};
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

/// The orders of one weight that forward passes have asked for so far; a changed weight needs a new one.
#[derive(Debug, Default)]
pub struct Prepared {
    precision: Precision,
    packed: OnceLock<Packed>,
    whole: OnceLock<Vec<f32>>,
    two: OnceLock<Vec<f32>>,
    four: OnceLock<Vec<f32>>,
    step: OnceLock<Vec<f32>>,
}

/// One of the orders that weights are put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Packed,
    Whole,
    Two,
    Four,
    Step,
}

impl Order {
    fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Implicit => Self::Packed,
            Algorithm::Winograd(Tile::Whole) => Self::Whole,
            Algorithm::Winograd(Tile::Two) => Self::Two,
            Algorithm::Winograd(Tile::Four | Tile::FourBalanced) => Self::Four,
            Algorithm::Winograd(Tile::Step | Tile::Spread) => Self::Step,
        }
    }
}

impl Prepared {
    /// Bytes of the orders that one weight takes where forward passes see `shape` in batches of these sizes.
    #[must_use]
    pub fn bytes(precision: Precision, shape: &ConvShape, batches: &[usize]) -> usize {
        let isa = isa_of(precision, shape);
        let mut orders = Vec::new();
        let mut len = 0;
        for &batch in batches {
            let algorithm = plan(isa, &ConvShape { batch, ..*shape });
            if !orders.contains(&Order::of(algorithm)) {
                orders.push(Order::of(algorithm));
                len += match algorithm {
                    Algorithm::Winograd(tile) => {
                        winograd::weights_len(isa, tile, [shape.in_channels, shape.out_channels])
                    }
                    Algorithm::Implicit => packed::len([shape.window_len(), shape.out_channels]),
                };
            }
        }
        len * size_of::<f32>()
    }

    /// Bytes of the orders that were asked for so far.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let points = [&self.whole, &self.two, &self.four, &self.step];
        let len: usize = points.iter().filter_map(|order| order.get()).map(Vec::len).sum();
        (len + self.packed.get().map_or(0, Packed::len)) * size_of::<f32>()
    }

    /// Nothing yet; products will have this `precision`, where the processor has it.
    #[must_use]
    pub fn new(precision: Precision) -> Self {
        Self { precision, ..Self::default() }
    }

    /// `y (B, Ho, Wo, O)` from `x (B, H, W, I)` and `w (O, I, Kh, Kw)`, the same `w` at each call: it is put in order at
    /// the first call that needs the order, and not read again.
    ///
    /// # Panics
    ///
    /// If the length of a slice does not fit `shape`.
    pub fn forward(&self, shape: &ConvShape, [x, w]: [&[f32]; 2], epilogue: &Epilogue<'_>, y: &mut [f32]) {
        shape.check(x, w, y);
        let Epilogue { scale, shift, residual, activation } = *epilogue;
        let o = shape.out_channels;
        assert!(scale.len() == o && shift.len() == o, "one scale and one shift for each of {o} channels");
        assert!(residual.is_none_or(|r| r.len() == y.len()), "length of the residual");
        let (isa, after) = (isa_of(self.precision, shape), After { scale, shift, residual, activation });
        match plan(isa, shape) {
            Algorithm::Winograd(tile) => {
                let job = winograd::Prepared { x, weights: self.points(isa, tile, shape.in_channels, w), after };
                winograd::forward_prepared(isa, tile, shape, job, y);
            }
            Algorithm::Implicit => {
                let packed = self.packed.get_or_init(|| Packed::forward(isa, shape, w));
                implicit::forward_packed(isa, shape, x, packed, Some(after), y);
            }
        }
    }

    fn points(&self, isa: Isa, tile: Tile, in_channels: usize, w: &[f32]) -> &[f32] {
        let cell = match Order::of(Algorithm::Winograd(tile)) {
            Order::Whole => &self.whole,
            Order::Two => &self.two,
            Order::Four => &self.four,
            Order::Step => &self.step,
            Order::Packed => unreachable!("a tile has points"),
        };
        cell.get_or_init(|| winograd::weights(isa, tile, in_channels, w))
    }
}
