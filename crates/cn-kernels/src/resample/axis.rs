//! Weights of the bilinear filter along one axis.

/// Fractional bits of a weight: 8 bits of pixel and 22 of weight leave two for the sum (Pillow's `PRECISION_BITS`).
pub(super) const WEIGHT_BITS: u32 = 22;

/// For each output position, which inputs it sees and how much of each.
///
/// Every window has the same number of taps: those cut at a border are moved inwards and filled with zero weights,
/// which change no sum and leave the inner loops without a case.
#[derive(Debug)]
pub(super) struct Axis {
    taps: usize,
    starts: Vec<u32>,
    weights: Vec<i32>,
}

impl Axis {
    /// Pillow's `precompute_coeffs` and `normalize_coeffs_8bpc` for the triangle filter.
    ///
    /// # Panics
    ///
    /// If a size is 0 or beyond `u32`.
    pub(super) fn bilinear(n_in: usize, n_out: usize) -> Self {
        assert!(n_in > 0 && n_out > 0, "an axis has a length");
        assert!(u32::try_from(n_in).is_ok(), "an axis of {n_in} pixels");
        let scale = n_in as f64 / n_out as f64;
        let support = scale.max(1.0);
        let windows: Vec<_> = (0..n_out).map(|o| window_of(o, n_in, scale, support)).collect();
        let taps = windows.iter().map(|(_, weights)| weights.len()).max().unwrap_or(1);
        let mut axis = Self { taps, starts: Vec::with_capacity(n_out), weights: vec![0; n_out * taps] };
        for ((low, weights), row) in windows.iter().zip(axis.weights.chunks_exact_mut(taps)) {
            let start = (*low).min(n_in - taps);
            row[low - start..][..weights.len()].copy_from_slice(weights);
            axis.starts.push(start as u32);
        }
        axis
    }

    pub(super) fn taps(&self) -> usize {
        self.taps
    }

    /// First input and weights of output `o`.
    pub(super) fn window(&self, o: usize) -> (usize, &[i32]) {
        (self.starts[o] as usize, &self.weights[o * self.taps..][..self.taps])
    }

    /// First inputs and weights of the outputs from `first` on.
    pub(super) fn from(&self, first: usize) -> (&[u32], &[i32]) {
        (&self.starts[first..], &self.weights[first * self.taps..])
    }

    /// Inputs `[first, last)` that `len` outputs from `o` on depend on.
    pub(super) fn span(&self, o: usize, len: usize) -> (usize, usize) {
        let first = self.starts[o] as usize;
        (first, self.starts[o + len - 1] as usize + self.taps)
    }
}

/// First input that output `o` sees, and its integer weights.
fn window_of(o: usize, n_in: usize, scale: f64, support: f64) -> (usize, Vec<i32>) {
    let centre = (o as f64 + 0.5) * scale;
    // Truncation of a negative number gives 0 here as there.
    let low = (centre - support + 0.5) as usize;
    let high = ((centre + support + 0.5) as usize).min(n_in);
    let per_support = 1.0 / support;
    let triangle = |i: usize| (1.0 - ((i as f64 - centre + 0.5) * per_support).abs()).max(0.0);
    let weights: Vec<f64> = (low..high).map(triangle).collect();
    let sum: f64 = weights.iter().sum();
    let to_fixed = |w: f64| (0.5 + w / sum * f64::from(1u32 << WEIGHT_BITS)) as i32;
    (low, weights.into_iter().map(to_fixed).collect())
}
