use std::path::Path;

use serde::{Deserialize, Serialize};

use super::json::{self, nan_as_null};
use super::{atomic::write_atomic, read_bytes};
use crate::error::Result;

/// Some of a run's optimizer steps: a line of `steps.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Optimizer steps done since the start of the run.
    pub step: u64,
    /// Learning rate of the last parameter group, the head.
    pub lr: f64,
    /// Momentum of the optimizer.
    pub momentum: f64,
    /// Smoothed training loss; not finite is written as `null` and read as NaN.
    #[serde(with = "nan_as_null")]
    pub train_loss: f64,
}

impl StepRecord {
    /// Reads `steps.jsonl`; no file holds no steps, since older runs have none.
    ///
    /// # Errors
    ///
    /// If a line is damaged; the error names line and column.
    pub fn read_all(path: impl AsRef<Path>) -> Result<Vec<Self>> {
        let path = path.as_ref();
        if !path.exists() {
            return Ok(Vec::new());
        }
        let bytes = read_bytes(path)?;
        let lines = bytes.split(|&byte| byte == b'\n').zip(1..);
        let lines = lines.filter(|(line, _)| !line.trim_ascii().is_empty());
        lines.map(|(line, number)| json::parse(line, path, number)).collect()
    }

    /// Writes `steps.jsonl` anew, atomically.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write_all(records: &[Self], path: impl AsRef<Path>) -> Result<()> {
        let line = |record| serde_json::to_string(record).expect("a record has string keys") + "\n";
        write_atomic(path, records.iter().map(line).collect::<String>().as_bytes())
    }
}
