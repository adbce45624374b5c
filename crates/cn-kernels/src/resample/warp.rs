//! Affine maps of an image in fixed-point arithmetic.

use super::ImageView;

/// Fractional bits of a coordinate: a step is off by at most 2^-25 px, a row of 1,024 by 3e-5 px.
const FRACTION_BITS: u32 = 24;
/// Fractional bits of a bilinear weight: two of them and a byte fill 30 bits.
const WEIGHT_BITS: u32 = 11;
/// Samples per output pixel and direction when shrinking, at most.
const MAX_SAMPLES: u32 = 16;

/// What an affine warp does.
///
/// Positions are continuous: pixel `i` covers `[i, i + 1)` and has its centre at `i + 0.5` (Pillow's convention for
/// `AFFINE`), so scaling a whole image is a diagonal matrix. Each output pixel reads the image at
/// `matrix * (x + 0.5, y + 0.5, 1)`, bilinearly. A map that shrinks by 1.5 or more takes the mean of several such reads
/// spread evenly over the output pixel, about one per input pixel and direction and at most 16, against aliasing.
///
/// Coordinates have 24 fractional bits and weights 11, so the bytes follow from the matrix alone, on any machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warp {
    /// Maps the centre of an output pixel to a position in the input, both in pixels, `x` first.
    pub matrix: [[f64; 3]; 2],
    /// Width of the result.
    pub width: usize,
    /// Height of the result.
    pub height: usize,
    /// What lies outside the image, in every channel.
    pub border: u8,
}

/// A copy of the image with a margin of border pixels: one before, two after, so that a clamped coordinate can be read
/// without a case.
pub(super) struct Padded<'a> {
    pixels: &'a [u8],
    channels: usize,
    row_len: usize,
    /// Largest coordinates inside the margin, in fixed point.
    limit: [i64; 2],
}

impl<'a> Padded<'a> {
    pub(super) fn new(image: ImageView<'_>, border: u8, scratch: &'a mut Vec<u8>) -> Self {
        let channels = image.channels;
        let row_len = (image.width + 3) * channels;
        scratch.clear();
        scratch.resize(row_len * (image.height + 3), border);
        for (y, row) in scratch.chunks_exact_mut(row_len).skip(1).take(image.height).enumerate() {
            row[channels..][..image.width * channels].copy_from_slice(image.row(y, 0, image.width));
        }
        let limit = [image.width, image.height].map(|n| (n as i64 + 1) << FRACTION_BITS);
        Self { pixels: scratch, channels, row_len, limit }
    }

    /// Writes row `y` of the result.
    pub(super) fn warp_row(&self, warp: &Warp, y: usize, out: &mut [u8]) {
        let samples = [samples_along(warp, 0), samples_along(warp, 1)];
        match self.channels {
            1 => self.warp_channels::<1>(warp, y, samples, 0, out),
            3 => self.warp_channels::<3>(warp, y, samples, 0, out),
            n => (0..n).for_each(|channel| self.warp_channels::<1>(warp, y, samples, channel, out)),
        }
    }

    /// Writes the `C` channels from `first` on of row `y`.
    fn warp_channels<const C: usize>(&self, warp: &Warp, y: usize, samples: [u32; 2], first: usize, out: &mut [u8]) {
        if samples == [1, 1] {
            self.single_samples::<C>(warp, y, first, out);
        } else {
            self.many_samples::<C>(warp, y, samples, first, out);
        }
    }

    fn single_samples<const C: usize>(&self, warp: &Warp, y: usize, first: usize, out: &mut [u8]) {
        let start = position(warp, 0.5, y as f64 + 0.5);
        let step = step_along_row(warp, 1);
        let (low, high) = self.inside(start, step, warp.width);
        for (x, out) in out.chunks_exact_mut(self.channels).enumerate() {
            let out = &mut out[first..first + C];
            if (low..high).contains(&x) {
                let at = advanced(start, step, x);
                let sums = self.read::<C>(at, first);
                out.iter_mut().zip(sums).for_each(|(out, sum)| *out = ((sum + HALF) >> (2 * WEIGHT_BITS)) as u8);
            } else {
                out.fill(warp.border);
            }
        }
    }

