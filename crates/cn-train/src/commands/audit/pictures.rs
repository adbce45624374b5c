//! The images that findings speak of.

use super::Found;
use crate::config::Config;
use crate::data::shown;
use crate::interpret::{rendered, view};
use anyhow::Result;
use cn_data::{Dataset, Pixels};
use cn_report::{AuditPictures, Caption, CopySet, ImageView, Picture, Tile, Tone, grid};
use std::collections::HashMap;

/// Images in a row.
const COLUMNS: usize = 6;
/// Images of a picture, and sets of copies.
const MOST: usize = 36;
const SETS: usize = 12;
/// Crops, each beside its image.
const CROPS: usize = 12;

pub(super) fn all(config: &Config, found: &Found) -> Result<AuditPictures> {
    let records = found.dataset.index().records();
    let id: HashMap<&str, u32> = records.iter().map(|record| record.path.as_str()).zip(0..).collect();
    Ok(AuditPictures {
        odd: odd(found, &id)?,
        copies: copies(found, &id)?,
        labels: labels(found, &id)?,
        crops: crops(config, found)?,
    })
}

/// A picture of these tiles, if there are any.
fn picture(title: &str, tiles: &[Tile<'_>]) -> Result<Option<Picture>> {
    Ok(if tiles.is_empty() { None } else { Some(grid(title, tiles, COLUMNS.min(tiles.len()))?) })
}

fn tile<'a>(pixels: &'a Pixels, id: u32, captions: Vec<Caption>) -> Result<Tile<'a>> {
    let image = pixels.image(id);
    let image = match image.channels {
        1 => ImageView::grey(image.width, image.height, image.pixels)?,
        _ => ImageView::rgb(image.width, image.height, image.pixels)?,
    };
    Ok(Tile { image, captions })
}

fn odd(found: &Found, id: &HashMap<&str, u32>) -> Result<Option<Picture>> {
    let notes = found.audit.odd.iter().take(MOST);
    let pixels = found.seen();
    let tiles = notes.map(|note| tile(pixels, id[note.path.as_str()], vec![note.note.clone().into()]));
    picture("Unlike the rest", &tiles.collect::<Result<Vec<_>>>()?)
}

fn copies(found: &Found, id: &HashMap<&str, u32>) -> Result<Option<Picture>> {
    let mut sets: Vec<(usize, &CopySet)> = found.audit.copies.iter().enumerate().collect();
    sets.sort_by_key(|(_, set)| std::cmp::Reverse((set.contradicts, set.leaks)));
    let mut tiles = Vec::new();
    for (number, set) in sets.into_iter().take(SETS) {
        for image in set.images.iter().take(COLUMNS) {
            let tone = if set.contradicts || set.leaks { Tone::Wrong } else { Tone::Right };
            let text = format!("{}: {} ({})", number + 1, image.labels, image.part);
            tiles.push(tile(found.seen(), id[image.path.as_str()], vec![Caption { text, tone }])?);
        }
    }
    picture("The same number, the same picture", &tiles)
}

fn labels(found: &Found, id: &HashMap<&str, u32>) -> Result<Option<Picture>> {
    let Some(labels) = &found.audit.labels else { return Ok(None) };
    let mut tiles = Vec::new();
    for suspect in labels.suspects.iter().filter(|suspect| suspect.margin < 0.0).take(MOST) {
        // Predictions may speak of images that are no longer there.
        let Some(&id) = id.get(suspect.path.as_str()) else { continue };
        let label = Caption { text: format!("labelled {}", suspect.label), tone: Tone::Wrong };
        let model = format!("model: {}", suspect.suggested).into();
        tiles.push(tile(found.dataset.pixels(), id, vec![label, model])?);
    }
    picture("Labels that the model contradicts", &tiles)
}

/// Images that lose the most, each beside what the model is shown of it.
fn crops(config: &Config, found: &Found) -> Result<Option<Picture>> {
    let dataset: &Dataset = &found.dataset;
    let cut = &found.cut[..found.cut.len().min(CROPS)];
    let ids: Vec<u32> = cut.iter().map(|(id, _)| *id).collect();
    if ids.is_empty() {
        return Ok(None);
    }
    let drawn = rendered(config, dataset, &ids, &config.train_policy(dataset.pixels().ground())?)?;
    let mut tiles = Vec::new();
    for (&(id, kept), pixels) in cut.iter().zip(&drawn) {
        let labels = shown(dataset, &dataset.index().records()[id as usize].labels);
        tiles.push(tile(dataset.pixels(), id, vec![labels.into()])?);
        let text = format!("{:.0} % of the ink is left", 100.0 * kept);
        tiles.push(Tile {
            image: view(config.channels, config.image_size, pixels)?,
            captions: vec![Caption { text, tone: Tone::Wrong }],
        });
    }
    picture("Before and after the augmentation", &tiles)
}
