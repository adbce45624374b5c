//! A run as one HTML file: no network, no scripts, pictures inside.

mod audit;
mod compare;
mod encode;
mod looks;
mod numbers;
mod provenance;
mod record;
mod svg;
mod training;

pub use audit::{AuditPictures, audit_page};
pub use compare::compare_page;

use crate::error::Result;
use crate::picture::{FONT_FILE, chinese};
use crate::run_folder::RunFolder;
use crate::text::digits;
pub(crate) use encode::escape;
use record::Record;
use std::sync::LazyLock;

/// How a page looks, with the font of the pictures for numerals that the reader's machine may have none for. It is the
/// first of the fonts and limited to what it can draw: as a later one, Chromium draws the first of them as an empty box, and
/// for what it lacks it draws nothing.
static STYLE: LazyLock<String> = LazyLock::new(|| {
    let font = encode::base64(FONT_FILE);
    format!(
        "@font-face{{font-family:\"cn numerals\";src:url(data:font/otf;base64,{font}) format(\"opentype\");\
         unicode-range:{}}}{}",
        chinese().map(|c| format!("U+{:X}", u32::from(c))).collect::<Vec<_>>().join(","),
        include_str!("html/style.css")
    )
});

/// A part of the page: the anchor, what the list of contents calls it, and what is in it (nothing, if it is left out).
struct Section {
    id: &'static str,
    title: &'static str,
    body: String,
}

/// The report of a finished run: one page of HTML that needs nothing else.
///
/// Only the run's folder is read; what its `interpret/` lacks is left out of the page.
///
/// # Errors
///
/// If a file of the run is missing or damaged.
pub fn report_page(run: &RunFolder) -> Result<String> {
    let record = Record::read(run)?;
    let answers = record.table.answers(record.card.thresholds()?, record.card.activation)?;
    record.summary.check(&answers, run.predictions())?;
    let quality = record.quality(&answers)?;
    let sections = [
        Section { id: "mean", title: "What the numbers mean", body: numbers::meaning(&record, &quality) },
        Section { id: "classes", title: "Class by class", body: numbers::classes(&record, &answers, &quality) },
        Section { id: "confusion", title: "What is taken for what", body: looks::confusion(&record, &answers)? },
        Section { id: "losses", title: "The worst mistakes", body: looks::gallery(&record, &answers)? },
        Section { id: "groups", title: numbers::groups_title(&record), body: numbers::groups(&record, &answers) },
        Section {
            id: "calibration",
            title: "Can the probabilities be believed?",
            body: numbers::calibration(&quality),
        },
        Section { id: "map", title: "How the model sees the images", body: looks::embedding(&record) },
        Section { id: "data", title: "What is in the data", body: audit::findings(&record) },
        Section { id: "training", title: "How it was trained", body: training::curves(&record) },
        Section { id: "augmented", title: "What it was shown", body: looks::augmented(&record) },
        Section { id: "time", title: "Time and memory", body: training::cost(&record) },
        Section { id: "again", title: "The same again", body: provenance::again(&record) },
    ];
    let sections: Vec<_> = sections.into_iter().filter(|section| !section.body.is_empty()).collect();
    Ok(page(&record, &numbers::headline(&record, &answers, &quality), &sections))
}

fn page(record: &Record, headline: &str, sections: &[Section]) -> String {
    let data = escape(&record.card.data.name);
    let title = format!("{data}: report of a {} run", escape(&record.summary.arch));
    let links: String = sections.iter().map(|s| format!("<a href=\"#{}\">{}</a>", s.id, s.title)).collect();
    let bodies: String = sections
        .iter()
        .map(|s| format!("<section id=\"{}\"><h2>{}</h2>{}</section>\n", s.id, s.title, s.body))
        .collect();
    let licence = provenance::licence(record);
    document(
        &title,
        &format!(
            "{headline}\n<main><nav aria-label=Contents>{links}</nav>\n{bodies}</main>\n<footer>{licence}</footer>"
        ),
    )
}

/// What a page may use: what is in it, and no script, whatever a stranger's run has brought into it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:";

/// A whole page; `title` and `body` are markup.
fn document(title: &str, body: &str) -> String {
    let style = &*STYLE;
    format!(
        "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8>\
         <meta http-equiv=Content-Security-Policy content=\"{POLICY}\">\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <meta name=color-scheme content=\"light dark\"><link rel=icon href=\"data:,\">\
         <title>{title}</title><style>{style}</style></head>\n<body>\n{body}\n</body></html>\n"
    )
}

/// `99.10 %`; a dash for what is no number.
fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.*} %", digits(100.0, 2, &[share]), 100.0 * share) } else { "–".into() }
}

/// `97.1 to 99.3 %`.
fn percents(ends: [f64; 2]) -> String {
    let digits = digits(100.0, 1, &ends);
    format!("{:.digits$} to {:.digits$} %", 100.0 * ends[0], 100.0 * ends[1])
}

#[cfg(test)]
mod tests;
