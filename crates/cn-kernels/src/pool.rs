//! Pooling, channels last.

mod global;

use crate::conv::ConvShape;
use crate::simd::pool::{self as vector, Neighbours};
use crate::{Float, Isa};
pub use global::{concat_backward, concat_forward, mean_backward, mean_forward};
use rayon::prelude::*;

/// The sizes of a max pool; padding counts as minus infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolShape {
    /// B, images.
    pub batch: usize,
    /// H of the input.
    pub height: usize,
    /// W of the input.
    pub width: usize,
    /// C, channels.
    pub channels: usize,
    /// Kh and Kw; at most 255 positions.
    pub kernel: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Rows above and below, columns left and right; at most half a window.
    pub padding: [usize; 2],
}

impl PoolShape {
    fn as_conv(&self) -> ConvShape {
        ConvShape {
            batch: self.batch,
            height: self.height,
            width: self.width,
            in_channels: self.channels,
            out_channels: self.channels,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
        }
    }

    /// Ho, rows of the output.
    #[must_use]
    pub fn out_height(&self) -> usize {
        self.as_conv().out_height()
    }

    /// Wo, columns of the output.
    #[must_use]
    pub fn out_width(&self) -> usize {
        self.as_conv().out_width()
    }

    /// Elements of the output.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.as_conv().output_len()
    }

    /// Elements of the input.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.as_conv().input_len()
    }

    /// Says whether such a pool can be computed.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let window = self.kernel[0] * self.kernel[1];
        self.as_conv().validate().is_ok() && window <= 255 && (0..2).all(|i| 2 * self.padding[i] <= self.kernel[i])
    }

    fn check<T>(&self, x: &[T], y: &[T], winners: &[u8]) {
        assert!(self.is_valid(), "a pool that can be: {self:?}");
        assert_eq!(x.len(), self.input_len(), "length of the input");
        assert_eq!(y.len(), self.output_len(), "length of the output");
        assert_eq!(winners.len(), self.output_len(), "length of the winners");
    }

    /// Windows along an axis that position `at` of the input lies under, of `count`.
    fn windows(&self, axis: usize, at: usize, count: usize) -> std::ops::Range<usize> {
        let at = at + self.padding[axis];
        let first = (at + 1).saturating_sub(self.kernel[axis]).div_ceil(self.stride[axis]);
        first..(at / self.stride[axis] + 1).min(count).max(first)
    }

    /// Rows (or columns) of the input under window `at`, as `(first tap, first position, positions)`.
    fn span(&self, axis: usize, at: usize) -> (usize, usize, usize) {
        let size = [self.height, self.width][axis];
        let start = at * self.stride[axis];
        let skip = self.padding[axis].saturating_sub(start);
        let first = (start + skip) - self.padding[axis];
        (skip, first, (self.kernel[axis] - skip).min(size - first))
    }
}

/// `y (B, Ho, Wo, C)` = the largest value of each window of `x (B, H, W, C)`, and in `winners` its place in the window.
///
/// The first of equal values in row-major order wins; NaN wins over all.
///
/// # Panics
///
/// If the length of a slice does not fit `shape`.
pub fn max_forward<T: Float>(shape: &PoolShape, x: &[T], y: &mut [T], winners: &mut [u8]) {
    shape.check(x, y, winners);
    let (c, wo, ho) = (shape.channels, shape.out_width(), shape.out_height());
    if let Some(x) = T::as_f32(x) {
        return max_forward_f32(shape, x, T::as_f32_mut(y).expect("one element type"), winners);
    }
    y.par_chunks_mut(wo * c).zip(winners.par_chunks_mut(wo * c)).enumerate().for_each(|(row, (y, winners))| {
        let image = &x[row / ho * shape.height * shape.width * c..];
        let (ky0, iy0, rows) = shape.span(0, row % ho);
        for (ox, (y, winners)) in y.chunks_exact_mut(c).zip(winners.chunks_exact_mut(c)).enumerate() {
            let (kx0, ix0, cols) = shape.span(1, ox);
            y.fill(T::NEG_INFINITY);
            winners.fill((ky0 * shape.kernel[1] + kx0) as u8);
            for dy in 0..rows {
                for dx in 0..cols {
                    let tap = ((ky0 + dy) * shape.kernel[1] + kx0 + dx) as u8;
                    let x = &image[((iy0 + dy) * shape.width + ix0 + dx) * c..][..c];
                    for ((y, w), x) in y.iter_mut().zip(winners.iter_mut()).zip(x) {
                        let better = *x > *y || x.to_f64().is_nan();
                        *y = if better { *x } else { *y };
                        *w = if better { tap } else { *w };
                    }
                }
            }
        }
    });
}

