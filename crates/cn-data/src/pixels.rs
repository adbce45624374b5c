//! All images of a data set in one packed buffer.

use std::fmt::Write as _;

use crate::{Digest, Error, Result, content_sha256, decode::BadReason};

/// Decoded images, 8 bits a channel, packed one after the other; image `i` belongs to record `i` of an index.
///
/// Images may differ in size, but not in their number of channels: 1 (grey) or 3 (red, green, blue).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    channels: usize,
    bytes: Vec<u8>,
    places: Vec<Place>,
    files: Option<Vec<Digest>>,
}

/// Where an image stands in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: usize,
    pub(crate) height: u32,
    pub(crate) width: u32,
}

/// One image: (height, width, channels), row-major.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageView<'a> {
    /// The bytes, `height * width * channels` of them.
    pub pixels: &'a [u8],
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 or 3.
    pub channels: usize,
}

/// An image that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadImage {
    /// Its id in the index it was asked for by.
    pub id: u32,
    /// Its path, relative to the root of the data set.
    pub path: String,
    /// What is wrong with it.
    pub reason: BadReason,
}

impl Pixels {
    /// Images of one size, packed: `bytes` is (N, height, width, channels).
    ///
    /// ```
    /// let pixels = cn_data::Pixels::uniform(vec![0; 10 * 8 * 6], [8, 6, 1])?;
    /// assert_eq!((pixels.len(), pixels.image(3).width), (10, 6));
    /// # Ok::<(), cn_data::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If there are not 1 or 3 channels, a side is 0, or `bytes` does not divide into images.
    pub fn uniform(bytes: Vec<u8>, [height, width, channels]: [usize; 3]) -> Result<Self> {
        check_channels(channels)?;
        let size = height * width * channels;
        if size == 0 || !bytes.len().is_multiple_of(size) {
            let found = bytes.len();
            return Err(Error::Mismatch { what: "bytes of images of one size, a multiple of", expected: size, found });
        }
        let (height, width) = (height as u32, width as u32);
        let place = |i| Place { offset: i * size, height, width };
        let places = (0..bytes.len() / size).map(place).collect();
        Ok(Self { channels, bytes, places, files: None })
    }

    /// A copy of these images, which must agree in their number of channels.
    ///
    /// # Errors
    ///
    /// If there is no image, one is empty or its bytes do not fit its size, or the channels differ or are not 1 or 3.
    pub fn from_images<'a>(images: impl IntoIterator<Item = ImageView<'a>>) -> Result<Self> {
        let (mut bytes, mut places, mut channels) = (Vec::new(), Vec::new(), 0);
        for image in images {
            check_channels(image.channels)?;
            if places.is_empty() {
                channels = image.channels;
            }
            expect("channels of an image", channels, image.channels)?;
            expect("bytes of an image", image.height * image.width * channels, image.pixels.len())?;
            expect("images without pixels", 0, usize::from(image.pixels.is_empty()))?;
            let (height, width) = (image.height as u32, image.width as u32);
            places.push(Place { offset: bytes.len(), height, width });
            bytes.extend_from_slice(image.pixels);
        }
        check_channels(channels)?;
        Ok(Self { channels, bytes, places, files: None })
    }

    /// From parts that fit together.
    pub(crate) fn from_files(channels: usize, bytes: Vec<u8>, places: Vec<Place>, files: Vec<Digest>) -> Self {
        Self { channels, bytes, places, files: Some(files) }
    }

    /// Number of images, N.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no image.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Channels of every image: 1 or 3.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Image `id`.
    ///
    /// # Panics
    ///
    /// If `id` is not below [`Pixels::len`].
    #[must_use]
    pub fn image(&self, id: u32) -> ImageView<'_> {
        let place = self.places[id as usize];
        let (height, width, channels) = (place.height as usize, place.width as usize, self.channels);
        let pixels = &self.bytes[place.offset..][..height * width * channels];
        ImageView { pixels, height, width, channels }
    }

    /// The bytes of all images, by id, and the (height, width, channels) of each, where all have the same.
    #[must_use]
    pub fn packed(&self) -> Option<(&[u8], [usize; 3])> {
        let first = self.places.first()?;
        let (height, width) = (first.height as usize, first.width as usize);
        let size = height * width * self.channels;
        let fits = |(i, place): (usize, &Place)| {
            (place.offset, place.height, place.width) == (i * size, first.height, first.width)
        };
        let packed = self.places.iter().enumerate().all(fits) && self.bytes.len() == self.len() * size;
        packed.then_some((&self.bytes[..], [height, width, self.channels]))
    }

    /// All images, by id.
    pub fn images(&self) -> impl ExactSizeIterator<Item = ImageView<'_>> {
        (0..self.len() as u32).map(|id| self.image(id))
    }

    /// Turns image `id` from dark on bright to bright on dark, or back: a byte `v` becomes `255 - v`.
    ///
    /// # Panics
    ///
    /// If `id` is not below [`Pixels::len`].
    pub fn invert(&mut self, id: u32) {
        let place = self.places[id as usize];
        let len = place.height as usize * place.width as usize * self.channels;
        self.bytes[place.offset..][..len].iter_mut().for_each(|byte| *byte = u8::MAX - *byte);
    }

    /// The same images in one channel: of three, Pillow's `L` (ITU-R 601-2).
    #[must_use]
    pub fn to_grey(&self) -> Self {
        if self.channels == 1 {
            return Self { files: None, ..self.clone() };
        }
        let luma = |&[r, g, b]: &[u8; 3]| {
            let [r, g, b] = [r, g, b].map(u32::from);
            ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8
        };
        let place = |place: &Place| Place { offset: place.offset / 3, ..*place };
        let bytes = self.bytes.as_chunks::<3>().0.iter().map(luma).collect();
        Self { channels: 1, bytes, places: self.places.iter().map(place).collect(), files: None }
    }

    /// The packed bytes of all images: (N, H, W, C) where [`Pixels::size`] is known.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where image `id` begins in [`Pixels::bytes`].
    ///
    /// # Panics
    ///
    /// If `id` is not below [`Pixels::len`].
    #[must_use]
    pub fn offset(&self, id: u32) -> usize {
        self.places[id as usize].offset
    }

    /// Height and width, if all images agree.
    #[must_use]
    pub fn size(&self) -> Option<(usize, usize)> {
        let first = self.places.first()?;
        let same = |place: &Place| (place.height, place.width) == (first.height, first.width);
        self.places.iter().all(same).then_some((first.height as usize, first.width as usize))
    }

    /// Digests of the files that the images were decoded from, by id; `None` for images made in memory.
    #[must_use]
    pub fn file_sha256(&self) -> Option<&[Digest]> {
        self.files.as_deref()
    }

    /// Digest of the whole content under the names of `paths`, see [`content_sha256`].
    ///
    /// Of the files' digests; for images made in memory, of a binary PGM or PPM of each.
    ///
    /// # Errors
    ///
    /// If there are not as many paths as images.
    pub fn content_sha256<'a>(&self, paths: impl ExactSizeIterator<Item = &'a str>) -> Result<Digest> {
        expect("paths of the images", self.len(), paths.len())?;
        Ok(match &self.files {
            Some(files) => content_sha256(paths.zip(files.iter().copied())),
            None => content_sha256(paths.zip(self.images().map(|image| image.sha256()))),
        })
    }

    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }
}

