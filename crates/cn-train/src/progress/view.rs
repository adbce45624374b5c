//! What the live view shows, as a function of what is known.

use cn_report::clock;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Widget};

/// Narrowest terminals that the numbers, in place of bars and cut at its edge, and the curves fit into, in columns.
const NARROWEST: u16 = 36;
const NARROWEST_CURVES: u16 = 70;
/// Widest that it becomes.
const WIDEST: u16 = 120;
/// Rows of the bars and numbers, and of the curves below them.
const BARS: u16 = 4;
const CURVES: u16 = 9;
/// Rows of a terminal that stay free above the view.
const FREE: u16 = 6;
/// Columns of a bar's name.
const NAME: usize = 12;
const BAR: usize = 28;
/// Points that a curve keeps.
const POINTS: usize = 240;

const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const TRAIN: Color = Color::Cyan;
const VALIDATION: Color = Color::Yellow;

/// Everything that is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// This epoch, from 1, and how many there are.
    pub(super) epoch: [usize; 2],
    /// Steps of the epoch that are done, and how many there are.
    pub(super) step: [usize; 2],
    /// Images that were validated, and how many there are; `None` while the epoch trains.
    pub(super) validated: Option<[usize; 2]>,
    /// Steps of the run that are done.
    pub(super) steps_done: u64,
    pub(super) img_s: f64,
    /// Seconds since the fit began, and to its end.
    pub(super) elapsed: f64,
    pub(super) left: Option<f64>,
    pub(super) lr: f64,
    pub(super) momentum: f64,
    pub(super) train_loss: Curve,
    pub(super) val_loss: Curve,
    /// The metric that is quoted, epoch by epoch.
    pub(super) metric: Curve,
    pub(super) metric_name: &'static str,
    pub(super) lrs: Curve,
}

/// The points of a curve, and how they are drawn.
type Drawn<'a> = (&'a [(f64, f64)], Color, Marker);

/// Points (step, value) that become fewer as they become many.
#[derive(Clone, Debug, Default)]
pub(super) struct Curve(Vec<(f64, f64)>);

impl Curve {
    /// Adds a point; what is no number is left out.
    pub(super) fn push(&mut self, step: u64, value: f64) {
        if value.is_finite() {
            self.0.push((step as f64, value));
        }
        if self.0.len() > POINTS {
            let mut place = 0;
            self.0.retain(|_| {
                place += 1;
                place % 2 == 1
            });
        }
    }

    fn last(&self) -> Option<f64> {
        self.0.last().map(|point| point.1)
    }
}

impl View {
    /// The frame for a terminal of `rows` x `columns`; `None` where it is too small.
    pub(super) fn frame(&self, rows: u16, columns: u16) -> Option<Buffer> {
        if columns < NARROWEST || rows < BARS + FREE {
            return None;
        }
        let room = rows >= BARS + CURVES + FREE && columns >= NARROWEST_CURVES;
        let curves = if room { CURVES } else { 0 };
        let area = Rect::new(0, 0, columns.min(WIDEST) - 1, BARS + curves);
        let mut buffer = Buffer::empty(area);
        let [bars, charts, help] =
            Layout::vertical([Constraint::Length(BARS - 1), Constraint::Length(curves), Constraint::Length(1)])
                .areas(area);
        for (line, y) in self.lines(columns).into_iter().zip(bars.y..) {
            buffer.set_line(0, y, &line, area.width);
        }
        if curves > 0 {
            let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(charts);
            self.losses(left, &mut buffer);
            self.scores(right, &mut buffer);
        }
        buffer.set_line(0, help.y, &Line::styled("Ctrl-C saves and stops, twice ends at once", DIM), area.width);
        Some(buffer)
    }

    fn lines(&self, columns: u16) -> [Line<'static>; 3] {
        let [epoch, epochs] = self.epoch;
        let [step, steps] = self.step;
        let (name, done, count) = match self.validated {
            Some([n, of]) => ("validation".to_owned(), share(n, of), format!("{n}/{of} images")),
            None => (
                format!("epoch {epoch}/{epochs}"),
                share(step, steps),
                format!("{step}/{steps}  {:.0} images/s", self.img_s),
            ),
        };
        let whole = (epoch.saturating_sub(1) as f64 + share(step, steps)) / epochs.max(1) as f64;
        let left = self.left.map_or_else(String::new, |left| format!(", {} left", clock(left)));
        let time = format!("{:.0} %  {}{left}", 100.0 * whole, clock(self.elapsed));
        let loss = self.train_loss.last().map_or_else(|| "-".into(), |loss| format!("{loss:.4}"));
        let numbers = vec![
            Span::styled(format!("{:<NAME$}", "now"), DIM),
            format!("loss {loss}   learning rate {:.2e}   momentum {:.3}", self.lr, self.momentum).into(),
        ];
        // Numbers say more than a long bar.
        let length = BAR.saturating_sub(usize::from(NARROWEST_CURVES.saturating_sub(columns)));
        [bar(name, length, done, count), bar("run".into(), length, whole, time), Line::from(numbers)]
    }

