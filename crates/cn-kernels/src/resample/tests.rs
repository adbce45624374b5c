use super::*;
use proptest::prelude::*;

/// Bytes that any language can make: a hash of the index (the last steps of splitmix in 32 bits).
fn noise(len: usize) -> Vec<u8> {
    let hash = |i: usize| {
        let mut x = 0x0123_4567_u32.wrapping_add((i as u32).wrapping_mul(0x9E37_79B9));
        x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
        x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
        ((x ^ (x >> 16)) >> 24) as u8
    };
    (0..len).map(hash).collect()
}

fn view(pixels: &[u8], [width, height, channels]: [usize; 3]) -> ImageView<'_> {
    ImageView { pixels, height, width, channels }
}

fn resized(image: ImageView<'_>, resize: &Resize) -> Vec<u8> {
    let mut out = vec![0; resize.window.width * resize.window.height * image.channels];
    Resampler::new().resize(image, resize, &mut out);
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1));
    !bytes.iter().fold(!0, |crc, &b| (0..8).fold(crc ^ u32::from(b), |crc, _| bit(crc)))
}

/// `Image.frombytes("L" or "RGB", (w, h), noise).resize((W, H), BILINEAR)` of Pillow 13.0.0, as `zlib.crc32`.
const PILLOW: [([usize; 3], [usize; 2], u32); 14] = [
    ([64, 64, 1], [128, 128], 0xF4A9_8C8F),
    ([37, 49, 1], [128, 128], 0xC997_D30F),
    ([64, 64, 3], [64, 64], 0x6B5A_ABC6),
    ([64, 40, 1], [64, 97], 0x4B6E_0997),
    ([50, 64, 3], [77, 64], 0x028C_77EE),
    ([100, 80, 1], [33, 31], 0x7641_2032),
    ([301, 200, 3], [64, 64], 0xA35B_234C),
    ([640, 3, 1], [5, 7], 0x413D_30E3),
    ([7, 5, 3], [224, 190], 0x3A27_46BD),
    ([1, 1, 1], [9, 4], 0xE27E_D0B8),
    ([2, 1, 3], [3, 5], 0x5D90_3A74),
    ([500, 375, 1], [224, 168], 0xA5C6_7A31),
    ([129, 257, 1], [128, 256], 0x8D34_DBC5),
    ([300, 4, 1], [1, 1], 0x3FBA_6CAD),
];

#[test]
fn resize_has_the_bytes_of_pillow() {
    for (shape, [width, height], expected) in PILLOW {
        let pixels = noise(shape.iter().product());
        let image = view(&pixels, shape);
        let out = resized(image, &Resize::whole(image, width, height));
        assert_eq!(crc32(&out), expected, "{shape:?} to {width}x{height}");
    }
}

/// One line by the formula, one output after the other.
fn naive_line(line: &[u8], n_out: usize) -> Vec<u8> {
    let scale = line.len() as f64 / n_out as f64;
    let support = scale.max(1.0);
    let output = |o: usize| {
        let centre = (o as f64 + 0.5) * scale;
        let low = (centre - support + 0.5).trunc().max(0.0) as usize;
        let high = (centre + support + 0.5).trunc().min(line.len() as f64) as usize;
        let weight = |i: usize| (1.0 - ((i as f64 - centre + 0.5) * (1.0 / support)).abs()).max(0.0);
        let sum: f64 = (low..high).map(weight).sum();
        let fixed = |i: usize| (0.5 + weight(i) / sum * 4_194_304.0).floor() as i64;
        let total: i64 = (low..high).map(|i| i64::from(line[i]) * fixed(i)).sum();
        ((total + (1 << 21)) >> 22).clamp(0, 255) as u8
    };
    (0..n_out).map(output).collect()
}

fn naive_resize(image: ImageView<'_>, width: usize, height: usize) -> Vec<u8> {
    let c = image.channels;
    let mut out = vec![0; width * height * c];
    for channel in 0..c {
        let plane: Vec<u8> = image.pixels[channel..].iter().step_by(c).copied().collect();
        let wide: Vec<Vec<u8>> = plane.chunks(image.width).map(|row| naive_line(row, width)).collect();
        for x in 0..width {
            let column: Vec<u8> = wide.iter().map(|row| row[x]).collect();
            for (y, value) in naive_line(&column, height).into_iter().enumerate() {
                out[(y * width + x) * c + channel] = value;
            }
        }
    }
    out
}

/// Sizes that do not repeat soon, in `1..=bound`.
fn sizes(bound: usize) -> impl Iterator<Item = usize> {
    noise(4000).into_iter().map(move |byte| 1 + byte as usize * bound / 256)
}

