//! `train --resume`: going on with a run.

use super::super::Context;
use super::fit::fit;
use super::manifest::{forced_of, is_of_settings, is_own, manifest, settings_sha256, with_kept};
use super::{Choice, Prepared, cache, demand, dry_run, lock, prepare};
use crate::args::{BatchArgs, TrainArgs};
use crate::config::{BatchFit, Config};
use crate::output::Ui;
use crate::problem::Problem;
use crate::sums;
use anyhow::{Context as _, Result};
use cn_learn::{Checkpoint, CheckpointFolder, NewestCheckpoint};
use cn_report::{Manifest, RunFolder, Summary};

/// Goes on where the run stopped; a finished one shows its result, or gets back weights that were lost.
pub(super) fn run(context: &Context<'_>, args: &TrainArgs, run: &RunFolder) -> Result<u8> {
    if !run.holds_run() {
        return Err(Problem::no_run(run.root()).into());
    }
    let BatchArgs { recipe, config, .. } = &args.config.batch;
    let flags = [("--out", args.out.is_some()), ("--recipe", recipe.is_some()), ("--config", config.is_some())];
    if let Some((flag, _)) = flags.into_iter().find(|(_, is_given)| *is_given) {
        let problem =
            format!("`--resume {}` goes on with the folder and the settings of that run", run.root().display());
        return Err(Problem::usage(problem)
            .hint(format!("leave `{flag}` out, or let `--resume auto` find the run that these flags began"))
            .into());
    }
    let stored = Config::of_run(&run.config())?;
    let config = stored.with_flags(context.common, &args.config)?.resolved()?;
    if run.is_finished() && run.weights().is_file() {
        refuse_finished(run, &stored.differences(&config))?;
        return finished(context, run);
    }
    refuse(run, args, &stored.differences(&config))?;
    go_on(context, args, run, &stored, config, None)
}

/// The same for settings that were made of flags as those of the run once were: they must come to the same.
pub(super) fn same(context: &Context<'_>, args: &TrainArgs, mut config: Config, run: &RunFolder) -> Result<u8> {
    let stored = Config::of_run(&run.config())?;
    // It was settled by what was free then.
    if config.batch_fit == BatchFit::Memory {
        (config.batch_size, config.batch_fit) = (stored.batch_size, BatchFit::Fixed);
    }
    if run.is_finished() && run.weights().is_file() {
        let prepared = prepare(context, config, cache(args), Choice::Asked, demand(args))?;
        refuse_finished(run, &stored.differences(&prepared.config))?;
        return finished(context, run);
    }
    go_on(context, args, run, &stored, config, None)
}

/// Goes on with the run that these settings began, or shows what it came to.
pub(super) fn auto(
    context: &Context<'_>,
    args: &TrainArgs,
    (config, prepared): (Config, Prepared),
    run: &RunFolder,
) -> Result<u8> {
    if run.is_finished() && run.weights().is_file() {
        return finished(context, run);
    }
    let stored = Config::of_run(&run.config())?;
    if stored.batch_size != prepared.config.batch_size {
        // Of what memory had room for then.
        drop(prepared);
        return same(context, args, config, run);
    }
    let config = Config { batch_fit: BatchFit::Fixed, ..prepared.config.clone() };
    go_on(context, args, run, &stored, config, Some(prepared))
}

/// Nothing can be added to a run that is finished.
fn refuse_finished(run: &RunFolder, differences: &[String]) -> Result<()> {
    if differences.is_empty() {
        return Ok(());
    }
    let (folder, list) = (run.root().display(), listed(differences));
    let problem = format!("the run `{folder}` is finished, and cannot go on with something else:{list}");
    let weights = run.weights();
    Err(Problem::failure(problem)
        .hint(format!("start another one from its weights: `--weights {}`", weights.display()))
        .into())
}

