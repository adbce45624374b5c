//! The numbers, in words and tables.

use super::encode::escape;
use super::record::Record;
use super::svg::{Chart, Line, Style, bars};
use super::{percent, percents};
use crate::scores::{Answers, Calibration};
use crate::text::{Quality, Tuning};
use crate::text::{digits, share};
use std::fmt::Write;

/// The title, one sentence that says it all, and the cards.
pub(super) fn headline(record: &Record, answers: &Answers<'_>, quality: &Quality) -> String {
    let exact = answers.exact_match();
    let (name, arch) = (escape(&record.card.data.name), escape(&record.summary.arch));
    let (size, recipe) = (record.summary.image_size, escape(&record.summary.recipe));
    format!(
        "<header><p class=soft>{arch} · {size} px · recipe “{recipe}” · {when}</p><h1>How well does it read {name}?</h1>\
         <p class=lead>Of {total} images{whose}, it labelled {hits} entirely right: \
         <strong>{share}</strong>.</p><div class=cards>{cards}</div></header>",
        when = escape(record.manifest["started"].as_str().unwrap_or_default().get(..10).unwrap_or_default()),
        total = exact.total,
        whose = whose(record),
        hits = exact.hits,
        share = percent(exact.share()),
        cards = cards(record, answers, quality),
    )
}

/// Whether the model had seen the images that judge, or their groups: what follows on `images`.
fn whose(record: &Record) -> String {
    let [_, groups] = record.group_word();
    let data = &record.summary.data;
    match (data.n_val_seen, data.groups_shared) {
        (0, Some(0)) if !has_own_weights(record) => {
            format!(" that did not train the model, all by {groups} that are not in its training part")
        }
        (0, Some(0)) => format!(" that the model was not trained on, all by {groups} it had never seen"),
        (0, Some(_)) => format!(" that the model was not trained on, by {groups} of which it had seen some"),
        (0, None) => " that the model was not trained on".to_owned(),
        (n, _) => format!(", of which {n} {} trained on", if n == 1 { "was" } else { "were" }),
    }
}

fn cards(record: &Record, answers: &Answers<'_>, quality: &Quality) -> String {
    let counts = answers.counts();
    // Wilson's, where nothing can be drawn differently.
    let ends = quality.intervals.as_ref().map_or(record.summary.val.exact_match_ci95, |set| set.widest().exact_match);
    let interval = format!("95 % interval {}", percents(ends));
    let silent = answers.accuracy_multi_of_silence().share();
    let card = |class: &str, name: &str, value: String, small: String| {
        format!("<div class=\"card{class}\"><span>{name}</span><b>{value}</b><small>{small}</small></div>")
    };
    // Where images have several labels, several answers are as they should be.
    let unclear = match answers.table().is_single_label() {
        true => card(
            "",
            "Unclear",
            (counts.none + counts.several).to_string(),
            format!("images: {} got no label, {} got several", counts.none, counts.several),
        ),
        false => card("", "No answer", counts.none.to_string(), "images got no label at all".into()),
    };
    [
        card(" main", "Exact match", percent(answers.exact_match().share()), interval),
        card("", "Top-1", percent(answers.table().top1().share()), "the most probable class is right".into()),
        unclear,
        card(
            "",
            "Calibration error",
            percent(quality.calibration.ece),
            "how far stated confidence is from the share that is right".into(),
        ),
        card(
            "",
            "accuracy_multi",
            percent(answers.accuracy_multi().share()),
            format!("flatters: saying nothing scores {}", percent(silent)),
        ),
    ]
    .concat()
}

