use super::*;
use crate::testing::{grey, noise};
use crate::{Affine, RandomResizedCrop};

fn config(framing: Framing) -> PolicyConfig {
    PolicyConfig::new(32, framing)
}

fn crop(min_scale: f64) -> Framing {
    Framing::RandomResizedCrop(RandomResizedCrop { min_scale, ..RandomResizedCrop::default() })
}

fn refused(config: PolicyConfig, expected: &str) {
    assert_eq!(Policy::new(config).expect_err("refused").to_string(), expected);
}

#[test]
fn numbers_out_of_range_are_named() {
    let whole = config(Framing::Whole);
    refused(PolicyConfig { size: 0, ..whole.clone() }, "`size` is 0, expected 1 to 8192");
    let ink_square = Some(InkSquare { fill: 0.0, threshold: 9 });
    refused(PolicyConfig { ink_square, ..whole.clone() }, "`ink_square.fill` is 0, expected above 0, at most 1");
    refused(PolicyConfig { flip: 1.5, ..whole.clone() }, "`flip` is 1.5, expected 0 to 1");
    refused(PolicyConfig { flip: f64::NAN, ..whole.clone() }, "`flip` is NaN, expected 0 to 1");
    refused(config(crop(0.0)), "`random_resized_crop.min_scale` is 0, expected above 0, at most 1");
    let reversed = RandomResizedCrop { min_scale: 0.6, max_scale: 0.5, ..RandomResizedCrop::default() };
    refused(
        config(Framing::RandomResizedCrop(reversed)),
        "`random_resized_crop.min_scale, max_scale` goes from 0.6 to 0.5, expected the lower end first",
    );
    let ratio = RandomResizedCrop { ratio: (2.0, 0.5), ..RandomResizedCrop::default() };
    refused(
        config(Framing::RandomResizedCrop(ratio)),
        "`random_resized_crop.ratio` goes from 2 to 0.5, expected the lower end first",
    );
    let extra = Framing::CentreCrop { extra: -0.1 };
    refused(config(extra), "`centre_crop.extra` is -0.1, expected 0 to 1");
    let affine = Affine { rotate: 181.0, ..Affine::default() };
    refused(config(Framing::Affine(affine)), "`affine.rotate` is 181, expected 0 to 180 degrees");
    let ink = Some(MinInk { share: 2.0, threshold: 32 });
    refused(PolicyConfig { min_ink: ink, ..whole.clone() }, "`min_ink.share` is 2, expected 0 to 1");
    let jitter = Some(Jitter { probability: 1.0, brightness: 0.1, contrast: 1.1 });
    refused(PolicyConfig { jitter, ..whole.clone() }, "`jitter.contrast` is 1.1, expected 0 to 1");
    let erasing = Some(Erasing { area: (0.4, 0.2), ..Erasing::default() });
    refused(PolicyConfig { erasing, ..whole }, "`erasing.area` goes from 0.4 to 0.2, expected the lower end first");
}

#[test]
fn every_number_of_an_affine_map_is_checked() {
    let ok = Affine::default();
    let bad = [
        Affine { shift: 1.1, ..ok },
        Affine { scale: (0.05, 1.0), ..ok },
        Affine { scale: (1.0, 11.0), ..ok },
        Affine { scale: (1.1, 1.0), ..ok },
        Affine { rotate: -1.0, ..ok },
        Affine { shear: 61.0, ..ok },
        Affine { aspect: 0.9, ..ok },
    ];
    assert!(bad.into_iter().all(|affine| Policy::new(config(Framing::Affine(affine))).is_err()));
    assert!(Policy::new(config(Framing::Affine(ok))).is_ok());
}

fn everything() -> Policy {
    let jitter = Some(Jitter { probability: 0.8, brightness: 0.3, contrast: 0.3 });
    let erasing = Some(Erasing::default());
    Policy::new(PolicyConfig { flip: 0.5, jitter, erasing, ..config(crop(0.35)) }).expect("valid")
}

const KEY: DrawKey = DrawKey { seed: 42, epoch: 3, id: 17 };

fn draw(policy: &Policy, key: DrawKey) -> Geometry {
    policy.geometry(grey(&noise(64 * 64), 64, 64), key).expect("a good image")
}

#[test]
fn the_key_decides_and_each_part_of_it_matters() {
    let policy = everything();
    assert_eq!(draw(&policy, KEY), draw(&policy, KEY));
    for other in [DrawKey { seed: 43, ..KEY }, DrawKey { epoch: 4, ..KEY }, DrawKey { id: 18, ..KEY }] {
        assert_ne!(draw(&policy, KEY), draw(&policy, other));
    }
}

