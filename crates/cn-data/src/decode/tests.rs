use image::{
    DynamicImage, GrayImage, ImageBuffer, Luma, LumaA, Rgb, Rgba,
    codecs::jpeg::JpegEncoder,
    imageops::{FilterType, resize},
};
use serde_json::Value;

use super::*;
use crate::index::tests::{archive, entry};
use image::codecs::png::{self, CompressionType, PngEncoder};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};

mod jpeg;
mod tiles;

use jpeg::KINDS;

/// Of a file with chunks or segments without end.
const TOO_MANY: &str = "more than 10000 chunks or segments beside the image, or too long ones";

/// As of an image alone.
fn decode(bytes: &[u8], config: &DecodeConfig) -> Result<Decoded, BadReason> {
    super::decode(bytes, config, &MemoryBudget::default())
}

fn config() -> DecodeConfig {
    DecodeConfig::default()
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("encodes");
    bytes.into_inner()
}

fn jpeg(image: &DynamicImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 98)).expect("encodes");
    bytes
}

/// Grey, 40 wide and 24 high, with something in every block and a dark upper left corner.
fn grey() -> DynamicImage {
    let value = |x: u32, y: u32| if x < 8 && y < 8 { 0 } else { 120 + ((x * 7 + y * 13) % 100) as u8 };
    GrayImage::from_fn(40, 24, |x, y| Luma([value(x, y)])).into()
}

fn colour() -> DynamicImage {
    RgbImage::from_fn(10, 6, |x, y| Rgb([x as u8 * 20, y as u8 * 30, 100])).into()
}

/// A TIFF structure with the one tag of the orientation, as EXIF stores it.
fn exif(orientation: u8) -> Vec<u8> {
    let mut tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    tiff.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    tiff
}

/// The JPEG with an EXIF segment behind its first marker.
fn with_exif(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let body = [b"Exif\0\0".to_vec(), exif(orientation)].concat();
    let mut file = jpeg[..2].to_vec();
    file.extend([0xFF, 0xE1]);
    file.extend((body.len() as u16 + 2).to_be_bytes());
    file.extend(body);
    file.extend(&jpeg[2..]);
    file
}

fn reason(bytes: &[u8]) -> BadReason {
    decode(bytes, &config()).expect_err("damaged")
}

#[test]
fn lossless_formats_come_back_as_they_were() {
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::Gif, ImageFormat::WebP] {
        // GIF keeps 256 colours, WebP has no grey.
        let lossy = matches!(format, ImageFormat::Gif);
        let image = if format == ImageFormat::WebP { colour() } else { grey() };
        let image = if lossy { DynamicImage::from(image.to_rgba8()) } else { image };
        let decoded = decode(&encoded(&image, format), &config()).expect("valid");
        assert_eq!((decoded.width, decoded.height), (image.width(), image.height()), "{format:?}");
        let channels = if format == ImageFormat::WebP { 3 } else { 1 };
        let expected = if channels == 1 { image.to_luma8().into_raw() } else { image.to_rgb8().into_raw() };
        // BMP keeps grey as a palette, which comes back as colour.
        let decoded = if format == ImageFormat::Bmp && decoded.channels == 3 { to_grey(decoded) } else { decoded };
        assert_eq!((decoded.channels, &decoded.pixels), (channels, &expected), "{format:?}");
    }
}

#[test]
fn grey_stays_grey_and_colour_colour() {
    let near = |a: &[u8], b: &[u8], tolerance| a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= tolerance);
    let decoded = decode(&jpeg(&grey()), &config()).expect("valid");
    assert_eq!((decoded.channels, decoded.height, decoded.width), (1, 24, 40));
    assert!(near(&decoded.pixels, grey().as_bytes(), 8));
    let decoded = decode(&jpeg(&colour()), &config()).expect("valid");
    assert_eq!((decoded.channels, decoded.pixels.len()), (3, 180));
    assert!(near(&decoded.pixels, colour().as_bytes(), 40));
}

