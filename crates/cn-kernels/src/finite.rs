//! Numbers that are none.

use crate::Float;

/// Lanes whose sums do not wait for each other.
const LANES: usize = 32;

/// Whether no element is NaN or infinite; one pass, one thread.
#[must_use]
pub fn all_finite<T: Float>(x: &[T]) -> bool {
    // 0 times a finite number is 0, and times all others NaN, which no sum loses.
    let mut sums = [T::ZERO; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for chunk in whole {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            *sum += value * T::ZERO;
        }
    }
    for (sum, &value) in sums.iter_mut().zip(rest) {
        *sum += value * T::ZERO;
    }
    sums.iter().all(|&sum| sum == T::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found_wherever_it_is<T: Float>(bad: [T; 3]) {
        for len in [1, LANES - 1, LANES, LANES + 1, 3 * LANES + 5] {
            let mut x: Vec<T> = (0..len).map(|i| T::from_f64(i as f64 * -3e30)).collect();
            assert!(all_finite(&x), "{len}");
            for i in 0..len {
                let value = std::mem::replace(&mut x[i], bad[i % 3]);
                assert!(!all_finite(&x), "{i} of {len}");
                x[i] = value;
            }
        }
    }

    #[test]
    fn one_bad_number_is_found_wherever_it_is() {
        assert!(all_finite::<f32>(&[]));
        assert!(all_finite(&[f32::MAX, f32::MIN, f32::MIN_POSITIVE, -0.0]));
        found_wherever_it_is([f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        found_wherever_it_is([f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
    }
}
