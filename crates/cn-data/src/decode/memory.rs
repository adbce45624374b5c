//! What decoding an image takes at its peak, known from its header, and how much that may be.

use std::sync::{Condvar, Mutex, PoisonError};

use image::{ImageDecoder, ImageFormat};

use super::BadReason;

/// Bytes that what stands before the pixels, such as a profile, may take beyond its part of the file.
pub(crate) const MAX_METADATA: u64 = 16 << 20;
/// Bytes that decoding the pixels of any image may take; 64 MiB with [`MAX_METADATA`].
const BUDGET: u64 = 48 << 20;
/// How many times its own size a file of more than that may take.
const MAX_RATIO: u64 = 200;
/// Bytes that an image takes without asking.
const UNCOUNTED: u64 = 1 << 20;

/// Memory for images that are so plain that they take far more than their files: [`BUDGET`] for all that are decoded at
/// once.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    free: Mutex<u64>,
    given_back: Condvar,
}

impl Default for MemoryBudget {
    fn default() -> Self {
        Self { free: Mutex::new(BUDGET), given_back: Condvar::new() }
    }
}

impl MemoryBudget {
    /// Waits until an image of `file` bytes that takes `peak` has its place, which it holds until it drops what it is
    /// given; an error for one that no picture is as plain as.
    pub(super) fn acquire(&self, file: u64, peak: u64) -> Result<Permit<'_>, BadReason> {
        if peak <= UNCOUNTED || peak / file.max(1) <= MAX_RATIO {
            return Ok(Permit { budget: self, bytes: 0 });
        }
        if peak > BUDGET {
            return Err(BadReason::Bomb { bytes: file, peak });
        }
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.given_back.wait_while(free, |free| *free < peak);
        *free.unwrap_or_else(PoisonError::into_inner) -= peak;
        Ok(Permit { budget: self, bytes: peak })
    }
}

/// A place in a [`MemoryBudget`].
#[derive(Debug)]
pub(super) struct Permit<'a> {
    budget: &'a MemoryBudget,
    bytes: u64,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            *self.budget.free.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
            self.budget.given_back.notify_all();
        }
    }
}

/// Bytes that the image crate takes to decode a file, and to bring it to eight bits: its pixels, and beside them what its
/// decoder of the format holds, or the same in eight bits.
pub(super) fn peak(file: &[u8], format: ImageFormat, decoder: &impl ImageDecoder) -> u64 {
    let (color, (width, height)) = (decoder.color_type(), decoder.dimensions());
    let pixels = u64::from(width) * u64::from(height);
    let each = u64::from(color.bytes_per_pixel());
    let total = pixels * each;
    let beside = match format {
        // A frame that is not as wide as the whole is decoded for itself.
        ImageFormat::Gif => total,
        // All samples as they are stored, such as four of CMYK for three, or eight of black and white in a byte.
        ImageFormat::Tiff => pixels * u64::from(decoder.original_color_type().bits_per_pixel()) / 8,
        ImageFormat::WebP => pixels * beside_webp(file),
        // The row before and the one that is unpacked, twice.
        _ => 4 * u64::from(width) * each,
    };
    let of_eight_bits = pixels * u64::from(color.channel_count());
    let converted = if of_eight_bits < total { of_eight_bits } else { 0 };
    total + beside.max(converted)
}

/// Bytes a pixel that the decoder of WebP holds beside the pixels, by the form of the file (RFC 9649, 2.3 to 2.7).
fn beside_webp(file: &[u8]) -> u64 {
    const ANIMATION: u8 = 1 << 1;
    const ALPHA: u8 = 1 << 4;
    match (file.get(12..16), file.get(20)) {
        // Luma, a quarter as many of each chroma, and the kinds of blocks.
        (Some(b"VP8 "), _) => 2,
        // The canvas, and a frame with alpha.
        (Some(b"VP8X"), Some(flags)) if flags & ANIMATION != 0 => 8,
        // As `VP8 `, and alpha while it is unpacked.
        (Some(b"VP8X"), Some(flags)) if flags & ALPHA != 0 => 7,
        // Four channels where three are wanted.
        _ => 4,
    }
}

