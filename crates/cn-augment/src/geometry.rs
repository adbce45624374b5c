//! What is done to one image, as plain numbers.

use cn_kernels::resample::{Rect, Resize, Warp};

use crate::{Error, Image, Result};

/// What is done to one image: the part that is seen, colour, flip, erased rectangle.
///
/// Plain numbers of 4 bytes in a fixed order, so that an array of them can be uploaded as it is. Made by
/// [`Policy::geometry`](crate::Policy::geometry), or by [`resize`](Self::resize), [`warp`](Self::warp) and the methods
/// after them. In this order: resample, change colours, flip, erase.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    /// Side of the square output, in pixels.
    pub size: u32,
    /// 1: [`matrix`](Self::matrix) decides what is seen, not `source`, `full` and `offset`. 2: flipped left to right.
    pub flags: u32,
    /// Left, top, width, height of the part of the image that is cut out, in its pixels.
    pub source: [u32; 4],
    /// Side of the square that `source` is resized to.
    pub full: u32,
    /// First column and row of the output in that square.
    pub offset: u32,
    /// Maps the centre of an output pixel to a position in the image, in pixels: two rows of three.
    pub matrix: [f32; 6],
    /// A byte `v` becomes `gain * v + bias`, cut to [0, 255].
    pub gain: f32,
    /// See [`gain`](Self::gain).
    pub bias: f32,
    /// Left, top, width, height of the erased part of the output; nothing is erased if the width is 0.
    pub erased: [u32; 4],
    /// Byte of what lies outside a warped image and of what is erased.
    pub border: u32,
}

const WARP: u32 = 1;
const FLIP: u32 = 2;

impl Geometry {
    /// Cuts `source` out and resizes it to `size` x `size`; the aspect is not kept.
    #[must_use]
    pub fn resize(source: Rect, size: u32) -> Self {
        let cut = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            size,
            flags: 0,
            source: [source.left, source.top, source.width, source.height].map(cut),
            full: size,
            offset: 0,
            matrix: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            gain: 1.0,
            bias: 0.0,
            erased: [0; 4],
            border: 0,
        }
    }

    /// The whole image to `size` x `size`.
    #[must_use]
    pub fn whole(image: Image<'_>, size: u32) -> Self {
        Self::resize(Rect::of_size(image.width, image.height), size)
    }

    /// `source` resized to `size + 2 * margin` in both directions, and the central `size` x `size` of that.
    #[must_use]
    pub fn centre(source: Rect, size: u32, margin: u32) -> Self {
        Self { full: size + 2 * margin, offset: margin, ..Self::resize(source, size) }
    }

    /// The image through a matrix, which maps the centre of an output pixel to a position in the image, both in
    /// pixels; see [`cn_kernels::resample::Warp`].
    #[must_use]
    pub fn warp(matrix: [f32; 6], size: u32) -> Self {
        Self { flags: WARP, matrix, ..Self::resize(Rect::of_size(0, 0), size) }
    }

    /// The same, flipped left to right; flipped twice it is what it was.
    #[must_use]
    pub fn flipped(self) -> Self {
        Self { flags: self.flags ^ FLIP, ..self }
    }

    /// Whether the matrix decides what is seen.
    #[must_use]
    pub fn is_warp(&self) -> bool {
        self.flags & WARP != 0
    }

    /// Whether the output is flipped left to right.
    #[must_use]
    pub fn is_flipped(&self) -> bool {
        self.flags & FLIP != 0
    }

    /// The erased part of the output, if any.
    #[must_use]
    pub fn erased(&self) -> Option<Rect> {
        Some(rect(self.erased)).filter(|rect| rect.width > 0)
    }

    /// Number of output pixels.
    pub(crate) fn area(&self) -> usize {
        self.size as usize * self.size as usize
    }

    pub(crate) fn as_resize(&self) -> Resize {
        let (full, offset, size) = (self.full as usize, self.offset as usize, self.size as usize);
        let window = Rect { left: offset, top: offset, width: size, height: size };
        Resize { source: rect(self.source), width: full, height: full, window }
    }

    pub(crate) fn as_warp(&self) -> Warp {
        let [a, b, c, d, e, f] = self.matrix.map(f64::from);
        let size = self.size as usize;
        Warp { matrix: [[a, b, c], [d, e, f]], width: size, height: size, border: self.border as u8 }
    }

    /// Refuses numbers that cannot be applied to this image.
    pub(crate) fn check(&self, index: usize, image: Image<'_>) -> Result<()> {
        let Image { height, width, .. } = image;
        match self.misfit(image) {
            Some(reason) => Err(Error::GeometryMismatch { index, width, height, reason }),
            None => Ok(()),
        }
    }

    fn misfit(&self, image: Image<'_>) -> Option<&'static str> {
        let within = |[left, top, width, height]: [u32; 4], columns: usize, rows: usize| {
            let ends = |start: u32, len: u32| u64::from(start) + u64::from(len);
            height > 0 && width > 0 && ends(left, width) <= columns as u64 && ends(top, height) <= rows as u64
        };
        let size = self.size as usize;
        if size == 0 {
            Some("its size is 0")
        } else if self.is_warp() && !self.matrix.iter().all(|v| v.is_finite()) {
            Some("its matrix is not finite")
        } else if !self.is_warp() && !within(self.source, image.width, image.height) {
            Some("its source is empty or does not lie in the image")
        } else if !self.is_warp() && !within([self.offset, 0, self.size, 1], self.full as usize, 1) {
            Some("its output does not lie in the resized source")
        } else if self.erased[2] > 0 && !within(self.erased, size, size) {
            Some("its erased part does not lie in the output")
        } else if !(self.gain.is_finite() && self.bias.is_finite()) {
            Some("its colour change is not finite")
        } else if self.border > 255 {
            Some("its border is no byte")
        } else {
            None
        }
    }

    /// The map from positions in the image to positions in the output, before a flip, as two rows of three; `None` for
    /// a matrix that cannot be inverted.
    pub(crate) fn to_output(self) -> Option<[[f64; 3]; 2]> {
        if self.is_warp() {
            return invert(self.as_warp().matrix);
        }
        let [left, top, width, height] = self.source.map(f64::from);
        let (full, offset) = (f64::from(self.full), f64::from(self.offset));
        let (across, down) = (full / width, full / height);
        Some([[across, 0.0, -left * across - offset], [0.0, down, -top * down - offset]])
    }
}

