//! The inner loops of pooling: over the channels of one window, and over those of a whole image.

use super::Isa;
use super::isa::for_each_isa;
use super::lanes::{Lanes, load, store};

/// Pixels of an image that one window or one input pixel looks at: `rows` by `cols`, first at `first`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neighbours {
    pub first: usize,
    pub rows: usize,
    pub cols: usize,
    /// Elements from one row of pixels to the next.
    pub row_stride: usize,
    /// Tag of the first, and what the next row and the next column add to it.
    pub tag: isize,
    pub tag_row: isize,
    pub tag_col: isize,
    /// Channels.
    pub channels: usize,
}

impl Neighbours {
    fn check(&self, len: usize) {
        let last = self.first + (self.rows - 1) * self.row_stride + self.cols * self.channels;
        assert!(self.rows > 0 && self.cols > 0 && last <= len, "neighbours inside the image");
    }
}

/// For each channel, the largest of the neighbours in `x` and its tag; the first of equal ones, NaN above all.
pub(crate) fn largest(isa: Isa, at: &Neighbours, x: &[f32], y: &mut [f32], tags: &mut [u8]) {
    at.check(x.len());
    assert!(y.len() == at.channels && tags.len() == at.channels, "one value a channel");
    // SAFETY: the neighbours lie inside `x`, as checked, and every channel inside `y` and `tags`.
    unsafe { run_largest(isa, at, x, y, tags) }
}

for_each_isa! {
    fn run_largest = largest_body; (at: &Neighbours, x: &[f32], y: &mut [f32], tags: &mut [u8])
}

#[inline(always)]
unsafe fn largest_body<L: Lanes>(at: &Neighbours, x: &[f32], y: &mut [f32], tags: &mut [u8]) {
    for c in (0..at.channels).step_by(L::N) {
        let n = (at.channels - c).min(L::N);
        // SAFETY: as `largest`.
        unsafe {
            let mut best = L::splat(f32::NEG_INFINITY);
            let mut best_tag = L::splat(at.tag as f32);
            for i in 0..at.rows {
                for j in 0..at.cols {
                    let from = x.as_ptr().add(at.first + i * at.row_stride + j * at.channels + c);
                    let value = load::<L>(from, n);
                    let tag = at.tag + i as isize * at.tag_row + j as isize * at.tag_col;
                    (best, best_tag) = L::larger(value, L::splat(tag as f32), best, best_tag);
                }
            }
            store::<L>(y.as_mut_ptr().add(c), best, n);
            L::store_bytes(tags.as_mut_ptr().add(c), best_tag, n);
        }
    }
}

/// For each channel, the sum of those neighbours in `dy` whose tag is the one asked for.
pub(crate) fn gather(isa: Isa, at: &Neighbours, dy: &[f32], tags: &[u8], dx: &mut [f32]) {
    at.check(dy.len().min(tags.len()));
    assert!(dx.len() == at.channels, "one value a channel");
    // SAFETY: the neighbours lie inside `dy` and `tags`, as checked, and every channel inside `dx`.
    unsafe { run_gather(isa, at, dy, tags, dx) }
}

for_each_isa! {
    fn run_gather = gather_body; (at: &Neighbours, dy: &[f32], tags: &[u8], dx: &mut [f32])
}

#[inline(always)]
unsafe fn gather_body<L: Lanes>(at: &Neighbours, dy: &[f32], tags: &[u8], dx: &mut [f32]) {
    for c in (0..at.channels).step_by(L::N) {
        let n = (at.channels - c).min(L::N);
        // SAFETY: as `gather`.
        unsafe {
            let mut sum = L::zero();
            for i in 0..at.rows {
                for j in 0..at.cols {
                    let from = at.first + i * at.row_stride + j * at.channels + c;
                    let dy = dy.as_ptr().add(from);
                    let value = load::<L>(dy, n);
                    let tag = at.tag + i as isize * at.tag_row + j as isize * at.tag_col;
                    let tags = L::load_bytes(tags.as_ptr().add(from), n);
                    sum = L::add(sum, L::where_equal(tags, L::splat(tag as f32), value));
                }
            }
            store::<L>(dx.as_mut_ptr().add(c), sum, n);
        }
    }
}

