//! Where the ink of an image is, and how much of it a geometry leaves.

use cn_kernels::resample::Rect;

use crate::{Geometry, Image};

/// A square about the ink of a drawing, so that ink of any size and place fills the same share of what is seen.
///
/// Ink is bytes of at least `threshold`: bright strokes on dark ground. Where the ground is bright, or nothing is
/// ink, the square is the whole image. It is moved, and where it must be cut, into the image: then its centre is not
/// that of the ink, or its sides differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InkSquare {
    /// Share of the square's side that the longer side of the ink's box fills, above 0 and at most 1.
    pub fill: f64,
    /// Bytes below this are background.
    pub threshold: u8,
}

impl InkSquare {
    /// The square in `image`, in its pixels.
    ///
    /// ```
    /// use cn_augment::{Image, InkSquare};
    ///
    /// let mut pixels = vec![0; 64 * 64];
    /// pixels[20 * 64 + 30..20 * 64 + 46].fill(200); // a line of 16 px
    /// let square = InkSquare { fill: 0.8, threshold: 40 }.of(Image { pixels: &pixels, height: 64, width: 64, channels: 1 });
    /// assert_eq!((square.left, square.top, square.width, square.height), (28, 10, 20, 20));
    /// ```
    #[must_use]
    pub fn of(self, image: Image<'_>) -> Rect {
        let Some(ink) = ink_box(image, self.threshold) else {
            return Rect::of_size(image.width, image.height);
        };
        // A saturating cast: a tiny share asks for more than any image has.
        let side = (ink.width.max(ink.height) as f64 / self.fill).round().max(1.0) as usize;
        let along = |start: usize, len: usize, end: usize| {
            let side = side.min(end);
            let start = (start + len / 2).saturating_sub(side / 2);
            (start.min(end - side), side)
        };
        let (left, width) = along(ink.left, ink.width, image.width);
        let (top, height) = along(ink.top, ink.height, image.height);
        Rect { left, top, width, height }
    }
}

/// The smallest rectangle with all bytes that are at least `threshold`, if there is any; a threshold of 0 counts as 1.
pub(crate) fn ink_box(image: Image<'_>, threshold: u8) -> Option<Rect> {
    let threshold = threshold.max(1);
    let mut span: Option<[usize; 4]> = None;
    for (y, row) in image.pixels.chunks_exact(image.width * image.channels).enumerate() {
        if row.iter().max().is_none_or(|&most| most < threshold) {
            continue;
        }
        let is_ink = |value: &u8| *value >= threshold;
        let first = row.iter().position(is_ink).unwrap_or(0) / image.channels;
        let last = row.iter().rposition(is_ink).unwrap_or(0) / image.channels;
        let [left, top, right, _] = span.unwrap_or([first, y, last, y]);
        span = Some([left.min(first), top, right.max(last), y]);
    }
    span.map(|[left, top, right, bottom]| Rect { left, top, width: right - left + 1, height: bottom - top + 1 })
}

/// How much of an image its ink extends over: the longer side of the smallest rectangle with all bytes of at least
/// `threshold`, over the longer side of the image; `None` without ink.
///
/// ```
/// let image = cn_augment::Image { pixels: &[0, 0, 0, 0, 90, 99, 0, 0], height: 2, width: 4, channels: 1 };
/// assert_eq!(cn_augment::ink_extent(image, 24), Some(0.5));
/// assert_eq!(cn_augment::ink_extent(image, 100), None);
/// ```
#[must_use]
pub fn ink_extent(image: Image<'_>, threshold: u8) -> Option<f64> {
    let Rect { width, height, .. } = ink_box(image, threshold)?;
    Some(width.max(height) as f64 / image.width.max(image.height) as f64)
}

/// The share of the image's ink that reaches the output, 0 to 1; 1 for an image without ink.
///
/// Ink is the sum of all bytes that are at least `threshold`, in every channel: bright strokes on dark ground (invert
/// an image of dark strokes first). A pixel counts as kept if its centre comes to lie in the output and not in the
/// erased part. Positions alone decide: brightness and contrast are left out.
///
/// For a matrix that cannot be inverted the share is 0. A geometry of another image gives a number without meaning.
#[must_use]
pub fn ink_kept(image: Image<'_>, geometry: &Geometry, threshold: u8) -> f64 {
    let Some(to_output) = geometry.to_output() else {
        return 0.0;
    };
    // A threshold of 0 counts zeros too, which weigh nothing.
    let threshold = threshold.max(1);
    let row_len = image.width * image.channels;
    let (mut kept, mut total) = (0u64, 0u64);
    for (y, row) in image.pixels.chunks_exact(row_len).enumerate() {
        // Most rows of a drawing are empty; the maximum of a row is a few instructions.
        if row.iter().max().is_none_or(|&most| most < threshold) {
            continue;
        }
        for (i, &value) in row.iter().enumerate().filter(|(_, value)| **value >= threshold) {
            let centre = [(i / image.channels) as f64 + 0.5, y as f64 + 0.5];
            total += u64::from(value);
            if is_seen(geometry, to_output, centre) {
                kept += u64::from(value);
            }
        }
    }
    if total == 0 { 1.0 } else { kept as f64 / total as f64 }
}

