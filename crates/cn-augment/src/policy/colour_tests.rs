//! What a policy does besides framing: brightness and contrast, erasing, the border.

use super::*;
use crate::testing::{grey, noise};
use crate::{Affine, RandomResizedCrop};

const N: u32 = 1000;

/// The geometries of the first `N` ids, for an image of 16 x 16.
fn geometries(config: PolicyConfig) -> Vec<Geometry> {
    let (policy, pixels) = (Policy::new(config).expect("valid"), noise(256));
    let draw = |id| policy.geometry(grey(&pixels, 16, 16), DrawKey { seed: 42, epoch: 3, id }).expect("good");
    (0..N).map(draw).collect()
}

fn whole() -> PolicyConfig {
    PolicyConfig::new(32, Framing::Whole)
}

#[test]
fn contrast_is_about_the_mean_of_the_brightened_image() {
    let jittered = |brightness, contrast| {
        geometries(PolicyConfig { jitter: Some(Jitter { probability: 1.0, brightness, contrast }), ..whole() })
    };
    // Each key draws the same factors, whichever of the two are in use.
    let (brighter, contrasted, both) = (jittered(0.4, 0.0), jittered(0.0, 0.4), jittered(0.4, 0.4));
    for ((b, c), both) in brighter.iter().zip(&contrasted).zip(&both) {
        assert_eq!(b.bias, 0.0, "brightness multiplies");
        // c (b v) + (1 - c) b mean = b (c v + (1 - c) mean): what contrast alone gives, times b.
        assert!((both.gain - b.gain * c.gain).abs() < 1e-6, "{both:?}");
        assert!((both.bias - b.gain * c.bias).abs() < 1e-4, "{both:?}, not {} of {}", b.gain, c.bias);
    }
    let farthest = contrasted.iter().zip(&brighter).map(|(c, b)| (c.bias - b.gain * c.bias).abs()).fold(0.0, f32::max);
    assert!(farthest > 10.0, "the factors differ enough to tell the orders apart: {farthest}");
}

#[test]
fn factors_fill_their_range_to_both_sides_of_one() {
    let jitter = |brightness, contrast| Jitter { probability: 1.0, brightness, contrast };
    for jitter in [jitter(0.4, 0.0), jitter(0.0, 0.4)] {
        let gains: Vec<f32> =
            geometries(PolicyConfig { jitter: Some(jitter), ..whole() }).iter().map(|g| g.gain).collect();
        let (least, most) = gains.iter().fold((f32::MAX, 0.0), |(lo, hi), &g| (g.min(lo), g.max(hi)));
        assert!((0.6..0.62).contains(&least) && (1.38..=1.4).contains(&most), "{jitter:?}: {least} to {most}");
    }
}

#[test]
fn erased_parts_lie_anywhere_and_evenly() {
    let erasing = Some(Erasing { probability: 1.0, area: (0.1, 0.2), ratio: (0.5, 2.0) });
    let drawn = geometries(PolicyConfig { erasing, ..whole() });
    for (axis, name) in ["left", "top"].into_iter().enumerate() {
        // Position as a share of the room that is left.
        let shares: Vec<f64> =
            drawn.iter().map(|g| f64::from(g.erased[axis]) / f64::from(32 - g.erased[axis + 2])).collect();
        let mean = shares.iter().sum::<f64>() / f64::from(N);
        // Six standard errors; whole pixels spread a little wider than an even share, whose variance is 1/12.
        assert!((mean - 0.5).abs() < 6.0 * (1.0 / 10.0 / f64::from(N)).sqrt(), "{name}: {mean}");
        assert!(shares.contains(&0.0) && shares.contains(&1.0), "{name} reaches both ends");
    }
}

#[test]
fn the_border_is_that_of_the_policy_for_every_framing() {
    let crop = Framing::RandomResizedCrop(RandomResizedCrop::default());
    for framing in [Framing::Whole, Framing::CentreCrop { extra: 0.14 }, crop, Framing::Affine(Affine::default())] {
        for border in [0, 77, 255] {
            let config = PolicyConfig { border, flip: 0.5, ..PolicyConfig::new(32, framing) };
            assert!(geometries(config).iter().all(|g| g.border == u32::from(border)), "{framing:?}, {border}");
        }
    }
}
