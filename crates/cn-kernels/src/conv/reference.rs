//! Any convolution, of any element type, as matrix products over gathered windows: what `f64` and tests use.

use super::{ConvShape, Write};
use crate::Float;
use crate::linear::{Rows, View, gemm};
use rayon::prelude::*;

/// Output pixels per block: their windows stay in the second-level cache.
const BLOCK: usize = 128;

pub(super) fn forward<T: Float>(s: &ConvShape, x: &[T], w: &[T], y: &mut [T]) {
    let (o, k) = (s.out_channels, s.window_len());
    let w = windows_first(s, w);
    y.par_chunks_mut(BLOCK * o).enumerate().for_each_init(
        || vec![T::ZERO; BLOCK * k],
        |windows, (block, y)| {
            let pixels = y.len() / o;
            gather(s, x, block * BLOCK, &mut windows[..pixels * k]);
            gemm(
                [pixels, o, k],
                View::rows(windows, k),
                View::rows(&w, o),
                Rows { data: y, stride: o, write: Write::Set },
            );
        },
    );
}

pub(super) fn backward_input<T: Float>(s: &ConvShape, dy: &[T], w: &[T], dx: &mut [T], write: Write) {
    let (o, k) = (s.out_channels, s.window_len());
    let w = windows_first(s, w);
    let out_pixels = s.out_height() * s.out_width();
    let image_len = s.height * s.width * s.in_channels;
    dx.par_chunks_mut(image_len).zip(dy.par_chunks(out_pixels * o)).for_each_init(
        || vec![T::ZERO; BLOCK * k],
        |windows, (dx, dy)| {
            if write == Write::Set {
                dx.fill(T::ZERO);
            }
            for (block, dy) in dy.chunks(BLOCK * o).enumerate() {
                let pixels = dy.len() / o;
                let windows = &mut windows[..pixels * k];
                let out = Rows { data: &mut *windows, stride: k, write: Write::Set };
                gemm([pixels, k, o], View::rows(dy, o), View::rows(&w, o).transposed(), out);
                scatter(s, windows, block * BLOCK, dx);
            }
        },
    );
}

pub(super) fn backward_weight<T: Float>(s: &ConvShape, x: &[T], dy: &[T], dw: &mut [T]) {
    let (o, k) = (s.out_channels, s.window_len());
    // As many partial sums as fit into some megabytes: a function of the shape, added in order below.
    let parts = (4_000_000 / (k * o)).clamp(1, 8);
    let piece = s.batch.div_ceil(parts);
    let out_pixels = s.out_height() * s.out_width();
    let sums = crate::parallel::map_pieces(s.batch, piece, |images| {
        let mut sum = vec![T::ZERO; k * o];
        let mut windows = vec![T::ZERO; BLOCK * k];
        for first in (images.start * out_pixels..images.end * out_pixels).step_by(BLOCK) {
            let pixels = BLOCK.min(images.end * out_pixels - first);
            gather(s, x, first, &mut windows[..pixels * k]);
            let dy = &dy[first * o..(first + pixels) * o];
            gemm(
                [k, o, pixels],
                View::rows(&windows, k).transposed(),
                View::rows(dy, o),
                Rows { data: &mut sum, stride: o, write: Write::Add },
            );
        }
        sum
    });
    for sum in &sums {
        add_windows_first(s, sum, dw);
    }
}

/// `(O, I, Kh, Kw)` to `(Kh, Kw, I, O)`.
fn windows_first<T: Float>(s: &ConvShape, w: &[T]) -> Vec<T> {
    let (o, i, taps) = (s.out_channels, s.in_channels, s.kernel[0] * s.kernel[1]);
    let mut out = vec![T::ZERO; w.len()];
    for (oc, w) in w.chunks_exact(i * taps).enumerate() {
        for (ic, w) in w.chunks_exact(taps).enumerate() {
            for (tap, w) in w.iter().enumerate() {
                out[(tap * i + ic) * o + oc] = *w;
            }
        }
    }
    out
}

/// Adds `(Kh, Kw, I, O)` to `(O, I, Kh, Kw)`.
fn add_windows_first<T: Float>(s: &ConvShape, sum: &[T], dw: &mut [T]) {
    let (o, i, taps) = (s.out_channels, s.in_channels, s.kernel[0] * s.kernel[1]);
    for (oc, dw) in dw.chunks_exact_mut(i * taps).enumerate() {
        for (ic, dw) in dw.chunks_exact_mut(taps).enumerate() {
            for (tap, dw) in dw.iter_mut().enumerate() {
                *dw += sum[(tap * i + ic) * o + oc];
            }
        }
    }
}

/// Calls `visit(position in the block's windows, position in the image batch or none, length)` for each run of taps.
fn visit_rows(s: &ConvShape, first: usize, pixels: usize, mut visit: impl FnMut(usize, Option<usize>)) {
    let (ho, wo, i) = (s.out_height(), s.out_width(), s.in_channels);
    for p in 0..pixels {
        let (image, pixel) = ((first + p) / (ho * wo), (first + p) % (ho * wo));
        let (oy, ox) = (pixel / wo, pixel % wo);
        for ky in 0..s.kernel[0] {
            let iy = (oy * s.stride[0] + ky).checked_sub(s.padding[0]).filter(|&iy| iy < s.height);
            for kx in 0..s.kernel[1] {
                let ix = (ox * s.stride[1] + kx).checked_sub(s.padding[1]).filter(|&ix| ix < s.width);
                let at = (p * s.kernel[0] * s.kernel[1] + ky * s.kernel[1] + kx) * i;
                let from = iy.zip(ix).map(|(iy, ix)| ((image * s.height + iy) * s.width + ix) * i);
                visit(at, from);
            }
        }
    }
}

fn gather<T: Float>(s: &ConvShape, x: &[T], first: usize, windows: &mut [T]) {
    let i = s.in_channels;
    visit_rows(s, first, windows.len() / s.window_len(), |at, from| match from {
        Some(from) => windows[at..at + i].copy_from_slice(&x[from..from + i]),
        None => windows[at..at + i].fill(T::ZERO),
    });
}

/// Adds windows of one image back to where they came from; `first` counts pixels of that image.
fn scatter<T: Float>(s: &ConvShape, windows: &[T], first: usize, dx: &mut [T]) {
    let i = s.in_channels;
    visit_rows(s, first, windows.len() / s.window_len(), |at, to| {
        if let Some(to) = to {
            dx[to..to + i].iter_mut().zip(&windows[at..at + i]).for_each(|(d, w)| *d += *w);
        }
    });
}
