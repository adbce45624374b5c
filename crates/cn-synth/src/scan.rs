//! Paper and scanner: lines become ink on a fine grid, the grid shrinks to pixels.

use crate::pen::Dab;

/// Fine cells a pixel, along each axis.
const FINE: usize = 4;

/// A sheet of paper, and room to scan it. Kept by each thread.
pub(crate) struct Sheet {
    size: usize,
    /// How much further the paper reaches in a pixel's width than the page says: a round pen draws ellipses.
    stretch: f32,
    ink: Vec<f32>,
    /// Rows and columns of fine cells that may hold ink: `[x0, x1, y0, y1)`.
    used: [usize; 4],
}

impl Sheet {
    /// A blank sheet for images of this side; the scanner leaves `squeeze` of each width.
    pub(crate) fn new(size: usize, squeeze: f32) -> Self {
        let side = size * FINE;
        Self { size, stretch: 1.0 / squeeze, ink: vec![0.0; side * side], used: [side, 0, side, 0] }
    }

    /// Draws a line; where lines cross the darker one is seen.
    pub(crate) fn draw(&mut self, line: &[Dab]) {
        for pair in line.windows(2) {
            self.segment(pair[0], pair[1]);
        }
    }

    /// Cells by their distance from the segment: one cell of soft edge, as a scanner's lens leaves.
    fn segment(&mut self, a: Dab, b: Dab) {
        let side = self.size * FINE;
        let k = side as f32 / 64.0;
        let (ax, ay, bx, by) = (a.x * k, a.y * k, b.x * k, b.y * k);
        let (dx, dy) = ((bx - ax) * self.stretch, by - ay);
        let inverse = 1.0 / (dx * dx + dy * dy).max(1e-9);
        let reach = 0.5 * k * a.width.max(b.width) + 1.0;
        let clip = |v: f32| (v.max(0.0) as usize).min(side);
        let reach_x = reach / self.stretch;
        let (x0, x1) = (clip(ax.min(bx) - reach_x), clip(ax.max(bx) + reach_x + 1.0));
        let (y0, y1) = (clip(ay.min(by) - reach), clip(ay.max(by) + reach + 1.0));
        self.used = [self.used[0].min(x0), self.used[1].max(x1), self.used[2].min(y0), self.used[3].max(y1)];
        for y in y0..y1 {
            let py = y as f32 + 0.5 - ay;
            for (cell, x) in self.ink[y * side + x0..y * side + x1].iter_mut().zip(x0..) {
                let px = (x as f32 + 0.5 - ax) * self.stretch;
                let t = ((px * dx + py * dy) * inverse).clamp(0.0, 1.0);
                let (ex, ey) = (px - t * dx, py - t * dy);
                let half = 0.5 * k * (a.width + t * (b.width - a.width));
                let cover = (half + 0.5 - (ex * ex + ey * ey).sqrt()).clamp(0.0, 1.0);
                let ink = cover * (a.ink + t * (b.ink - a.ink));
                *cell = cell.max(ink);
            }
        }
    }

    /// Averages the cells of each pixel into `image`, 255 for full ink, and leaves the sheet blank.
    pub(crate) fn scan(&mut self, image: &mut [u8]) {
        image.fill(0);
        let side = self.size * FINE;
        let [x0, x1, y0, y1] = self.used;
        if x0 < x1 && y0 < y1 {
            for row in y0 / FINE..y1.div_ceil(FINE) {
                for column in x0 / FINE..x1.div_ceil(FINE) {
                    let mut sum = 0.0;
                    for y in row * FINE..(row + 1) * FINE {
                        let start = y * side + column * FINE;
                        sum += self.ink[start..start + FINE].iter().sum::<f32>();
                    }
                    let mean = sum / (FINE * FINE) as f32;
                    image[row * self.size + column] = (mean * 255.0 + 0.5) as u8;
                }
            }
            for y in y0..y1 {
                self.ink[y * side + x0..y * side + x1].fill(0.0);
            }
        }
        self.used = [side, 0, side, 0];
    }
}