#[test]
fn resize_matches_the_naive_one() {
    let mut size = sizes(40);
    let mut resampler = Resampler::new();
    for channels in [1, 2, 3, 4, 5].into_iter().cycle().take(200) {
        let [width, height, to_width, to_height] = [(); 4].map(|()| size.next().expect("enough sizes"));
        let pixels = noise(width * height * channels);
        let image = view(&pixels, [width, height, channels]);
        let mut out = vec![0; to_width * to_height * channels];
        resampler.resize(image, &Resize::whole(image, to_width, to_height), &mut out);
        assert_eq!(
            out,
            naive_resize(image, to_width, to_height),
            "{width}x{height}x{channels} to {to_width}x{to_height}"
        );
    }
}

fn cut(image: ImageView<'_>, rect: Rect) -> Vec<u8> {
    (rect.top..rect.top + rect.height).flat_map(|y| image.row(y, rect.left, rect.width)).copied().collect()
}

#[test]
fn a_source_is_cut_before_and_a_window_after_the_resize() {
    let mut size = sizes(20);
    let mut next = || size.next().expect("enough sizes");
    for channels in [1, 3].into_iter().cycle().take(100) {
        let source = Rect { left: next(), top: next(), width: next(), height: next() };
        let window = Rect { left: next(), top: next(), width: next(), height: next() };
        let shape = [source.left + source.width + 3, source.top + source.height, channels];
        let pixels = noise(shape.iter().product());
        let image = view(&pixels, shape);
        let (width, height) = (window.left + window.width, window.top + window.height + 2);

        let cropped = cut(image, source);
        let full = naive_resize(view(&cropped, [source.width, source.height, channels]), width, height);
        let expected = cut(view(&full, [width, height, channels]), window);
        assert_eq!(resized(image, &Resize { source, width, height, window }), expected, "{source:?} {window:?}");
    }
}

#[test]
fn a_full_set_of_tables_starts_again() {
    let mut resampler = Resampler::new();
    for n_out in 1..2 * MAX_TABLES {
        resampler.resize(
            view(&[7, 7], [2, 1, 1]),
            &Resize::whole(view(&[7, 7], [2, 1, 1]), n_out, 1),
            &mut vec![0; n_out],
        );
    }
    assert!(resampler.tables.len() <= MAX_TABLES);
}

fn warped(image: ImageView<'_>, warp: &Warp) -> Vec<u8> {
    let mut out = vec![0; warp.width * warp.height * image.channels];
    Resampler::new().warp(image, warp, &mut out);
    out
}

fn warp_to(matrix: [[f64; 3]; 2], width: usize, height: usize) -> Warp {
    Warp { matrix, width, height, border: 9 }
}

#[test]
fn the_identity_returns_the_input() {
    for shape in [[1, 1, 1], [5, 7, 1], [6, 4, 3], [3, 2, 4]] {
        let pixels = noise(shape.iter().product());
        let warp = warp_to([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], shape[0], shape[1]);
        assert_eq!(warped(view(&pixels, shape), &warp), pixels);
    }
}

#[test]
fn quarter_turns_flips_and_whole_shifts_only_move_pixels() {
    let pixels = noise(12);
    let image = view(&pixels, [4, 3, 1]);
    let pixel =
        |x: i32, y: i32| if (0..4).contains(&x) && (0..3).contains(&y) { pixels[(y * 4 + x) as usize] } else { 9 };
    let check = |matrix, [width, height]: [usize; 2], from: fn(i32, i32) -> (i32, i32)| {
        let out = warped(image, &warp_to(matrix, width, height));
        let at = |i: usize| from((i % width) as i32, (i / width) as i32);
        let expected: Vec<u8> = (0..width * height).map(|i| pixel(at(i).0, at(i).1)).collect();
        assert_eq!(out, expected, "{matrix:?}");
    };
    check([[0.0, 1.0, 0.0], [-1.0, 0.0, 3.0]], [3, 4], |x, y| (y, 2 - x));
    check([[-1.0, 0.0, 4.0], [0.0, 1.0, 0.0]], [4, 3], |x, y| (3 - x, y));
    check([[1.0, 0.0, -2.0], [0.0, 1.0, 1.0]], [6, 5], |x, y| (x - 2, y + 1));
}

