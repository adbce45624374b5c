//! Pixels and ink of the real data, against what Pillow and fastai give.

use crate::run::RealData;
use cn_augment::{DrawKey, Image, Policy, ink_kept};
use cn_data::{Cache, Index, LoadConfig, Pixels, Split, SplitConfig};
use serde_json::Value;
use std::path::Path;

/// Draws of the training framing for each image.
const EPOCHS: u32 = 4;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/dataset_stats.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("a golden file")).expect("JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// Pixels and the notebook's split.
fn load(data: &RealData) -> (Pixels, Split) {
    let index = Index::open(Path::new(data.folder())).expect("recognised");
    let split = Split::new(&index, &SplitConfig::default()).expect("valid");
    let config = LoadConfig { cache: Cache::Off, ..LoadConfig::default() };
    (Pixels::load(&index, &config).expect("readable").pixels, split)
}

/// Mean and deviation in units of 255.
fn moments(pixels: &Pixels, ids: &[u32]) -> [f64; 2] {
    let mut counts = [0u64; 256];
    ids.iter().flat_map(|&id| pixels.image(id).pixels).for_each(|&v| counts[usize::from(v)] += 1);
    let n = counts.iter().sum::<u64>() as f64;
    let mean_of = |f: &dyn Fn(f64) -> f64| (0..256).map(|v| f(v as f64 / 255.0) * counts[v] as f64).sum::<f64>() / n;
    let mean = mean_of(&|v| v);
    [mean, mean_of(&|v| (v - mean) * (v - mean)).sqrt()]
}

/// The share of ink of each image that `policy` keeps, one draw an image and epoch.
fn kept(pixels: &Pixels, policy: &Policy, epochs: u32, threshold: u8) -> Vec<f64> {
    let of = |epoch, id: u32| {
        let cn_data::ImageView { pixels, height, width, channels } = pixels.image(id);
        let image = Image { pixels, height, width, channels };
        let geometry = policy.geometry(image, DrawKey { seed: 42, epoch, id }).expect("an image");
        ink_kept(image, &geometry, threshold)
    };
    (0..epochs).flat_map(|epoch| (0..pixels.len() as u32).map(move |id| (epoch, id))).map(|(e, id)| of(e, id)).collect()
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n
}

fn share_below(kept: &[f64], limit: f64) -> f64 {
    mean(kept.iter().map(|&share| f64::from(u8::from(share < limit))))
}

#[test]
fn the_real_scans_have_pillows_pixels_and_lose_as_much_ink_as_with_fastai() {
    let Some(data) = RealData::find() else { return };
    let golden = golden();
    let (pixels, split) = load(&data);

    for (key, ids) in [("pixels_train_split", split.train()), ("pixels_valid_split", split.val())] {
        let [mean, deviation] = moments(&pixels, ids);
        // Decoders differ by one level in a thousandth of the pixels.
        let off = [mean - number(&golden[key]["mean"]), deviation - number(&golden[key]["std"])];
        assert!(off.iter().all(|off| off.abs() < 4e-6), "{key}: {mean} and {deviation}, off by {off:?}");
    }

    let ink = &golden["ink"];
    let threshold = ink["threshold"].as_u64().and_then(|t| u8::try_from(t).ok()).expect("a byte");
    let n = pixels.len() as f64;

    // Nothing is random here but the decoder: an image or two near a limit.
    let valid = kept(&pixels, &Policy::fastai_valid(128).expect("valid"), 1, threshold);
    let expected = &ink["validation"];
    for (key, limit) in [("images_below_0_99", 0.99), ("images_below_0_95", 0.95)] {
        let off = (share_below(&valid, limit) - number(&expected[key])) * n;
        assert!(off.abs() < 2.5, "{key}: {off} images too many");
    }
    assert!((mean(valid.iter().copied()) - number(&expected["mean"])).abs() < 1e-5);

    let train = kept(&pixels, &Policy::fastai_train(128, 0.35).expect("valid"), EPOCHS, threshold);
    let expected = &ink["training"];
    // Five standard errors of a share, that of fastai's one draw an image and ours.
    let slack = |variance: f64| 5.0 * (variance / n * (1.0 + 1.0 / f64::from(EPOCHS))).sqrt();
    for (key, limit) in [("draws_below_0_95", 0.95), ("draws_below_0_80", 0.8), ("draws_below_0_50", 0.5)] {
        let (found, expected) = (share_below(&train, limit), number(&expected[key]));
        assert!((found - expected).abs() < slack(expected * (1.0 - expected)), "{key}: {found}, not {expected}");
    }
    let average = mean(train.iter().copied());
    let variance = mean(train.iter().map(|share| (share - average).powi(2)));
    assert!((average - number(&expected["mean"])).abs() < slack(variance), "{average} of the ink is kept");
}
