//! What is to be looked at: matrix, gallery, map, sample.

use super::encode::{data_uri, escape, overlay};
use super::record::Record;
use crate::error::Result;
use crate::picture::Picture;
use crate::run_folder::{GalleryImage, Interpretation, Prediction};
use crate::scores::{Answers, Confusion};
use crate::text::digits;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Images with the highest loss that are shown.
const TOP: usize = 18;
/// Pairs that are listed, and images of each.
const PAIRS: usize = 12;
const EACH: usize = 3;
/// Characters of a label in the map.
const SIGN: usize = 3;

/// The matrix and the pairs that are confused most.
pub(super) fn confusion(record: &Record, answers: &Answers<'_>) -> Result<String> {
    let Some(found) = answers.confusion(Confusion::READABLE) else { return Ok(String::new()) };
    let names: Vec<String> = found.labels.iter().map(|label| escape(record.names.short(label))).collect();
    let no_class = record.names.no_class();
    let cut = match found.n_classes {
        n if n > found.labels.len() => format!(
            " Of {n} classes, the {} that are confused most are shown, without what they were taken for outside of them.",
            found.labels.len()
        ),
        _ => String::new(),
    };
    let mut html = format!(
        "<p>Rows are what the images are, columns the class that the model found most probable, or “{no_class}” where none passed its threshold. \
         A perfect model fills the diagonal alone; an image that got several labels is there by the first of them.{cut}</p><div class=scroll><table class=matrix><thead><tr><th>true</th>",
    );
    html.extend(names.iter().map(|name| format!("<th scope=col title=\"{name}\">{name}</th>")));
    let _ = write!(html, "<th scope=col>{no_class}</th></tr></thead><tbody>");
    for (truth, counts) in found.counts.iter().enumerate() {
        let total = counts.iter().sum::<usize>().max(1) as f64;
        let name = escape(&record.names.show(&found.labels[truth]));
        let _ = write!(html, "<tr><th scope=row title=\"{name}\">{name}</th>");
        for (said, &count) in counts.iter().enumerate() {
            let _ = match (count, said == truth) {
                (0, _) => write!(html, "<td class=zero>0</td>"),
                (_, true) => {
                    let depth = 0.10 + 0.42 * count as f64 / total;
                    write!(html, "<td class=ok style=\"background:rgba(var(--heat),{depth:.2})\">{count}</td>")
                }
                (_, false) => write!(html, "<td class=err>{count}</td>"),
            };
        }
        html += "</tr>";
    }
    html += "</tbody></table></div>";
    html += &pairs(record, answers);
    Ok(html)
}

fn pairs(record: &Record, answers: &Answers<'_>) -> String {
    let pairs = answers.most_confused(1).unwrap_or_default();
    if pairs.is_empty() {
        return "<p>Nothing was taken for anything else.</p>".into();
    }
    let gallery = record.gallery();
    let mut html = String::from(
        "<h3>Most confused</h3><div class=scroll><table><thead><tr><th>is</th><th>was taken for</th><th>images</th>\
         <th class=left>examples</th></tr></thead><tbody>",
    );
    for pair in pairs.iter().take(PAIRS) {
        let truth = escape(&record.names.show(&pair.truth));
        let said = pair
            .predicted
            .as_ref()
            .map_or_else(|| record.names.no_class().into(), |label| escape(&record.names.show(label)));
        let thumbs: String = pair
            .rows
            .iter()
            .filter_map(|row| gallery.get(row))
            .take(EACH)
            .map(|(image, png)| {
                format!("<img src=\"{}\" alt=\"{truth} taken for {said}, {}\">", data_uri(png), escape(&image.path))
            })
            .collect();
        let _ = write!(
            html,
            "<tr><th>{truth}</th><td>{said}</td><td>{}</td><td class=thumbs-cell><div class=thumbs>{thumbs}</div></td></tr>",
            pair.count
        );
    }
    html += "</tbody></table></div>";
    if pairs.len() > PAIRS {
        let _ = write!(html, "<p class=soft>and {} more pairs</p>", pairs.len() - PAIRS);
    }
    html
}

