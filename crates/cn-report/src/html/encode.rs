//! Text and pictures as they stand in a page.

use crate::error::Result;
use crate::picture::Picture;
use crate::run_folder::GalleryImage;
use crate::text::steers;

/// Text that can be no markup.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if steers(c) && c != '\n' => safe.extend(c.escape_default()),
            c => safe.push(c),
        }
    }
    safe
}

/// A PNG inside the page.
pub(super) fn data_uri(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", base64(png))
}

/// RFC 4648 with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |word, (i, &byte)| word | u32::from(byte) << (16 - 8 * i));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// Side of an overlay in pixels, at least.
const OVERLAY: u32 = 112;

/// The map of `image` over its picture: pale where the model did not look, warm where it did.
///
/// # Errors
///
/// If the PNG encoder refuses.
pub(super) fn overlay(image: &GalleryImage, picture: &Picture) -> Result<Vec<u8>> {
    let factor = (OVERLAY.div_ceil(picture.width())).max(1);
    let (width, height) = (picture.width() * factor, picture.height() * factor);
    let mut over = Picture::blank(width, height);
    for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        let from = ((y / factor * picture.width() + x / factor) * 3) as usize;
        let at = ((y * width + x) * 3) as usize;
        let place = [(f64::from(x) + 0.5) / f64::from(width), (f64::from(y) + 0.5) / f64::from(height)];
        let heat = heat_at(image, place);
        let warm = warm(heat);
        for (c, warm) in warm.into_iter().enumerate() {
            let base = f64::from(picture.pixels()[from + c]);
            let share = 0.15 + 0.5 * heat;
            over.pixels_mut()[at + c] = (base * (1.0 - share) + warm * share).round() as u8;
        }
    }
    over.to_png()
}

/// The map between its cells, in straight lines; 0 without one.
fn heat_at(image: &GalleryImage, [x, y]: [f64; 2]) -> f64 {
    let (w, h) = (image.width, image.height);
    if w == 0 || h == 0 || w.checked_mul(h) != Some(image.cam.len()) {
        return 0.0;
    }
    let axis = |place: f64, n: usize| {
        let at = (place * n as f64 - 0.5).clamp(0.0, (n - 1) as f64);
        let low = at.floor() as usize;
        (low, (low + 1).min(n - 1), at.fract())
    };
    let ((x0, x1, fx), (y0, y1, fy)) = (axis(x, w), axis(y, h));
    let cell = |x: usize, y: usize| f64::from(image.cam[y * w + x]);
    let row = |y: usize| cell(x0, y) * (1.0 - fx) + cell(x1, y) * fx;
    (row(y0) * (1.0 - fy) + row(y1) * fy).clamp(0.0, 1.0)
}

/// Dark violet over orange to yellow.
fn warm(heat: f64) -> [f64; 3] {
    const STOPS: [[f64; 3]; 4] = [[30.0, 16.0, 74.0], [150.0, 30.0, 110.0], [240.0, 100.0, 40.0], [255.0, 220.0, 80.0]];
    let at = heat.clamp(0.0, 1.0) * 3.0;
    let low = (at.floor() as usize).min(2);
    let part = at - low as f64;
    std::array::from_fn(|c| STOPS[low][c] + part * (STOPS[low + 1][c] - STOPS[low][c]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    #[test]
    fn text_is_no_markup() {
        assert_eq!(escape("<b>&\"'\u{1b}十"), "&lt;b&gt;&amp;&quot;&#39;\\u{1b}十");
    }

    #[test]
    fn maps_are_stretched_in_straight_lines() {
        let image = GalleryImage {
            path: String::new(),
            file: String::new(),
            class: 0,
            height: 1,
            width: 2,
            cam: vec![0.0, 1.0],
        };
        for (x, heat) in [(0.0, 0.0), (0.25, 0.0), (0.5, 0.5), (0.75, 1.0), (1.0, 1.0)] {
            assert!((heat_at(&image, [x, 0.5]) - heat).abs() < 1e-12);
        }
        assert_eq!(heat_at(&GalleryImage { cam: vec![], ..image }, [0.5, 0.5]), 0.0);
    }
}