    fn losses(&self, area: Rect, buffer: &mut Buffer) {
        let log =
            |curve: &Curve| curve.0.iter().filter(|p| p.1 > 0.0).map(|&(x, y)| (x, y.log10())).collect::<Vec<_>>();
        let (train, val) = (log(&self.train_loss), log(&self.val_loss));
        let title = Line::from(vec![
            Span::styled("loss ", Style::new().add_modifier(Modifier::BOLD)),
            Span::styled("training ", TRAIN),
            Span::styled("validation", VALIDATION),
        ]);
        let curves = [(&train[..], TRAIN, Marker::Braille), (&val[..], VALIDATION, Marker::Dot)];
        self.chart(title, &curves, |y| short(10f64.powf(y)), area, buffer);
    }

    /// The metric once there is one, the learning rate until then.
    fn scores(&self, area: Rect, buffer: &mut Buffer) {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        if self.metric.0.is_empty() {
            let title = Line::styled("learning rate", bold);
            self.chart(title, &[(&self.lrs.0, TRAIN, Marker::Braille)], |y| format!("{y:.0e}"), area, buffer);
            return;
        }
        let last = self.metric.last().map_or_else(String::new, |value| format!(" {value:.4}"));
        let title = Line::from(vec![Span::styled(self.metric_name, bold), Span::styled(last, VALIDATION)]);
        self.chart(title, &[(&self.metric.0, VALIDATION, Marker::Dot)], |y| format!("{y:.3}"), area, buffer);
    }

    fn chart(
        &self,
        title: Line<'_>,
        curves: &[Drawn<'_>],
        label: impl Fn(f64) -> String,
        area: Rect,
        buffer: &mut Buffer,
    ) {
        buffer.set_line(area.x, area.y, &title, area.width);
        let area = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
        let values = || curves.iter().flat_map(|(points, ..)| points.iter().map(|point| point.1));
        let (low, high) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)));
        if !low.is_finite() {
            return;
        }
        // A single value still needs a span to stand in.
        let room = ((high - low) * 0.05).max(high.abs() * 1e-3).max(1e-9);
        // Nothing below 0 where nothing is.
        let floor = if low >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
        let (low, high) = ((low - room).max(floor), high + room);
        let sets = curves.iter().map(|(points, colour, marker)| {
            let kind = if points.len() > 1 { GraphType::Line } else { GraphType::Scatter };
            Dataset::default().data(points).graph_type(kind).marker(*marker).style(*colour)
        });
        let y_axis = Axis::default().bounds([low, high]).labels([label(low), label(high)]).style(DIM);
        let last = self.steps_done.max(1);
        let x_axis = Axis::default().bounds([0.0, last as f64]).labels(["0".into(), format!("step {last}")]).style(DIM);
        Chart::new(sets.collect()).x_axis(x_axis).y_axis(y_axis).legend_position(None).render(area, buffer);
    }
}

fn share(done: usize, all: usize) -> f64 {
    if all == 0 { 0.0 } else { done as f64 / all as f64 }
}

/// Two digits that count.
fn short(value: f64) -> String {
    if value < 1e-3 {
        format!("{value:.0e}")
    } else {
        format!("{value:.*}", (1.0 - value.log10().floor()).clamp(0.0, 4.0) as usize)
    }
}

