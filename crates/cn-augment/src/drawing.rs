//! Drawings of any size, pen and polarity as images of handwriting.

use cn_kernels::resample::Rect;

use crate::Image;
use crate::ink::ink_box;

/// Contrasts below this are paper, not ink.
const LEAST_CONTRAST: i32 = 12;
/// Share of the strongest contrast from which on a pixel is ink, in 255ths.
const INK: u8 = 90;
/// Larger canvases are shrunk to about this by their darkest pixels, so that hairlines do not fade away.
const FINE: usize = 128;

/// A square grey image, light ink on black.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawing {
    /// Side of the square, in pixels.
    pub side: usize,
    /// `side * side` bytes, row by row.
    pub pixels: Vec<u8>,
}

impl Drawing {
    /// The ink of `image` in the middle of a square, its longer side filling the share `fill` of it.
    ///
    /// Paper is what the border mostly shows; ink is what differs from it most, darker or lighter. Contrast is stretched,
    /// so that pale pencil becomes as bright as a pen. An image without ink gives a black square.
    ///
    /// ```
    /// use cn_augment::{Drawing, Image};
    ///
    /// // A dark line on white, somewhere.
    /// let mut pixels = vec![255; 90 * 40];
    /// pixels[20 * 90 + 50..20 * 90 + 70].fill(0);
    /// let image = Image { pixels: &pixels, height: 40, width: 90, channels: 1 };
    /// let drawing = Drawing::of(image, 0.5);
    /// assert_eq!(drawing.side, 40); // 20 px of ink fill half of it
    /// assert_eq!(drawing.pixels.iter().filter(|&&p| p == 255).count(), 20);
    /// ```
    ///
    /// # Panics
    ///
    /// If `fill` is not above 0 and at most 1.
    #[must_use]
    pub fn of(image: Image<'_>, fill: f64) -> Self {
        assert!(fill > 0.0 && fill <= 1.0, "the ink fills {fill} of the square, expected above 0, at most 1");
        let ink = ink_of(image);
        let grey = Image { pixels: &ink, channels: 1, ..image };
        let Some(Rect { left, top, width, height }) = ink_box(grey, INK) else {
            let side = image.width.max(image.height);
            return Self { side, pixels: vec![0; side * side] };
        };
        let side = ((width.max(height) as f64 / fill).round() as usize).max(1);
        let mut pixels = vec![0; side * side];
        let (x, y) = ((side - width) / 2, (side - height) / 2);
        for row in 0..height {
            let from = &ink[(top + row) * image.width + left..][..width];
            pixels[(y + row) * side + x..][..width].copy_from_slice(from);
        }
        Self { side, pixels }.shrunk()
    }

    /// The brightest pixel of each block, so that about [`FINE`] are left along each axis.
    fn shrunk(self) -> Self {
        let block = self.side / FINE;
        if block < 2 {
            return self;
        }
        let side = self.side.div_ceil(block);
        let mut pixels = vec![0u8; side * side];
        for (y, row) in self.pixels.chunks_exact(self.side).enumerate() {
            for (x, &ink) in row.iter().enumerate() {
                let pixel = &mut pixels[y / block * side + x / block];
                *pixel = (*pixel).max(ink);
            }
        }
        Self { side, pixels }
    }
}

/// The image as light ink on black, row by row, the strongest ink 255.
fn ink_of(image: Image<'_>) -> Vec<u8> {
    let rgb = (image.channels == 3).then_some(image.pixels.as_chunks::<3>().0);
    let grey: Vec<i32> = match rgb {
        Some(rgb) => rgb.iter().map(|&rgb| luma(rgb)).collect(),
        None => image.pixels.iter().map(|&p| i32::from(p)).collect(),
    };
    let paper = paper(&grey, image.width);
    let (darkest, lightest) = grey.iter().fold((255, 0), |(lo, hi), &p| (p.min(lo), p.max(hi)));
    let is_dark = paper - darkest > lightest - paper;
    let contrast: Vec<i32> = grey.iter().map(|p| if is_dark { paper - p } else { p - paper }).collect();
    stretched(&contrast)
        .or_else(|| stretched(&colour_contrast(rgb?, image.width)))
        .unwrap_or_else(|| vec![0; grey.len()])
}

/// How far each pixel is from the paper in the channel where it is farthest: for ink that is as light as the paper and of
/// another colour.
fn colour_contrast(rgb: &[[u8; 3]], width: usize) -> Vec<i32> {
    let mut contrast = vec![0; rgb.len()];
    for channel in 0..3 {
        let values: Vec<i32> = rgb.iter().map(|rgb| i32::from(rgb[channel])).collect();
        let paper = paper(&values, width);
        contrast.iter_mut().zip(values).for_each(|(most, value)| *most = (*most).max((value - paper).abs()));
    }
    contrast
}

