//! The two element types of the kernels.

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// An element type: `f32` to train with, `f64` to check with.
pub trait Float:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + Sum
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + private::Sealed
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// The value below all others.
    const NEG_INFINITY: Self;
    /// The nearest value to `x`.
    fn from_f64(x: f64) -> Self;
    /// The same value, wider.
    fn to_f64(self) -> f64;
    /// The square root.
    fn sqrt(self) -> Self;
    /// `slice` as `f32`, if that is what it holds.
    #[doc(hidden)]
    fn as_f32(slice: &[Self]) -> Option<&[f32]>;
    /// `slice` as `f32`, if that is what it holds.
    #[doc(hidden)]
    fn as_f32_mut(slice: &mut [Self]) -> Option<&mut [f32]>;
}

mod private {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

macro_rules! float {
    ($t:ident, |$s:ident| $as_f32:expr) => {
        impl Float for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NEG_INFINITY: Self = $t::NEG_INFINITY;
            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $t::sqrt(self)
            }
            #[inline(always)]
            fn as_f32($s: &[Self]) -> Option<&[f32]> {
                $as_f32
            }
            #[inline(always)]
            fn as_f32_mut($s: &mut [Self]) -> Option<&mut [f32]> {
                $as_f32
            }
        }
    };
}
float!(f32, |slice| Some(slice));
float!(f64, |_slice| None);
