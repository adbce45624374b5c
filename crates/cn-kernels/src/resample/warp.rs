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
        match (samples, self.channels) {
            ([1, 1], 1) => self.single_samples::<1>(warp, y, out),
            ([1, 1], 3) => self.single_samples::<3>(warp, y, out),
            _ => self.many_samples(warp, y, samples, out),
        }
    }

    fn single_samples<const C: usize>(&self, warp: &Warp, y: usize, out: &mut [u8]) {
        let mut at = start_of_row(warp, 0.5, y as f64 + 0.5);
        let step = [to_fixed(warp.matrix[0][0]), to_fixed(warp.matrix[1][0])];
        for out in out.as_chunks_mut::<C>().0 {
            let (offset, weights) = self.locate(at);
            let (upper, lower) = (&self.pixels[offset..][..2 * C], &self.pixels[offset + self.row_len..][..2 * C]);
            for c in 0..C {
                let sum = blend([upper[c], upper[C + c], lower[c], lower[C + c]], weights);
                out[c] = ((sum + (1 << (2 * WEIGHT_BITS - 1))) >> (2 * WEIGHT_BITS)) as u8;
            }
            at = [at[0] + step[0], at[1] + step[1]];
        }
    }

    /// The mean of `nx * ny` reads per output pixel, for any number of channels.
    fn many_samples(&self, warp: &Warp, y: usize, [nx, ny]: [u32; 2], out: &mut [u8]) {
        let c = self.channels;
        let total = u64::from(nx * ny) << (2 * WEIGHT_BITS);
        let offset_of = |i: u32, n: u32| (f64::from(i) + 0.5) / f64::from(n);
        for (x, out) in out.chunks_exact_mut(c).enumerate() {
            for (channel, out) in out.iter_mut().enumerate() {
                let mut sum = total / 2;
                for sample in 0..nx * ny {
                    let (dx, dy) = (offset_of(sample % nx, nx), offset_of(sample / nx, ny));
                    let (offset, weights) = self.locate(start_of_row(warp, x as f64 + dx, y as f64 + dy));
                    let at = |skip: usize| self.pixels[offset + skip + channel];
                    let pixels = [at(0), at(c), at(self.row_len), at(self.row_len + c)];
                    sum += u64::from(blend(pixels, weights));
                }
                *out = (sum / total) as u8;
            }
        }
    }

    /// Index of the upper left of four pixels around a position, and the weights of the right and the lower ones.
    fn locate(&self, at: [i64; 2]) -> (usize, [u32; 2]) {
        let [x, y] = [at[0].clamp(0, self.limit[0]), at[1].clamp(0, self.limit[1])];
        let weight = |v: i64| (v >> (FRACTION_BITS - WEIGHT_BITS)) as u32 & ((1 << WEIGHT_BITS) - 1);
        let (column, row) = ((x >> FRACTION_BITS) as usize, (y >> FRACTION_BITS) as usize);
        (row * self.row_len + column * self.channels, [weight(x), weight(y)])
    }
}

/// Weighted mean of [upper left, upper right, lower left, lower right], times 2^22.
fn blend(pixels: [u8; 4], [right, low]: [u32; 2]) -> u32 {
    const ONE: u32 = 1 << WEIGHT_BITS;
    let [a, b, c, d] = pixels.map(u32::from);
    (a * (ONE - right) + b * right) * (ONE - low) + (c * (ONE - right) + d * right) * low
}

/// Where the output position (x, y) lies in the padded image. Subtracting 0.5 leads to indices, adding 1 to the margin.
fn start_of_row(warp: &Warp, x: f64, y: f64) -> [i64; 2] {
    warp.matrix.map(|[a, b, c]| to_fixed(a * x + b * y + c + 0.5))
}

/// Nearest fixed-point number; beyond 2^30 px it is cut, so that a row cannot overflow. NaN gives 0.
fn to_fixed(value: f64) -> i64 {
    const LIMIT: f64 = (1u64 << 30) as f64;
    (value.clamp(-LIMIT, LIMIT) * f64::from(1u32 << FRACTION_BITS)).round() as i64
}

/// How many samples an output pixel needs along output axis `axis` (0 = x): the input pixels that it spans.
fn samples_along(warp: &Warp, axis: usize) -> u32 {
    let [dx, dy] = [warp.matrix[0][axis], warp.matrix[1][axis]];
    ((dx * dx + dy * dy).sqrt().round() as u32).clamp(1, MAX_SAMPLES)
}
