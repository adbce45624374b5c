//! What a batch holds of each pixel.

use candle_core::{Device, Tensor};

use crate::{Normalisation, Result, Value};

/// What a batch holds of each pixel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Planes {
    /// A normalised number for each channel.
    #[default]
    Channels,
    /// For grey images, the fewest numbers that their normalised channels are sums of ([`Normalisation::mix`]): the
    /// normalised grey, where all channels are normalised alike; else the grey in [0, 1], and 1.
    ///
    /// A convolution of the channels is one of these planes, with fewer products. The plane of ones is there for the
    /// border: padding adds zeros to normalised channels, where black is not zero.
    Grey,
}

/// One number of each pixel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Plane {
    Normalised { mean: f64, std: f64 },
    Ones,
}

impl Plane {
    /// The number for a grey level in [0, 255].
    pub(crate) fn of<T: Value>(self, level: f64) -> T {
        match self {
            Self::Normalised { mean, std } => T::from_level(level, mean, std),
            // A level of 255 is 1.
            Self::Ones => T::from_level(255.0, 0.0, 1.0),
        }
    }
}

impl Planes {
    /// Those of a model with `channels`.
    pub(crate) fn of(self, normalisation: &Normalisation, channels: usize) -> Vec<Plane> {
        let normalised = |(mean, std)| Plane::Normalised { mean, std };
        match self {
            Self::Channels => (0..channels).map(|c| normalised(normalisation.of(c))).collect(),
            Self::Grey if normalisation.is_alike(channels) => vec![normalised(normalisation.of(0))],
            Self::Grey => vec![normalised((0.0, 1.0)), Plane::Ones],
        }
    }
}

impl Normalisation {
    /// How the normalised `channels` of grey images are sums of the planes of [`Planes::Grey`]: `(C, P)`, `f64`, on the
    /// CPU; channel `c` is the sum of `mix[c][p]` times plane `p`.
    ///
    /// # Errors
    ///
    /// If the normalisation is for another number of channels.
    pub fn mix(&self, channels: usize) -> Result<Tensor> {
        self.check_channels(channels)?;
        let planes = if self.is_alike(channels) { 1 } else { 2 };
        let row = |c| match (planes, self.of(c)) {
            (1, _) => vec![1.0],
            (_, (mean, std)) => vec![1.0 / std, -mean / std],
        };
        let factors: Vec<f64> = (0..channels).flat_map(row).collect();
        Ok(Tensor::from_vec(factors, (channels, planes), &Device::Cpu)?)
    }

    /// Whether all of `channels` are normalised by the same numbers.
    fn is_alike(&self, channels: usize) -> bool {
        (1..channels).all(|c| self.of(c) == self.of(0))
    }
}