/// Who is on both sides, and what the intervals mean.
pub(super) fn meaning(record: &Record, quality: &Quality) -> String {
    let data = &record.summary.data;
    let [one, many] = record.group_word();
    let shared = match data.groups_shared {
        // Whoever made them, the model has seen them.
        _ if data.n_val_seen > 0 => String::new(),
        Some(0) if !has_own_weights(record) => format!(
            "<p><strong>No {one} is on both sides.</strong> But the run began with the weights of another model, which may \
             have seen some of them.</p>"
        ),
        Some(0) => format!(
            "<p><strong>No {one} is on both sides.</strong> The {n} images that judge come from {many} whose hand the model \
             never saw, so the result is what to expect of a new {one}.</p>",
            n = data.n_val
        ),
        Some(n) => format!(
            "<p><strong>{n} {many} are on both sides.</strong> The images that judge were not trained on, but others by the \
             same {many} were. The model knows these hands already, so the result says little about a new {one}; expect \
             less there. <code>--split group</code> keeps {many} apart.</p>"
        ),
        None => "<p>The data do not say who made which image, so nobody can tell whether the same hand is on both sides. If \
                 it is, the result says little about a new one.</p>"
            .into(),
    };
    let seen = match data.n_val_seen {
        0 => String::new(),
        n => format!(
            "<p><strong>{n} of the {} images that judge were trained on,</strong> as a copy in the training part or by the \
             weights that the run began with. The numbers flatter the model.</p>",
            data.n_val
        ),
    };
    let mut html = format!("<div class=note>{seen}{shared}</div>");
    if let Some(found) = &quality.intervals {
        html += &intervals(record, found);
    }
    html += "<p class=soft>Exact match: the whole set of labels is right, none missing and none too many. It describes the \
             weights of the last step, not the epoch that happened to be best.</p>";
    html
}

/// Whether nothing but this run, and weights that saw no such images, made the model.
fn has_own_weights(record: &Record) -> bool {
    matches!(&record.summary.weights[..], "none" | "glyphs" | "imagenet")
}

/// What another sample might have given.
fn intervals(record: &Record, found: &crate::Intervals) -> String {
    let [one, many] = record.group_word();
    let mut html = String::from(
        "<div class=scroll><table><thead><tr><th>95 % interval, if another sample were drawn</th><th>exact match</th>\
             <th>top-1</th><th>accuracy_multi</th></tr></thead><tbody>",
    );
    let ends = |set: &crate::IntervalSet| [set.exact_match, set.top1, set.accuracy_multi];
    let is_wider = |[a, b]: [f64; 2], [c, d]: [f64; 2]| b - a > d - c;
    let mut row = |name: String, own: &crate::IntervalSet, other: Option<&crate::IntervalSet>| {
        let other = other.map(ends);
        let cell = |(i, own): (usize, [f64; 2])| match (other, own) {
            // Whatever is drawn of answers that are all alike is the same.
            (_, [1.0, 1.0]) => "<td>all are right</td>".to_owned(),
            (_, [0.0, 0.0]) => "<td>all are wrong</td>".to_owned(),
            (Some(other), _) if is_wider(own, other[i]) && percents(own) != percents(other[i]) => {
                format!("<td><b>{}</b></td>", percents(own))
            }
            _ => format!("<td>{}</td>", percents(own)),
        };
        let cells: String = ends(own).into_iter().enumerate().map(cell).collect();
        let _ = write!(html, "<tr><th>{name}</th>{cells}</tr>");
    };
    let others = match record.summary.data.groups_shared {
        Some(_) => format!("of other images by the same {many}"),
        None => "of other images like these".to_owned(),
    };
    row(others, &found.images, found.groups.as_ref());
    if let Some(set) = &found.groups {
        row(format!("of other {many} ({})", found.units_text(many)), set, Some(&found.images));
    }
    html += "</tbody></table></div>";
    if let Some(set) = &found.groups {
        let factor = set.width() / found.images.width();
        let verdict = match factor {
            f if f > 1.05 => {
                format!("For the exact match it is {f:.1} times as wide here: errors come together in a few of them.")
            }
            f if f < 0.95 => format!(
                "But {} {many} are few to draw from, and for the exact match it is the narrower here: quote the first.",
                set.units
            ),
            _ => "For the exact match both are about as wide here: errors are spread evenly.".into(),
        };
        let _ = write!(
            html,
            "<p>Images by one {one} are easy or hard together, so a handful of {many} tells less than as many \
             unrelated images would. The second line takes that into account. {verdict} The wider of the two, in bold, \
             is the one to quote.</p>"
        );
    }
    html
}

