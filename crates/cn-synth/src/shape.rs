//! From a skeleton to the curves that a writer draws this time, in hundredths of an em.

use crate::noise::Noise;
use crate::skeleton::{Control, Joint, Kind, Part, Skeleton, Stroke, Variant};
use crate::writer::{Key, Writer};

/// A point of a curve: `on` it, or pulling it as the middle point of a quadratic Bezier curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Knot {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) on: bool,
}

/// A pen movement from down to up, or a link between two.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Curve {
    pub(crate) kind: Kind,
    pub(crate) link: bool,
    pub(crate) knots: Vec<Knot>,
}

/// The share of habit and of chance in what makes a point miss the skeleton.
const HABIT: f32 = 1.0;
const CHANCE: f32 = 0.55;
/// How often somebody uses a form that is not their usual one.
const OTHER_FORM: f32 = 0.12;

/// Draws the curves of one character, links between strokes included.
pub(crate) fn curves(skeleton: &Skeleton, writer: &Writer, key: Key, chance: &mut Noise) -> Vec<Curve> {
    let mut curves = Vec::with_capacity(24);
    for (i, part) in skeleton.parts.iter().enumerate() {
        let (variant, habit) = choose(part, key, i as u32, chance);
        let mut hand = Hand { writer, habit, chance };
        hand.write(variant, &mut curves);
    }
    curves
}

/// The form of a part that the writer uses this time, and the writer's habits in it.
fn choose<'a>(part: &'a Part, key: Key, i: u32, chance: &mut Noise) -> (&'a Variant, Noise) {
    let weights = part.variants.iter().map(|v| v.weight);
    let mut form = key.habit(i << 8).pick(weights.clone());
    if chance.chance(OTHER_FORM) {
        form = chance.pick(weights);
    }
    (&part.variants[form], key.habit(i << 8 | (form as u32 + 1)))
}

/// A writer at work on one part of a character.
struct Hand<'a> {
    writer: &'a Writer,
    habit: Noise,
    chance: &'a mut Noise,
}

