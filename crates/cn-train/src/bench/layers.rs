//! What each layer takes of a training step.

use super::{Job, ours};
use anyhow::Result;
use cn_ops::{LayerTime, Model, Network, Timings};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
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

/// What a training step is made of.
pub(super) struct Table {
    rows: Vec<Row>,
    /// Milliseconds of each kind of work.
    shares: Vec<(&'static str, f64)>,
    /// Milliseconds of the whole.
    step: f64,
}

/// What one layer takes of a step.
struct Row {
    name: String,
    output: Vec<usize>,
    /// Milliseconds of forward and backward.
    ms: [f64; 2],
    work: Option<Products>,
}

/// What a convolution computes.
struct Products {
    /// Products of direct arithmetic, forward and backward.
    counts: [f64; 2],
    /// Numbers that a forward pass reads and writes at least, in bytes.
    bytes: f64,
}

impl Row {
    /// Billions of operations of direct arithmetic a second, forward and backward.
    fn gflops(&self, work: &Products) -> [f64; 2] {
        [0, 1].map(|i| 2.0 * work.counts[i] / self.ms[i] / 1e6)
    }
}

/// Times of all layers over `steps` training steps, with the rates of the convolutions, and the share of each kind.
pub(super) fn table(job: Job, steps: usize) -> Result<Table> {
    let mut ours = ours::network(job)?;
    let weights = weights(&mut ours.network)?;
    (0..super::WARM_UP).try_for_each(|_| ours.train_step(None).map(drop))?;
    let mut timings = Timings::default();
    let (start, mut rest) = (Instant::now(), [Duration::ZERO; 2]);
    for _ in 0..steps {
        let [loss, adam] = ours.train_step(Some(&mut timings))?;
        rest = [rest[0] + loss, rest[1] + adam];
    }
    let per_step = |time: Duration| time.as_secs_f64() * 1e3 / steps as f64;
    let step = per_step(start.elapsed());
    let mut rows = Vec::new();
    let mut kinds: BTreeMap<Kind, f64> = BTreeMap::new();
    for layer in timings.layers() {
        let ms = [per_step(layer.forward), per_step(layer.backward)];
        *kinds.entry(kind(&weights, layer)).or_default() += ms[0] + ms[1];
        // Containers take no time of their own.
        if ms[0] + ms[1] > 0.005 {
            rows.push(row(job, &weights, layer, ms));
        }
    }
    let of = |kind| kinds.get(&kind).copied().unwrap_or_default();
    let mut shares = vec![
        ("convolutions", of(Kind::Convolution)),
        ("norms, with sum and ReLU", of(Kind::Norm)),
        ("linear", of(Kind::Linear)),
        ("pools", of(Kind::Other)),
        ("loss", per_step(rest[0])),
        ("Adam", per_step(rest[1])),
    ];
    shares.push(("rest", step - shares.iter().map(|(_, ms)| ms).sum::<f64>()));
    Ok(Table { rows, shares, step })
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<26} {:>18} {:>9} {:>9} {:>8} {:>8} {:>7} {:>7}",
            "layer", "output", "ms there", "ms back", "GFLOP/s", "GFLOP/s", "MB", "GB/s"
        )?;
        for row in &self.rows {
            let output = row.output.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
            let [there, back] = row.ms;
            write!(f, "{:<26} {output:>18} {there:>9.3} {back:>9.3}", row.name)?;
            if let Some(work) = &row.work {
                let ([forward, backward], megabytes) = (row.gflops(work), work.bytes / 1e6);
                write!(f, " {forward:>8.0} {backward:>8.0} {megabytes:>7.1} {:>7.1}", megabytes / there)?;
            }
            writeln!(f)?;
        }
        writeln!(f, "\n{:<26} {:>9} {:>8}", "of a step", "ms", "share")?;
        for (name, ms) in &self.shares {
            writeln!(f, "{name:<26} {ms:>9.2} {:>7.1} %", 100.0 * ms / self.step)?;
        }
        writeln!(f, "{:<26} {:>9.2}", "step", self.step)
    }
}

impl Table {
    /// The same for programs: times in milliseconds, rates in GFLOP/s of direct arithmetic.
    pub(super) fn json(&self) -> Map<String, Value> {
        let layer = |row: &Row| {
            let mut layer = Map::new();
            let mut set = |key: &str, value: Value| drop(layer.insert(key.to_owned(), value));
            set("name", row.name.as_str().into());
            set("output", row.output.clone().into());
            set("forward_ms", row.ms[0].into());
            set("backward_ms", row.ms[1].into());
            if let Some(work) = &row.work {
                let [forward, backward] = row.gflops(work);
                set("forward_gflops", forward.into());
                set("backward_gflops", backward.into());
                set("bytes", work.bytes.into());
            }
            Value::Object(layer)
        };
        let shares = self.shares.iter().map(|&(name, ms)| (name.to_owned(), ms.into()));
        [
            ("layers".to_owned(), self.rows.iter().map(layer).collect()),
            ("shares_ms".to_owned(), Value::Object(shares.collect())),
            ("step_ms".to_owned(), self.step.into()),
        ]
        .into_iter()
        .collect()
    }
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

fn row(job: Job, weights: &Weights, layer: &LayerTime, ms: [f64; 2]) -> Row {
    let name = if layer.name.is_empty() { "(whole)" } else { &layer.name };
    let weight = weights.get(&layer.name).map(Vec::as_slice);
    let work = match (weight, &layer.input[..], &layer.output[..]) {
        (Some(&[o, i, kh, kw]), &[_, h, w, _], &[b, ho, wo, _]) => {
            let products = (b * ho * wo * o * i * kh * kw) as f64;
            // The image has no gradient, and neither have weights that are fixed.
            let passes = f64::from(u8::from(i > 3) + u8::from(!job.frozen));
            let numbers = b * (ho * wo * o + h * w * i) + o * i * kh * kw;
            Some(Products { counts: [products, passes * products], bytes: numbers as f64 * 4.0 })
        }
        _ => None,
    };
    Row { name: name.to_owned(), output: layer.output.clone(), ms, work }
}
