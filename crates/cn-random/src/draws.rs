//! Keyed streams of draws.

use crate::{math, philox4x32_10};

/// What a draw is for: the part of the key that keeps, say, crops and dropout masks of one image apart.
///
/// Made from a name at compile time, so that each crate defines its own without a central list. The identifier is
/// the 32-bit FNV-1a hash of the name; names that share a hash would share their draws (1 in 4 billion for a pair).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Purpose(u32);

impl Purpose {
    /// The purpose of this name.
    ///
    /// ```
    /// # use cn_random::Purpose;
    /// const CROP: Purpose = Purpose::named("crop");
    /// assert_ne!(CROP, Purpose::named("dropout"));
    /// ```
    #[must_use]
    pub const fn named(name: &str) -> Self {
        let bytes = name.as_bytes();
        let (mut hash, mut i) = (0x811C_9DC5_u32, 0);
        while i < bytes.len() {
            hash = (hash ^ bytes[i] as u32).wrapping_mul(0x0100_0193);
            i += 1;
        }
        Self(hash)
    }

    /// The identifier, for kernels that draw on another device.
    #[must_use]
    pub const fn identifier(self) -> u32 {
        self.0
    }

    /// The purpose of this [`Purpose::identifier`].
    #[must_use]
    pub const fn of_identifier(identifier: u32) -> Self {
        Self(identifier)
    }
}

/// The stream of random numbers of one (seed, epoch, id, purpose).
///
/// Philox blocks under the key `seed` (low word first) at the counters (block, purpose, id, epoch), block = 0, 1, ...;
/// each block gives four words. A stream is cheap to make (no set-up but the copy of its key) and repeats after
/// 2^34 words.
#[derive(Debug, Clone)]
pub struct Draws {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Draws {
    /// The stream of `id` (an image, a layer, a writer) in `epoch` for `purpose`.
    ///
    /// `epoch` may be a step or anything else that counts; `u32::MAX` is taken by [`crate::fill_normal`] and
    /// [`crate::fill_uniform`].
    #[must_use]
    pub fn new(seed: u64, epoch: u32, id: u32, purpose: Purpose) -> Self {
        Self { key: key_of(seed), counter: [0, purpose.0, id, epoch], block: [0; 4], used: 4 }
    }

    /// The next 32 random bits.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox4x32_10(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// The next 64 random bits: two words, the low one first.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        low | u64::from(self.next_u32()) << 32
    }

    /// Uniform in [0, 1), a multiple of 2^-53. Takes two words.
    #[inline]
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in [`lo`, `hi`); `lo` if both are equal. Takes two words.
    #[inline]
    pub fn range(&mut self, lo: f64, hi: f64) -> f64 {
        let x = lo + (hi - lo) * self.uniform();
        // The product may round up to the end, which does not belong to the interval.
        if x < hi || hi <= lo { x } else { hi.next_down().max(lo) }
    }

    /// Uniform among 0, 1, ..., `n` - 1, without bias (Lemire, arXiv:1805.10941). Takes one word, rarely more.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    #[inline]
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "nothing lies below 0");
        let mut product = u64::from(self.next_u32()) * u64::from(n);
        if (product as u32) < n {
            let rest = n.wrapping_neg() % n;
            while (product as u32) < rest {
                product = u64::from(self.next_u32()) * u64::from(n);
            }
        }
        (product >> 32) as u32
    }

    /// Normal with mean 0 and standard deviation 1, of f64 precision (Box and Muller's cosine). Takes four words.
    #[inline]
    pub fn normal(&mut self) -> f64 {
        // In (0, 1]: the logarithm stays finite.
        let u = ((self.next_u64() >> 11) + 1) as f64 * (1.0 / (1u64 << 53) as f64);
        let (_, cos) = math::sin_cos_turns(self.uniform());
        (-2.0 * math::ln(u)).sqrt() * cos
    }

    /// Puts `items` in a random order, each of them equally likely (Fisher and Yates).
    ///
    /// # Panics
    ///
    /// If there are more than `u32::MAX` items.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        let n = u32::try_from(items.len()).expect("more than 2^32 items to shuffle");
        for i in (1..n).rev() {
            items.swap(i as usize, self.below(i + 1) as usize);
        }
    }
}

/// A random order of 0, 1, ..., `n` - 1: the [`Draws::shuffle`] of id 0.
///
/// ```
/// # use cn_random::{Purpose, permutation};
/// let mut order = permutation(42, 0, Purpose::named("order"), 5);
/// order.sort();
/// assert_eq!(order, [0, 1, 2, 3, 4]);
/// ```
#[must_use]
pub fn permutation(seed: u64, epoch: u32, purpose: Purpose, n: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n).collect();
    Draws::new(seed, epoch, 0, purpose).shuffle(&mut order);
    order
}

