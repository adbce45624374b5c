//! Instruction sets: the choice at run time, vectors, and the inner loops that need them.
//!
//! The only place of this crate with `unsafe` code. A function under `#[target_feature]` is reached only through
//! [`Isa`], whose values exist only where the processor has what they name.
#![allow(unsafe_code)]

pub(crate) mod copy;
pub(crate) mod dense;
mod isa;
mod lanes;
pub(crate) mod matmul;
pub(crate) mod norm;
pub(crate) mod optim;
pub(crate) mod pairs;
pub(crate) mod pool;
pub(crate) mod winograd;

pub use isa::{Isa, IsaError};
