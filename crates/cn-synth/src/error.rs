//! What can be wrong with a request for handwriting.

use std::ops::RangeInclusive;

/// Why something cannot be drawn.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A character code outside 1..=15.
    #[error("no character has the code {code}, expected 1 to 15")]
    UnknownCode {
        /// The code that was asked for.
        code: u8,
    },
    /// An image side that the scanner cannot make.
    #[error("image size {size} px lies outside {} to {} px", allowed.start(), allowed.end())]
    ImageSize {
        /// The side that was asked for, in pixels.
        size: usize,
        /// The sides that work.
        allowed: RangeInclusive<usize>,
    },
    /// A JPEG quality outside 1..=100.
    #[error("JPEG quality {quality} lies outside 1 to 100")]
    JpegQuality {
        /// The quality that was asked for.
        quality: u8,
    },
    /// A trait of the style whose mean or deviations are not sensible numbers.
    #[error("style trait `{name}`: mean and deviations must be finite, deviations and sizes not negative")]
    Trait {
        /// The field of [`Style`](crate::Style).
        name: &'static str,
    },
    /// More samples of one writer than the keys of the draws can tell apart.
    #[error("sample {sample} is too large, expected at most {max}")]
    SampleTooLarge {
        /// The sample that was asked for.
        sample: u32,
        /// The largest one.
        max: u32,
    },
}

impl Error {
    /// What a user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::UnknownCode { .. } => Some("codes count the characters 零一二三四五六七八九十百千万亿 from 1"),
            Self::ImageSize { .. } => Some("the real scans have 64 px"),
            Self::JpegQuality { .. } => Some("the real scans have quality 75; `None` leaves JPEG out"),
            Self::Trait { .. } => Some("start from `Style::scans()` and change what you need"),
            Self::SampleTooLarge { .. } => Some("draw more writers instead"),
        }
    }
}
