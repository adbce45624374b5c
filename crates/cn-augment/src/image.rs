//! Views of images in memory.

pub use cn_kernels::resample::ImageView as Image;

use crate::{Error, Result};

/// Images of one size, packed one after the other: `(N, H, W, C)` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageStack<'a> {
    pixels: &'a [u8],
    shape: [usize; 3],
}

impl<'a> ImageStack<'a> {
    /// The stack over `pixels`, `(N, H, W, C)`; `shape` is `[H, W, C]` and N follows from the length.
    ///
    /// # Errors
    ///
    /// If the shape is empty or the length no multiple of it.
    pub fn new(pixels: &'a [u8], shape: [usize; 3]) -> Result<Self> {
        let image_len: usize = shape.iter().product();
        if image_len == 0 || !pixels.len().is_multiple_of(image_len) {
            let [height, width, channels] = shape;
            return Err(Error::ImageShape { index: 0, height, width, channels, found: pixels.len() });
        }
        Ok(Self { pixels, shape })
    }

    pub(crate) fn pixels(&self) -> &'a [u8] {
        self.pixels
    }

    /// `[H, W, C]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pixels.len() / self.shape.iter().product::<usize>()
    }

    /// Whether there is no image.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// Image number `id`.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn get(&self, id: usize) -> Result<Image<'a>> {
        let [height, width, channels] = self.shape;
        let image_len = height * width * channels;
        let Some(pixels) = self.pixels.chunks_exact(image_len).nth(id) else {
            return Err(Error::NoSuchImage { id, n_images: self.len() });
        };
        Ok(Image { pixels, height, width, channels })
    }

    /// The images with these numbers, in this order.
    ///
    /// # Errors
    ///
    /// If there is none for one of them.
    pub fn select(&self, ids: &[u32]) -> Result<Vec<Image<'a>>> {
        ids.iter().map(|&id| self.get(id as usize)).collect()
    }
}

/// Refuses an image whose bytes do not match its shape.
pub(crate) fn check(index: usize, image: Image<'_>) -> Result<()> {
    let Image { pixels, height, width, channels } = image;
    let len = height.checked_mul(width).and_then(|n| n.checked_mul(channels));
    if len.is_none_or(|len| len == 0 || len != pixels.len()) {
        return Err(Error::ImageShape { index, height, width, channels, found: pixels.len() });
    }
    if channels != 1 && channels != 3 {
        return Err(Error::ImageChannels { index, found: channels });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_hands_out_its_images() -> Result<()> {
        let pixels: Vec<u8> = (0..24).collect();
        let stack = ImageStack::new(&pixels, [2, 3, 1])?;
        assert_eq!((stack.len(), stack.is_empty()), (4, false));
        let images = stack.select(&[3, 0])?;
        assert_eq!((images[0].pixels, images[1].pixels), (&pixels[18..], &pixels[..6]));
        assert_eq!(stack.get(4).err().map(|e| e.to_string()).as_deref(), Some("image 4 is asked for, but there are 4"));
        Ok(())
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        assert!(ImageStack::new(&[0; 7], [2, 3, 1]).is_err());
        assert!(ImageStack::new(&[], [0, 3, 1]).is_err());
        assert!(ImageStack::new(&[], [1, 1, 1]).is_ok_and(|stack| stack.is_empty()));
        let image = |len, channels| Image { pixels: &[0; 64][..len], height: 4, width: 4, channels };
        let text = |result: Result<()>| result.err().map(|e| e.to_string());
        assert_eq!(text(check(0, image(16, 1))), None);
        assert_eq!(
            text(check(2, image(17, 1))).as_deref(),
            Some("image 2 has 17 bytes, expected 4 x 4 x 1, none of them 0")
        );
        assert_eq!(
            text(check(1, image(64, 4))).as_deref(),
            Some("image 1 has 4 channels, expected 1 (grey) or 3 (RGB)")
        );
        assert!(check(0, Image { pixels: &[], height: usize::MAX, width: 2, channels: 1 }).is_err());
    }
}
