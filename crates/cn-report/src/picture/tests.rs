use super::*;

fn decode(picture: &Picture) -> (u32, u32, Vec<u8>) {
    let bytes = picture.to_png().unwrap();
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    (info.width, info.height, pixels)
}

/// How many pixels of `colour` lie within x0..x1, y0..y1.
fn count(picture: &Picture, colour: [u8; 3], x: std::ops::Range<u32>, y: std::ops::Range<u32>) -> usize {
    let at = |x: u32, y: u32| (y * picture.width() + x) as usize * 3;
    let pixels = y.flat_map(|y| x.clone().map(move |x| (x, y)));
    pixels.filter(|&(x, y)| picture.pixels()[at(x, y)..][..3] == colour).count()
}

fn ink(picture: &Picture, x: std::ops::Range<u32>, y: std::ops::Range<u32>) -> usize {
    let all = x.len() * y.len();
    all - count(picture, [255; 3], x, y)
}

/// A text of one line on white.
fn written(text: &str) -> Picture {
    let mut picture = Picture::blank(200, 40);
    picture.text((4.0, 28.0), font::Anchor::Left, text, 24.0, canvas::INK);
    picture
}

#[test]
fn png_keeps_every_pixel() {
    let picture = written("零 10 é");
    assert_eq!(decode(&picture), (200, 40, picture.pixels().to_vec()));
}

#[test]
fn every_numeral_has_an_outline_of_its_own() {
    let numerals = "零一二三四五六七八九十百千万亿〇两壹贰叁肆伍陆柒捌玖拾佰仟萬億";
    let drawn: Vec<Picture> = numerals.chars().map(|c| written(&c.to_string())).collect();
    for (i, picture) in drawn.iter().enumerate() {
        assert!(ink(picture, 0..200, 0..40) > 20);
        assert!(drawn[..i].iter().all(|other| other != picture));
    }
}

#[test]
fn the_font_has_what_its_list_says() {
    let list = include_str!("../../fonts/characters.txt");
    assert!(list.chars().filter(|&c| c != '\n').all(font::has));
    assert!(('!'..='~').all(font::has));
}

#[test]
fn missing_characters_are_drawn_as_their_code() {
    assert!(!font::has('龍'));
    let mut code = Picture::blank(200, 40);
    code.text((4.0 + 24.0 * 0.08, 24.0), font::Anchor::Left, "U+9F8D", 24.0 * 0.62, canvas::INK);
    assert_eq!(written("龍"), code);
    assert_ne!(written("龍"), written("龘"));
}

#[test]
fn texts_take_the_room_that_they_say() {
    for text in ["Ag", "10 十", "龍 a", "iiii"] {
        let picture = written(text);
        let end = 4 + font::text_width(text, 24.0).ceil() as u32;
        assert!(ink(&picture, 0..end + 1, 0..40) > 20);
        assert_eq!(ink(&picture, end + 1..200, 0..40), 0);
    }
}

#[test]
fn long_texts_are_cut() {
    let cut = font::ellipsise("a very long caption", 20.0, 80.0);
    assert!(cut.starts_with('a') && cut.ends_with("..."));
    assert!(font::text_width(&cut, 20.0) <= 80.0);
    assert_eq!(font::ellipsise("short", 20.0, 80.0), "short");
    assert_eq!(font::ellipsise(&"long ".repeat(2_000_000), 20.0, 80.0), "long l...", "also of a text of any length");
    assert_eq!(font::ellipsise("abc", 20.0, 1.0), "");
}

fn curve() -> Vec<(f64, f64)> {
    (0..95).map(|i| (1e-7 * 10_f64.powf(f64::from(i) * 0.08), 0.7 - f64::from(i) * 0.005)).collect()
}

#[test]
fn finder_marks_each_suggestion_in_a_colour_of_its_own() {
    let plain = finder_curve(&curve(), &[]);
    let marked = finder_curve(&curve(), &[("valley", 1e-4), ("slide", 1.1e-4)]);
    let all = |picture: &Picture, colour| count(picture, colour, 0..picture.width(), 0..picture.height());
    assert!(all(&plain, canvas::SERIES[0]) > 500);
    for colour in &canvas::SERIES[1..3] {
        assert_eq!(all(&plain, *colour), 0);
        // The dashes alone, two pixels wide, are more than this.
        assert!(all(&marked, *colour) > 300);
    }
    assert_eq!(all(&marked, canvas::SERIES[3]), 0);
}

