//! Whole slices of random numbers: initial weights.

use crate::{draws::key_of, math, philox};

/// Blocks computed side by side, so that the loops over them vectorise.
const LANES: usize = 16;
/// Values that a group of [`LANES`] blocks gives.
const GROUP: usize = 4 * LANES;

/// Fills `out` with normal numbers of mean 0 and standard deviation `std`, keyed by `seed` and `name`.
///
/// Value `i` depends on (`seed`, `name`, `i`) alone: a longer slice begins with the same values. Box and Muller in
/// single precision from 32-bit uniforms, so no value lies beyond 6.8 `std`. About 3 ns a value on one core.
///
/// ```
/// let mut weights = vec![0.0; 512 * 15];
/// cn_random::fill_normal(42, "head.8.weight", (2.0_f32 / 512.0).sqrt(), &mut weights);
/// ```
pub fn fill_normal(seed: u64, name: &str, std: f32, out: &mut [f32]) {
    fill(seed, name, out, |words, values| {
        for lane in 0..LANES {
            for pair in 0..2 {
                // In (0, 1]: a word may round up to 2^32 but never down to 0.
                let u = (words[2 * pair][lane] as f32 + 0.5) * (1.0 / 4_294_967_296.0);
                let turns = (words[2 * pair + 1][lane] >> 8) as f32 * (1.0 / 16_777_216.0);
                let radius = std * (-2.0 * math::ln_f32(u)).sqrt();
                let (sin, cos) = math::sin_cos_turns_f32(turns);
                values[2 * pair][lane] = radius * cos;
                values[2 * pair + 1][lane] = radius * sin;
            }
        }
    });
}

/// Fills `out` with uniform numbers in [-`bound`, `bound`), keyed by `seed` and `name`.
///
/// As [`fill_normal`], value `i` depends on (`seed`, `name`, `i`) alone. Multiples of `bound` * 2^-23.
///
/// ```
/// let mut weights = vec![0.0; 1024 * 512];
/// cn_random::fill_uniform(42, "fc.weight", (1.0_f32 / 1024.0).sqrt(), &mut weights);
/// ```
pub fn fill_uniform(seed: u64, name: &str, bound: f32, out: &mut [f32]) {
    fill(seed, name, out, |words, values| {
        for (word, value) in words.iter().zip(values) {
            for lane in 0..LANES {
                value[lane] = bound * ((word[lane] >> 8) as f32 * (1.0 / 8_388_608.0) - 1.0);
            }
        }
    });
}

/// Runs `values_of` over groups of blocks at the counters (block, hash of the name in two words, `u32::MAX`).
///
/// The last word is an epoch that no [`crate::Draws`] has, so that the two never meet.
#[inline]
fn fill(seed: u64, name: &str, out: &mut [f32], values_of: impl Fn(&[[u32; LANES]; 4], &mut [[f32; LANES]; 4])) {
    let hash = fnv1a_64(name);
    let rest = [hash as u32, (hash >> 32) as u32, u32::MAX];
    let mut values = [[0.0; LANES]; 4];
    for (group, chunk) in out.chunks_mut(GROUP).enumerate() {
        let first = std::array::from_fn(|lane| (group * LANES + lane) as u32);
        values_of(&philox::lanes(first, rest, key_of(seed)), &mut values);
        for (lane, block) in chunk.chunks_mut(4).enumerate() {
            for (value, word) in block.iter_mut().zip(&values) {
                *value = word[lane];
            }
        }
    }
}

/// 64-bit FNV-1a.
fn fnv1a_64(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normals(name: &str, n: usize) -> Vec<f32> {
        let mut out = vec![f32::NAN; n];
        fill_normal(42, name, 1.0, &mut out);
        out
    }

    /// Mean, standard deviation, kurtosis.
    fn moments(values: &[f32]) -> [f64; 3] {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let central = |power| values.iter().map(|&v| (f64::from(v) - mean).powi(power)).sum::<f64>() / n;
        [mean, central(2).sqrt(), central(4) / central(2).powi(2)]
    }

    #[test]
    fn normals_have_their_moments() {
        let [mean, std, kurtosis] = moments(&normals("a", 1_000_000));
        assert!(mean.abs() < 0.004 && (std - 1.0).abs() < 0.003 && (kurtosis - 3.0).abs() < 0.03);
        // Sine and cosine of one pair, and neighbours of different pairs, are uncorrelated.
        let values = normals("a", 1_000_000);
        for lag in 1..=4 {
            let product: f64 = values.iter().zip(&values[lag..]).map(|(a, b)| f64::from(a * b)).sum();
            assert!((product / 1e6).abs() < 0.004, "lag {lag}");
        }
    }

    #[test]
    fn values_do_not_depend_on_the_length() {
        let long = normals("a", 1000);
        for n in [0, 1, 3, 4, 63, 64, 65, 999] {
            assert_eq!(normals("a", n), long[..n]);
        }
    }

    #[test]
    fn names_and_seeds_keep_apart() {
        assert_ne!(normals("a", 4), normals("b", 4));
        let mut other = [0.0; 4];
        fill_normal(43, "a", 1.0, &mut other);
        assert_ne!(normals("a", 4), other);
    }

    #[test]
    fn the_deviation_scales() {
        let mut scaled = [0.0; 100];
        fill_normal(42, "a", 0.25, &mut scaled);
        assert!(normals("a", 100).iter().zip(scaled).all(|(a, b)| (a * 0.25 - b).abs() < 1e-9));
    }

    #[test]
    fn uniform_fills_its_interval() {
        let mut out = vec![0.0; 100_000];
        fill_uniform(42, "a", 0.5, &mut out);
        let [mean, std, _] = moments(&out);
        assert!(out.iter().all(|v| (-0.5..0.5).contains(v)));
        assert!(mean.abs() < 0.005 && (std - 12f64.sqrt().recip()).abs() < 0.003);
    }

    // Held values: a change would change the initial weights of every run.
    #[test]
    fn values_never_change() {
        assert_eq!(normals("a", 4).iter().map(|v| v.to_bits()).collect::<Vec<_>>(), HELD);
    }
    const HELD: [u32; 4] = [0xBFAA3284, 0xBE91EE11, 0x3EAAF88E, 0xBE8FC16F];
}