fn naive_warp_pixel(image: ImageView<'_>, warp: &Warp, [x, y]: [f64; 2], channel: usize) -> f64 {
    let [u, v] = warp.matrix.map(|[a, b, c]| a * x + b * y + c - 0.5);
    let pixel = |x: f64, y: f64| {
        let inside = (0.0..image.width as f64).contains(&x) && (0.0..image.height as f64).contains(&y);
        let index = (y.max(0.0) as usize * image.width + x.max(0.0) as usize) * image.channels + channel;
        f64::from(if inside { image.pixels[index] } else { warp.border })
    };
    let (fx, fy) = (u - u.floor(), v - v.floor());
    let line = |y: f64| pixel(u.floor(), y) * (1.0 - fx) + pixel(u.floor() + 1.0, y) * fx;
    line(v.floor()) * (1.0 - fy) + line(v.floor() + 1.0) * fy
}

/// Rounding to a byte, and two weights of 11 bits that are each off by less than 2^-11 of 255.
const WARP_TOLERANCE: f64 = 0.5 + 2.0 * 255.0 / 2048.0;

fn check_warp(matrix: [[f64; 3]; 2], channels: usize, [nx, ny]: [usize; 2]) {
    let pixels = noise(23 * 17 * channels);
    let image = view(&pixels, [23, 17, channels]);
    let warp = warp_to(matrix, 19, 21);
    for (i, value) in warped(image, &warp).into_iter().enumerate() {
        let (x, y) = ((i / channels % 19) as f64, (i / channels / 19) as f64);
        let samples =
            (0..nx * ny).map(|s| [x + ((s % nx) as f64 + 0.5) / nx as f64, y + ((s / nx) as f64 + 0.5) / ny as f64]);
        let expected =
            samples.map(|at| naive_warp_pixel(image, &warp, at, i % channels)).sum::<f64>() / (nx * ny) as f64;
        assert!(
            (f64::from(value) - expected).abs() <= WARP_TOLERANCE,
            "{matrix:?} at {x}, {y}: {value}, not {expected}"
        );
    }
}

#[test]
fn warp_matches_the_naive_one() {
    for channels in [1, 2, 3] {
        check_warp([[0.93, 0.21, 0.4], [-0.17, 1.08, 1.3]], channels, [1, 1]);
        check_warp([[0.3, -0.1, 5.0], [0.2, 0.25, -3.0]], channels, [1, 1]);
        check_warp([[2.1, 0.0, -4.0], [0.3, 0.9, 0.0]], channels, [2, 1]);
        check_warp([[1.0, 1.9, -9.0], [0.2, 2.0, -2.0]], channels, [1, 3]);
    }
}

#[test]
fn shrinking_takes_means() {
    let stripes: Vec<u8> = (0..64 * 64).map(|i| if i % 2 == 0 { 0 } else { 200 }).collect();
    let out = warped(view(&stripes, [64, 64, 1]), &warp_to([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]], 16, 16));
    assert!(out.iter().all(|&v| v == 100), "{out:?}");
}

#[test]
fn what_lies_far_outside_or_nowhere_is_border() {
    let image = view(&[200; 4], [2, 2, 1]);
    for far in [2.0, -4.0, 1e12, -1e300, f64::INFINITY] {
        assert_eq!(warped(image, &warp_to([[1.0, 0.0, far], [0.0, 1.0, 0.0]], 2, 2)), [9; 4], "{far}");
    }
    assert_eq!(warped(image, &warp_to([[1e300, 0.0, 0.0], [0.0, -1e300, 0.0]], 1, 1)), [9]);
    let huge = warp_to([[1e300, 0.0, -5e299], [0.0, 1.0, 0.0]], 100, 1);
    assert!(warped(image, &huge).iter().all(|&v| v == 9));
    warped(image, &warp_to([[f64::NAN; 3]; 2], 3, 3));
}

#[test]
fn wrong_lengths_and_rectangles_are_refused() {
    let panics = |f: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err();
    let image = view(&[0; 4], [2, 2, 1]);
    let whole = Resize::whole(image, 3, 3);
    let outside = Rect { left: 1, top: 0, width: 2, height: 2 };
    assert!(panics(&|| drop(resized(view(&[0; 5], [2, 2, 1]), &whole))));
    assert!(panics(&|| drop(resized(image, &Resize { source: outside, ..whole }))));
    assert!(panics(&|| drop(resized(image, &Resize { window: Rect::of_size(4, 1), ..whole }))));
    assert!(panics(&|| drop(resized(image, &Resize { source: Rect::of_size(0, 1), ..whole }))));
    assert!(panics(&|| Resampler::new().resize(image, &whole, &mut [0; 8])));
    assert!(panics(&|| Resampler::new().warp(image, &warp_to([[1.0; 3]; 2], 2, 2), &mut [0; 3])));
}