/// The images with the highest loss, with what the model looked at.
pub(super) fn gallery(record: &Record, answers: &Answers<'_>) -> Result<String> {
    let gallery = record.gallery();
    let Some(found) = record.interpretation.as_ref().filter(|found| !found.gallery.is_empty()) else {
        return Ok(String::new());
    };
    let mut html = format!(
        "<p>The images of the highest loss. To the left as the model sees it, to the right where it looked for the class that it \
         found most probable: bright is where its layer <code>{}</code> spoke for it (Grad-CAM). Some are hard to read for \
         people too, some are labelled wrong.</p>",
        escape(&found.cam_layer)
    );
    let lost =
        found.gallery.iter().filter(|image| record.row(&image.path).is_some_and(|row| !gallery.contains_key(&row)));
    let lost: Vec<String> = lost.map(|image| format!("<code>{}</code>", escape(&image.file))).collect();
    if !lost.is_empty() {
        let note = format!("<p class=bad>Missing or damaged, and left out: {}.</p>", lost.join(", "));
        html += &note;
    }
    html += "<div class=gallery>";
    for loss in answers.top_losses(TOP) {
        if let Some((image, png)) = gallery.get(&loss.row) {
            html += &card(record, answers, (loss.row, loss.loss), image, png)?;
        }
    }
    Ok(html + "</div>")
}

fn card(
    record: &Record,
    answers: &Answers<'_>,
    (row, loss): (usize, f64),
    image: &GalleryImage,
    png: &[u8],
) -> Result<String> {
    let prediction = &answers.table().rows()[row];
    let show = |classes: &[usize]| match classes {
        [] => record.names.no_class().to_owned(),
        _ => classes.iter().map(|&c| record.names.show(&answers.table().classes()[c])).collect::<Vec<_>>().join(", "),
    };
    let (truth, said) = (escape(&show(&prediction.targets)), escape(&show(answers.passed(row))));
    let right = prediction.targets == answers.passed(row);
    let tone = if right { "good" } else { "bad" };
    let verdict = if right { format!("{truth}, rightly") } else { format!("said {said}") };
    let heat = match Picture::from_png(png) {
        Some(picture) => format!(
            "<img class=smooth src=\"{}\" alt=\"where the model looked for {}\">",
            data_uri(&overlay(image, &picture)?),
            escape(&show(&[image.class]))
        ),
        None => String::new(),
    };
    let path = escape(&prediction.path);
    let group =
        prediction.group.as_ref().map_or(String::new(), |g| format!(", {} {}", record.group_word()[0], escape(g)));
    Ok(format!(
        "<figure><div class=imgs><img src=\"{}\" alt=\"{truth}: {path}\">{heat}</div><figcaption><strong>is {truth}</strong>\
         <strong class={tone}>{verdict}</strong>{}<br>loss {loss:.3}{group}</figcaption></figure>",
        data_uri(png),
        probabilities(record, prediction)
    ))
}

/// The most probable classes.
fn probabilities(record: &Record, prediction: &Prediction) -> String {
    let mut classes: Vec<usize> = (0..prediction.probabilities.len()).collect();
    classes.sort_by(|&a, &b| prediction.probabilities[b].total_cmp(&prediction.probabilities[a]));
    let one = |class: &usize| {
        let name = escape(record.names.short(&record.table.classes()[*class]));
        let p = f64::from(prediction.probabilities[*class]);
        format!("<bdi>{name}</bdi> {:.*} %", digits(100.0, 1, &[p]), 100.0 * p)
    };
    classes.iter().take(3).map(one).collect::<Vec<_>>().join(" · ")
}