#[test]
fn inks_become_colours() {
    // A square of cyan 10, magenta 200, yellow 30, black 40 of 255, which Pillow shows as these colours.
    let decoded = decode(include_bytes!("../../../../tests/golden/cmyk.jpg"), &config()).expect("valid");
    assert_eq!((decoded.channels, decoded.height, decoded.width), (3, 8, 8));
    let wanted = [208, 46, 191];
    assert!(decoded.pixels.chunks_exact(3).all(|rgb| rgb.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) <= 2)));
}

#[test]
fn channels_can_be_asked_for() {
    let with = |image: &DynamicImage, channels| {
        decode(&encoded(image, ImageFormat::Png), &DecodeConfig { channels, ..config() }).expect("valid")
    };
    assert_eq!(with(&grey(), Channels::Rgb).pixels, grey().to_rgb8().into_raw());
    let red = DynamicImage::from(RgbImage::from_pixel(1, 2, Rgb([255, 0, 0])));
    // Pillow: Image.new("RGB", (1, 2), "red").convert("L") is 76.
    assert_eq!(with(&red, Channels::Grey).pixels, [76, 76]);
}

#[test]
fn sixteen_bits_become_eight() {
    let image = ImageBuffer::from_fn(2, 1, |x, _| Luma([if x == 0 { 0xFFFF_u16 } else { 0x8080 }]));
    let decoded = decode(&encoded(&image.into(), ImageFormat::Png), &config()).expect("valid");
    assert_eq!((decoded.channels, decoded.pixels), (1, vec![255, 128]));
}

#[test]
fn light_ink_without_a_ground_is_on_black() {
    let ink = |i: usize| if i.is_multiple_of(5) { [250, 255, 255, 255] } else { [0, 0, 0, 0] };
    let rgba = image::RgbaImage::from_raw(5, 4, (0..20).flat_map(ink).collect()).expect("pixels");
    let pixels = flattened(rgba.into()).pixels;
    assert_eq!((&pixels[..3], &pixels[3..6]), (&[250, 255, 255][..], &[0, 0, 0][..]));
    // Nothing is to be seen in a white page, whatever is laid under it.
    let page = image::RgbaImage::from_pixel(5, 4, image::Rgba([255; 4]));
    assert!(flattened(page.into()).pixels.iter().all(|&level| level == 255));
}

#[test]
fn transparency_is_white() {
    let image = ImageBuffer::from_fn(3, 1, |x, _| LumaA([100_u8, [0, 255, 128][x as usize]]));
    let decoded = decode(&encoded(&image.into(), ImageFormat::Png), &config()).expect("valid");
    assert_eq!((decoded.channels, decoded.pixels), (1, vec![255, 100, 177]));
    let image = ImageBuffer::from_pixel(1, 1, Rgba([10u8, 20, 30, 0]));
    let decoded = decode(&encoded(&image.into(), ImageFormat::Png), &config()).expect("valid");
    assert_eq!((decoded.channels, decoded.pixels), (3, vec![255, 255, 255]));
}

#[test]
fn exif_turns_images() {
    let upright = decode(&jpeg(&grey()), &config()).expect("valid");
    // Rows and columns of the dark corner after each orientation: top or bottom, left or right.
    let corners = [(1, (false, false)), (2, (false, true)), (3, (true, true)), (4, (true, false))];
    let turned_corners = [(5, (false, false)), (6, (false, true)), (7, (true, true)), (8, (true, false))];
    for (orientation, (bottom, right)) in corners.into_iter().chain(turned_corners) {
        let image = decode(&with_exif(&jpeg(&grey()), orientation), &config()).expect("valid");
        let sides = (image.width, image.height);
        assert_eq!(sides, if orientation < 5 { (40, 24) } else { (24, 40) }, "{orientation}");
        let (x, y) = (if right { image.width - 3 } else { 2 }, if bottom { image.height - 3 } else { 2 });
        assert!(image.pixels[(y * image.width + x) as usize] < 60, "{orientation}");
        assert_eq!(
            image.pixels.iter().map(|&p| u32::from(p)).sum::<u32>(),
            upright.pixels.iter().map(|&p| u32::from(p)).sum::<u32>()
        );
    }
    assert_eq!(decode(&with_exif(&jpeg(&grey()), 77), &config()).expect("valid"), upright);
}

