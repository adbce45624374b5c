//! What each layer takes of a training step.

use super::{Job, ours};
use anyhow::Result;
use cn_ops::{LayerTime, Model, Network, Timings};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What kind of work a layer is, by its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Convolution,
    Norm,
    Linear,
    Other,
}

/// A weight of the network, `(O, I, Kh, Kw)` for a convolution.
type Weights = BTreeMap<String, Vec<usize>>;

/// Times of all layers over `steps` training steps, with the rates of the convolutions, and the share of each kind.
pub(super) fn table(job: Job, steps: usize) -> Result<String> {
    let mut ours = ours::network(job)?;
    let weights = weights(&mut ours.network)?;
    (0..super::WARM_UP).try_for_each(|_| ours.train_step(None).map(drop))?;
    let mut timings = Timings::default();
    let (start, mut rest) = (Instant::now(), [Duration::ZERO; 2]);
    for _ in 0..steps {
        let [loss, adam] = ours.train_step(Some(&mut timings))?;
        rest = [rest[0] + loss, rest[1] + adam];
    }
    let step = start.elapsed() / u32::try_from(steps)?;
    let per_step = |time: Duration| time.as_secs_f64() * 1e3 / steps as f64;
    let mut text = format!(
        "{:<26} {:>18} {:>9} {:>9} {:>8} {:>8} {:>7} {:>7}\n",
        "layer", "output", "ms there", "ms back", "GFLOP/s", "GFLOP/s", "MB", "GB/s"
    );
    let mut kinds: BTreeMap<Kind, f64> = BTreeMap::new();
    for layer in timings.layers() {
        let (there, back) = (per_step(layer.forward), per_step(layer.backward));
        *kinds.entry(kind(&weights, layer)).or_default() += there + back;
        // Containers take no time of their own.
        if there + back > 0.005 {
            text += &row(job, &weights, layer, [there, back]);
        }
    }
    let step = step.as_secs_f64() * 1e3;
    let shares = [
        ("convolutions", kinds.get(&Kind::Convolution)),
        ("norms, with sum and ReLU", kinds.get(&Kind::Norm)),
        ("linear", kinds.get(&Kind::Linear)),
        ("pools", kinds.get(&Kind::Other)),
        ("loss", Some(&per_step(rest[0]))),
        ("Adam", Some(&per_step(rest[1]))),
    ];
    let known: f64 = shares.iter().filter_map(|(_, ms)| *ms).sum();
    text += &format!("\n{:<26} {:>9} {:>8}\n", "of a step", "ms", "share");
    for (name, ms) in shares.into_iter().chain([("rest", Some(&(step - known)))]) {
        let ms = ms.copied().unwrap_or_default();
        text += &format!("{name:<26} {ms:>9.2} {:>7.1} %\n", 100.0 * ms / step);
    }
    Ok(text + &format!("{:<26} {step:>9.2}\n", "step"))
}

fn weights(network: &mut Network) -> Result<Weights> {
    let tensors = network.named_tensors()?.into_iter();
    let weight = |(name, tensor): (String, candle_core::Tensor)| {
        name.strip_suffix(".weight").map(|layer| (layer.to_owned(), tensor.dims().to_vec()))
    };
    Ok(tensors.filter_map(weight).collect())
}

/// A block is the norm that adds its two branches.
fn kind(weights: &Weights, layer: &LayerTime) -> Kind {
    let inside = format!("{}.", layer.name);
    match weights.get(&layer.name).map(Vec::len) {
        Some(4) => Kind::Convolution,
        Some(2) => Kind::Linear,
        Some(_) => Kind::Norm,
        None if weights.keys().any(|name| name.starts_with(&inside)) => Kind::Norm,
        None => Kind::Other,
    }
}

fn row(job: Job, weights: &Weights, layer: &LayerTime, [there, back]: [f64; 2]) -> String {
    let name = if layer.name.is_empty() { "(whole)" } else { &layer.name };
    let output = layer.output.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
    let mut text = format!("{name:<26} {output:>18} {there:>9.3} {back:>9.3}");
    let weight = weights.get(&layer.name).map(Vec::as_slice);
    if let (Some(&[o, i, kh, kw]), &[_, h, w, _], &[b, ho, wo, _]) = (weight, &layer.input[..], &layer.output[..]) {
        let products = (b * ho * wo * o * i * kh * kw) as f64;
        // The image has no gradient, and neither have weights that are fixed.
        let passes = f64::from(u8::from(i > 3) + u8::from(!job.frozen));
        let rate = |passes: f64, ms: f64| 2.0 * passes * products / ms / 1e6;
        let numbers = b * (ho * wo * o + h * w * i) + o * i * kh * kw;
        let megabytes = numbers as f64 * 4.0 / 1e6;
        text += &format!(
            " {:>8.0} {:>8.0} {megabytes:>7.1} {:>7.1}",
            rate(1.0, there),
            rate(passes, back),
            megabytes / there
        );
    }
    text + "\n"
}