fn is_seen(geometry: &Geometry, to_output: [[f64; 3]; 2], [x, y]: [f64; 2]) -> bool {
    let size = f64::from(geometry.size);
    let [u, v] = to_output.map(|[a, b, c]| a * x + b * y + c);
    let u = if geometry.is_flipped() { size - u } else { u };
    let within = |at: f64, start: usize, len: usize| (start as f64..(start + len) as f64).contains(&at);
    let inside = (0.0..size).contains(&u) && (0.0..size).contains(&v);
    inside && !geometry.erased().is_some_and(|r| within(u, r.left, r.width) && within(v, r.top, r.height))
}

#[cfg(test)]
mod tests {
    use cn_kernels::resample::Rect;

    use super::*;

    /// 4 x 4 with ink of 10, 20, 30, 40 in the corners and noise of 1 elsewhere.
    const PIXELS: [u8; 16] = [10, 1, 1, 20, 1, 1, 1, 1, 1, 1, 1, 1, 30, 1, 1, 40];
    const IMAGE: Image<'_> = Image { pixels: &PIXELS, height: 4, width: 4, channels: 1 };

    fn check(geometry: Geometry, expected: f64) {
        let kept = ink_kept(IMAGE, &geometry, 5);
        assert!((kept - expected).abs() < 1e-12, "{kept}, not {expected}: {geometry:?}");
    }

    #[test]
    fn the_square_is_about_the_ink_and_in_the_image() {
        let at = |left: usize, top: usize, width: usize, height: usize, fill| {
            let mut pixels = vec![0u8; 40 * 30];
            for y in top..top + height {
                pixels[y * 40 + left..][..width].fill(90);
            }
            pixels[0] = 89;
            let Rect { left, top, width, height } =
                InkSquare { fill, threshold: 90 }.of(Image { pixels: &pixels, height: 30, width: 40, channels: 1 });
            [left, top, width, height]
        };
        assert_eq!(at(20, 10, 4, 8, 1.0), [18, 10, 8, 8]);
        assert_eq!(at(20, 10, 4, 8, 0.5), [14, 6, 16, 16]);
        // Moved into the image, then cut.
        assert_eq!(at(38, 0, 2, 2, 0.25), [32, 0, 8, 8]);
        assert_eq!(at(38, 0, 2, 2, 0.05), [0, 0, 40, 30]);
        assert_eq!(at(0, 0, 2, 2, 0.06), [0, 0, 33, 30]);
        assert_eq!(at(0, 0, 2, 2, f64::MIN_POSITIVE), [0, 0, 40, 30]);
        // No ink: everything.
        assert_eq!(at(0, 0, 0, 0, 1.0), [0, 0, 40, 30]);
    }

    #[test]
    fn the_box_counts_pixels_of_every_channel() {
        let pixels: [u8; 18] = [0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0];
        let found = ink_box(Image { pixels: &pixels, height: 2, width: 3, channels: 3 }, 7);
        assert_eq!(found, Some(Rect { left: 1, top: 0, width: 2, height: 2 }));
        let found = ink_box(Image { pixels: &pixels, height: 2, width: 3, channels: 3 }, 8);
        assert_eq!(found, Some(Rect { left: 2, top: 1, width: 1, height: 1 }));
    }

    fn boxed(left: usize, top: usize, width: usize, height: usize) -> Geometry {
        Geometry::resize(Rect { left, top, width, height }, 7)
    }

    #[test]
    fn boxes_keep_what_they_hold() {
        check(Geometry::whole(IMAGE, 7), 1.0);
        check(boxed(0, 0, 3, 4), 0.4);
        check(boxed(1, 1, 3, 3), 0.4);
        check(boxed(0, 0, 4, 3), 0.3);
        check(boxed(1, 1, 2, 2), 0.0);
        check(boxed(1, 1, 3, 3).flipped(), 0.4);
    }

    #[test]
    fn margins_and_matrices_count() {
        // Resized to 12, the central 8: pixels 2 to 3 of 4 remain.
        check(Geometry::centre(Rect::of_size(4, 4), 8, 2), 0.0);
        check(Geometry::centre(Rect::of_size(4, 4), 8, 1), 1.0);
        check(Geometry::warp([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], 4), 1.0);
        check(Geometry::warp([1.0, 0.0, 1.0, 0.0, 1.0, 0.0], 4), 0.6);
        check(Geometry::warp([1.0, 0.0, -1.0, 0.0, 1.0, 1.0], 4), 0.3);
        check(Geometry::warp([0.0; 6], 4), 0.0);
    }

    #[test]
    fn erased_ink_is_lost() {
        let erased = Geometry { erased: [0, 0, 1, 1], ..Geometry::whole(IMAGE, 4) };
        check(erased, 0.9);
        check(erased.flipped(), 0.8);
    }

    #[test]
    fn an_image_without_ink_loses_none() {
        let empty = Image { pixels: &[0; 16], ..IMAGE };
        assert_eq!(ink_kept(empty, &boxed(0, 0, 1, 1), 0), 1.0);
        assert_eq!(ink_kept(empty, &boxed(0, 0, 1, 1), 9), 1.0);
    }

    #[test]
    fn channels_add_up() {
        let image = Image { pixels: &[10, 0, 10, 0, 60, 0], height: 1, width: 2, channels: 3 };
        assert_eq!(ink_kept(image, &boxed(0, 0, 1, 1), 5), 0.25);
    }
}
