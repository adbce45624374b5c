//! The door: samples in, images out.

use std::ops::Range;

use cn_random::Purpose;
use rayon::prelude::*;

use crate::character::CHARACTERS;
use crate::error::Error;
use crate::jpeg::Jpeg;
use crate::noise::Noise;
use crate::pen::{self, Dab};
use crate::scan::Sheet;
use crate::shape;
use crate::skeleton;
use crate::style::{Polarity, Style};
use crate::writer::{Key, Layout, Writer};

const SCAN: Purpose = Purpose::named("cn-synth scan");
const MAX_SAMPLE: u32 = (1 << 28) - 1;

/// Which image to draw: who writes, the how-many-th time, which character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sample {
    writer: u32,
    sample: u32,
    code: u8,
}

impl Sample {
    /// The image of character `code` (1 to 15) on page `sample` of `writer`.
    ///
    /// # Errors
    ///
    /// If there is no such code, or `sample` is 2^28 or more.
    pub fn new(writer: u32, sample: u32, code: u8) -> Result<Self, Error> {
        if !(1..=CHARACTERS.len()).contains(&usize::from(code)) {
            return Err(Error::UnknownCode { code });
        }
        if sample > MAX_SAMPLE {
            return Err(Error::SampleTooLarge { sample, max: MAX_SAMPLE });
        }
        Ok(Self { writer, sample, code })
    }

    /// All 15 characters on pages 1 to `n_samples` of each writer: writer by writer, page by page, code by code.
    ///
    /// ```
    /// use cn_synth::Sample;
    ///
    /// assert_eq!(Sample::pages(1..101, 10).count(), 15_000); // as many as the published data set
    /// ```
    pub fn pages(writers: Range<u32>, n_samples: u32) -> impl Iterator<Item = Self> + Clone {
        let pages = 1..=n_samples.min(MAX_SAMPLE);
        writers.flat_map(move |writer| {
            pages.clone().flat_map(move |sample| CHARACTERS.iter().map(move |c| Self { writer, sample, code: c.code }))
        })
    }

    /// Who writes.
    #[must_use]
    pub fn writer(self) -> u32 {
        self.writer
    }

    /// The page of the writer.
    #[must_use]
    pub fn sample(self) -> u32 {
        self.sample
    }

    /// The code of the character, 1 to 15.
    #[must_use]
    pub fn code(self) -> u8 {
        self.code
    }
}

/// Synthetic handwriting: a function from a [`Sample`] to its image.
///
/// The same seed and style give the same bytes, whatever was drawn before, in whatever order and on however many
/// threads.
#[derive(Debug, Clone, PartialEq)]
pub struct Handwriting {
    seed: u64,
    style: Style,
    jpeg: Option<Jpeg>,
}

impl Handwriting {
    /// The handwriting of the people that belong to `seed`.
    ///
    /// # Errors
    ///
    /// If a value of `style` makes no sense.
    pub fn new(seed: u64, style: Style) -> Result<Self, Error> {
        style.check()?;
        let jpeg = style.jpeg_quality.map(Jpeg::new);
        Ok(Self { seed, style, jpeg })
    }

    /// Side of the images, in pixels.
    #[must_use]
    pub fn size(&self) -> usize {
        self.style.size
    }

    /// The image of `sample`: `size * size` grey levels, row by row.
    #[must_use]
    pub fn draw(&self, sample: Sample) -> Vec<u8> {
        let mut image = vec![0; self.size() * self.size()];
        self.draw_on(&mut self.sheet(), sample, &mut image);
        image
    }

    /// Draws all `samples`, on all threads of the current pool: `(N, size, size)` grey levels.
    #[must_use]
    pub fn draw_all(&self, samples: &[Sample]) -> Vec<u8> {
        let pixels = self.size() * self.size();
        let mut images = vec![0; samples.len() * pixels];
        images
            .par_chunks_exact_mut(pixels)
            .zip(samples)
            .for_each_init(|| self.sheet(), |sheet, (image, &sample)| self.draw_on(sheet, sample, image));
        images
    }

    fn sheet(&self) -> Sheet {
        Sheet::new(self.style.size, self.style.squeeze)
    }

    fn draw_on(&self, sheet: &mut Sheet, sample: Sample, image: &mut [u8]) {
        let key = Key { seed: self.seed, writer: sample.writer, sample: sample.sample, code: sample.code };
        for line in self.lines(key) {
            sheet.draw(&line);
        }
        let item = sample.sample << 4 | u32::from(sample.code);
        let noise = &mut Noise::new(self.seed, (item, sample.writer), SCAN);
        if let Some(dust) = dust(noise) {
            sheet.draw(&dust);
        }
        sheet.scan(image);
        let dark_on_light = match self.style.polarity {
            Polarity::LightOnDark => false,
            Polarity::DarkOnLight => true,
            Polarity::Mixed => noise.chance(0.5),
        };
        if dark_on_light {
            image.iter_mut().for_each(|p| *p = 255 - *p);
        }
        if let Some(jpeg) = &self.jpeg {
            jpeg.round_trip(image, self.size());
        }
    }

    fn lines(&self, key: Key) -> Vec<Vec<Dab>> {
        self.lines_by(&Writer::new(key, &self.style), key)
    }

    fn lines_by(&self, writer: &Writer, key: Key) -> Vec<Vec<Dab>> {
        let chance = &mut key.sample();
        let layout = Layout::new(key, writer, &self.style, chance);
        let mut curves = shape::curves(skeleton::of(key.code), writer, key, chance);
        pen::place(&mut curves, &layout);
        pen::lines(&curves, writer, &layout, chance)
    }
}

/// A grain of dust on the glass, on a few sheets.
fn dust(noise: &mut Noise) -> Option<[Dab; 2]> {
    if !noise.chance(0.03) {
        return None;
    }
    let (x, y) = (noise.range(2.0, 62.0), noise.range(2.0, 62.0));
    let width = noise.range(0.3, 0.8);
    let ink = noise.range(0.3, 1.0);
    let grain = Dab { x, y, width, ink };
    Some([grain, Dab { x: x + noise.range(-0.7, 0.7), y: y + noise.range(-0.7, 0.7), ..grain }])
}

#[cfg(test)]
mod tests;
