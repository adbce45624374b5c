//! What cannot be trained with, found before anything is made.

use super::overlay::{MOST_MARKS, MOST_OF_SETTINGS, marks};
use super::{Config, TF32, gpu_of, interval, phases, policy_of, precision_here};
use crate::problem::Problem;

/// Larger inputs than any image net uses; beyond, memory would run out long before the first step.
pub(crate) const MAX_IMAGE_SIZE: u32 = 2048;
/// Epochs in all: a checkpoint holds a record of each.
pub(crate) const MOST_EPOCHS: usize = 20_000;
/// Images that can be drawn for steps: each has a number of 32 bits, beside those that judge.
const MAX_DRAWN: u128 = 1 << 31;

impl Config {
    /// Refuses what cannot be trained with.
    pub(super) fn check(&self) -> Result<(), Problem> {
        check_device(&self.device)?;
        check_precision(&self.precision, &self.device)?;
        self.arch.parse::<cn_zoo::Arch>().map_err(|e| {
            Problem::usage(format!("there is no architecture `{}`", self.arch))
                .caused_by(e)
                .hint("use `--arch resnet18`")
        })?;
        if !matches!(self.channels, 1 | 3) {
            return Err(Problem::usage(format!("`channels` is {}, expected 1 (grey) or 3 (RGB)", self.channels))
                .hint("set `channels = 1` or `channels = 3`"));
        }
        if !(1..=MAX_IMAGE_SIZE).contains(&self.image_size) {
            return Err(Problem::usage(format!(
                "the image size {} is not between 1 and {MAX_IMAGE_SIZE}",
                self.image_size
            ))
            .hint("the scans have 64 px; `--image-size 64` or 128 are usual"));
        }
        if self.batch_size < 2 {
            return Err(Problem::usage(format!("the batch size is {}, expected at least 2", self.batch_size))
                .hint("batch norm needs several images; 64 is usual"));
        }
        if !(0.0..1.0).contains(&self.threshold) {
            return Err(Problem::usage(format!("the threshold {} is not from 0 up to 1", self.threshold))
                .hint("classes above it are said; 0.5 is usual: `threshold = 0.5`"));
        }
        self.check_split()?;
        phases::check(&self.phase)?;
        if self.phase.iter().fold(0, |n: usize, phase| n.saturating_add(phase.epochs)) > MOST_EPOCHS {
            return Err(Problem::usage(format!("the phases have more than {MOST_EPOCHS} epochs in all"))
                .hint("use fewer: epochs of many images count for more"));
        }
        if let Some(lr) = self.fine_tune_lr.filter(|lr| !(lr.is_finite() && *lr > 0.0)) {
            return Err(Problem::usage(format!("`fine_tune_lr` is {lr}, expected a finite number above 0"))
                .hint("leave it out, and weights that know the classes are trained as others are"));
        }
        self.check_kept()?;
        self.check_ema()?;
        self.train_policy(None)?;
        self.eval_policy()?;
        // What a reader of the model's card will do.
        policy_of(self.transform_card(), self.image_size).map_err(|problem| {
            problem.hint(format!("{} px are too few to cut a margin off: use a larger `--image-size`", self.image_size))
        })?;
        Ok(())
    }

    /// Refuses settings that a run could keep, and not read again.
    pub(crate) fn check_kept(&self) -> Result<(), Problem> {
        let text = self.to_toml()?;
        if text.len() as u64 <= MOST_OF_SETTINGS && marks(&text) <= MOST_MARKS {
            return Ok(());
        }
        let (phases, groups) = (self.phase.len(), self.val_groups.len());
        Err(Problem::usage(format!(
            "the settings are longer than a run can keep: {} bytes, {phases} phases, {groups} groups that judge",
            text.len()
        ))
        .hint(
            "use fewer phases, or fewer and shorter groups: images can be divided into folders `train` and `val` too",
        ))
    }

