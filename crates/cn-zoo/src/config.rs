//! What a network is built from.

use crate::init::Init;
use crate::{Arch, Error, Result, WeightFile, resnet};
use candle_core::{DType, Device, Tensor};
use cn_ops::Network;
use std::collections::BTreeMap;

/// What turns features into logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Head {
    /// fastai's: concat pool (max, then mean), norm, dropout, linear to `hidden`, ReLU, norm, dropout, linear; no biases.
    FastAi {
        /// Width between the two linear layers.
        hidden: usize,
        /// Probability of the last dropout; the first one has half of it.
        dropout: f64,
    },
    /// torchvision's: mean pool, then one linear layer with bias.
    Linear,
}

impl Head {
    /// fastai's head with its defaults: 512 wide, dropouts 0.25 and 0.5.
    #[must_use]
    pub const fn fastai() -> Self {
        Self::FastAi { hidden: 512, dropout: 0.5 }
    }
}

/// A ResNet to be built.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResNetConfig {
    /// The body.
    pub arch: Arch,
    /// Channels of the images: 3 for colour, 1 for grey.
    pub in_channels: usize,
    /// Number of logits.
    pub n_classes: usize,
    /// The head.
    pub head: Head,
}

impl ResNetConfig {
    /// The network with initial weights, for images `(B, H, W, in_channels)`; logits are `(B, n_classes)`.
    ///
    /// Weights are functions of `seed` and the tensor's name alone, rounded from the same f32 values for each `dtype`
    /// (f32 or f64). Convolutions: normal, deviation sqrt(2 / fan_out); norms: 1 and 0. fastai's head: linear weights
    /// normal, deviation sqrt(2 / fan_in); norms 1 and 0.001. Linear head: uniform within 1 / sqrt(fan_in), as PyTorch.
    /// The parameters fall into the groups of [`crate::group_of`].
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a size of 0 or a probability outside [0, 1), or if memory runs out.
    pub fn build(&self, seed: u64, dtype: DType, device: &Device) -> Result<Network> {
        self.check()?;
        resnet::build(self, &Init { seed, dtype, device }, None)
    }

    /// The same network, which also takes images `(B, H, W, P)` of the planes that its channels are sums of: grey images
    /// need not fill three channels ([`cn_ops::FoldedConv2d`]). Tensors and what is computed stay the same.
    ///
    /// `mix (in_channels, P)`, with `P` below `in_channels`: channel `c` is the sum of `mix[c][p]` times plane `p`.
    ///
    /// # Errors
    ///
    /// As [`ResNetConfig::build`], or if `mix` has another shape.
    pub fn build_folded(&self, mix: &Tensor, seed: u64, dtype: DType, device: &Device) -> Result<Network> {
        self.check()?;
        resnet::build(self, &Init { seed, dtype, device }, Some(mix))
    }

    /// Number of trained values.
    #[must_use]
    pub fn n_parameters(&self) -> usize {
        // The stem's convolution is the only layer that sees the image: 64 filters of 7x7.
        let body = self.arch.body_parameters() - 3 * 64 * 49 + self.in_channels * 64 * 49;
        let features = self.arch.features();
        body + match self.head {
            Head::Linear => (features + 1) * self.n_classes,
            Head::FastAi { hidden, .. } => {
                2 * 2 * features + 2 * features * hidden + 2 * hidden + hidden * self.n_classes
            }
        }
    }

