//! `evaluate`: honest numbers about a trained model.

mod classes;
pub(super) mod cross;
pub(super) mod own;

use super::Context;
use crate::args::{BatchArgs, Common, ConfigArgs, DataArgs, EvaluateArgs, Part};
use crate::config::{Config, DataConfig, groups_of};
use crate::data::{self, Plan};
use crate::destination;
use crate::model::Trained;
use crate::output::{Ui, and_more, counted};
use crate::problem::Problem;
use crate::{seen, sums};
use anyhow::Result;
use classes::ClassMap;
use cn_data::{Cache, Index, Pixels, Spec};
use cn_report::{
    Answers, Caption, ClassNames, ImageLoss, ImageView, Picture, Predictions, Quality, Tile, Tone, TrainedOn,
    class_table, confused_table, confusion_table, grid, group_table, headline, quality_lines, top_losses_table,
    two_by_two_table,
};
use own::Own;
use serde_json::json;
use std::path::Path;

/// Most confused pairs and worst groups that are listed.
const LISTED: usize = 12;
/// Classes up to which a table of classes by classes is readable.
const WIDEST: usize = 20;
/// Classes of the matrix in JSON: its size grows by their square.
const MOST_CLASSES: usize = 1_000;
/// Top losses that the picture shows in a row.
const COLUMNS: usize = 9;

/// Images with labels, and which of them are judged.
struct Judged {
    index: Index,
    pixels: Pixels,
    part: Part,
    /// How many of them the model was trained on, where that is known.
    n_trained: Option<usize>,
    /// How many others there were, which it was trained on.
    n_left_out: usize,
    /// What to call the groups.
    groups: String,
}

/// What a model says about images, and how good that is.
struct Judgement<'a> {
    judged: &'a Judged,
    names: &'a ClassNames,
    answers: Answers<'a>,
    quality: Quality,
    top: Vec<ImageLoss>,
}

/// Judges, and returns the exit code.
pub(super) fn run(context: &Context<'_>, args: &EvaluateArgs) -> Result<u8> {
    if let Some(k) = args.cross_validate {
        return cross::run(context, args, k);
    }
    let mut trained = Trained::open(&args.model)?.on(context.common)?;
    sums::warn_of_edited_card(context.ui, trained.run.as_ref());
    if let Some(out) = &args.out {
        destination::check_apart(out)?;
        let data = DataConfig { dir: args.data.data.clone(), csv: args.data.csv.clone(), ..DataConfig::default() };
        destination::check_outside(out, &data)?;
        if let Some(run) = trained.run.as_ref().filter(|run| run.holds_run()) {
            destination::check_outside(out, &Config::of_run(&run.config())?.data)?;
        }
    }
    let judged = judged(context, args, &trained)?;
    warn_of_trained(context.ui, &judged);
    let map = ClassMap::new(&trained.card, &judged.index)?;
    let started = std::time::Instant::now();
    let probabilities = trained.probabilities(&judged.pixels)?;
    let img_s = judged.pixels.len() as f64 / started.elapsed().as_secs_f64();
    let table = map.table(&judged.index, &probabilities)?;
    let answers = table.answers(map.thresholds()?, trained.card.activation)?;
    let quality = Quality::of(&answers, tuning(&trained)?.as_ref())?;
    let top = answers.top_losses(args.top);
    let judgement = Judgement { judged: &judged, names: map.names(), answers, quality, top };
    if let Some(folder) = &args.out {
        write(folder, &judgement)?;
    }
    show(context, args, &judgement);
    context.ui.json(&summary(args, &judgement, &json!({ "infer_img_s": img_s })));
    Ok(0)
}

fn warn_of_trained(ui: Ui, judged: &Judged) {
    if let Some(n) = judged.n_trained.filter(|&n| n > 0) {
        let of = judged.index.len();
        ui.warn(format_args!("{n} of the {of} images were trained on: the numbers flatter the model"));
    }
}

/// Predictions for a part of the run's training images, where the run kept them.
fn tuning(trained: &Trained) -> Result<Option<Predictions>> {
    let path = trained.run.as_ref().map(cn_report::RunFolder::tuning).filter(|path| path.is_file());
    Ok(path.map(Predictions::read).transpose()?)
}