/// Low word, high word.
pub(crate) fn key_of(seed: u64) -> [u32; 2] {
    [seed as u32, (seed >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: Purpose = Purpose::named("test");
    const N: u32 = 200_000;

    fn stream() -> Draws {
        Draws::new(42, 1, 2, TEST)
    }

    /// Mean and standard deviation of `N` draws.
    fn moments(mut draw: impl FnMut(&mut Draws) -> f64) -> (f64, f64) {
        let mut draws = stream();
        let values: Vec<f64> = (0..N).map(|_| draw(&mut draws)).collect();
        let mean = values.iter().sum::<f64>() / f64::from(N);
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / f64::from(N);
        (mean, variance.sqrt())
    }

    #[test]
    fn words_are_those_of_the_documented_counters() {
        let mut draws = Draws::new(0x0000_0007_0000_0005, 9, 8, TEST);
        for block in 0..3 {
            let expected = philox4x32_10([block, TEST.0, 8, 9], [5, 7]);
            assert_eq!([(); 4].map(|()| draws.next_u32()), expected);
        }
    }

    // Held values: a change of any of them would change every run.
    #[test]
    fn values_never_change() {
        let mut d = Draws::new(42, 3, 17, Purpose::named("crop"));
        assert_eq!(Purpose::named("crop").0, HELD_PURPOSE);
        let got = (d.next_u32(), d.uniform().to_bits(), d.below(1000), d.normal().to_bits());
        assert_eq!(got, HELD_DRAWS);
        assert_eq!(permutation(42, 0, TEST, 10), HELD_ORDER);
    }
    const HELD_PURPOSE: u32 = 0x96631017;
    const HELD_DRAWS: (u32, u64, u32, u64) = (0x79D609C2, 0x3FAC99A69C16C960, 180, 0xBFE28235EA0A7296);
    const HELD_ORDER: [u32; 10] = [1, 5, 0, 4, 2, 9, 3, 8, 6, 7];

    #[test]
    fn every_part_of_the_key_matters() {
        let first = |seed, epoch, id, purpose| Draws::new(seed, epoch, id, purpose).next_u64();
        let all = [
            first(1, 1, 1, TEST),
            first(2, 1, 1, TEST),
            first(1 << 32, 1, 1, TEST),
            first(1, 2, 1, TEST),
            first(1, 1, 2, TEST),
            first(1, 1, 1, Purpose::named("tset")),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b));
        }
    }

    #[test]
    fn uniform_has_its_moments() {
        let (mean, std) = moments(Draws::uniform);
        assert!((mean - 0.5).abs() < 0.003 && (std - 12f64.sqrt().recip()).abs() < 0.002, "{mean} {std}");
        let mut draws = stream();
        assert!((0..N).all(|_| (0.0..1.0).contains(&draws.uniform())));
    }

    #[test]
    fn normal_has_its_moments_and_tails() {
        let (mean, std) = moments(Draws::normal);
        assert!(mean.abs() < 0.01 && (std - 1.0).abs() < 0.008, "{mean} {std}");
        let (beyond_two, _) = moments(|d| f64::from(u8::from(d.normal().abs() > 2.0)));
        assert!((beyond_two - 0.0455).abs() < 0.002, "{beyond_two}");
    }

    #[test]
    fn below_is_even_and_bounded() {
        for n in [1, 2, 3, 7, 1 << 31, u32::MAX] {
            let mut draws = stream();
            assert!((0..1000).all(|_| draws.below(n) < n));
        }
        let mut counts = [0u32; 7];
        let mut draws = stream();
        (0..70_000).for_each(|_| counts[draws.below(7) as usize] += 1);
        assert!(counts.iter().all(|c| c.abs_diff(10_000) < 400), "{counts:?}");
        // Above 2^31 the biased method would hit the lower half twice as often at 3/4 of the range.
        let n = 3 << 30;
        let lower = (0..N).filter(|_| draws.below(n) < n / 2).count() as f64 / f64::from(N);
        assert!((lower - 0.5).abs() < 0.005, "{lower}");
    }

    #[test]
    #[allow(clippy::float_cmp)]
    fn range_keeps_its_end_out() {
        let mut draws = stream();
        assert_eq!(draws.range(2.5, 2.5), 2.5);
        let (lo, hi) = (1.0, 1.0 + f64::EPSILON);
        assert!((0..1000).all(|_| draws.range(lo, hi) == lo));
        assert!((0..1000).all(|_| (-3.0..5.0).contains(&draws.range(-3.0, 5.0))));
    }

    #[test]
    fn permutation_is_one_and_is_even() {
        let mut place_of_zero = [0u32; 5];
        for epoch in 0..10_000 {
            let order = permutation(7, epoch, TEST, 5);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4]);
            place_of_zero[order.iter().position(|&i| i == 0).expect("0 is there")] += 1;
        }
        assert!(place_of_zero.iter().all(|c| c.abs_diff(2000) < 200), "{place_of_zero:?}");
        assert!(permutation(7, 0, TEST, 0).is_empty());
    }
}
