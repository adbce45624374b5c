//! What happens to images, as settings.

use crate::problem::Problem;
use cn_augment::{Affine, Framing, InkSquare, Jitter, MinInk, Policy, PolicyConfig, RandomResizedCrop};
use serde::{Deserialize, Serialize};

/// Bytes below this are background of the scans: JPEG leaves rings of up to 15.
pub(crate) const INK: u8 = 40;
/// The same where a square is taken about the ink: faint dots of some hands, which a 千 or a 三 hangs on, are below 40.
pub(crate) const FAINT_INK: u8 = 24;

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
    /// Small shifts, turns and slants that keep the share `min_ink` of the ink, and other brightness and contrast.
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
    /// Largest change of the bytes' factor, either way.
    brightness: f64,
    /// The same of their distance to the image's mean.
    contrast: f64,
}

impl Default for AffineConfig {
    fn default() -> Self {
        let Affine { shift, scale: (low, high), rotate, shear, aspect } = Affine::default();
        Self { shift, scale: [low, high], rotate, shear, aspect, min_ink: 0.9, brightness: 0.0, contrast: 0.0 }
    }
}

fn fastai_extra() -> f64 {
    0.14
}

fn fastai_min_scale() -> f64 {
    0.35
}

impl Transform {
    /// The policy for images of `size` px, of which all is seen or a square about the ink.
    pub(crate) fn policy(&self, size: u32, ink_square: Option<f64>) -> Result<Policy, Problem> {
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
        let ink_square = ink_square.map(|fill| InkSquare { fill, threshold: FAINT_INK });
        let threshold = ink_square.map_or(INK, |square| square.threshold);
        let min_ink = match self {
            Self::Affine(config) if config.min_ink > 0.0 => Some(MinInk { share: config.min_ink, threshold }),
            _ => None,
        };
        let jitter = match self {
            Self::Affine(AffineConfig { brightness, contrast, .. }) if (*brightness, *contrast) != (0.0, 0.0) => {
                Some(Jitter { probability: 1.0, brightness: *brightness, contrast: *contrast })
            }
            _ => None,
        };
        let config = PolicyConfig { ink_square, min_ink, jitter, ..PolicyConfig::new(size, framing) };
        build(config)
    }

    /// The policy, without anything random.
    pub(crate) fn fixed_policy(&self, size: u32, ink_square: Option<f64>) -> Result<Policy, Problem> {
        match self {
            Self::Centre { .. } if ink_square.is_some() => {
                Err(Problem::usage("`ink_square` leaves no margin for the `centre` of `[validation]` to cut off")
                    .hint("use `kind = \"whole\"`: all of the square about the ink"))
            }
            Self::Whole | Self::Centre { .. } => self.policy(size, ink_square),
            _ => {
                Err(Problem::usage("`[validation]` must not be random").hint("use `kind = \"whole\"` or `\"centre\"`"))
            }
        }
    }

    /// What `model.json` says about it.
    pub(crate) fn card(&self, size: u32, ink_square: Option<f64>) -> cn_report::Transform {
        if let Some(fill) = ink_square {
            return cn_report::Transform::InkSquare { fill, threshold: FAINT_INK };
        }
        match self {
            // fastai rounds the margin up to a multiple of 4 on each side.
            Self::Centre { extra } => {
                let extra = (f64::from(size) * extra / 8.0).ceil() as usize * 8;
                cn_report::Transform::Centre { resize: size as usize + extra }
            }
            _ => cn_report::Transform::Whole,
        }
    }

    /// The validation transform that resizes to `resize` and takes the central `size`.
    pub(crate) fn centre(resize: usize, size: usize) -> Self {
        // Just below the margin: the transform rounds up.
        let extra = (resize.saturating_sub(size) as f64 - 0.5) / size as f64;
        Self::Centre { extra: extra.max(0.0) }
    }
}

/// What a trained model does to images of `size` px.
pub(crate) fn policy_of(transform: cn_report::Transform, size: u32) -> Result<Policy, Problem> {
    use cn_report::Transform as Card;
    let config = match transform {
        Card::Whole => return Transform::Whole.fixed_policy(size, None),
        Card::Centre { resize } => return Transform::centre(resize, size as usize).fixed_policy(size, None),
        Card::InkSquare { fill, threshold } => {
            PolicyConfig { ink_square: Some(InkSquare { fill, threshold }), ..PolicyConfig::new(size, Framing::Whole) }
        }
    };
    build(config)
}

pub(super) fn build(config: PolicyConfig) -> Result<Policy, Problem> {
    Policy::new(config).map_err(|e| {
        Problem::usage("the transform of the images is not possible")
            .caused_by(e)
            .hint("the config.toml of a run shows what can be; `--ink-square` is a share such as 0.75")
    })
}