/// For each channel of `x (P, C)`: the largest value, its position (the first of equal ones, NaN above all), the mean.
pub(crate) fn largest_and_mean(isa: Isa, x: &[f32], max: &mut [f32], mean: &mut [f32], winners: &mut [u32]) {
    let c = max.len();
    assert!(c > 0 && mean.len() == c && winners.len() == c && x.len().is_multiple_of(c), "one value a channel");
    // SAFETY: `x` has whole positions of `c` channels, and every channel lies inside the other three.
    unsafe { run_largest_and_mean(isa, x, max, mean, winners) }
}

for_each_isa! {
    fn run_largest_and_mean = largest_and_mean_body; (x: &[f32], max: &mut [f32], mean: &mut [f32], winners: &mut [u32])
}

#[inline(always)]
unsafe fn largest_and_mean_body<L: Lanes>(x: &[f32], max: &mut [f32], mean: &mut [f32], winners: &mut [u32]) {
    let channels = max.len();
    let positions = x.len() / channels;
    for c in (0..channels).step_by(L::N) {
        let n = (channels - c).min(L::N);
        // SAFETY: as `largest_and_mean`.
        unsafe {
            let (mut best, mut best_at, mut sum) = (L::splat(f32::NEG_INFINITY), L::zero(), L::zero());
            for p in 0..positions {
                let value = load::<L>(x.as_ptr().add(p * channels + c), n);
                (best, best_at) = L::larger(value, L::splat(p as f32), best, best_at);
                sum = L::add(sum, value);
            }
            store::<L>(max.as_mut_ptr().add(c), best, n);
            store::<L>(mean.as_mut_ptr().add(c), L::div(sum, L::splat(positions as f32)), n);
            let mut at = [0.0; MOST_LANES];
            L::store(at.as_mut_ptr(), best_at);
            winners[c..c + n].iter_mut().zip(at).for_each(|(winner, at)| *winner = at as u32);
        }
    }
}

/// Numbers of the widest vector.
const MOST_LANES: usize = 16;

/// The gradient of what [`largest_and_mean`] gives: `dx (P, C)` from those of the largest values and of the means.
pub(crate) fn spread(isa: Isa, [d_max, d_mean]: [&[f32]; 2], share: f32, winners: &[u32], dx: &mut [f32]) {
    let c = d_max.len();
    assert!(c > 0 && d_mean.len() == c && winners.len() == c && dx.len().is_multiple_of(c), "one value a channel");
    // SAFETY: `dx` has whole positions of `c` channels, and every channel lies inside the other three.
    unsafe { run_spread(isa, d_max, d_mean, share, winners, dx) }
}

for_each_isa! {
    fn run_spread = spread_body; (d_max: &[f32], d_mean: &[f32], share: f32, winners: &[u32], dx: &mut [f32])
}

#[inline(always)]
unsafe fn spread_body<L: Lanes>(d_max: &[f32], d_mean: &[f32], share: f32, winners: &[u32], dx: &mut [f32]) {
    let channels = d_max.len();
    let positions = dx.len() / channels;
    for c in (0..channels).step_by(L::N) {
        let n = (channels - c).min(L::N);
        let mut at = [0.0; MOST_LANES];
        winners[c..c + n].iter().zip(&mut at).for_each(|(winner, at)| *at = *winner as f32);
        // SAFETY: as `spread`.
        unsafe {
            let (d_max, at) = (load::<L>(d_max.as_ptr().add(c), n), L::load(at.as_ptr()));
            let d_mean = L::mul(load::<L>(d_mean.as_ptr().add(c), n), L::splat(share));
            for p in 0..positions {
                let won = L::where_equal(at, L::splat(p as f32), d_max);
                store::<L>(dx.as_mut_ptr().add(p * channels + c), L::add(d_mean, won), n);
            }
        }
    }
}
