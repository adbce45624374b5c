use std::collections::BTreeMap;

use cn_random::{Draws, Purpose};
use serde::Serialize;

use super::answers::Answers;

const PURPOSE: Purpose = Purpose::named("bootstrap");

/// How intervals are found: by scoring tables that are drawn, with replacement, from the one that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bootstrap {
    /// Tables that are drawn.
    pub resamples: u32,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { resamples: 2000, seed: 42 }
    }
}

/// 95 % intervals of the same numbers, under two beliefs about what another validation part would be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Intervals {
    /// Other images of the same writers: images are drawn one by one.
    pub images: IntervalSet,
    /// Other writers: all images of a group are drawn together, since they are easy or hard together. `None` where
    /// fewer than two groups are known.
    pub groups: Option<IntervalSet>,
    /// Images without a group, among the units of [`groups`](Self::groups): each was drawn alone.
    pub n_alone: usize,
}

impl Intervals {
    /// Groups that were drawn whole, and images that were drawn beside them, in words.
    pub(crate) fn units_text(&self, groups: &str) -> String {
        let n = self.groups.as_ref().map_or(0, |set| set.units - self.n_alone);
        match self.n_alone {
            0 => format!("{n} {groups} drawn whole"),
            1 => format!("{n} {groups} drawn whole, and 1 image without"),
            alone => format!("{n} {groups} drawn whole, and {alone} images without"),
        }
    }

    /// The wider of the two for the exact match, which is the one to quote: over few groups a bootstrap is too sure.
    #[must_use]
    pub fn widest(&self) -> &IntervalSet {
        self.groups.as_ref().filter(|groups| groups.width() >= self.images.width()).unwrap_or(&self.images)
    }
}

/// Ends of 95 % intervals, by percentiles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct IntervalSet {
    /// Units that were drawn: images, or groups.
    pub units: usize,
    /// Of the share of images whose whole label set is right.
    pub exact_match: [f64; 2],
    /// Of the share of images whose most probable class is right.
    pub top1: [f64; 2],
    /// Of the share of yes/no answers that are right.
    pub accuracy_multi: [f64; 2],
}

impl IntervalSet {
    /// How wide the interval of the exact match is.
    #[must_use]
    pub fn width(&self) -> f64 {
        self.exact_match[1] - self.exact_match[0]
    }
}

/// Counts of some images.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    images: u32,
    exact: u32,
    labelled: u32,
    top1: u32,
    wrong_answers: u32,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.images += other.images;
        self.exact += other.exact;
        self.labelled += other.labelled;
        self.top1 += other.top1;
        self.wrong_answers += other.wrong_answers;
    }
}

impl Answers<'_> {
    /// Intervals by resampling; `None` without images, and where the whole label set of all of them is right, or of all
    /// wrong: whatever is drawn is then the same, which says nothing about other images.
    #[must_use]
    pub fn intervals(&self, bootstrap: &Bootstrap) -> Option<Intervals> {
        let rows = self.table().rows();
        if rows.is_empty() || bootstrap.resamples == 0 {
            return None;
        }
        let counts: Vec<Counts> = (0..rows.len()).map(|row| self.counts_of(row)).collect();
        if counts.iter().all(|image| image.exact == counts[0].exact) {
            return None;
        }
        // By path, so that the order of the images plays no part.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&row| &rows[row].path);
        let images: Vec<Counts> = order.into_iter().map(|row| counts[row]).collect();
        // An image without a group is one of its own: nothing says that it comes with others.
        let mut groups: BTreeMap<Result<&str, &str>, Counts> = BTreeMap::new();
        for (row, counts) in rows.iter().zip(&counts) {
            groups.entry(row.group.as_deref().ok_or(row.path.as_str())).or_default().add(counts);
        }
        let n_alone = groups.keys().filter(|group| group.is_err()).count();
        let is_grouped = groups.len() - n_alone > 1;
        let groups: Vec<Counts> = groups.into_values().collect();
        let n_classes = self.table().classes().len();
        Some(Intervals {
            images: resample(&images, n_classes, bootstrap),
            groups: is_grouped.then(|| resample(&groups, n_classes, bootstrap)),
            n_alone,
        })
    }

    fn counts_of(&self, row: usize) -> Counts {
        let (prediction, passed) = (&self.table().rows()[row], self.passed(row));
        let right = passed.iter().filter(|class| prediction.targets.binary_search(class).is_ok()).count();
        Counts {
            images: 1,
            exact: u32::from(prediction.targets == passed),
            labelled: u32::from(!prediction.targets.is_empty()),
            top1: u32::from(prediction.targets.contains(&prediction.most_probable())),
            wrong_answers: (passed.len() + prediction.targets.len() - 2 * right) as u32,
        }
    }
}

fn resample(units: &[Counts], n_classes: usize, bootstrap: &Bootstrap) -> IntervalSet {
    let n = u32::try_from(units.len()).expect("a table has fewer than 2^32 images");
    let mut shares: [Vec<f64>; 3] = Default::default();
    for table in 0..bootstrap.resamples {
        let mut draws = Draws::new(bootstrap.seed, table, 0, PURPOSE);
        let mut sum = Counts::default();
        (0..n).for_each(|_| sum.add(&units[draws.below(n) as usize]));
        let images = f64::from(sum.images);
        let wrong = f64::from(sum.wrong_answers) / (images * n_classes as f64);
        let values = [f64::from(sum.exact) / images, f64::from(sum.top1) / f64::from(sum.labelled.max(1)), 1.0 - wrong];
        shares.iter_mut().zip(values).for_each(|(share, value)| share.push(value));
    }
    let [exact_match, top1, accuracy_multi] = shares.map(|mut values| {
        values.sort_unstable_by(f64::total_cmp);
        [quantile(&values, 0.025), quantile(&values, 0.975)]
    });
    IntervalSet { units: units.len(), exact_match, top1, accuracy_multi }
}

/// Between the neighbours in a straight line, as numpy has it.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, part) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + part * (sorted[above] - sorted[below])
}
