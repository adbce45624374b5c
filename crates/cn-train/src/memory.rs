//! How much memory a training needs, known before its first step, and whether the machine has it.

use crate::args;
use crate::config::{BatchFit, Config, OnNan, gpu_of};
use crate::host;
use crate::model::planes;
use crate::output::Ui;
use crate::problem::Problem;
use anyhow::Result;
use cn_augment::Planes;
use cn_data::Dataset;
use cn_ops::{ActivationBytes, Model as _, Network, PreparedWeights, Recompute};
use cn_zoo::Arch;
use std::fmt;

/// Sides up to this are measured as they are; beyond, activations grow with the area.
pub(crate) const MEASURED_SIDE: u32 = 128;
/// Values, gradients, and Adam's two moments.
const COPIES_TRAINED: u64 = 4;
/// The average of the weights, in memory and in a checkpoint.
const COPIES_AVERAGED: u64 = 1;
/// What a checkpoint copies of them; the next one waits for it to be on the disk.
const COPIES_SAVED: u64 = 3;
/// Images as floats: of a batch that trains, one that waits, and one in the making.
const BATCHES: u64 = 3;
/// What blocks of memory hold beyond the activations that are asked of them, in percent: measured.
const SLACK: usize = 15;
/// The program itself, its threads, and tables.
const PROGRAM: u64 = 40 << 20;

/// What becomes of a training that needs more memory than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// It is refused, with what would fit.
    Refused,
    /// It goes on.
    Warned,
}

/// How a training may deal with memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    pub(crate) recompute: args::Recompute,
    pub(crate) shortage: Shortage,
}

impl Demand {
    /// What nobody chose.
    pub(crate) fn usual(shortage: Shortage) -> Self {
        Self { recompute: args::Recompute::Auto, shortage }
    }
}

/// Bytes that a training needs at its peak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Estimate {
    batch_size: u64,
    /// Activations, their gradients and the images as floats, of each image of a batch.
    each: u64,
    /// Weights, gradients, moments, a checkpoint.
    model: u64,
    /// Weights in the orders that convolutions want in evaluation.
    prepared: PreparedWeights,
    /// Side of an image.
    side: usize,
    /// The decoded images.
    images: u64,
    /// Activations of each image of the last batch of a validation, which is smaller and has memory of its own.
    judged: u64,
    n_val: u64,
    recompute: Recompute,
}

impl Estimate {
    /// What the network needs if it does so with its activations, which it does from now on.
    fn new(recompute: Recompute, config: &Config, dataset: &Dataset, network: &mut Network) -> Result<Self> {
        network.set_recompute(recompute);
        let size = config.image_size.min(MEASURED_SIDE) as usize;
        let ActivationBytes { train, eval } = network.activation_bytes([size, size, config.channels])?;
        let train = train + train * SLACK / 100;
        // On a GPU they are in its own memory.
        let on_host = gpu_of(&config.device).is_none();
        let [train, eval] =
            [train, eval].map(|bytes| if on_host { scaled(bytes as u64, config.image_size) } else { 0 });
        let n_planes = match planes(dataset.pixels()) {
            Planes::Grey => config.channels.min(2),
            _ => config.channels,
        };
        let floats = 4 * u64::from(config.image_size).pow(2) * n_planes as u64;
        let weights = 4 * network.parameters().values().elem_count() as u64;
        let n_val = dataset.split().val().len();
        let prepared = match on_host {
            true => network.prepared_weights([size, size, config.channels])?,
            false => PreparedWeights::default(),
        };
        // With rollbacks also the start.
        let n_checkpoints = if config.on_nan == OnNan::Rollback { 2 } else { 1 };
        // With a GPU, one waits for the disk.
        let n_checkpoints = n_checkpoints + u64::from(!on_host);
        let averaged = if config.ema.is_some() { COPIES_AVERAGED } else { 0 };
        let copies = COPIES_TRAINED + averaged + n_checkpoints * (COPIES_SAVED + averaged);
        Ok(Self {
            batch_size: config.batch_size as u64,
            each: train.max(eval) + BATCHES * floats,
            model: weights * copies,
            prepared,
            side: config.image_size as usize,
            images: dataset.pixels().bytes().len() as u64,
            judged: eval,
            n_val: n_val as u64,
            recompute,
        })
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> u64 {
        self.batches() + self.model() + self.images + PROGRAM
    }

    fn batches(&self) -> u64 {
        self.batch_size * self.each + self.judged * (self.n_val % self.batch_size)
    }

    fn model(&self) -> u64 {
        let whole = self.batch_size.min(self.n_val);
        let batches = [whole, self.n_val % self.batch_size].map(|n| n as usize);
        // The last batch is another only where something is left for it.
        let batches = if batches[1] == 0 { &batches[..1] } else { &batches[..] };
        self.model + self.prepared.bytes(self.side, batches) as u64
    }

    /// What people see, in MiB: batches, model, images, program.
    fn parts(&self) -> [u64; 4] {
        [self.batches(), self.model(), self.images, PROGRAM].map(mib)
    }

    /// The sum of the parts, so that it is what people get who add them.
    fn mib(&self) -> u64 {
        self.parts().iter().sum()
    }

    fn with_batch_size(&self, batch_size: u64) -> Self {
        Self { batch_size, ..self.clone() }
    }

    /// The largest power of two below this batch size that needs no more than `bytes`.
    fn fitting(&self, bytes: u64) -> Option<u64> {
        let halves = std::iter::successors(Some(prev_power_of_two(self.batch_size - 1)), |size| Some(size / 2));
        let mut sizes = halves.take_while(|&size| size >= 2 && size < self.batch_size);
        sizes.find(|&size| self.with_batch_size(size).bytes() <= bytes)
    }
}

/// `N MiB at the peak: ..`
impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let twice = if self.recompute == Recompute::Always { ", computed twice" } else { "" };
        let [batches, model, images, program] = self.parts();
        write!(
            f,
            "about {} MiB at the peak: {batches} for batches of {}{twice}, {model} for the model and its checkpoints, \
             {images} for images, {program} for the program",
            self.mib(),
            self.batch_size,
        )
    }
}

