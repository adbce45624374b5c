//! What happens to images, as settings.

use crate::problem::Problem;
use cn_augment::{Affine, Framing, MinInk, Policy, PolicyConfig, RandomResizedCrop};
use serde::{Deserialize, Serialize};

/// Bytes below this are background of the scans: JPEG leaves rings of up to 15.
pub(crate) const INK: u8 = 40;

/// How an image becomes the model's input.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Transform {
    /// The whole image, resized.
    #[default]
    Whole,
    /// fastai's validation transform: resized beyond the size by the share `extra`, then the centre.
    Centre {
        #[serde(default = "fastai_extra")]
        extra: f64,
    },
    /// fastai's crop.
    RandomResizedCrop {
        #[serde(default = "fastai_min_scale")]
        min_scale: f64,
    },
    /// Small shifts, turns and slants that keep the share `min_ink` of the ink.
    Affine(AffineConfig),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AffineConfig {
    shift: f64,
    scale: [f64; 2],
    rotate: f64,
    shear: f64,
    aspect: f64,
    min_ink: f64,
}

impl Default for AffineConfig {
    fn default() -> Self {
        let Affine { shift, scale: (low, high), rotate, shear, aspect } = Affine::default();
        Self { shift, scale: [low, high], rotate, shear, aspect, min_ink: 0.9 }
    }
}

fn fastai_extra() -> f64 {
    0.14
}

fn fastai_min_scale() -> f64 {
    0.35
}

impl Transform {
    /// The policy for images of `size` px.
    pub(crate) fn policy(&self, size: u32) -> Result<Policy, Problem> {
        let framing = match self {
            Self::Whole => Framing::Whole,
            Self::Centre { extra } => Framing::CentreCrop { extra: *extra },
            Self::RandomResizedCrop { min_scale } => {
                Framing::RandomResizedCrop(RandomResizedCrop { min_scale: *min_scale, ..RandomResizedCrop::default() })
            }
            Self::Affine(AffineConfig { shift, scale: [low, high], rotate, shear, aspect, .. }) => {
                Framing::Affine(Affine {
                    shift: *shift,
                    scale: (*low, *high),
                    rotate: *rotate,
                    shear: *shear,
                    aspect: *aspect,
                })
            }
        };
        let min_ink = match self {
            Self::Affine(config) if config.min_ink > 0.0 => Some(MinInk { share: config.min_ink, threshold: INK }),
            _ => None,
        };
        let config = PolicyConfig { min_ink, ..PolicyConfig::new(size, framing) };
        Policy::new(config).map_err(|e| Problem::usage("the transform of the images is not possible").caused_by(e))
    }

    /// The policy, without anything random.
    pub(crate) fn fixed_policy(&self, size: u32) -> Result<Policy, Problem> {
        match self {
            Self::Whole | Self::Centre { .. } => self.policy(size),
            _ => {
                Err(Problem::usage("`[validation]` must not be random").hint("use `kind = \"whole\"` or `\"centre\"`"))
            }
        }
    }

    /// What `model.json` says about it.
    pub(crate) fn card(&self, size: u32) -> cn_report::Transform {
        match self {
            // fastai rounds the margin up to a multiple of 4 on each side.
            Self::Centre { extra } => {
                let extra = (f64::from(size) * extra / 8.0).ceil() as usize * 8;
                cn_report::Transform::Centre { resize: size as usize + extra }
            }
            _ => cn_report::Transform::Whole,
        }
    }
}

impl Transform {
    /// The validation transform that resizes to `resize` and takes the central `size`.
    pub(crate) fn centre(resize: usize, size: usize) -> Self {
        // Just below the margin: the transform rounds up.
        let extra = (resize.saturating_sub(size) as f64 - 0.5) / size as f64;
        Self::Centre { extra: extra.max(0.0) }
    }
}
