//! Pictures as PNG: curves and grids of images, with text that needs no font of the system.

mod canvas;
mod chart;
mod finder;
mod font;
mod grid;
mod matrix;
mod scale;

use std::path::Path;

pub use chart::{LineChart, Mark, Series};
pub use finder::finder_curve;
pub(crate) use font::{FILE as FONT_FILE, chinese};
pub use grid::{Caption, ImageView, Tile, Tone, grid};
pub use matrix::confusion_picture;
pub(crate) use scale::Axis;
pub use scale::Scale;

use crate::error::{Error, Result};
use crate::run_folder::write_atomic;

/// Pixels of a picture that is read.
const MOST_READ: u64 = 1 << 24;

/// An RGB picture of 8 bits a channel.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Picture {
    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// `(height, width, 3)` bytes, row-major.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The bytes of a PNG file.
    ///
    /// # Errors
    ///
    /// [`Error::Png`] if the encoder refuses, which needs more memory than there is.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&self.pixels)?;
            writer.finish()
        });
        let (width, height) = (self.width, self.height);
        written.map_err(|source| Error::Png { width, height, source })?;
        Ok(bytes)
    }

    /// The picture in a PNG file of 8 bits a channel and RGB, as [`Picture::to_png`] writes it; `None` for any other, and for
    /// one of more than 16 million pixels.
    pub(crate) fn from_png(bytes: &[u8]) -> Option<Self> {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().ok()?;
        // Before memory is taken: a header alone says anything.
        if u64::from(reader.info().width) * u64::from(reader.info().height) > MOST_READ {
            return None;
        }
        let mut pixels = vec![0; reader.output_buffer_size()?];
        let info = reader.next_frame(&mut pixels).ok()?;
        let is_rgb = (info.color_type, info.bit_depth) == (png::ColorType::Rgb, png::BitDepth::Eight);
        is_rgb.then_some(Self { width: info.width, height: info.height, pixels })
    }

    pub(crate) fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// Writes a PNG file, atomically.
    ///
    /// # Errors
    ///
    /// If the encoder refuses or the file cannot be written.
    pub fn write_png(&self, path: impl AsRef<Path>) -> Result<()> {
        write_atomic(path, &self.to_png()?)
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({}x{})", self.width, self.height)
    }
}

#[cfg(test)]
mod tests;