/// Refuses weights that the machine has no memory for, before they are made: a network can be asked what it needs once it
/// is there.
pub(crate) fn check_weights(config: &Config, n_classes: usize, demand: Demand) -> Result<()> {
    let arch = config.arch.parse::<Arch>()?;
    let weights = arch.body_parameters() + arch.features() * n_classes;
    let need = 4 * weights as u64 * COPIES_TRAINED + PROGRAM;
    let available = host::available_memory().map(|bytes| bytes + host::rss());
    match available.filter(|bytes| *bytes < need && demand.shortage == Shortage::Refused) {
        None => Ok(()),
        Some(available) => Err(Problem::failure(format!(
            "training needs more memory than the {} MiB that there are: {} for the weights of a {} of {n_classes} classes",
            mib(available),
            mib(need - PROGRAM),
            arch.name()
        ))
        .hint("use a smaller `--arch`, a table of fewer labels, or another machine; `--ignore-memory` begins anyway")
        .into()),
    }
}

/// Estimates what the settings need. Where the machine has less, activations are computed twice if that is left open, then
/// the batch is made smaller if its size is; the rest is refused.
pub(crate) fn settle(
    ui: Ui,
    config: &mut Config,
    dataset: &Dataset,
    network: &mut Network,
    demand: Demand,
) -> Result<Estimate> {
    let n_train = dataset.split().train().len();
    let size = config.batch_size_of(n_train);
    if size < config.batch_size && config.batch_fit == BatchFit::Images {
        ui.say(format_args!("batch     the {n_train} training images, in place of {}", config.batch_size));
    }
    config.batch_size = size;
    // What this process has already is part of the estimate.
    let available = host::available_memory().map(|bytes| bytes + host::rss());
    let is_short = |estimate: &Estimate| available.is_some_and(|bytes| bytes < estimate.bytes());
    let wanted = match demand.recompute {
        args::Recompute::Always => Recompute::Always,
        args::Recompute::Auto | args::Recompute::Never => Recompute::Never,
    };
    let mut estimate = Estimate::new(wanted, config, dataset, network)?;
    // On a GPU it is another memory that would be saved.
    if is_short(&estimate) && demand.recompute == args::Recompute::Auto && gpu_of(&config.device).is_none() {
        let kept = estimate;
        estimate = Estimate::new(Recompute::Always, config, dataset, network)?;
        if !is_short(&estimate) {
            let saved = mib(kept.bytes() - estimate.bytes());
            ui.say(format_args!("memory    activations are computed twice, which saves {saved} MiB and costs time"));
        }
    }
    tell(ui, &estimate, available);
    let Some(available) = available.filter(|_| is_short(&estimate)) else { return Ok(estimate) };
    let fitting = estimate.fitting(available);
    if let (BatchFit::Memory, Some(size)) = (config.batch_fit, fitting) {
        ui.say(format_args!(
            "memory    batches of {size} in place of {}: {} MiB are free",
            config.batch_size,
            mib(available)
        ));
        config.batch_size = size as usize;
        return Estimate::new(estimate.recompute, config, dataset, network);
    }
    let need = format!("training needs more memory than the {} MiB that there are: {estimate}", mib(available));
    if demand.shortage == Shortage::Warned {
        ui.warn(need);
        return Ok(estimate);
    }
    Err(Problem::failure(need).hint(advice(&estimate, fitting)).into())
}