/// Contrasts so that the strongest is 255; `None` if it is no ink.
fn stretched(contrast: &[i32]) -> Option<Vec<u8>> {
    let most = contrast.iter().copied().max().filter(|&most| most >= LEAST_CONTRAST)?;
    Some(contrast.iter().map(|contrast| (contrast.max(&0) * 255 / most) as u8).collect())
}

/// Pillow's `L`: ITU-R 601-2.
fn luma([r, g, b]: [u8; 3]) -> i32 {
    (i32::from(r) * 19_595 + i32::from(g) * 38_470 + i32::from(b) * 7_471 + 0x8000) >> 16
}

/// The median of the outermost pixels.
fn paper(grey: &[i32], width: usize) -> i32 {
    let height = grey.len() / width.max(1);
    let border = grey.iter().enumerate().filter(|(i, _)| {
        let (x, y) = (i % width, i / width);
        x == 0 || y == 0 || x + 1 == width || y + 1 == height
    });
    let mut border: Vec<i32> = border.map(|(_, p)| *p).collect();
    border.sort_unstable();
    border.get(border.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cross with arms of 20 px, `pen` px wide, whose corner is at (x, y).
    fn cross(ground: u8, ink: u8, pen: usize, x: usize, y: usize) -> Vec<u8> {
        let mut pixels = vec![ground; 100 * 80];
        for i in 0..20 {
            for j in 0..pen {
                pixels[(y + i) * 100 + x + 10 + j] = ink;
                pixels[(y + 10 + j) * 100 + x + i] = ink;
            }
        }
        pixels
    }

    fn drawing(pixels: &[u8]) -> Drawing {
        Drawing::of(Image { pixels, height: 80, width: 100, channels: 1 }, 0.625)
    }

    #[test]
    fn place_polarity_and_paleness_do_not_matter() {
        let expected = drawing(&cross(0, 255, 3, 40, 30));
        assert_eq!(expected.side, 32);
        for (ground, ink, x, y) in [(0, 255, 0, 0), (255, 0, 79, 59), (200, 150, 5, 41), (90, 140, 60, 2)] {
            assert!(drawing(&cross(ground, ink, 3, x, y)) == expected, "{ink} on {ground} at {x}, {y}");
        }
    }

    #[test]
    fn colours_are_seen_by_their_brightness() {
        let grey = cross(255, 0, 3, 40, 30);
        let blue: Vec<u8> = grey.iter().flat_map(|&p| [p, p, 255]).collect();
        let image = Image { pixels: &blue, height: 80, width: 100, channels: 3 };
        assert!(Drawing::of(image, 0.625) == drawing(&grey));
    }

    #[test]
    fn ink_as_light_as_the_paper_is_seen_by_its_colour() {
        let cross = cross(0, 255, 3, 40, 30);
        let red_on_green: Vec<u8> = cross.iter().flat_map(|&p| if p > 0 { [255, 0, 0] } else { [0, 130, 0] }).collect();
        let image = Image { pixels: &red_on_green, height: 80, width: 100, channels: 3 };
        assert!(Drawing::of(image, 0.625) == drawing(&cross));
    }

    #[test]
    fn faint_ink_is_ink_and_noise_is_not() {
        assert!(drawing(&cross(255, 240, 3, 40, 30)) == drawing(&cross(0, 255, 3, 40, 30)));
        assert!(drawing(&cross(255, 250, 3, 40, 30)).pixels.iter().all(|&p| p == 0));
    }

    #[test]
    fn no_ink_is_black() {
        for ground in [0, 255, 77] {
            assert!(drawing(&[ground; 8000]).pixels.iter().all(|&p| p == 0));
        }
    }

    #[test]
    fn hairlines_survive_shrinking() {
        let side = 2000;
        let mut pixels = vec![255; side * side];
        for i in 200..1800 {
            pixels[1000 * side + i] = 0;
        }
        let image = Image { pixels: &pixels, height: side, width: side, channels: 1 };
        let Drawing { side, pixels } = Drawing::of(image, 0.8);
        assert!((FINE..2 * FINE).contains(&side), "{side}");
        let bright = pixels.iter().filter(|&&p| p == 255).count();
        assert!(bright.abs_diff(side * 4 / 5) <= 1, "{bright} of {side}");
    }
}