#[test]
fn nothing_is_drawn_at_the_border() {
    let names = ["a long name 1e-7", "another long name", "a third"];
    let marks: Vec<(&str, f64)> = names.into_iter().zip([1e-7, 3.0, 3.1]).collect();
    let picture = finder_curve(&curve(), &marks);
    let (width, height) = (picture.width(), picture.height());
    for (x, y) in [(0..width, 0..4), (0..width, height - 4..height), (0..4, 0..height), (width - 4..width, 0..height)] {
        assert_eq!(ink(&picture, x, y), 0);
    }
}

#[test]
fn curves_fall_where_their_values_fall() {
    let points = vec![(0.0, 1.0), (1.0, 0.0)];
    let chart = LineChart { series: vec![Series { name: "loss".into(), points }], ..Default::default() };
    let picture = chart.draw();
    let (width, height) = (picture.width(), picture.height());
    let blue = |x, y| count(&picture, canvas::SERIES[0], x, y);
    // Below the legend: upper left and lower right hold the line, the other two corners do not.
    let (half_x, half_y) = (width / 2 + 20, height / 2);
    assert!(blue(0..half_x, 100..half_y) > 100 && blue(half_x..width, half_y..height) > 100);
    assert_eq!(blue(half_x + 60..width, 100..half_y) + blue(0..half_x - 60, half_y + 60..height), 0);
}

#[test]
fn no_values_and_no_finite_values_are_drawn_as_such() {
    let empty = LineChart::default().draw();
    assert!(ink(&empty, 300..660, 250..330) > 100);
    let series = vec![Series { name: String::new(), points: vec![(0.0, f64::NAN), (1.0, f64::INFINITY)] }];
    assert_eq!(LineChart { series, ..Default::default() }.draw(), empty);
    let zero = vec![Series { name: String::new(), points: vec![(0.0, 0.0)] }];
    assert_eq!(LineChart { series: zero, y_scale: Scale::Log, ..Default::default() }.draw(), empty);
}

fn judged(pixels: &[u8], tone: Tone) -> Tile<'_> {
    let caption = Caption { text: "10 十".into(), tone };
    Tile { image: ImageView::grey(8, 8, pixels).unwrap(), captions: vec![caption] }
}

#[test]
fn grids_show_images_and_colours() {
    let pixels: Vec<u8> = (0..64).map(|i| i * 3).collect();
    let tiles = [judged(&pixels, Tone::Right), judged(&pixels, Tone::Wrong), judged(&pixels, Tone::Plain)];
    let picture = grid("", &tiles, 2).unwrap();
    let (width, height) = (picture.width(), picture.height());
    // 8 pixels become 128: each is a square of 16.
    for value in [0, 3, 63 * 3] {
        assert_eq!(count(&picture, [value; 3], 0..width, 0..height), 3 * 256);
    }
    let (left, right) = (0..width / 2, width / 2..width);
    assert!(count(&picture, canvas::RIGHT, left.clone(), 0..height) > 128 * 4 * 2);
    assert!(count(&picture, canvas::WRONG, right.clone(), 0..height) > 128 * 4 * 2);
    assert_eq!(count(&picture, canvas::RIGHT, right, 0..height), 0);
    assert_eq!(count(&picture, canvas::WRONG, left, 0..height), 0);
}

#[test]
fn large_images_are_averaged() {
    // Columns of 0 and 255 by turns: half as large, all 128.
    let pixels: Vec<u8> = (0..300 * 4 * 3).map(|i| if i / 3 % 2 == 0 { 0 } else { 255 }).collect();
    let image = ImageView::rgb(300, 4, &pixels).unwrap();
    let picture = grid("", &[Tile { image, captions: vec![] }], 1).unwrap();
    assert_eq!(count(&picture, [128; 3], 0..picture.width(), 0..picture.height()), 150 * 2);
}

#[test]
fn impossible_grids_are_errors() {
    let message = |result: Result<Picture>| result.unwrap_err().to_string();
    assert_eq!(message(grid("", &[], 3)), "picture: tiles is empty, expected at least one");
    let tiles = [judged(&[0; 64], Tone::Plain)];
    assert_eq!(message(grid("", &tiles, 0)), "picture: columns is 0, expected at least 1");
    let many = vec![judged(&[0; 64], Tone::Plain); 4000];
    assert!(message(grid("", &many, 4000)).contains("fewer tiles"));
    assert!(ImageView::grey(8, 8, &[0; 63]).is_err());
    assert!(ImageView::rgb(0, 8, &[]).is_err());
}

#[test]
fn pictures_are_written_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    written("a").write_png(&path).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), written("a").to_png().unwrap());
}
