//! `predict`: labels of images.

use super::Context;
use crate::args::PredictArgs;
use crate::data;
use crate::model::Trained;
use crate::problem::Problem;
use crate::sums;
use anyhow::Result;
use cn_data::{Cache, Damaged, LoadConfig, Pixels, find_images};
use cn_report::{ClassNames, ModelCard, printable};
use std::path::PathBuf;

pub(super) fn run(context: &Context<'_>, args: &PredictArgs) -> Result<()> {
    let mut trained = Trained::open(&args.model)?.on(context.common)?;
    sums::warn_of_edited_card(context.ui, trained.run.as_ref());
    let paths = paths(args)?;
    let damaged = if args.skip_damaged { Damaged::Skip } else { Damaged::Refuse };
    let load = LoadConfig { cache: Cache::Off, damaged, decode: data::decoded_for(trained.card.image_size) };
    let loaded = Pixels::read(paths.clone(), &load)?;
    data::name_skipped(context.ui, &loaded.skipped);
    let mut pixels = loaded.pixels;
    if trained.reads_light_ink() {
        data::turn(&mut pixels);
    }
    let mut blank = vec![false; pixels.len()];
    if let Some(fill) = trained.card.ink_fill {
        (pixels, blank) = trained.drawings(&pixels, fill)?;
    }
    let probabilities = trained.probabilities(&pixels)?;
    let card = &trained.card;
    let names = ClassNames::from(card);
    let read = loaded.kept.iter().map(|&id| &paths[id as usize]);
    for (id, (path, row)) in read.zip(probabilities.chunks_exact(card.classes.len())).enumerate() {
        if blank[id] {
            context.ui.result(format_args!("{}  none (there is no ink)\n", printable(&path.display().to_string())));
            context.ui.json(&serde_json::json!({ "path": path, "labels": [], "probabilities": null }));
            continue;
        }
        let passed = passed(card, row);
        context.ui.result(format_args!(
            "{}  {}\n",
            printable(&path.display().to_string()),
            text(card, row, &passed, &names)
        ));
        context.ui.json(&serde_json::json!({
            "path": path,
            "labels": passed.iter().map(|&class| &card.classes[class].label).collect::<Vec<_>>(),
            "probabilities": card.labels().zip(row).collect::<std::collections::BTreeMap<_, _>>(),
        }));
    }
    Ok(())
}

/// Every image that is named, or lies in a folder that is.
fn paths(args: &PredictArgs) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for path in &args.images {
        if !path.exists() {
            return Err(Problem::failure(format!("there is no image or folder `{}`", path.display()))
                .hint("name images, or folders that hold some")
                .into());
        }
        let found = find_images(path)?;
        if found.is_empty() {
            return Err(Problem::failure(format!("there are no images in `{}`", path.display()))
                .hint("name images, or folders that hold some")
                .into());
        }
        paths.extend(found);
    }
    Ok(paths)
}

/// Classes above their thresholds, the most probable first.
fn passed(card: &ModelCard, row: &[f32]) -> Vec<usize> {
    let mut passed: Vec<usize> = (0..row.len()).filter(|&class| row[class] > card.classes[class].threshold).collect();
    passed.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
    passed
}

fn text(card: &ModelCard, row: &[f32], passed: &[usize], names: &ClassNames) -> String {
    let show = |class: usize| format!("{} {:.4}", names.show(&card.classes[class].label), row[class]);
    if !passed.is_empty() {
        return passed.iter().map(|&class| show(class)).collect::<Vec<_>>().join(", ");
    }
    let best = (0..row.len()).reduce(|best, class| if row[class] > row[best] { class } else { best });
    best.map_or_else(String::new, |best| format!("none (most probable: {})", show(best)))
}
