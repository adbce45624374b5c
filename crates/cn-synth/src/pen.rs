//! From curves on the page to the pressure of the pen along fine lines.

use crate::noise::{Noise, Wave};
use crate::shape::{Curve, Knot};
use crate::skeleton::Kind;
use crate::writer::{Layout, Writer};

/// A point of a drawn line, in px of 64.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dab {
    pub(crate) x: f32,
    pub(crate) y: f32,
    /// Width of the line here.
    pub(crate) width: f32,
    /// Darkness of the ink here, 0 to 1.
    pub(crate) ink: f32,
}

/// Blank rim that the ink keeps, and what may be filled at most.
const RIM: f32 = 2.0;
const ROOM: f32 = 64.0 - 2.0 * RIM;

/// Moves the curves from hundredths of an em to the page, in px of 64; all of them stay on it.
pub(crate) fn place(curves: &mut [Curve], layout: &Layout) {
    let (x0, x1, y0, y1) = bounds(curves);
    let (mx, my) = (0.5 * (x0 + x1), 0.5 * (y0 + y1));
    let (sx, sy) = {
        let root = layout.aspect.sqrt();
        (layout.em / 100.0 * root, layout.em / 100.0 / root)
    };
    let w = &layout.warp;
    for k in curves.iter_mut().flat_map(|c| &mut c.knots) {
        let (u, v) = ((k.x - mx) / 50.0, (k.y - my) / 50.0);
        let x = u + w[0] * u * v + w[1] * v * v + w[2] * u * u;
        let y = v + w[3] * u * v + w[4] * u * u + w[5] * v * v;
        let (x, y) = (50.0 * x, 50.0 * y);
        let y = y - layout.slope * x;
        k.x = (x - layout.slant * y) * sx;
        k.y = y * sy;
    }
    let (x0, x1, y0, y1) = bounds(curves);
    let shrink = (ROOM / (x1 - x0).max(y1 - y0)).min(1.0);
    let middle = |at: f32, lo: f32, hi: f32| {
        let half = 0.5 * (hi - lo) * shrink + RIM;
        at.max(half).min(64.0 - half)
    };
    let (cx, cy) = (middle(layout.x, x0, x1), middle(layout.y, y0, y1));
    for k in curves.iter_mut().flat_map(|c| &mut c.knots) {
        k.x = cx + (k.x - 0.5 * (x0 + x1)) * shrink;
        k.y = cy + (k.y - 0.5 * (y0 + y1)) * shrink;
    }
}

fn bounds(curves: &[Curve]) -> (f32, f32, f32, f32) {
    let start = (f32::MAX, f32::MIN, f32::MAX, f32::MIN);
    curves.iter().flat_map(|c| &c.knots).fold(start, |b, k| (b.0.min(k.x), b.1.max(k.x), b.2.min(k.y), b.3.max(k.y)))
}

/// Draws the placed curves as lines.
pub(crate) fn lines(curves: &[Curve], writer: &Writer, layout: &Layout, chance: &mut Noise) -> Vec<Vec<Dab>> {
    let mut lines: Vec<_> = curves.iter().map(|curve| line(curve, writer, layout, chance)).collect();
    if chance.chance(writer.blots) {
        let i = (chance.uniform() * lines.len() as f32) as usize;
        let radius = chance.range(1.2, 2.6);
        for (j, dab) in lines[i].iter_mut().take(4).enumerate() {
            dab.width = dab.width.max(radius - 0.4 * j as f32);
            dab.ink = 1.0;
        }
    }
    lines
}