impl ImageView<'_> {
    /// Digest of the image as a binary PGM (grey) or PPM (colour) file.
    #[must_use]
    pub fn sha256(&self) -> Digest {
        let kind = if self.channels == 1 { 5 } else { 6 };
        let mut file = format!("P{kind}\n{} {}\n255\n", self.width, self.height).into_bytes();
        file.extend_from_slice(self.pixels);
        Digest::of(&file)
    }
}

fn check_channels(channels: usize) -> Result<()> {
    if channels == 1 || channels == 3 {
        return Ok(());
    }
    Err(Error::Mismatch { what: "channels of an image (1 or 3)", expected: 1, found: channels })
}

pub(crate) fn expect(what: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::Mismatch { what, expected, found }) }
}

/// The first bad images, a line each.
pub(crate) fn listing(bad: &[BadImage]) -> String {
    const SHOWN: usize = 20;
    let mut text = String::new();
    for image in bad.iter().take(SHOWN) {
        write!(text, "\n  {}: {}", image.path, image.reason).expect("writing to a string cannot fail");
    }
    if bad.len() > SHOWN {
        write!(text, "\n  and {} more", bad.len() - SHOWN).expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(pixels: &[u8], height: usize, width: usize, channels: usize) -> ImageView<'_> {
        ImageView { pixels, height, width, channels }
    }

    #[test]
    fn images_come_back_as_given() {
        let images = [view(&[1, 2, 3, 4, 5, 6], 2, 3, 1), view(&[7], 1, 1, 1), view(&[8, 9], 2, 1, 1)];
        let pixels = Pixels::from_images(images).expect("valid");
        assert!(pixels.images().eq(images));
        assert_eq!((pixels.size(), pixels.offset(2), pixels.bytes().len()), (None, 7, 9));
    }

    #[test]
    fn one_size_is_known() {
        let pixels = Pixels::uniform((0..24).collect(), [2, 2, 3]).expect("valid");
        assert_eq!((pixels.len(), pixels.size(), pixels.channels()), (2, Some((2, 2)), 3));
        assert_eq!(pixels.image(1).pixels[0], 12);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Pixels::uniform(vec![0; 5], [2, 2, 1]).is_err());
        assert!(Pixels::uniform(vec![], [0, 2, 1]).is_err());
        assert!(Pixels::uniform(vec![0; 8], [2, 2, 2]).is_err());
        assert!(Pixels::from_images([]).is_err());
        assert!(Pixels::from_images([view(&[1], 1, 2, 1)]).is_err());
        assert!(Pixels::from_images([view(&[], 0, 2, 1)]).is_err());
        assert!(Pixels::from_images([view(&[1], 1, 1, 1), view(&[1, 2, 3], 1, 1, 3)]).is_err());
    }

    #[test]
    fn content_in_memory_has_a_digest() {
        let pixels = Pixels::from_images([view(&[7, 8], 1, 2, 1)]).expect("valid");
        let expected = content_sha256([("a", Digest::of(b"P5\n2 1\n255\n\x07\x08"))]);
        assert_eq!(pixels.content_sha256(["a"].into_iter()).expect("fits"), expected);
        assert!(pixels.content_sha256(["a", "b"].into_iter()).is_err());
    }
}
