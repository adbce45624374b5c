//! What each kind of launch takes of a training step on the GPU.

use super::job::Job;
use super::measure::Setup;
use crate::args::GpuPrecision;
use crate::problem::Problem;
use anyhow::Result;
use cn_cuda::{Device, Timing};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Steps before the clock starts, and steps that are timed.
const WARM_UP: usize = 3;
const STEPS: usize = 9;

/// All launches of one name in a step.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Kind {
    name: String,
    /// Launches a step.
    launches: usize,
    /// Milliseconds a step, the median of several.
    ms: f64,
}

/// A training step on the GPU.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Layers {
    kinds: Vec<Kind>,
    /// Images a second when the step is one launch, without making the batch.
    img_s: f64,
    /// Milliseconds of such a step.
    ms: f64,
}

/// What making a batch adds to a training step in bf16.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Making {
    image_size: usize,
    batch_size: usize,
    /// Milliseconds of making the batch.
    ms: f64,
    /// Milliseconds of the rest of the step, as one launch.
    step_ms: f64,
}

/// Times steps launch by launch, and as a whole.
pub(super) fn time(device: &Device, job: &Job, setup: &Setup) -> Result<Layers> {
    let Setup { image_size, batch_size, .. } = *setup;
    let mut ready = setup.ready(device)?;
    let ids: Vec<u32> = (0..batch_size as u32).collect();
    let batches = job.augmented(device, &ids, image_size)?;
    let mut steps = Vec::new();
    for step in 0..WARM_UP + STEPS {
        let timings = ready.time_step(&batches)?.ok_or_else(|| Problem::failure("this device has no clock"))?;
        if step >= WARM_UP {
            steps.push(by_name(timings));
        }
    }
    let names: Vec<String> = steps.first().map(|step| step.keys().cloned().collect()).unwrap_or_default();
    let mut kinds: Vec<Kind> = names
        .into_iter()
        .map(|name| {
            let mut all: Vec<(usize, f64)> = steps.iter().filter_map(|step| step.get(&name).copied()).collect();
            all.sort_by(|a, b| a.1.total_cmp(&b.1));
            let (launches, ms) = all[all.len() / 2];
            Kind { name, launches, ms }
        })
        .collect();
    kinds.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    let img_s = ready.train_rate(device)?;
    Ok(Layers { kinds, img_s, ms: 1e3 * batch_size as f64 / img_s })
}

/// Times making batches of the common sizes.
pub(super) fn making(device: &Device, job: &Job) -> Result<Vec<Making>> {
    let time_one = |(image_size, batch_size)| {
        let layers = time(device, job, &Setup { precision: GpuPrecision::Bf16, image_size, batch_size })?;
        let ms = layers.kinds.iter().filter(|kind| kind.name.starts_with("augment")).map(|kind| kind.ms).sum();
        Ok(Making { image_size, batch_size, ms, step_ms: layers.ms })
    };
    [(64, 64), (128, 64), (128, 256), (128, 512)].into_iter().map(time_one).collect()
}

/// Launches and milliseconds of each name.
fn by_name(timings: Vec<Timing>) -> BTreeMap<String, (usize, f64)> {
    let mut kinds = BTreeMap::new();
    for Timing { name, ms } in timings {
        let (launches, sum) = kinds.entry(name).or_insert((0, 0.0));
        *launches += 1;
        *sum += ms;
    }
    kinds
}

/// One line each, for people.
pub(super) fn text_of_making(made: &[Making]) -> String {
    let mut text = String::new();
    for Making { image_size, batch_size, ms, step_ms } in made {
        let percent = 100.0 * ms / step_ms;
        let _ = writeln!(
            text,
            "making {batch_size} images of {image_size} px in bf16: {ms:.4} ms, {percent:.1} % of a step of {step_ms:.2} ms"
        );
    }
    text
}

/// The table for people.
pub(super) fn text(layers: &Layers) -> String {
    let Layers { kinds, img_s, ms: whole } = layers;
    let all: f64 = kinds.iter().map(|kind| kind.ms).sum();
    let mut text = String::from("      ms   share  launches  of a training step\n");
    for Kind { name, launches, ms } in kinds {
        let _ = writeln!(text, "{ms:>8.3} {:>6.1}%  {launches:>8}  {name}", 100.0 * ms / all);
    }
    let _ = writeln!(text, "{all:>8.3}  in all, launch by launch");
    let _ = writeln!(text, "{whole:>8.3}  as one launch, without making the batch: {img_s:.0} images/s");
    text
}
