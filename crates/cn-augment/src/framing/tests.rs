use cn_random::Purpose;

use super::*;
use crate::testing::{golden, number};

const N: u32 = 200_000;

fn stream(id: u32) -> Draws {
    Draws::new(42, 0, id, Purpose::named("framing.test"))
}

fn boxes(crop: RandomResizedCrop, width: usize, height: usize, n: u32) -> Vec<Rect> {
    (0..n).map(|id| crop.draw(width, height, &mut stream(id))).collect()
}

/// numpy's quantile: linear between the two nearest of the sorted values.
fn quantile(sorted: &[f64], level: f64) -> f64 {
    let at = level * (sorted.len() - 1) as f64;
    let (low, part) = (at.floor() as usize, at.fract());
    sorted[low] + part * (sorted[(low + 1).min(sorted.len() - 1)] - sorted[low])
}

fn check_distribution(name: &str, mut values: Vec<f64>, quantile_tolerance: f64) {
    let golden = &golden("images.json")["crop_box_distribution"];
    let (expected, n) = (&golden[name], number(&golden["n_draws"]));
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    // Both means have a sampling error; fewer values than draws (positions) make it larger.
    let error = number(&expected["std"]) * (1.0 / n + 1.0 / values.len() as f64).sqrt();
    assert!((mean - number(&expected["mean"])).abs() < 5.0 * error, "mean of {name}: {mean}");

    values.sort_by(f64::total_cmp);
    let levels = golden["quantile_levels"].as_array().expect("levels");
    for (level, expected) in levels.iter().zip(expected["quantiles"].as_array().expect("quantiles")) {
        let found = quantile(&values, number(level));
        assert!((found - number(expected)).abs() <= quantile_tolerance, "{level} quantile of {name}: {found}");
    }
}

#[test]
fn training_boxes_are_distributed_as_those_of_fastai() {
    let crop = RandomResizedCrop { min_scale: 0.35, ..RandomResizedCrop::default() };
    // Ten times fastai's sample, whose own quantiles are off by up to 0.008: so little of the tolerance is our noise.
    let boxes = boxes(crop, 64, 64, N);
    let map = |f: fn(&Rect) -> f64| boxes.iter().map(f).collect::<Vec<f64>>();
    check_distribution("area_fraction", map(|b| (b.width * b.height) as f64 / 4096.0), 0.01);
    check_distribution("width_over_height", map(|b| b.width as f64 / b.height as f64), 0.01);
    check_distribution("log_ratio", map(|b| (b.width as f64 / b.height as f64).ln()), 0.01);
    check_distribution("width", map(|b| b.width as f64), 1.0);
    check_distribution("height", map(|b| b.height as f64), 1.0);

    let place = |start: fn(&Rect) -> usize, len: fn(&Rect) -> usize| {
        let free = boxes.iter().filter(|b| len(b) < 64);
        free.map(|b| start(b) as f64 / (64 - len(b)) as f64).collect::<Vec<f64>>()
    };
    check_distribution("x_fraction", place(|b| b.left, |b| b.width), 0.05);
    check_distribution("y_fraction", place(|b| b.top, |b| b.height), 0.05);
    let full = boxes.iter().filter(|b| (b.width, b.height) == (64, 64)).count() as f64 / f64::from(N);
    assert!(full < 0.003, "{full}");
}

#[test]
fn the_mean_area_is_that_of_the_definition() {
    let crop = RandomResizedCrop { min_scale: 0.35, ..RandomResizedCrop::default() };
    let side = 400;
    let at = |i: usize, low: f64, high: f64| low + (high - low) * (i as f64 + 0.5) / side as f64;
    let grid = (0..side * side).map(|i| (at(i % side, 0.35, 1.0) * 4096.0, at(i / side, 0.75f64.ln(), -0.75f64.ln())));
    let sides =
        grid.map(|(area, log_ratio)| [log_ratio, -log_ratio].map(|l| (area * l.exp()).sqrt().round_ties_even()));
    let accepted: Vec<f64> = sides.filter(|[w, h]| w.max(*h) <= 64.0).map(|[w, h]| w * h).collect();
    let expected = accepted.iter().sum::<f64>() / accepted.len() as f64;

    let drawn: usize = boxes(crop, 64, 64, N).iter().map(|b| b.width * b.height).sum();
    let found = drawn as f64 / f64::from(N);
    // A box's area has a standard deviation of 662 pixels.
    assert!((found - expected).abs() < 5.0 * 662.0 / f64::from(N).sqrt(), "{found}, not {expected}");
}

