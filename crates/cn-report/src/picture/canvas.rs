use super::Picture;

/// Red, green, blue.
pub(super) type Colour = [u8; 3];

pub(super) const WHITE: Colour = [255, 255, 255];
pub(super) const INK: Colour = [34, 34, 34];
pub(super) const FAINT: Colour = [100, 100, 100];
pub(super) const AXIS: Colour = [130, 130, 130];
pub(super) const RULE: Colour = [228, 228, 228];
/// Told apart with any kind of colour vision (after Okabe and Ito), darkened to at least 3:1 on white.
pub(super) const SERIES: [Colour; 6] =
    [[0, 104, 170], [204, 90, 0], [0, 133, 98], [178, 76, 140], [148, 112, 0], [60, 60, 60]];
pub(super) const RIGHT: Colour = [0, 120, 80];
pub(super) const WRONG: Colour = [196, 30, 40];

/// A rectangle in pixels: left, top, width, height.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rect {
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) width: f32,
    pub(super) height: f32,
}

impl Rect {
    pub(super) fn right(self) -> f32 {
        self.x + self.width
    }

    pub(super) fn bottom(self) -> f32 {
        self.y + self.height
    }
}

impl Picture {
    pub(crate) fn blank(width: u32, height: u32) -> Self {
        Self { width, height, pixels: vec![255; width as usize * height as usize * 3] }
    }

    /// Mixes `colour` into a pixel; outside of the picture nothing happens.
    pub(super) fn blend(&mut self, x: i64, y: i64, colour: Colour, coverage: f32) {
        if !(0..i64::from(self.width)).contains(&x) || !(0..i64::from(self.height)).contains(&y) {
            return;
        }
        let at = (y as usize * self.width as usize + x as usize) * 3;
        let coverage = coverage.clamp(0.0, 1.0);
        for (old, new) in self.pixels[at..at + 3].iter_mut().zip(colour) {
            let mixed = f32::from(*old) + (f32::from(new) - f32::from(*old)) * coverage;
            *old = mixed.round() as u8;
        }
    }

    /// Fills the pixels whose centres lie inside.
    pub(super) fn fill(&mut self, rect: Rect, colour: Colour) {
        let span = |from: f32, to: f32| from.round() as i64..to.round() as i64;
        for y in span(rect.y, rect.bottom()) {
            for x in span(rect.x, rect.right()) {
                self.blend(x, y, colour, 1.0);
            }
        }
    }

    /// A line through `points`, anti-aliased, with round joints and ends.
    pub(super) fn polyline(&mut self, points: &[(f32, f32)], width: f32, colour: Colour) {
        let reach = width / 2.0 + 1.0;
        let Some((left, top, right, bottom)) = self.bounds(points, reach) else { return };
        // A mask first: where two segments meet, both cover a pixel, and it must be mixed once.
        let columns = right - left;
        let mut mask = vec![0.0_f32; columns * (bottom - top)];
        let segments = points.windows(2).map(|pair| (pair[0], pair[1]));
        let dot = (points.len() == 1).then(|| (points[0], points[0]));
        for (a, b) in segments.chain(dot) {
            let Some((x0, y0, x1, y1)) = self.bounds(&[a, b], reach) else { continue };
            for (x, y) in (y0..y1).flat_map(|y| (x0..x1).map(move |x| (x, y))) {
                let distance = distance_to_segment((x as f32 + 0.5, y as f32 + 0.5), a, b);
                let cell = &mut mask[(y - top) * columns + x - left];
                *cell = cell.max(width / 2.0 + 0.5 - distance);
            }
        }
        for (i, coverage) in mask.into_iter().enumerate().filter(|&(_, coverage)| coverage > 0.0) {
            self.blend((left + i % columns) as i64, (top + i / columns) as i64, colour, coverage);
        }
    }

    /// Left, top, right and bottom of the pixels within `reach` of the points; `None` if there are none.
    fn bounds(&self, points: &[(f32, f32)], reach: f32) -> Option<(usize, usize, usize, usize)> {
        let low = |value: f32| (value - reach).max(0.0) as usize;
        let high = |value: f32, end: u32| ((value + reach).max(0.0).ceil() as usize).min(end as usize);
        let pixels = points.iter().map(|&(x, y)| (low(x), low(y), high(x, self.width), high(y, self.height)));
        let all = pixels.reduce(|a, b| (a.0.min(b.0), a.1.min(b.1), a.2.max(b.2), a.3.max(b.3)))?;
        (all.0 < all.2 && all.1 < all.3).then_some(all)
    }

    /// A vertical line of dashes, from `top` to `bottom`.
    pub(super) fn dashes(&mut self, x: f32, top: f32, bottom: f32, colour: Colour) {
        let (dash, gap) = (6.0_f32, 5.0);
        let mut y = top;
        while y < bottom {
            let height = dash.min(bottom - y);
            self.fill(Rect { x: x - 1.0, y, width: 2.0, height }, colour);
            y += dash + gap;
        }
    }

    /// A filled circle with a white rim, which lifts it off the lines beneath.
    pub(super) fn dot(&mut self, centre: (f32, f32), radius: f32, colour: Colour) {
        self.polyline(&[centre], 2.0 * radius + 3.0, WHITE);
        self.polyline(&[centre], 2.0 * radius, colour);
    }
}

fn distance_to_segment(p: (f32, f32), a: (f32, f32), b: (f32, f32)) -> f32 {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let length2 = dx * dx + dy * dy;
    let along = if length2 > 0.0 { ((p.0 - a.0) * dx + (p.1 - a.1) * dy) / length2 } else { 0.0 };
    let t = along.clamp(0.0, 1.0);
    (p.0 - a.0 - t * dx).hypot(p.1 - a.1 - t * dy)
}