#[test]
fn large_images_are_shrunk() {
    let small = DecodeConfig { longest_side: 20, ..config() };
    let decoded = decode(&encoded(&grey(), ImageFormat::Png), &small).expect("valid");
    assert_eq!((decoded.width, decoded.height, decoded.channels), (20, 12, 1));
    let flat = DynamicImage::from(RgbImage::from_pixel(100, 1, Rgb([7, 8, 9])));
    let decoded = decode(&encoded(&flat, ImageFormat::Png), &small).expect("valid");
    assert_eq!((decoded.width, decoded.height, &decoded.pixels[..3]), (20, 1, &[7, 8, 9][..]));
}

#[test]
fn images_are_shrunk_as_at_once() {
    let value = |x: u32, y: u32, by: u32| ((x % 999 * x + y * 7 * by) % 251) as u8;
    // Broad, high, and of some rows or columns.
    for (width, height) in [(900, 700), (700, 900), (20_000, 4), (2, 9_000)] {
        let image = RgbImage::from_fn(width, height, |x, y| Rgb([1, 2, 3].map(|by| value(x, y, by))));
        let found = decode(&encoded(&image.clone().into(), ImageFormat::Png), &config()).expect("valid");
        assert_eq!(found.width.max(found.height), 512);
        let expected = resize(&image, found.width, found.height, FilterType::Triangle);
        let off = found.pixels.iter().zip(expected.as_raw()).map(|(a, &b)| a.abs_diff(b)).max();
        // A level of the rounding between rows and columns.
        assert!(off <= Some(1), "{width} x {height}: {off:?}");
    }
}

#[test]
fn rows_of_many_pixels_are_averaged() {
    let shrunk = |image: GrayImage| {
        let file = encoded(&image.into(), ImageFormat::Png);
        decode(&file, &DecodeConfig { longest_side: 10, ..config() }).expect("valid")
    };
    let ramp = |width: u32| GrayImage::from_fn(width, 2, |x, y| Luma([(x * 200 / width + y * 40) as u8]));
    // Of two rows one is left, and what falls together is averaged over both.
    for width in [321, 400, 403, 999, 1000, 4001] {
        let image = shrunk(ramp(width));
        assert_eq!((image.width, image.height), (10, 1), "{width}");
        let expected = image::imageops::resize(&ramp(width), 10, 1, image::imageops::FilterType::Triangle);
        for (x, (&found, &expected)) in image.pixels.iter().zip(expected.as_raw()).enumerate() {
            assert!(found.abs_diff(expected) <= 2, "{width}, pixel {x}: {found}, expected {expected}");
        }
    }
    let flat = RgbImage::from_pixel(1003, 1, Rgb([7, 8, 9]));
    let image = decode(&encoded(&flat.into(), ImageFormat::Png), &DecodeConfig { longest_side: 10, ..config() });
    assert_eq!(image.expect("valid").pixels, [7, 8, 9].repeat(10));
}

#[test]
fn truncated_files_are_found() {
    let grey_jpeg = jpeg(&grey());
    let whole = decode(&grey_jpeg, &config()).expect("valid");
    for length in 1..grey_jpeg.len() {
        assert!(decode(&grey_jpeg[..length], &config()).is_err(), "{length} of {}", grey_jpeg.len());
    }
    // What stands behind the end does no harm.
    assert_eq!(decode(&[&grey_jpeg[..], b"trailer"].concat(), &config()).expect("valid"), whole);
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP] {
        let bytes = encoded(&colour(), format);
        for tenth in 0..10 {
            let cut = decode(&bytes[..bytes.len() * tenth / 10], &config());
            assert!(cut.is_err(), "{format:?} at {tenth}0 %");
        }
    }
}

