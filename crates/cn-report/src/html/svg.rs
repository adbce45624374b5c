//! Charts as SVG: text stays text, colours follow the page.

use super::encode::escape;
use std::fmt::Write;

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 66.0;
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

#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    #[default]
    Linear,
    Log,
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
    x: [f64; 2],
    y: [f64; 2],
    log_y: Scale,
}

impl Frame {
    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let share = |value: f64, [low, high]: [f64; 2]| (value - low) / (high - low);
        let (y, range) = match self.log_y {
            Scale::Linear => (y, self.y),
            Scale::Log => (y.log10(), self.y.map(f64::log10)),
        };
        (LEFT + share(x, self.x) * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - share(y, range) * (HEIGHT - TOP - BOTTOM))
    }
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
        x.is_finite() && y.is_finite() && (self.log_y == Scale::Linear || y > 0.0)
    }

    fn frame(&self) -> Option<Frame> {
        let points = || self.lines.iter().flat_map(|line| &line.points).filter(|point| self.shown(point));
        points().next()?;
        let ends = |values: &mut dyn Iterator<Item = f64>| {
            values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], v| [low.min(v), high.max(v)])
        };
        let x = self.x_range.unwrap_or_else(|| widened(ends(&mut points().map(|p| p.0)), 0.0));
        let y = ends(&mut points().map(|p| p.1));
        let y = self.y_range.unwrap_or_else(|| match self.log_y {
            Scale::Linear => widened(y, 0.06),
            Scale::Log => [y[0] / 1.3, y[1] * 1.3],
        });
        Some(Frame { x, y, log_y: self.log_y })
    }

    fn axes(&self, frame: &Frame, svg: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let ticks = match self.log_y {
            Scale::Linear => round_values(frame.y),
            Scale::Log => decades(frame.y),
        };
        for value in ticks {
            let (_, y) = frame.at((frame.x[0], value));
            let text = label(value, frame.y[1] - frame.y[0]);
            let _ = write!(svg, "<path class=grid d=\"M{LEFT} {y:.1}H{right}\"/>");
            let _ = write!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=end>{text}</text>", LEFT - 7.0, y + 4.0);
        }
        // Epochs and steps are counted: nothing lies between them.
        let counted = self.lines.iter().flat_map(|line| &line.points).all(|point| point.0.fract() == 0.0);
        let between = |value: &f64| counted && value.fract() != 0.0;
        for value in round_values(frame.x).into_iter().filter(|value| !between(value)) {
            let (x, _) = frame.at((value, frame.y[1]));
            let text = label(value, frame.x[1] - frame.x[0]);
            let _ = write!(svg, "<path class=axis d=\"M{x:.1} {bottom}v5\"/>");
            let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{}\" text-anchor=middle>{text}</text>", bottom + 18.0);
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

fn widened([low, high]: [f64; 2], share: f64) -> [f64; 2] {
    let room = if high > low { (high - low) * share } else { low.abs().max(1.0) * 0.1 };
    [low - room, high + room]
}

/// Four to eight round values between the ends.
fn round_values([low, high]: [f64; 2]) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|f| f * power).find(|step| *step >= rough).unwrap_or(power);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

/// Powers of ten, and where these are few also their doubles and fives.
fn decades([low, high]: [f64; 2]) -> Vec<f64> {
    let (from, to) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let factors: &[f64] = if to - from > 3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all = (from..=to).flat_map(|e| factors.iter().map(move |f| f * 10f64.powi(e)));
    all.filter(|value| (low..=high).contains(value)).collect()
}

/// A number with as many digits as tell neighbours apart.
fn label(value: f64, span: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if value.abs() < 1e-3 || value.abs() >= 1e6 {
        return format!("{value:.0e}");
    }
    let digits = (1.0 - span.abs().log10()).ceil().clamp(0.0, 6.0) as usize;
    let text = format!("{value:.digits$}", digits = digits.max(if value.abs() < 0.1 { 3 } else { 0 }));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
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
    fn ticks_are_round_and_inside() {
        assert_eq!(round_values([0.0, 10.0]), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(decades([0.5, 20.0]), [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]);
        for (value, span, text) in [(0.25, 0.3, "0.25"), (4.0, 10.0, "4"), (0.985, 0.03, "0.985"), (2e-5, 1.0, "2e-5")]
        {
            assert_eq!(label(value, span), text);
        }
    }

    #[test]
    fn nothing_stands_between_two_epochs() {
        let line = |points| Line { name: "run".into(), points, style: Style::Line };
        let labels =
            |points| Chart { lines: vec![line(points)], ..Chart::default() }.draw().matches("middle>1.").count();
        assert_eq!((labels(vec![(1.0, 3.0), (2.0, 4.0)]), labels(vec![(1.0, 3.0), (1.5, 3.5), (2.0, 4.0)])), (0, 4));
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