// Held values: a change of any of them would change every run.
#[test]
fn geometry_never_changes() {
    let source = |epoch| draw(&everything(), DrawKey { epoch, ..KEY }).source;
    assert_eq!([0, 1, 2].map(source), HELD_SOURCES);
    let affine = Policy::new(config(Framing::Affine(Affine::default()))).expect("valid");
    assert_eq!(draw(&affine, KEY).matrix.map(f32::to_bits), HELD_MATRIX);
}
const HELD_SOURCES: [[u32; 4]; 3] = [[17, 11, 46, 50], [8, 2, 55, 60], [10, 15, 37, 48]];
const HELD_MATRIX: [u32; 6] = [0x4003_3918, 0xBEA1_9C5B, 0x4010_6999, 0x3DFA_68A9, 0x3FF2_9FB1, 0xBF14_4E5C];

#[test]
fn a_batch_is_drawn_image_by_image() {
    let (small, large) = (noise(64 * 64), noise(90 * 70));
    let images = [grey(&small, 64, 64), grey(&large, 90, 70), grey(&small, 64, 64)];
    let policy = everything();
    let batch = policy.geometries(&images, 42, 3, &[5, 17, 9]).expect("good images");
    assert_eq!(batch[1], policy.geometry(images[1], KEY).expect("a good image"));
    assert_ne!(batch[0], batch[2]);
    let wrong = policy.geometries(&images, 42, 3, &[5]).expect_err("refused");
    assert_eq!(wrong.to_string(), "`ids` has 1 elements, expected 3");
    let broken = Image { channels: 2, ..images[0] };
    assert!(policy.geometries(&[images[0], broken], 42, 3, &[5, 6]).is_err());
}

#[test]
fn switching_one_thing_on_leaves_the_others_alone() {
    let all = draw(&everything(), KEY);
    let alone = draw(&Policy::new(config(crop(0.35))).expect("valid"), KEY);
    assert_eq!((all.source, all.matrix), (alone.source, alone.matrix));
    let without = Policy::new(PolicyConfig { erasing: None, ..everything().config().clone() }).expect("valid");
    assert_eq!(draw(&without, KEY), Geometry { erased: [0; 4], ..all });
}

/// The share of 4,000 draws for which `is` holds.
fn share(policy: &Policy, is: impl Fn(&Geometry) -> bool) -> f64 {
    let pixels = noise(16 * 16);
    let drawn = (0..4000).map(|id| policy.geometry(grey(&pixels, 16, 16), DrawKey { id, ..KEY }).expect("good"));
    drawn.filter(is).count() as f64 / 4000.0
}

#[test]
fn probabilities_hold() {
    let policy = everything();
    let near = |found: f64, expected: f64| assert!((found - expected).abs() < 0.03, "{found}, not {expected}");
    near(share(&policy, Geometry::is_flipped), 0.5);
    near(share(&policy, |g| g.gain != 1.0), 0.8);
    // Of the paper's areas and ratios some never fit in ten attempts, but hardly any.
    near(share(&policy, |g| g.erased().is_some()), 0.5);
    assert_eq!(share(&Policy::whole(8).expect("valid"), |g| g.flags != 0 || g.gain != 1.0), 0.0);
}

#[test]
fn erased_parts_fit_their_ranges() {
    let erasing = Erasing { probability: 1.0, area: (0.1, 0.2), ratio: (0.5, 2.0) };
    let policy = Policy::new(PolicyConfig { erasing: Some(erasing), ..config(Framing::Whole) }).expect("valid");
    let fits = |g: &Geometry| {
        let [left, top, w, h] = g.erased;
        let (area, ratio) = (f64::from(w * h) / 1024.0, f64::from(w) / f64::from(h));
        left + w <= 32 && top + h <= 32 && (0.08..0.22).contains(&area) && (0.45..2.2).contains(&ratio)
    };
    assert_eq!(share(&policy, fits), 1.0);
}

#[test]
fn contrast_leaves_the_mean_where_it_is() {
    let pixels = noise(256);
    let mean = pixels.iter().map(|&v| f64::from(v)).sum::<f64>() / 256.0;
    let jitter = Some(Jitter { probability: 1.0, brightness: 0.0, contrast: 0.5 });
    let policy = Policy::new(PolicyConfig { jitter, ..config(Framing::Whole) }).expect("valid");
    for id in 0..100 {
        let drawn = policy.geometry(grey(&pixels, 16, 16), DrawKey { id, ..KEY }).expect("good");
        assert!((0.5..=1.5).contains(&drawn.gain));
        let moved = f64::from(drawn.gain) * mean + f64::from(drawn.bias);
        assert!((moved - mean).abs() < 1e-4, "{moved}, not {mean}");
    }
}

