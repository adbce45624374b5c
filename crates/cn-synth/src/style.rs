//! What handwriting may look like: how each trait spreads between writers and within one.

use std::ops::RangeInclusive;

use crate::error::Error;
use crate::noise::Noise;

/// The image sides that can be drawn, in pixels.
pub(crate) const SIZES: RangeInclusive<usize> = 16..=1024;

/// How a trait is spread: normal around `mean`, cut at 2.6 deviations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle of all writers.
    pub mean: f32,
    /// Standard deviation of the writers' own means.
    pub between: f32,
    /// Standard deviation of the images of one writer.
    pub within: f32,
}

impl Spread {
    /// Mean, deviation between writers, deviation within a writer.
    #[must_use]
    pub const fn new(mean: f32, between: f32, within: f32) -> Self {
        Self { mean, between, within }
    }

    /// The same mean with both deviations times `factor`.
    #[must_use]
    pub fn widened(self, factor: f32) -> Self {
        Self::new(self.mean, self.between * factor, self.within * factor)
    }

    pub(crate) fn writer(self, noise: &mut Noise) -> f32 {
        self.mean + self.between * noise.normal()
    }

    /// As [`Spread::writer`], for sizes: the logarithm is spread, the deviations are relative.
    pub(crate) fn writer_factor(self, noise: &mut Noise) -> f32 {
        self.mean * noise.factor(self.between)
    }

    fn is_sensible(self) -> bool {
        let deviations = [self.between, self.within];
        self.mean.is_finite() && deviations.iter().all(|d| d.is_finite() && *d >= 0.0)
    }
}

/// What is bright.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Polarity {
    /// Light ink on black: the published scans are inverted.
    #[default]
    LightOnDark,
    /// Dark ink on white, as on paper.
    DarkOnLight,
    /// Either, by the toss of a coin for each image.
    Mixed,
}

/// The look of the handwriting.
///
/// Lengths are in pixels of a 64 px image whatever `size` is: a larger image shows the same page at a higher
/// resolution. The default is [`Style::scans`].
///
/// ```
/// use cn_synth::{Spread, Style};
///
/// let mut style = Style::scans();
/// style.size = 128;
/// style.pen_width = Spread::new(1.6, 0.5, 0.2); // a felt pen, twice as wide
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Style {
    /// Side of the image, in pixels, 16 to 1024.
    pub size: usize,
    /// Height and width that a writer gives a character (the em), in px of 64; deviations relative.
    pub em: Spread,
    /// Width over height; deviations relative.
    pub aspect: Spread,
    /// Column of the middle of the ink, in px of 64.
    pub x: Spread,
    /// Row of the middle of the ink, in px of 64.
    pub y: Spread,
    /// Standard deviation of the rows of a page as a whole, in px of 64: sheets are laid and cut unevenly.
    pub page_y: f32,
    /// Rise of the horizontal strokes to the right, as a slope.
    pub slope: Spread,
    /// Lean of the vertical strokes to the right, as a slope.
    pub slant: Spread,
    /// Width of the line, in px of 64; deviations relative.
    pub pen_width: Spread,
    /// Width over height of what a round pen leaves: the scans were squeezed, so vertical strokes are thinner.
    pub squeeze: f32,
    /// Darkness of the ink, 0 to 1; deviations relative.
    pub darkness: Spread,
    /// Carelessness: displacement of control points by habit and by chance, in hundredths of an em; `within` is unused.
    pub carelessness: Spread,
    /// Inclination, 0 to 1, to leave the pen on the paper between strokes.
    pub joining: Spread,
    /// What is bright.
    pub polarity: Polarity,
    /// Quality of the JPEG round trip, 1 to 100; `None` for none.
    pub jpeg_quality: Option<u8>,
}

impl Style {
    /// The look of the published scans: 64 px, thin grey lines on black, JPEG quality 75.
    #[must_use]
    pub fn scans() -> Self {
        Self {
            size: 64,
            em: Spread::new(24.6, 0.3, 0.06),
            aspect: Spread::new(0.94, 0.09, 0.05),
            x: Spread::new(33.2, 2.2, 1.6),
            y: Spread::new(33.6, 3.4, 1.4),
            page_y: 2.7,
            slope: Spread::new(0.10, 0.07, 0.025),
            slant: Spread::new(0.02, 0.07, 0.025),
            pen_width: Spread::new(0.92, 0.12, 0.05),
            squeeze: 0.8,
            darkness: Spread::new(0.655, 0.085, 0.05),
            carelessness: Spread::new(2.4, 0.7, 0.0),
            joining: Spread::new(0.06, 0.11, 0.0),
            polarity: Polarity::LightOnDark,
            jpeg_quality: Some(75),
        }
    }

    /// Far wider than the scans, for pretraining that has to serve other pens and crops: sizes, positions, line
    /// widths, lean and both polarities.
    #[must_use]
    pub fn wide() -> Self {
        let scans = Self::scans();
        Self {
            em: Spread::new(32.0, 0.33, 0.12),
            aspect: scans.aspect.widened(1.6),
            x: Spread::new(32.0, 4.0, 3.0),
            y: Spread::new(32.0, 4.0, 3.0),
            slope: scans.slope.widened(1.6),
            slant: scans.slant.widened(2.0),
            pen_width: Spread::new(1.3, 0.45, 0.12),
            darkness: scans.darkness.widened(1.5),
            carelessness: Spread::new(2.8, 0.9, 0.0),
            joining: Spread::new(0.1, 0.2, 0.0),
            polarity: Polarity::Mixed,
            ..scans
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if !SIZES.contains(&self.size) {
            return Err(Error::ImageSize { size: self.size, allowed: SIZES });
        }
        if let Some(quality) = self.jpeg_quality.filter(|q| !(1..=100).contains(q)) {
            return Err(Error::JpegQuality { quality });
        }
        if !(0.2..=5.0).contains(&self.squeeze) {
            return Err(Error::Trait { name: "squeeze" });
        }
        let page_y = Spread::new(0.0, self.page_y, 0.0);
        let traits = [
            ("em", self.em, true),
            ("aspect", self.aspect, true),
            ("x", self.x, false),
            ("y", self.y, false),
            ("page_y", page_y, false),
            ("slope", self.slope, false),
            ("slant", self.slant, false),
            ("pen_width", self.pen_width, true),
            ("darkness", self.darkness, true),
            ("carelessness", self.carelessness, false),
            ("joining", self.joining, false),
        ];
        for (name, spread, is_size) in traits {
            if !spread.is_sensible() || (is_size && spread.mean <= 0.0) {
                return Err(Error::Trait { name });
            }
        }
        Ok(())
    }
}

impl Default for Style {
    fn default() -> Self {
        Self::scans()
    }
}
