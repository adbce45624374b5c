//! Images brought to the size that is kept of them, in little more memory than their own.

use image::{
    DynamicImage,
    imageops::{FilterType, resize},
};

use super::{Decoded, over_image};

/// The image with no side longer than this, averaged by a triangle over what falls together.
pub(super) fn shrunk(image: Decoded, longest_side: u32) -> Decoded {
    let longest = image.width.max(image.height);
    if longest <= longest_side.max(1) {
        return image;
    }
    let scale = f64::from(longest_side.max(1)) / f64::from(longest);
    let side = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    let (width, height) = (side(image.width), side(image.height));
    // The image crate keeps what is left of the rows, or the columns, as four floats a pixel, which may be many times the
    // image itself: so the rows are brought to their width before, those of very many pixels in two steps.
    let n = u64::from(image.width) / (8 * u64::from(longest_side.max(1)) * u64::from(image.height));
    let image = if n > 1 { thinned(image, n as usize) } else { image };
    over_image(narrowed(image, width), |image| match image {
        DynamicImage::ImageLuma8(grey) => resize(&grey, width, height, FilterType::Triangle).into(),
        other => resize(&other.into_rgb8(), width, height, FilterType::Triangle).into(),
    })
}

/// Averages each `n` neighbours of a row, in place.
fn thinned(mut image: Decoded, n: usize) -> Decoded {
    let channels = image.channels as usize;
    let row = image.width as usize * channels;
    let mut end = 0;
    for first in (0..image.pixels.len()).step_by(row) {
        for begin in (first..first + row).step_by(n * channels) {
            let until = (begin + n * channels).min(first + row);
            let n = ((until - begin) / channels) as u64;
            for channel in 0..channels {
                let together = image.pixels[begin + channel..until].iter().step_by(channels);
                let sum: u64 = together.copied().map(u64::from).sum();
                image.pixels[end + channel] = ((sum + n / 2) / n) as u8;
            }
            end += channels;
        }
    }
    image.pixels.truncate(end);
    Decoded { width: image.width.div_ceil(n as u32), ..image }
}

/// Brings the rows to another width, no larger, in place.
fn narrowed(image: Decoded, width: u32) -> Decoded {
    match image.channels {
        _ if width == image.width => image,
        1 => narrowed_rows::<1>(image, width),
        _ => narrowed_rows::<3>(image, width),
    }
}

/// With a triangle over two pixels of the result each, as the image crate.
fn narrowed_rows<const C: usize>(mut image: Decoded, width: u32) -> Decoded {
    let old = image.width as usize;
    let ratio = f64::from(image.width) / f64::from(width);
    let taps = |x: u32| {
        let centre = (f64::from(x) + 0.5) * ratio;
        let first = (centre - ratio).max(0.0) as usize;
        let end = ((centre + ratio).ceil() as usize).min(old);
        let weight = |i: usize| (1.0 - (i as f64 + 0.5 - centre).abs() / ratio).max(0.0);
        let sum: f64 = (first..end).map(weight).sum();
        (first, (first..end).map(|i| (weight(i) / sum) as f32).collect::<Vec<f32>>())
    };
    let taps: Vec<_> = (0..width).map(taps).collect();
    let mut row = vec![0; old * C];
    for y in 0..image.height as usize {
        row.copy_from_slice(&image.pixels[y * old * C..][..old * C]);
        let narrow = &mut image.pixels[y * taps.len() * C..][..taps.len() * C];
        for (pixel, (first, weights)) in narrow.chunks_exact_mut(C).zip(&taps) {
            let mut sums = [0.0; C];
            for (old, weight) in row[first * C..].chunks_exact(C).zip(weights) {
                sums.iter_mut().zip(old).for_each(|(sum, &value)| *sum += weight * f32::from(value));
            }
            pixel.iter_mut().zip(sums).for_each(|(value, sum)| *value = sum.round() as u8);
        }
    }
    image.pixels.truncate(image.height as usize * taps.len() * C);
    Decoded { width, ..image }
}
