use std::collections::HashSet;

use serde_json::Value;

use super::*;
use crate::style::Spread;
use crate::writers;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/dataset_stats.json");
const PIXELS: usize = 64 * 64;

fn golden() -> Value {
    let text = std::fs::read_to_string(GOLDEN).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn scans(seed: u64) -> Handwriting {
    Handwriting::new(seed, Style::scans()).unwrap()
}

fn sample(writer: u32, sample: u32, code: u8) -> Sample {
    Sample::new(writer, sample, code).unwrap()
}

/// Samples and images of `n_writers` people, 3 pages each.
fn drawn(n_writers: u32) -> (Vec<Sample>, Vec<u8>) {
    let samples: Vec<_> = Sample::pages(1..1 + n_writers, 3).collect();
    let images = scans(42).draw_all(&samples);
    (samples, images)
}

/// First and one past the last (column, row) above a grey level of 32.
fn ink_box(image: &[u8]) -> Option<[usize; 4]> {
    let side = image.len().isqrt();
    let ink: Vec<_> = (0..image.len()).filter(|&i| image[i] > 32).collect();
    let x = || ink.iter().map(|i| i % side);
    Some([x().min()?, x().max()? + 1, ink.first()? / side, ink.last()? / side + 1])
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn deviation(values: &[f64]) -> f64 {
    let m = mean(values);
    mean(&values.iter().map(|v| (v - m).powi(2)).collect::<Vec<_>>()).sqrt()
}

fn check(name: &str, value: f64, expected: f64, tolerance: f64) {
    assert!((value - expected).abs() <= tolerance, "{name}: {value}, in the scans {expected}");
}

#[test]
fn an_image_depends_on_its_sample_alone() {
    let h = scans(7);
    let samples: Vec<_> = Sample::pages(3..5, 2).collect();
    let all = h.draw_all(&samples);
    for (sample, image) in samples.iter().zip(all.chunks_exact(PIXELS)).rev() {
        assert_eq!(h.draw(*sample), image);
    }
    assert_eq!(all.len(), samples.len() * PIXELS);
    assert!(h.draw_all(&[]).is_empty());
}

#[test]
fn threads_change_nothing() {
    let samples: Vec<_> = Sample::pages(1..4, 2).collect();
    let on = |n| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        pool.install(|| scans(42).draw_all(&samples))
    };
    let one = on(1);
    assert_eq!(on(2), one);
    assert_eq!(on(5), one);
}

#[test]
fn seed_writer_page_and_code_each_matter() {
    let mut images = HashSet::new();
    let mut n = 0;
    for seed in [1, 2, 1 << 40] {
        for s in Sample::pages(1..4, 2) {
            images.insert(scans(seed).draw(s));
            n += 1;
        }
    }
    assert_eq!(images.len(), n);
}

/// The bytes are part of the contract: machines and versions must agree on them. A change of the look changes them.
#[test]
fn bytes_are_held() {
    let (_, images) = drawn(4);
    let hash = images.iter().fold(0xCBF2_9CE4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01B3));
    assert_eq!(hash, HELD, "{hash:#X}");
}
const HELD: u64 = 0x401B_40E5_369E_123D;

#[test]
fn labels_are_those_of_the_data_set() {
    let golden = golden();
    for (i, c) in CHARACTERS.iter().enumerate() {
        let class = &golden["classes"][c.value];
        assert_eq!(usize::from(c.code), i + 1);
        assert_eq!(class["code"], c.code);
        assert_eq!(class["character"], c.character.to_string());
    }
}

#[test]
fn pages_run_through_writers_then_pages_then_codes() {
    let all: Vec<_> = Sample::pages(5..7, 2).collect();
    assert_eq!(all.len(), 2 * 2 * 15);
    assert_eq!(
        (all[0], all[14], all[15], all[30]),
        (sample(5, 1, 1), sample(5, 1, 15), sample(5, 2, 1), sample(6, 1, 1))
    );
    assert_eq!((all[15].writer(), all[15].sample(), all[15].code()), (5, 2, 1));
}