#[test]
fn framings_that_lose_ink_are_drawn_again() {
    // A stroke along the left edge: small crops mostly miss it.
    let mut pixels = vec![0; 64 * 64];
    pixels.iter_mut().step_by(64).for_each(|v| *v = 200);
    let image = grey(&pixels, 64, 64);
    let ink = MinInk { share: 0.9, threshold: 32 };
    let shares = |min_ink, framing| {
        let policy = Policy::new(PolicyConfig { min_ink, ..config(framing) }).expect("valid");
        let kept = move |id| ink_kept(image, &policy.geometry(image, DrawKey { id, ..KEY }).expect("good"), 32);
        (0..200).map(kept).fold((0.0, 1.0), |(sum, least): (f64, f64), kept| (sum + kept, least.min(kept)))
    };
    let moves = Framing::Affine(Affine { shift: 0.2, ..Affine::default() });
    for framing in [crop(0.35), moves] {
        assert!(shares(None, framing).1 < 0.1);
        let (sum, least) = shares(Some(ink), framing);
        assert!(least >= 0.9, "{least}");
        assert!(sum < 200.0 - 1e-9 || matches!(framing, Framing::RandomResizedCrop(_)));
    }
}

#[test]
fn a_crop_that_never_keeps_enough_becomes_the_whole_image() {
    let mut pixels = vec![0; 64 * 64];
    (pixels[0], pixels[4095]) = (255, 255);
    let image = grey(&pixels, 64, 64);
    let min_ink = Some(MinInk { share: 1.0, threshold: 32 });
    let small = RandomResizedCrop { max_scale: 0.5, ..RandomResizedCrop::default() };
    let policy = Policy::new(PolicyConfig { min_ink, ..config(Framing::RandomResizedCrop(small)) }).expect("valid");
    assert_eq!(policy.geometry(image, KEY).expect("good"), Geometry::whole(image, 32));
}

/// A line of 16 px, off the centre of 64 x 48.
fn line() -> Vec<u8> {
    let mut pixels = vec![0; 64 * 48];
    pixels[20 * 64 + 30..20 * 64 + 46].fill(200);
    pixels
}

const SQUARE: Option<InkSquare> = Some(InkSquare { fill: 0.8, threshold: 40 });

#[test]
fn the_square_about_the_ink_is_framed_as_if_it_were_the_image() {
    let pixels = line();
    let corner = [28u32, 10];
    let cut: Vec<u8> = (10..30).flat_map(|y| pixels[y * 64 + 28..][..20].to_vec()).collect();
    let centre = Framing::CentreCrop { extra: 0.14 };
    for framing in [Framing::Whole, centre, crop(0.35), Framing::Affine(Affine::default())] {
        let without = Policy::new(config(framing)).expect("valid");
        let with = Policy::new(PolicyConfig { ink_square: SQUARE, ..config(framing) }).expect("valid");
        for id in 0..20 {
            let key = DrawKey { id, ..KEY };
            let expected = without.geometry(grey(&cut, 20, 20), key).expect("good");
            let found = with.geometry(grey(&pixels, 48, 64), key).expect("good");
            let [left, top, width, height] = expected.source;
            let moved =
                if expected.is_warp() { expected.source } else { [left + corner[0], top + corner[1], width, height] };
            assert_eq!(found.source, moved);
            assert_eq!((found.full, found.offset, found.flags), (expected.full, expected.offset, expected.flags));
            if expected.is_warp() {
                let back = [0.0, 0.0, corner[0] as f32, 0.0, 0.0, corner[1] as f32];
                let moved: Vec<f32> = found.matrix.iter().zip(back).map(|(m, by)| m - by).collect();
                assert!(moved.iter().zip(expected.matrix).all(|(a, b)| (a - b).abs() < 1e-5), "{moved:?}");
            }
        }
    }
}

#[test]
fn a_square_about_the_ink_falls_back_on_itself() {
    let pixels = line();
    let min_ink = Some(MinInk { share: 1.0, threshold: 40 });
    let small = RandomResizedCrop { max_scale: 0.3, ..RandomResizedCrop::default() };
    let framing = Framing::RandomResizedCrop(small);
    let policy = Policy::new(PolicyConfig { ink_square: SQUARE, min_ink, ..config(framing) }).expect("valid");
    let found = policy.geometry(grey(&pixels, 48, 64), KEY).expect("good");
    assert_eq!(found, Geometry::resize(Rect { left: 28, top: 10, width: 20, height: 20 }, 32));
}
