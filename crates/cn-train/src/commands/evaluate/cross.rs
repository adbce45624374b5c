//! `evaluate --cross-validate K`: the training of a run K times, each time judged on what it left out.

use super::{Judged, Judgement, relocated, show, summary, warn_of_trained, write};
use crate::args::{BatchArgs, ConfigArgs, EvaluateArgs, Part};
use crate::commands::Context;
use crate::config::Config;
use crate::data::{self, Plan};
use crate::destination;
use crate::problem::Problem;
use crate::session;
use crate::sums;
use anyhow::Result;
use cn_data::{Cache, Index, Pixels, SplitMethod};
use cn_report::{Predictions, Quality, RunFolder, Summary, Thresholds, write_atomic};
use serde::Serialize;
use serde_json::json;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What the folder of a cross-validation is called, before the number of folds.
pub(in crate::commands) const PREFIX: &str = "cross-validation-";

/// One of the K runs.
#[derive(Debug, Serialize)]
struct Fold {
    run: String,
    n_train: usize,
    n_val: usize,
    exact_match: f64,
    top1: f64,
    /// Groups with images on both sides; `null` where groups are unknown.
    groups_shared: Option<usize>,
}

/// K runs that are trained, or their exit code if one was stopped.
pub(in crate::commands) enum Folds {
    Stopped(u8),
    Trained(Vec<RunFolder>),
}

/// Trains what is not trained yet: the settings `config`, each fold in a folder of its own.
pub(in crate::commands) fn train(
    context: &Context<'_>,
    config: &Config,
    folder: &Path,
    k: u32,
    cache: impl Fn() -> Cache,
) -> Result<Folds> {
    let runs = folds_in(folder, k);
    // Like the run that they belong to, they may come from strangers.
    RunFolder::new(folder).refuse_links()?;
    check_folds(config, k)?;
    for (fold, run) in (0..k).zip(&runs) {
        context.ui.say(format_args!("fold      {} of {k}: `{}`", fold + 1, run.root().display()));
        let context = &Context { common: context.common, ui: context.ui, start: Instant::now() };
        let code = super::super::train::train(context, of_fold(config, k, fold), run.clone(), cache())?;
        if code != 0 {
            context.ui.say("the same command goes on with the folds that are left");
            return Ok(Folds::Stopped(code));
        }
        context.ui.say("");
    }
    Ok(Folds::Trained(runs))
}

/// Refuses folds that cannot be, before the first of them is trained.
fn check_folds(config: &Config, k: u32) -> Result<()> {
    (0..k).try_for_each(|fold| Plan::new(&of_fold(config, k, fold)).map(drop))
}

fn of_fold(config: &Config, k: u32, fold: u32) -> Config {
    Config { split: SplitMethod::KFold { k, fold }.to_string(), val_groups: Vec::new(), ..config.clone() }
}

/// Where the folds of a run lie unless something else is said.
pub(in crate::commands) fn folder(run: &Path, k: u32) -> PathBuf {
    run.join(format!("{PREFIX}{k}"))
}

/// The K runs in the folder of a cross-validation, whether they are there or not.
pub(in crate::commands) fn folds_in(folder: &Path, k: u32) -> Vec<RunFolder> {
    (1..=k).map(|fold| RunFolder::new(folder.join(format!("fold-{fold}")))).collect()
}

/// How many images were trained on by the run that judges them: as copies, or by the weights that it began with.
pub(in crate::commands) fn n_seen(runs: &[RunFolder]) -> Result<usize> {
    runs.iter().map(|run| Ok(Summary::read(run.summary())?.data.n_val_seen)).sum()
}

/// Judges each image by the run that did not see it; returns the exit code.
pub(super) fn run(context: &Context<'_>, args: &EvaluateArgs, k: u32) -> Result<u8> {
    let config = config(context, args)?;
    RunFolder::new(&args.model).refuse_links()?;
    let folder = args.out.clone().unwrap_or_else(|| folder(&args.model, k));
    destination::check(&folder)?;
    destination::check_outside(&folder, &config.data)?;
    let cache = || if args.no_cache { Cache::Off } else { Cache::User };
    let runs = match train(context, &config, &folder, k, cache)? {
        Folds::Stopped(code) => return Ok(code),
        Folds::Trained(runs) => runs,
    };
    let (folds, table) = (folds(&runs)?, gathered(&runs)?);
    let (index, pixels) = images(context, &of_fold(&config, k, 0), &table, cache())?;
    let names = data::names(&index, table.classes());
    let answers = table.answers(Thresholds::uniform(config.threshold as f32)?, session::activation(&config))?;
    let quality = Quality::of(&answers, None)?;
    let judged = Judged {
        index,
        pixels,
        part: Part::All,
        n_trained: Some(n_seen(&runs)?),
        n_left_out: 0,
        groups: data::groups_name(&config),
    };
    let top = answers.top_losses(args.top);
    let judgement = Judgement { judged: &judged, names: &names, answers, quality, top };
    write(&folder, &judgement)?;
    context.ui.say(fold_table(&folds));
    warn_of_trained(context.ui, &judged);
    show(context, args, &judgement);
    let summary = summary(args, &judgement, &json!({ "folds": folds }));
    write_atomic(folder.join("summary.json"), &serde_json::to_vec_pretty(&summary)?)?;
    context.ui.json(&summary);
    Ok(0)
}

