use super::Picture;
use super::canvas::{AXIS, Colour, FAINT, INK, RULE, Rect, SERIES, WHITE};
use super::font::{Anchor, LEADING, ellipsise, text_width};
use super::scale::{Axis, Scale};

const WIDTH: u32 = 960;
const HEIGHT: u32 = 580;
const TITLE_SIZE: f32 = 22.0;
const TEXT_SIZE: f32 = 16.0;
const MARGIN: f32 = 24.0;
const LINE: f32 = TEXT_SIZE * LEADING;

/// Curves over a common x: losses and metrics over epochs, losses over learning rates.
///
/// ```
/// use cn_report::{LineChart, Series};
///
/// let loss = Series { name: "training".into(), points: vec![(0.0, 0.7), (1.0, 0.2), (2.0, 0.1)] };
/// let chart = LineChart { title: "Loss".into(), x_label: "epoch".into(), series: vec![loss], ..Default::default() };
/// assert!(chart.draw().to_png()?.starts_with(b"\x89PNG"));
/// # Ok::<(), cn_report::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LineChart {
    /// Above the picture.
    pub title: String,
    /// What x is, under the axis.
    pub x_label: String,
    /// What y is, above the axis.
    pub y_label: String,
    /// How x is spread.
    pub x_scale: Scale,
    /// How y is spread.
    pub y_scale: Scale,
    /// The curves, each in a colour of its own.
    pub series: Vec<Series>,
    /// Named places on x.
    pub marks: Vec<Mark>,
}

/// One curve.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// Its name in the legend; no entry if it is empty.
    pub name: String,
    /// Points (x, y) in the order of the line. One that is not finite interrupts it.
    pub points: Vec<(f64, f64)>,
}

/// A dashed line with a name on top, and a dot where it meets a curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Text above the line.
    pub name: String,
    /// Where it stands.
    pub x: f64,
    /// Height of the dot, if there is to be one.
    pub y: Option<f64>,
}

/// A mark's name with its place: centre, and row from the bottom.
struct Placed<'a> {
    mark: &'a Mark,
    x: f32,
    centre: f32,
    row: usize,
    colour: Colour,
}

impl LineChart {
    /// Draws the chart; where no point can be drawn, it says so.
    #[must_use]
    pub fn draw(&self) -> Picture {
        let mut picture = Picture::blank(WIDTH, HEIGHT);
        let title = ellipsise(&self.title, TITLE_SIZE, WIDTH as f32 - 2.0 * MARGIN);
        picture.text((MARGIN, MARGIN + TITLE_SIZE * 0.8), Anchor::Left, &title, TITLE_SIZE, INK);
        let top = self.legend(&mut picture, MARGIN + TITLE_SIZE * LEADING);
        match self.axes() {
            Some((x, y)) => self.body(&mut picture, &x, &y, top),
            None => {
                let middle = (WIDTH as f32 / 2.0, HEIGHT as f32 / 2.0);
                picture.text(middle, Anchor::Centre, "no finite values to draw", TEXT_SIZE, FAINT);
            }
        }
        picture
    }

    fn shown(&self, point: (f64, f64)) -> bool {
        self.x_scale.shows(point.0) && self.y_scale.shows(point.1)
    }

    fn axes(&self) -> Option<(Axis, Axis)> {
        let points = || self.series.iter().flat_map(|series| &series.points).filter(|point| self.shown(**point));
        points().next()?;
        let marks = || self.marks.iter();
        let x = points().map(|point| point.0).chain(marks().map(|mark| mark.x));
        let y = points().map(|point| point.1).chain(marks().filter_map(|mark| mark.y));
        Some((Axis::new(self.x_scale, x, 0.02)?, Axis::new(self.y_scale, y, 0.06)?))
    }

    /// Swatches and names, in as many rows as they need; returns where the next row may begin.
    fn legend(&self, picture: &mut Picture, top: f32) -> f32 {
        let (swatch, gap) = (26.0, 28.0);
        let (mut x, mut y) = (MARGIN, top);
        let named = || self.series.iter().zip(SERIES.iter().cycle()).filter(|(series, _)| !series.name.is_empty());
        for (series, &colour) in named() {
            let name = ellipsise(&series.name, TEXT_SIZE, WIDTH as f32 / 2.0);
            let width = swatch + 8.0 + text_width(&name, TEXT_SIZE);
            if x > MARGIN && x + width > WIDTH as f32 - MARGIN {
                (x, y) = (MARGIN, y + LINE);
            }
            let middle = y + LINE / 2.0;
            picture.polyline(&[(x + 2.0, middle), (x + swatch - 2.0, middle)], 3.0, colour);
            picture.text((x + swatch + 8.0, y + LINE * 0.74), Anchor::Left, &name, TEXT_SIZE, INK);
            x += width + gap;
        }
        if named().next().is_some() { y + LINE } else { top }
    }

