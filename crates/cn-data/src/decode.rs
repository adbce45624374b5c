//! One file's bytes to pixels.

use std::{
    io::{self, BufRead, Cursor, Read, Seek, SeekFrom},
    panic::{AssertUnwindSafe, catch_unwind},
};

use image::{
    DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage,
    metadata::Orientation,
};
use memory::{has_larger_frame, peak};
use serde::{Deserialize, Serialize};
use shrink::shrunk;
use tiff::{
    decoder::Decoder as TiffDecoder,
    tags::{CompressionMethod, Tag},
};
use tiles::Stack;
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::{JpegDecoder, errors::DecodeErrors};

pub(crate) use memory::{MAX_METADATA, MemoryBudget};

/// How files become pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecodeConfig {
    /// Channels of the result.
    pub channels: Channels,
    /// Images with a longer side are shrunk to it, averaging over the pixels that fall together.
    pub longest_side: u32,
    /// Images of more pixels are refused before anything is allocated for them.
    pub max_image_pixels: u64,
    /// All images together may take this many bytes.
    pub max_total_bytes: u64,
}

impl Default for DecodeConfig {
    /// Channels as the files have them, longest side 512, 100 million pixels an image, 16 GiB in all.
    fn default() -> Self {
        Self {
            channels: Channels::AsFiles,
            longest_side: 512,
            max_image_pixels: 100_000_000,
            max_total_bytes: 16 << 30,
        }
    }
}

/// Channels of decoded images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// 1 if all files are grey, else 3.
    AsFiles,
    /// 1; colours are reduced to their luma, with Pillow's weights (ITU-R 601).
    Grey,
    /// 3, red green blue.
    Rgb,
}

/// Why an image cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadReason {
    /// There is no such file, or it is a link to nowhere.
    #[error("missing")]
    Missing,
    /// A folder, pipe or device.
    #[error("not a file")]
    NotAFile,
    /// The system refuses to read it.
    #[error("unreadable: {0}")]
    Unreadable(String),
    /// No bytes.
    #[error("empty")]
    Empty,
    /// No image, or of a format that is not supported.
    #[error("no image of a supported format (JPEG, PNG, BMP, GIF, WebP, TIFF)")]
    UnknownFormat,
    /// More pixels than [`DecodeConfig::max_image_pixels`].
    #[error("{width} x {height} pixels are more than the {limit} allowed")]
    TooLarge {
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
        /// The limit, in pixels.
        limit: u64,
    },
    /// A file of more bytes than any image within the limits needs.
    #[error("{bytes} bytes are more than an image of the size allowed can have")]
    FileTooLarge {
        /// Size of the file.
        bytes: u64,
    },
    /// So much memory for so small a file that it was made to fill it.
    #[error("{bytes} bytes that take {} MiB to be decoded: no picture is as plain as that; if it is one, save it smaller", .peak.div_ceil(1 << 20))]
    Bomb {
        /// Size of the file.
        bytes: u64,
        /// Bytes that decoding would take.
        peak: u64,
    },
    /// A kind of a format that is not read.
    #[error("not supported: {0}; most programs that show it can save it anew")]
    Unsupported(String),
    /// Truncated or corrupt.
    #[error("damaged: {}", one_line(.0))]
    Damaged(String),
}

/// A decoder's words, some of which end with the end of a line, on one.
fn one_line(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A decoded image: `pixels` is (height, width, channels), row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) height: u32,
    pub(crate) width: u32,
    pub(crate) channels: u32,
    pub(crate) pixels: Vec<u8>,
}

/// Decodes a file's bytes, turned as its EXIF data say; `budget` is that of all images that are decoded at once.
pub(crate) fn decode(bytes: &[u8], config: &DecodeConfig, budget: &MemoryBudget) -> Result<Decoded, BadReason> {
    // A panic in a decoder of foreign bytes must cost one image, not the run.
    let (image, orientation) = catch_unwind(AssertUnwindSafe(|| decode_any(bytes, config, budget)))
        .unwrap_or_else(|_| Err(BadReason::Damaged("the decoder gave up".into())))?;
    Ok(with_channels(turned(image, orientation), config.channels))
}

/// The image as it is stored, but no larger than it may be, and how it is to be turned.
fn decode_any(bytes: &[u8], config: &DecodeConfig, budget: &MemoryBudget) -> Result<(Decoded, Orientation), BadReason> {
    if bytes.is_empty() {
        return Err(BadReason::Empty);
    }
    let format =
        image::guess_format(bytes).ok().filter(ImageFormat::reading_enabled).ok_or(BadReason::UnknownFormat)?;
    if is_overfull(&mut Cursor::new(bytes), format) {
        return Err(damaged(format_args!(
            "more than {MAX_CHUNKS} chunks or segments beside the image, or too long ones"
        )));
    }
    match format {
        ImageFormat::Jpeg => decode_jpeg(bytes, config, budget),
        other => decode_other(bytes, other, config, budget),
    }
}

