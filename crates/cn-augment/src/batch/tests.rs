use cn_kernels::resample::Rect;
use proptest::prelude::*;

use super::*;
use crate::testing::{bytes, golden, grey, noise, number, rgb};
use crate::{Affine, DrawKey, Erasing, Framing, Jitter, Policy, PolicyConfig, RandomResizedCrop};

fn batcher(channels: usize) -> Batcher {
    Batcher::new(channels, Normalisation::none()).expect("valid")
}

fn filled<T: Value>(channels: usize, images: &[Image<'_>], geometry: &[Geometry]) -> Vec<T> {
    let len = geometry.iter().map(Geometry::area).sum::<usize>() * channels;
    let mut out = vec![T::default(); len];
    batcher(channels).fill(images, geometry, &mut out).expect("everything fits");
    out
}

fn one<T: Value>(channels: usize, image: Image<'_>, geometry: Geometry) -> Vec<T> {
    filled(channels, &[image], &[geometry])
}

fn crc32(bytes: &[u8]) -> u64 {
    let bit = |crc: u32| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1));
    u64::from(!bytes.iter().fold(!0, |crc, &b| (0..8).fold(crc ^ u32::from(b), |crc, _| bit(crc))))
}

#[test]
fn validation_has_the_bytes_of_fastai() {
    let golden = &golden("images.json")["one_image"];
    let decoded = bytes(&golden["decoded_64x64_hex"]);
    let image = grey(&decoded, 64, 64);
    let geometry = Policy::fastai_valid(128).expect("valid").geometry(image, KEY).expect("good");
    let expected = bytes(&golden["valid_128x128_hex"]);
    assert!(one::<u8>(1, image, geometry) == expected);
    let resized = one::<u8>(1, image, Geometry::whole(image, 152));
    assert_eq!(crc32(&resized), golden["valid_resized_152x152_crc32"].as_u64().expect("a checksum"));
    // What the network sees are these bytes, normalised.
    let seen: Vec<f32> = one(3, image, geometry);
    assert!(seen.as_chunks::<3>().0.iter().zip(&expected).all(|(rgb, &v)| *rgb == [f32::from(v) / 255.0; 3]));
}

#[test]
fn training_crops_have_the_bytes_of_fastai() {
    let golden = &golden("images.json")["one_image"];
    let decoded = bytes(&golden["decoded_64x64_hex"]);
    let crops = golden["train_crops"].as_array().expect("crops");
    assert_eq!(crops.len(), 6);
    for crop in crops {
        let [left, top, width, height] = [0, 1, 2, 3].map(|i| number(&crop["box_x_y_w_h"][i]) as usize);
        let geometry = Geometry::resize(Rect { left, top, width, height }, 128);
        let out = one::<u8>(1, grey(&decoded, 64, 64), geometry);
        assert_eq!(crc32(&out), crop["crc32"].as_u64().expect("a checksum"), "{left} {top} {width} {height}");
    }
}

const KEY: DrawKey = DrawKey { seed: 42, epoch: 3, id: 17 };

/// A policy that does everything, around a framing.
fn everything(framing: Framing) -> Policy {
    let jitter = Some(Jitter { probability: 0.5, brightness: 0.3, contrast: 0.3 });
    let erasing = Some(Erasing::default());
    let config = PolicyConfig { flip: 0.5, jitter, erasing, border: 20, ..PolicyConfig::new(24, framing) };
    Policy::new(config).expect("valid")
}

fn policies() -> [Policy; 4] {
    [
        Framing::Whole,
        Framing::CentreCrop { extra: 0.14 },
        Framing::RandomResizedCrop(RandomResizedCrop::default()),
        Framing::Affine(Affine::default()),
    ]
    .map(everything)
}

#[test]
fn images_do_not_depend_on_their_batch_nor_on_threads() {
    let pixels = noise(50 * 40 * 3);
    let images: Vec<Image<'_>> = (0..40)
        .map(|i| if i % 2 == 0 { grey(&pixels[i..][..30 * 33], 30, 33) } else { rgb(&pixels, 40, 50) })
        .collect();
    let ids: Vec<u32> = (100..140).collect();
    for policy in policies() {
        let geometry = policy.geometries(&images, 42, 0, &ids).expect("good");
        let batch: Vec<f32> = filled(3, &images, &geometry);
        for (i, part) in batch.chunks_exact(24 * 24 * 3).enumerate() {
            assert!(part == one::<f32>(3, images[i], geometry[i]), "image {i}");
        }
        for threads in [1, 2, 5] {
            let again = cn_kernels::with_threads(threads, || filled::<f32>(3, &images, &geometry));
            assert!(batch == again.expect("threads"), "{threads} threads");
        }
    }
}

