//! `verify`: whether a run is still what it was.

use super::Context;
use super::train::manifest::{is_of_settings, is_own, settings_sha256};
use crate::args::VerifyArgs;
use crate::config::Config;
use crate::data::Plan;
use crate::problem::Problem;
use crate::start::{self, Start};
use crate::sums;
use anyhow::{Context as _, Result};
use cn_data::Cache;
use cn_learn::{Checkpoint, CheckpointFolder};
use cn_ops::Model as _;
use cn_report::{EpochRecord, Manifest, ModelCard, Predictions, RunFolder, Summary};
use cn_zoo::WeightFile;
use serde::Serialize;

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// All is as it was written.
    Same,
    /// It is not.
    Different,
    /// It cannot be said here: the data are elsewhere, or were never kept.
    Unknown,
}

#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    outcome: Outcome,
    /// What was compared, or what is wrong.
    about: String,
}

/// Checks of one run.
struct Checks {
    run: RunFolder,
    done: Vec<Check>,
}

pub(super) fn run(context: &Context<'_>, args: &VerifyArgs) -> Result<()> {
    let run = RunFolder::new(&args.run);
    if !run.holds_run() {
        return Err(Problem::no_run(run.root()).into());
    }
    let mut checks = Checks { run, done: Vec::new() };
    checks.all(context, args);
    for Check { what, outcome, about } in &checks.done {
        let word = match outcome {
            Outcome::Same => "same",
            Outcome::Different => "DIFFERENT",
            Outcome::Unknown => "unknown",
        };
        context.ui.result(format_args!("{word:<11}{what:<19}{about}\n"));
    }
    let failed = checks.done.iter().filter(|check| check.outcome == Outcome::Different).count();
    context.ui.json(&serde_json::json!({ "run": args.run, "same": failed == 0, "checks": checks.done }));
    if failed == 0 {
        return Ok(());
    }
    let problem = format!("{failed} of {} checks of `{}` failed", checks.done.len(), args.run.display());
    Err(Problem::failure(problem).hint("restore what differs from a copy, or train again").into())
}

impl Checks {
    fn all(&mut self, context: &Context<'_>, args: &VerifyArgs) {
        let manifest = self.note("manifest.json", Self::manifest);
        self.note("config.toml", |checks| checks.settings(manifest.as_ref()));
        self.checkpoints(manifest.as_ref());
        if self.run.is_finished() {
            let summary = self.note("summary.json", Self::summary);
            self.note("model.safetensors", |checks| checks.weights(summary.as_ref()));
            self.note("predictions.csv", |checks| checks.predictions(summary.as_ref()));
            self.note("metrics.jsonl", |checks| checks.epochs(summary.as_ref()));
            self.sums();
        } else {
            let mut about = "the run was not trained to its end: there are no results to compare";
            // Weights come before their card, and hashes right before the summary.
            if self.run.weights().exists() && self.run.model_card().exists() {
                self.note("model.safetensors", |checks| checks.weights(None));
            }
            if self.run.sums().exists() {
                self.sums();
                about = "it is missing; `train --resume` writes it again";
            }
            self.done.push(Check { what: "summary.json", outcome: Outcome::Unknown, about: about.to_owned() });
        }
        if let Some(manifest) = &manifest {
            self.data(context, args, manifest);
        }
    }

    /// Notes what a check says; an error of it says what is wrong.
    fn note<T>(&mut self, what: &'static str, check: impl FnOnce(&Self) -> Result<(T, String)>) -> Option<T> {
        let (value, outcome, about) = match check(self) {
            Ok((value, about)) => (Some(value), Outcome::Same, about),
            Err(error) => (None, Outcome::Different, format!("{error:#}")),
        };
        self.done.push(Check { what, outcome, about });
        value
    }

    fn manifest(&self) -> Result<(Manifest, String)> {
        let manifest = Manifest::read(self.run.manifest())?;
        let forced = match manifest.forced.as_slice() {
            [] => String::new(),
            lines => format!("; it went on with {}", lines.join(", ")),
        };
        let about = format!("begun {} by cn-train {}{forced}", manifest.started, manifest.versions.cn_train);
        Ok((manifest, about))
    }

    fn settings(&self, manifest: Option<&Manifest>) -> Result<((), String)> {
        Config::of_run(&self.run.config())?;
        let manifest = manifest.context("its hash is in manifest.json, which cannot be read")?;
        agree("the manifest has", &manifest.config_sha256, &settings_sha256(&self.run)?)
    }

    fn checkpoints(&mut self, manifest: Option<&Manifest>) {
        let folder = CheckpointFolder::new(self.run.checkpoints());
        let files = [
            ("last checkpoint", folder.last()),
            ("previous one", folder.previous()),
            ("best one", folder.best()),
            ("last epoch's", folder.epoch()),
        ];
        if !folder.last().exists() {
            let about = "it is not there: removed, or the run was stopped before its first".to_owned();
            self.done.push(Check { what: "last checkpoint", outcome: Outcome::Unknown, about });
        }
        let stored = Config::of_run(&self.run.config()).ok();
        for (what, path) in files.into_iter().filter(|(_, path)| path.exists()) {
            self.note(what, |_| {
                let checkpoint = Checkpoint::read(&path)?;
                let is_own = manifest.is_none_or(|own| is_own(&checkpoint, own))
                    && stored.as_ref().is_none_or(|stored| is_of_settings(&checkpoint, stored));
                if !is_own {
                    return Err(cn_learn::Error::CheckpointForeign { path: path.clone() }.into());
                }
                Ok(((), format!("step {}, as its own checksum says", checkpoint.position().steps_done)))
            });
        }
    }