/// Precision and the rest, with the thresholds.
pub(super) fn classes(record: &Record, answers: &Answers<'_>, quality: &Quality) -> String {
    let share = |value: Option<f64>| value.map_or("–".to_owned(), share);
    let tuned = quality.tuning.as_ref();
    let mut html = String::from(
        "<p>Precision: of the images given this label, the share that is right. Recall: of the images of this class, the \
         share that was found. Average precision and ROC AUC judge the order of the probabilities, whatever the threshold.</p>\
         <div class=scroll><table><thead><tr><th>class</th><th>precision</th><th>recall</th><th>F1</th><th>avg. precision</th>\
         <th>ROC AUC</th><th>images</th><th>threshold</th>",
    );
    html += if tuned.is_some() { "<th>tuned</th>" } else { "" };
    html += "</tr></thead><tbody>";
    let thresholds = record.card.classes.iter().map(|class| class.threshold);
    let rankings = answers.table().class_rankings();
    for (i, ((score, ranking), threshold)) in answers.class_scores().iter().zip(&rankings).zip(thresholds).enumerate() {
        let ranking = &ranking.ranking;
        let cells = [score.precision, score.recall, score.f1, ranking.average_precision, ranking.roc_auc].map(share);
        let cells: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
        let name = escape(&record.names.show(&score.label));
        let own = tuned
            .and_then(|tuned| tuned.thresholds.get(i))
            .map_or(String::new(), |t| format!("<td>{}</td>", threshold_text(t.threshold)));
        let _ = write!(html, "<tr><th>{name}</th>{cells}<td>{}</td><td>{threshold}</td>{own}</tr>", score.support);
    }
    for (name, average) in
        [("mean of the classes", quality.averages.macro_), ("all answers together", quality.averages.micro)]
    {
        let cells = [
            Some(average.precision),
            Some(average.recall),
            Some(average.f1),
            average.ranking.average_precision,
            average.ranking.roc_auc,
        ];
        let cells: String = cells.map(share).iter().map(|cell| format!("<td>{cell}</td>")).collect();
        let blank = if tuned.is_some() { "<td></td>" } else { "" };
        let _ =
            write!(html, "<tr><th>{name}</th>{cells}<td>{}</td><td></td>{blank}</tr>", answers.table().rows().len());
    }
    html += "</tbody></table></div>";
    html += &notes(answers, quality);
    if !answers.table().is_single_label() {
        html += &two_by_two(record, answers);
    }
    html
}

/// Three digits behind the point, or of what is smaller than these show.
fn threshold_text(threshold: f32) -> String {
    if threshold < 0.0095 { format!("{threshold:.1e}") } else { format!("{threshold:.3}") }
}

/// What is to be known of the means and the tuned thresholds.
fn notes(answers: &Answers<'_>, quality: &Quality) -> String {
    let mut html = String::new();
    if quality.averages.n_unranked > 0 {
        let _ = write!(
            html,
            "<p class=soft>Classes without a value: {} of {}. Where none of the images, or all of them, are of a class, \
             nothing can be ranked; the means of average precision and ROC AUC are over the others.</p>",
            quality.averages.n_unranked,
            answers.class_scores().len()
        );
    }
    if let Some(tuned) = &quality.tuning {
        let _ = write!(
            html,
            "<p class=soft>The tuned thresholds give each class its best F1 on {} images of the training part; with them the exact \
             match here would be {} instead of {}. They are not used above. The model was trained on those images and is surer \
             of them than of new ones.</p>",
            tuned.n_images,
            percent(tuned.exact_match.share()),
            percent(answers.exact_match().share())
        );
    }
    html
}

fn two_by_two(record: &Record, answers: &Answers<'_>) -> String {
    let mut html = String::from(
        "<h3>Yes and no, label by label</h3><div class=scroll><table><thead><tr><th>class</th><th>is it, said so</th>\
         <th>is it, missed</th><th>is not, said so</th><th>is not, left out</th></tr></thead><tbody>",
    );
    for score in answers.class_scores() {
        let name = escape(&record.names.show(&score.label));
        let counts = [score.true_positive, score.false_negative, score.false_positive, score.true_negative];
        let cells: String = counts.iter().map(|count| format!("<td>{count}</td>")).collect();
        let _ = write!(html, "<tr><th>{name}</th>{cells}</tr>");
    }
    html + "</tbody></table></div>"
}

/// Groups that are drawn: beyond, the best ones are left out.
const MOST_GROUPS: usize = 200;

