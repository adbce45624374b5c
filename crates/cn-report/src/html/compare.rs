//! Several runs on one page.

use super::document;
use super::encode::escape;
use super::svg::{Chart, Line, Style};
use crate::compare::{COLUMNS, ComparedRun, compare_charts, compare_warnings};

/// A page with the table and the overlaid curves of `runs`; needs nothing else.
#[must_use]
pub fn compare_page(runs: &[ComparedRun]) -> String {
    let head: String = COLUMNS.iter().map(|name| format!("<th>{name}</th>")).collect();
    let row = |run: &ComparedRun| {
        let cells: String = run.cells().iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        format!("<tr><th>{}</th>{cells}</tr>", escape(&run.name))
    };
    let rows: String = runs.iter().map(row).collect();
    let figure = |chart: &crate::LineChart| {
        let line = |series: &crate::Series| Line {
            name: series.name.clone(),
            points: series.points.clone(),
            style: Style::LineWithDots,
        };
        let lines = chart.series.iter().map(line).collect();
        let title = escape(&chart.title);
        let drawn =
            Chart { title: chart.title.clone(), x_label: "epoch", y_label: &chart.y_label, lines, ..Chart::default() };
        format!("<figure><b>{title}</b>{}</figure>", drawn.draw())
    };
    let figures: String = compare_charts(runs).iter().map(figure).collect();
    let warnings: String = compare_warnings(runs).iter().map(|line| format!("<p>{}</p>", escape(line))).collect();
    let warnings = if warnings.is_empty() { String::new() } else { format!("<div class=note>{warnings}</div>") };
    let title = format!("{} runs compared", runs.len());
    let body = format!(
        "<header><h1>{title}</h1></header>\n<main>{warnings}\
         <div class=scroll><table><thead><tr><th>run</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>\
         <div class=pair>{figures}</div><p class=soft>“Shared” counts the writers or other groups with images on both sides: where \
         there are any, the numbers say little about a new one.</p></main>"
    );
    document(&title, &body)
}
