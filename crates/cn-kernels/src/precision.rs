//! The precision of products.

use std::fmt;
use std::str::FromStr;

/// What the operands of matrix products are rounded to; sums are `f32` always, and so is everything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Nothing: 24 bits.
    #[default]
    F32,
    /// bfloat16: 8 bits, the range of `f32`. Twice as many products a cycle, where the processor has AVX512-BF16.
    Bf16,
}

impl Precision {
    /// Whether this processor computes such products, with the instruction set in use; without, they are `f32`.
    #[must_use]
    pub fn is_supported(self) -> bool {
        self == Self::F32 || crate::Isa::current().pairs() != crate::Isa::current()
    }
}

/// A name of no precision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no precision, expected `f32` or `bf16`")]
pub struct PrecisionError(String);

impl FromStr for Precision {
    type Err = PrecisionError;
    fn from_str(name: &str) -> Result<Self, PrecisionError> {
        match name {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(PrecisionError(name.into())),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}