pub(super) fn groups_title(record: &Record) -> &'static str {
    if record.group_word()[0] == "writer" { "Writer by writer" } else { "Group by group" }
}

/// Exact match of each writer.
pub(super) fn groups(record: &Record, answers: &Answers<'_>) -> String {
    let scores = answers.group_scores();
    let [one, many] = record.group_word();
    let (Some(worst), Some(best)) = (scores.first(), scores.last()) else { return String::new() };
    let perfect = scores.iter().filter(|group| group.exact.hits == group.exact.total).count();
    let rows: Vec<_> = scores
        .iter()
        .take(MOST_GROUPS)
        .map(|group| {
            let share = group.exact.share();
            let digits = digits(100.0, 1, &[share]);
            (group.group.clone(), share, format!("{:.digits$} % of {}", 100.0 * share, group.exact.total))
        })
        .collect();
    let half = rows.len().div_ceil(2).max(10).min(rows.len());
    let title = format!("Exact match of each {one}, the hardest first");
    let charts: String = rows.chunks(half).map(|part| format!("<figure>{}</figure>", bars(&title, part))).collect();
    let cut = if scores.len() > MOST_GROUPS { format!(" The {MOST_GROUPS} hardest are shown.") } else { String::new() };
    format!(
        "<p>Exact match of each of the {n} {many} that judge, the hardest first: from {} to {}; {perfect} are without any \
         mistake.{cut}</p><div class=pair>{charts}</div>",
        percent(worst.exact.share()),
        percent(best.exact.share()),
        n = scores.len(),
    )
}

/// The reliability curve, before and after a temperature.
pub(super) fn calibration(quality: &Quality) -> String {
    let line = |name: &str, found: &Calibration| Line {
        name: name.into(),
        points: found.bins.iter().map(|bin| (bin.confidence, bin.accuracy)).collect(),
        style: Style::LineWithDots,
    };
    let mut lines = vec![line("as it is", &quality.calibration)];
    let scaled = quality.tuning.as_ref().and_then(|tuned| Some((tuned.n_images, tuned.temperature.as_ref()?)));
    lines.extend(scaled.map(|(_, scaled)| line("with the temperature", &scaled.calibration)));
    let chart = Chart {
        title: "Share of images that are right, by the confidence of the model".into(),
        x_label: "confidence",
        y_label: "share right",
        x_range: Some([0.0, 1.0]),
        y_range: Some([0.0, 1.0]),
        lines,
        diagonal: Some([0.0, 1.0]),
        ..Chart::default()
    };
    let mut rows = String::new();
    for bin in &quality.calibration.bins {
        let range = format!("{:.0} to {:.0} %", 100.0 * bin.low, 100.0 * bin.high);
        let _ = write!(
            rows,
            "<tr><th>{range}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
            bin.count,
            percent(bin.confidence),
            percent(bin.accuracy)
        );
    }
    let unscaled = |tuned: &Tuning| {
        format!(
            "<p>On {} images of the training part no temperature from 1/20 to 20 is best: where the model is right every time, \
             the surest is, which says nothing about new images.</p>",
            tuned.n_images
        )
    };
    let unscaled = || quality.tuning.as_ref().map_or(String::new(), unscaled);
    let temperature = scaled.map_or_else(unscaled, |(n_images, scaled)| {
        let value = scaled.fit.value;
        let verdict = if value > 1.0 { "too sure of itself" } else { "not sure enough" };
        format!(
            "<p>A temperature of {value:.2}, fitted on {} images of the training part, would change the calibration error from {} \
             to {}. Above 1 it makes the model less sure; on those images it was {verdict}. Labels with the highest probability \
             stay the same.</p>",
            n_images,
            percent(quality.calibration.ece),
            percent(scaled.calibration.ece)
        )
    });
    format!(
        "<p>When the model says 90 %, is it right nine times of ten? On the dashed line it would be. Expected calibration error \
         {}, Brier score {:.5}.</p><div class=pair><figure>{}</figure><div><div class=scroll><table><thead><tr><th>confidence</th>\
         <th>images</th><th>mean</th><th>right</th></tr></thead><tbody>{rows}</tbody></table></div></div></div>{temperature}",
        percent(quality.calibration.ece),
        quality.calibration.brier,
        chart.draw()
    )
}
