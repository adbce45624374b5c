//! `reproduce`: the same training again, from the folder of a run alone.

use super::{Context, train};
use crate::args::ReproduceArgs;
use crate::model;
use crate::problem::Problem;
use crate::sums;
use anyhow::Result;
use cn_data::Cache;
use cn_report::{EpochRecord, Manifest, RunFolder, Summary};
use cn_zoo::WeightFile;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Trains again and compares; returns the exit code.
pub(super) fn run(context: &Context<'_>, args: &ReproduceArgs) -> Result<u8> {
    let run = RunFolder::new(&args.run);
    if !run.holds_run() {
        return Err(Problem::no_run(run.root()).into());
    }
    if !run.is_finished() {
        return Err(Problem::unfinished(run.root()).into());
    }
    sums::refuse_edits(&run)?;
    let forced = Manifest::read(run.manifest())?.forced;
    if !forced.is_empty() {
        let problem = format!(
            "the run `{}` went on with something else than it began with, so it cannot be repeated:\n  {}",
            run.root().display(),
            forced.join("\n  ")
        );
        return Err(Problem::failure(problem).hint("train from `--config` with what you want to repeat").into());
    }
    let again = RunFolder::new(args.out.clone().unwrap_or_else(|| beside(&args.run)));
    refuse_used(&again)?;
    let cache = if args.no_cache { Cache::Off } else { Cache::User };
    let code = train::again(context, &run, again.clone(), args.data.as_deref(), cache)?;
    if code != 0 {
        context.ui.say("the same command goes on with it");
        return Ok(code);
    }
    let differences = differences(&run, &again)?;
    context.ui.say("");
    context.ui.json(&json!({
        "run": args.run, "again": again.root(), "same": differences.is_empty(), "differences": differences,
    }));
    if differences.is_empty() {
        let sha256 = Summary::read(run.summary())?.weights_sha256;
        context.ui.result(format_args!("reproduced `{}`: the same bytes, SHA-256 {sha256}\n", args.run.display()));
        return Ok(0);
    }
    let problem = format!(
        "`{}` came out differently in `{}`:\n  {}",
        args.run.display(),
        again.root().display(),
        differences.join("\n  ")
    );
    Err(Problem::failure(problem).hint("another version of the program, or a machine that computes wrongly").into())
}

/// Refuses a folder that holds anything but a part of this very repetition: what is there already repeats nothing.
fn refuse_used(again: &RunFolder) -> Result<()> {
    let folder = again.root();
    let is_used = || std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    let what = match again {
        _ if folder.is_symlink() => "is a link",
        _ if again.is_finished() => "holds a finished run already",
        _ if !again.holds_run() && is_used() => "holds other files",
        _ => return Ok(()),
    };
    let problem = format!("`{}`, where the run is to be trained again, {what}", folder.display());
    Err(Problem::failure(problem).hint("move it away, or name another folder with `--out`").into())
}

/// `RUN-again`.
fn beside(run: &Path) -> PathBuf {
    let mut name = run.file_name().unwrap_or_default().to_owned();
    name.push("-again");
    run.with_file_name(name)
}

/// What came out otherwise, a line each.
fn differences(run: &RunFolder, again: &RunFolder) -> Result<Vec<String>> {
    let [old, new] = [Summary::read(run.summary())?, Summary::read(again.summary())?];
    let [old_epochs, new_epochs] = [EpochRecord::read_all(run.metrics())?, EpochRecord::read_all(again.metrics())?];
    let mut lines = Vec::new();
    for (run, summary) in [(run, &old), (again, &new)] {
        let file = model::weights_sha256(&WeightFile::open(run.weights())?)?;
        if file != summary.weights_sha256 {
            lines.push(format!("`{}`: {file}, summary.json has {}", run.weights().display(), summary.weights_sha256));
        }
    }
    if old.weights_sha256 != new.weights_sha256 {
        lines.push(format!("weights: {}, now {}", old.weights_sha256, new.weights_sha256));
    }
    if old_epochs.len() != new_epochs.len() {
        lines.push(format!("epochs: {}, now {}", old_epochs.len(), new_epochs.len()));
    }
    for (old, new) in old_epochs.iter().zip(&new_epochs) {
        let values = |record: &EpochRecord| {
            let losses = [("train_loss", Some(record.train_loss)), ("val_loss", record.val_loss)];
            let losses = losses.into_iter().map(|(name, value)| (name.to_owned(), value.map(f64::to_bits)));
            let metrics = record.metrics.iter().map(|(name, value)| (name.to_owned(), Some(value.to_bits())));
            losses.chain(metrics).collect::<Vec<_>>()
        };
        for ((name, old_bits), (_, new_bits)) in values(old).into_iter().zip(values(new)) {
            if old_bits != new_bits {
                let [old_value, new_value] = [old_bits, new_bits].map(|bits| bits.map_or(f64::NAN, f64::from_bits));
                lines.push(format!("epoch {} {name}: {old_value}, now {new_value}", old.epoch));
            }
        }
    }
    Ok(lines)
}