/// Pixel statistics against the 15,000 real scans.
#[test]
fn pixels_look_like_the_scans() {
    let golden = golden();
    let (samples, images) = drawn(100);
    let grey: Vec<f64> = images.iter().map(|&p| f64::from(p) / 255.0).collect();
    let all = &golden["pixels_all"];
    check("mean", mean(&grey), all["mean"].as_f64().unwrap(), 0.0007);
    check("std", deviation(&grey), all["std"].as_f64().unwrap(), 0.003);
    let share = |test: fn(u8) -> bool| images.iter().filter(|&&p| test(p)).count() as f64 / images.len() as f64;
    check("black", share(|p| p == 0), golden["fraction_zero"].as_f64().unwrap(), 0.006);
    check("below 16", share(|p| p < 16), golden["fraction_below_16"].as_f64().unwrap(), 0.003);
    let histogram: Vec<f64> = golden["histogram"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    let total: f64 = histogram.iter().sum();
    for (lo, hi) in [(1, 4), (4, 16), (16, 32), (32, 64), (64, 96), (96, 128), (128, 160)] {
        let found = images.iter().filter(|&&p| (lo..hi).contains(&usize::from(p))).count();
        let expected = histogram[lo..hi].iter().sum::<f64>() / total;
        let ratio = found as f64 / images.len() as f64 / expected;
        check(&format!("share of levels {lo}..{hi}, relative"), ratio, 1.0, 0.15);
    }
    for c in CHARACTERS {
        let of_class: Vec<_> = grey.chunks_exact(PIXELS).zip(&samples).filter(|(_, s)| s.code == c.code).collect();
        let means: Vec<_> = of_class.iter().map(|(image, _)| mean(image)).collect();
        let expected = golden["classes"][c.value]["mean"].as_f64().unwrap();
        check(c.value, mean(&means) / expected, 1.0, 0.15);
    }
}

/// Ink of the images, and the size and place of its box, against the real scans' quantiles.
#[test]
fn sizes_and_amounts_spread_like_the_scans() {
    let golden = golden();
    let (_, images) = drawn(100);
    let images = || images.chunks_exact(PIXELS);
    let mut ink: Vec<f64> =
        images().map(|i| i.iter().map(|&p| f64::from(p)).sum::<f64>() / 255.0 / PIXELS as f64).collect();
    ink.sort_by(f64::total_cmp);
    let expected = golden["per_image_mean"]["quantiles"].as_array().unwrap();
    for (q, expected) in [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99].iter().zip(expected) {
        let at = ink[(q * ink.len() as f64) as usize];
        check(&format!("ink quantile {q}, relative"), at / expected.as_f64().unwrap(), 1.0, 0.2);
    }
    let boxes: Vec<_> = images().filter_map(ink_box).collect();
    for (side, key) in
        [(0, "bounding_box_width_quantiles_5_50_95_100"), (2, "bounding_box_height_quantiles_5_50_95_100")]
    {
        let mut sizes: Vec<_> = boxes.iter().map(|b| (b[side + 1] - b[side]) as f64).collect();
        sizes.sort_by(f64::total_cmp);
        for (q, i) in [(0.05, 0), (0.5, 1), (0.95, 2)] {
            let at = sizes[(q * sizes.len() as f64) as usize];
            check(key, at, golden["ink"][key][i].as_f64().unwrap(), 2.5);
        }
    }
    let larger: Vec<_> = boxes.iter().map(|b| (b[1] - b[0]).max(b[3] - b[2]) as f64).collect();
    check("larger side", mean(&larger), 23.9, 1.0);
    let rows: Vec<_> = boxes.iter().map(|b| (b[2] + b[3]) as f64 / 2.0).collect();
    check("deviation of rows", deviation(&rows), 4.8, 1.0);
}

#[test]
fn no_character_is_cut_off() {
    let (samples, images) = drawn(100);
    let cut = samples.iter().zip(images.chunks_exact(PIXELS)).filter(|(_, image)| {
        let edge = (0..64).flat_map(|i| [i, 63 * 64 + i, 64 * i, 64 * i + 63]);
        edge.clone().any(|i| image[i] > 60)
    });
    // Dust may lie on the edge; ink keeps a rim.
    assert!(cut.count() <= samples.len() / 500);
    let blank = images.chunks_exact(PIXELS).filter(|i| i.iter().filter(|&&p| p > 32).count() < 4);
    assert!(blank.count() <= samples.len() / 1000);
}

/// Size, row and darkness vary more from writer to writer than within one.
#[test]
fn writers_differ_more_than_their_pages() {
    let traits: [fn(&[u8]) -> f64; 3] = [
        |i| ink_box(i).map_or(0.0, |b| (b[3] - b[2]) as f64),
        |i| ink_box(i).map_or(0.0, |b| (b[1] - b[0]) as f64),
        |i| i.iter().map(|&p| f64::from(p)).sum(),
    ];
    for value in traits {
        for code in [5, 10, 15] {
            let (mut means, mut within) = (Vec::new(), Vec::new());
            for writer in 1..40 {
                let own: Vec<_> = (1..9).map(|s| value(&scans(1).draw(sample(writer, s, code)))).collect();
                means.push(mean(&own));
                within.push(deviation(&own));
            }
            let (between, within) = (deviation(&means), mean(&within));
            assert!(between > 1.5 * within, "{code}: {between} {within}");
        }
    }
}

#[test]
fn every_size_shows_the_same_page() {
    let at = |size| {
        // JPEG blocks keep their size, so their ringing does not scale.
        let style = Style { size, jpeg_quality: None, ..Style::scans() };
        let h = Handwriting::new(3, style).unwrap();
        let samples: Vec<_> = Sample::pages(1..5, 1).collect();
        let images = h.draw_all(&samples);
        assert_eq!(images.len(), samples.len() * size * size);
        images.iter().map(|&p| f64::from(p)).sum::<f64>() / images.len() as f64
    };
    let expected = at(64);
    for size in [32, 100, 128, 256] {
        check(&format!("mean grey at {size} px"), at(size), expected, 0.03 * expected);
    }
    assert!(at(16) > 0.0);
}

#[test]
fn polarity_turns_the_page() {
    let with = |polarity| {
        let style = Style { polarity, jpeg_quality: None, ..Style::scans() };
        Handwriting::new(3, style).unwrap()
    };
    let (light, dark) = (with(Polarity::LightOnDark), with(Polarity::DarkOnLight));
    let mixed = with(Polarity::Mixed);
    let mut n_light = 0;
    for s in Sample::pages(1..11, 1) {
        let turned: Vec<u8> = light.draw(s).iter().map(|p| 255 - p).collect();
        assert_eq!(dark.draw(s), turned);
        let either = mixed.draw(s);
        n_light += usize::from(either != turned);
        assert!(either == turned || either == light.draw(s));
    }
    assert!((40..110).contains(&n_light), "{n_light} of 150");
}

#[test]
fn the_wide_style_is_wider() {
    let (_, images) = drawn(30);
    let samples: Vec<_> = Sample::pages(1..31, 3).collect();
    let style = Style { polarity: Polarity::LightOnDark, ..Style::wide() };
    let wide = Handwriting::new(42, style).unwrap().draw_all(&samples);
    let widths = |images: &[u8]| -> Vec<f64> {
        images.chunks_exact(PIXELS).filter_map(ink_box).map(|b| (b[1] - b[0]) as f64).collect()
    };
    assert!(deviation(&widths(&wide)) > 1.3 * deviation(&widths(&images)));
}

#[test]
fn training_and_validation_share_no_writer() {
    let both = |w: u32| writers::TRAIN.contains(&w) && writers::VALIDATION.contains(&w);
    let ends = [writers::TRAIN, writers::VALIDATION].map(|r| [r.start, r.end - 1]);
    assert!(!ends.into_iter().flatten().any(both));
    assert!(writers::TRAIN.contains(&1) && writers::TRAIN.contains(&100));
}

#[test]
fn nonsense_is_refused_with_a_hint() {
    let check = |result: Result<(), Error>, message: &str| {
        let error = result.unwrap_err();
        assert_eq!(error.to_string(), message);
        assert!(error.hint().is_some());
    };
    let style = |change: fn(&mut Style)| {
        let mut style = Style::scans();
        change(&mut style);
        Handwriting::new(0, style).map(drop)
    };
    check(Sample::new(1, 1, 0).map(drop), "no character has the code 0, expected 1 to 15");
    check(Sample::new(1, 1, 16).map(drop), "no character has the code 16, expected 1 to 15");
    check(Sample::new(1, 1 << 28, 1).map(drop), "sample 268435456 is too large, expected at most 268435455");
    check(style(|s| s.size = 8), "image size 8 px lies outside 16 to 1024 px");
    check(style(|s| s.jpeg_quality = Some(0)), "JPEG quality 0 lies outside 1 to 100");
    let bad = |name: &str| {
        format!("style trait `{name}`: mean and deviations must be finite, deviations and sizes not negative")
    };
    check(style(|s| s.em = Spread::new(0.0, 0.1, 0.1)), &bad("em"));
    check(style(|s| s.slope.within = -1.0), &bad("slope"));
    check(style(|s| s.x.mean = f32::NAN), &bad("x"));
    check(style(|s| s.squeeze = 0.0), &bad("squeeze"));
}

/// A trait of a writer.
type Trait = fn(&Writer) -> f32;

/// The writers of a large school.
fn school() -> Vec<Writer> {
    let key = |writer| Key { seed: 42, writer, sample: 1, code: 1 };
    (1..2001).map(|writer| Writer::new(key(writer), &Style::scans())).collect()
}

#[test]
fn writers_differ_as_widely_as_the_style_says() {
    let (style, school) = (Style::scans(), school());
    let of = |trait_of: Trait| school.iter().map(|w| f64::from(trait_of(w))).collect::<Vec<_>>();
    let near = |name: &str, values: Vec<f64>, mean_of: f64, spread: f32| {
        let spread = f64::from(spread);
        let (found, middle) = (deviation(&values), mean(&values));
        assert!((found / spread - 1.0).abs() < 0.1, "{name}: deviation {found}, expected {spread}");
        assert!((middle - mean_of).abs() < 0.15 * spread, "{name}: mean {middle}, expected {mean_of}");
    };
    let lengths: [(&str, Trait, Spread); 4] = [
        ("x", |w| w.x, style.x),
        ("y", |w| w.y, style.y),
        ("slope", |w| w.slope, style.slope),
        ("slant", |w| w.slant, style.slant),
    ];
    for (name, trait_of, spread) in lengths {
        near(name, of(trait_of), f64::from(spread.mean), spread.between);
    }
    let sizes: [(&str, Trait, Spread); 2] =
        [("aspect", |w| w.aspect, style.aspect), ("pen width", |w| w.pen_width, style.pen_width)];
    for (name, trait_of, spread) in sizes {
        let logarithms = of(trait_of).into_iter().map(f64::ln).collect();
        near(name, logarithms, f64::from(spread.mean).ln(), spread.between);
    }
    let ranges: [(&str, Trait, [f64; 2]); 4] = [
        ("tremor", |w| w.tremor, [0.02, 0.1]),
        ("press", |w| w.press, [0.0, 0.35]),
        ("taper", |w| w.taper, [0.3, 0.95]),
        ("grain", |w| w.grain, [0.06, 0.18]),
    ];
    for (name, trait_of, [low, high]) in ranges {
        let values = of(trait_of);
        let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(a, b), &v| (a.min(v), b.max(v)));
        let room = 0.01 * (high - low);
        assert!((low - 1e-6..low + room).contains(&least), "{name}: from {least}");
        assert!((high - room..high + 1e-6).contains(&most), "{name}: to {most}");
    }
    let joining = of(|w| w.joining);
    assert!(joining.iter().all(|&j| j >= 0.0) && deviation(&joining) > 0.5 * f64::from(style.joining.between));
}

