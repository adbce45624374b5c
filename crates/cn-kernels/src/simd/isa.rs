//! Which instructions to use.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// An instruction set that this processor has; results are bit-exact for each one, not across them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Isa(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Portable,
    Avx2,
    Avx512,
    /// With products of bfloat16.
    Avx512Bf16,
}

/// A value of `CN_ISA` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IsaError {
    /// No such name.
    #[error("`{0}` is no instruction set, expected `avx512`, `avx2` or `portable`")]
    Unknown(String),
    /// The processor lacks it.
    #[error("this processor has no {0}, it has {best}", best = Isa::best())]
    Missing(&'static str),
}

impl Isa {
    /// Plain code that the compiler vectorises for its baseline.
    pub const PORTABLE: Self = Self(Kind::Portable);

    /// The widest set of this processor.
    #[must_use]
    pub fn best() -> Self {
        *Self::available().last().expect("the portable code is always there")
    }

    /// Every set of this processor, the widest last.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let found = [(Kind::Portable, true), (Kind::Avx2, has_avx2()), (Kind::Avx512, has_avx512())];
        found.into_iter().filter(|f| f.1).map(|f| Self(f.0)).collect()
    }

    /// What `CN_ISA` names, else [`Isa::best`].
    ///
    /// # Errors
    ///
    /// If the variable names a set that is unknown or missing here.
    pub fn from_env() -> Result<Self, IsaError> {
        match std::env::var("CN_ISA") {
            Ok(name) if !name.is_empty() => name.parse(),
            _ => Ok(Self::best()),
        }
    }

    /// What the kernels use: [`Isa::from_env`], read once; an unusable name counts as none.
    #[must_use]
    pub fn current() -> Self {
        static CURRENT: OnceLock<Isa> = OnceLock::new();
        *CURRENT.get_or_init(|| Self::from_env().unwrap_or_else(|_| Self::best()))
    }

    /// The same set with products of bfloat16 where there are such, else the same.
    pub(crate) fn pairs(self) -> Self {
        if self.0 == Kind::Avx512 && has_bf16() { Self(Kind::Avx512Bf16) } else { self }
    }

    /// Whether products take pairs of bfloat16.
    pub(crate) fn has_pairs(self) -> bool {
        self.0 == Kind::Avx512Bf16
    }

    pub(super) fn kind(self) -> Kind {
        self.0
    }
}

impl FromStr for Isa {
    type Err = IsaError;
    fn from_str(name: &str) -> Result<Self, IsaError> {
        match name.to_ascii_lowercase().as_str() {
            "portable" => Ok(Self::PORTABLE),
            "avx2" if has_avx2() => Ok(Self(Kind::Avx2)),
            "avx512" if has_avx512() => Ok(Self(Kind::Avx512)),
            "avx2" => Err(IsaError::Missing("AVX2 with FMA")),
            "avx512" => Err(IsaError::Missing("AVX-512")),
            _ => Err(IsaError::Unknown(name.into())),
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Portable => "portable",
            Kind::Avx2 => "avx2",
            Kind::Avx512 | Kind::Avx512Bf16 => "avx512",
        })
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

#[cfg(target_arch = "x86_64")]
fn has_bf16() -> bool {
    has_avx512() && is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_bf16() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}

/// Defines `$name`, which runs `$body` compiled for the instruction set that it is given.
///
/// The body is an `#[inline(always)]` function generic over [`super::lanes::Lanes`].
macro_rules! for_each_isa {
    ($(#[$doc:meta])* $vis:vis fn $name:ident = $body:ident; ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis unsafe fn $name(isa: $crate::simd::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2")]
            unsafe fn avx512($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller's promises are those of the body.
                unsafe { $body::<$crate::simd::lanes::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller's promises are those of the body.
                unsafe { $body::<$crate::simd::lanes::Avx2>($($arg),*) }
            }
            match isa.kind() {
                // SAFETY: an `Isa` of this kind exists only where the processor has the features.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::isa::Kind::Avx512 | $crate::simd::isa::Kind::Avx512Bf16 => unsafe { avx512($($arg),*) },
                // SAFETY: an `Isa` of this kind exists only where the processor has the features.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::isa::Kind::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: the caller's promises are those of the body.
                _ => unsafe { $body::<$crate::simd::lanes::Portable>($($arg),*) },
            }
        }
    };
}
pub(crate) use for_each_isa;
