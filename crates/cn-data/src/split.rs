//! Which images train, and which judge.

mod fastai;
mod method;
mod strata;

use std::collections::{BTreeMap, HashSet};

use cn_random::Purpose;
use serde::{Deserialize, Serialize};

pub use method::SplitMethod;
pub(crate) use method::VAL_GROUPS;
pub(crate) use strata::balanced_order;

use crate::{Digest, Error, Index, Result};

/// Below this many images torch's `randperm` takes 32-bit draws, the path that is reproduced here.
pub(crate) const MAX_IMAGES: usize = (u32::MAX / 20) as usize;

const GROUPS: Purpose = Purpose::named("split: groups");

/// How to split: the method, and what it needs.
///
/// ```
/// use cn_data::{SplitConfig, SplitMethod};
///
/// let notebook = SplitConfig::default();
/// assert_eq!((notebook.method, notebook.val_fraction, notebook.seed), (SplitMethod::Random, 0.2, 42));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitConfig {
    /// The method.
    pub method: SplitMethod,
    /// Share of the validation part, between 0 and 1; of no effect on k-fold, named groups and fixed parts.
    pub val_fraction: f64,
    /// Seed of the choice; of no effect on named groups and fixed parts.
    pub seed: u64,
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self { method: SplitMethod::Random, val_fraction: 0.2, seed: 42 }
    }
}

/// Ids of the training and of the validation part; no image is in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    pub(crate) train: Vec<u32>,
    pub(crate) val: Vec<u32>,
}

impl Split {
    /// Splits the images of `index`.
    ///
    /// The order of the parts is fastai's for [`SplitMethod::Random`], ascending for the others.
    ///
    /// # Errors
    ///
    /// If the method does not fit the data set, or a part would be empty.
    pub fn new(index: &Index, config: &SplitConfig) -> Result<Self> {
        let SplitConfig { method, val_fraction, seed } = config;
        method.check()?;
        let split = match method {
            SplitMethod::Random => {
                check_fraction(*val_fraction)?;
                let (train, val) = fastai::random_split(index.len(), *val_fraction, *seed);
                Self { train, val }
            }
            SplitMethod::Stratified => {
                check_fraction(*val_fraction)?;
                Self::by_marks(&strata::share(index, *val_fraction, *seed))
            }
            SplitMethod::Group => {
                check_fraction(*val_fraction)?;
                let groups = groups_of_all(index, method)?;
                Self::by_groups(index, &share_of_groups(&groups, *val_fraction, *seed)?)
            }
            SplitMethod::ValGroups(names) => Self::by_groups(index, &known_groups(index, names, method)?),
            SplitMethod::KFold { k, fold } => match groups_of_all(index, method) {
                Ok(groups) => Self::by_groups(index, &fold_of_groups(&groups, *k, *fold, *seed)?),
                Err(_) => Self::by_marks(&strata::fold(index, *k, *fold, *seed)),
            },
            SplitMethod::Fixed => {
                let val = index.fixed_val();
                let val = val.ok_or_else(|| Error::NoFixedParts { name: index.name().to_owned() })?;
                let mut marks = vec![false; index.len()];
                val.iter().for_each(|&id| marks[id as usize] = true);
                Self::by_marks(&marks)
            }
        };
        split.check_parts(method)?;
        Ok(split)
    }

    /// A split chosen elsewhere, of a data set of `n` images; images may be in neither part.
    ///
    /// # Errors
    ///
    /// If an image stands twice or does not exist.
    pub fn from_parts(train: Vec<u32>, val: Vec<u32>, n: usize) -> Result<Self> {
        let mut seen = vec![false; n];
        for &id in train.iter().chain(&val) {
            match seen.get_mut(id as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => return Err(Error::BadParts { id, n }),
            }
        }
        Ok(Self { train, val })
    }

    /// The training part.
    #[must_use]
    pub fn train(&self) -> &[u32] {
        &self.train
    }

    /// The validation part.
    #[must_use]
    pub fn val(&self) -> &[u32] {
        &self.val
    }

    /// How many groups have images in both parts: 0 for an honest test on new writers.
    ///
    /// # Panics
    ///
    /// If the split is of a larger index.
    #[must_use]
    pub fn groups_shared(&self, index: &Index) -> usize {
        let groups = |ids: &[u32]| -> HashSet<String> {
            ids.iter().filter_map(|&id| index.records()[id as usize].group.clone()).collect()
        };
        groups(&self.train).intersection(&groups(&self.val)).count()
    }

    /// The same split with a training part cut down to some `n` images of each class; validation stays whole.
    ///
    /// An image is taken while one of its classes has fewer than `n`, so with several labels an image a class may get
    /// more, and never fewer than `n` if it has them. The choice depends on the records, `n` and `seed` alone, and a
    /// smaller `n` takes a part of a larger one's; the order stays.
    ///
    /// # Errors
    ///
    /// If `n` is 0.
    ///
    /// # Panics
    ///
    /// If the split is of a larger index.
    pub fn limit_per_class(&self, index: &Index, n: usize, seed: u64) -> Result<Self> {
        if n == 0 {
            return Err(Error::LimitZero);
        }
        let keep = strata::per_class(index, &self.train, n, seed);
        let train = self.train.iter().copied().filter(|id| keep.contains(id)).collect();
        Ok(Self { train, val: self.val.clone() })
    }

