//! Windows of an image batch, gathered as the rows of a matrix: `(pixels, taps * I)`.

use super::ConvShape;
use crate::simd::Isa;
use crate::simd::copy::{self, Runs};
use std::ops::Range;

/// A range of the taps `ky * Kw + kx` of a window.
pub(super) type Taps = Range<usize>;

/// The part of a window that lies inside the image: some rows of taps, equally long.
struct Part {
    /// Place of the first row in the window, and in the batch.
    window: usize,
    image: usize,
    runs: Runs,
}

/// Calls `visit` for the parts of pixel `p`'s window, cut to `taps`, that lie inside the image.
///
/// A cut in the middle of a row of taps makes up to three parts; no cut makes one.
#[inline(always)]
fn parts(s: &ConvShape, taps: &Taps, p: usize, mut visit: impl FnMut(Part)) {
    let (ho, wo, i, kw) = (s.out_height(), s.out_width(), s.in_channels, s.kernel[1]);
    let (image, pixel) = (p / (ho * wo), p % (ho * wo));
    let (top, left) = (pixel / wo * s.stride[0], pixel % wo * s.stride[1]);
    // Taps whose row and column lie inside the image.
    let ys = s.padding[0].saturating_sub(top)..(s.height + s.padding[0]).saturating_sub(top).min(s.kernel[0]);
    let xs = s.padding[1].saturating_sub(left)..(s.width + s.padding[1]).saturating_sub(left).min(kw);
    let mut rows = |ys: Range<usize>, xs: Range<usize>| {
        if !ys.is_empty() && !xs.is_empty() {
            let (y, x) = (top + ys.start - s.padding[0], left + xs.start - s.padding[1]);
            let runs = Runs { count: ys.len(), len: xs.len() * i, from_stride: s.width * i, to_stride: kw * i };
            let window = (ys.start * kw + xs.start - taps.start) * i;
            visit(Part { window, image: ((image * s.height + y) * s.width + x) * i, runs });
        }
    };
    let (first, last) = (taps.start.div_ceil(kw), taps.end / kw);
    if first > last {
        // All taps lie in one row, which they neither begin nor end.
        let row = taps.start / kw;
        let cut = taps.start % kw..taps.end % kw;
        return rows(meet(&ys, row..row + 1), meet(&xs, cut));
    }
    if !taps.start.is_multiple_of(kw) {
        rows(meet(&ys, first - 1..first), meet(&xs, taps.start % kw..kw));
    }
    rows(meet(&ys, first..last), xs.clone());
    if !taps.end.is_multiple_of(kw) {
        rows(meet(&ys, last..last + 1), meet(&xs, 0..taps.end % kw));
    }
}

fn meet(a: &Range<usize>, b: Range<usize>) -> Range<usize> {
    a.start.max(b.start)..a.end.min(b.end)
}

/// Whether every tap of pixel `p` lies inside the image.
#[inline(always)]
fn is_inner(s: &ConvShape, p: usize) -> bool {
    let (ho, wo) = (s.out_height(), s.out_width());
    let inside = |at: usize, size: usize, axis: usize| {
        let start = at * s.stride[axis];
        start >= s.padding[axis] && start + s.kernel[axis] <= size + s.padding[axis]
    };
    let pixel = p % (ho * wo);
    inside(pixel / wo, s.height, 0) && inside(pixel % wo, s.width, 1)
}

/// Gathers the windows of output pixels `pixels` of the batch into `out (pixels, taps * I)`, zeros outside the image.
pub(super) fn gather(isa: Isa, s: &ConvShape, taps: &Taps, x: &[f32], pixels: Range<usize>, out: &mut [f32]) {
    for (p, out) in pixels.zip(out.chunks_exact_mut(taps.len() * s.in_channels)) {
        if !is_inner(s, p) {
            out.fill(0.0);
        }
        parts(s, taps, p, |part| copy::copy(isa, &part.runs, &x[part.image..], &mut out[part.window..]));
    }
}

/// Adds whole windows of output pixels `pixels` back to where they came from; `dx` starts at image `first`.
pub(super) fn scatter(isa: Isa, s: &ConvShape, windows: &[f32], pixels: Range<usize>, first: usize, dx: &mut [f32]) {
    let skip = first * s.height * s.width * s.in_channels;
    let taps = 0..s.kernel[0] * s.kernel[1];
    for (p, window) in pixels.zip(windows.chunks_exact(s.window_len())) {
        parts(s, &taps, p, |part| {
            let runs = Runs { from_stride: part.runs.to_stride, to_stride: part.runs.from_stride, ..part.runs };
            copy::add(isa, &runs, &window[part.window..], &mut dx[part.image - skip..]);
        });
    }
}
