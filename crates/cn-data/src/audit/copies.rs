use std::collections::HashMap;

use rayon::prelude::*;

use crate::{Digest, ImageView, Pixels};

/// Side of the grid of means that images are compared by.
const SIDE: usize = 32;
/// Side of the coarser grid that tells most pairs apart.
const COARSE: usize = 4;
/// Cells of the fine grid in one of the coarse grid.
const CELLS: f32 = ((SIDE / COARSE) * (SIDE / COARSE)) as f32;
/// The distance of images that differ by no more than brightness and contrast.
const LEAST: f64 = 1e-6;
/// Standard deviation of the grid, in grey levels, below which an image shows nothing to compare.
const FLAT: f32 = 1.0;

/// Images that show the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Copies {
    /// Two or more, ascending; in a set of near ones, the first alone of those that are equal.
    pub ids: Vec<u32>,
    /// How far the two most different ones that were joined are apart: 0 for images that agree in every byte.
    pub distance: f64,
}

impl Pixels {
    /// Images that show the same, in the order of their first ids: sets of those equal in every byte, and sets of those
    /// at most `distance` apart, of equal ones the first (0.1 finds what was compressed anew, of thin strokes at a JPEG
    /// quality of 75 or better; 0 equal ones alone).
    ///
    /// The distance of two images is that of their 32x32 grids of mean levels, of each channel, without their common mean
    /// and of length 1, so that brightness, contrast and size in pixels do not count and colours do. Nearness is carried
    /// on: a copy of a copy is of the set. All pairs are compared, those that cannot be near by a lower bound.
    #[must_use]
    pub fn copies(&self, distance: f64) -> Vec<Copies> {
        let (mut equal, mut near) = (Sets::new(self.len()), Sets::new(self.len()));
        let mut is_first = vec![true; self.len()];
        for (first, later) in self.equal_pairs() {
            equal.join(first, later, 0.0);
            is_first[later as usize] = false;
        }
        if distance > 0.0 {
            let mut grids = self.grids();
            grids.retain(|grid| is_first[grid.id as usize]);
            for (a, b, found) in near_pairs(&grids, distance as f32) {
                // Only equal images are 0 apart: other contrast alone, or rounding, may say otherwise.
                near.join(a, b, f64::from(found).max(LEAST));
            }
        }
        let mut copies = [equal.into_copies(), near.into_copies()].concat();
        copies.sort_by_key(|copies| copies.ids[0]);
        copies
    }

    /// Each image that equals an earlier one, with the first of them.
    fn equal_pairs(&self) -> Vec<(u32, u32)> {
        let ids = 0..self.len() as u32;
        let digests: Vec<Digest> = ids.into_par_iter().map(|id| Digest::of(self.image(id).pixels)).collect();
        let mut first = HashMap::new();
        let mut pairs = Vec::new();
        for (id, digest) in (0..).zip(digests) {
            let image = self.image(id);
            let earlier = *first.entry((digest, image.height, image.width)).or_insert(id);
            if earlier != id {
                pairs.push((earlier, id));
            }
        }
        pairs
    }

    fn grids(&self) -> Vec<Grid> {
        let ids = 0..self.len() as u32;
        let mut grids: Vec<Grid> = ids.into_par_iter().filter_map(|id| Grid::of(id, self.image(id))).collect();
        let mut mean = vec![0.0; grids.first().map_or(0, |grid| grid.fine.len())];
        for grid in &grids {
            mean.iter_mut().zip(&grid.fine).for_each(|(mean, level)| *mean += level / grids.len() as f32);
        }
        grids.par_iter_mut().for_each(|grid| grid.from_mean = squared(&grid.fine, &mean).sqrt());
        grids.sort_by(|a, b| a.from_mean.total_cmp(&b.from_mean).then(a.id.cmp(&b.id)));
        grids
    }
}

