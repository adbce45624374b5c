//! What goes into the `manifest.json` of a run.

use super::Prepared;
use crate::config::Config;
use crate::data::hashes;
use crate::host;
use crate::output::Ui;
use crate::problem::Problem;
use anyhow::Result;
use cn_data::Digest;
use cn_learn::Checkpoint;
use cn_ops::Model as _;
use cn_report::{MANIFEST_SCHEMA, Machine, Manifest, RunFolder, Versions, WeightsHash, read_bytes, write_atomic};
use serde_json::{Value, json};

/// Hashes everything.
pub(super) fn manifest(prepared: &mut Prepared) -> Result<Manifest> {
    let Prepared { config, start, dataset, learner, .. } = prepared;
    Ok(Manifest {
        schema: MANIFEST_SCHEMA,
        started: host::now(),
        command: std::env::args().collect(),
        data: hashes(dataset),
        weights: WeightsHash {
            name: start.name(),
            sha256: cn_zoo::weights_sha256(&learner.model_mut().named_tensors()?)?,
        },
        weights_from: start.origin().cloned(),
        config_sha256: Digest::of(config.to_toml()?.as_bytes()).to_string(),
        versions: Versions { cn_train: env!("CARGO_PKG_VERSION").into() },
        isa: cn_ops::Isa::current().to_string(),
        kernel_plan: cn_ops::PLAN_VERSION,
        threads: config.threads,
        forced: Vec::new(),
        machine: Machine {
            os: std::env::consts::OS.into(),
            arch: std::env::consts::ARCH.into(),
            cpu: host::cpu_model(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        },
    })
}

/// What has to be the same when the run goes on, beside the config: checkpoints carry it.
pub(super) fn identity(manifest: &Manifest) -> Value {
    let Manifest { data, weights, config_sha256, isa, kernel_plan, forced, .. } = manifest;
    json!({
        "data": data, "weights": weights, "config_sha256": config_sha256, "isa": isa, "kernel_plan": kernel_plan,
        "forced": forced,
    })
}

/// Whether a checkpoint was made in the run of `manifest`, by what [`identity`] gave it to carry.
pub(in crate::commands) fn is_own(checkpoint: &Checkpoint, manifest: &Manifest) -> bool {
    // Nothing ends an epoch of a run before its last step.
    if checkpoint.history().len() as u64 != u64::from(checkpoint.position().epochs_done) {
        return false;
    }
    let (carried, own) = (checkpoint.extra(), identity(manifest));
    // What was forced before it was made; beyond that, the run may have forced more.
    let forced: Vec<&str> = forced_of(checkpoint).collect();
    let is_part = forced.len() <= manifest.forced.len() && forced.iter().zip(&manifest.forced).all(|(a, b)| a == b);
    if !forced.is_empty() || !is_part {
        // Its hashes may be those of what was forced.
        return is_part;
    }
    // Names and paths may change; older runs note fewer of these.
    let hashes = [
        "/data/content_sha256",
        "/data/index_sha256",
        "/data/split_sha256",
        "/weights/sha256",
        "/config_sha256",
        "/isa",
        "/kernel_plan",
    ];
    hashes.iter().all(|at| carried.pointer(at).is_none_or(|value| Some(value) == own.pointer(at)))
}

/// The settings with what a checkpoint holds, which training goes on with.
pub(super) fn with_kept(stored: &Config, checkpoint: &Checkpoint) -> Config {
    Config {
        phase: checkpoint.phases().to_vec(),
        seed: checkpoint.seed(),
        batch_size: checkpoint.batch_size(),
        ema: checkpoint.ema(),
        ..stored.clone()
    }
}

/// Whether a checkpoint holds what these settings say.
pub(in crate::commands) fn is_of_settings(checkpoint: &Checkpoint, stored: &Config) -> bool {
    with_kept(stored, checkpoint).differences(stored).is_empty()
}

/// Writes the settings of the run.
pub(super) fn write_settings(run: &RunFolder, config: &Config) -> Result<()> {
    Ok(write_atomic(run.config(), config.to_toml()?.as_bytes())?)
}

/// Writes settings and manifest again, where they were removed while the run trained.
pub(super) fn write_again(ui: Ui, run: &RunFolder, config: &Config, manifest: &Manifest) -> Result<()> {
    if run.config().exists() && run.manifest().exists() {
        return Ok(());
    }
    ui.warn("settings or manifest of the run were removed meanwhile, and are written again");
    write_settings(run, config)?;
    Ok(manifest.write(run.manifest())?)
}

/// What was forced before the checkpoint was made.
pub(super) fn forced_of(checkpoint: &Checkpoint) -> impl Iterator<Item = &str> {
    checkpoint.extra()["forced"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Of the settings that lie in the folder of a run.
pub(in crate::commands) fn settings_sha256(run: &RunFolder) -> Result<String> {
    let path = run.config();
    let bytes = read_bytes(&path)
        .map_err(|e| Problem::failure(format!("cannot read the settings `{}`", path.display())).caused_by(e))?;
    Ok(Digest::of(&bytes).to_string())
}