#[test]
fn tiff_of_unknown_kinds_is_refused() {
    // One directory, sorted by tag: 64 x 64 in one strip, compressed (259) as the new JPEG.
    let entry = |(tag, value): (u16, u16)| {
        [&tag.to_le_bytes()[..], &[3, 0, 1, 0, 0, 0], &value.to_le_bytes(), &[0, 0]].concat()
    };
    let tags = [(256, 64), (257, 64), (258, 8), (259, 7), (262, 1), (273, 8), (278, 64), (279, 4)];
    let tiff = [&b"II*\0\x08\0\0\0\x08\0"[..], &tags.map(entry).concat(), &[0; 4]].concat();
    assert!(matches!(reason(&tiff), BadReason::Unsupported(_)), "{}", reason(&tiff));
    // With a palette (262), which the decoder does not know.
    let tags = [(256, 64), (257, 64), (258, 8), (259, 1), (262, 3), (273, 8), (278, 64), (279, 4096)];
    let tiff = [&b"II*\0\x08\0\0\0\x08\0"[..], &tags.map(entry).concat(), &[0; 5000]].concat();
    assert!(matches!(reason(&tiff), BadReason::Unsupported(_)), "{}", reason(&tiff));
    // The order of bits (266), which the decoder passes over: from the highest one, and from the lowest.
    let ordered = |order| {
        let strip = [(273, 122), (278, 64), (279, 4096)];
        let tags = [&[(256, 64), (257, 64), (258, 8), (259, 1), (262, 1), (266, order)][..], &strip].concat();
        let entries: Vec<u8> = tags.into_iter().flat_map(entry).collect();
        [&b"II*\0\x08\0\0\0\x09\0"[..], &entries, &[7; 5000]].concat()
    };
    assert!(decode(&ordered(1), &config()).is_ok());
    assert!(matches!(reason(&ordered(2)), BadReason::Unsupported(_)), "{}", reason(&ordered(2)));
}

#[test]
fn a_webp_holds_no_frame_larger_than_itself() {
    // A canvas of 16 x 16, and a frame of 16383 x 16383, for which the decoder would take 400 MB.
    let chunk = |kind: &[u8], data: &[u8]| [kind, &(data.len() as u32).to_le_bytes(), data].concat();
    let canvas = chunk(b"VP8X", &[0, 0, 0, 0, 15, 0, 0, 15, 0, 0]);
    let frame = chunk(b"VP8 ", &[0x10, 0, 0, 0x9D, 0x01, 0x2A, 0xFF, 0x3F, 0xFF, 0x3F, 0, 0]);
    let body = [&b"WEBP"[..], &canvas, &frame].concat();
    let webp = [&b"RIFF"[..], &(body.len() as u32).to_le_bytes(), &body].concat();
    assert_eq!(reason(&webp).to_string(), "damaged: a frame that is larger than the image");
}

#[test]
fn png_checksums_are_checked() {
    let mut bytes = encoded(&grey(), ImageFormat::Png);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    assert!(matches!(reason(&bytes), BadReason::Damaged(_)));
}

#[test]
fn what_is_no_image_is_named() {
    assert_eq!(reason(b""), BadReason::Empty);
    assert_eq!(reason(b"<!DOCTYPE html><html>404</html>"), BadReason::UnknownFormat);
    assert_eq!(reason(b"suite_id,sample_id\n1,1\n"), BadReason::UnknownFormat);
    assert_eq!(reason(&[0; 1000]), BadReason::UnknownFormat);
    assert_eq!(reason(b"%PDF-1.7\n"), BadReason::UnknownFormat);
    assert!(matches!(reason(b"\xFF\xD8\xFF\xE0"), BadReason::Damaged(_)));
    assert!(matches!(reason(b"\x89PNG\r\n\x1a\n"), BadReason::Damaged(_)));
}

