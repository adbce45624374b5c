//! Which images make which batch.

use cn_random::Purpose;

use crate::{Error, Result};

const ORDER: Purpose = Purpose::named("order of an epoch");

/// The batches of one part of a data set, epoch by epoch.
///
/// The order of an epoch is a function of (part, seed, epoch): nothing needs to be saved to resume.
///
/// ```
/// let sampler = cn_data::Sampler::train(&[3, 1, 4, 15, 9], 2, 42)?;
/// let batches: Vec<Vec<u32>> = sampler.epoch(0).collect();
/// assert_eq!((batches.len(), batches[0].len()), (2, 2)); // The fifth image waits for another epoch.
/// assert!(sampler.epoch(0).skip(1).eq(batches[1..].to_vec()));
/// # Ok::<(), cn_data::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Sampler {
    ids: Vec<u32>,
    batch_size: usize,
    order: Order,
}

#[derive(Debug, Clone, Copy)]
enum Order {
    /// Shuffled, without the incomplete last batch.
    Shuffled { seed: u64 },
    /// As the ids stand, with the last batch as short as it comes.
    AsGiven,
}

impl Sampler {
    /// Shuffled batches of exactly `batch_size`; what does not fill a batch is left out, other images each epoch.
    ///
    /// # Errors
    ///
    /// If the batch is empty or larger than the part.
    pub fn train(ids: &[u32], batch_size: usize, seed: u64) -> Result<Self> {
        if batch_size == 0 {
            return Err(Error::BatchSizeZero);
        }
        if batch_size > ids.len() {
            return Err(Error::BatchTooLarge { batch_size, n: ids.len() });
        }
        Ok(Self { ids: ids.to_vec(), batch_size, order: Order::Shuffled { seed } })
    }

    /// Batches in the order of `ids`, all of them; the last may be short.
    ///
    /// # Errors
    ///
    /// If the batch is empty.
    pub fn val(ids: &[u32], batch_size: usize) -> Result<Self> {
        if batch_size == 0 {
            return Err(Error::BatchSizeZero);
        }
        Ok(Self { ids: ids.to_vec(), batch_size, order: Order::AsGiven })
    }

    /// Batches an epoch.
    #[must_use]
    pub fn n_batches(&self) -> usize {
        match self.order {
            Order::Shuffled { .. } => self.ids.len() / self.batch_size,
            Order::AsGiven => self.ids.len().div_ceil(self.batch_size),
        }
    }

    /// Images an epoch.
    #[must_use]
    pub fn n_images(&self) -> usize {
        match self.order {
            Order::Shuffled { .. } => self.n_batches() * self.batch_size,
            Order::AsGiven => self.ids.len(),
        }
    }

    /// Images of a full batch.
    #[must_use]
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// The batches of `epoch`; `skip(n)` goes on after `n` batches at no cost.
    #[must_use]
    pub fn epoch(&self, epoch: u32) -> Batches {
        let order = match self.order {
            Order::Shuffled { seed } => {
                let order = cn_random::permutation(seed, epoch, ORDER, self.ids.len() as u32);
                order.into_iter().take(self.n_images()).map(|i| self.ids[i as usize]).collect()
            }
            Order::AsGiven => self.ids.clone(),
        };
        Batches { order, batch_size: self.batch_size, position: 0 }
    }
}

/// The batches of an epoch, each a list of ids.
#[derive(Debug, Clone)]
pub struct Batches {
    order: Vec<u32>,
    batch_size: usize,
    position: usize,
}

impl Iterator for Batches {
    type Item = Vec<u32>;

    fn next(&mut self) -> Option<Vec<u32>> {
        self.nth(0)
    }