/// The images: other data, or those of the model's run.
fn judged(context: &Context<'_>, args: &EvaluateArgs, trained: &Trained) -> Result<Judged> {
    if args.limit == Some(0) {
        return Err(Problem::usage("`--limit 0` leaves no images").into());
    }
    let cache = || if args.no_cache { Cache::Off } else { Cache::User };
    let own = own::find(context.ui, &args.data, trained, cache)?;
    match own {
        Some(own) if own.is_judged => own_images(context.ui, &own, &seen::of_model(trained)?, args),
        own => other_images(context, args, trained, own.as_ref(), cache()),
    }
}

/// Images that are not the run's own data as it found them: all of them that the model has not seen.
fn other_images(
    context: &Context<'_>,
    args: &EvaluateArgs,
    trained: &Trained,
    own: Option<&own::Own>,
    cache: Cache,
) -> Result<Judged> {
    let trained_on = seen::of_model(trained)?;
    if trained_on.is_empty() {
        refuse_val(args)?;
        seen::warn_of_no_list(context.ui, trained);
    }
    let mut config = other_config(args, trained)?;
    if !trained_on.is_empty() {
        // So many of those that were not seen.
        config.limit = None;
    }
    let (index, mut pixels) = all_of(context, &mut config, args, cache)?;
    // Labels that the model does not know are refused, whoever they belong to.
    ClassMap::new(&trained.card, &index)?;
    let (unseen, known): (Vec<u32>, Vec<u32>) =
        (0..).take(index.len()).partition(|&id| !seen::is_seen(&pixels, id, &trained_on));
    if known.is_empty() {
        refuse_val(args)?;
    }
    let n_turned = if trained.reads_light_ink() { data::turn(&mut pixels) } else { 0 };
    if n_turned > 0 {
        let n = pixels.len();
        context.ui.say(format_args!("{n_turned} of {n} have dark ink on a bright ground and are turned"));
    }
    let (part, ids) = chosen(context.ui, args, unseen, &known)?;
    let ids = at_most(context.ui, &index, in_groups(&index, ids, part, args)?, args)?;
    let n_trained = match part {
        Part::Val => Some(0),
        Part::All if trained_on.is_empty() => {
            own.map(|own| Ok::<_, anyhow::Error>(own.n_trained(&index.subset(&ids)?))).transpose()?
        }
        Part::All => Some(seen::n_of(&pixels, &ids, &trained_on)),
    };
    let n_left_out = if part == Part::Val { known.len() } else { 0 };
    let pixels = Pixels::from_images(ids.iter().map(|&id| pixels.image(id)))?;
    Ok(Judged { index: index.subset(&ids)?, pixels, part, n_trained, n_left_out, groups: data::groups_name(&config) })
}

/// The part that is judged, and its images: of those that the model has not seen, and those that it knows.
fn chosen(ui: Ui, args: &EvaluateArgs, unseen: Vec<u32>, known: &[u32]) -> Result<(Part, Vec<u32>)> {
    let n = unseen.len() + known.len();
    match args.split {
        _ if known.is_empty() => Ok((Part::All, unseen)),
        Some(Part::All) => Ok((Part::All, (0..).take(n).collect())),
        Some(Part::Val) | None if unseen.is_empty() => {
            let n = counted(n, "image", "images");
            let problem = format!("every one of these ({n}) was trained on, which says nothing of others");
            Err(Problem::failure(problem).hint("judge other images, or these with `--split all`").into())
        }
        Some(Part::Val) | None => {
            ui.say(format_args!("{} of {n} images were trained on and are left out", known.len()));
            Ok((Part::Val, unseen))
        }
    }
}

/// There is no validation part of images of which none were trained on.
fn refuse_val(args: &EvaluateArgs) -> Result<()> {
    if args.split != Some(Part::Val) {
        return Ok(());
    }
    let problem = "`--split val` is what a model has not seen of the data of its run, and these are other images";
    Err(Problem::usage(problem).hint("leave `--data` and `--synthetic` out, or judge `--split all`").into())
}

/// As many of `ids` as are asked for.
fn at_most(ui: Ui, index: &Index, ids: Vec<u32>, args: &EvaluateArgs) -> Result<Vec<u32>> {
    let Some(n) = args.limit else { return Ok(ids) };
    if n > ids.len() {
        ui.warn(format_args!("there are {} images to judge, fewer than the {n} asked for", ids.len()));
    }
    let chosen = data::choose(&index.subset(&ids)?, n)?;
    Ok(chosen.into_iter().map(|place| ids[place as usize]).collect())
}