/// Trains what is left, with what is prepared already if it is.
fn go_on(
    context: &Context<'_>,
    args: &TrainArgs,
    run: &RunFolder,
    stored: &Config,
    config: Config,
    prepared: Option<Prepared>,
) -> Result<u8> {
    let _lock = if args.dry_run { run.refuse_links().map(|()| None)? } else { Some(lock(context.ui, run)?) };
    refuse_open_batch(run, &config)?;
    let mut found = CheckpointFolder::new(run.checkpoints()).newest().map_err(|error| lost(run, error))?;
    if run.is_finished() {
        tell_lost_weights(context.ui, run, found.as_ref())?;
    }
    refuse_edited(run, args, found.as_ref().map(|found| &found.checkpoint), stored)?;
    let now = || prepare(context, config, cache(args), Choice::Asked, demand(args));
    let mut prepared = prepared.map_or_else(now, Ok)?;
    let settings = stored.differences(&prepared.config);
    refuse(run, args, &settings)?;
    let mut manifest = manifest(&mut prepared)?;
    match Manifest::read(run.manifest()) {
        Ok(old) => {
            let differences = old.differences(&manifest);
            refuse_other(run, args, &differences)?;
            found = own(run, args, (&old, stored), found)?;
            refuse_kept(run, found.as_ref(), &mut prepared, &settings)?;
            let edited = if is_edited(run, &old)? { vec!["config.toml: edited".to_owned()] } else { Vec::new() };
            let forced = [edited, settings, differences].concat();
            let decided = stored.decisions(&prepared.config);
            tell_changes(context.ui, &forced, &decided);
            if old.versions != manifest.versions {
                let version = &old.versions.cn_train;
                context.ui.warn(format_args!("the run was begun by cn-train {version}: bits may differ"));
            }
            // The run is that of the settings that it began with, whatever threads it goes on with.
            manifest.config_sha256.clone_from(&old.config_sha256);
            manifest.forced = note_forced(run, args, old, [forced, decided].concat())?;
        }
        // Stopped before it was written.
        Err(_) if found.is_none() && args.dry_run => {}
        // With the settings that are on disk, whatever flags say now.
        Err(_) if found.is_none() => {
            manifest.config_sha256 = settings_sha256(run)?;
            manifest.write(run.manifest())?;
        }
        Err(error) => manifest = manifest_anew(context.ui, args, run, (manifest, settings), (found.as_ref(), error))?,
    }
    if let Some(found) = &found {
        warn_of_what_is_lost(context, args, run, found)?;
    }
    let checkpoint = found.map(|found| found.checkpoint);
    let step = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.position().steps_done);
    context.ui.say(format_args!("resume    `{}` at step {step}", run.root().display()));
    context.ui.json(&serde_json::json!({ "event": "resume", "run": run.root(), "step": step }));
    if args.dry_run {
        return dry_run(context.ui, prepared);
    }
    fit(context, run.clone(), prepared, &manifest, checkpoint)
}

/// Weights that are lost come back from a checkpoint, where there is one.
fn tell_lost_weights(ui: Ui, run: &RunFolder, found: Option<&NewestCheckpoint>) -> Result<()> {
    let weights = run.weights();
    if found.is_some() {
        ui.warn(format_args!("`{}` is missing: it is written again from a checkpoint", weights.display()));
        return Ok(());
    }
    let problem = format!("the run is finished, but `{}` and its checkpoints are missing", weights.display());
    Err(Problem::failure(problem).hint("restore one of them, or train again to another `--out`").into())
}

/// Says what `--force` let pass, and what was decided anew.
fn tell_changes(ui: Ui, forced: &[String], decided: &[String]) {
    if !forced.is_empty() {
        ui.warn(format_args!("`--force`: the run goes on with something else:{}", listed(forced)));
    }
    if !decided.is_empty() {
        ui.say(format_args!("decided   `reproduce` cannot repeat what is decided anew:{}", listed(decided)));
    }
}

/// In place of a manifest that cannot be read: that of the data, weights and settings here, which have to be those that
/// the checkpoint carries.
fn manifest_anew(
    ui: Ui,
    args: &TrainArgs,
    run: &RunFolder,
    (here, settings): (Manifest, Vec<String>),
    (found, error): (Option<&NewestCheckpoint>, cn_report::Error),
) -> Result<Manifest> {
    let lost = Problem::failure(format!("the run `{}` has lost its manifest", run.root().display())).caused_by(error);
    let Some(found) = found.filter(|_| args.force) else {
        let hint = "restore manifest.json from a copy, or write it anew from what is here: `--force`";
        return Err(lost.hint(hint).into());
    };
    let carried = forced_of(&found.checkpoint).map(str::to_owned).collect();
    let mut manifest = Manifest { config_sha256: settings_sha256(run)?, forced: carried, ..here };
    if !is_own(&found.checkpoint, &manifest) {
        let hint = "restore manifest.json from a copy: data, weights or settings here are not those of its checkpoint";
        return Err(lost.hint(hint).into());
    }
    manifest.forced.push("manifest.json: lost, and written anew".to_owned());
    manifest.forced.extend(settings);
    tell_changes(ui, &manifest.forced, &[]);
    if !args.dry_run {
        manifest.write(run.manifest())?;
    }
    Ok(manifest)
}