    fn body(&self, picture: &mut Picture, x_axis: &Axis, y_axis: &Axis, top: f32) {
        let y_ticks = y_axis.ticks();
        let widest = y_ticks.iter().map(|tick| text_width(&tick.label, TEXT_SIZE)).fold(0.0, f32::max);
        let left = MARGIN + widest + 12.0;
        let bottom = HEIGHT as f32 - MARGIN - 2.0 * LINE;
        let mut plot = Rect { x: left, y: 0.0, width: WIDTH as f32 - MARGIN - left, height: 0.0 };
        let placed = self.place_marks(x_axis, plot);
        let n_rows = placed.iter().map(|placed| placed.row + 1).max().unwrap_or(0);
        let label_row = if self.y_label.is_empty() { 8.0 } else { LINE };
        plot.y = top + 8.0 + label_row + n_rows as f32 * LINE;
        plot.height = bottom - plot.y;

        let y_label_at = (left, top + 8.0 + LINE * 0.6);
        picture.text(y_label_at, Anchor::Left, &ellipsise(&self.y_label, TEXT_SIZE, plot.width), TEXT_SIZE, FAINT);
        self.frame(picture, x_axis, y_axis, plot);
        draw_marks(picture, &placed, plot);
        self.curves(picture, x_axis, y_axis, plot);
        for placed in &placed {
            if let Some(y) = placed.mark.y.filter(|&y| self.y_scale.shows(y)) {
                let y = plot.bottom() - y_axis.position(y) as f32 * plot.height;
                picture.dot((placed.x, y), 5.0, placed.colour);
            }
        }
    }

    /// Rules, ticks, tick labels and the label of x.
    fn frame(&self, picture: &mut Picture, x_axis: &Axis, y_axis: &Axis, plot: Rect) {
        for tick in y_axis.ticks() {
            let y = (plot.bottom() - tick.position as f32 * plot.height).round();
            if !tick.label.is_empty() {
                picture.fill(Rect { y, height: 1.0, ..plot }, RULE);
                picture.text((plot.x - 10.0, y + TEXT_SIZE * 0.36), Anchor::Right, &tick.label, TEXT_SIZE, FAINT);
            }
        }
        for tick in x_axis.ticks() {
            let x = (plot.x + tick.position as f32 * plot.width).round();
            let length = if tick.label.is_empty() { 4.0 } else { 7.0 };
            if !tick.label.is_empty() {
                picture.fill(Rect { x, width: 1.0, ..plot }, RULE);
                let half = text_width(&tick.label, TEXT_SIZE) / 2.0;
                let at = (x.min(WIDTH as f32 - 4.0 - half), plot.bottom() + LINE * 1.05);
                picture.text(at, Anchor::Centre, &tick.label, TEXT_SIZE, FAINT);
            }
            picture.fill(Rect { x, y: plot.bottom(), width: 1.0, height: length }, AXIS);
        }
        picture.fill(Rect { y: plot.bottom(), height: 1.0, ..plot }, AXIS);
        let label = ellipsise(&self.x_label, TEXT_SIZE, plot.width);
        let at = (plot.x + plot.width / 2.0, plot.bottom() + LINE * 2.05);
        picture.text(at, Anchor::Centre, &label, TEXT_SIZE, FAINT);
    }

    fn curves(&self, picture: &mut Picture, x_axis: &Axis, y_axis: &Axis, plot: Rect) {
        let pixel = |&(x, y): &(f64, f64)| {
            let x = plot.x + x_axis.position(x) as f32 * plot.width;
            (x, plot.bottom() - y_axis.position(y) as f32 * plot.height)
        };
        for (series, &colour) in self.series.iter().zip(SERIES.iter().cycle()) {
            let runs = series.points.split(|&point| !self.shown(point)).filter(|run| !run.is_empty());
            for run in runs {
                let pixels: Vec<_> = run.iter().map(pixel).collect();
                picture.polyline(&pixels, 2.4, colour);
                // Few points: show where they are, a line alone hides that there are only so many.
                if series.points.len() <= 40 && self.marks.is_empty() || run.len() == 1 {
                    pixels.iter().for_each(|&centre| picture.dot(centre, 3.5, colour));
                }
            }
        }
    }

    /// Puts the names of the marks into rows so that none covers another.
    fn place_marks(&self, x_axis: &Axis, plot: Rect) -> Vec<Placed<'_>> {
        let mut marks: Vec<(usize, &Mark)> =
            self.marks.iter().enumerate().filter(|(_, mark)| self.x_scale.shows(mark.x)).collect();
        marks.sort_by(|a, b| a.1.x.total_cmp(&b.1.x));
        let mut row_ends: Vec<f32> = Vec::new();
        let placed = marks.into_iter().map(|(i, mark)| {
            let x = (plot.x + x_axis.position(mark.x) as f32 * plot.width).round();
            let half = text_width(&mark.name, TEXT_SIZE) / 2.0 + 8.0;
            let centre = x.min(plot.right() - half + 8.0).max(plot.x + half - 8.0);
            let row = row_ends.iter().position(|&end| end <= centre - half).unwrap_or(row_ends.len());
            if row == row_ends.len() {
                row_ends.push(0.0);
            }
            row_ends[row] = centre + half;
            // The first colour is the curve's.
            Placed { mark, x, centre, row, colour: SERIES[1 + i % (SERIES.len() - 1)] }
        });
        placed.collect()
    }
}

/// All lines first, then the names, on white: no line runs through a name.
fn draw_marks(picture: &mut Picture, placed: &[Placed<'_>], plot: Rect) {
    let baseline = |placed: &Placed<'_>| plot.y - 6.0 - placed.row as f32 * LINE;
    for placed in placed {
        picture.dashes(placed.x, baseline(placed) + 5.0, plot.bottom(), placed.colour);
    }
    for placed in placed {
        let (at, width) = ((placed.centre, baseline(placed)), text_width(&placed.mark.name, TEXT_SIZE) + 6.0);
        let ground = Rect { x: at.0 - width / 2.0, y: at.1 - TEXT_SIZE, width, height: LINE };
        picture.fill(ground, WHITE);
        picture.text(at, Anchor::Centre, &placed.mark.name, TEXT_SIZE, placed.colour);
    }
}