/// The settings of the run, with its data where they are now.
fn config(context: &Context<'_>, args: &EvaluateArgs) -> Result<Config> {
    let run = RunFolder::new(&args.model);
    if !run.holds_run() {
        return Err(Problem::usage(format!(
            "`{}` is no folder of a run, and only a run can be repeated",
            args.model.display()
        ))
        .hint("train once, then `cn-train evaluate RUN --cross-validate 5`")
        .into());
    }
    let (stored, data) = relocated(Config::of_run(&run.config())?, args.data.clone());
    let batch = BatchArgs { data, ..BatchArgs::default() };
    let flags = ConfigArgs { batch, ..ConfigArgs::default() };
    let config = stored.with_flags(context.common, &flags)?.resolved()?;
    if config.synthetic.steps.is_some() {
        return Err(Problem::usage("endless handwriting has no parts to leave out")
            .hint("cross-validate a run on images that are there: `--data DIR` in its training")
            .into());
    }
    Ok(config)
}

fn folds(runs: &[RunFolder]) -> Result<Vec<Fold>> {
    let fold = |run: &RunFolder| {
        let Summary { data, val, .. } = Summary::read(run.summary())?;
        Ok(Fold {
            run: run.root().display().to_string(),
            n_train: data.n_train,
            n_val: data.n_val,
            exact_match: val.exact_match,
            top1: val.top1,
            groups_shared: data.groups_shared,
        })
    };
    runs.iter().map(fold).collect()
}

/// What all runs say about the images that they did not see.
pub(in crate::commands) fn gathered(runs: &[RunFolder]) -> Result<Predictions> {
    let mut all = None::<Predictions>;
    for run in runs {
        let own = judged_by(run)?;
        match &mut all {
            None => all = Some(own),
            Some(all) => own.rows().iter().try_for_each(|row| all.push(row.clone()))?,
        }
    }
    Ok(all.ok_or_else(|| Problem::usage("there are no folds"))?)
}

/// What a finished run says about its validation part, all of it.
pub(in crate::commands) fn judged_by(run: &RunFolder) -> Result<Predictions> {
    let table = Predictions::read(run.predictions())?;
    let (file, n, expected) = (run.predictions(), table.rows().len(), Summary::read(run.summary())?.data.n_val);
    let problem = if n != expected {
        format!("`{}` holds {n} images, and the run's summary has {expected}", file.display())
    } else if sums::edited(run).iter().any(|name| name == "predictions.csv") {
        format!("`{}` is not as the run wrote it", file.display())
    } else {
        return Ok(table);
    };
    Err(Problem::failure(problem).hint("restore the file; `cn-train verify RUN` says what else changed").into())
}

/// The images in the order of the table.
fn images(context: &Context<'_>, config: &Config, table: &Predictions, cache: Cache) -> Result<(Index, Pixels)> {
    let (index, pixels) = data::training(context.ui, config, cache)?;
    let id: HashMap<&str, u32> = index.records().iter().map(|record| record.path.as_str()).zip(0..).collect();
    let known = |path: &str| {
        id.get(path).copied().ok_or_else(|| {
            Problem::failure(format!("`{path}` was judged, and is not among the images now"))
                .hint("restore the data, or name another `--out` to train all folds again")
        })
    };
    let ids = table.rows().iter().map(|row| known(&row.path)).collect::<Result<Vec<u32>, Problem>>()?;
    let pixels = Pixels::from_images(ids.iter().map(|&id| pixels.image(id)))?;
    Ok((index.subset(&ids)?, pixels))
}

fn fold_table(folds: &[Fold]) -> String {
    let mut out = format!(
        "{:<6}{:>8}{:>8}{:>14}{:>10}{:>16}\n",
        "fold", "train", "judge", "exact match", "top-1", "shared groups"
    );
    for (i, fold) in folds.iter().enumerate() {
        let Fold { n_train, n_val, exact_match, top1, groups_shared, .. } = fold;
        let shared = groups_shared.map_or_else(|| "unknown".into(), |n| n.to_string());
        writeln!(out, "{:<6}{n_train:>8}{n_val:>8}{exact_match:>14.4}{top1:>10.4}{shared:>16}", i + 1)
            .expect("a string takes any text");
    }
    let mean = |of: fn(&Fold) -> f64| folds.iter().map(of).sum::<f64>() / folds.len() as f64;
    let exact = mean(|fold| fold.exact_match);
    let deviation = folds.iter().map(|fold| (fold.exact_match - exact).powi(2)).sum::<f64>() / (folds.len() - 1) as f64;
    writeln!(out, "exact match by folds: {exact:.4}, standard deviation {:.4}", deviation.sqrt())
        .expect("a string takes any text");
    out
}
