use std::path::Path;

use serde::{Deserialize, Serialize};

use super::json::{self, nan_as_null};
use crate::error::{Error, Result};
use crate::scores::{Answers, Rate};

/// The schema of [`Summary`] that this version writes.
pub const SUMMARY_SCHEMA: u32 = 1;

/// `summary.json`: the result of a run, also the last line of `train --json`.
///
/// The keys and their order are fixed. A number that is not finite is written as `null` and read as NaN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// [`SUMMARY_SCHEMA`].
    pub schema: u32,
    /// The run's folder, as the user named it.
    pub run: String,
    /// Architecture, such as `resnet18`.
    pub arch: String,
    /// Initial weights, such as `none`.
    pub weights: String,
    /// Device, such as `cpu`.
    pub device: String,
    /// Precision, `f32` or `bf16`.
    pub precision: String,
    /// Threads that computed.
    pub threads: usize,
    /// Instruction set of the CPU kernels, such as `avx512`.
    pub isa: String,
    /// What it was trained on.
    pub data: DataSummary,
    /// Name of the recipe.
    pub recipe: String,
    /// Epochs over all phases.
    pub epochs: usize,
    /// Side of the model's input, in pixels.
    pub image_size: usize,
    /// Images a step.
    pub batch_size: usize,
    /// The final weights on the validation part.
    pub val: ValSummary,
    /// Wall clock.
    pub seconds: SecondsSummary,
    /// Training images a second, over the training part of all epochs.
    #[serde(with = "nan_as_null")]
    pub train_img_s: f64,
    /// Images a second in evaluation.
    #[serde(with = "nan_as_null")]
    pub infer_img_s: f64,
    /// Largest resident memory of the process, in MiB.
    pub peak_rss_mib: u64,
    /// SHA-256 over (name, dtype, shape, bytes) of the final weights in name order, in hexadecimal.
    pub weights_sha256: String,
}

/// The data of a run, in [`Summary`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSummary {
    /// Name of the data set.
    pub name: String,
    /// Its content hash, in hexadecimal.
    pub sha256: String,
    /// Whether the images were drawn by a program.
    pub synthetic: bool,
    /// Images trained on.
    pub n_train: usize,
    /// Images in the validation part.
    pub n_val: usize,
    /// Kind of split, such as `random` or `group`.
    pub split: String,
    /// Seed of the split.
    pub seed: u64,
    /// Labels in the order of the model's outputs.
    pub vocab: Vec<String>,
    /// Groups (writers) with images in both parts; `null` where the data name no groups.
    pub groups_shared: Option<usize>,
    /// Images of the validation part that were trained on all the same: as a copy in the training part, or by the weights
    /// that the run began with, as far as that is known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub n_val_seen: usize,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// The numbers of the validation part, in [`Summary`]. [`crate::Answers::val_summary`] makes one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValSummary {
    /// Mean binary cross-entropy.
    #[serde(with = "nan_as_null")]
    pub loss: f64,
    /// Share of the yes/no answers that are right; saying nothing already scores (classes - labels) / classes.
    #[serde(with = "nan_as_null")]
    pub accuracy_multi: f64,
    /// What a probability has to exceed; `null` where every class has its own.
    pub threshold: Option<f32>,
    /// Share of the images whose whole label set is right.
    #[serde(with = "nan_as_null")]
    pub exact_match: f64,
    /// 95 % interval of `exact_match`, see [`crate::Rate::wilson95`].
    pub exact_match_ci95: [f64; 2],
    /// Share of the images whose most probable class is right.
    #[serde(with = "nan_as_null")]
    pub top1: f64,
    /// Images for which no class exceeds the threshold.
    pub refused: usize,
}

/// Wall clock of a run in seconds, in [`Summary`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SecondsSummary {
    /// From process start to the summary.
    #[serde(with = "nan_as_null")]
    pub total: f64,
    /// From process start to the end of the first optimizer update.
    #[serde(with = "nan_as_null")]
    pub to_first_step: f64,
    /// Training, over all epochs.
    #[serde(with = "nan_as_null")]
    pub train: f64,
    /// Validation, over all epochs.
    #[serde(with = "nan_as_null")]
    pub validate: f64,
}

impl Summary {
    /// Reads `summary.json`.
    ///
    /// # Errors
    ///
    /// If there is no such file, if it is damaged (the error names line and column), or newer than this program.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        json::read(path.as_ref(), SUMMARY_SCHEMA)
    }

    /// Writes `summary.json`, atomically.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        json::write(path.as_ref(), self)
    }

    /// The bytes of `summary.json`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        json::bytes(self)
    }

    /// Refuses answers that are not those of this run: another number of images, or other shares of right ones.
    ///
    /// # Errors
    ///
    /// If they differ; `path` is the table that the answers were read from.
    pub fn check(&self, answers: &Answers<'_>, path: impl AsRef<Path>) -> Result<()> {
        let own = [self.val.exact_match, self.val.top1, self.val.accuracy_multi];
        let table = answers.table();
        let found = [answers.exact_match(), table.top1(), answers.accuracy_multi()].map(Rate::share);
        let n = table.rows().len();
        // Shares of nothing are NaN on both sides.
        let is_same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        if n == self.data.n_val && own.iter().zip(&found).all(is_same) {
            return Ok(());
        }
        let text = |n: usize, [exact, top1, multi]: [f64; 3]| {
            format!(
                "{n} images with an exact match of {exact:.4}, a top-1 of {top1:.4} and an accuracy_multi of {multi:.6}"
            )
        };
        Err(Error::OtherPredictions {
            path: path.as_ref().to_owned(),
            found: text(n, found),
            expected: text(self.data.n_val, own),
        })
    }

    /// The summary on one line without a line end, as `train --json` prints it last.
    #[must_use]
    pub fn to_json_line(&self) -> String {
        serde_json::to_string(self).expect("a summary has string keys")
    }
}