/// Baseline and progressive JPEG; strict about the image data, so that a file that lacks some of them is found out.
fn decode_jpeg(
    bytes: &[u8],
    config: &DecodeConfig,
    budget: &MemoryBudget,
) -> Result<(Decoded, Orientation), BadReason> {
    let lenient = DecoderOptions::default().set_strict_mode(false).set_max_width(usize::MAX).set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), lenient);
    decoder.decode_headers().map_err(of_jpeg)?;
    let (width, height) = decoder.dimensions().ok_or_else(|| damaged("no dimensions"))?;
    check_size(width as u64, height as u64, config)?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let (space, channels) = if grey { (ColorSpace::Luma, 1) } else { (ColorSpace::RGB, 3) };
    let (file, total) = (bytes.len() as u64, (width * height * channels) as u64);
    drop(budget.acquire(file, total)?);
    // Stray bytes between headers do no harm; from here on they would.
    let strict = decoder.options().set_strict_mode(true).jpeg_set_out_colorspace(space);
    decoder.set_options(strict);
    let kept = blocks::check(bytes, width, height)?;
    let _permit = budget.acquire(file, total + kept)?;
    let mut pixels = vec![0; width * height * channels];
    decoder.decode_into(&mut pixels).map_err(of_jpeg)?;
    let image = Decoded { height: height as u32, width: width as u32, channels: channels as u32, pixels };
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    drop(decoder);
    Ok((shrunk(image, config.longest_side), orientation.unwrap_or(Orientation::NoTransforms)))
}

/// What the decoder of JPEG does not know has no type of its own.
fn of_jpeg(error: DecodeErrors) -> BadReason {
    const UNKNOWN: [&str; 3] = ["not supported", "not a power of two", "would panic"];
    let words = error.to_string();
    let words = words.trim_matches('"');
    let is_unknown = matches!(error, DecodeErrors::Unsupported(_)) || UNKNOWN.iter().any(|known| words.contains(known));
    if is_unknown {
        BadReason::Unsupported(format!("a JPEG that the decoder does not know ({words})"))
    } else {
        damaged(words)
    }
}

fn decode_other(
    bytes: &[u8],
    format: ImageFormat,
    config: &DecodeConfig,
    budget: &MemoryBudget,
) -> Result<(Decoded, Orientation), BadReason> {
    let is_tiff = format == ImageFormat::Tiff;
    if let Some(kind) = is_tiff.then(|| unknown_tiff(bytes)).flatten() {
        return Err(BadReason::Unsupported(kind.into()));
    }
    let stack = is_tiff.then(|| tiles::stacked(bytes, config.max_image_pixels)).flatten();
    let bytes = stack.as_ref().map_or(bytes, |stack| &stack.bytes);
    let open = |max_alloc: u64| {
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        reader.limits(limits(max_alloc));
        reader.into_decoder().map_err(of_image)
    };
    let mut decoder = open(MAX_METADATA)?;
    let [width, height] = stack.as_ref().map_or_else(|| decoder.dimensions().into(), Stack::size);
    check_size(width.into(), height.into(), config)?;
    if format == ImageFormat::WebP && has_larger_frame(bytes, [width, height]) {
        return Err(damaged("a frame that is larger than the image"));
    }
    let peak = peak(bytes, format, &decoder);
    // The file itself and the pixels of its tiles once more.
    let copies = stack.as_ref().map_or(0, |stack| stack.bytes.len() as u64 + decoder.total_bytes());
    let _permit = budget.acquire(bytes.len() as u64, peak + copies)?;
    if peak > MAX_METADATA {
        // What a decoder counts: of GIF the frame beside the pixels, which gets as much as they do; of others it is all.
        decoder = open(if format == ImageFormat::Gif { decoder.total_bytes() } else { peak + MAX_METADATA })?;
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = match &stack {
        Some(stack) => DynamicImage::from_decoder(stack.decoder(decoder)),
        None => DynamicImage::from_decoder(decoder),
    };
    let image = flattened(image.map_err(of_image)?);
    // GIF knows palettes only: what has no colour is grey.
    let image = if format == ImageFormat::Gif && is_colourless(&image) { to_grey(image) } else { image };
    Ok((shrunk(image, config.longest_side), orientation))
}

/// What a decoder does not know is no damage.
fn of_image(error: ImageError) -> BadReason {
    match error {
        ImageError::Unsupported(kind) => BadReason::Unsupported(one_line(&kind.to_string())),
        ImageError::Limits(_) => {
            BadReason::Unsupported(format!("rows, or notes beside the image, of more than {} MiB", MAX_METADATA >> 20))
        }
        error => damaged(error),
    }
}

/// Limits of a decoder that takes at most so many bytes.
pub(crate) fn limits(max_alloc: u64) -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(max_alloc);
    limits
}

