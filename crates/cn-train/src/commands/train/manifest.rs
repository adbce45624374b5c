//! `manifest.json`: what a run was made of, by hash.

use super::Prepared;
use crate::host;
use crate::problem::Problem;
use crate::start::Origin;
use anyhow::Result;
use cn_data::Digest;
use cn_ops::Model as _;
use cn_report::{RunFolder, write_atomic};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Version of the manifest.
const SCHEMA: u32 = 1;

/// What a run was made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::commands) struct Manifest {
    schema: u32,
    started: String,
    command: Vec<String>,
    data: DataHashes,
    weights: WeightHash,
    /// The file that the initial weights came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weights_from: Option<Origin>,
    config_sha256: String,
    versions: Versions,
    isa: String,
    /// Version of the table that says which kernel computes what; 0 where a run did not note it.
    #[serde(default)]
    kernel_plan: u32,
    threads: usize,
    machine: Machine,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct DataHashes {
    name: String,
    n_images: usize,
    content_sha256: String,
    index_sha256: String,
    split_sha256: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct WeightHash {
    name: String,
    sha256: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Versions {
    #[serde(rename = "cn-train")]
    cn_train: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Machine {
    os: String,
    arch: String,
    cpu: Option<String>,
    cores: usize,
}

impl Manifest {
    /// Hashes everything.
    pub(super) fn new(prepared: &mut Prepared) -> Result<Self> {
        let Prepared { config, start, dataset, learner, .. } = prepared;
        Ok(Self {
            schema: SCHEMA,
            started: host::now(),
            command: std::env::args().collect(),
            data: DataHashes {
                name: dataset.index().name().to_owned(),
                n_images: dataset.index().len(),
                content_sha256: dataset.content_sha256().to_string(),
                index_sha256: dataset.index().sha256().to_string(),
                split_sha256: dataset.split().sha256().to_string(),
            },
            weights: WeightHash {
                name: start.name(),
                sha256: cn_zoo::weights_sha256(&learner.model_mut().named_tensors()?)?,
            },
            weights_from: start.origin().cloned(),
            config_sha256: Digest::of(config.to_toml()?.as_bytes()).to_string(),
            versions: Versions { cn_train: env!("CARGO_PKG_VERSION").into() },
            isa: cn_ops::Isa::current().to_string(),
            kernel_plan: cn_ops::PLAN_VERSION,
            threads: config.threads,
            machine: Machine {
                os: std::env::consts::OS.into(),
                arch: std::env::consts::ARCH.into(),
                cpu: host::cpu_model(),
                cores: std::thread::available_parallelism().map_or(1, usize::from),
            },
        })
    }

    /// This manifest for a run whose settings are already on disk, whatever flags say now.
    pub(super) fn with_settings_of(self, run: &RunFolder) -> Result<Self> {
        Ok(Self { config_sha256: settings_sha256(run)?, ..self })
    }

    /// Whether the settings on disk are those that the run began with.
    pub(super) fn has_settings_of(&self, run: &RunFolder) -> Result<bool> {
        Ok(self.config_sha256 == settings_sha256(run)?)
    }

    /// What has to be the same when the run goes on, beside the config.
    pub(super) fn identity(&self) -> Value {
        json!({ "data": self.data, "weights": self.weights, "isa": self.isa, "kernel_plan": self.kernel_plan })
    }

    /// What stands in the way of going on, a line each: `self` is the stored one.
    pub(super) fn differences(&self, now: &Self) -> Vec<String> {
        let plans = [self, now].map(|manifest| manifest.kernel_plan.to_string());
        let pairs = [
            ("data", &self.data.content_sha256, &now.data.content_sha256),
            ("split", &self.data.split_sha256, &now.data.split_sha256),
            ("initial weights", &self.weights.sha256, &now.weights.sha256),
            ("instruction set", &self.isa, &now.isa),
            ("kernel plan", &plans[0], &plans[1]),
        ];
        let line = |(what, old, new)| format!("{what}: {old}, now {new}");
        pairs.into_iter().filter(|(_, old, new)| old != new).map(line).collect()
    }

    /// Hashes of the index and of the images.
    pub(in crate::commands) fn data_sha256(&self) -> [&str; 2] {
        [&self.data.index_sha256, &self.data.content_sha256]
    }

    /// Whether another version of the program began.
    pub(super) fn other_build(&self, now: &Self) -> Option<&str> {
        (self.versions != now.versions).then_some(self.versions.cn_train.as_str())
    }

    pub(super) fn write(&self, run: &RunFolder) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        Ok(write_atomic(run.manifest(), text.as_bytes())?)
    }

    pub(in crate::commands) fn read(run: &RunFolder) -> Result<Self> {
        let path = run.manifest();
        let damaged = || format!("cannot use `{}`", path.display());
        let text = std::fs::read_to_string(&path).map_err(|e| Problem::failure(damaged()).caused_by(e))?;
        Ok(serde_json::from_str(&text).map_err(|e| Problem::failure(damaged()).caused_by(e))?)
    }
}

fn settings_sha256(run: &RunFolder) -> Result<String> {
    let path = run.config();
    let bytes = std::fs::read(&path)
        .map_err(|e| Problem::failure(format!("cannot read the settings `{}`", path.display())).caused_by(e))?;
    Ok(Digest::of(&bytes).to_string())
}