/// What stands for each class in the map: the label where all are short, else letters, which a key explains.
fn signs(record: &Record) -> Vec<String> {
    let short: Vec<&str> = record.table.classes().iter().map(|label| record.names.short(label)).collect();
    if short.iter().all(|name| (1..=SIGN).contains(&name.chars().count())) {
        return short.into_iter().map(str::to_owned).collect();
    }
    (0..short.len()).map(letters).collect()
}

/// A to Z, then AA, AB, and so on.
pub(super) fn letters(n: usize) -> String {
    let last = char::from(b'A' + (n % 26) as u8);
    if n < 26 { last.into() } else { letters(n / 26 - 1) + &last.to_string() }
}

/// The plane of the embedding, each image as the character of its class.
pub(super) fn embedding(record: &Record) -> String {
    let Some(found) = record.interpretation.as_ref().filter(|found| !found.embedding.is_empty()) else {
        return String::new();
    };
    let points: Vec<_> = found.embedding.iter().filter_map(|image| Some((image, record.row(&image.path)?))).collect();
    let ends = |of: fn(&crate::EmbeddedImage) -> f64| {
        let values = points.iter().map(|(image, _)| of(image));
        values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], v| [low.min(v), high.max(v)])
    };
    let (x, y) = (ends(|image| image.x), ends(|image| image.y));
    let place = |value: f64, [low, high]: [f64; 2], side: f64| {
        12.0 + (value - low) / (high - low).max(f64::MIN_POSITIVE) * (side - 24.0)
    };
    let (width, height) = (860.0, 560.0);
    let classes = record.table.classes();
    let signs = signs(record);
    let colour = |class: usize| format!("hsl({} 62% 50%)", 360 * class / classes.len().max(1));
    let (mut marks, mut seen) = (String::new(), BTreeSet::new());
    for (image, row) in &points {
        let at = (place(image.x, x, width), height - place(image.y, y, height));
        let first = record.table.rows()[*row].targets.first().copied();
        seen.insert(first);
        let (colour, sign) =
            first.map_or(("var(--soft)".into(), "–"), |class| (colour(class), signs[class].as_str()));
        let _ = write!(
            marks,
            "<text x=\"{:.0}\" y=\"{:.0}\" style=\"fill:{colour}\">{}</text>",
            at.0,
            at.1 + 4.0,
            escape(sign)
        );
    }
    let named = |class: &usize| signs[*class] != record.names.short(&classes[*class]);
    let key: String = seen
        .iter()
        .flatten()
        .filter(|class| named(class))
        .map(|&class| {
            let name = escape(&record.names.show(&classes[class]));
            format!("<span><b style=\"color:{}\">{}</b> {name}</span>", colour(class), signs[class])
        })
        .collect();
    let key = if key.is_empty() { key } else { format!("<div class=key>{key}</div>") };
    let without = if seen.contains(&None) { ", – without any" } else { "" };
    let [a, b] = found.explained.map(|share| format!("{:.0} %", 100.0 * share));
    format!(
        "<p>{n} of the images that judge, each drawn as its true label (the first of several{without}), in the plane in which the model's last features (<code>{}</code>) \
         vary most. Labels that lie together look alike to the model. The plane shows {a} and {b} of the variation, so what overlaps \
         here may still be apart.</p>{key}<figure class=map><svg viewBox=\"0 0 {width} {height}\" role=img aria-label=\"Map of the validation images\" \
         text-anchor=middle><title>Map of the validation images by the two first principal components</title>{marks}</svg></figure>",
        escape(&found.embedding_layer),
        n = points.len()
    )
}

/// The sample of augmented training images.
pub(super) fn augmented(record: &Record) -> String {
    Interpretation::augmented(&record.run).map_or(String::new(), |png| {
        format!(
            "<p>Training images after random cropping and warping, as the model saw them in its first epoch. If you cannot \
             read the label from the picture, neither can the model.</p><figure class=scrolls><img class=wide src=\"{}\" alt=\"A grid of augmented training images \
             with their labels\"></figure>",
            data_uri(&png)
        )
    })
}