    fn nth(&mut self, n: usize) -> Option<Vec<u32>> {
        let start = self.position.saturating_add(n.saturating_mul(self.batch_size)).min(self.order.len());
        let batch = &self.order[start..(start + self.batch_size).min(self.order.len())];
        self.position = start + batch.len();
        (!batch.is_empty()).then(|| batch.to_vec())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.order.len() - self.position).div_ceil(self.batch_size);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Batches {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn training_batches_are_full_and_without_repetition(n in 1usize..200, batch in 1usize..50, seed: u64) {
            prop_assume!(batch <= n);
            let ids: Vec<u32> = (0..n as u32).map(|i| i * 3 + 1).collect();
            let sampler = Sampler::train(&ids, batch, seed).expect("valid");
            let batches: Vec<_> = sampler.epoch(5).collect();
            prop_assert_eq!(batches.len(), n / batch);
            prop_assert_eq!(sampler.n_batches(), n / batch);
            prop_assert!(batches.iter().all(|b| b.len() == batch));
            let mut seen = batches.concat();
            seen.sort_unstable();
            let drawn = seen.len();
            seen.dedup();
            prop_assert_eq!(seen.len(), drawn);
            prop_assert!(seen.iter().all(|id| ids.contains(id)));
        }

        #[test]
        fn validation_batches_are_the_part_in_order(n in 0usize..200, batch in 1usize..50) {
            let ids: Vec<u32> = (0..n as u32).rev().collect();
            let sampler = Sampler::val(&ids, batch).expect("valid");
            let batches: Vec<_> = sampler.epoch(9).collect();
            prop_assert_eq!(batches.len(), sampler.n_batches());
            prop_assert_eq!(batches.concat(), ids);
        }

        #[test]
        fn skipping_is_going_on(n in 1usize..100, batch in 1usize..20, skip in 0usize..30) {
            prop_assume!(batch <= n);
            let ids: Vec<u32> = (0..n as u32).collect();
            let sampler = Sampler::train(&ids, batch, 1).expect("valid");
            let all: Vec<_> = sampler.epoch(2).collect();
            let left: Vec<_> = sampler.epoch(2).skip(skip).collect();
            prop_assert_eq!(sampler.epoch(2).skip(skip).len(), left.len());
            prop_assert_eq!(&left[..], &all[skip.min(all.len())..]);
        }
    }

    #[test]
    fn orders_differ_by_epoch_and_seed_alone() {
        let ids: Vec<u32> = (0..100).collect();
        let order = |seed, epoch| Sampler::train(&ids, 10, seed).expect("valid").epoch(epoch).flatten().collect();
        let first: Vec<u32> = order(1, 0);
        assert_eq!(first, order(1, 0));
        assert_ne!(first, order(1, 1));
        assert_ne!(first, order(2, 0));
    }

    #[test]
    fn the_order_does_not_depend_on_the_batch_size() {
        let ids: Vec<u32> = (0..60).collect();
        let order = |batch| Sampler::train(&ids, batch, 1).expect("valid").epoch(0).flatten().collect::<Vec<_>>();
        assert_eq!(order(4), order(20));
    }

    #[test]
    fn the_notebook_has_187_and_47_batches() {
        let ids: Vec<u32> = (0..15_000).collect();
        let train = Sampler::train(&ids[..12_000], 64, 42).expect("valid");
        let val = Sampler::val(&ids[12_000..], 64).expect("valid");
        assert_eq!((train.n_batches(), val.n_batches()), (187, 47));
        assert_eq!((train.n_images(), val.n_images()), (187 * 64, 3000));
        assert_eq!(val.epoch(0).last().map(|b| b.len()), Some(56));
    }

    #[test]
    fn impossible_batches_are_refused() {
        assert!(matches!(Sampler::train(&[1], 0, 0), Err(Error::BatchSizeZero)));
        assert!(matches!(Sampler::val(&[1], 0), Err(Error::BatchSizeZero)));
        assert!(matches!(Sampler::train(&[1, 2], 3, 0), Err(Error::BatchTooLarge { batch_size: 3, n: 2 })));
    }
}