/// The dabs of the characters 千, 百 and 四 of one writer, after a change of the writer.
fn dabs(change: impl Fn(&mut Writer)) -> Vec<Vec<Dab>> {
    let (handwriting, mut lines) = (scans(42), Vec::new());
    for (code, writer) in [(13, 3), (12, 5), (5, 8)] {
        let key = Key { seed: 42, writer, sample: 1, code };
        let mut writer = Writer::new(key, &Style::scans());
        change(&mut writer);
        lines.extend(handwriting.lines_by(&writer, key));
    }
    lines
}

fn over(lines: &[Vec<Dab>], of: impl Fn(&Dab) -> f32) -> Vec<f64> {
    lines.iter().flatten().map(|dab| f64::from(of(dab))).collect()
}

/// How much x moves with y.
fn lean(lines: &[Vec<Dab>]) -> f64 {
    let (x, y) = (over(lines, |d| d.x), over(lines, |d| d.y));
    let (mean_x, mean_y) = (mean(&x), mean(&y));
    let both: Vec<f64> = x.iter().zip(&y).map(|(x, y)| (x - mean_x) * (y - mean_y)).collect();
    mean(&both) / deviation(&y).powi(2)
}

/// How far a dab lies from the middle of its neighbours.
fn roughness(lines: &[Vec<Dab>]) -> f64 {
    let off = |d: &[Dab]| f64::from((d[0].x - 2.0 * d[1].x + d[2].x).hypot(d[0].y - 2.0 * d[1].y + d[2].y));
    mean(&lines.iter().flat_map(|line| line.windows(3).map(off)).collect::<Vec<_>>())
}