/// What a TIFF file is that its decoder would take for something else: JPEG, which it gives to another one without any
/// limit, a size and as many parts as are written there; and bits in the order of faxes, which it does not turn.
fn unknown_tiff(bytes: &[u8]) -> Option<&'static str> {
    const LOWEST_FIRST: u16 = 2;
    let mut tiff = TiffDecoder::new(Cursor::new(bytes)).ok()?;
    let mut value = |tag| tiff.find_tag_unsigned::<u16>(tag).ok().flatten();
    let jpeg = [CompressionMethod::JPEG, CompressionMethod::ModernJPEG].map(|method| method.to_u16());
    match (value(Tag::Compression), value(Tag::FillOrder)) {
        (Some(method), _) if jpeg.contains(&method) => Some("a TIFF with JPEG within"),
        (_, Some(LOWEST_FIRST)) => Some("a TIFF whose bytes begin with their lowest bit"),
        _ => None,
    }
}

/// Whether a JPEG has more than [`MAX_CHUNKS`] segments before its first scan, or more than [`MAX_SEGMENT_BYTES`] of them: the
/// decoder keeps those of profiles and notes, and looks at all of these anew at each marker.
fn has_many_segments(file: &mut (impl BufRead + Seek)) -> bool {
    let (mut n, mut total) = (0, 0);
    if file.seek(SeekFrom::Start(2)).is_err() {
        return false;
    }
    let mut pair = [0; 2];
    while n <= MAX_CHUNKS && total <= MAX_SEGMENT_BYTES {
        let mut last = 0;
        // 0xFF and what is no fill is a marker, as the decoder reads it.
        let marker = file.by_ref().bytes().map_while(io::Result::ok).find(|&byte| {
            let is_marker = last == 0xFF && !matches!(byte, 0 | 0xFF);
            last = byte;
            is_marker
        });
        if matches!(marker, None | Some(0xD9 | 0xDA)) || file.read_exact(&mut pair).is_err() {
            return false;
        }
        let length = u16::from_be_bytes(pair).max(2);
        if file.seek_relative(i64::from(length) - 2).is_err() {
            return false;
        }
        (n, total) = (n + 1, total + u64::from(length));
    }
    true
}

/// Whether more stands beside the image of a file than its decoder should keep.
pub(crate) fn is_overfull(file: &mut (impl BufRead + Seek), format: ImageFormat) -> bool {
    match format {
        ImageFormat::Png => has_many_chunks(file),
        ImageFormat::Jpeg => has_many_segments(file),
        _ => false,
    }
}

/// Chunks of a PNG file that do not hold pixels, and segments of a JPEG: each takes memory that no limit of the decoder
/// counts.
const MAX_CHUNKS: usize = 10_000;
/// Bytes of segments of a JPEG, which its decoder keeps as they are.
const MAX_SEGMENT_BYTES: u64 = 64 << 20;

/// Whether a PNG file has more than [`MAX_CHUNKS`] beside those of pixels (PNG specification, 5.3: length, type, data,
/// checksum).
fn has_many_chunks(file: &mut (impl Read + Seek)) -> bool {
    let mut head = [0; 8];
    let mut next = file.seek(SeekFrom::Start(8)).and_then(|_| file.read_exact(&mut head));
    let mut n = 0;
    while next.is_ok() && n <= MAX_CHUNKS {
        let [a, b, c, d, kind @ ..] = head;
        if &kind == b"IEND" {
            break;
        }
        n += usize::from(!matches!(&kind, b"IDAT" | b"fdAT"));
        let rest = i64::from(u32::from_be_bytes([a, b, c, d])) + 4;
        next = file.seek_relative(rest).and_then(|()| file.read_exact(&mut head));
    }
    n > MAX_CHUNKS
}

fn damaged(error: impl ToString) -> BadReason {
    BadReason::Damaged(error.to_string())
}

fn check_size(width: u64, height: u64, config: &DecodeConfig) -> Result<(), BadReason> {
    if width == 0 || height == 0 {
        return Err(damaged("no pixels"));
    }
    let limit = config.max_image_pixels;
    if width.saturating_mul(height) > limit {
        return Err(BadReason::TooLarge { width, height, limit });
    }
    Ok(())
}