/// Mean levels of each channel without their mean, and of length 1.
struct Grid {
    id: u32,
    /// The distance from the mean of all grids.
    from_mean: f32,
    fine: Vec<f32>,
    coarse: Vec<f32>,
}

impl Grid {
    /// `None` for an image that shows nothing.
    fn of(id: u32, image: ImageView<'_>) -> Option<Self> {
        let mut fine = means(image);
        let mean = fine.iter().sum::<f32>() / fine.len() as f32;
        fine.iter_mut().for_each(|level| *level -= mean);
        let length = fine.iter().map(|level| level * level).sum::<f32>().sqrt();
        if length < FLAT * (fine.len() as f32).sqrt() {
            return None;
        }
        fine.iter_mut().for_each(|level| *level /= length);
        let mut coarse = vec![0.0; COARSE * COARSE * image.channels];
        for (fine, coarse) in fine.chunks_exact(SIDE * SIDE).zip(coarse.chunks_exact_mut(COARSE * COARSE)) {
            for (i, level) in fine.iter().enumerate() {
                let (y, x) = (i / SIDE * COARSE / SIDE, i % SIDE * COARSE / SIDE);
                coarse[y * COARSE + x] += level / CELLS;
            }
        }
        Some(Self { id, from_mean: 0.0, fine, coarse })
    }

    /// The distance to another one, if it is at most `limit`.
    fn near(&self, other: &Self, limit: f32) -> Option<f32> {
        let limit = limit * limit;
        // The mean of differences is no longer than the differences.
        (CELLS * squared_coarse(&self.coarse, &other.coarse) <= limit).then_some(())?;
        let found = squared(&self.fine, &other.fine);
        (found <= limit).then(|| found.sqrt())
    }
}

fn squared(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// In four sums, which the compiler makes one vector of: this is done for each pair.
fn squared_coarse(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; COARSE];
    for (a, b) in a.chunks_exact(COARSE).zip(b.chunks_exact(COARSE)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += (a - b) * (a - b);
        }
    }
    sums.iter().sum()
}

/// Grids in the order of their distances from the mean: those of near ones differ by no more than they do themselves, so
/// that most pairs are never met.
fn near_pairs(grids: &[Grid], limit: f32) -> Vec<(u32, u32, f32)> {
    let pairs_of = |i: usize| {
        let one = &grids[i];
        // Distances are rounded.
        let farthest = one.from_mean + limit + 1e-5;
        let later = grids[i + 1..].iter().take_while(move |other| other.from_mean <= farthest);
        later.filter_map(move |other| Some((one.id, other.id, one.near(other, limit)?)))
    };
    (0..grids.len()).into_par_iter().flat_map_iter(pairs_of).collect()
}

/// Mean level of each cell of a `SIDE` x `SIDE` grid, one channel after the other; pixels that lie in several cells
/// count by area.
fn means(image: ImageView<'_>) -> Vec<f32> {
    let ImageView { pixels, height, width, channels } = image;
    let mut sums = vec![0.0f32; SIDE * SIDE * channels];
    let columns: Vec<Vec<(usize, f32)>> = (0..width).map(|x| cells(x, width)).collect();
    for (y, row) in pixels.chunks_exact(width * channels).enumerate() {
        let rows = cells(y, height);
        for (pixel, columns) in row.chunks_exact(channels).zip(&columns) {
            for (sums, &level) in sums.chunks_exact_mut(SIDE * SIDE).zip(pixel) {
                for (cell_y, part_y) in &rows {
                    for (cell_x, part_x) in columns {
                        sums[cell_y * SIDE + cell_x] += f32::from(level) * part_y * part_x;
                    }
                }
            }
        }
    }
    sums
}