#[test]
fn each_trait_of_a_writer_is_seen_in_the_lines() {
    let plain = dabs(|_| ());
    let moved = dabs(|w| {
        w.x += 3.0;
        w.y -= 2.0;
    });
    for (of, by) in [((|d| d.x) as fn(&Dab) -> f32, 3.0), (|d| d.y, -2.0)] {
        assert!((mean(&over(&moved, of)) - mean(&over(&plain, of)) - by).abs() < 1e-3);
    }
    let width = |lines: &[Vec<Dab>]| mean(&over(lines, |d| d.width));
    assert!((width(&dabs(|w| w.pen_width *= 2.0)) / width(&plain) - 2.0).abs() < 1e-3, "pen width");
    let ink = |lines: &[Vec<Dab>]| mean(&over(lines, |d| d.ink));
    assert!(ink(&dabs(|w| w.darkness *= 0.5)) < 0.6 * ink(&plain), "darkness");
    let height = |lines: &[Vec<Dab>]| deviation(&over(lines, |d| d.y));
    assert!(height(&dabs(|w| w.em *= 1.5)) > 1.3 * height(&plain), "size");
    let proportion = |lines: &[Vec<Dab>]| deviation(&over(lines, |d| d.x)) / height(lines);
    let aspect = proportion(&dabs(|w| w.aspect *= 1.3)) / proportion(&plain);
    assert!((aspect - 1.0).abs() > 0.15, "aspect: {aspect}");
    let (left, right) = (lean(&dabs(|w| w.slant -= 0.3)), lean(&dabs(|w| w.slant += 0.3)));
    assert!((left - right).abs() > 0.4, "slant: {left} and {right}");
    let (calm, shaking) = (roughness(&dabs(|w| w.tremor = 0.0)), roughness(&dabs(|w| w.tremor = 0.5)));
    assert!(shaking > 1.5 * calm, "tremor: {calm} and {shaking}");
    let start = |lines: &[Vec<Dab>]| mean(&lines.iter().map(|line| f64::from(line[0].width)).collect::<Vec<_>>());
    assert!(start(&dabs(|w| w.press = 1.0)) > 1.2 * start(&dabs(|w| w.press = 0.0)), "press");
    let n = |joining: f32| over(&dabs(|w| w.joining = joining), |d| d.x).len();
    assert!(n(50.0) > n(0.0), "joined strokes leave lines between");
}
