//! Orders of weights: `(O, I, Kh, Kw)` here and in files, `(O, Kh, Kw, I)` on the device.

/// From the order here to that of the device.
pub(super) fn to_device([o, i, kh, kw]: [usize; 4], weight: &[f32]) -> Vec<f32> {
    let taps = kh * kw;
    let at = |n: usize| (n / (taps * i) * i + n % i) * taps + n / i % taps;
    (0..o * i * taps).map(|n| weight[at(n)]).collect()
}

/// From the order of the device to that here.
pub(super) fn to_host([o, i, kh, kw]: [usize; 4], weight: &[f32]) -> Vec<f32> {
    let taps = kh * kw;
    let at = |n: usize| (n / (taps * i) * taps + n % taps) * i + n / taps % i;
    (0..o * i * taps).map(|n| weight[at(n)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_those_of_the_field() {
        let sizes = [2, 3, 2, 2];
        let weight: Vec<f32> = (0..24).map(|n| n as f32).collect();
        let moved = to_device(sizes, &weight);
        for (o, i, y, x) in (0..24).map(|n| (n / 12, n / 4 % 3, n / 2 % 2, n % 2)) {
            assert_eq!(moved[((o * 2 + y) * 2 + x) * 3 + i], weight[((o * 3 + i) * 2 + y) * 2 + x]);
        }
        assert_eq!(to_host(sizes, &moved), weight);
    }
}
