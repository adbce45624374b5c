//! `evaluate`: honest numbers about a trained model.

mod classes;

use super::Context;
use crate::args::{Common, ConfigArgs, EvaluateArgs, Part};
use crate::config::Config;
use crate::data::{self, Plan};
use crate::model::Trained;
use crate::problem::Problem;
use anyhow::{Context as _, Result};
use classes::ClassMap;
use cn_data::{Cache, Index, Pixels};
use cn_report::{
    Answers, Caption, ClassNames, ImageLoss, ImageView, Picture, Predictions, Tile, Tone, class_table, confused_table,
    grid, group_table, headline, top_losses_table,
};
use serde_json::json;

/// Most confused pairs and worst groups that are listed.
const LISTED: usize = 12;
/// Top losses that the picture shows in a row.
const COLUMNS: usize = 9;

/// Images with labels, and which of them are judged.
struct Judged {
    index: Index,
    pixels: Pixels,
    part: Part,
}

pub(super) fn run(context: &Context<'_>, args: &EvaluateArgs) -> Result<()> {
    let mut trained = Trained::open(&args.model)?;
    let judged = judged(context, args, &trained)?;
    let map = ClassMap::new(&trained.card, &judged.index)?;
    let started = std::time::Instant::now();
    let probabilities = trained.probabilities(&judged.pixels)?;
    let img_s = judged.pixels.len() as f64 / started.elapsed().as_secs_f64();
    let table = map.table(&judged.index, &probabilities)?;
    let answers = table.answers(map.thresholds()?)?;
    let top = table.top_losses(args.top);
    if let Some(folder) = &args.out {
        write(folder, &judged, &answers, &top, map.names())?;
    }
    show(context, args, &judged, &answers, &top, map.names());
    context.ui.json(&summary(args, &judged, &answers, &top, img_s));
    Ok(())
}

/// The images: other data, or those of the model's run.
fn judged(context: &Context<'_>, args: &EvaluateArgs, trained: &Trained) -> Result<Judged> {
    let other = args.data.data.is_some() || args.data.synthetic || args.limit.is_some();
    let part = args.split.unwrap_or(if other { Part::All } else { Part::Val });
    let run = trained.run.as_ref().filter(|run| run.holds_run());
    let stored = run.map(|run| Config::of_run(&run.config())).transpose()?;
    if part == Part::Val && (other || stored.is_none()) {
        return Err(Problem::usage("`--split val` is the validation part of a run's own data")
            .hint("leave `--data`, `--synthetic` and `--limit` out, or judge `--split all`")
            .into());
    }
    let base = stored.unwrap_or_default();
    let flags = ConfigArgs { data: args.data.clone(), limit: args.limit, ..ConfigArgs::default() };
    let config = base.with_flags(&Common { seed: context.common.seed, ..Common::default() }, &flags)?.resolved()?;
    let cache = if args.no_cache { Cache::Off } else { Cache::User };
    match part {
        Part::Val => validation(&config, cache),
        Part::All if other => data::all(&config, cache).map(|(index, pixels)| Judged { index, pixels, part }),
        Part::All => {
            let (dataset, _) = Plan::new(&config)?.load(&config, cache)?;
            Ok(Judged { index: dataset.index().clone(), pixels: dataset.pixels().clone(), part })
        }
    }
}

/// The validation part alone, in its order.
fn validation(config: &Config, cache: Cache) -> Result<Judged> {
    let (dataset, _) = Plan::new(config)?.load(config, cache)?;
    let ids = dataset.split().val();
    let index = dataset.index().subset(ids)?;
    let pixels = Pixels::from_images(ids.iter().map(|&id| dataset.pixels().image(id)))?;
    Ok(Judged { index, pixels, part: Part::Val })
}

