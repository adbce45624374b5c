//! Endless handwriting for pretraining: each image by another hand, in another look.

use cn_random::Purpose;
use rayon::prelude::*;

use crate::character::CHARACTERS;
use crate::handwriting::{Handwriting, Sample};
use crate::jpeg::Jpeg;
use crate::noise::{Noise, exp};
use crate::style::{Polarity, Spread, Style};
use crate::wear;
use crate::writers;

const LOOK: Purpose = Purpose::named("cn-synth glyphs");
/// Side of the images, in pixels.
const SIDE: usize = 64;

/// Four thousand million labelled images that differ in everything but the characters: hands, pens from hairlines to
/// brushes, sizes, positions, lean, paleness, blur, dirt, lost ink, JPEG. Light on dark.
///
/// An image is a function of (seed, id). Every writer is one of [`writers::TRAIN`], so that nobody whom validation
/// draws is met in training.
///
/// ```
/// use cn_synth::{Glyphs, writers};
///
/// let glyphs = Glyphs::new(42);
/// let sample = Glyphs::sample(4_000_000_000);
/// assert!(writers::TRAIN.contains(&sample.writer()));
/// assert_eq!(glyphs.draw(7).len(), Glyphs::SIDE * Glyphs::SIDE);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glyphs {
    seed: u64,
}

impl Glyphs {
    /// Side of the images, in pixels.
    pub const SIDE: usize = SIDE;

    /// The images that belong to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Who writes image `id`, and which character: all characters take turns, and each writer writes each of them once.
    #[must_use]
    pub fn sample(id: u32) -> Sample {
        let n = CHARACTERS.len() as u32;
        let code = CHARACTERS[(id % n) as usize].code;
        Sample::new(writers::TRAIN.start + id / n, 1, code).expect("codes of characters exist")
    }

    /// Image `id`: 64 x 64 grey levels, row by row.
    #[must_use]
    pub fn draw(&self, id: u32) -> Vec<u8> {
        let mut image = vec![0; SIDE * SIDE];
        self.draw_on(id, &mut image);
        image
    }

    /// Draws these images into `images`, `(N, 64, 64)`, on all threads of the current pool.
    pub fn draw_all(&self, ids: &[u32], images: &mut Vec<u8>) {
        images.resize(ids.len() * SIDE * SIDE, 0);
        images.par_chunks_exact_mut(SIDE * SIDE).zip(ids).for_each(|(image, &id)| self.draw_on(id, image));
    }

    fn draw_on(&self, id: u32, image: &mut [u8]) {
        let noise = &mut Noise::new(self.seed, (id, 0), LOOK);
        let style = if noise.chance(0.5) { scan_like(noise) } else { free(noise) };
        let handwriting = Handwriting::new(self.seed, style).expect("looks are drawn from sensible ranges");
        image.copy_from_slice(&handwriting.draw(Self::sample(id)));
        wear::wear(image, noise);
        if let Some(quality) = quality(noise) {
            Jpeg::new(quality).round_trip(image, SIDE);
        }
    }
}

/// About the published scans, with everything some way beyond them.
fn scan_like(noise: &mut Noise) -> Style {
    let scans = Style::scans();
    Style {
        // Small hands are hard to read: they are drawn oftener than they are met.
        em: Spread::new(scans.em.mean * noise.range(0.55, 1.3), scans.em.between, scans.em.within),
        aspect: scans.aspect.widened(1.3),
        x: scans.x.widened(1.5),
        y: scans.y.widened(1.3),
        slope: scans.slope.widened(1.4),
        slant: scans.slant.widened(1.5),
        pen_width: Spread::new(scans.pen_width.mean * exp(noise.range(-0.25, 0.6)), 0.15, 0.06),
        squeeze: noise.range(0.75, 0.95),
        darkness: Spread::new(scans.darkness.mean * noise.range(0.7, 1.4), 0.1, 0.06),
        jpeg_quality: None,
        ..loose(scans, noise)
    }
}

/// Any pen at any size anywhere, as in drawings.
fn free(noise: &mut Noise) -> Style {
    let wide = Style::wide();
    let em = noise.range(18.0, 54.0);
    // Hairlines to brushes: 2 to 14 % of the character.
    let pen = em * 0.053 * exp(noise.range(-0.97, 0.97));
    Style {
        em: Spread::new(em, 0.06, 0.05),
        aspect: Spread::new(noise.range(0.75, 1.25), 0.1, 0.05),
        x: Spread::new(32.0, 9.0, 3.0),
        y: Spread::new(32.0, 9.0, 3.0),
        pen_width: Spread::new(pen, 0.08, 0.05),
        squeeze: noise.range(0.75, 1.1),
        darkness: Spread::new(noise.range(0.4, 1.0), 0.08, 0.05),
        polarity: Polarity::LightOnDark,
        jpeg_quality: None,
        ..loose(wide, noise)
    }
}

/// From careful to hasty.
fn loose(style: Style, noise: &mut Noise) -> Style {
    Style {
        carelessness: Spread::new(noise.range(1.8, 3.8), style.carelessness.between, 0.0),
        joining: Spread::new(noise.range(0.0, 0.25), style.joining.between, 0.0),
        ..style
    }
}

/// Mostly that of the scans.
fn quality(noise: &mut Noise) -> Option<u8> {
    match noise.uniform() {
        u if u < 0.5 => Some(75),
        u if u < 0.85 => Some(noise.range(40.0, 96.0) as u8),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
