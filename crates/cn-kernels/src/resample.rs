//! Resampling of 8-bit images: Pillow's two-pass bilinear resize, bit for bit, and affine warps.
//!
//! Both hand over finished rows of bytes one after another, so that what comes next (a table of normalised values, a
//! copy) runs while the row is in the first cache. A [`Resampler`] keeps weight tables and buffers between images; have
//! one per thread. Only integers decide about pixels, so the bytes are the same on every machine.
//!
//! ```
//! use cn_kernels::resample::{ImageView, Rect, Resampler, Resize};
//!
//! let pixels = [0, 100, 200, 100]; // 2 x 2, one channel
//! let image = ImageView { pixels: &pixels, height: 2, width: 2, channels: 1 };
//! let mut out = [0; 8];
//! Resampler::new().resize(image, &Resize::whole(image, 4, 2), &mut out);
//! assert_eq!(out, [0, 25, 75, 100, 200, 175, 125, 100]);
//! ```

mod axis;
mod passes;
mod warp;

use std::collections::HashMap;
use std::sync::Arc;

use axis::Axis;
pub use warp::Warp;

/// Weight tables kept by one [`Resampler`]; past this many, all are dropped. Crops of 64 px images need about 60.
const MAX_TABLES: usize = 512;

/// A borrowed image: `(H, W, C)` bytes, channels last, rows packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageView<'a> {
    /// The bytes, `height * width * channels` of them.
    pub pixels: &'a [u8],
    /// Rows.
    pub height: usize,
    /// Pixels a row.
    pub width: usize,
    /// Bytes a pixel.
    pub channels: usize,
}

impl<'a> ImageView<'a> {
    fn check(&self) {
        assert!(
            self.height > 0 && self.width > 0 && self.channels > 0,
            "the image is empty: {}x{}x{}",
            self.height,
            self.width,
            self.channels
        );
        assert_eq!(self.pixels.len(), self.height * self.width * self.channels, "bytes of an image");
    }

    /// Row `y`, from pixel `x` on, `width` pixels.
    fn row(&self, y: usize, x: usize, width: usize) -> &'a [u8] {
        let start = (y * self.width + x) * self.channels;
        &self.pixels[start..start + width * self.channels]
    }
}

/// A rectangle of pixels, `[left, left + width) x [top, top + height)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rect {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Rect {
    /// The rectangle of this size at the origin.
    #[must_use]
    pub fn of_size(width: usize, height: usize) -> Self {
        Self { left: 0, top: 0, width, height }
    }

    fn lies_in(&self, width: usize, height: usize) -> bool {
        let fits =
            |start: usize, len: usize, end: usize| len > 0 && start.checked_add(len).is_some_and(|last| last <= end);
        fits(self.left, self.width, width) && fits(self.top, self.height, height)
    }
}

/// What a resize does: cut `source` out, resize it to `width` x `height`, keep `window` of that.
///
/// Pixels outside `source` have no influence (Pillow's `crop` before `resize`, not its `box` argument), and what lies
/// outside `window` is not computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resize {
    /// The part of the image to take, in its pixels.
    pub source: Rect,
    /// Width to resize `source` to.
    pub width: usize,
    /// Height to resize `source` to.
    pub height: usize,
    /// The part of the `width` x `height` result to return.
    pub window: Rect,
}

impl Resize {
    /// The whole image to `width` x `height`.
    #[must_use]
    pub fn whole(image: ImageView<'_>, width: usize, height: usize) -> Self {
        Self { source: Rect::of_size(image.width, image.height), width, height, window: Rect::of_size(width, height) }
    }

    fn check(&self, image: &ImageView<'_>) {
        image.check();
        assert!(
            self.source.lies_in(image.width, image.height),
            "{:?} does not lie in a {}x{} image",
            self.source,
            image.width,
            image.height
        );
        assert!(
            self.window.lies_in(self.width, self.height),
            "{:?} does not lie in a {}x{} result",
            self.window,
            self.width,
            self.height
        );
    }
}

/// Resizes and warps images; keeps weight tables and buffers between them.
///
/// Results do not depend on what was resampled before.
#[derive(Debug, Default)]
pub struct Resampler {
    tables: HashMap<(usize, usize), Arc<Axis>>,
    /// Rows of the source after the horizontal pass, or the padded source of a warp.
    scratch: Vec<u8>,
    sums: Vec<i32>,
    row: Vec<u8>,
}