fn show(
    context: &Context<'_>,
    args: &EvaluateArgs,
    judged: &Judged,
    answers: &Answers<'_>,
    top: &[ImageLoss],
    names: &ClassNames,
) {
    let ui = context.ui;
    let part = if judged.part == Part::Val { "validation part" } else { "all images" };
    ui.say(format_args!(
        "{} on {} ({part}, {} images)\n",
        args.model.display(),
        judged.index.name(),
        judged.index.len()
    ));
    ui.result(headline(answers));
    ui.say(format_args!("\n{}", class_table(&answers.class_scores(), names).trim_end()));
    let pairs = answers.most_confused(1).unwrap_or_default();
    if !pairs.is_empty() {
        ui.say("\nmost confused");
        ui.say(confused_table(&pairs[..pairs.len().min(LISTED)], names).trim_end());
    }
    let groups = answers.group_scores();
    if !groups.is_empty() {
        ui.say(format_args!("\nworst of {} groups", groups.len()));
        ui.say(group_table(&groups[..groups.len().min(LISTED / 2)]).trim_end());
    }
    if !top.is_empty() {
        ui.say("\ntop losses");
        ui.say(top_losses_table(answers, top, names).trim_end());
    }
}

fn summary(
    args: &EvaluateArgs,
    judged: &Judged,
    answers: &Answers<'_>,
    top: &[ImageLoss],
    img_s: f64,
) -> serde_json::Value {
    let val = serde_json::to_value(answers.val_summary()).unwrap_or_default();
    let table = answers.table();
    let top: Vec<_> =
        top.iter().map(|image| json!({ "path": table.rows()[image.row].path, "loss": image.loss })).collect();
    let mut summary = json!({
        "model": args.model, "data": judged.index.name(), "n": judged.index.len(),
        "split": if judged.part == Part::Val { "val" } else { "all" },
        "classes": answers.class_scores(), "confusion": answers.confusion(),
        "most_confused": answers.most_confused(1), "groups": answers.group_scores(),
        "top_losses": top, "infer_img_s": img_s,
    });
    if let (Some(summary), Some(val)) = (summary.as_object_mut(), val.as_object()) {
        summary.extend(val.clone());
    }
    summary
}

fn write(
    folder: &std::path::Path,
    judged: &Judged,
    answers: &Answers<'_>,
    top: &[ImageLoss],
    names: &ClassNames,
) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
    answers.table().write(folder.join("predictions.csv"))?;
    if !top.is_empty() {
        picture(judged, answers, top, names)?.write_png(folder.join("top-losses.png"))?;
    }
    Ok(())
}

/// The images with the highest losses: what they are, what they were taken for.
fn picture(judged: &Judged, answers: &Answers<'_>, top: &[ImageLoss], names: &ClassNames) -> Result<Picture> {
    let table: &Predictions = answers.table();
    let several = |classes: &[usize]| match classes {
        [] => "none".to_owned(),
        _ => classes.iter().map(|&class| names.short(&table.classes()[class])).collect::<Vec<_>>().join(" "),
    };
    let tile = |image: &ImageLoss| {
        let row = &table.rows()[image.row];
        let passed = answers.passed(image.row);
        let tone = if passed == row.targets { Tone::Right } else { Tone::Wrong };
        let text = format!("{}, not {}", several(passed), several(&row.targets));
        let text = if tone == Tone::Right { several(passed) } else { text };
        let captions = vec![Caption { text, tone }, format!("loss {:.3}", image.loss).into()];
        Ok(Tile { image: view(&judged.pixels, image.row)?, captions })
    };
    let tiles = top.iter().map(tile).collect::<Result<Vec<_>>>()?;
    Ok(grid("Highest losses: said, and what it is", &tiles, COLUMNS)?)
}

/// The image of a row of the table.
fn view(pixels: &Pixels, row: usize) -> Result<ImageView<'_>> {
    let image = pixels.image(u32::try_from(row)?);
    Ok(match image.channels {
        1 => ImageView::grey(image.width, image.height, image.pixels)?,
        _ => ImageView::rgb(image.width, image.height, image.pixels)?,
    })
}