/// Whether a WebP holds a frame of lossy pixels that is larger than the whole: its decoder takes the memory for it, and
/// compares the sizes afterwards.
pub(super) fn has_larger_frame(webp: &[u8], size: [u32; 2]) -> bool {
    let is_larger = |(kind, data): (&[u8], &[u8])| match kind {
        b"VP8 " => is_larger_frame(data, size),
        // Place, size, time and flags, and the chunks of the frame.
        b"ANMF" => data
            .get(16..)
            .is_some_and(|inner| chunks(inner).any(|(kind, data)| kind == b"VP8 " && is_larger_frame(data, size))),
        _ => false,
    };
    webp.get(12..).is_some_and(|inner| chunks(inner).any(is_larger))
}

/// RFC 6386, 9.1: a tag of three bytes and a start code, then width and height in 14 bits each.
fn is_larger_frame(data: &[u8], [width, height]: [u32; 2]) -> bool {
    let Some(&[a, b, c, d]) = data.get(6..10) else { return false };
    let side = |pair| u32::from(u16::from_le_bytes(pair) & 0x3FFF);
    side([a, b]) > width || side([c, d]) > height
}

/// Kinds and data of the chunks of a RIFF file.
fn chunks(mut rest: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let (kind, after) = rest.split_at_checked(4)?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let data = &after[..length.min(after.len())];
        rest = after.get(length.saturating_add(length % 2)..).unwrap_or_default();
        Some((kind, data))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn plain_images_share_their_room() {
        let (budget, inside, most) = (MemoryBudget::default(), AtomicU64::new(0), AtomicU64::new(0));
        let acquire = |mib: u64| {
            let permit = budget.acquire(1000, mib << 20).expect("no bomb");
            most.fetch_max(inside.fetch_add(mib, Ordering::SeqCst) + mib, Ordering::SeqCst);
            std::thread::yield_now();
            inside.fetch_sub(mib, Ordering::SeqCst);
            drop(permit);
        };
        std::thread::scope(|scope| {
            for first in 1..9 {
                scope.spawn(move || (0..200).for_each(|i| acquire(2 + (first * 7 + i * 11) % 47)));
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 48, "{most:?} MiB at once");
        assert_eq!(*budget.free.lock().expect("no thread panicked"), BUDGET);
    }

    #[test]
    fn images_that_are_large_on_disk_need_no_room() {
        let budget = MemoryBudget::default();
        let plain = budget.acquire(1000, BUDGET).expect("no bomb");
        // None of them waits.
        let _packed = budget.acquire(1 << 20, 200 << 20).expect("no bomb");
        let _little = budget.acquire(10, 1 << 20).expect("no bomb");
        assert_eq!(budget.acquire(1000, BUDGET + 1).err(), Some(BadReason::Bomb { bytes: 1000, peak: BUDGET + 1 }));
        drop(plain);
        assert_eq!(*budget.free.lock().expect("no thread panicked"), BUDGET);
    }

    #[test]
    fn frames_of_webp_are_found_wherever_they_are() {
        let chunk = |kind: &[u8], data: &[u8]| [kind, &(data.len() as u32).to_le_bytes(), data].concat();
        let frame = chunk(b"VP8 ", &[0, 0, 0, 0x9D, 0x01, 0x2A, 40, 0, 0, 0x40 + 1]);
        let alpha = chunk(b"ALPH", &[0; 2]);
        let animated = [&[0; 16][..], &alpha, &frame].concat();
        let head = b"RIFF\0\0\0\0WEBP";
        for inner in [frame.clone(), [&alpha[..], &frame].concat(), [&alpha[..], &chunk(b"ANMF", &animated)].concat()] {
            let webp = [head, &inner[..]].concat();
            // The two upper bits are a scale.
            assert!(!has_larger_frame(&webp, [40, 256]));
            assert!(has_larger_frame(&webp, [39, 256]) && has_larger_frame(&webp, [40, 255]));
            (0..webp.len()).for_each(|end| assert!(end > 30 || !has_larger_frame(&webp[..end], [0, 0]), "{end}"));
        }
    }
}