/// `dx (B, H, W, C)`: each `dy` goes to the winner of its window; windows that overlap add up.
///
/// # Panics
///
/// If the length of a slice does not fit `shape`.
pub fn max_backward<T: Float>(shape: &PoolShape, dy: &[T], winners: &[u8], dx: &mut [T]) {
    shape.check(dx, dy, winners);
    let (c, wo, ho) = (shape.channels, shape.out_width(), shape.out_height());
    let (image_in, image_out) = (shape.height * shape.width * c, ho * wo * c);
    if let Some(dy) = T::as_f32(dy) {
        return max_backward_f32(shape, dy, winners, T::as_f32_mut(dx).expect("one element type"));
    }
    dx.par_chunks_mut(image_in).enumerate().for_each(|(b, dx)| {
        dx.fill(T::ZERO);
        for oy in 0..ho {
            let (ky0, iy0, rows) = shape.span(0, oy);
            for ox in 0..wo {
                let (kx0, ix0, cols) = shape.span(1, ox);
                let at = b * image_out + (oy * wo + ox) * c;
                for i in 0..rows * cols {
                    let (r, k) = (i / cols, i % cols);
                    let tap = ((ky0 + r) * shape.kernel[1] + kx0 + k) as u8;
                    let dx = &mut dx[((iy0 + r) * shape.width + ix0 + k) * c..][..c];
                    for ((dx, dy), w) in dx.iter_mut().zip(&dy[at..at + c]).zip(&winners[at..at + c]) {
                        *dx += if *w == tap { *dy } else { T::ZERO };
                    }
                }
            }
        }
    });
}

fn max_forward_f32(shape: &PoolShape, x: &[f32], y: &mut [f32], winners: &mut [u8]) {
    let (isa, c) = (Isa::current(), shape.channels);
    let (wo, ho, kw) = (shape.out_width(), shape.out_height(), shape.kernel[1]);
    let row_stride = shape.width * c;
    y.par_chunks_mut(wo * c).zip(winners.par_chunks_mut(wo * c)).enumerate().for_each(|(row, (y, winners))| {
        let (ky, iy, rows) = shape.span(0, row % ho);
        let image = row / ho * shape.height;
        for (ox, (y, winners)) in y.chunks_exact_mut(c).zip(winners.chunks_exact_mut(c)).enumerate() {
            let (kx, ix, cols) = shape.span(1, ox);
            let first = (image + iy) * row_stride + ix * c;
            let (tag, tag_row) = ((ky * kw + kx) as isize, kw as isize);
            let at = Neighbours { first, rows, cols, row_stride, tag, tag_row, tag_col: 1, channels: c };
            vector::largest(isa, &at, x, y, winners);
        }
    });
}

/// Each input pixel gathers from the windows that it lies under, so that no two threads write to one place.
fn max_backward_f32(shape: &PoolShape, dy: &[f32], winners: &[u8], dx: &mut [f32]) {
    let (isa, c) = (Isa::current(), shape.channels);
    let (wo, ho, kw) = (shape.out_width(), shape.out_height(), shape.kernel[1]);
    dx.par_chunks_mut(shape.width * c).enumerate().for_each(|(row, dx)| {
        let (image, iy) = (row / shape.height, row % shape.height);
        let windows_y = shape.windows(0, iy, ho);
        for (ix, dx) in dx.chunks_exact_mut(c).enumerate() {
            let windows_x = shape.windows(1, ix, wo);
            if windows_y.is_empty() || windows_x.is_empty() {
                dx.fill(0.0);
                continue;
            }
            // A window one step further on sees this pixel one stride earlier.
            let tap = |axis: usize, at: usize, window: usize| at + shape.padding[axis] - window * shape.stride[axis];
            let at = Neighbours {
                first: ((image * ho + windows_y.start) * wo + windows_x.start) * c,
                rows: windows_y.len(),
                cols: windows_x.len(),
                row_stride: wo * c,
                tag: (tap(0, iy, windows_y.start) * kw + tap(1, ix, windows_x.start)) as isize,
                tag_row: -((shape.stride[0] * kw) as isize),
                tag_col: -(shape.stride[1] as isize),
                channels: c,
            };
            vector::gather(isa, &at, dy, winners, dx);
        }
    });
}

#[cfg(test)]
mod tests;