/// The newest checkpoint of this run, where the newest of all is another's.
fn own(
    run: &RunFolder,
    args: &TrainArgs,
    (manifest, stored): (&Manifest, &Config),
    found: Option<NewestCheckpoint>,
) -> Result<Option<NewestCheckpoint>> {
    // What a checkpoint holds of the settings, `--force` never changed.
    let is_fine =
        |checkpoint: &Checkpoint| (args.force || is_own(checkpoint, manifest)) && is_of_settings(checkpoint, stored);
    if found.as_ref().is_none_or(|found| is_fine(&found.checkpoint)) {
        return Ok(found);
    }
    let folder = CheckpointFolder::new(run.checkpoints());
    folder.newest_where(is_fine).map_err(|error| lost(run, error))
}

/// What to do where checkpoints are there, and none of them is whole.
fn lost(run: &RunFolder, error: cn_learn::Error) -> anyhow::Error {
    use cn_learn::Error::{CheckpointDamaged, CheckpointForeign};
    if !matches!(error, CheckpointDamaged { .. } | CheckpointForeign { .. }) {
        return error.into();
    }
    let (folder, config) = (run.root().display(), run.config());
    let again = format!("`cn-train train --config {} --out DIR`", config.display());
    Problem::failure(format!("no checkpoint of the run `{folder}` can be used"))
        .caused_by(error)
        .hint(format!("restore one, or train again from the start: {again}"))
        .into()
}

/// Warns where the newest checkpoint is damaged or gone, and keeps a damaged one from ever taking the place of the good
/// one that is used in its place.
fn warn_of_what_is_lost(
    context: &Context<'_>,
    args: &TrainArgs,
    run: &RunFolder,
    found: &NewestCheckpoint,
) -> Result<()> {
    let folder = CheckpointFolder::new(run.checkpoints());
    let step = found.checkpoint.position().steps_done;
    let is_older = found.path == folder.best() || found.path == folder.epoch();
    let used = match is_older {
        true if found.path == folder.best() => format!("the best one, of step {step}, is used"),
        true => format!("that of the last epoch, of step {step}, is used"),
        false => "the one before it is used".to_owned(),
    };
    match &found.damage {
        Some(damage) => context.ui.warn(format_args!("{damage}; {used}")),
        None if is_older => {
            context.ui.warn(format_args!("the checkpoint `{}` is missing; {used}", folder.last().display()));
        }
        None => {}
    }
    if found.damage.is_some() && !args.dry_run {
        folder.set_damaged_aside()?;
    }
    Ok(())
}

/// The batches of a run are what they are.
fn refuse_open_batch(run: &RunFolder, config: &Config) -> Result<()> {
    if config.batch_fit != BatchFit::Memory {
        return Ok(());
    }
    let (folder, size) = (run.root().display(), config.batch_size);
    let problem = format!("the run `{folder}` has batches of {size}, which do not change");
    Err(Problem::usage(problem).hint("leave `--batch-size auto` out").into())
}

/// Shows what a finished run came to.
pub(super) fn finished(context: &Context<'_>, run: &RunFolder) -> Result<u8> {
    let summary = Summary::read(run.summary())?;
    sums::warn_of_edits(context.ui, run)?;
    let val = &summary.val;
    context.ui.result(format_args!(
        "the run `{}` is finished: exact match {:.4}, top-1 {:.4} on {} images\n",
        run.root().display(),
        val.exact_match,
        val.top1,
        summary.data.n_val
    ));
    context.ui.json(&summary);
    Ok(0)
}

