//! What ink is drawn on.

use crate::{ImageView, Pixels};

/// The ground of drawings without colour: most of an image, and about as dark everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// Light ink on dark ground.
    Dark,
    /// Dark ink on bright ground, as on paper.
    Bright,
}

/// Bytes below this are dark, and those of at least the other are bright.
const DARK: u8 = 96;
const BRIGHT: u8 = 160;
/// Share of an image that is its ground.
const MOST: f64 = 0.6;
/// Mean distance between the channels of a pixel, in bytes, beyond which an image has colour.
const COLOURLESS: f64 = 8.0;
/// Share of the images of a set that agree.
const AGREED: f64 = 0.95;

impl ImageView<'_> {
    /// What is drawn on, or `None` where an image has colours or no even ground, as photographs have.
    ///
    /// ```
    /// let image = |pixels| cn_data::ImageView { pixels, height: 2, width: 3, channels: 1 };
    /// assert_eq!(image(&[250, 255, 20, 240, 255, 255]).ground(), Some(cn_data::Ground::Bright));
    /// assert_eq!(image(&[100, 255, 20, 240, 0, 120]).ground(), None);
    /// ```
    #[must_use]
    pub fn ground(&self) -> Option<Ground> {
        let share = |is: fn(u8) -> bool| {
            self.pixels.iter().filter(|&&byte| is(byte)).count() as f64 / self.pixels.len().max(1) as f64
        };
        if !self.is_colourless() {
            None
        } else if share(|byte| byte < DARK) >= MOST {
            Some(Ground::Dark)
        } else if share(|byte| byte >= BRIGHT) >= MOST {
            Some(Ground::Bright)
        } else {
            None
        }
    }

    /// Whether it has one channel, or next to no colours in its channels.
    #[must_use]
    pub fn is_colourless(&self) -> bool {
        let distance = |pixel: &[u8]| {
            let (low, high) = pixel.iter().fold((u8::MAX, 0), |(low, high), &byte| (low.min(byte), high.max(byte)));
            u64::from(high - low)
        };
        let n = self.height * self.width;
        self.channels == 1
            || self.pixels.chunks_exact(self.channels).map(distance).sum::<u64>() as f64 <= COLOURLESS * n as f64
    }
}

impl Pixels {
    /// What is drawn on in 19 of 20 images, by [`ImageView::ground`]; `None` where there is no such ground.
    #[must_use]
    pub fn ground(&self) -> Option<Ground> {
        let (mut dark, mut bright) = (0, 0);
        for image in self.images() {
            match image.ground() {
                Some(Ground::Dark) => dark += 1,
                Some(Ground::Bright) => bright += 1,
                None => {}
            }
        }
        let is_agreed = |n: usize| n > 0 && n as f64 >= AGREED * self.len() as f64;
        match (is_agreed(dark), is_agreed(bright)) {
            (true, _) => Some(Ground::Dark),
            (_, true) => Some(Ground::Bright),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(images: &[[u8; 5]]) -> Pixels {
        Pixels::uniform(images.concat(), [1, 5, 1]).unwrap()
    }

    #[test]
    fn a_ground_is_what_most_of_an_image_is() {
        let of = |image: [u8; 5]| set(&[image]).image(0).ground();
        assert_eq!(of([0, 20, 95, 255, 160]), Some(Ground::Dark));
        assert_eq!(of([255, 240, 160, 0, 95]), Some(Ground::Bright));
        assert_eq!(of([0, 0, 120, 255, 255]), None);
    }

    #[test]
    fn colours_are_no_ground() {
        let of = |pixel: [u8; 3]| ImageView { pixels: &pixel.repeat(4), height: 2, width: 2, channels: 3 }.ground();
        assert_eq!(of([250, 248, 242]), Some(Ground::Bright));
        assert_eq!(of([250, 248, 241]), None);
        assert_eq!(of([8, 0, 4]), Some(Ground::Dark));
    }

    #[test]
    fn a_set_has_the_ground_of_nearly_all_its_images() {
        let images = |n_odd: usize| set(&[vec![[250; 5]; 20 - n_odd], vec![[0; 5]; n_odd]].concat());
        assert_eq!([0, 1, 2].map(|n_odd| images(n_odd).ground()), [Some(Ground::Bright), Some(Ground::Bright), None]);
        assert_eq!(set(&[]).ground(), None);
    }

    #[test]
    fn grey_is_what_pillow_makes_of_colours() {
        let pixels = [255, 0, 0, 0, 255, 0, 0, 0, 255, 7, 7, 7, 10, 200, 30, 0, 0, 0];
        let image = ImageView { pixels: &pixels, height: 2, width: 3, channels: 3 };
        let both = Pixels::from_images([image, image]).unwrap().to_grey();
        assert_eq!(both.image(1).pixels, [76, 150, 29, 7, 124, 0]);
        assert_eq!((both.len(), both.channels(), both.size()), (2, 1, Some((2, 3))));
        assert_eq!(both.to_grey(), both);
    }

    #[test]
    fn turned_images_have_the_other_ground() {
        let mut pixels = set(&[[255, 250, 240, 10, 255], [0, 0, 200, 0, 0]]);
        let before = pixels.clone();
        pixels.invert(0);
        assert_eq!(pixels.image(0).pixels, [0, 5, 15, 245, 0]);
        assert_eq!(pixels.image(1), before.image(1));
        pixels.invert(0);
        assert_eq!(pixels, before);
    }
}