/// Those of `ids` whose images are of the groups that are asked for.
fn in_groups(index: &Index, ids: Vec<u32>, part: Part, args: &EvaluateArgs) -> Result<Vec<u32>> {
    let Some(list) = &args.groups else { return Ok(ids) };
    let groups = groups_of("--groups", list)?;
    let known = index.groups();
    if let Some(unknown) = groups.iter().find(|group| !known.contains_key(group.as_str())) {
        return Err(Problem::usage(format!("no image is of the group `{unknown}`"))
            .hint(format!("groups are named as in the data, and these have {}", known.len()))
            .into());
    }
    let group = |id: u32| index.records()[id as usize].group.as_ref();
    let ids: Vec<u32> = ids.into_iter().filter(|&id| group(id).is_some_and(|group| groups.contains(group))).collect();
    if ids.is_empty() && part == Part::Val {
        let problem = format!("all images of the groups `{}` were trained on", groups.join("`, `"));
        return Err(Problem::failure(problem).hint("judge other groups, or these with `--split all`").into());
    }
    Ok(ids)
}

/// The settings of the model's run, if it has one, with the data of the flags.
fn other_config(args: &EvaluateArgs, trained: &Trained) -> Result<Config> {
    let run = trained.run.as_ref().filter(|run| run.holds_run());
    let elsewhere = args.data.data.is_some() || args.data.synthetic;
    let lost = |run: &&cn_report::RunFolder| !elsewhere && !run.holds_run() && run.manifest().is_file();
    if let Some(run) = trained.run.as_ref().filter(lost) {
        let problem = format!("`{}` is missing, which names the data of the run", run.config().display());
        return Err(Problem::failure(problem).hint("restore it, or judge other images: `--data DIR`").into());
    }
    let stored = run.map(|run| Config::of_run(&run.config())).transpose()?.unwrap_or_default();
    // What limited the training says nothing about these.
    let (base, flags) = moved(Config { limit: None, skip_damaged: false, ..stored }, args.data.clone());
    let batch = BatchArgs { data: flags, limit: args.limit, ..BatchArgs::default() };
    let flags = ConfigArgs { batch, ..ConfigArgs::default() };
    Ok(base.with_flags(&Common::default(), &flags)?.resolved()?)
}

/// The settings of a run with the folder of the flags, where that can be read as the run read its own: by the same table,
/// labels and groups, whatever the folder says of itself; and the flags that are left.
pub(super) fn relocated(stored: Config, mut flags: DataArgs) -> (Config, DataArgs) {
    let Some(dir) = flags.data.clone().filter(|_| !stored.data.synthetic) else { return moved(stored, flags) };
    let there = Config { data: DataConfig { dir: Some(dir), ..stored.data.clone() }, ..stored.clone() };
    if there.clone().resolved().is_ok_and(|config| Plan::new(&config).is_ok()) {
        flags.data = None;
        return (there, flags);
    }
    moved(stored, flags)
}

/// The settings of a run with the folder of the flags, where that is laid out as the run's data were, and the flags that
/// are left.
fn moved(mut stored: Config, mut flags: DataArgs) -> (Config, DataArgs) {
    if let Some(dir) = flags.data.take_if(|dir| is_laid_out(dir, &stored.data)) {
        (stored.data.dir, stored.data.synthetic) = (Some(dir), false);
    }
    (stored, flags)
}

/// Whether another folder has such a table as the run's data, and does not say by itself what is in it.
fn is_laid_out(dir: &Path, data: &DataConfig) -> bool {
    let describes_itself = !matches!(Spec::of_folder(dir), Ok(None));
    !describes_itself && data.csv.as_ref().is_some_and(|csv| dir.join(csv).is_file())
}

/// The images of the settings; without groups, where the run's data name a column of them that these do not have.
fn all_of(context: &Context<'_>, config: &mut Config, args: &EvaluateArgs, cache: Cache) -> Result<(Index, Pixels)> {
    let found = data::all(context.ui, config, cache.clone());
    let lacks_groups = |error: &anyhow::Error| match error.downcast_ref() {
        Some(cn_data::Error::NoColumn { column, .. }) => config.data.group.as_ref() == Some(column),
        _ => false,
    };
    match found {
        Err(error) if args.data.group.is_none() && lacks_groups(&error) => {
            context.ui.warn(format_args!("{error}: the images are judged without groups"));
            config.data.group = None;
            data::all(context.ui, config, cache)
        }
        found => found,
    }
}

