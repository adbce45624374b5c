//! Images and geometry to a batch of numbers, in one pass.

use std::sync::{Mutex, PoisonError};

use cn_kernels::resample::Resampler;
use rayon::prelude::*;

use crate::normalise::{Table, table};
use crate::planes::Plane;
use crate::{Error, Geometry, Image, Normalisation, Planes, Result, Value, image};

/// Makes batches `(B, S, S, C)`, channels last, from images of any sizes, grey or RGB.
///
/// Grey images fill three channels with the same level before normalisation. RGB images become one channel by ITU-R
/// 601-2 luma, `(19595 R + 38470 G + 7471 B) / 65536` rounded, as Pillow's `convert("L")`, but after resizing.
///
/// Images are spread over the threads of the surrounding rayon pool. A batcher keeps weight tables and buffers, so make
/// one and keep it; it can be shared between threads.
#[derive(Debug)]
pub struct Batcher {
    channels: usize,
    normalisation: Normalisation,
    planes: Vec<Plane>,
    /// Resamplers that no thread uses at the moment.
    idle: Mutex<Vec<Resampler>>,
}

impl Batcher {
    /// Batches of `channels` channels, 1 or 3.
    ///
    /// # Errors
    ///
    /// If `channels` is neither, or the normalisation is for another number.
    pub fn new(channels: usize, normalisation: Normalisation) -> Result<Self> {
        if channels != 1 && channels != 3 {
            return Err(Error::OutOfRange { field: "channels", value: channels as f64, allowed: "1 or 3" });
        }
        normalisation.check_channels(channels)?;
        let planes = Planes::Channels.of(&normalisation, channels);
        Ok(Self { channels, normalisation, planes, idle: Mutex::default() })
    }

    /// The same with `planes` in place of the channels: batches are `(B, S, S, P)`.
    #[must_use]
    pub fn with_planes(mut self, planes: Planes) -> Self {
        self.planes = planes.of(&self.normalisation, self.channels);
        self
    }

    /// Channels of the model that the batches are for.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// P, the numbers of each pixel; as many as channels unless [`Batcher::with_planes`] says otherwise.
    #[must_use]
    pub fn n_planes(&self) -> usize {
        self.planes.len()
    }

    pub(crate) fn planes(&self) -> &[Plane] {
        &self.planes
    }

    /// The normalisation.
    #[must_use]
    pub fn normalisation(&self) -> &Normalisation {
        &self.normalisation
    }

    /// Writes the batch of these images, each through its geometry, over `out`: `(B, S, S, C)`, or `(B, S, S, P)`.
    ///
    /// The same numbers come out whatever else is in the batch and however many threads there are.
    ///
    /// # Errors
    ///
    /// If the lists differ in length, `out` has not the length of the batch, the geometries have different sizes or do
    /// not fit their images, an image's bytes do not match its shape or are neither grey nor RGB, or an image has colours
    /// that a model of several channels should see and the planes cannot show. Then nothing is written.
    pub fn fill<T: Value>(&self, images: &[Image<'_>], geometry: &[Geometry], out: &mut [T]) -> Result<()> {
        let size = check_fit(images, geometry)?;
        if self.n_planes() < self.channels
            && let Some(index) = images.iter().position(|image| image.channels > 1)
        {
            return Err(Error::Colours { index });
        }
        let expected = images.len() * size * size * self.n_planes();
        if out.len() != expected {
            return Err(Error::Length { argument: "out", expected, found: out.len() });
        }
        match *self.planes {
            [a] => self.render_all(&[a], images, geometry, out),
            [a, b] => self.render_all(&[a, b], images, geometry, out),
            [a, b, c] => self.render_all(&[a, b, c], images, geometry, out),
            _ => unreachable!("there are one to three planes"),
        }
        Ok(())
    }

    fn render_all<T: Value, const P: usize>(
        &self,
        planes: &[Plane; P],
        images: &[Image<'_>],
        geometry: &[Geometry],
        out: &mut [T],
    ) {
        let Some(area) = geometry.first().map(Geometry::area) else { return };
        let plain: Table<T, P> = table(planes, 1.0, 0.0);
        let pixels = out.as_chunks_mut::<P>().0;
        pixels.par_chunks_exact_mut(area).zip(images.par_iter().zip(geometry)).for_each(|(out, (&image, geometry))| {
            let mut resampler = self.idle().pop().unwrap_or_default();
            if (geometry.gain, geometry.bias) == (1.0, 0.0) {
                render(&mut resampler, image, geometry, &plain, out);
            } else {
                let own = table(planes, geometry.gain, geometry.bias);
                render(&mut resampler, image, geometry, &own, out);
            }
            self.idle().push(resampler);
        });
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Resampler>> {
        // A panic elsewhere leaves a shorter list, nothing worse.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The side of the batch (0 for an empty one), if everything fits.
fn check_fit(images: &[Image<'_>], geometry: &[Geometry]) -> Result<usize> {
    if images.len() != geometry.len() {
        return Err(Error::Length { argument: "geometry", expected: images.len(), found: geometry.len() });
    }
    let expected = geometry.first().map_or(0, |first| first.size);
    for (index, (&image, geometry)) in images.iter().zip(geometry).enumerate() {
        image::check(index, image)?;
        geometry.check(index, image)?;
        if geometry.size != expected {
            return Err(Error::MixedSizes { index, expected, found: geometry.size });
        }
    }
    Ok(expected as usize)
}

fn render<T: Value, const P: usize>(
    resampler: &mut Resampler,
    image: Image<'_>,
    geometry: &Geometry,
    table: &Table<T, P>,
    out: &mut [[T; P]],
) {
    let size = geometry.size as usize;
    let write = &mut |y: usize, row: &[u8]| {
        let out = &mut out[y * size..][..size];
        match geometry.is_flipped() {
            false => write_row(row, image.channels, table, out.iter_mut()),
            true => write_row(row, image.channels, table, out.iter_mut().rev()),
        }
    };
    if geometry.is_warp() {
        resampler.warp_rows(image, &geometry.as_warp(), write);
    } else {
        resampler.resize_rows(image, &geometry.as_resize(), write);
    }
    if let Some(erased) = geometry.erased() {
        let border = table[geometry.border as u8 as usize];
        for row in out.chunks_exact_mut(size).skip(erased.top).take(erased.height) {
            row[erased.left..][..erased.width].fill(border);
        }
    }
}

/// Looks a row of bytes up in the table.
fn write_row<'a, T: Value + 'a, const P: usize>(
    row: &[u8],
    channels: usize,
    table: &Table<T, P>,
    out: impl Iterator<Item = &'a mut [T; P]>,
) {
    if channels == 1 {
        out.zip(row).for_each(|(out, &level)| *out = table[level as usize]);
    } else if P == 3 {
        let colours = row.as_chunks::<3>().0;
        out.zip(colours).for_each(|(out, rgb)| *out = std::array::from_fn(|c| table[rgb[c] as usize][c]));
    } else {
        let colours = row.as_chunks::<3>().0;
        out.zip(colours).for_each(|(out, &rgb)| *out = table[luma(rgb) as usize]);
    }
}

/// ITU-R 601-2 luma in 16 fractional bits, rounded.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests;
