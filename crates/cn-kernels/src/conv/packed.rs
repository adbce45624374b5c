//! Weights in the order in which matrix products read them.

use super::ConvShape;
use super::windows::Taps;
use crate::scratch::Scratch;
use crate::simd::Isa;
use crate::simd::matmul::{PANEL, Panel};
use crate::simd::pairs::{Along, Matrix};
use rayon::prelude::*;

/// A matrix of `rows` by `cols`, cut into panels of [`PANEL`] columns, each `(rows, PANEL)` and contiguous, in pairs of
/// rows where products read such.
#[derive(Debug)]
pub(super) struct Packed {
    data: Scratch,
    rows: usize,
    cols: usize,
    isa: Isa,
}

/// Numbers that a matrix of `rows` by `cols` takes.
pub(super) fn len([rows, cols]: [usize; 2]) -> usize {
    rows * cols.div_ceil(PANEL) * PANEL
}

impl Packed {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.data.len()
    }

    /// Fills each panel by `fill(first column, columns, panel)`, in parallel; columns past the last stay zero.
    fn new(isa: Isa, [rows, cols]: [usize; 2], fill: impl Fn(usize, usize, &mut [f32]) + Send + Sync) -> Self {
        let mut data = Scratch::new(len([rows, cols]));
        if !cols.is_multiple_of(PANEL) {
            data.fill(0.0);
        }
        data.par_chunks_mut(rows * PANEL).enumerate().for_each(|(p, panel)| {
            fill(p * PANEL, (cols - p * PANEL).min(PANEL), panel);
            isa.pair(Along::Columns, Matrix { rows, width: PANEL }, panel);
        });
        Self { data, rows, cols, isa }
    }

    /// The weight as `(Kh Kw I, O)`: right-hand side of the forward pass.
    pub(super) fn forward(isa: Isa, s: &ConvShape, w: &[f32]) -> Self {
        let (i, taps) = (s.in_channels, s.kernel[0] * s.kernel[1]);
        Self::new(isa, [s.window_len(), s.out_channels], |first, cols, panel| {
            // Some input channels at a time, so that the reads and the writes both stay in the first-level cache.
            for channels in (0..i).step_by(16) {
                for o in 0..cols {
                    let w = &w[(first + o) * i * taps..][..i * taps];
                    for c in channels..(channels + 16).min(i) {
                        for tap in 0..taps {
                            panel[(tap * i + c) * PANEL + o] = w[c * taps + tap];
                        }
                    }
                }
            }
        })
    }

    /// The weight as `(O, Kh Kw I)`: right-hand side of the product that gives the windows' gradient.
    pub(super) fn transposed(isa: Isa, s: &ConvShape, w: &[f32]) -> Self {
        let (i, taps) = (s.in_channels, s.kernel[0] * s.kernel[1]);
        Self::new(isa, [s.out_channels, s.window_len()], |first, cols, panel| {
            for (o, row) in panel.chunks_exact_mut(PANEL).enumerate() {
                let w = &w[o * i * taps..][..i * taps];
                for (at, row) in (first..first + cols).zip(row) {
                    *row = w[at % i * taps + at / i];
                }
            }
        })
    }

    pub(super) fn panels(&self) -> usize {
        self.cols.div_ceil(PANEL)
    }

    /// Rows of panel `p` from `first` on, which begins a pair.
    pub(super) fn panel(&self, p: usize, first: usize) -> Panel<'_> {
        Panel {
            data: &self.data[(p * self.rows + self.isa.places(first)) * PANEL..(p + 1) * self.rows * PANEL],
            stride: PANEL,
            cols: (self.cols - p * PANEL).min(PANEL),
        }
    }
}

/// Cuts the taps of a window into runs of at most about `limit` matrix columns, at least one tap each.
pub(super) fn tap_chunks(s: &ConvShape, limit: usize) -> Vec<Taps> {
    let taps = s.kernel[0] * s.kernel[1];
    let most = (limit / s.in_channels).clamp(1, taps);
    // A run of odd length would end in the middle of a pair.
    let step = if s.in_channels.is_multiple_of(2) || most == 1 || most == taps { most } else { most - most % 2 };
    (0..taps).step_by(step).map(|t| t..(t + step).min(taps)).collect()
}