    /// Digest of the split: of `train`, the ids, `val`, the ids, one on each line in their order.
    #[must_use]
    pub fn sha256(&self) -> Digest {
        let lines =
            |name: &str, ids: &[u32]| ids.iter().fold(format!("{name}\n"), |text, id| text + &id.to_string() + "\n");
        Digest::of((lines("train", &self.train) + &lines("val", &self.val)).as_bytes())
    }

    /// Validation where the mark is set.
    fn by_marks(marks: &[bool]) -> Self {
        let ids = |wanted: bool| (0..).zip(marks).filter(|&(_, &m)| m == wanted).map(|(id, _)| id).collect();
        Self { train: ids(false), val: ids(true) }
    }

    fn by_groups(index: &Index, val: &HashSet<&str>) -> Self {
        let is_val = |group: &Option<String>| group.as_deref().is_some_and(|group| val.contains(group));
        Self::by_marks(&index.records().iter().map(|r| is_val(&r.group)).collect::<Vec<_>>())
    }

    fn check_parts(&self, method: &SplitMethod) -> Result<()> {
        let n = self.train.len() + self.val.len();
        let empty = |part| Err(Error::EmptyPart { method: method.to_string(), n, part });
        match (self.train.is_empty(), self.val.is_empty()) {
            (true, _) => empty("training"),
            (_, true) => empty("validation"),
            _ => Ok(()),
        }
    }
}

fn check_fraction(fraction: f64) -> Result<()> {
    if fraction > 0.0 && fraction < 1.0 { Ok(()) } else { Err(Error::BadFraction { fraction }) }
}

/// The groups with their sizes, if every image has one.
fn groups_of_all<'a>(index: &'a Index, method: &SplitMethod) -> Result<BTreeMap<&'a str, usize>> {
    match index.records().iter().find(|record| record.group.is_none()) {
        Some(record) => Err(Error::GroupUnknown { image: record.path.clone(), method: method.to_string() }),
        None => Ok(index.groups()),
    }
}

/// Groups in a random order.
fn shuffled<'a>(groups: &BTreeMap<&'a str, usize>, seed: u64) -> Vec<(&'a str, usize)> {
    let sorted: Vec<_> = groups.iter().map(|(&name, &size)| (name, size)).collect();
    let order = cn_random::permutation(seed, 0, GROUPS, sorted.len() as u32);
    order.into_iter().map(|i| sorted[i as usize]).collect()
}

/// Groups in a random order, each taken if that brings the number of images nearer to the share.
fn share_of_groups<'a>(groups: &BTreeMap<&'a str, usize>, fraction: f64, seed: u64) -> Result<HashSet<&'a str>> {
    if groups.len() < 2 {
        return Err(Error::TooFewGroups { groups: groups.len(), parts: 2 });
    }
    let wanted = fraction * groups.values().sum::<usize>() as f64;
    let order = shuffled(groups, seed);
    let (mut taken, mut images) = (HashSet::new(), 0.0);
    for &(name, size) in &order {
        let size = size as f64;
        if (images + size - wanted).abs() < wanted - images && taken.len() + 1 < groups.len() {
            taken.insert(name);
            images += size;
        }
    }
    if taken.is_empty() {
        // Every group is more than twice the share: the smallest does least harm.
        taken.extend(order.iter().min_by_key(|(_, size)| *size).map(|(name, _)| *name));
    }
    Ok(taken)
}

/// Fold `fold` of `k`: the largest group first, each into the fold with the fewest images.
fn fold_of_groups<'a>(groups: &BTreeMap<&'a str, usize>, k: u32, fold: u32, seed: u64) -> Result<HashSet<&'a str>> {
    let parts = k as usize;
    if groups.len() < parts {
        return Err(Error::TooFewGroups { groups: groups.len(), parts });
    }
    let mut order = shuffled(groups, seed);
    order.sort_by_key(|&(_, size)| std::cmp::Reverse(size));
    let mut folds = vec![(0, HashSet::new()); parts];
    for (name, size) in order {
        // The first of the emptiest folds: `min_by_key` keeps the first.
        let emptiest = folds.iter_mut().min_by_key(|(images, _)| *images).expect("k is at least 2");
        emptiest.0 += size;
        emptiest.1.insert(name);
    }
    Ok(folds.swap_remove(fold as usize).1)
}

/// The named groups, if they exist.
fn known_groups<'a>(index: &'a Index, names: &[String], method: &SplitMethod) -> Result<HashSet<&'a str>> {
    let groups = groups_of_all(index, method)?;
    let find = |name: &String| match groups.get_key_value(name.as_str()) {
        Some((&known, _)) => Ok(known),
        None => Err(Error::NoSuchGroup {
            group: name.clone(),
            nearest: method::nearest(name, groups.keys().copied()),
            n_groups: groups.len(),
        }),
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests;