#[test]
fn buffers_carry_nothing_over() {
    let (pixels, batcher) = (noise(64 * 64), batcher(1));
    let image = grey(&pixels, 64, 64);
    for policy in policies() {
        let geometry = [policy.geometry(image, KEY).expect("good")];
        let (mut first, mut second) = (vec![1f32; 24 * 24], vec![-7f32; 24 * 24]);
        batcher.fill(&[image], &geometry, &mut first).expect("fits");
        batcher.fill(&[image], &geometry, &mut second).expect("fits");
        assert!(first == second);
    }
}

proptest! {
    #[test]
    fn a_whole_image_at_its_own_size_is_itself(pixels in proptest::collection::vec(any::<u8>(), 81)) {
        let image = grey(&pixels, 9, 9);
        prop_assert_eq!(one::<u8>(1, image, Geometry::whole(image, 9)), pixels.clone());
        prop_assert_eq!(one::<u8>(1, image, Geometry::warp([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], 9)), pixels.clone());
        prop_assert_eq!(one::<u8>(1, image, Geometry::centre(Rect::of_size(image.width, image.height), 9, 0)), pixels);
    }

    #[test]
    fn a_flip_mirrors_the_output(id in any::<u32>(), which in 0usize..4) {
        let policy = Policy::new(PolicyConfig { erasing: None, ..policies()[which].config().clone() }).expect("valid");
        let pixels = noise(40 * 30 * 3);
        let image = rgb(&pixels, 30, 40);
        let geometry = policy.geometry(image, DrawKey { id, ..KEY }).expect("good");
        let plain: Vec<f32> = one(3, image, geometry);
        let mirrored: Vec<f32> = one(3, image, geometry.flipped());
        let row = |y: usize| &plain.as_chunks::<3>().0[y * 24..][..24];
        let expected = (0..24).flat_map(|y| row(y).iter().rev().copied()).flatten();
        prop_assert!(mirrored.into_iter().eq(expected));
        prop_assert!(plain == one::<f32>(3, image, geometry.flipped().flipped()));
    }

    #[test]
    fn grey_and_its_three_channel_copy_are_the_same(id in any::<u32>(), which in 0usize..4) {
        let pixels = noise(40 * 30);
        let copy: Vec<u8> = pixels.iter().flat_map(|&v| [v; 3]).collect();
        let (one_channel, three) = (grey(&pixels, 30, 40), rgb(&copy, 30, 40));
        let geometry = policies()[which].geometry(one_channel, DrawKey { id, ..KEY }).expect("good");
        prop_assert!(one::<f64>(3, one_channel, geometry) == one::<f64>(3, three, geometry));
        // The luma of a grey colour is its level.
        prop_assert!(one::<f64>(1, one_channel, geometry) == one::<f64>(1, three, geometry));
    }

    #[test]
    fn erased_parts_hold_the_border_and_nothing_else_changes(
        left in 0u32..24, top in 0u32..24, width in 1u32..24, height in 1u32..24,
    ) {
        let (width, height) = (width.min(24 - left), height.min(24 - top));
        let pixels = noise(24 * 24);
        let whole = Geometry { border: 77, ..Geometry::whole(grey(&pixels, 24, 24), 24) };
        let out: Vec<u8> = one(1, grey(&pixels, 24, 24), Geometry { erased: [left, top, width, height], ..whole });
        for (i, (&found, &before)) in out.iter().zip(&pixels).enumerate() {
            let (x, y) = (i as u32 % 24, i as u32 / 24);
            let inside = (left..left + width).contains(&x) && (top..top + height).contains(&y);
            prop_assert_eq!(found, if inside { 77 } else { before });
        }
    }
}

/// Planes of a batch of one image, as rows of `P`.
fn planes<T: Value>(normalisation: Normalisation, image: Image<'_>, geometry: Geometry) -> (usize, Vec<T>) {
    let batcher = Batcher::new(3, normalisation).expect("valid").with_planes(Planes::Grey);
    let mut out = vec![T::default(); geometry.area() * batcher.n_planes()];
    batcher.fill(&[image], &[geometry], &mut out).expect("fits");
    (batcher.n_planes(), out)
}

#[test]
fn planes_of_grey_mix_to_the_normalised_channels() {
    let pixels = noise(40 * 30);
    let image = grey(&pixels, 30, 40);
    let alike = Normalisation::new(&[0.4; 3], &[0.2; 3]).expect("valid");
    for (normalisation, expected) in [(Normalisation::imagenet(), 2), (alike, 1), (Normalisation::none(), 1)] {
        let mix: Vec<Vec<f64>> = normalisation.mix(3).and_then(|mix| Ok(mix.to_vec2()?)).expect("three channels");
        for policy in policies() {
            let geometry = policy.geometry(image, KEY).expect("good");
            let (n, planes) = planes::<f64>(normalisation.clone(), image, geometry);
            assert_eq!(n, expected);
            let mut channels = vec![0.0; geometry.area() * 3];
            let batcher = Batcher::new(3, normalisation.clone()).expect("valid");
            batcher.fill(&[image], &[geometry], &mut channels).expect("fits");
            for (channels, planes) in channels.as_chunks::<3>().0.iter().zip(planes.chunks_exact(n)) {
                for (channel, row) in channels.iter().zip(&mix) {
                    let mixed: f64 = row.iter().zip(planes).map(|(factor, plane)| factor * plane).sum();
                    assert!((mixed - channel).abs() < 1e-13, "{mixed} {channel}");
                }
            }
        }
    }
    let levels = planes::<u8>(Normalisation::imagenet(), image, Geometry::whole(image, 30)).1;
    assert!(levels.as_chunks::<2>().0.iter().all(|&[_, one]| one == 255));
}

