//! Numbers that are none.

use crate::Float;

/// Lanes whose sums do not wait for each other.
const LANES: usize = 32;

/// Whether no element is NaN or infinite; one pass, one thread.
#[must_use]
pub fn all_finite<T: Float>(x: &[T]) -> bool {
    all_finite_as(x, |value| value)
}

/// Whether no element is NaN, infinite, or so large that its square is: the moments of Adam hold squares.
#[must_use]
pub fn all_squares_finite<T: Float>(x: &[T]) -> bool {
    all_finite_as(x, |value| value * value)
}

#[inline(always)]
fn all_finite_as<T: Float>(x: &[T], of: impl Fn(T) -> T) -> bool {
    // 0 times a finite number is 0, and times all others NaN, which no sum loses.
    let mut sums = [T::ZERO; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for chunk in whole {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            *sum += of(value) * T::ZERO;
        }
    }
    for (sum, &value) in sums.iter_mut().zip(rest) {
        *sum += of(value) * T::ZERO;
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

    #[test]
    fn what_cannot_be_squared_is_found() {
        for (value, is_fine) in [(1.8e19, true), (-1.8e19, true), (1.9e19, false), (-1.9e19, false), (f32::NAN, false)]
        {
            let mut x = vec![1.0; 3 * LANES + 5];
            x[2 * LANES + 1] = value;
            assert_eq!((all_squares_finite(&x), all_finite(&x)), (is_fine, value.is_finite()), "{value}");
        }
        assert!(all_squares_finite(&[1.9e19_f64]));
    }
}
