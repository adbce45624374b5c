//! How much of an image a geometry leaves.

use crate::{Geometry, Image};

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
        check(Geometry::centre(IMAGE, 8, 2), 0.0);
        check(Geometry::centre(IMAGE, 8, 1), 1.0);
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
