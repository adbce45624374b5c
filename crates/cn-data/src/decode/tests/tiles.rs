//! TIFF in tiles.

use super::*;
use weezl::{BitOrder, encode::Encoder};

/// Packed as TIFF wants it.
fn lzw(bytes: &[u8]) -> Vec<u8> {
    Encoder::with_tiff_size_switch(BitOrder::Msb, 8).encode(bytes).expect("packs")
}

/// How a file is written: its method (1 for bytes as they are, 5 for LZW), colours side by side (1) or in planes (2), and
/// whether numbers begin with their lowest byte.
#[derive(Clone, Copy, Debug)]
struct Form {
    method: usize,
    planes: usize,
    is_little: bool,
}

/// A file of these pixels, row by row, in square tiles of `side`.
fn tiled(pixels: &[u8], [width, height, channels]: [usize; 3], side: usize, form: Form) -> Vec<u8> {
    let Form { method, planes, is_little } = form;
    let short = |n: usize| if is_little { (n as u16).to_le_bytes() } else { (n as u16).to_be_bytes() };
    let long = |n: usize| if is_little { (n as u32).to_le_bytes() } else { (n as u32).to_be_bytes() };
    let pack = |bytes: Vec<u8>| if method == 5 { lzw(&bytes) } else { bytes };
    let tile = |(plane, top, left): (usize, usize, usize)| {
        let of_tile = if planes == 1 { 0..channels } else { plane..plane + 1 };
        // Beyond the edge there is something else, as writers leave it.
        let at = |y: usize, x: usize, c: usize| match y < height && x < width {
            true => pixels[(y * width + x) * channels + c],
            false => 99,
        };
        let rows = (top..top + side).flat_map(|y| (left..left + side).map(move |x| (y, x)));
        pack(rows.flat_map(|(y, x)| of_tile.clone().map(move |c| at(y, x, c))).collect())
    };
    let n_planes = if planes == 1 { 1 } else { channels };
    let tops = (0..n_planes).flat_map(|plane| (0..height).step_by(side).map(move |top| (plane, top)));
    let corners = tops.flat_map(|(plane, top)| (0..width).step_by(side).map(move |left| (plane, top, left)));
    let tiles: Vec<Vec<u8>> = corners.map(tile).collect();

    let n = tiles.len();
    // Behind the directory of eleven entries: bits of the channels, offsets and lengths of the tiles, and these.
    let (bits, offsets) = (8 + 2 + 11 * 12 + 4, 8 + 2 + 11 * 12 + 4 + 8);
    let (lengths, data) = (offsets + n * 4, offsets + n * 8);
    let value = |count: usize, at: usize, alone: usize| if count == 1 { alone } else { at };
    let photometric = if channels == 1 { 1 } else { 2 };
    let entries = [
        (256, 1, width),
        (257, 1, height),
        (258, channels, bits),
        (259, 1, method),
        (262, 1, photometric),
        (277, 1, channels),
        (284, 1, planes),
        (322, 1, side),
        (323, 1, side),
        (324, n, value(n, offsets, data)),
        (325, n, value(n, lengths, tiles[0].len())),
    ];
    let entry = |(tag, count, value): (usize, usize, usize)| {
        // Bits of one channel lie in the entry, as a short number.
        let (kind, value) = match (tag, count) {
            (258, 1) => (3, [short(8), [0; 2]].concat()),
            (258, _) => (3, long(value).to_vec()),
            _ => (4, long(value).to_vec()),
        };
        [&short(tag)[..], &short(kind), &long(count), &value].concat()
    };
    let mut file = if is_little { b"II*\0".to_vec() } else { b"MM\0*".to_vec() };
    file.extend([&long(8)[..], &short(11)].concat());
    file.extend(entries.into_iter().flat_map(entry));
    file.extend([&long(0)[..], &[short(8); 4].concat()].concat());
    let ends = tiles.iter().scan(data, |end, tile| {
        let begin = *end;
        *end += tile.len();
        Some(begin)
    });
    file.extend(ends.flat_map(long));
    file.extend(tiles.iter().flat_map(|tile| long(tile.len())));
    file.extend(tiles.concat());
    file
}

#[test]
fn tiles_that_the_edge_cuts_are_read() {
    for (width, height, channels, side) in [
        (40, 24, 1, 16),
        (33, 20, 3, 16),
        (16, 17, 1, 16),
        (47, 31, 1, 32),
        (5, 7, 3, 16),
        (100, 90, 1, 64),
        (300, 270, 1, 256),
    ] {
        let pixels: Vec<u8> = (0..width * height * channels).map(|i| (i / 5 * 37 % 251 / 9) as u8).collect();
        let forms = [(5, 1, true), (5, 1, false), (5, 2, true), (1, 2, false), (1, 1, true)];
        for (method, planes, is_little) in forms {
            let (shape, form) = ([width, height, channels], Form { method, planes, is_little });
            let file = tiled(&pixels, shape, side, form);
            let decoded = decode(&file, &config()).unwrap_or_else(|error| panic!("{shape:?} {side} {form:?}: {error}"));
            assert_eq!([decoded.width as usize, decoded.height as usize, decoded.channels as usize], shape);
            assert_eq!(decoded.pixels, pixels, "{shape:?} {side}");
            let cut = decode(&file[..file.len() / 2], &config());
            // Of few rows of many that are not packed, half is enough.
            assert!(
                matches!(cut, Err(BadReason::Damaged(_))) || (method == 1 && height * 2 < side),
                "{shape:?} {form:?}"
            );
        }
    }
    // A tile that is wider than any image may be.
    let huge = tiled(&[7; 12], [4, 3, 1], 16, Form { method: 5, planes: 1, is_little: true });
    let mut wide = huge.clone();
    wide[8 + 2 + 7 * 12 + 8..][..4].copy_from_slice(&0x7FFF_FFF0u32.to_le_bytes());
    assert!(decode(&huge, &config()).is_ok() && decode(&wide, &config()).is_err());
}