/// A bar of `length` columns between its name and its numbers.
fn bar(name: String, length: usize, share: f64, text: String) -> Line<'static> {
    let full = ((share.clamp(0.0, 1.0) * length as f64).round() as usize).min(length);
    Line::from(vec![
        Span::styled(format!("{name:<NAME$}"), DIM),
        Span::styled("━".repeat(full), TRAIN),
        Span::styled("─".repeat(length - full), Style::new().fg(Color::DarkGray)),
        format!("  {text}").into(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn view() -> View {
        let mut view = View {
            epoch: [2, 3],
            step: [93, 187],
            steps_done: 280,
            img_s: 274.6,
            elapsed: 64.0,
            left: Some(65.0),
            lr: 1.234e-3,
            momentum: 0.8765,
            metric_name: "exact_match",
            ..View::default()
        };
        for step in (1..=280).step_by(3) {
            view.train_loss.push(step, 0.5 * (-(step as f64) / 60.0).exp() + 0.01);
            view.lrs.push(step, 1e-3 * (step as f64 / 280.0));
        }
        view.val_loss.push(187, 0.02);
        view.metric.push(187, 0.9712);
        view
    }

    fn text(buffer: &Buffer) -> String {
        let row = |y: u16| {
            let cells = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol());
            cells.collect::<String>().trim_end().to_owned() + "\n"
        };
        (0..buffer.area.height).map(row).collect()
    }

    fn check(view: &View, rows: u16, columns: u16, expected: Expect) {
        expected.assert_eq(&view.frame(rows, columns).map_or_else(|| "nothing\n".into(), |buffer| text(&buffer)));
    }

    #[test]
    fn an_epoch_is_shown_with_its_curves() {
        check(
            &view(),
            30,
            100,
            expect![[r#"
            epoch 2/3   ━━━━━━━━━━━━━━──────────────  93/187  275 images/s
            run         ━━━━━━━━━━━━━━──────────────  50 %  01:04, 01:05 left
            now         loss 0.0147   learning rate 1.23e-3   momentum 0.876
            loss training validation                           exact_match 0.9712
            0.60 │⠒⠤⠤⣀⡀                                        0.972│
                 │    ⠈⠑⠒⠢⠤⢄⡀                                       │
                 │          ⠈⠉⠑⠒⠤⢄⣀⡀                                │
                 │                 ⠈⠉⠑⠒⠤⠤⣀⣀                         │                           •
                 │                        ⠈⠉⠉⠒•⠤⠤⢄⣀⣀                │
            0.012│                                  ⠉⠉⠉⠒⠒⠒⠢⠤⠤  0.970│
                 └───────────────────────────────────────────       └──────────────────────────────────────────
                 0                                   step 280       0                                  step 280
            Ctrl-C saves and stops, twice ends at once
        "#]],
        );
    }

    #[test]
    fn before_the_first_epoch_ends_the_rate_stands_in_for_the_metric() {
        let first = View { metric: Curve::default(), val_loss: Curve::default(), epoch: [1, 3], left: None, ..view() };
        check(
            &first,
            30,
            80,
            expect![[r#"
            epoch 1/3   ━━━━━━━━━━━━━━──────────────  93/187  275 images/s
            run         ━━━━━───────────────────────  17 %  01:04
            now         loss 0.0147   learning rate 1.23e-3   momentum 0.876
            loss training validation                 learning rate
            0.60 │⠒⠤⣄⡀                               1e-3│                             ⣀⡠⠤⠖
                 │   ⠈⠑⠲⠤⣀⡀                              │                       ⣀⡠⠤⠖⠚⠉
                 │        ⠉⠑⠢⠤⣀⡀                         │                 ⣀⡠⠤⠔⠚⠉⠁
                 │             ⠈⠙⠒⠦⢄⣀                    │           ⢀⣠⠤⠔⠒⠉⠁
                 │                   ⠉⠙⠒⠤⠤⣄⣀             │     ⢀⣠⠤⠔⠒⠉⠁
            0.012│                          ⠉⠉⠑⠒⠒⠦⠤  0e0 │⣀⠤⠔⠒⠉⠁
                 └─────────────────────────────────      └─────────────────────────────────
                 0                         step 280      0                         step 280
            Ctrl-C saves and stops, twice ends at once
        "#]],
        );
    }

    #[test]
    fn a_small_terminal_gets_the_bars_alone_and_a_tiny_one_nothing() {
        check(
            &View { validated: Some([640, 3000]), ..view() },
            12,
            70,
            expect![[r#"
                validation  ━━━━━━──────────────────────  640/3000 images
                run         ━━━━━━━━━━━━━━──────────────  50 %  01:04, 01:05 left
                now         loss 0.0147   learning rate 1.23e-3   momentum 0.876
                Ctrl-C saves and stops, twice ends at once
            "#]],
        );
        check(
            &view(),
            30,
            50,
            expect![[r#"
                epoch 2/3   ━━━━────  93/187  275 images/s
                run         ━━━━────  50 %  01:04, 01:05 left
                now         loss 0.0147   learning rate 1.23e-3
                Ctrl-C saves and stops, twice ends at once
            "#]],
        );
        check(
            &view(),
            30,
            40,
            expect![[r#"
                epoch 2/3     93/187  275 images/s
                run           50 %  01:04, 01:05 left
                now         loss 0.0147   learning rate
                Ctrl-C saves and stops, twice ends at o
            "#]],
        );
        check(
            &view(),
            30,
            35,
            expect![[r#"
            nothing
        "#]],
        );
        check(
            &view(),
            9,
            100,
            expect![[r#"
            nothing
        "#]],
        );
    }

    #[test]
    fn what_is_no_number_draws_nothing() {
        let mut bad = View { epoch: [1, 1], step: [1, 10], steps_done: 1, metric_name: "top1", ..View::default() };
        bad.train_loss.push(1, f64::NAN);
        bad.val_loss.push(1, f64::INFINITY);
        check(
            &bad,
            30,
            80,
            expect![[r#"
            epoch 1/1   ━━━─────────────────────────  1/10  0 images/s
            run         ━━━─────────────────────────  10 %  00:00
            now         loss -   learning rate 0.00e0   momentum 0.000
            loss training validation                 learning rate








            Ctrl-C saves and stops, twice ends at once
        "#]],
        );
    }

    #[test]
    fn labels_have_two_digits_that_count() {
        let cases = [(0.69, "0.69"), (0.0123, "0.012"), (0.00126, "0.0013"), (12.3, "12"), (4.2e-5, "4e-5")];
        cases.into_iter().for_each(|(value, expected)| assert_eq!(short(value), expected));
    }

    #[test]
    fn long_curves_are_thinned() {
        let mut curve = Curve::default();
        (0..100_000).for_each(|step| curve.push(step, 1.0));
        assert!((POINTS / 2..=POINTS).contains(&curve.0.len()));
        assert_eq!(curve.0[0].0, 0.0);
    }
}