    /// The network whose weights a file holds, told by the names and shapes of its tensors (and by [`crate::save`]'s
    /// metadata for the dropout, which leaves no trace in the weights; 0.5 without them).
    ///
    /// # Errors
    ///
    /// [`Error::UnknownNetwork`] if no architecture of this crate has such tensors.
    pub fn of_file(file: &WeightFile) -> Result<Self> {
        let dims = |name: &str| {
            let tensor = file.get(name).ok_or_else(|| unknown(format!("it lacks `{name}`")))?;
            Ok::<_, Error>(tensor.dims())
        };
        let &[_, in_channels, _, _] = dims("conv1.weight")? else {
            return Err(unknown("`conv1.weight` has not four dimensions".into()));
        };
        let (head, n_classes) = match (file.get("fc.weight"), file.get("head.8.weight")) {
            (Some(fc), None) if fc.rank() == 2 => (Head::Linear, fc.dims()[0]),
            (None, Some(last)) if last.rank() == 2 => {
                let dropout = file.metadata().get("cn.dropout").and_then(|p| p.parse().ok()).unwrap_or(0.5);
                (Head::FastAi { hidden: last.dims()[1], dropout }, last.dims()[0])
            }
            _ => return Err(unknown("it has neither `fc.weight` nor `head.8.weight` of two dimensions alone".into())),
        };
        let config = Self { arch: Arch::of_file(file)?, in_channels, n_classes, head };
        config.check()?;
        Ok(config)
    }

    pub(crate) fn to_metadata(self) -> BTreeMap<String, String> {
        let mut pairs = vec![
            ("cn.arch", self.arch.to_string()),
            ("cn.in_channels", self.in_channels.to_string()),
            ("cn.n_classes", self.n_classes.to_string()),
        ];
        match self.head {
            Head::Linear => pairs.push(("cn.head", "linear".into())),
            Head::FastAi { dropout, .. } => {
                pairs.extend([("cn.head", "fastai".into()), ("cn.dropout", dropout.to_string())]);
            }
        }
        pairs.into_iter().map(|(key, value)| (key.into(), value)).collect()
    }

    fn check(&self) -> Result<()> {
        positive("in_channels", self.in_channels)?;
        positive("n_classes", self.n_classes)?;
        let Head::FastAi { hidden, dropout } = self.head else { return Ok(()) };
        positive("hidden", hidden)?;
        if !(0.0..1.0).contains(&dropout) {
            let expected = "a probability from 0 up to, not including, 1";
            return Err(Error::Setting { name: "dropout", value: dropout, expected });
        }
        Ok(())
    }
}

fn positive(name: &'static str, value: usize) -> Result<()> {
    match value {
        0 => Err(Error::Setting { name, value: 0.0, expected: "at least 1" }),
        _ => Ok(()),
    }
}

fn unknown(problem: String) -> Error {
    Error::UnknownNetwork { problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: ResNetConfig =
        ResNetConfig { arch: Arch::ResNet18, in_channels: 3, n_classes: 15, head: Head::fastai() };

    #[test]
    fn counts_are_those_of_fastai_and_torchvision() {
        assert_eq!(OURS.n_parameters(), 11_711_552);
        assert_eq!(ResNetConfig { in_channels: 1, ..OURS }.n_parameters(), 11_711_552 - 2 * 3136);
        let torchvision = |arch| ResNetConfig { arch, n_classes: 1000, head: Head::Linear, ..OURS }.n_parameters();
        assert_eq!(Arch::ALL.map(torchvision), [11_689_512, 21_797_672, 25_557_032]);
    }

    #[test]
    fn sizes_are_checked_by_name() {
        let bad = [
            ("in_channels", ResNetConfig { in_channels: 0, ..OURS }),
            ("n_classes", ResNetConfig { n_classes: 0, ..OURS }),
            ("hidden", ResNetConfig { head: Head::FastAi { hidden: 0, dropout: 0.5 }, ..OURS }),
            ("dropout", ResNetConfig { head: Head::FastAi { hidden: 512, dropout: 1.0 }, ..OURS }),
            ("dropout", ResNetConfig { head: Head::FastAi { hidden: 512, dropout: f64::NAN }, ..OURS }),
        ];
        for (expected, config) in bad {
            let error = config.build(42, DType::F32, &Device::Cpu).unwrap_err();
            assert!(matches!(error, Error::Setting { name, .. } if name == expected), "{error}");
        }
    }
}
