//! What decoding takes at its peak, of plain images in every form that is read, which are small files and large images.

use std::{fs, io::Cursor, path::PathBuf};

use cn_data::{BadReason, DecodeConfig, Error, LoadConfig, Pixels};
use image::{
    DynamicImage, ImageFormat,
    codecs::png::{CompressionType, FilterType, PngEncoder},
};
use peak_alloc::PeakAlloc;
use tiff::encoder::{Compression, TiffEncoder, colortype::CMYK8};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What the pixels of an image that is far larger than its file may take.
const BUDGET: usize = 48 << 20;
/// Of the file and of what is counted neither for it nor for its pixels, such as tables of codes and the rows at work.
const BESIDE: usize = 5 << 20;

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("encodes");
    bytes.into_inner()
}

fn png(image: &DynamicImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let smallest = PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::NoFilter);
    image.write_with_encoder(smallest).expect("encodes");
    bytes
}

/// Lies over a part of a wider canvas.
fn gif_of_a_part(side: u32) -> Vec<u8> {
    let mut gif = encoded(&DynamicImage::new_rgba8(side, side), ImageFormat::Gif);
    gif[6..8].copy_from_slice(&(side as u16 + 1).to_le_bytes());
    gif
}

fn cmyk_tiff(side: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut bytes).expect("begins").with_compression(Compression::Lzw);
    let ink = vec![0; 4 * (side * side) as usize];
    encoder.write_image::<CMYK8>(side, side, &ink).expect("encodes");
    bytes.into_inner()
}

type Encode = fn(u32) -> Vec<u8>;

/// Each kind with bytes a pixel at the peak.
const KINDS: [(&str, Encode, f64); 11] = [
    ("grey.png", |side| png(&DynamicImage::new_luma8(side, side)), 1.0),
    ("grey-16.png", |side| png(&DynamicImage::new_luma16(side, side)), 3.0),
    ("rgb.png", |side| png(&DynamicImage::new_rgb8(side, side)), 3.0),
    ("alpha.png", |side| png(&DynamicImage::new_rgba8(side, side)), 4.0),
    ("alpha-16.png", |side| png(&DynamicImage::new_rgba16(side, side)), 12.0),
    ("whole.gif", |side| encoded(&DynamicImage::new_rgba8(side, side), ImageFormat::Gif), 8.0),
    ("part.gif", gif_of_a_part, 8.0),
    ("rgb.webp", |side| encoded(&DynamicImage::new_rgb8(side, side), ImageFormat::WebP), 7.0),
    ("alpha.webp", |side| encoded(&DynamicImage::new_rgba8(side, side), ImageFormat::WebP), 8.0),
    ("cmyk.tif", cmyk_tiff, 7.0),
    ("thin.png", |side| png(&DynamicImage::new_luma8(side * side, 1)), 5.0),
];

/// Made by other programs, a little below the limit.
const FILES: [(&str, &[u8]); 4] = [
    ("lossy.webp", include_bytes!("../../../tests/golden/plain/lossy.webp")),
    ("lossy-alpha.webp", include_bytes!("../../../tests/golden/plain/lossy-alpha.webp")),
    ("animation.webp", include_bytes!("../../../tests/golden/plain/animation.webp")),
    ("progressive.jpg", include_bytes!("../../../tests/golden/plain/progressive.jpg")),
];

/// Bytes that decoding takes beside the file, or why it is refused.
fn decode(path: PathBuf) -> Result<usize, BadReason> {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let config =
        LoadConfig { decode: DecodeConfig { longest_side: 64, ..DecodeConfig::default() }, ..LoadConfig::default() };
    match Pixels::read(vec![path], &config) {
        Ok(_) => Ok(MEMORY.peak_usage() - before),
        Err(Error::BadImages { bad, .. }) => Err(bad[0].reason.clone()),
        Err(error) => panic!("{error}"),
    }
}

/// A single test, since the memory of a process is measured.
#[test]
fn plain_images_take_no_more_than_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let with = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("written");
        path
    };
    for (name, encode, bytes_a_pixel) in KINDS {
        let side = (BUDGET as f64 / bytes_a_pixel).sqrt();
        // Whatever is so small that its file says nothing of it is accepted, and a little more refused.
        let fits = decode(with(name, &encode((side * 0.99) as u32)));
        let peak = fits.unwrap_or_else(|reason| panic!("{name}: {reason}"));
        assert!(peak < BUDGET + BESIDE, "{name}: {} MiB", peak >> 20);
        eprintln!("{name}: {} MiB", peak >> 20);
        let larger = encode((side * 1.01) as u32);
        // Some forms take more than a byte for 200.
        if larger.len() * 200 < BUDGET {
            let refused = decode(with(name, &larger));
            assert!(matches!(refused, Err(BadReason::Bomb { .. })), "{name}: {refused:?}");
        }
    }
    for (name, bytes) in FILES {
        let peak = decode(with(name, bytes)).unwrap_or_else(|reason| panic!("{name}: {reason}"));
        eprintln!("{name}: {} MiB", peak >> 20);
        assert!(peak < BUDGET + BESIDE, "{name}: {} MiB", peak >> 20);
    }
}