/// Images of the run's own data, as many as are asked for.
fn own_images(ui: Ui, own: &Own, seen: &TrainedOn, args: &EvaluateArgs) -> Result<Judged> {
    let dataset = &own.dataset;
    let part = args.split.unwrap_or(Part::Val);
    let mut ids = match part {
        Part::Val => dataset.split().val().to_vec(),
        Part::All => (0..).take(dataset.index().len()).collect(),
    };
    ids = at_most(ui, dataset.index(), in_groups(dataset.index(), ids, part, args)?, args)?;
    let index = dataset.index().subset(&ids)?;
    let pixels = Pixels::from_images(ids.iter().map(|&id| dataset.pixels().image(id)))?;
    let n_trained = Some(own.n_seen(&ids, seen)?);
    Ok(Judged { index, pixels, part, n_trained, n_left_out: 0, groups: data::groups_name(&own.config) })
}

fn show(context: &Context<'_>, args: &EvaluateArgs, judgement: &Judgement<'_>) {
    let Judgement { judged, names, answers, quality, top } = judgement;
    let ui = context.ui;
    let n = judged.index.len();
    let which = match (judged.part, judged.n_trained) {
        (Part::Val, _) if judged.n_left_out > 0 => format!("{n} images that it was not trained on"),
        (Part::Val, _) => format!("{n} images of the validation part"),
        (Part::All, Some(trained)) if trained > 0 => format!("{n} images, {trained} of them trained on"),
        (Part::All, _) => format!("{n} images"),
    };
    ui.say(format_args!("{} on {} ({which})\n", args.model.display(), judged.index.name()));
    ui.result(headline(answers));
    ui.say(quality_lines(quality, &judged.groups).trim_end());
    let scores = answers.class_scores();
    ui.say(format_args!("\n{}", class_table(&scores, &answers.table().class_rankings(), names).trim_end()));
    match answers.confusion(WIDEST) {
        Some(confusion) if confusion.n_classes <= WIDEST => {
            ui.say(format_args!("\n{}", confusion_table(&confusion, names).trim_end()));
        }
        Some(_) => {}
        None => ui.say(format_args!("\n{}", two_by_two_table(&scores, names).trim_end())),
    }
    let pairs = answers.most_confused(1).unwrap_or_default();
    if !pairs.is_empty() {
        ui.say("\nmost confused");
        let listed = &pairs[..pairs.len().min(LISTED)];
        ui.say(format_args!("{}{}", confused_table(listed, names).trim_end(), and_more(pairs.len(), LISTED)));
    }
    let groups = answers.group_scores();
    if !groups.is_empty() {
        ui.say(format_args!("\nworst of {} {}", groups.len(), judged.groups));
        ui.say(group_table(&groups[..groups.len().min(LISTED / 2)]).trim_end());
    }
    if !top.is_empty() {
        ui.say("\ntop losses");
        ui.say(top_losses_table(answers, top, names).trim_end());
    }
}

/// All of it as JSON, with `more` at the end.
fn summary(args: &EvaluateArgs, judgement: &Judgement<'_>, more: &serde_json::Value) -> serde_json::Value {
    let Judgement { judged, answers, quality, top, .. } = judgement;
    let val = serde_json::to_value(answers.val_summary()).unwrap_or_default();
    let table = answers.table();
    let top: Vec<_> =
        top.iter().map(|image| json!({ "path": table.rows()[image.row].path, "loss": image.loss })).collect();
    let mut summary = json!({
        "model": args.model, "data": judged.index.name(), "n": judged.index.len(),
        "n_trained_on": judged.n_trained,
        "n_left_out": judged.n_left_out,
        "split": if judged.part == Part::Val { "val" } else { "all" },
        "counts": answers.counts(), "classes": answers.class_scores(), "rankings": table.class_rankings(),
        "quality": quality, "confusion": answers.confusion(MOST_CLASSES),
        "most_confused": answers.most_confused(1), "groups": answers.group_scores(),
        "top_losses": top,
    });
    if let Some(summary) = summary.as_object_mut() {
        [&val, more].into_iter().filter_map(|part| part.as_object()).for_each(|part| summary.extend(part.clone()));
    }
    summary
}

fn write(folder: &std::path::Path, judgement: &Judgement<'_>) -> Result<()> {
    let Judgement { judged, names, answers, top, .. } = judgement;
    destination::make(folder)?;
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
        [] => names.no_class().to_owned(),
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
