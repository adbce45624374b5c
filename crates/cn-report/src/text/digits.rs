//! How many digits a share needs.

/// Digits of a share of which one image in ten million would be seen.
const MOST: usize = 8;

/// Digits behind the point of shares times `scale`, from `least` on, of which nothing reads as none or as all that is not,
/// and neighbours that differ as different.
pub(crate) fn digits(scale: f64, least: usize, shares: &[f64]) -> usize {
    let shown = |share: f64, digits: usize| format!("{:.digits$}", scale * share);
    let is_told = |digits: usize| {
        let is_own =
            |&share: &f64| [0.0, 1.0].iter().all(|&end| share == end || shown(share, digits) != shown(end, digits));
        let differ = |pair: &[f64]| pair[0] == pair[1] || shown(pair[0], digits) != shown(pair[1], digits);
        shares.iter().all(is_own) && shares.windows(2).all(differ)
    };
    (least..MOST).find(|&digits| is_told(digits)).unwrap_or(MOST)
}

/// A share with at least four digits.
pub(crate) fn share(share: f64) -> String {
    format!("{:.*}", digits(1.0, 4, &[share]), share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reads_as_all_or_none_that_is_not() {
        let cases = [(0.5, "0.5000"), (1.0, "1.0000"), (0.0, "0.0000"), (0.99995, "0.99995"), (0.9999963, "0.999996")];
        cases.into_iter().for_each(|(value, expected)| assert_eq!(share(value), expected));
        assert_eq!([share(1e-6), share(0.999999999999)], ["0.000001", "1.00000000"]);
        assert_eq!(digits(1.0, 4, &[0.99996, 0.99998]), 5);
    }
}