/// Levels between the darkest and the brightest value below which nothing is shown.
pub(crate) const BLANK: u8 = 16;

/// Levels between the darkest and the brightest value.
pub(crate) fn span(values: impl Iterator<Item = u8>) -> u8 {
    let (low, high) = values.fold((u8::MAX, 0), |(low, high), value| (low.min(value), high.max(value)));
    high.saturating_sub(low)
}

/// Eight bits, grey or RGB; what is transparent becomes white, as paper is, or black where nothing is to be seen on
/// white.
fn flattened(image: DynamicImage) -> Decoded {
    let (width, height) = (image.width(), image.height());
    let color = image.color();
    let (channels, pixels) = match (color.has_color(), color.has_alpha()) {
        (false, false) => (1, image.into_luma8().into_raw()),
        (true, false) => (3, image.into_rgb8().into_raw()),
        (false, true) => (1, on_paper(image.into_luma_alpha8().into_raw(), 2)),
        (true, true) => (3, on_paper(image.into_rgba8().into_raw(), 4)),
    };
    Decoded { height, width, channels, pixels }
}

/// Lays the image over white, or over black where it would not be seen on white; drops the last of its channels, alpha.
fn on_paper(pixels: Vec<u8>, channels: usize) -> Vec<u8> {
    let over = |ground: u32| {
        move |p: &[u8], channel: usize| {
            let (value, alpha) = (u32::from(p[channel]), u32::from(p[channels - 1]));
            ((value * alpha + ground * (255 - alpha) + 127) / 255) as u8
        }
    };
    let alphas = pixels.iter().skip(channels - 1).step_by(channels).copied();
    let white = pixels.chunks_exact(channels).flat_map(|p| (0..channels - 1).map(move |channel| over(255)(p, channel)));
    let is_lost = span(white) < BLANK && span(alphas) >= BLANK;
    map_channels(pixels, channels, channels - 1, over(if is_lost { 0 } else { 255 }))
}

/// Pixels of `from` channels as ones of `to`, no more, in place, since there may be many; `value` gives each channel.
fn map_channels(mut pixels: Vec<u8>, from: usize, to: usize, value: impl Fn(&[u8], usize) -> u8) -> Vec<u8> {
    let n = pixels.len() / from;
    let mut pixel = [0; 4];
    for i in 0..n {
        pixel[..from].copy_from_slice(&pixels[i * from..][..from]);
        for (channel, new) in pixels[i * to..][..to].iter_mut().enumerate() {
            *new = value(&pixel[..from], channel);
        }
    }
    pixels.truncate(n * to);
    pixels
}

fn is_colourless(image: &Decoded) -> bool {
    image.channels == 3 && image.pixels.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2])
}

fn with_channels(image: Decoded, channels: Channels) -> Decoded {
    match (channels, image.channels) {
        (Channels::Grey, 3) => to_grey(image),
        (Channels::Rgb, 1) => Decoded { channels: 3, pixels: grey_to_rgb(&image.pixels), ..image },
        _ => image,
    }
}

/// Pillow's luma: 16-bit weights of red, green and blue, rounded.
fn to_grey(image: Decoded) -> Decoded {
    let luma = |p: &[u8], _| {
        let [r, g, b] = [p[0], p[1], p[2]].map(u32::from);
        ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8
    };
    Decoded { channels: 1, pixels: map_channels(image.pixels, 3, 1, luma), ..image }
}

/// Three equal channels.
pub(crate) fn grey_to_rgb(pixels: &[u8]) -> Vec<u8> {
    pixels.iter().flat_map(|&value| [value; 3]).collect()
}

fn turned(image: Decoded, orientation: Orientation) -> Decoded {
    if orientation == Orientation::NoTransforms {
        return image;
    }
    over_image(image, |mut image| {
        image.apply_orientation(orientation);
        image
    })
}

/// Runs a function of the image crate over pixels.
fn over_image(image: Decoded, f: impl FnOnce(DynamicImage) -> DynamicImage) -> Decoded {
    let Decoded { width, height, channels, pixels } = image;
    let fits = "the buffer was made for this size";
    let image = if channels == 1 {
        GrayImage::from_raw(width, height, pixels).expect(fits).into()
    } else {
        RgbImage::from_raw(width, height, pixels).expect(fits).into()
    };
    let image = f(image);
    Decoded { width: image.width(), height: image.height(), channels, pixels: image.into_bytes() }
}

mod blocks;
mod memory;
mod shrink;
mod tiles;

#[cfg(test)]
mod tests;