    fn check_ema(&self) -> Result<(), Problem> {
        let Some(decay) = self.ema else { return Ok(()) };
        if !(decay > 0.0 && decay < 1.0) {
            return Err(Problem::usage(format!("`--ema {decay:?}` is no decay, expected a number between 0 and 1"))
                .hint("leave it out for no average; 0.99 looks back some hundred steps"));
        }
        if gpu_of(&self.device).is_some() {
            return Err(Problem::usage(format!(
                "an average of the weights is kept on the CPU, and the device is `{}`",
                self.device
            ))
            .hint("leave `--ema` out, or use `--device cpu`"));
        }
        Ok(())
    }

    fn check_split(&self) -> Result<(), Problem> {
        if !(self.val_fraction > 0.0 && self.val_fraction < 1.0) {
            return Err(Problem::usage(format!("the validation share {} is not between 0 and 1", self.val_fraction))
                .hint("a fifth of the images is `--val-fraction 0.2`"));
        }
        for (name, value) in [("--limit", self.limit), ("--limit-per-class", self.limit_per_class)] {
            if value == Some(0) {
                return Err(Problem::usage(format!("`{name} 0` leaves no images"))
                    .hint("leave the flag out for all images, or name a number"));
            }
        }
        if self.synthetic.images == 0 || self.synthetic.pages == 0 {
            return Err(Problem::usage("no images are to be drawn").hint("use `--limit 1500` or more"));
        }
        if self.checkpoint_every == Some(0) {
            return Err(Problem::usage("`--checkpoint-every 0` is no interval")
                .hint("leave it out: each epoch ends with a checkpoint; or name a number of steps"));
        }
        if let Some(minutes) = self.checkpoint_minutes.filter(|minutes| interval(*minutes).is_none()) {
            return Err(Problem::usage(format!("`--checkpoint-minutes {minutes:?}` is no interval"))
                .hint("leave it out: each epoch ends with a checkpoint; or name a number of minutes above 0"));
        }
        self.check_stream()?;
        self.split_method().map(drop)
    }

    fn check_stream(&self) -> Result<(), Problem> {
        match self.synthetic.steps {
            Some(_) if !self.data.synthetic || !matches!(self.split.as_str(), "auto" | "group") => {
                Err(Problem::usage("endless handwriting is judged by drawn writers of its own, and nothing else")
                    .hint("leave `--data`, `--split` and `--val-groups` out, or use another recipe"))
            }
            Some(_) if self.limit_per_class.is_some() => {
                Err(Problem::usage("endless handwriting has no images to choose from with `--limit-per-class`")
                    .hint("leave it out, or draw a number of images: `--synthetic` with another recipe"))
            }
            Some(0) => Err(Problem::usage("`--steps 0` trains nothing")),
            Some(steps) if self.drawn_for(steps) > MAX_DRAWN => {
                Err(Problem::usage(format!("{} images would be drawn, more than {MAX_DRAWN}", self.drawn_for(steps)))
                    .hint("use fewer `--steps` or `--epochs`: some thousand steps are usual"))
            }
            _ => Ok(()),
        }
    }

    fn drawn_for(&self, steps: usize) -> u128 {
        [steps, self.batch_size, self.epochs()].into_iter().fold(1, |n, by| n.saturating_mul(by as u128))
    }
}

pub(crate) fn check_device(device: &str) -> Result<(), Problem> {
    match device {
        "auto" | "cpu" => Ok(()),
        _ if gpu_of(device).is_none() => {
            Err(Problem::usage(format!("there is no device `{device}`, expected auto, cpu, cuda or cuda:N"))
                .hint("leave it out, or use `--device cpu`"))
        }
        _ if cn_cuda::Device::is_compiled() => Ok(()),
        _ => Err(Problem::failure(format!("this build cannot compute on `{device}`"))
            .hint(cn_cuda::Error::NotCompiled.hint().unwrap_or_default())),
    }
}

fn check_precision(precision: &str, device: &str) -> Result<(), Problem> {
    if precision == TF32 && gpu_of(device).is_none() {
        return Err(Problem::usage(format!(
            "the precision `{precision}` is one of GPUs, and the device is `{device}`"
        ))
        .hint("use `--device cuda`, or `--precision f32`"));
    }
    precision_here(precision)
        .map(drop)
        .map_err(|e| Problem::usage(e.to_string()).hint("use `--precision f32`, or bf16 for speed"))
}
