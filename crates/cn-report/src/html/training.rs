//! How the run went.

use super::record::Record;
use super::svg::{Chart, Line, Style};
use crate::picture::Scale;
use crate::text::clock;
use std::fmt::Write;

fn line(name: &str, points: Vec<(f64, f64)>, style: Style) -> Line {
    Line { name: name.into(), points, style }
}

/// Loss, metrics, learning rate and momentum.
pub(super) fn curves(record: &Record) -> String {
    let epochs = &record.epochs;
    if epochs.is_empty() {
        return String::new();
    }
    let steps =
        |of: fn(&crate::StepRecord) -> f64| record.steps.iter().map(|s| (s.step as f64, of(s))).collect::<Vec<_>>();
    let by_epoch = |of: &dyn Fn(&crate::EpochRecord) -> Option<f64>| {
        epochs.iter().filter_map(|e| Some((e.step as f64, of(e)?))).collect::<Vec<_>>()
    };
    let train = match record.steps.is_empty() {
        true => line("training", by_epoch(&|e| Some(e.train_loss)), Style::LineWithDots),
        false => line("training", steps(|s| s.train_loss), Style::Line),
    };
    let validation = line("validation", by_epoch(&|e| e.val_loss), Style::LineWithDots);
    let chart = |title: &str, y_label: &'static str, log_y: Scale, lines: Vec<Line>| {
        let chart = Chart { title: title.into(), x_label: "optimizer step", y_label, log_y, lines, ..Chart::default() };
        format!("<figure><b>{title}</b>{}</figure>", chart.draw())
    };
    let mut html = String::from("<div class=pair>");
    html += &chart("Loss", "loss", Scale::Log, vec![train, validation]);
    let metric = |name: &str| by_epoch(&|e| e.metrics.get(name));
    let metrics: Vec<_> = [("exact match", metric("exact_match")), ("top-1", metric("top1"))]
        .into_iter()
        .filter(|(_, points)| !points.is_empty())
        .map(|(name, points)| line(name, points, Style::LineWithDots))
        .collect();
    if !metrics.is_empty() {
        html += &chart("On the images that judge", "share", Scale::Linear, metrics);
    }
    if record.steps.is_empty() {
        let lr = by_epoch(&|e| e.lr.last().copied());
        html += &chart(
            "Learning rate at the end of epochs",
            "learning rate",
            Scale::Linear,
            vec![line("", lr, Style::LineWithDots)],
        );
    } else {
        html += &chart("Learning rate", "learning rate", Scale::Linear, vec![line("", steps(|s| s.lr), Style::Line)]);
        html += &chart("Momentum", "momentum", Scale::Linear, vec![line("", steps(|s| s.momentum), Style::Line)]);
    }
    html += "</div>";
    html + &table(record)
}

fn table(record: &Record) -> String {
    let mut html = String::from(
        "<div class=scroll><table><thead><tr><th>epoch</th><th>phase</th><th>training loss</th><th>validation loss</th>\
         <th>exact match</th><th>top-1</th><th>time</th></tr></thead><tbody>",
    );
    for epoch in &record.epochs {
        let number = |value: Option<f64>, digits: usize| value.map_or("–".into(), |v| format!("{v:.digits$}"));
        let (val, exact, top1) = (epoch.val_loss, epoch.metrics.get("exact_match"), epoch.metrics.get("top1"));
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{:.6}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            epoch.epoch.saturating_add(1),
            epoch.phase.saturating_add(1),
            epoch.train_loss,
            number(val, 6),
            number(exact, 4),
            number(top1, 4),
            clock(epoch.seconds)
        );
    }
    html + "</tbody></table></div>"
}

/// Timing and memory.
pub(super) fn cost(record: &Record) -> String {
    let summary = &record.summary;
    let seconds = &summary.seconds;
    let machine = &record.manifest["machine"];
    let cpu = machine["cpu"].as_str().unwrap_or("unknown processor");
    let rows = [
        ("all in all", format!("{:.1} s, from the start of the program to the result", seconds.total)),
        ("training", format!("{:.1} s, {:.0} images a second", seconds.train, summary.train_img_s)),
        ("validation", format!("{:.1} s, {:.0} images a second", seconds.validate, summary.infer_img_s)),
        ("first step", format!("{:.1} s after the start", seconds.to_first_step)),
        ("memory", format!("{} MiB at most", summary.peak_rss_mib)),
        (
            "machine",
            format!("{cpu}, {} threads, {}, {}, {}", summary.threads, summary.isa, summary.precision, summary.device),
        ),
    ];
    let row = |(name, value): &(&str, String)| format!("<dt>{name}</dt><dd>{}</dd>", super::escape(value));
    format!("<dl>{}</dl>", rows.iter().map(row).collect::<String>())
}