/// The triangle filter along one axis as defined, without rounding: weights `1 - |distance| / support`, where the
/// support is a pixel of the longer of the two axes.
fn exact_line(line: &[f64], n_out: usize) -> Vec<f64> {
    let scale = line.len() as f64 / n_out as f64;
    let support = scale.max(1.0);
    let output = |o: usize| {
        let centre = (o as f64 + 0.5) * scale;
        let weight = |i: usize| (1.0 - (i as f64 + 0.5 - centre).abs() / support).max(0.0);
        let total: f64 = (0..line.len()).map(weight).sum();
        line.iter().enumerate().map(|(i, v)| v * weight(i)).sum::<f64>() / total
    };
    (0..n_out).map(output).collect()
}

/// Both axes of a plane, row by row.
fn exact_resize(plane: &[u8], width: usize, to_width: usize, to_height: usize) -> Vec<f64> {
    let rows = plane.chunks(width).map(|row| row.iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
    let wide: Vec<Vec<f64>> = rows.map(|row| exact_line(&row, to_width)).collect();
    let column = |x: usize| exact_line(&wide.iter().map(|row| row[x]).collect::<Vec<_>>(), to_height);
    let columns: Vec<Vec<f64>> = (0..to_width).map(column).collect();
    (0..to_width * to_height).map(|i| columns[i % to_width][i / to_width]).collect()
}

/// Width, height, channels, and the bytes.
fn images() -> impl Strategy<Value = ([usize; 3], Vec<u8>)> {
    (1usize..30, 1usize..30, 1usize..5).prop_flat_map(|(width, height, channels)| {
        let pixels = prop::collection::vec(any::<u8>(), width * height * channels);
        (Just([width, height, channels]), pixels)
    })
}

/// Half a level for each of the two passes: the second weighs what the first has rounded. Each of up to 29 weights is off
/// by 2^-23 at most, which is less than 0.001 of a level in each pass.
const TWO_ROUNDINGS: f64 = 1.0 + 2e-3;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_resize_is_the_triangle_filter_up_to_two_roundings(
        (shape, pixels) in images(), to_width in 1usize..50, to_height in 1usize..50,
    ) {
        let [width, _, channels] = shape;
        let image = view(&pixels, shape);
        let out = resized(image, &Resize::whole(image, to_width, to_height));
        for channel in 0..channels {
            let plane = |bytes: &[u8]| bytes[channel..].iter().step_by(channels).copied().collect::<Vec<u8>>();
            let exact = exact_resize(&plane(&pixels), width, to_width, to_height);
            for (i, (found, exact)) in plane(&out).into_iter().zip(exact).enumerate() {
                let off = (f64::from(found) - exact).abs();
                prop_assert!(off <= TWO_ROUNDINGS, "{:?} to {}x{}, {}: {}, not {}", shape, to_width, to_height, i, found, exact);
            }
        }
    }

    #[test]
    fn any_constant_image_stays_constant_and_no_value_leaves_the_range(
        (shape, pixels) in images(), level: u8, to_width in 1usize..200, to_height in 1usize..200,
    ) {
        let flat = vec![level; pixels.len()];
        let to = |pixels: &[u8]| {
            let image = view(pixels, shape);
            resized(image, &Resize::whole(image, to_width, to_height))
        };
        prop_assert!(to(&flat).iter().all(|&v| v == level), "{:?} to {}x{}", shape, to_width, to_height);
        let (low, high) = (pixels.iter().min().expect("a byte"), pixels.iter().max().expect("a byte"));
        prop_assert!(to(&pixels).iter().all(|v| (low..=high).contains(&v)));
    }

    #[test]
    fn any_sum_of_images_is_resized_to_the_sum_up_to_roundings(
        (shape, pixels) in images(), to_width in 1usize..50, to_height in 1usize..50,
    ) {
        let to = |pixels: &[u8]| {
            let image = view(pixels, shape);
            resized(image, &Resize::whole(image, to_width, to_height))
        };
        // Two parts of each byte that add up to it.
        let (upper, lower): (Vec<u8>, Vec<u8>) = pixels.iter().map(|v| (v & 0b1100_1010, v & 0b0011_0101)).unzip();
        for ((whole, a), b) in to(&pixels).into_iter().zip(to(&upper)).zip(to(&lower)) {
            let off = (f64::from(whole) - f64::from(a) - f64::from(b)).abs();
            prop_assert!(off <= 3.0 * TWO_ROUNDINGS, "{} and {} give {}", a, b, whole);
        }
    }
}
