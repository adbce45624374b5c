use serde::Serialize;

/// So many of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rate {
    /// Those that are right.
    pub hits: usize,
    /// All.
    pub total: usize,
}

/// The 97.5 % point of the standard normal distribution.
const Z95: f64 = 1.959_963_984_540_054;

impl Rate {
    /// Counts the true ones.
    pub(crate) fn count(flags: impl IntoIterator<Item = bool>) -> Self {
        let mut rate = Self { hits: 0, total: 0 };
        for flag in flags {
            rate.hits += usize::from(flag);
            rate.total += 1;
        }
        rate
    }

    /// `hits / total`; NaN of nothing.
    #[must_use]
    pub fn share(self) -> f64 {
        self.hits as f64 / self.total as f64
    }

    /// Wilson's 95 % score interval (Wilson 1927, without continuity correction); `[0, 1]` of nothing.
    ///
    /// Chosen over a bootstrap because the rates here are close to 1, where resampling images that are all right gives
    /// an interval of no width, and because it needs no random numbers. It takes the images as independent draws: when
    /// images of the same writers are easier together or harder together, the true interval is wider.
    #[must_use]
    pub fn wilson95(self) -> [f64; 2] {
        if self.total == 0 {
            return [0.0, 1.0];
        }
        let (n, p, z2) = (self.total as f64, self.share(), Z95 * Z95);
        let centre = p + z2 / (2.0 * n);
        let half = Z95 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
        let at = |bound: f64| (bound / (1.0 + z2 / n)).clamp(0.0, 1.0);
        // Rounding must not push an end past the rate itself.
        [at(centre - half).min(p), at(centre + half).max(p)]
    }
}
