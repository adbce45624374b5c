//! Windows on small maps: taps that lie on padding wherever the window goes are left out.
//!
//! On a map of one pixel, eight of nine taps of a 3x3 window meet zeros alone.

use super::ConvShape;
use crate::scratch::Scratch;
use rayon::prelude::*;
use std::ops::Range;

/// The rows and columns of a window that meet the image, and the convolution of these alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    whole: [usize; 2],
    taps: [Range<usize>; 2],
    /// The same input and output, with a smaller window.
    pub(super) shape: ConvShape,
}

impl Reach {
    /// `None` where all of the window meets the image.
    pub(super) fn of(s: &ConvShape) -> Option<Self> {
        let taps = [0, 1].map(|axis| taps(s, axis));
        let kernel = [0, 1].map(|axis| taps[axis].len());
        if kernel == s.kernel || kernel.contains(&0) {
            return None;
        }
        let padding = [0, 1].map(|axis| s.padding[axis] - taps[axis].start);
        let shape = ConvShape { kernel, padding, ..*s };
        // What is left need not have the same padding at both ends: then the number of windows tells.
        let same = (shape.out_height(), shape.out_width()) == (s.out_height(), s.out_width());
        same.then_some(Self { whole: s.kernel, taps, shape })
    }

    /// The part of `w (O, I, Kh, Kw)` that meets the image, in the same order.
    pub(super) fn cut(&self, w: &[f32]) -> Scratch {
        let mut cut = Scratch::new(self.shape.weight_len());
        let windows = cut.par_chunks_mut(self.part_len()).with_min_len(WINDOWS);
        windows.zip(w.par_chunks(self.window_len())).for_each(|(part, window)| {
            self.places().zip(part).for_each(|(at, value)| *value = window[at]);
        });
        cut
    }

    /// Adds such a part to `w`.
    pub(super) fn add(&self, part: &[f32], w: &mut [f32]) {
        let windows = w.par_chunks_mut(self.window_len()).with_min_len(WINDOWS);
        windows.zip(part.par_chunks(self.part_len())).for_each(|(window, part)| {
            self.places().zip(part).for_each(|(at, value)| window[at] += value);
        });
    }

    /// Places of the part in a window.
    fn places(&self) -> impl Iterator<Item = usize> {
        let [rows, cols] = self.taps.clone();
        let width = self.whole[1];
        rows.flat_map(move |row| cols.clone().map(move |col| row * width + col))
    }

    fn window_len(&self) -> usize {
        self.whole[0] * self.whole[1]
    }

    fn part_len(&self) -> usize {
        self.shape.kernel[0] * self.shape.kernel[1]
    }
}

/// Windows of one task, at least.
const WINDOWS: usize = 4096;

/// From the first to the last tap along an axis that meets the image.
fn taps(s: &ConvShape, axis: usize) -> Range<usize> {
    let size = [s.height, s.width][axis];
    let positions = [s.out_height(), s.out_width()][axis];
    let meets = |tap: &usize| {
        (0..positions).any(|at| (at * s.stride[axis] + tap).checked_sub(s.padding[axis]).is_some_and(|i| i < size))
    };
    let first = (0..s.kernel[axis]).find(meets);
    first.map_or(0..0, |first| first..(first..s.kernel[axis]).rfind(meets).unwrap_or(first) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(size: usize, kernel: usize, stride: usize) -> ConvShape {
        ConvShape {
            batch: 2,
            height: size,
            width: size,
            in_channels: 3,
            out_channels: 2,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [kernel / 2; 2],
        }
    }

    #[test]
    fn small_maps_see_a_part_of_the_window() {
        let window = |s: ConvShape| Reach::of(&s).map(|reach| (reach.shape.kernel, reach.shape.padding));
        assert_eq!(window(square(1, 3, 1)), Some(([1, 1], [0, 0])));
        assert_eq!(window(square(1, 3, 2)), Some(([1, 1], [0, 0])));
        assert_eq!(window(square(2, 3, 2)), Some(([2, 2], [0, 0])));
        assert_eq!(window(square(2, 7, 1)), Some(([3, 3], [1, 1])));
        for whole in [square(2, 3, 1), square(3, 3, 2), square(4, 7, 1), square(1, 1, 1)] {
            assert_eq!(window(whole), None, "{whole:?}");
        }
        assert_eq!(window(ConvShape { width: 5, ..square(1, 3, 1) }), Some(([1, 3], [0, 1])));
    }

    #[test]
    fn parts_go_back_to_where_they_came_from() {
        let reach = Reach::of(&ConvShape { width: 5, ..square(1, 3, 1) }).expect("one row");
        let w: Vec<f32> = (0..54).map(|i| i as f32).collect();
        let cut = reach.cut(&w);
        assert_eq!(cut[..6], [3.0, 4.0, 5.0, 12.0, 13.0, 14.0]);
        let mut back = vec![1.0; 54];
        reach.add(&cut, &mut back);
        let expected: Vec<f32> = (0..54).map(|i| if i % 9 / 3 == 1 { i as f32 + 1.0 } else { 1.0 }).collect();
        assert_eq!(back, expected);
    }
}