#[test]
fn boxes_lie_in_the_image_whatever_its_size() {
    let crop = RandomResizedCrop::default();
    for (width, height) in [(1, 1), (2, 1), (1, 50), (3, 3), (500, 333), (64, 640)] {
        for b in boxes(crop, width, height, 300) {
            assert!(b.width > 0 && b.height > 0 && b.left + b.width <= width && b.top + b.height <= height, "{b:?}");
        }
    }
}

#[test]
fn the_last_resort_is_the_central_box_of_an_allowed_ratio() {
    let crop = RandomResizedCrop { min_scale: 1.0, ..RandomResizedCrop::default() };
    let check = |width, height, [left, top, w, h]: [usize; 4]| {
        assert_eq!(crop.fallback(width, height), Rect { left, top, width: w, height: h });
    };
    check(64, 64, [0, 0, 64, 64]);
    check(30, 100, [0, 30, 30, 40]);
    check(101, 30, [30, 0, 40, 30]);
    check(1, 300, [0, 149, 1, 1]);
    // A whole image of a ratio out of range never fits, so that this is what is drawn.
    assert!(boxes(crop, 30, 100, 50).iter().all(|&b| b == crop.fallback(30, 100)));
}

#[test]
fn the_margin_is_fastais() {
    let margins = [(128, 0.14, 12), (64, 0.14, 8), (224, 0.14, 16), (1, 0.14, 4), (100, 0.0, 0), (50, 1.0, 28)];
    for (size, extra, margin) in margins {
        assert_eq!(centre_margin(size, extra), margin, "{size}");
    }
}

const STILL: Affine = Affine { shift: 0.0, scale: (1.0, 1.0), rotate: 0.0, shear: 0.0, aspect: 1.0 };

fn matrices(affine: Affine) -> Vec<[f64; 6]> {
    (0..4000).map(|id| affine.draw(Rect::of_size(8, 6), 8, &mut stream(id)).map(f64::from)).collect()
}

/// That the numbers fill `[low, high]`, evenly about its middle.
fn check_range_of(what: &str, values: impl Iterator<Item = f64>, low: f64, high: f64) {
    let values: Vec<f64> = values.collect();
    let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(a, b), &v| (a.min(v), b.max(v)));
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let (width, slack) = (high - low, 1e-6);
    assert!(least >= low - slack && most <= high + slack, "{what}: {least} to {most}");
    assert!(least < low + 0.01 * width + slack && most > high - 0.01 * width - slack, "{what}: {least} to {most}");
    assert!((mean - (low + high) / 2.0).abs() <= 0.03 * width + slack, "{what}: mean {mean}");
}

#[test]
fn a_still_map_is_the_resize_of_the_whole_image() {
    assert!(matrices(STILL).iter().all(|m| *m == [1.0, 0.0, 0.0, 0.0, 0.75, 0.0]));
}

#[test]
fn each_part_of_a_map_stays_in_its_range() {
    // The image has 8 x 6 pixels and the output 8 x 8: rows of `y` are scaled by 0.75.
    let of = |affine: Affine, value: fn(&[f64; 6]) -> f64| matrices(affine).into_iter().map(move |m| value(&m));
    check_range_of("shift x", of(Affine { shift: 0.25, ..STILL }, |m| -m[2]), -2.0, 2.0);
    check_range_of("shift y", of(Affine { shift: 0.25, ..STILL }, |m| -m[5]), -1.5, 1.5);
    check_range_of("scale", of(Affine { scale: (0.5, 2.0), ..STILL }, |m| 1.0 / m[0]), 0.5, 2.0);
    let turned = Affine { rotate: 30.0, ..STILL };
    check_range_of("turn", of(turned, |m| (m[1] / m[0]).atan().to_degrees()), -30.0, 30.0);
    check_range_of("slant", of(Affine { shear: 20.0, ..STILL }, |m| -m[1].atan().to_degrees()), -20.0, 20.0);
    let stretched = Affine { aspect: 2.0, ..STILL };
    check_range_of("aspect", of(stretched, |m| (m[4] / 0.75 / m[0]).log2()), -1.0, 1.0);
    assert!(matrices(stretched).iter().all(|m| (m[0] * m[4] - 0.75).abs() < 1e-6), "the area is kept");
}

#[test]
fn all_but_shifts_keep_the_centre() {
    let affine = Affine { shift: 0.0, ..Affine::default() };
    for [a, b, c, d, e, f] in matrices(affine) {
        let centre = [a * 4.0 + b * 4.0 + c, d * 4.0 + e * 4.0 + f];
        assert!((centre[0] - 4.0).abs() < 1e-5 && (centre[1] - 3.0).abs() < 1e-5, "{centre:?}");
    }
}
