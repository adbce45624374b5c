//! `train`: the main job.

mod fit;
pub(super) mod manifest;
mod phases;
mod result;
mod resume;

use super::Context;
use crate::args::{BatchArgs, ConfigArgs, Resume, TrainArgs};
use crate::config::{BatchFit, Config, OnNan, REAL_DATA};
use crate::data::{self, Plan};
use crate::destination;
use crate::host;
use crate::memory::{self, Demand, Shortage};
use crate::output::{Ui, counted};
use crate::problem::Problem;
use crate::seen;
use crate::session;
use crate::start::{Start, loaded_line};
use anyhow::{Context as _, Result};
use cn_data::{Cache, Dataset};
use cn_learn::{Checkpoint, Learner};
use cn_ops::Network;
use cn_report::{DataChange, Manifest, RunFolder, RunLock};
use fit::fit;
use manifest::{manifest, write_settings};
use phases::Layers;
use std::path::Path;
use std::sync::Arc;

/// Everything between settings and the first step.
struct Prepared {
    config: Config,
    start: Start,
    dataset: Arc<Dataset>,
    split: String,
    learner: Learner<Network>,
    /// The state before the first step, where a run may be thrown back to it.
    initial: Option<Checkpoint>,
}

/// Who chose the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// A flag, a setting, or a folder that was there.
    Asked,
    /// Nobody.
    Default,
}

/// Trains, and returns the exit code.
pub(super) fn run(context: &Context<'_>, args: &TrainArgs) -> Result<u8> {
    if let Some(Resume::Run(folder)) = &args.resume {
        return resume::run(context, args, &RunFolder::new(folder));
    }
    let config = Config::try_from((context.common, &args.config))?;
    let run = RunFolder::new(args.out.clone().unwrap_or_else(|| host::new_run_folder(&config.recipe)));
    if args.resume.is_some() && run.holds_run() {
        return resume::same(context, args, config, &run);
    }
    check_folder(&run)?;
    destination::check_outside(run.root(), &config.data)?;
    if !args.dry_run {
        destination::check(run.root())?;
    }
    let endless = config.synthetic.steps.is_some();
    let asked = endless || args.config.batch.data.synthetic || config.data.dir.is_some();
    let choice = if asked { Choice::Asked } else { Choice::Default };
    let prepared = prepare(context, config.clone(), cache(args), choice, demand(args))?;
    if args.resume.is_some()
        && args.out.is_none()
        && let Some(run) = begun(context.ui, &prepared)
    {
        return resume::auto(context, args, (config, prepared), &run);
    }
    if args.dry_run {
        return dry_run(context.ui, prepared);
    }
    begin(context, run, prepared)
}

/// Trains with these settings to the folder, or goes on with what was trained there; returns the exit code.
pub(super) fn train(context: &Context<'_>, config: Config, run: RunFolder, cache: Cache) -> Result<u8> {
    if !run.holds_run() {
        let prepared = prepare(context, config, cache, Choice::Asked, Demand::usual(Shortage::Refused))?;
        return begin(context, run, prepared);
    }
    let differences = Config::of_run(&run.config())?.differences(&config);
    if !differences.is_empty() {
        let problem =
            format!("`{}` was trained with other settings:\n  {}", run.root().display(), differences.join("\n  "));
        return Err(Problem::failure(problem).hint("choose another `--out`, or remove that folder").into());
    }
    if run.is_finished() && run.weights().is_file() {
        refuse_other_data(context.ui, &config, &run, cache)?;
        return resume::finished(context, &run);
    }
    let batch = BatchArgs { no_cache: cache == Cache::Off, ..BatchArgs::default() };
    let flags = ConfigArgs { batch, ..ConfigArgs::default() };
    resume::same(context, &TrainArgs { config: flags, ..TrainArgs::default() }, config, &run)
}

/// Refuses a run that was trained on other images or by other labels than those that are there now.
fn refuse_other_data(ui: Ui, config: &Config, run: &RunFolder, cache: Cache) -> Result<()> {
    let now = data::hashes(&Plan::new(config)?.load(ui, config, cache)?);
    let what = match Manifest::read(run.manifest())?.data.change(&now) {
        None => return Ok(()),
        Some(DataChange::Images) => "images, or another split of them",
        Some(DataChange::Labels) => "labels",
    };
    let folder = run.root().display();
    let problem = format!("`{folder}` was trained on other {what} than there are now");
    Err(Problem::failure(problem)
        .hint("restore the data, remove that folder and those beside it to train them again, or choose another `--out`")
        .into())
}