#[test]
fn colours_are_refused_where_planes_cannot_show_them() {
    let pixels = noise(8 * 8 * 3);
    let (colours, grey) = (rgb(&pixels, 8, 8), grey(&pixels[..64], 8, 8));
    let geometry = [Geometry::whole(grey, 8); 2];
    let batcher = Batcher::new(3, Normalisation::imagenet()).expect("valid").with_planes(Planes::Grey);
    let mut out = vec![9f32; 2 * 64 * 2];
    let error = batcher.fill(&[grey, colours], &geometry, &mut out).expect_err("refused");
    assert_eq!(error.to_string(), "image 1 has colours, which the planes of grey images cannot show");
    assert!(out.iter().all(|&v| v == 9.0));
    // A model of one channel sees the luma, in planes as without.
    let single = Batcher::new(1, Normalisation::none()).expect("valid").with_planes(Planes::Grey);
    assert!(single.fill(&[grey, colours], &geometry, &mut out[..128]).is_ok());
}

#[test]
fn luma_has_the_values_of_pillow() {
    // `Image.new("RGB", (1, 1), colour).convert("L")`, Pillow 13.0.0.
    let colours =
        [([255, 0, 0], 76), ([0, 255, 0], 150), ([0, 0, 255], 29), ([12, 200, 99], 132), ([255, 255, 254], 255)];
    for (colour, expected) in colours {
        assert_eq!(luma(colour), expected, "{colour:?}");
    }
}

#[test]
fn colour_changes_come_before_normalisation() {
    let image = grey(&[0, 100, 200, 255], 2, 2);
    let geometry = Geometry { gain: 1.5, bias: -30.0, ..Geometry::whole(image, 2) };
    let normalisation = Normalisation::new(&[0.5], &[0.25]).expect("valid");
    let mut out = [0f64; 4];
    Batcher::new(1, normalisation).expect("valid").fill(&[image], &[geometry], &mut out).expect("fits");
    for (found, level) in out.into_iter().zip([0.0, 120.0, 255.0, 255.0]) {
        assert!((found - (level / 255.0 - 0.5) / 0.25).abs() < 1e-12, "{found} {level}");
    }
}

#[test]
fn what_does_not_fit_is_named_and_nothing_written() {
    let pixels = noise(64);
    let image = grey(&pixels, 8, 8);
    let geometry = Geometry::whole(image, 4);
    let refused = |images: &[Image<'_>], geometry: &[Geometry], len: usize, expected: &str| {
        let mut out = vec![9f32; len];
        let error = batcher(1).fill(images, geometry, &mut out).expect_err("refused");
        assert_eq!(error.to_string(), expected);
        assert!(out.iter().all(|&v| v == 9.0));
    };
    refused(&[image], &[], 16, "`geometry` has 0 elements, expected 1");
    refused(&[image], &[geometry], 15, "`out` has 15 elements, expected 16");
    let other = Geometry::whole(image, 5);
    refused(&[image; 2], &[geometry, other], 32, "geometry 1 is for 5 px, the first one for 4 px");
    let small = grey(&pixels[..49], 7, 7);
    let reason = "its source is empty or does not lie in the image";
    refused(&[small], &[geometry], 16, &format!("geometry 0 does not fit its 7 x 7 image: {reason}"));
    let short = grey(&pixels[..63], 8, 8);
    refused(&[image, short], &[geometry; 2], 32, "image 1 has 63 bytes, expected 8 x 8 x 1, none of them 0");
    let alpha = Image { pixels: &pixels, height: 4, width: 4, channels: 4 };
    refused(&[alpha], &[geometry], 16, "image 0 has 4 channels, expected 1 (grey) or 3 (RGB)");
    assert!(batcher(1).fill::<f32>(&[], &[], &mut []).is_ok());
}

#[test]
fn channels_and_normalisation_must_agree() {
    let text = |channels, normalisation| Batcher::new(channels, normalisation).expect_err("refused").to_string();
    assert_eq!(text(2, Normalisation::none()), "`channels` is 2, expected 1 or 3");
    assert_eq!(
        text(1, Normalisation::imagenet()),
        "normalisation has 3 means and 3 standard deviations, expected one of each, or one for each of 1 channels"
    );
}