impl Hand<'_> {
    /// What is partly a habit, partly chance.
    fn normal(&mut self) -> f32 {
        HABIT * self.habit.normal() + CHANCE * self.chance.normal()
    }

    fn write(&mut self, variant: &Variant, curves: &mut Vec<Curve>) {
        let care = self.writer.carelessness;
        let shift = (0.6 * care * self.normal(), 0.6 * care * self.normal());
        let scale = (1.0 + 0.035 * self.normal(), 1.0 + 0.035 * self.normal());
        for (i, stroke) in variant.strokes.iter().enumerate() {
            let controls = self.stroke(stroke);
            let mut knots = rounded(&controls, self.rounding());
            for knot in &mut knots {
                knot.x = knot.x * scale.0 + shift.0;
                knot.y = knot.y * scale.1 + shift.1;
            }
            if i > 0 {
                self.link(curves, knots[0], stroke.joint);
            }
            curves.push(Curve { kind: stroke.kind, link: false, knots });
        }
    }

    fn rounding(&mut self) -> f32 {
        (self.writer.roundness + 0.12 * self.chance.normal()).clamp(0.0, 1.0)
    }

    /// The control points of this stroke as it comes out.
    fn stroke(&mut self, stroke: &Stroke) -> Vec<Control> {
        let mut controls = stroke.controls.clone();
        self.bend(stroke.kind, &mut controls);
        self.hook(&mut controls);
        self.displace(stroke.kind, &mut controls);
        self.press(stroke.kind, &mut controls);
        controls
    }

    /// Straight strokes are never quite straight.
    fn bend(&mut self, kind: Kind, controls: &mut Vec<Control>) {
        let w = self.writer;
        let bend = match kind {
            Kind::Horizontal => w.arch + 0.014 * self.normal(),
            Kind::Vertical => w.bow + 0.014 * self.normal(),
            Kind::Left | Kind::Right => w.sweep + 0.025 * self.normal(),
            Kind::Dot | Kind::Rise => 0.06 * self.normal(),
            Kind::Bent => return,
        };
        let (a, b) = (controls[0], controls[controls.len() - 1]);
        // To the left of the way: up for a horizontal, right for a vertical stroke.
        let offset = (2.0 * bend * (b.y - a.y), -2.0 * bend * (b.x - a.x));
        if controls.len() == 2 {
            controls.insert(1, between(a, b, 0.5));
        }
        let last = controls.len() - 1;
        for c in controls[1..last].iter_mut().filter(|c| !c.corner) {
            c.x += offset.0;
            c.y += offset.1;
        }
    }

    /// Hooks get longer or shorter, or go away.
    fn hook(&mut self, controls: &mut Vec<Control>) {
        let last = controls.len() - 1;
        if !controls[last].hook {
            return;
        }
        let length = self.writer.hook + 0.2 * self.normal();
        if length < 0.3 {
            controls.pop();
        } else {
            controls[last] = between(controls[last - 1], controls[last], length.min(1.7));
        }
    }

    /// Points, direction, length and place of a stroke miss the skeleton.
    fn displace(&mut self, kind: Kind, controls: &mut [Control]) {
        let care = self.writer.carelessness;
        let length =
            (1.0 + 0.02 * care * self.normal()).max(0.5) * if kind == Kind::Dot { self.writer.dot } else { 1.0 };
        let turn = self.normal() * if kind == Kind::Dot { 0.05 } else { 0.014 } * care;
        let shift = (0.5 * care * self.normal(), 0.5 * care * self.normal());
        let n = controls.len() as f32;
        let x0 = controls.iter().map(|c| c.x).sum::<f32>() / n;
        let y0 = controls.iter().map(|c| c.y).sum::<f32>() / n;
        for c in controls {
            let (x, y) = ((c.x - x0) * length, (c.y - y0) * length);
            c.x = x0 + x - turn * y + shift.0 + 0.7 * care * self.normal();
            c.y = y0 + y + turn * x + shift.1 + 0.7 * care * self.normal();
        }
    }

    /// The small movements with which the pen is set down and taken off.
    fn press(&mut self, kind: Kind, controls: &mut Vec<Control>) {
        let w = self.writer;
        let start = w.start_tick * self.chance.range(0.2, 1.4);
        if start > 1.0 && matches!(kind, Kind::Horizontal | Kind::Vertical | Kind::Bent) {
            let c = &mut controls[0];
            c.corner = true;
            let before = moved(*c, -0.6 * start, -start);
            controls.insert(0, before);
        }
        let last = controls[controls.len() - 1];
        let end = w.end_tick * self.chance.range(0.2, 1.4);
        match kind {
            Kind::Horizontal if end > 1.0 => {
                let n = controls.len();
                controls[n - 1].corner = true;
                let side = if self.chance.chance(0.5) { 0.5 } else { -0.6 };
                controls.push(moved(last, side * end, 0.8 * end));
            }
            Kind::Right if w.foot > 0.0 => {
                let foot = w.foot * self.chance.range(0.3, 1.2);
                controls.push(moved(last, foot, -0.05 * foot));
            }
            _ => {}
        }
    }

    /// Perhaps leaves the pen on the paper, or lifts it late, on the way to the next stroke.
    fn link(&mut self, curves: &mut Vec<Curve>, to: Knot, joint: Joint) {
        let Some(before) = curves.last_mut() else {
            return;
        };
        let joining = self.writer.joining;
        let from = before.knots[before.knots.len() - 1];
        let (dx, dy) = (to.x - from.x, to.y - from.y);
        let gap = (dx * dx + dy * dy).sqrt();
        let near = (1.5 - gap / 60.0).clamp(0.3, 1.2);
        let whole = match joint {
            Joint::Easy => near * (0.04 + 1.2 * joining),
            Joint::Rare => near * (0.25 * joining),
        };
        let flick = if before.kind == Kind::Horizontal { 0.7 } else { 1.6 };
        let bow = 0.18 * self.chance.normal();
        let (bx, by) = (-bow * dy, bow * dx);
        if self.chance.chance(whole) {
            let middle = off(from.x + 0.5 * dx + bx, from.y + 0.5 * dy + by);
            curves.push(Curve { kind: Kind::Rise, link: true, knots: vec![from, middle, to] });
        } else if self.chance.chance(flick * joining) {
            let share = self.chance.range(0.06, 0.28).min(14.0 / gap.max(1.0));
            let last = before.knots.len() - 1;
            // The end of the stroke turns into the flick, sharply or not.
            before.knots[last].on = self.chance.chance(0.6);
            let tip = (from.x + share * dx + bx * share, from.y + share * dy + by * share);
            before.knots.push(Knot { x: tip.0, y: tip.1, on: true });
        }
    }
}

fn between(a: Control, b: Control, t: f32) -> Control {
    let (x, y) = (a.x + (b.x - a.x) * t, a.y + (b.y - a.y) * t);
    let (corner, hook) = (false, b.hook);
    Control { x, y, corner, hook }
}

fn moved(c: Control, dx: f32, dy: f32) -> Control {
    let (x, y) = (c.x + dx, c.y + dy);
    let (corner, hook) = (false, false);
    Control { x, y, corner, hook }
}

fn off(x: f32, y: f32) -> Knot {
    Knot { x, y, on: false }
}

/// Makes knots of control points; corners lose `rounding` of what they could lose.
fn rounded(controls: &[Control], rounding: f32) -> Vec<Knot> {
    let mut knots = Vec::with_capacity(2 * controls.len());
    for (i, c) in controls.iter().enumerate() {
        let end = i == 0 || i == controls.len() - 1;
        let knot = |x, y, on| Knot { x, y, on };
        if end || !c.corner {
            knots.push(knot(c.x, c.y, end));
            continue;
        }
        let (before, after) = (&controls[i - 1], &controls[i + 1]);
        let side = |o: &Control| ((o.x - c.x).powi(2) + (o.y - c.y).powi(2)).sqrt();
        let radius = rounding * (0.4 * side(before).min(side(after))).min(16.0);
        if radius < 0.8 {
            knots.push(knot(c.x, c.y, true));
            continue;
        }
        let toward = |o: &Control| {
            let share = radius / side(o).max(1e-3);
            knot(c.x + (o.x - c.x) * share, c.y + (o.y - c.y) * share, true)
        };
        knots.extend([toward(before), knot(c.x, c.y, false), toward(after)]);
    }
    knots
}
