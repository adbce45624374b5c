use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::json;
use crate::error::Result;

/// The schema of [`Manifest`] that this version writes.
pub const MANIFEST_SCHEMA: u32 = 1;

/// `manifest.json`: what a run was made of, by hash (SHA-256, in hex).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_SCHEMA`].
    pub schema: u32,
    /// When it began, in UTC, such as `2026-01-31T12:00:00Z`.
    pub started: String,
    /// The command line, word by word.
    pub command: Vec<String>,
    /// The images and their split.
    pub data: DataHashes,
    /// The weights before the first step.
    pub weights: WeightsHash,
    /// The file that they came from, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_from: Option<WeightsOrigin>,
    /// Of `config.toml`, as the run began.
    pub config_sha256: String,
    /// Versions of the programs.
    pub versions: Versions,
    /// The instruction set of the kernels, such as `avx2`.
    pub isa: String,
    /// Version of the table that says which kernel computes what; 0 where a run did not note it.
    #[serde(default)]
    pub kernel_plan: u32,
    /// Threads of the computation, which do not change it.
    pub threads: usize,
    /// What was different when the run went on nevertheless, a line each: its folder alone no longer repeats it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forced: Vec<String>,
    /// What it ran on.
    pub machine: Machine,
}

/// The images of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataHashes {
    /// What the data set is called.
    pub name: String,
    /// Images, of training and validation together.
    pub n_images: usize,
    /// Of the bytes of all images.
    pub content_sha256: String,
    /// Of names, labels and groups.
    pub index_sha256: String,
    /// Of who trains and who judges.
    pub split_sha256: String,
}

impl DataHashes {
    /// What makes a number about these images say something else than the same number about `other`.
    #[must_use]
    pub fn change(&self, other: &Self) -> Option<DataChange> {
        let images = |data: &Self| [data.content_sha256.clone(), data.split_sha256.clone()];
        match (images(self) == images(other), self.index_sha256 == other.index_sha256) {
            (true, true) => None,
            (true, false) => Some(DataChange::Labels),
            (false, _) => Some(DataChange::Images),
        }
    }
}

/// How the data of two runs differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataChange {
    /// Other images judge.
    Images,
    /// The same ones do, by the labels of another table.
    Labels,
}

/// Weights, by name and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsHash {
    /// `none`, `imagenet`, `glyphs`, or the path of a file.
    pub name: String,
    /// Of the tensors.
    pub sha256: String,
}

/// Where a file of weights came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsOrigin {
    /// The file.
    pub path: PathBuf,
    /// Its repository, where it lies in the hub's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// The commit of `repo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

/// Versions of the programs that made a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Of `cn-train`.
    #[serde(rename = "cn-train")]
    pub cn_train: String,
}

/// What a run was computed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Operating system, such as `linux`.
    pub os: String,
    /// Architecture, such as `x86_64`.
    pub arch: String,
    /// What the processor calls itself, where the system tells.
    pub cpu: Option<String>,
    /// Threads that can run at once.
    pub cores: usize,
}

impl Manifest {
    /// Reads `manifest.json`.
    ///
    /// # Errors
    ///
    /// If there is no such file, if it is damaged (the error names line and column), or newer than this program.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        json::read(path.as_ref(), MANIFEST_SCHEMA)
    }

    /// Writes `manifest.json`, atomically.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        json::write(path.as_ref(), self)
    }

    /// What stands in the way of going on with the run of this manifest as the one of `now`, a line each.
    #[must_use]
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let plans = [self, now].map(|manifest| manifest.kernel_plan.to_string());
        let pairs = [
            ("data", &self.data.content_sha256, &now.data.content_sha256),
            ("labels", &self.data.index_sha256, &now.data.index_sha256),
            ("split", &self.data.split_sha256, &now.data.split_sha256),
            ("initial weights", &self.weights.sha256, &now.weights.sha256),
            ("instruction set", &self.isa, &now.isa),
            ("kernel plan", &plans[0], &plans[1]),
        ];
        let line = |(what, old, new)| format!("{what}: {old}, now {new}");
        pairs.into_iter().filter(|(_, old, new)| old != new).map(line).collect()
    }
}