fn rect([left, top, width, height]: [u32; 4]) -> Rect {
    Rect { left: left as usize, top: top as usize, width: width as usize, height: height as usize }
}

/// The inverse of an affine map, if it has one.
pub(crate) fn invert([[a, b, c], [d, e, f]]: [[f64; 3]; 2]) -> Option<[[f64; 3]; 2]> {
    let det = a * e - b * d;
    let inverse = [[e / det, -b / det, (b * f - e * c) / det], [-d / det, a / det, (d * c - a * f) / det]];
    inverse.as_flattened().iter().all(|v| v.is_finite()).then_some(inverse)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: Image<'_> = Image { pixels: &[0; 48], height: 6, width: 8, channels: 1 };

    fn misfit(geometry: Geometry) -> Option<String> {
        geometry.check(3, IMAGE).err().map(|e| e.to_string())
    }

    #[test]
    fn what_fits_is_taken() {
        for geometry in [
            Geometry::whole(IMAGE, 5),
            Geometry::centre(Rect::of_size(IMAGE.width, IMAGE.height), 5, 2),
            Geometry::warp([0.0; 6], 5),
        ] {
            assert_eq!(misfit(geometry), None);
            assert_eq!(geometry.flipped().flipped(), geometry);
            assert!(geometry.flipped().is_flipped());
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let outside = Rect { left: 4, top: 0, width: 5, height: 6 };
        let message = "geometry 3 does not fit its 8 x 6 image: its source is empty or does not lie in the image";
        assert_eq!(misfit(Geometry::resize(outside, 5)).as_deref(), Some(message));
        let whole = Geometry::whole(IMAGE, 5);
        let all = [
            Geometry { size: 0, ..whole },
            Geometry { source: [0, 0, 0, 6], ..whole },
            Geometry { source: [u32::MAX, 0, 8, 6], ..whole },
            Geometry { full: 4, ..whole },
            Geometry { offset: 1, ..whole },
            Geometry { erased: [4, 0, 2, 1], ..whole },
            Geometry { gain: f32::NAN, ..whole },
            Geometry { bias: f32::INFINITY, ..whole },
            Geometry { border: 256, ..whole },
            Geometry::warp([f32::NAN; 6], 5),
        ];
        assert!(all.into_iter().all(|geometry| misfit(geometry).is_some()));
    }

    #[test]
    fn to_output_undoes_the_matrix() {
        let geometry = Geometry::warp([0.9, 0.2, 1.0, -0.1, 1.1, 2.0], 5);
        let [forward, back] = [geometry.as_warp().matrix, geometry.to_output().expect("an inverse")];
        let apply = |m: [[f64; 3]; 2], [x, y]: [f64; 2]| m.map(|[a, b, c]| a * x + b * y + c);
        let [x, y] = apply(back, apply(forward, [3.0, 4.0]));
        assert!((x - 3.0).abs() < 1e-6 && (y - 4.0).abs() < 1e-6, "{x} {y}");
        assert_eq!(Geometry::warp([1.0, 2.0, 0.0, 2.0, 4.0, 0.0], 5).to_output(), None);
    }
}