    /// The mean of `nx * ny` reads per output pixel.
    fn many_samples<const C: usize>(&self, warp: &Warp, y: usize, [nx, ny]: [u32; 2], first: usize, out: &mut [u8]) {
        let centre = |i: u32, n: u32| (f64::from(i) + 0.5) / f64::from(n);
        let mut starts = [[0; 2]; MAX_SAMPLES as usize];
        for (start, i) in starts.iter_mut().zip(0..ny) {
            *start = position(warp, centre(0, nx), y as f64 + centre(i, ny));
        }
        let step = step_along_row(warp, nx);
        let total = u64::from(nx * ny) << (2 * WEIGHT_BITS);
        for (x, out) in out.chunks_exact_mut(self.channels).enumerate() {
            let mut sums = [total / 2; C];
            for start in &starts[..ny as usize] {
                for i in 0..nx as usize {
                    let at = advanced(*start, step, x * nx as usize + i);
                    let read = self.read::<C>([0, 1].map(|i| at[i].clamp(0, self.limit[i])), first);
                    sums.iter_mut().zip(read).for_each(|(sum, value)| *sum += u64::from(value));
                }
            }
            out[first..].iter_mut().zip(sums).for_each(|(out, sum)| *out = (sum / total) as u8);
        }
    }

    /// The outputs `[low, high)` of a row that lie in the padded image; the others are border. A line meets a
    /// rectangle in one piece.
    fn inside(&self, start: [i64; 2], step: [i64; 2], width: usize) -> (usize, usize) {
        let is_inside = |x: &usize| {
            let [u, v] = advanced(start, step, *x);
            (0..=self.limit[0]).contains(&u) && (0..=self.limit[1]).contains(&v)
        };
        let low = (0..width).find(is_inside).unwrap_or(width);
        let high = (low..width).rev().find(is_inside).map_or(low, |last| last + 1);
        (low, high)
    }

    /// Weighted means of the four pixels around a position in the padded image, times 2^22; `C` channels.
    #[inline(always)]
    fn read<const C: usize>(&self, [x, y]: [i64; 2], first: usize) -> [u32; C] {
        let (column, row) = ((x >> FRACTION_BITS) as usize, (y >> FRACTION_BITS) as usize);
        let [right, low] = [weight(x), weight(y)];
        let offset = row * self.row_len + column * self.channels + first;
        let (upper, lower) = (&self.pixels[offset..], &self.pixels[offset + self.row_len..]);
        let (upper, lower) = (&upper[..self.channels + C], &lower[..self.channels + C]);
        std::array::from_fn(|c| {
            let along = |row: &[u8]| mix(i32::from(row[c]), i32::from(row[self.channels + c]), right);
            mix(along(upper), along(lower), low) as u32
        })
    }
}

/// Half of a mean's 2^22.
const HALF: u32 = 1 << (2 * WEIGHT_BITS - 1);

/// `from + (to - from) * weight`, times 2^11.
fn mix(from: i32, to: i32, weight: i32) -> i32 {
    (from << WEIGHT_BITS) + (to - from) * weight
}

/// The bilinear weight of the later one of two pixels.
fn weight(position: i64) -> i32 {
    (position >> (FRACTION_BITS - WEIGHT_BITS)) as i32 & ((1 << WEIGHT_BITS) - 1)
}

/// `n` steps further.
fn advanced(start: [i64; 2], step: [i64; 2], n: usize) -> [i64; 2] {
    [start[0] + step[0] * n as i64, start[1] + step[1] * n as i64]
}

/// Where the output position (x, y) lies in the padded image. Subtracting 0.5 leads to indices, adding 1 to the margin.
fn position(warp: &Warp, x: f64, y: f64) -> [i64; 2] {
    warp.matrix.map(|[a, b, c]| to_fixed(a * x + b * y + c + 0.5))
}

/// Nearest fixed-point number, cut beyond 2^30 px. NaN gives 0.
fn to_fixed(value: f64) -> i64 {
    const LIMIT: f64 = (1u64 << 30) as f64;
    (value.clamp(-LIMIT, LIMIT) * f64::from(1u32 << FRACTION_BITS)).round() as i64
}

/// The step from sample to sample along a row, cut beyond 2^20 px: 2^18 of them stay within 63 bits.
fn step_along_row(warp: &Warp, samples: u32) -> [i64; 2] {
    const LIMIT: i64 = 1 << (20 + FRACTION_BITS);
    warp.matrix.map(|[a, _, _]| to_fixed(a / f64::from(samples)).clamp(-LIMIT, LIMIT))
}

/// How many samples an output pixel needs along output axis `axis` (0 = x): the input pixels that it spans.
fn samples_along(warp: &Warp, axis: usize) -> u32 {
    let [dx, dy] = [warp.matrix[0][axis], warp.matrix[1][axis]];
    ((dx * dx + dy * dy).sqrt().round() as u32).clamp(1, MAX_SAMPLES)
}
