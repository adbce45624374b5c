//! Which algorithm computes which convolution.
//!
//! A pure function of the sizes, of the precision of products and of the instruction set, never measured at run time, so
//! that a result depends on nothing else. The rates below were measured once on one core with AVX-512; they enter as ratios
//! only, which other processors are taken to share roughly.

use super::ConvShape;
use crate::Isa;
use crate::simd::winograd::Tile;

/// The version of the plan: results of two versions may differ in their last bits.
pub const PLAN_VERSION: u32 = 5;

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// Tiles by minimal filtering.
    Winograd(Tile),
    /// Windows gathered block by block.
    Implicit,
}

/// The algorithm of a pass whose weights change from call to call.
pub(super) fn train(isa: Isa, s: &ConvShape) -> Algorithm {
    let plain = s.out_height() * s.out_width() * 9;
    let tile = best_tile(isa, s);
    // A quarter fewer products pay for the transforms; with few channels they do not.
    let pays = products(s, tile) * 4 <= plain * 3 && s.in_channels.min(s.out_channels) >= 16;
    if applies(s) && pays { Algorithm::Winograd(tile) } else { Algorithm::Implicit }
}

/// Products a nanosecond of the inner loops.
const RATE: f64 = 90.0;
/// Numbers a nanosecond that weights which fit no cache are read at.
const READ: f64 = 5.0;

/// The algorithm of a forward pass whose weights were put in order before.
///
/// With few pixels the time goes into reading the weights, which minimal filtering makes up to four times larger.
pub(super) fn prepared(isa: Isa, s: &ConvShape) -> Algorithm {
    let Algorithm::Winograd(_) = train(isa, s) else { return Algorithm::Implicit };
    let time = |products: usize, numbers: usize| products as f64 / RATE + numbers as f64 / READ;
    let filtered = |tile: Tile| (Algorithm::Winograd(tile), time(s.batch * products(s, tile), tile.weights()));
    let plain = (Algorithm::Implicit, time(s.batch * s.out_height() * s.out_width() * 9, 9));
    tiles(isa, s)
        .map(filtered)
        .chain([plain])
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .map_or(Algorithm::Implicit, |(algorithm, _)| algorithm)
}

/// Whether minimal filtering applies.
fn applies(s: &ConvShape) -> bool {
    s.kernel == [3, 3] && (s.stride == [1, 1] || s.stride == [2, 2]) && s.padding == [1, 1]
}

/// The tiles that suit the map.
fn tiles(isa: Isa, s: &ConvShape) -> impl Iterator<Item = Tile> {
    let (unit, fits) = (s.stride == [1, 1], (s.height, s.width) == (2, 2));
    let four = if isa.has_pairs() { Tile::FourBalanced } else { Tile::Four };
    // Steps by 4 x 4 outputs would take 19 % fewer products, but twice the weights and three times the points: no gain.
    [(four, unit), (Tile::Two, unit), (Tile::Whole, unit && fits), (Tile::Step, !unit)]
        .into_iter()
        .filter_map(|(tile, suits)| suits.then_some(tile))
}

/// The tile that needs the fewest products.
fn best_tile(isa: Isa, s: &ConvShape) -> Tile {
    tiles(isa, s).min_by_key(|&tile| products(s, tile)).unwrap_or(Tile::Four)
}

/// Products for each pair of channels of one image.
fn products(s: &ConvShape, tile: Tile) -> usize {
    s.out_height().div_ceil(tile.out()) * s.out_width().div_ceil(tile.out()) * tile.points()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(batch: usize, size: usize, channels: usize, kernel: usize, stride: usize) -> ConvShape {
        ConvShape {
            batch,
            height: size,
            width: size,
            in_channels: channels,
            out_channels: channels,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [kernel / 2; 2],
        }
    }

    #[test]
    fn the_tile_suits_the_map() {
        assert_eq!(train(Isa::PORTABLE, &square(64, 16, 64, 3, 1)), Algorithm::Winograd(Tile::Four));
        assert_eq!(train(Isa::PORTABLE, &square(64, 2, 512, 3, 1)), Algorithm::Winograd(Tile::Whole));
        assert_eq!(train(Isa::PORTABLE, &square(64, 1, 512, 3, 1)), Algorithm::Implicit);
        assert_eq!(train(Isa::PORTABLE, &square(64, 16, 64, 3, 2)), Algorithm::Winograd(Tile::Step));
        assert_eq!(train(Isa::PORTABLE, &square(64, 16, 64, 3, 3)), Algorithm::Implicit);
        assert_eq!(train(Isa::PORTABLE, &square(64, 16, 64, 1, 1)), Algorithm::Implicit);
        assert_eq!(train(Isa::PORTABLE, &square(64, 16, 3, 3, 1)), Algorithm::Implicit);
    }

    #[test]
    fn one_small_image_is_not_worth_large_weights() {
        assert_eq!(prepared(Isa::PORTABLE, &square(1, 4, 512, 3, 1)), Algorithm::Implicit);
        assert_eq!(prepared(Isa::PORTABLE, &square(1, 8, 256, 3, 1)), Algorithm::Winograd(Tile::Two));
        assert_eq!(prepared(Isa::PORTABLE, &square(1, 16, 128, 3, 1)), Algorithm::Winograd(Tile::Four));
        assert_eq!(prepared(Isa::PORTABLE, &square(64, 4, 512, 3, 1)), Algorithm::Winograd(Tile::Four));
        assert_eq!(prepared(Isa::PORTABLE, &square(1, 32, 64, 3, 1)), Algorithm::Winograd(Tile::Four));
    }
}
