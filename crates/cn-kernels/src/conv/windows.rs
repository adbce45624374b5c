//! Windows of an image batch, gathered as the rows of a matrix: `(pixels, taps * I)`.

use super::ConvShape;
use std::ops::Range;

/// A range of the taps `ky * Kw + kx` of a window.
pub(super) type Taps = Range<usize>;

/// One row of taps of one output pixel that lies inside the image: where in the window, where in the batch, how long.
struct Run {
    window: usize,
    image: usize,
    len: usize,
}

/// Calls `visit` for each run of taps of pixel `p` that lies inside the image.
#[inline(always)]
fn runs(s: &ConvShape, taps: &Taps, p: usize, mut visit: impl FnMut(Run)) {
    let (ho, wo, i, kw) = (s.out_height(), s.out_width(), s.in_channels, s.kernel[1]);
    let (image, pixel) = (p / (ho * wo), p % (ho * wo));
    let (top, left) = (pixel / wo * s.stride[0], pixel % wo * s.stride[1]);
    // Taps whose column lies inside the image.
    let (kx_lo, kx_hi) = (s.padding[1].saturating_sub(left), (s.width + s.padding[1]).saturating_sub(left).min(kw));
    for ky in taps.start / kw..taps.end.div_ceil(kw) {
        let y = top + ky;
        if y < s.padding[0] || y - s.padding[0] >= s.height {
            continue;
        }
        let lo = kx_lo.max(taps.start.saturating_sub(ky * kw));
        let hi = kx_hi.min(taps.end - ky * kw);
        if lo < hi {
            let at = (image * s.height + y - s.padding[0]) * s.width + left + lo - s.padding[1];
            visit(Run { window: (ky * kw + lo - taps.start) * i, image: at * i, len: (hi - lo) * i });
        }
    }
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
pub(super) fn gather(s: &ConvShape, taps: &Taps, x: &[f32], pixels: Range<usize>, out: &mut [f32]) {
    for (p, out) in pixels.zip(out.chunks_exact_mut(taps.len() * s.in_channels)) {
        if !is_inner(s, p) {
            out.fill(0.0);
        }
        runs(s, taps, p, |run| {
            out[run.window..run.window + run.len].copy_from_slice(&x[run.image..run.image + run.len]);
        });
    }
}

/// Adds windows of output pixels `pixels` back to where they came from; `dx` starts at image `first`.
pub(super) fn scatter(s: &ConvShape, taps: &Taps, windows: &[f32], pixels: Range<usize>, first: usize, dx: &mut [f32]) {
    let skip = first * s.height * s.width * s.in_channels;
    for (p, window) in pixels.zip(windows.chunks_exact(taps.len() * s.in_channels)) {
        runs(s, taps, p, |run| {
            let to = &mut dx[run.image - skip..run.image - skip + run.len];
            to.iter_mut().zip(&window[run.window..run.window + run.len]).for_each(|(d, w)| *d += *w);
        });
    }
}