/// A chunk of a PNG: length, type, data, checksum.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let content = [kind, data].concat();
    let mut crc = u32::MAX;
    for byte in &content {
        crc ^= u32::from(*byte);
        (0..8).for_each(|_| crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 });
    }
    [&(data.len() as u32).to_be_bytes()[..], &content, &(!crc).to_be_bytes()].concat()
}

/// A PNG that claims these sides and holds nothing.
fn bomb_png(width: u32, height: u32) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &header), &chunk(b"IDAT", b"")].concat()
}

#[test]
fn a_file_of_notes_is_no_picture() {
    let whole = encoded(&grey(), ImageFormat::Png);
    let with = |n: usize| {
        // Behind the signature and the header of 25 bytes.
        let (head, rest) = whole.split_at(33);
        [head, &chunk(b"tEXt", b"k\0v").repeat(n), rest].concat()
    };
    assert!(decode(&with(9_000), &config()).is_ok());
    assert_eq!(reason(&with(10_000)), BadReason::Damaged(TOO_MANY.into()));
    // What stands behind the end is none of it.
    assert!(decode(&[&whole[..], &[0; 200_000]].concat(), &config()).is_ok());
    assert!(!has_many_chunks(&mut Cursor::new(jpeg(&grey()))) && !has_many_chunks(&mut Cursor::new(b"")));
}

#[test]
fn bombs_are_refused_by_their_header() {
    let refused = |bytes: &[u8]| matches!(reason(bytes), BadReason::TooLarge { .. });
    assert!(refused(&bomb_png(50_000, 50_000)));
    let mut huge = jpeg(&grey());
    let frame = huge.windows(2).position(|pair| pair == [0xFF, 0xC0]).expect("a baseline frame");
    huge[frame + 5..frame + 9].copy_from_slice(&[0xFF; 4]);
    assert!(refused(&huge));
    let small = DecodeConfig { max_image_pixels: 959, ..config() };
    let error = decode(&encoded(&grey(), ImageFormat::Png), &small).expect_err("960 pixels");
    assert_eq!(error.to_string(), "40 x 24 pixels are more than the 959 allowed");
}

/// A small picture in each format that is read.
fn files() -> Vec<Vec<u8>> {
    let of_format = |format| encoded(&colour(), format);
    let kinds = KINDS.map(<[u8]>::to_vec);
    let others = vec![
        jpeg(&grey()),
        jpeg(&colour()),
        with_exif(&jpeg(&colour()), 6),
        encoded(&grey(), ImageFormat::Png),
        of_format(ImageFormat::Png),
        of_format(ImageFormat::Bmp),
        encoded(&DynamicImage::from(colour().to_rgba8()), ImageFormat::Gif),
        of_format(ImageFormat::Tiff),
        of_format(ImageFormat::WebP),
    ];
    [others, kinds.to_vec()].concat()
}

/// Errors are fine; an image is as large as it says, within the limits.
fn judge(bytes: &[u8]) {
    let limited = DecodeConfig { max_image_pixels: 10_000, longest_side: 30, ..config() };
    if let Ok(image) = decode(bytes, &limited) {
        assert_eq!(image.pixels.len(), (image.width * image.height * image.channels) as usize);
        assert!((1..=30).contains(&image.width) && (1..=30).contains(&image.height));
    }
}

#[test]
fn any_flipped_bit_is_an_error_or_an_image() {
    for file in files() {
        for i in 0..file.len().min(400) {
            for bit in [0, 4, 7] {
                let mut damaged = file.clone();
                damaged[i] ^= 1 << bit;
                judge(&damaged);
            }
        }
    }
}

