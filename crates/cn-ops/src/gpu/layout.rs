//! Orders of weights: `(O, I, Kh, Kw)` here and in files, `(O, Kh, Kw, I)` on the device.

/// From the order here to that of the device.
pub(super) fn to_device([o, i, kh, kw]: [usize; 4], weight: &[f32]) -> Vec<f32> {
    transposed([o, i, kh * kw], weight)
}

/// From the order of the device to that here.
pub(super) fn to_host([o, i, kh, kw]: [usize; 4], weight: &[f32]) -> Vec<f32> {
    transposed([o, kh * kw, i], weight)
}

/// `(O, A, B)` to `(O, B, A)`.
fn transposed([o, a, b]: [usize; 3], weight: &[f32]) -> Vec<f32> {
    let mut out = Vec::with_capacity(o * a * b);
    for of_output in weight[..o * a * b].chunks_exact((a * b).max(1)) {
        for column in 0..b {
            out.extend(of_output[column..].iter().step_by(b));
        }
    }
    out
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
