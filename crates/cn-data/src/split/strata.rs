//! Choices that are even over the classes.

use std::collections::{BTreeMap, HashMap, HashSet};

use cn_random::{Draws, Purpose};

use crate::Index;

const WITHIN: Purpose = Purpose::named("split: order within a stratum");
const STRATA: Purpose = Purpose::named("split: order of the strata");
const LIMIT: Purpose = Purpose::named("limit: order within a stratum");
const PER_CLASS: Purpose = Purpose::named("limit per class: order");

/// Images with the same set of labels, each stratum in a random order; strata by their labels.
fn shuffled_strata(index: &Index, seed: u64, purpose: Purpose) -> Vec<Vec<u32>> {
    let mut strata: BTreeMap<Vec<&str>, Vec<u32>> = BTreeMap::new();
    for (id, record) in (0..).zip(index.records()) {
        let mut labels: Vec<_> = record.labels.iter().map(String::as_str).collect();
        labels.sort_unstable();
        strata.entry(labels).or_default().push(id);
    }
    let mut strata: Vec<_> = strata.into_values().collect();
    for (i, stratum) in (0..).zip(&mut strata) {
        Draws::new(seed, 0, i, purpose).shuffle(stratum);
    }
    strata
}

/// All ids, stratum after stratum: taking every k-th of them takes each class in its share.
fn systematic_order(index: &Index, seed: u64) -> Vec<u32> {
    let mut strata = shuffled_strata(index, seed, WITHIN);
    // Rare label sets would else be taken or left in the order of their names.
    Draws::new(seed, 0, 0, STRATA).shuffle(&mut strata);
    strata.concat()
}

/// Marks `int(fraction * n)` images, within 1 of the share in each stratum.
pub(super) fn share(index: &Index, fraction: f64, seed: u64) -> Vec<bool> {
    let n = index.len() as u64;
    let wanted = (fraction * n as f64) as u64;
    let mut marks = vec![false; index.len()];
    let order = systematic_order(index, seed);
    for (position, &id) in (0..).zip(&order) {
        marks[id as usize] = (position + 1) * wanted / n > position * wanted / n;
    }
    leave_one_of_each(index, &order, &mut marks);
    marks
}

/// Unmarks an image of each label whose images are all marked, since who judges has to be known to those who train; the
/// first images of `order` that can be spared are marked in their place.
fn leave_one_of_each(index: &Index, order: &[u32], marks: &mut [bool]) {
    let labels = |id: u32| index.records()[id as usize].labels.iter().map(String::as_str);
    let mut unmarked: HashMap<&str, usize> = HashMap::new();
    let free = order.iter().filter(|&&id| !marks[id as usize]);
    free.for_each(|&id| labels(id).for_each(|label| *unmarked.entry(label).or_default() += 1));
    let mut left = HashSet::new();
    for &id in order {
        if marks[id as usize] && labels(id).any(|label| !unmarked.contains_key(label)) {
            marks[id as usize] = false;
            labels(id).for_each(|label| *unmarked.entry(label).or_default() += 1);
            left.insert(id);
        }
    }
    let mut owed = left.len();
    for &id in order {
        let is_spared = |label| unmarked.get(label).is_some_and(|&n| n > 1);
        if owed > 0 && !marks[id as usize] && !left.contains(&id) && labels(id).all(is_spared) {
            marks[id as usize] = true;
            labels(id).for_each(|label| *unmarked.entry(label).or_default() -= 1);
            owed -= 1;
        }
    }
}

/// Marks fold `fold` of `k`, within 1 of the k-th part in each stratum.
pub(super) fn fold(index: &Index, k: u32, fold: u32, seed: u64) -> Vec<bool> {
    let mut marks = vec![false; index.len()];
    for id in systematic_order(index, seed).into_iter().skip(fold as usize).step_by(k as usize) {
        marks[id as usize] = true;
    }
    marks
}

/// All ids so that each beginning is as even over the strata as can be: one of each, then another of each.
pub(crate) fn balanced_order(index: &Index, seed: u64) -> Vec<u32> {
    let strata = shuffled_strata(index, seed, LIMIT);
    let rounds = strata.iter().map(Vec::len).max().unwrap_or(0);
    (0..rounds).flat_map(|round| strata.iter().filter_map(move |s| s.get(round).copied())).collect()
}

/// Images of `ids`, in a random order, each taken while one of its classes has fewer than `n`.
pub(super) fn per_class(index: &Index, ids: &[u32], n: usize, seed: u64) -> HashSet<u32> {
    let mut order = ids.to_vec();
    order.sort_unstable();
    Draws::new(seed, 0, 0, PER_CLASS).shuffle(&mut order);
    let mut taken: HashMap<&str, usize> = HashMap::new();
    let mut keep = HashSet::new();
    for id in order {
        let labels = &index.records()[id as usize].labels;
        // Images without any label are a class of their own.
        let classes = || labels.iter().map(String::as_str).chain(labels.is_empty().then_some(""));
        if classes().any(|class| taken.get(class).is_none_or(|&count| count < n)) {
            classes().for_each(|class| *taken.entry(class).or_default() += 1);
            keep.insert(id);
        }
    }
    keep
}