impl Resampler {
    /// A resampler with empty tables; allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Pillow's BILINEAR resize (Pillow 2.7 and later, `ImagingResample` on 8-bit images), bit for bit.
    ///
    /// Separable triangle filter that widens when it shrinks; horizontal pass first, bytes between the passes, weights
    /// of 22 fractional bits, windows cut at the borders; a pass that changes no size is skipped. Channels do not mix,
    /// and no channel counts as alpha (Pillow multiplies the colours of RGBA and LA images by it first).
    ///
    /// `out`: `(window.height, window.width, channels)`.
    ///
    /// # Panics
    ///
    /// If the image's length does not match its shape, a rectangle is empty or does not lie where it should, or the
    /// length of `out` is not that of the window.
    pub fn resize(&mut self, image: ImageView<'_>, resize: &Resize, out: &mut [u8]) {
        let row_len = resize.window.width * image.channels;
        assert_eq!(out.len(), row_len * resize.window.height, "bytes of the output");
        self.resize_rows(image, resize, &mut |y, row| out[y * row_len..][..row_len].copy_from_slice(row));
    }

    /// [`resize`](Self::resize), row by row: `sink` receives the index of a row of the window and its bytes
    /// `(window.width, channels)`, in order.
    ///
    /// # Panics
    ///
    /// As [`resize`](Self::resize).
    pub fn resize_rows(&mut self, image: ImageView<'_>, resize: &Resize, sink: &mut dyn FnMut(usize, &[u8])) {
        resize.check(&image);
        let Resize { source, window, .. } = *resize;
        let across = (source.width != resize.width).then(|| self.table(source.width, resize.width));
        let down = (source.height != resize.height).then(|| self.table(source.height, resize.height));
        // Rows of the source that the window depends on.
        let (first, last) = match &down {
            Some(axis) => axis.span(window.top, window.height),
            None => (window.top, window.top + window.height),
        };
        let row_len = window.width * image.channels;
        let source_row = |y| image.row(source.top + y, source.left, source.width);
        if let Some(axis) = &across {
            self.scratch.resize((last - first) * row_len, 0);
            for (y, out) in (first..last).zip(self.scratch.chunks_exact_mut(row_len)) {
                passes::across(axis, window.left, source_row(y), image.channels, out);
            }
        }
        let scratch = &self.scratch;
        let input_row = |y: usize| match &across {
            Some(_) => &scratch[(y - first) * row_len..][..row_len],
            None => &source_row(y)[window.left * image.channels..][..row_len],
        };
        let Some(axis) = &down else {
            return (first..last).enumerate().for_each(|(y, from)| sink(y, input_row(from)));
        };
        self.row.resize(row_len, 0);
        for y in 0..window.height {
            let (start, weights) = axis.window(window.top + y);
            passes::down(weights, |tap| input_row(start + tap), &mut self.sums, &mut self.row);
            sink(y, &self.row);
        }
    }

    /// Maps an image through an affine matrix; see [`Warp`] for what it means.
    ///
    /// `out`: `(warp.height, warp.width, channels)`.
    ///
    /// # Panics
    ///
    /// If the image's length does not match its shape, or the length of `out` is not that of the result.
    pub fn warp(&mut self, image: ImageView<'_>, warp: &Warp, out: &mut [u8]) {
        let row_len = warp.width * image.channels;
        assert_eq!(out.len(), row_len * warp.height, "bytes of the output");
        self.warp_rows(image, warp, &mut |y, row| out[y * row_len..][..row_len].copy_from_slice(row));
    }

    /// [`warp`](Self::warp), row by row: `sink` receives the index of a row and its bytes `(warp.width, channels)`.
    ///
    /// # Panics
    ///
    /// If the image's length does not match its shape.
    pub fn warp_rows(&mut self, image: ImageView<'_>, warp: &Warp, sink: &mut dyn FnMut(usize, &[u8])) {
        image.check();
        let padded = warp::Padded::new(image, warp.border, &mut self.scratch);
        self.row.resize(warp.width * image.channels, 0);
        for y in 0..warp.height {
            padded.warp_row(warp, y, &mut self.row);
            sink(y, &self.row);
        }
    }

    fn table(&mut self, n_in: usize, n_out: usize) -> Arc<Axis> {
        if self.tables.len() >= MAX_TABLES {
            self.tables.clear();
        }
        let table = self.tables.entry((n_in, n_out));
        Arc::clone(table.or_insert_with(|| Arc::new(Axis::bilinear(n_in, n_out))))
    }
}

#[cfg(test)]
mod tests;
