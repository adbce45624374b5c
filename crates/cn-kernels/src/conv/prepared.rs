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
    points: [OnceLock<Vec<f32>>; 4],
}

/// The place of a tile's transformed weights, which several tiles share.
fn place(tile: Tile) -> usize {
    match tile {
        Tile::Whole => 0,
        Tile::Two => 1,
        Tile::Four | Tile::FourBalanced => 2,
        Tile::Step | Tile::Spread => 3,
    }
}

impl Prepared {
    /// Bytes of the orders that one weight takes where forward passes see `shape` in batches of these sizes.
    #[must_use]
    pub fn bytes(precision: Precision, shape: &ConvShape, batches: &[usize]) -> usize {
        let isa = isa_of(precision, shape);
        let (mut orders, mut len) = (Vec::new(), 0);
        for &batch in batches {
            let (order, own) = match plan(isa, &ConvShape { batch, ..*shape }) {
                Algorithm::Winograd(tile) => {
                    let channels = [shape.in_channels, shape.out_channels];
                    (Some(place(tile)), winograd::weights_len(isa, tile, channels))
                }
                Algorithm::Implicit => (None, packed::len([shape.window_len(), shape.out_channels])),
            };
            if !orders.contains(&order) {
                orders.push(order);
                len += own;
            }
        }
        len * size_of::<f32>()
    }

    /// Bytes of the orders that were asked for so far.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let len: usize = self.points.iter().filter_map(OnceLock::get).map(Vec::len).sum();
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
        self.points[place(tile)].get_or_init(|| winograd::weights(isa, tile, in_channels, w))
    }
}