/// The cells that pixel `at` of `len` lies in, each with the share that it makes of the cell.
fn cells(at: usize, len: usize) -> Vec<(usize, f32)> {
    let scale = SIDE as f32 / len as f32;
    let (start, end) = (at as f32 * scale, (at + 1) as f32 * scale);
    let last = (end.ceil() as usize).min(SIDE);
    let part = |cell: usize| (end.min((cell + 1) as f32) - start.max(cell as f32)).max(0.0);
    (start.floor() as usize..last).map(|cell| (cell, part(cell))).filter(|(_, part)| *part > 0.0).collect()
}

/// Sets of ids that grow together (union by the lower id), and the largest distance that joined each.
struct Sets {
    parent: Vec<u32>,
    distance: Vec<f64>,
}

impl Sets {
    fn new(n: usize) -> Self {
        Self { parent: (0..n as u32).collect(), distance: vec![0.0; n] }
    }

    fn root(&mut self, id: u32) -> u32 {
        let mut at = id;
        while self.parent[at as usize] != at {
            let above = self.parent[at as usize];
            self.parent[at as usize] = self.parent[above as usize];
            at = above;
        }
        at
    }

    fn join(&mut self, a: u32, b: u32, distance: f64) {
        let (a, b) = (self.root(a), self.root(b));
        let (low, high) = (a.min(b), a.max(b));
        let largest = distance.max(self.distance[low as usize]).max(self.distance[high as usize]);
        self.distance[low as usize] = largest;
        self.parent[high as usize] = low;
    }

    fn into_copies(mut self) -> Vec<Copies> {
        let mut sets: HashMap<u32, Vec<u32>> = HashMap::new();
        for id in 0..self.parent.len() as u32 {
            sets.entry(self.root(id)).or_default().push(id);
        }
        let several = sets.into_iter().filter(|(_, ids)| ids.len() > 1);
        let mut copies: Vec<Copies> =
            several.map(|(root, ids)| Copies { ids, distance: self.distance[root as usize] }).collect();
        copies.sort_by_key(|copies| copies.ids[0]);
        copies
    }
}

#[cfg(test)]
mod tests {
    use cn_random::{Draws, Purpose};
    use proptest::prelude::*;

    use super::*;

    /// A drawing of a few strokes, different for each key.
    fn drawing(key: u32, side: usize) -> Vec<u8> {
        let mut draws = Draws::new(7, 0, key, Purpose::named("test: copies"));
        let mut pixels = vec![0u8; side * side];
        for _ in 0..6 {
            let [y, x, len] = [side, side, side / 2].map(|n| draws.below(n as u32) as usize);
            (0..len).for_each(|i| pixels[y * side + (x + i) % side] = 200);
        }
        pixels
    }

    /// The same with other values in the last bits, as compression leaves it.
    fn noisy(pixels: &[u8], key: u32) -> Vec<u8> {
        let mut draws = Draws::new(8, 0, key, Purpose::named("test: copies"));
        pixels.iter().map(|&v| v.saturating_add(draws.below(8) as u8)).collect()
    }

    fn pixels(images: &[Vec<u8>], side: usize) -> Pixels {
        Pixels::uniform(images.concat(), [side, side, 1]).expect("pixels")
    }

    #[test]
    fn copies_and_near_copies_are_told_apart() {
        let mut images: Vec<Vec<u8>> = (0..20).map(|key| drawing(key, 64)).collect();
        images[7] = images[2].clone();
        images[19] = noisy(&images[5], 1);
        images[11] = noisy(&images[5], 2);
        images[15] = images[11].clone();
        let found = pixels(&images, 64).copies(0.1);
        assert_eq!(
            found.iter().map(|copies| copies.ids.clone()).collect::<Vec<_>>(),
            [vec![2, 7], vec![5, 11, 19], vec![11, 15]]
        );
        assert_eq!((found[0].distance, found[2].distance), (0.0, 0.0), "an equal pair is not lost among near ones");
        assert!(found[1].distance > 0.0 && found[1].distance < 0.1, "{found:?}");
        let equal = pixels(&images, 64).copies(0.0);
        assert_eq!(equal, [[2, 7], [11, 15]].map(|ids| Copies { ids: ids.to_vec(), distance: 0.0 }));
    }