fn line(curve: &Curve, writer: &Writer, layout: &Layout, chance: &mut Noise) -> Vec<Dab> {
    let path = flatten(&curve.knots);
    let mut along = Vec::with_capacity(path.len());
    let mut length = 0.0;
    for (i, p) in path.iter().enumerate() {
        let q = path[i.saturating_sub(1)];
        length += ((p.0 - q.0).powi(2) + (p.1 - q.1).powi(2)).sqrt();
        along.push(length);
    }
    let tremor = [(); 2].map(|()| Wave::new(chance, length, 3.0));
    let grain = Wave::new(chance, length, 1.3);
    let slow = Wave::new(chance, length, 9.0);
    let weight = chance.factor(writer.unevenness);
    let gap = chance.chance(writer.skipping).then(|| (chance.uniform() * length, chance.range(1.0, 7.0)));
    let profile = Profile::new(curve, writer, length);
    path.iter()
        .zip(along)
        .map(|(&(x, y), s)| {
            let (width, ink) = profile.at(s);
            let skip = gap.map_or(1.0, |(at, half)| ((s - at).abs() / half).clamp(0.2, 1.0));
            let ink = weight * ink * skip * (1.0 + writer.grain * grain.at(s) + 0.06 * slow.at(s));
            Dab {
                x: x + writer.tremor * tremor[0].at(s),
                y: y + writer.tremor * tremor[1].at(s),
                width: layout.pen_width * width,
                ink: (layout.darkness * ink).clamp(0.0, 1.0),
            }
        })
        .collect()
}

/// Points on the curve, about 0.7 px apart.
fn flatten(knots: &[Knot]) -> Vec<(f32, f32)> {
    let mut path = vec![(knots[0].x, knots[0].y)];
    let mut i = 0;
    while i + 1 < knots.len() {
        let from = path[path.len() - 1];
        let control = knots[i + 1];
        if control.on {
            quad(from, (control.x, control.y), (control.x, control.y), &mut path);
            i += 1;
            continue;
        }
        let next = knots[i + 2];
        let to = if next.on { (next.x, next.y) } else { (0.5 * (control.x + next.x), 0.5 * (control.y + next.y)) };
        quad(from, (control.x, control.y), to, &mut path);
        i += if next.on { 2 } else { 1 };
    }
    path
}

fn quad(a: (f32, f32), b: (f32, f32), c: (f32, f32), path: &mut Vec<(f32, f32)>) {
    let leg = |p: (f32, f32), q: (f32, f32)| ((p.0 - q.0).powi(2) + (p.1 - q.1).powi(2)).sqrt();
    let straight = b == c;
    let n = ((leg(a, b) + leg(b, c)) / 0.7) as usize + 1;
    for i in 1..=n {
        let t = i as f32 / n as f32;
        let (p, q, r) = if straight { (1.0 - t, 0.0, t) } else { ((1.0 - t) * (1.0 - t), 2.0 * t * (1.0 - t), t * t) };
        path.push((p * a.0 + q * b.0 + r * c.0, p * a.1 + q * b.1 + r * c.1));
    }
}

/// Width and ink along a stroke, relative to the pen's.
struct Profile {
    length: f32,
    press: f32,
    /// Width at the very end, and the length over which it is reached.
    taper: (f32, f32),
    base: f32,
}

impl Profile {
    fn new(curve: &Curve, writer: &Writer, length: f32) -> Self {
        let (end, share) = match curve.kind {
            Kind::Left | Kind::Rise => (writer.taper, 0.45),
            Kind::Bent => (0.5 + 0.5 * writer.taper, 0.15),
            Kind::Vertical => (0.4 + 0.6 * writer.taper, 0.25),
            Kind::Right | Kind::Dot | Kind::Horizontal => (1.0 + 0.5 * writer.press, 0.2),
        };
        Self {
            length,
            press: if curve.link { 0.0 } else { writer.press },
            taper: (end, (length * share).max(0.5)),
            base: if curve.link { 0.7 } else { 1.0 },
        }
    }

    fn at(&self, s: f32) -> (f32, f32) {
        let start = 1.0 + self.press * (1.0 - s / 2.5).max(0.0);
        let left = ((self.length - s) / self.taper.1).min(1.0);
        let end = self.taper.0 + (1.0 - self.taper.0) * left;
        let width = self.base * start * end;
        (width, end.min(1.0).sqrt())
    }
}
