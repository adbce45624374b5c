//! From bytes to normalised numbers, by table.

use crate::planes::Plane;
use crate::{Error, Result};

/// Mean and standard deviation per channel: a byte `v` becomes `(v / 255 - mean) / std`.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalisation {
    mean: Vec<f64>,
    std: Vec<f64>,
}

impl Normalisation {
    /// `v / 255`, in [0, 1]; for any number of channels.
    #[must_use]
    pub fn none() -> Self {
        Self { mean: vec![0.0], std: vec![1.0] }
    }

    /// ImageNet's statistics, three channels, as torchvision and fastai use them.
    #[must_use]
    pub fn imagenet() -> Self {
        Self { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] }
    }

    /// Given means and standard deviations, in units where a byte of 255 is 1; one for all channels or one for each.
    ///
    /// # Errors
    ///
    /// If the lists differ in length or are empty, a mean is not finite, or a deviation not finite and positive.
    pub fn new(mean: &[f64], std: &[f64]) -> Result<Self> {
        if mean.len() != std.len() || mean.is_empty() {
            return Err(Error::NormalisationLength { means: mean.len(), stds: std.len(), channels: mean.len().max(1) });
        }
        if let Some(&value) = mean.iter().find(|m| !m.is_finite()) {
            return Err(Error::OutOfRange { field: "normalisation.mean", value, allowed: "a finite number" });
        }
        if let Some(&value) = std.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            return Err(Error::OutOfRange { field: "normalisation.std", value, allowed: "a finite number above 0" });
        }
        Ok(Self { mean: mean.to_vec(), std: std.to_vec() })
    }

    /// Means, one for all channels or one for each.
    #[must_use]
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Standard deviations, as many as means.
    #[must_use]
    pub fn std(&self) -> &[f64] {
        &self.std
    }

    pub(crate) fn check_channels(&self, channels: usize) -> Result<()> {
        let (means, stds) = (self.mean.len(), self.std.len());
        if means == 1 || means == channels {
            return Ok(());
        }
        Err(Error::NormalisationLength { means, stds, channels })
    }

    /// Mean and deviation of a channel.
    pub(crate) fn of(&self, channel: usize) -> (f64, f64) {
        let i = channel.min(self.mean.len() - 1);
        (self.mean[i], self.std[i])
    }
}

/// A number that a batch can be made of: `f32` to train, `f64` to test, `u8` to look at.
///
/// Floats are normalised, computed in `f64` and rounded once. Bytes are not: they are what the normalisation would see,
/// rounded.
pub trait Value: sealed::Sealed + Copy + Default + Send + Sync {}

mod sealed {
    pub trait Sealed {
        /// The number for a grey level in [0, 255].
        fn from_level(level: f64, mean: f64, std: f64) -> Self;
    }
}

impl sealed::Sealed for f32 {
    fn from_level(level: f64, mean: f64, std: f64) -> Self {
        f64::from_level(level, mean, std) as f32
    }
}
impl sealed::Sealed for f64 {
    fn from_level(level: f64, mean: f64, std: f64) -> Self {
        (level / 255.0 - mean) / std
    }
}
impl sealed::Sealed for u8 {
    fn from_level(level: f64, _mean: f64, _std: f64) -> Self {
        level.round() as u8
    }
}
impl Value for f32 {}
impl Value for f64 {}
impl Value for u8 {}

/// For each byte, its number in each of `P` planes.
pub(crate) type Table<T, const P: usize> = [[T; P]; 256];

/// The table of some planes after the colour change `v -> gain * v + bias`, cut to [0, 255].
pub(crate) fn table<T: Value, const P: usize>(planes: &[Plane; P], gain: f32, bias: f32) -> Table<T, P> {
    std::array::from_fn(|v| {
        let level = (f64::from(gain) * v as f64 + f64::from(bias)).clamp(0.0, 255.0);
        planes.map(|plane| plane.of(level))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Planes;

    fn channels<const C: usize>(normalisation: &Normalisation) -> [Plane; C] {
        Planes::Channels.of(normalisation, C).try_into().expect("one for each channel")
    }

    #[test]
    fn none_is_the_f32_division() {
        let table: Table<f32, 1> = table(&channels(&Normalisation::none()), 1.0, 0.0);
        assert!((0..=255u8).all(|v| table[v as usize][0] == f32::from(v) / 255.0));
    }

    #[test]
    fn imagenet_has_the_numbers_of_fastai() {
        let golden = &crate::testing::golden("ops.json")["imagenet_normalise"];
        let floats: Table<f64, 3> = table(&channels(&Normalisation::imagenet()), 1.0, 0.0);
        let singles: Table<f32, 3> = table(&channels(&Normalisation::imagenet()), 1.0, 0.0);
        let bytes = golden["gray_bytes"].as_array().expect("bytes");
        assert_eq!(bytes.len(), 6);
        for (byte, values) in bytes.iter().zip(golden["values"].as_array().expect("values")) {
            let byte = byte.as_u64().expect("a byte") as usize;
            for c in 0..3 {
                let expected = values[c].as_f64().expect("a number");
                assert!((floats[byte][c] - expected).abs() < 1e-12, "{byte} {c}");
                assert_eq!(singles[byte][c], floats[byte][c] as f32);
            }
        }
    }

    #[test]
    fn colour_is_cut_to_the_range_of_bytes() {
        let table: Table<u8, 1> = table(&channels(&Normalisation::imagenet()), 2.0, -20.0);
        assert_eq!([0, 10, 11, 100, 137, 138, 255].map(|v: usize| table[v][0]), [0, 0, 2, 180, 254, 255, 255]);
    }

    #[test]
    fn bad_statistics_are_refused() {
        let text = |mean: &[f64], std: &[f64]| Normalisation::new(mean, std).expect_err("refused").to_string();
        assert_eq!(text(&[0.5], &[0.0]), "`normalisation.std` is 0, expected a finite number above 0");
        assert_eq!(text(&[f64::NAN], &[1.0]), "`normalisation.mean` is NaN, expected a finite number");
        assert!(Normalisation::new(&[0.1, 0.2], &[1.0]).is_err() && Normalisation::new(&[], &[]).is_err());
        assert!(Normalisation::imagenet().check_channels(1).is_err());
        assert!(Normalisation::none().check_channels(3).is_ok());
    }
}
