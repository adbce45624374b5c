//! Draws as handwriting needs them: single precision, bounded, with arithmetic that is the same everywhere.

use cn_random::{Draws, Purpose};

/// A stream of keyed draws.
pub(crate) struct Noise(Draws);

impl Noise {
    pub(crate) fn new(seed: u64, key: (u32, u32), purpose: Purpose) -> Self {
        Self(Draws::new(seed, key.0, key.1, purpose))
    }

    /// Uniform in [0, 1).
    pub(crate) fn uniform(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    pub(crate) fn range(&mut self, lo: f32, hi: f32) -> f32 {
        lo + (hi - lo) * self.uniform()
    }

    /// Normal with mean 0 and deviation 1, cut at 2.6 deviations: people have off days, not broken arms.
    pub(crate) fn normal(&mut self) -> f32 {
        (self.0.normal() as f32).clamp(-2.6, 2.6)
    }

    /// A factor around 1 whose logarithm has this deviation.
    pub(crate) fn factor(&mut self, deviation: f32) -> f32 {
        exp(self.normal() * deviation)
    }

    pub(crate) fn chance(&mut self, probability: f32) -> bool {
        self.uniform() < probability
    }

    /// An index, each as likely as its weight says.
    pub(crate) fn pick(&mut self, weights: impl Iterator<Item = f32> + Clone) -> usize {
        let mut left = self.uniform() * weights.clone().sum::<f32>();
        let mut last = 0;
        for (i, weight) in weights.enumerate() {
            last = i;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
        last
    }
}

/// `e^x` to about a percent for |x| <= 3. Not the library's: that one differs between platforms.
pub(crate) fn exp(x: f32) -> f32 {
    let mut y = 1.0 + x / 256.0;
    for _ in 0..8 {
        y *= y;
    }
    y
}

/// Smooth noise along a line: normal values at knots one `period` apart, smoothly blended.
pub(crate) struct Wave {
    knots: Vec<f32>,
    period: f32,
}

impl Wave {
    /// Noise for the positions 0 to `length`.
    pub(crate) fn new(noise: &mut Noise, length: f32, period: f32) -> Self {
        let n = (length / period) as usize + 3;
        Self { knots: (0..n).map(|_| noise.normal()).collect(), period }
    }

    pub(crate) fn at(&self, position: f32) -> f32 {
        let t = (position / self.period).max(0.0);
        let i = (t as usize).min(self.knots.len() - 2);
        let f = (t - i as f32).min(1.0);
        let f = f * f * (3.0 - 2.0 * f);
        self.knots[i] + (self.knots[i + 1] - self.knots[i]) * f
    }
}
