//! `lr-find`: the curve of the learning-rate finder, and what it suggests.

use super::Context;
use crate::args::{ConfigArgs, LrFindArgs};
use crate::config::Config;
use crate::data::Plan;
use crate::destination;
use crate::memory::{self, Demand, Shortage};
use crate::model::check_weights;
use crate::problem::Problem;
use crate::session;
use crate::start::Start;
use anyhow::Result;
use cn_data::Cache;
use cn_learn::{LrCurve, LrFindConfig, Suggestions};
use cn_report::{RunFolder, finder_curve};
use std::sync::Arc;

/// Points at the end that suggestions and fastai's plot leave out.
const TAIL: usize = 5;

pub(super) fn run(context: &Context<'_>, args: &LrFindArgs) -> Result<()> {
    let mut config = config(context, args)?;
    session::settle_precision(context.ui, &mut config)?;
    destination::check(&args.out)?;
    destination::check_outside(&args.out, &config.data)?;
    let start = Start::open(&config)?;
    let cache = if args.batch.no_cache { Cache::Off } else { Cache::User };
    let dataset = Arc::new(Plan::new(&config)?.load(context.ui, &config, cache)?);
    session::check_labels(&config, &dataset)?;
    let (mut network, _) = session::network(&config, &dataset, &start)?;
    memory::settle(context.ui, &mut config, &dataset, &mut network, Demand::usual(Shortage::Warned))?;
    let mut learner = session::learner(&config, dataset, &start, network)?;
    match config.phase.first().and_then(|phase| phase.frozen) {
        _ if args.unfrozen => learner.unfreeze()?,
        Some(true) => learner.freeze()?,
        _ => {}
    }
    let steps = LrFindConfig::default();
    context.ui.say(format_args!(
        "trying up to {} learning rates from {:e} to {}",
        steps.n_steps, steps.start_lr, steps.end_lr
    ));
    let curve = learner.lr_find(&steps)?;
    let named = named(&curve.suggestions());
    write(args, &curve, &named)?;
    show(context, args, &named);
    Ok(())
}

/// The settings of the flags, or those of a run with its final weights to start from.
fn config(context: &Context<'_>, args: &LrFindArgs) -> Result<Config> {
    let flags = ConfigArgs { batch: args.batch.clone(), model: args.model.clone(), ..ConfigArgs::default() };
    let Some(from) = &args.from else { return Ok(Config::try_from((context.common, &flags))?) };
    let run = RunFolder::new(from);
    if !run.holds_run() {
        return Err(Problem::no_run(from).into());
    }
    check_weights(&run)?;
    let stored = Config::of_run(&run.config())?;
    let config = stored.with_flags(context.common, &flags)?;
    Ok(Config { weights: run.weights().display().to_string(), ..config }.resolved()?)
}

fn named(suggestions: &Suggestions) -> Vec<(&'static str, f64)> {
    let Suggestions { valley, slide, minimum, steep } = suggestions;
    let all = [("valley", valley), ("slide", slide), ("minimum", minimum), ("steep", steep)];
    all.into_iter().filter_map(|(name, suggestion)| Some((name, suggestion.as_ref()?.lr))).collect()
}

fn write(args: &LrFindArgs, curve: &LrCurve, named: &[(&str, f64)]) -> Result<()> {
    let folder = &args.out;
    destination::make(folder)?;
    let shown = curve.lrs.len().saturating_sub(TAIL);
    let points: Vec<(f64, f64)> =
        curve.lrs.iter().copied().zip(curve.losses.iter().map(|&l| f64::from(l))).take(shown).collect();
    finder_curve(&points, named).write_png(folder.join("lr-find.png"))?;
    let text = serde_json::to_string(&json(curve, named))? + "\n";
    Ok(cn_report::write_atomic(folder.join("lr-find.json"), text.as_bytes())?)
}

fn json(curve: &LrCurve, named: &[(&str, f64)]) -> serde_json::Value {
    let suggestions: serde_json::Map<String, serde_json::Value> =
        named.iter().map(|&(name, lr)| (name.to_owned(), lr.into())).collect();
    serde_json::json!({ "suggestions": suggestions, "lrs": curve.lrs, "losses": curve.losses })
}

fn show(context: &Context<'_>, args: &LrFindArgs, named: &[(&str, f64)]) {
    let text: String = named.iter().map(|(name, lr)| format!("{name:<9} {lr:.2e}\n")).collect();
    context.ui.result(text);
    context.ui.say(format_args!("the curve is in `{}`", args.out.join("lr-find.png").display()));
    let suggestions: serde_json::Map<String, serde_json::Value> =
        named.iter().map(|&(name, lr)| (name.to_owned(), lr.into())).collect();
    context.ui.json(&serde_json::json!({ "suggestions": suggestions, "folder": args.out }));
}