/// What may become of a file on its way.
#[derive(Debug, Clone)]
enum Damage {
    Overwrite(Index, Vec<u8>),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    Cut(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    // Lengths and counts in headers are most often small, full, or one beyond what fits.
    let bytes = || prop_oneof![vec(any::<u8>(), 1..9), vec(select(vec![0, 1, 0x7F, 0x80, 0xFF]), 1..9)];
    prop_oneof![
        4 => (any::<Index>(), bytes()).prop_map(|(at, bytes)| Damage::Overwrite(at, bytes)),
        2 => (any::<Index>(), bytes()).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        2 => (any::<Index>(), 1..40_usize).prop_map(|(at, n)| Damage::Remove(at, n)),
        1 => (any::<Index>(), 1..200_usize).prop_map(|(at, n)| Damage::Repeat(at, n)),
        1 => any::<Index>().prop_map(Damage::Cut),
    ]
}

fn damaged(mut file: Vec<u8>, damage: &[Damage]) -> Vec<u8> {
    for one in damage {
        let len = file.len();
        if len == 0 {
            break;
        }
        match one {
            Damage::Overwrite(at, bytes) => {
                file[at.index(len)..].iter_mut().zip(bytes).for_each(|(to, &byte)| *to = byte);
            }
            Damage::Insert(at, bytes) => {
                let at = at.index(len);
                file.splice(at..at, bytes.iter().copied());
            }
            Damage::Remove(at, n) => {
                let at = at.index(len);
                file.drain(at..len.min(at + n));
            }
            Damage::Repeat(at, n) => {
                let at = at.index(len);
                let part = file[at..len.min(at + n)].to_vec();
                file.splice(at..at, part);
            }
            Damage::Cut(at) => file.truncate(at.index(len)),
        }
    }
    file
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_damage_is_an_error_or_an_image(file in select(files()), damage in vec(damage(), 1..5)) {
        judge(&damaged(file, &damage));
    }

    #[test]
    fn any_bytes_behind_a_right_beginning_are_an_error_or_an_image(
        file in select(files()), kept in 4..60_usize, rest in vec(any::<u8>(), 0..300),
    ) {
        let kept = &file[..kept.min(file.len())];
        judge(&[kept, &rest].concat());
    }
}

#[test]
fn real_files_decode_as_by_pillow() {
    let Some(mut archive) = archive() else { return };
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/images.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("golden file")).expect("JSON");
    let mut decoded = |name: &str| {
        let bytes = entry(&mut archive, &format!("data/data/{name}"));
        let image = decode(&bytes, &config()).expect("valid");
        assert_eq!((image.height, image.width, image.channels), (64, 64, 1));
        image.pixels
    };
    let whole = &golden["one_image"];
    let hex = whole["decoded_64x64_hex"].as_str().expect("digits").as_bytes();
    let digit = |c: u8| char::from(c).to_digit(16).expect("a digit");
    let expected: Vec<u8> = hex.chunks_exact(2).map(|c| (digit(c[0]) << 4 | digit(c[1])) as u8).collect();
    let ours = decoded(whole["file"].as_str().expect("a name"));
    // JPEG decoding is not bit-portable: 1 grey level, see the golden files' README.
    assert!(ours.len() == expected.len() && ours.iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= 1));
    for (name, facts) in golden["files"].as_object().expect("an object") {
        let sum: i64 = decoded(name).iter().map(|&p| i64::from(p)).sum();
        let expected = facts["decoded"]["sum"].as_i64().expect("a sum");
        // At most 1 pixel in 100 may be off by its level.
        assert!((sum - expected).abs() <= 41, "{name}: {sum}, expected {expected}");
    }
}

#[test]
fn files_that_are_made_to_fill_the_memory_are_refused() {
    // 61 MiB of one colour in sixty kilobytes; smaller ones are as plain as they like.
    for (side, is_bomb) in [(8_000, true), (6_000, false)] {
        let mut bytes = Vec::new();
        let smallest = PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, png::FilterType::NoFilter);
        DynamicImage::new_luma8(side, side).write_with_encoder(smallest).expect("written");
        let found = decode(&bytes, &config());
        let what = found.as_ref().err();
        let is_told = matches!(what, Some(BadReason::Bomb { peak, .. }) if (0..40_000).contains(&(peak - u64::from(side).pow(2))));
        assert_eq!((is_told, found.is_ok()), (is_bomb, !is_bomb), "{side}, {} bytes: {what:?}", bytes.len());
    }
}
