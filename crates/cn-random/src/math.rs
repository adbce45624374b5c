//! Logarithm, sine and cosine from exactly rounded operations alone: the same bits on every platform.

use std::f64::consts::LN_2;

/// Coefficients 1/3, 1/5, ... of atanh(s)/s in powers of s^2.
const ATANH: [f64; 11] = [
    1.0 / 3.0,
    1.0 / 5.0,
    1.0 / 7.0,
    1.0 / 9.0,
    1.0 / 11.0,
    1.0 / 13.0,
    1.0 / 15.0,
    1.0 / 17.0,
    1.0 / 19.0,
    1.0 / 21.0,
    1.0 / 23.0,
];
/// Taylor coefficients of sin(x)/x in powers of x^2; the first left-out term is below 1e-19 at pi/4.
const SIN: [f64; 9] = taylor(2);
/// Taylor coefficients of cos(x) in powers of x^2, without the leading 1.
const COS: [f64; 9] = taylor(1);

/// -1/(k (k+1)), then each one times -1/((k+2) (k+3)) and so on: from `k` = 1 the cosine's, from 2 the sine's.
const fn taylor(mut k: u32) -> [f64; 9] {
    let mut coefficients = [0.0; 9];
    let (mut i, mut term) = (0, 1.0);
    while i < 9 {
        term /= -((k * (k + 1)) as f64);
        coefficients[i] = term;
        k += 2;
        i += 1;
    }
    coefficients
}

/// x * (c0 + x * (c1 + ...)): a polynomial without its constant term.
#[inline]
fn horner<const N: usize>(x: f64, coefficients: &[f64; N]) -> f64 {
    x * coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

/// Natural logarithm of a normal positive number, within some 2 ulp.
///
/// x = 2^e * m with m in about [sqrt(1/2), sqrt(2)); ln m = 2 atanh(s), s = (m - 1) / (m + 1).
#[inline]
pub(crate) fn ln(x: f64) -> f64 {
    const SQRT_HALF_BITS: u64 = 0x3FE6_A09E_0000_0000;
    let shifted = x.to_bits().wrapping_sub(SQRT_HALF_BITS) as i64;
    let exponent = shifted >> 52;
    let m = f64::from_bits(x.to_bits().wrapping_sub((exponent << 52) as u64));
    let s = (m - 1.0) / (m + 1.0);
    let twice = 2.0 * s;
    exponent as f64 * LN_2 + (twice + twice * horner(s * s, &ATANH))
}

/// Sine and cosine of `turns` full turns, for `turns` in [0, 1].
#[inline]
pub(crate) fn sin_cos_turns(turns: f64) -> (f64, f64) {
    let quarter = (turns * 4.0 + 0.5) as u32;
    let x = (turns * 4.0 - f64::from(quarter)) * std::f64::consts::FRAC_PI_2;
    let square = x * x;
    let (sin, cos) = (x + x * horner(square, &SIN), 1.0 + horner(square, &COS));
    match quarter & 3 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

/// Natural logarithm in single precision, as [`ln`]; branch-free so that loops over it vectorise.
#[inline]
pub(crate) fn ln_f32(x: f32) -> f32 {
    const SQRT_HALF_BITS: u32 = 0x3F35_04F3;
    let exponent = (x.to_bits().wrapping_sub(SQRT_HALF_BITS) as i32) >> 23;
    let m = f32::from_bits(x.to_bits().wrapping_sub((exponent << 23) as u32));
    let s = (m - 1.0) / (m + 1.0);
    let (twice, z) = (2.0 * s, s * s);
    let tail = z * (1.0 / 3.0 + z * (1.0 / 5.0 + z * (1.0 / 7.0 + z * (1.0 / 9.0))));
    exponent as f32 * std::f32::consts::LN_2 + (twice + twice * tail)
}

/// Sine and cosine of `turns` in [0, 1] in single precision; branch-free.
#[inline]
pub(crate) fn sin_cos_turns_f32(turns: f32) -> (f32, f32) {
    let quarter = (turns * 4.0 + 0.5) as i32;
    let x = (turns * 4.0 - quarter as f32) * std::f32::consts::FRAC_PI_2;
    let z = x * x;
    let sin = x + x * z * (-1.0 / 6.0 + z * (1.0 / 120.0 + z * (-1.0 / 5040.0 + z * (1.0 / 362_880.0))));
    let cos =
        1.0 + z * (-1.0 / 2.0 + z * (1.0 / 24.0 + z * (-1.0 / 720.0 + z * (1.0 / 40_320.0 - z * (1.0 / 3_628_800.0)))));
    let swap = quarter & 1 == 1;
    let (a, b) = if swap { (cos, sin) } else { (sin, cos) };
    // Signs by quadrant: sine is negative in 2 and 3, cosine in 1 and 2.
    let sin_sign = ((quarter as u32) & 2) << 30;
    let cos_sign = ((quarter as u32).wrapping_add(1) & 2) << 30;
    (f32::from_bits(a.to_bits() ^ sin_sign), f32::from_bits(b.to_bits() ^ cos_sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The platform's own functions are the reference; both sides are within a few units in the last place.
    const F64: f64 = 1e-15;
    const F32: f64 = 4e-7;

    #[test]
    fn logarithm_agrees_with_the_platform() {
        for i in 1..=100_000u32 {
            let x = f64::from(i) / 100_000.0;
            assert!((ln(x) - x.ln()).abs() <= F64 * x.ln().abs().max(1e-5), "ln({x})");
            let single = f64::from(x as f32).ln();
            assert!((f64::from(ln_f32(x as f32)) - single).abs() <= F32 * single.abs(), "ln_f32({x})");
        }
        assert_eq!((ln(1.0), ln_f32(1.0)), (0.0, 0.0));
        assert!((ln(f64::powi(2.0, -53)) + 53.0 * LN_2).abs() < 1e-14);
    }

    #[test]
    fn sine_and_cosine_agree_with_the_platform() {
        for i in 0..=100_000u32 {
            let turns = f64::from(i) / 100_000.0;
            let (sin, cos) = (turns * std::f64::consts::TAU).sin_cos();
            let ours = sin_cos_turns(turns);
            assert!((ours.0 - sin).abs() <= F64 && (ours.1 - cos).abs() <= F64, "{turns}");
            let single = sin_cos_turns_f32(turns as f32);
            let (sin, cos) = (f64::from(turns as f32) * std::f64::consts::TAU).sin_cos();
            assert!((f64::from(single.0) - sin).abs() <= F32 && (f64::from(single.1) - cos).abs() <= F32, "{turns}");
        }
    }
}