    fn summary(&self) -> Result<(Summary, String)> {
        let summary = Summary::read(self.run.summary())?;
        let about = format!("exact match {:.4} on {} images", summary.val.exact_match, summary.data.n_val);
        Ok((summary, about))
    }

    fn weights(&self, summary: Option<&Summary>) -> Result<((), String)> {
        let file = WeightFile::open(self.run.weights())?;
        let tensors: Vec<_> = file.tensors().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
        let found = cn_zoo::weights_sha256(&tensors)?;
        agree("model.json has", &ModelCard::read(self.run.model_card())?.weights.sha256, &found)?;
        match summary {
            Some(summary) => agree("summary.json has", &summary.weights_sha256, &found),
            None => agree("", &found, &found),
        }
    }

    fn predictions(&self, summary: Option<&Summary>) -> Result<((), String)> {
        let table = Predictions::read(self.run.predictions())?;
        let summary = summary.context("what they come to is in summary.json, which cannot be read")?;
        let card = ModelCard::read(self.run.model_card())?;
        let answers = table.answers(card.thresholds()?, card.activation)?;
        summary.check(&answers, self.run.predictions())?;
        Ok(((), format!("{} images give the exact match of summary.json", table.rows().len())))
    }

    fn epochs(&self, summary: Option<&Summary>) -> Result<((), String)> {
        let (lines, rows) =
            (EpochRecord::read_all(self.run.metrics())?, EpochRecord::read_history(self.run.history())?);
        let summary = summary.context("their number is in summary.json, which cannot be read")?;
        if lines.len() != summary.epochs || rows.len() != lines.len() {
            let (n, m, epochs) = (lines.len(), rows.len(), summary.epochs);
            let problem = format!("{n} epochs, history.csv has {m}, summary.json {epochs}");
            return Err(Problem::failure(problem).into());
        }
        Ok(((), format!("{} epochs, as in history.csv and summary.json", lines.len())))
    }

    /// Every byte of what the training wrote.
    fn sums(&mut self) {
        self.note("SHA256SUMS", |checks| Ok(((), format!("{} files are as it has them", sums::check(&checks.run)?))));
    }

    /// Images, split and initial weights, where they can be had.
    fn data(&mut self, context: &Context<'_>, args: &VerifyArgs, manifest: &Manifest) {
        match self.dataset(context, args) {
            Err(error) => {
                // A run may be looked at where its data never were; data that are there could be read by it.
                let dir = Config::of_run(&self.run.config()).ok().and_then(|config| config.data.dir);
                let are_there = args.data.is_some() || dir.is_some_and(|dir| dir.exists());
                let outcome = if are_there { Outcome::Different } else { Outcome::Unknown };
                self.done.push(Check { what: "data", outcome, about: format!("{error:#}") });
            }
            Ok((config, dataset)) => {
                let own = &manifest.data;
                let content = dataset.content_sha256().to_string();
                self.note("images", |_| agree("the manifest has", &own.content_sha256, &content));
                let index = dataset.index().sha256().to_string();
                self.note("labels", |_| agree("the manifest has", &own.index_sha256, &index));
                let split = dataset.split().sha256().to_string();
                self.note("split", |_| agree("the manifest has", &own.split_sha256, &split));
                self.initial_weights(&config, &dataset, manifest);
            }
        }
    }

    fn initial_weights(&mut self, config: &Config, dataset: &cn_data::Dataset, manifest: &Manifest) {
        let what = "initial weights";
        if start::are_elsewhere(config) {
            // As with data that are elsewhere.
            let about = format!("`{}` is not here", config.weights);
            self.done.push(Check { what, outcome: Outcome::Unknown, about });
            return;
        }
        self.note(what, |_| {
            let start = Start::open(config)?.for_data(dataset)?;
            let (mut network, _) = start.build(config, dataset.vocabulary().len())?;
            let found = cn_zoo::weights_sha256(&network.named_tensors()?)?;
            agree("the manifest has", &manifest.weights.sha256, &found)
        });
    }

    fn dataset(&self, context: &Context<'_>, args: &VerifyArgs) -> Result<(Config, cn_data::Dataset)> {
        let mut config = Config::of_run(&self.run.config())?.resolved()?;
        if let Some(dir) = &args.data {
            config.data.dir = Some(dir.clone());
        }
        // Hashes are of what is there now, not of what was decoded once.
        let dataset = Plan::new(&config)?.load(context.ui, &config, Cache::Off)?;
        Ok((config, dataset))
    }
}

/// An error unless the hashes are equal; says so with the head of the hash.
fn agree(whose: &str, expected: &str, found: &str) -> Result<((), String)> {
    if expected != found {
        return Err(Problem::failure(format!("its SHA-256 is {found}, {whose} {expected}")).into());
    }
    Ok(((), format!("SHA-256 {found}")))
}
