//! Everything that a run needs to go on at the very step, in one file.

use crate::weights::is_finite;
use crate::{EpochRecord, Error, Phase, Position, Result, SmoothLoss, Weights};
use candle_core::Tensor;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::{Value, value::RawValue};
use std::collections::BTreeMap;
use std::path::Path;

mod file;
mod folder;
mod save;
mod source;
mod writer;

pub use folder::{CheckpointFolder, NewestCheckpoint};
pub use save::SaveCheckpoints;

/// Version of the file's format; a file of another one is refused.
const FORMAT: u32 = 1;

/// The state of a [`crate::Learner`] between two steps; cheap to clone.
///
/// As a file it is a safetensors file: the model's tensors as `model.<name>`, their averages, if there are any, as
/// `ema.<name>`, Adam's moments as `adam.m` and `adam.v`, the rest as JSON in the metadata under `cn-learn`, and as its
/// last tensor, `sha256`, the digest of all bytes before.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub(crate) weights: Weights,
    pub(crate) average: Option<Weights>,
    pub(crate) adam: [Tensor; 2],
    pub(crate) record: Record,
}

/// What a checkpoint holds beside tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) format: u32,
    pub(crate) seed: u64,
    pub(crate) n_train: usize,
    pub(crate) batch_size: usize,
    pub(crate) plan: Vec<Phase>,
    pub(crate) position: Position,
    pub(crate) frozen_groups: usize,
    pub(crate) momentum: f64,
    #[serde(default = "one")]
    pub(crate) lr_scale: f64,
    /// Steps left out in a row, the last ones.
    #[serde(default)]
    pub(crate) skipped: u32,
    /// Steps of this phase that were left out.
    #[serde(default)]
    pub(crate) left_out: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ema: Option<EmaState>,
    pub(crate) adam_steps: Vec<u32>,
    pub(crate) train_loss: SmoothLoss,
    pub(crate) history: Vec<EpochRecord>,
    /// Text, which each parses itself: a tree of values would take a hundred times the memory.
    pub(crate) handlers: BTreeMap<String, Box<RawValue>>,
    #[serde(deserialize_with = "small")]
    pub(crate) extra: Value,
}

/// Bytes of what a program carries along, at most.
const MAX_EXTRA: usize = 256 << 10;

fn small<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Value, D::Error> {
    let text = Box::<RawValue>::deserialize(from)?;
    if text.get().len() > MAX_EXTRA {
        return Err(D::Error::custom(format_args!("`extra` has more than {MAX_EXTRA} bytes")));
    }
    serde_json::from_str(text.get()).map_err(D::Error::custom)
}

/// The decay of an average of the weights, and the steps that are part of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EmaState {
    pub(crate) decay: f64,
    pub(crate) updates: u64,
}

fn one() -> f64 {
    1.0
}

impl Record {
    pub(crate) const FORMAT: u32 = FORMAT;
}

impl Checkpoint {
    /// The key of a checkpoint in the metadata of its safetensors file, which no file of weights has.
    pub const KEY: &str = file::RECORD;

    /// Where the run was.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.record.position
    }

    /// Whether it is of the end of an epoch.
    #[must_use]
    pub fn is_whole_epoch(&self) -> bool {
        self.position().is_whole_epoch()
    }

    /// The phases of the fit that was under way.
    #[must_use]
    pub fn phases(&self) -> &[Phase] {
        &self.record.plan
    }

    /// The seed of the run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.record.seed
    }

    /// Images of a batch.
    #[must_use]
    pub fn batch_size(&self) -> usize {
        self.record.batch_size
    }

    /// The decay of the average of the weights, where the run keeps one.
    #[must_use]
    pub fn ema(&self) -> Option<f64> {
        self.record.ema.map(|ema| ema.decay)
    }

    /// The epochs so far.
    #[must_use]
    pub fn history(&self) -> &[EpochRecord] {
        &self.record.history
    }

    /// The model's tensors.
    #[must_use]
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Averages of the model's tensors over the steps, where a learner keeps them and has taken one.
    #[must_use]
    pub fn average(&self) -> Option<&Weights> {
        self.average.as_ref()
    }

    /// What the rates of all schedules were multiplied with.
    #[must_use]
    pub fn lr_scale(&self) -> f64 {
        self.record.lr_scale
    }

    /// Whether the fit was done.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.record.position.phase >= self.record.plan.len()
    }

    /// What [`Checkpoint::with_extra`] put in, else `null`.
    #[must_use]
    pub fn extra(&self) -> &Value {
        &self.record.extra
    }

    /// The name of the first tensor that holds NaN or an infinity, which no step that was taken leaves behind.
    pub(crate) fn not_finite(&self) -> Result<Option<&str>> {
        for weights in [Some(&self.weights), self.average.as_ref()].into_iter().flatten() {
            if let Some(name) = weights.not_finite()? {
                return Ok(Some(name));
            }
        }
        for (name, moments) in file::ADAM.into_iter().zip(&self.adam) {
            if !is_finite(moments)? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Carries along what a program wants to find again, such as hashes of its data and config.
    #[must_use]
    pub fn with_extra(mut self, extra: Value) -> Self {
        self.record.extra = extra;
        self
    }

    /// Writes the file: beside `path` first, then renamed, everything synchronised with the disk, so that at any moment
    /// `path` is the old file or the new one. May run on any thread.
    ///
    /// # Errors
    ///
    /// [`Error::CheckpointFile`]; an old file is intact then, and nothing else is left behind.
    pub fn write(&self, path: &Path) -> Result<()> {
        file::write(self, path, None)
    }

    /// Reads a file, and checks all of it.
    ///
    /// # Errors
    ///
    /// [`Error::CheckpointFile`] if it cannot be read, [`Error::CheckpointDamaged`] if a byte is not as it was written,
    /// [`Error::CheckpointFormat`] if another version wrote it.
    pub fn read(path: &Path) -> Result<Self> {
        source::read(path)
    }
}

/// Refuses what differs.
pub(crate) fn expect<T: PartialEq + std::fmt::Debug>(what: &'static str, expected: &T, found: &T) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::CheckpointMismatch { what, found: format!("{found:?}"), expected: format!("{expected:?}") })
}

#[cfg(test)]
mod tests;