fn advice(estimate: &Estimate, fitting: Option<u64>) -> String {
    let smaller = match fitting {
        Some(size) => format!("`--batch-size {size}` fits"),
        None => {
            let least = estimate.with_batch_size(2).mib();
            format!(
                "batches of 2 need {least} MiB: use a smaller `--image-size`, fewer images (`--limit`) or another machine"
            )
        }
    };
    format!("{smaller}; `--ignore-memory` begins anyway")
}

fn tell(ui: Ui, estimate: &Estimate, available: Option<u64>) {
    let [batches, model, images, program] = estimate.parts();
    ui.json(&serde_json::json!({
        "event": "memory", "estimate_mib": estimate.mib(), "available_mib": available.map(mib),
        "batch_size": estimate.batch_size, "batches_mib": batches, "model_mib": model, "images_mib": images,
        "program_mib": program,
        "recompute": estimate.recompute == Recompute::Always,
    }));
}

/// What was measured at [`MEASURED_SIDE`], at a larger side.
pub(crate) fn scaled(bytes: u64, side: u32) -> u64 {
    let [side, measured] = [side, side.min(MEASURED_SIDE)].map(|side| u128::from(side).pow(2));
    (u128::from(bytes) * side / measured) as u64
}

/// The largest power of two that is at most `n`, at least 1.
fn prev_power_of_two(n: u64) -> u64 {
    1 << n.max(1).ilog2()
}

pub(crate) fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_largest_power_of_two_that_fits_is_found() {
        let estimate = Estimate {
            batch_size: 96,
            each: MIB,
            model: 10 * MIB,
            prepared: PreparedWeights::default(),
            side: 64,
            images: MIB,
            judged: 0,
            n_val: 0,
            recompute: Recompute::Never,
        };
        let fixed = 11 * MIB + PROGRAM;
        let fitting = |free: u64| estimate.fitting(fixed + free * MIB);
        assert_eq!(
            [96, 95, 64, 63, 3, 2, 1, 0].map(fitting),
            [64, 64, 64, 32, 2, 2, 0, 0].map(|n| (n > 0).then_some(n))
        );
        assert_eq!(estimate.fitting(0), None);
        assert_eq!(estimate.with_batch_size(64).fitting(fixed + 64 * MIB), Some(32), "the refused one is none");
    }

    #[test]
    fn what_is_advised_fits_with_the_last_batch_of_a_validation() {
        let estimate = Estimate {
            batch_size: 64,
            each: 3 * MIB,
            model: MIB,
            prepared: PreparedWeights::default(),
            side: 64,
            images: 0,
            judged: MIB,
            n_val: 31,
            recompute: Recompute::Never,
        };
        for free in 0..400 {
            let bytes = PROGRAM + MIB + free * MIB;
            let Some(size) = estimate.fitting(bytes) else { continue };
            assert!(size < 64 && estimate.with_batch_size(size).bytes() <= bytes, "{free} MiB: {size}");
        }
        // 32 x 3 and 31 x 1.
        assert_eq!([126, 127].map(|free| estimate.fitting(PROGRAM + MIB + free * MIB)), [Some(16), Some(32)]);
    }

    #[test]
    fn activations_grow_with_the_area() {
        assert_eq!([64, 128, 256, 192].map(|side| scaled(1000, side)), [1000, 1000, 4000, 2250]);
    }
}
