//! Charts as SVG: text stays text, colours follow the page.

use super::encode::escape;
use crate::picture::{Axis, Scale};
use std::fmt::Write;

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 270.0;
/// Room for labels of eight digits beside the title of the axis.
const LEFT: f64 = 78.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 42.0;

/// A chart of lines.
#[derive(Default)]
pub(super) struct Chart<'a> {
    /// What it shows, for those who do not see it.
    pub(super) title: String,
    pub(super) x_label: &'a str,
    pub(super) y_label: &'a str,
    pub(super) log_y: Scale,
    /// Ends of y, where they are not those of the values.
    pub(super) y_range: Option<[f64; 2]>,
    pub(super) x_range: Option<[f64; 2]>,
    pub(super) lines: Vec<Line>,
    /// A diagonal from corner to corner.
    pub(super) diagonal: Option<[f64; 2]>,
}

/// One line; after six, colours come again.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    /// Draws the points alone.
    pub(super) style: Style,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Line,
    LineWithDots,
    Dots,
}

/// From values to places.
struct Frame {
    x: Axis,
    y: Axis,
}

impl Frame {
    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (from_left(self.x.position(x)), from_top(self.y.position(y)))
    }
}

fn from_left(position: f64) -> f64 {
    LEFT + position * (WIDTH - LEFT - RIGHT)
}

fn from_top(position: f64) -> f64 {
    HEIGHT - BOTTOM - position * (HEIGHT - TOP - BOTTOM)
}

impl Chart<'_> {
    /// The `<svg>`, with a key above it where there are several lines.
    pub(super) fn draw(&self) -> String {
        let Some(frame) = self.frame() else { return "<p class=soft>No finite values to draw.</p>".into() };
        let mut svg = String::new();
        if self.lines.len() > 1 {
            svg += "<div class=key>";
            for (i, line) in self.lines.iter().enumerate() {
                let _ = write!(
                    svg,
                    "<span><i style=\"background:var(--c{})\"></i>{}</span>",
                    i % 6 + 1,
                    escape(&line.name)
                );
            }
            svg += "</div>";
        }
        let title = escape(&self.title);
        let _ =
            write!(svg, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img aria-label=\"{title}\"><title>{title}</title>");
        self.axes(&frame, &mut svg);
        if let Some([low, high]) = self.diagonal {
            let ((x0, y0), (x1, y1)) = (frame.at((low, low)), frame.at((high, high)));
            let _ = write!(svg, "<path class=dash d=\"M{x0:.1} {y0:.1}L{x1:.1} {y1:.1}\"/>");
        }
        self.lines.iter().enumerate().for_each(|(i, line)| self.line(&frame, i % 6, line, &mut svg));
        svg + "</svg>"
    }

    fn shown(&self, &(x, y): &(f64, f64)) -> bool {
        Scale::Linear.shows(x) && self.log_y.shows(y)
    }

    fn frame(&self) -> Option<Frame> {
        let points = || self.lines.iter().flat_map(|line| &line.points).filter(|point| self.shown(point));
        let fixed = |range: Option<[f64; 2]>| range.map(|[low, high]| Axis::between(low, high));
        let x = Axis::new(Scale::Linear, points().map(|point| point.0), 0.0)?;
        let y = Axis::new(self.log_y, points().map(|point| point.1), 0.06)?;
        Some(Frame { x: fixed(self.x_range).unwrap_or(x), y: fixed(self.y_range).unwrap_or(y) })
    }

    fn axes(&self, frame: &Frame, svg: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in frame.y.ticks().into_iter().filter(|tick| !tick.label.is_empty()) {
            let y = from_top(tick.position);
            let _ = write!(svg, "<path class=grid d=\"M{LEFT} {y:.1}H{right}\"/>");
            let _ =
                write!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=end>{}</text>", LEFT - 7.0, y + 4.0, tick.label);
        }
        for tick in frame.x.ticks() {
            let x = from_left(tick.position);
            let _ = write!(svg, "<path class=axis d=\"M{x:.1} {bottom}v5\"/>");
            let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{}\" text-anchor=middle>{}</text>", bottom + 18.0, tick.label);
        }
        let _ = write!(svg, "<path class=axis d=\"M{LEFT} {bottom}H{right}\"/>");
        let middle = f64::midpoint(LEFT, right);
        let x_label = escape(self.x_label);
        let _ = write!(svg, "<text x=\"{middle:.0}\" y=\"{}\" text-anchor=middle>{x_label}</text>", HEIGHT - 6.0);
        let centre = f64::midpoint(TOP, bottom);
        let y_label = escape(self.y_label);
        let _ = write!(
            svg,
            "<text transform=\"translate(11 {centre:.0}) rotate(-90)\" text-anchor=middle>{y_label}</text>"
        );
    }

    fn line(&self, frame: &Frame, colour: usize, line: &Line, svg: &mut String) {
        let points: Vec<_> =
            line.points.iter().filter(|point| self.shown(point)).map(|&point| frame.at(point)).collect();
        if line.style != Style::Dots {
            let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
            let _ = write!(svg, "<path class=l{colour} d=\"M{}\"/>", path.join("L"));
        }
        if line.style != Style::Line {
            let radius = if line.style == Style::Dots { 2.6 } else { 3.4 };
            for (x, y) in points {
                let _ = write!(svg, "<circle class=d{colour} cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"/>");
            }
        }
    }
}

/// A bar for each of many things, lying, with its name and value.
pub(super) fn bars(title: &str, rows: &[(String, f64, String)]) -> String {
    let (line, name, value) = (20.0, 74.0, 92.0);
    let height = rows.len() as f64 * line + 4.0;
    let title = escape(title);
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=img aria-label=\"{title}\"><title>{title}</title>");
    let room = WIDTH - name - value;
    for (i, (label, share, text)) in rows.iter().enumerate() {
        let y = i as f64 * line;
        let width = (share.clamp(0.0, 1.0) * room).max(1.0);
        let _ = write!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=end>{}</text>", name - 8.0, y + 14.0, escape(label));
        let _ =
            write!(svg, "<rect class=d0 x=\"{name}\" y=\"{}\" width=\"{width:.1}\" height=\"12\" rx=\"2\"/>", y + 4.0);
        let _ = write!(svg, "<text x=\"{:.1}\" y=\"{}\">{}</text>", name + width + 6.0, y + 14.0, escape(text));
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stands_between_two_epochs() {
        let line = |points| Line { name: "run".into(), points, style: Style::Line };
        let labels =
            |points| Chart { lines: vec![line(points)], ..Chart::default() }.draw().matches("middle>1.").count();
        assert_eq!((labels(vec![(1.0, 3.0), (2.0, 4.0)]), labels(vec![(1.0, 3.0), (1.5, 3.5), (2.0, 4.0)])), (0, 5));
    }

    #[test]
    fn a_chart_has_a_title_and_one_path_a_line() {
        let line = |style| Line { name: "<a>".into(), points: vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)], style };
        let chart =
            Chart { title: "loss".into(), lines: vec![line(Style::Line), line(Style::Dots)], ..Chart::default() };
        let svg = chart.draw();
        assert!(svg.contains("<title>loss</title>") && svg.contains("&lt;a&gt;") && !svg.contains("NaN"));
        assert_eq!(svg.matches("class=l0").count(), 1);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(Chart::default().draw().contains("No finite values"));
    }
}