/// Refuses what flags say otherwise than the run.
fn refuse(run: &RunFolder, args: &TrainArgs, differences: &[String]) -> Result<()> {
    let is_lost = |line: &String| line.starts_with("data.") && line.ends_with(", now nothing");
    let hint = match differences.iter().any(|line| is_kept(line)) {
        true => "leave the flags out, or begin a new run with them",
        // Flags about data say all of it.
        false if differences.iter().any(is_lost) => {
            "give all flags about the data that the run was begun with (its config.toml has them), or leave them out"
        }
        false => "leave the flags out, or pass `--force` to go on anyway",
    };
    refuse_with(run, args, differences, hint)
}

/// The same for what no flag of this command says.
fn refuse_other(run: &RunFolder, args: &TrainArgs, differences: &[String]) -> Result<()> {
    let hint = "restore what differs (`CN_ISA` names an instruction set), or pass `--force` to go on anyway";
    refuse_with(run, args, differences, hint)
}

fn refuse_with(run: &RunFolder, args: &TrainArgs, differences: &[String], hint: &str) -> Result<()> {
    if differences.is_empty() || args.force {
        return Ok(());
    }
    let (folder, list) = (run.root().display(), listed(differences));
    Err(Problem::failure(format!("the run `{folder}` cannot go on with something else:{list}")).hint(hint).into())
}

/// A line each, below what they are about.
fn listed(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n  {line}")).collect()
}

/// Keeps what is forced or decided anew in the manifest, of which all that ever was comes back: the settings alone no
/// longer say how the run came about.
fn note_forced(run: &RunFolder, args: &TrainArgs, old: Manifest, differences: Vec<String>) -> Result<Vec<String>> {
    if differences.is_empty() {
        return Ok(old.forced);
    }
    let new = differences.into_iter().filter(|line| !old.forced.contains(line)).collect();
    let forced = [old.forced.clone(), new].concat();
    if !args.dry_run {
        Manifest { forced: forced.clone(), ..old }.write(run.manifest())?;
    }
    Ok(forced)
}

/// Whether a difference is in what a checkpoint holds.
fn is_kept(line: &str) -> bool {
    ["arch:", "phase", "seed:", "batch_size:", "ema:"].iter().any(|key| line.starts_with(key))
}

/// Refuses what `--force` cannot change, since training goes on with what the checkpoint holds, before anything of it is
/// written down.
fn refuse_kept(
    run: &RunFolder,
    found: Option<&NewestCheckpoint>,
    prepared: &mut Prepared,
    settings: &[String],
) -> Result<()> {
    let Some(found) = found else { return Ok(()) };
    let kept: Vec<String> = settings.iter().filter(|line| is_kept(line)).cloned().collect();
    if !kept.is_empty() {
        let problem = format!(
            "`{}` goes on with what its checkpoint holds, also by `--force`:{}",
            run.root().display(),
            listed(&kept)
        );
        return Err(Problem::failure(problem).hint("leave these out, or begin a new run with them").into());
    }
    let restored = prepared.learner.restore(&found.checkpoint);
    restored.with_context(|| format!("cannot go on from `{}`", found.path.display()))
}

/// Refuses settings that were edited after the run began: its checkpoints were made with others.
fn refuse_edited(run: &RunFolder, args: &TrainArgs, checkpoint: Option<&Checkpoint>, stored: &Config) -> Result<()> {
    // Without a manifest, nothing was computed with them yet, or what follows says what is wrong.
    let Ok(manifest) = Manifest::read(run.manifest()) else { return Ok(()) };
    if !is_edited(run, &manifest)? {
        return Ok(());
    }
    let edited = format!("`{}` was edited since the run began", run.config().display());
    let kept = checkpoint.map_or_else(Vec::new, |checkpoint| with_kept(stored, checkpoint).differences(stored));
    if !kept.is_empty() {
        let problem = format!(
            "{edited}, but the run goes on with what its checkpoint holds, also by `--force`:{}",
            listed(&kept)
        );
        return Err(Problem::failure(problem).hint("put these back, or begin a new run with `--config FILE`").into());
    }
    if args.force {
        return Ok(());
    }
    Err(Problem::failure(edited)
        .hint("restore the file, begin a new run with `--config FILE`, or pass `--force` to go on anyway")
        .into())
}

fn is_edited(run: &RunFolder, manifest: &Manifest) -> Result<bool> {
    Ok(manifest.config_sha256 != settings_sha256(run)?)
}