    #[test]
    fn sizes_and_channels_do_not_hide_a_near_copy() {
        let small = drawing(1, 32);
        let large: Vec<u8> = (0..64 * 64).flat_map(|i| [small[i / 64 / 2 * 32 + i % 64 / 2]; 3]).collect();
        let rgb: Vec<u8> = small.iter().flat_map(|&v| [v; 3]).collect();
        let view = |pixels, side| ImageView { pixels, height: side, width: side, channels: 3 };
        let pixels = Pixels::from_images([view(&rgb, 32), view(&large, 64)]).expect("pixels");
        assert_eq!(pixels.copies(0.01).len(), 1);
        assert!(pixels.copies(0.0).is_empty(), "not the same bytes");
    }

    #[test]
    fn contrast_and_brightness_do_not_hide_a_near_copy() {
        let (one, other) = (drawing(1, 64), drawing(2, 64));
        let pale: Vec<u8> = one.iter().map(|&v| 60 + v / 3).collect();
        let found = pixels(&[one, other, pale], 64).copies(0.1);
        assert_eq!(found.iter().map(|copies| copies.ids.clone()).collect::<Vec<_>>(), [vec![0, 2]]);
        assert!(found[0].distance > 0.0, "near, and not byte for byte");
        // Twice the contrast is the same grid to the last bit, and other bytes.
        let (dim, bright) = (drawing(1, 64), drawing(1, 64).iter().map(|&v| v / 2).collect());
        assert!(pixels(&[dim, bright], 64).copies(0.1)[0].distance > 0.0);
    }

    #[test]
    fn what_differs_in_colour_is_no_copy() {
        let disc = |channel: usize| {
            let drawn = drawing(1, 64);
            drawn.iter().flat_map(|&v| std::array::from_fn::<u8, 3, _>(|c| if c == channel { v } else { 0 })).collect()
        };
        let images: Vec<Vec<u8>> = vec![disc(0), disc(2)];
        let pixels = Pixels::uniform(images.concat(), [64, 64, 3]).expect("pixels");
        assert_eq!(pixels.copies(0.1), []);
    }

    #[test]
    fn empty_images_are_equal_and_never_near() {
        let images = [vec![0; 64], vec![0; 64], vec![9; 64]];
        let found = pixels(&images, 8).copies(0.5);
        assert_eq!(found, [Copies { ids: vec![0, 1], distance: 0.0 }]);
    }

    #[test]
    fn cells_share_pixels_by_area() {
        for len in [1, 5, 31, 32, 33, 64, 100] {
            let all: Vec<(usize, f32)> = (0..len).flat_map(|at| cells(at, len)).collect();
            for cell in 0..SIDE {
                let sum: f32 = all.iter().filter(|(c, _)| *c == cell).map(|(_, part)| part).sum();
                assert!((sum - 1.0).abs() < 1e-4, "cell {cell} of {len}: {sum}");
            }
        }
    }

    proptest! {
        #[test]
        fn bounds_miss_no_pair(keys in proptest::collection::vec(0u32..12, 2..24), limit in 0.05f32..1.5) {
            let images: Vec<Vec<u8>> =
                (0..).zip(&keys).map(|(i, &key)| noisy(&drawing(key, 16), i)).collect();
            let grids = pixels(&images, 16).grids();
            let mut found: Vec<(u32, u32)> =
                near_pairs(&grids, limit).into_iter().map(|(a, b, _)| (a.min(b), a.max(b))).collect();
            found.sort_unstable();
            let mut expected = Vec::new();
            for (a, b) in grids.iter().flat_map(|a| grids.iter().map(move |b| (a, b))).filter(|(a, b)| a.id < b.id) {
                let distance = squared(&a.fine, &b.fine).sqrt();
                if distance <= limit {
                    expected.push((a.id, b.id));
                }
            }
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