/// The training of `run` once more to the folder `again`, from its settings alone; returns the exit code.
pub(super) fn again(
    context: &Context<'_>,
    run: &RunFolder,
    again: RunFolder,
    data: Option<&Path>,
    cache: Cache,
) -> Result<u8> {
    let mut config = Config::of_run(&run.config())?.with_flags(context.common, &ConfigArgs::default())?;
    if let Some(dir) = data {
        config.data.dir = Some(dir.to_owned());
    }
    let config = config.resolved()?;
    destination::check(again.root())?;
    destination::check_outside(again.root(), &config.data)?;
    let mut prepared =
        prepare(context, config.clone(), cache.clone(), Choice::Asked, Demand::usual(Shortage::Refused))?;
    let old = Manifest::read(run.manifest())?;
    let mut differences = old.differences(&manifest(&mut prepared)?);
    if old.config_sha256 != manifest::settings_sha256(run)? {
        differences.push("config.toml: edited since the run began".to_owned());
    }
    if !differences.is_empty() {
        let problem =
            format!("the run `{}` cannot be repeated here:\n  {}", run.root().display(), differences.join("\n  "));
        return Err(Problem::failure(problem)
            .hint("restore what differs; `CN_ISA` names an instruction set, `--data DIR` says where the images are now")
            .into());
    }
    if again.holds_run() {
        drop(prepared);
        return train(context, config, again, cache);
    }
    begin(context, again, prepared)
}

/// The newest of the runs without a name that the same settings began; of finished ones, one of the same data.
fn begun(ui: Ui, prepared: &Prepared) -> Option<RunFolder> {
    let is_same = |run: &RunFolder| {
        if !run.holds_run() {
            return false;
        }
        let stored = match Config::of_run(&run.config()) {
            Ok(stored) => stored,
            Err(problem) => {
                ui.warn(format_args!("the run `{}` is passed over: {problem}", run.root().display()));
                return false;
            }
        };
        let mut config = prepared.config.clone();
        if config.batch_fit == BatchFit::Memory {
            config.batch_size = stored.batch_size;
        }
        let of_data = || {
            let manifest = Manifest::read(run.manifest()).ok();
            manifest.is_some_and(|manifest| manifest.data.change(&data::hashes(&prepared.dataset)).is_none())
        };
        stored.differences(&config).is_empty() && (!run.is_finished() || of_data())
    };
    host::run_folders(&prepared.config.recipe).into_iter().map(RunFolder::new).rfind(is_same)
}

fn begin(context: &Context<'_>, run: RunFolder, mut prepared: Prepared) -> Result<u8> {
    // With the places of data and weights that were found since the settings were read.
    prepared.config.check_kept()?;
    let _lock = lock(context.ui, &run)?;
    run.create()?;
    write_settings(&run, &prepared.config)?;
    let manifest = manifest(&mut prepared)?;
    manifest.write(run.manifest())?;
    fit(context, run, prepared, &manifest, None)
}

fn cache(args: &TrainArgs) -> Cache {
    if args.config.batch.no_cache { Cache::Off } else { Cache::User }
}

fn demand(args: &TrainArgs) -> Demand {
    let shortage = if args.ignore_memory { Shortage::Warned } else { Shortage::Refused };
    Demand { recompute: args.recompute, shortage }
}

/// A folder that holds a run, or cannot be one, is refused before anything else.
fn check_folder(run: &RunFolder) -> Result<()> {
    if run.holds_run() {
        // One that is being trained gets the word for that.
        run.lock()?;
        return Err(cn_report::Error::RunExists { path: run.root().to_owned() }.into());
    }
    run.refuse_used()?;
    if run.root().exists() && !run.root().is_dir() {
        return Err(Problem::usage(format!("`{}` is no folder", run.root().display()))
            .hint("choose another `--out`")
            .into());
    }
    Ok(())
}

/// Keeps other writers out of the run for as long as the result lives.
fn lock(ui: Ui, run: &RunFolder) -> Result<RunLock> {
    let lock = run.lock()?;
    if !lock.is_held() {
        let folder = run.root().display();
        ui.warn(format_args!("the file system of `{folder}` has no locks: let no other process write there"));
    }
    Ok(lock)
}

/// Opens weights and data, cheap checks first, and says what will be done.
fn prepare(
    context: &Context<'_>,
    mut config: Config,
    cache: Cache,
    choice: Choice,
    demand: Demand,
) -> Result<Prepared> {
    let ui = context.ui;
    introduce(ui, &config, choice);
    session::settle_precision(ui, &mut config)?;
    let mut start = Start::open(&config)?;
    introduce_weights(ui, &start.lines(&config.arch));
    config.weights = start.name();
    let plan = Plan::new(&config)?;
    let split = plan.method.to_string();
    let dataset = Arc::new(plan.load(ui, &config, cache)?);
    session::check_labels(&config, &dataset)?;
    remark(ui, &config, &dataset, &split);
    seen::warn(ui, &dataset, &start)?;
    memory::check_weights(&config, dataset.vocabulary().len(), demand)?;
    let (mut network, loaded) = session::network(&config, &dataset, &start)?;
    if let Some(loaded) = &loaded {
        ui.say(format_args!("{:10}{}", "", loaded_line(loaded)));
        ui.json(&serde_json::json!({
            "event": "weights", "name": start.name(), "why": start.why(), "from": start.origin(), "taken": loaded.taken,
            "missing": loaded.missing, "skipped": loaded.skipped, "stem_summed": loaded.stem_summed,
        }));
    }
    config.settle_rates(loaded.as_ref());
    let memory = memory::settle(ui, &mut config, &dataset, &mut network, demand)?;
    let mut learner = session::learner(&config, Arc::clone(&dataset), &start, network)?;
    start.forget_tensors();
    let initial = match config.on_nan {
        OnNan::Rollback => Some(learner.checkpoint()?),
        OnNan::Stop | OnNan::Skip => None,
    };
    let prepared = Prepared { config, start, dataset, split, learner, initial };
    describe(ui, &prepared);
    ui.say(format_args!("memory    {memory}"));
    Ok(prepared)
}

