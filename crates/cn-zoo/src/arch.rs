//! Which networks there are.

use crate::{Error, Result, WeightFile};
use std::fmt;
use std::str::FromStr;

/// An architecture, by name.
///
/// ```
/// use cn_zoo::Arch;
/// let arch: Arch = "resnet18".parse()?;
/// assert_eq!(arch.features(), 512);
/// # Ok::<(), cn_zoo::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Arch {
    /// Eight basic blocks.
    ResNet18,
    /// Sixteen basic blocks.
    ResNet34,
    /// Sixteen bottlenecks; the stride lies in their 3x3 convolution, as in torchvision ("v1.5"), not in the first 1x1
    /// one as in the paper.
    ResNet50,
}

/// What a residual block consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Block {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3, and a 1x1 convolution to four times the width.
    Bottleneck,
}

impl Block {
    /// Channels out of a block, by its width.
    pub(crate) fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

impl Arch {
    /// Every architecture, small ones first.
    pub const ALL: [Self; 3] = [Self::ResNet18, Self::ResNet34, Self::ResNet50];

    /// Its name, as torchvision and timm call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ResNet18 => "resnet18",
            Self::ResNet34 => "resnet34",
            Self::ResNet50 => "resnet50",
        }
    }

    /// Channels that the body gives to the head.
    #[must_use]
    pub fn features(self) -> usize {
        512 * self.block().expansion()
    }

    /// Number of trained values in the body for images of three channels, as in torchvision without `fc`.
    #[must_use]
    pub fn body_parameters(self) -> usize {
        match self {
            Self::ResNet18 => 11_176_512,
            Self::ResNet34 => 21_284_672,
            Self::ResNet50 => 23_508_032,
        }
    }

    /// The repository on the Hugging Face hub that holds torchvision's first ImageNet weights (V1) for it, as safetensors.
    #[must_use]
    pub fn imagenet_repo(self) -> &'static str {
        match self {
            Self::ResNet18 => "timm/resnet18.tv_in1k",
            Self::ResNet34 => "timm/resnet34.tv_in1k",
            Self::ResNet50 => "timm/resnet50.tv_in1k",
        }
    }

    /// The architecture whose body a file holds, with or without a head: the one with as many blocks of the same kind.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownNetwork`] if there is none.
    pub fn of_file(file: &WeightFile) -> Result<Self> {
        let has = |name: String| file.get(&name).is_some();
        let depth = |stage: usize| (0..).take_while(|block| has(format!("layer{stage}.{block}.conv1.weight"))).count();
        let depths = [1, 2, 3, 4].map(depth);
        let block = if has("layer1.0.conv3.weight".into()) { Block::Bottleneck } else { Block::Basic };
        let found = Self::ALL.into_iter().find(|arch| arch.depths() == depths && arch.block() == block);
        found.ok_or_else(|| Error::UnknownNetwork {
            problem: match depths {
                [0, 0, 0, 0] => "it has no tensor called as those of a ResNet".into(),
                _ => format!("no architecture has {depths:?} blocks of this kind"),
            },
        })
    }

    pub(crate) fn block(self) -> Block {
        match self {
            Self::ResNet18 | Self::ResNet34 => Block::Basic,
            Self::ResNet50 => Block::Bottleneck,
        }
    }

    /// Number of blocks in each of the four stages (He et al., arXiv:1512.03385, table 1).
    pub(crate) fn depths(self) -> [usize; 4] {
        match self {
            Self::ResNet18 => [2, 2, 2, 2],
            Self::ResNet34 | Self::ResNet50 => [3, 4, 6, 3],
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Arch {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|arch| arch.name() == name)
            .ok_or_else(|| Error::UnknownArch { name: name.into(), known: Self::ALL.map(Self::name).join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_architectures_correspond() {
        for arch in Arch::ALL {
            assert_eq!(arch.to_string().parse::<Arch>().unwrap(), arch);
        }
        let message = "resnet19".parse::<Arch>().unwrap_err().to_string();
        assert_eq!(message, "no architecture is called `resnet19`; known are resnet18, resnet34, resnet50");
    }
}