/// What is allowed, and seldom meant.
fn remark(ui: Ui, config: &Config, dataset: &Dataset, split: &str) {
    if let ([label], true) = (dataset.vocabulary().labels(), dataset.targets().single()) {
        ui.warn(format_args!("all images are labelled `{label}`: with a single class, there is nothing to tell apart"));
    }
    let records = dataset.index().records();
    let without = records.iter().filter(|record| record.group.is_none()).count();
    let chosen_so = (split == "stratified" && config.split == "auto") || split.starts_with("kfold");
    if chosen_so && (1..records.len()).contains(&without) {
        let groups = data::groups_name(config);
        ui.warn(format_args!(
            "{without} of {} images have no group, so the split is by class, and the same {groups} may be on both \
             sides; name a group for every image, or choose with `--split`",
            records.len()
        ));
    }
    if config.channels < dataset.pixels().channels() {
        let recipe = &config.recipe;
        ui.say(format_args!("colour    the images are turned grey: `channels = 1` in the settings of `{recipe}`"));
    }
}

/// The first lines: which data, and where to get others.
fn introduce(ui: Ui, config: &Config, choice: Choice) {
    if let Some(dir) = &config.data.dir {
        return ui.say(format_args!("data      `{}`", dir.display()));
    }
    if choice == Choice::Asked {
        return ui.say("data      synthetic handwriting, drawn in memory");
    }
    ui.say(format_args!("data      synthetic handwriting, drawn in memory, since there is no `{REAL_DATA}` here"));
    ui.say("          the real scans: `cargo xtask fetch-data`; your own images: `--data DIR`");
}

fn introduce_weights(ui: Ui, lines: &[String]) {
    for (i, line) in lines.iter().enumerate() {
        ui.say(format_args!("{:<10}{line}", if i == 0 { "weights" } else { "" }));
    }
}

fn describe(ui: Ui, prepared: &Prepared) {
    let Prepared { config, start, dataset, split, learner, .. } = prepared;
    let (train, val) = (learner.batches().source().n_train(), dataset.split().val().len());
    let shared = match dataset.index().groups().len() {
        0 => String::new(),
        n => {
            let shared = dataset.split().groups_shared(dataset.index());
            format!("; {shared} of {n} {} on both sides", data::groups_name(config))
        }
    };
    ui.say(format_args!("split     {split}: {train} images train, {val} judge{shared}"));
    let (steps, val_steps) = (learner.batches().steps_per_epoch(), val.div_ceil(config.batch_size));
    let size = config.image_size;
    ui.say(format_args!(
        "run       {} {}, {} at {size} px, {} of {} of {}, {val_steps} to validate, {} threads, {}",
        config.recipe,
        config.arch,
        if config.channels == 1 { "grey" } else { "RGB" },
        phases::epochs(config.epochs()),
        counted(steps, "batch", "batches"),
        config.batch_size,
        config.threads,
        cn_ops::Isa::current(),
    ));
    if let Some(decay) = config.ema {
        ui.say(format_args!("          what is judged and kept is an average of the weights, with a decay of {decay}"));
    }
    let is_frozen = config.freeze_pretrained && start.is_pretrained();
    let layers = if is_frozen { Layers::Head } else { Layers::All };
    phases::lines(config, layers).into_iter().for_each(|line| ui.say(format_args!("          {line}")));
}

/// Makes the first batch, then says what would follow.
fn dry_run(ui: Ui, prepared: Prepared) -> Result<u8> {
    let batches = prepared.learner.batches();
    let first = batches.train(0, 0)?.next().transpose()?.context("there is no first batch")?;
    let (n_train, n_val) = (batches.source().n_train(), prepared.dataset.split().val().len());
    let mut dims = first.images.dims().to_vec();
    // Grey images may travel as fewer planes; people know them by the channels of the model.
    dims[3] = batches.config().channels;
    ui.result(format_args!("dry run   the first batch is {dims:?}; nothing was written\n"));
    ui.json(&serde_json::json!({
        "event": "dry_run", "n_train": n_train, "n_val": n_val,
        "train_batches": batches.steps_per_epoch(), "val_batches": n_val.div_ceil(prepared.config.batch_size),
        "epochs": prepared.config.epochs(), "phases": prepared.config.phase, "batch": dims, "split": prepared.split,
        "classes": prepared.dataset.vocabulary().labels(),
    }));
    Ok(0)
}
