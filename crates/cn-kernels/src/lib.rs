//! CPU kernels for training convolutional networks, over plain channels-last slices.
//!
//! Nothing here knows of tensors, models or files: every function takes slices and a shape, and splits its work over
//! the threads of the surrounding [`parallel`] scope. Images are `(B, H, W, C)` with the channel index running fastest,
//! weights are `(O, I, Kh, Kw)` as PyTorch keeps them.
//!
//! Work is cut into pieces that depend on the shape alone and sums are added in a fixed order, so a result has the same
//! bits at any number of threads.
//!
//! - [`conv`]: convolutions, forward and both gradients; [`conv::ConvShape`] is the type to know.
//! - [`norm`]: batch normalisation with an optional residual sum and ReLU.
//! - [`pool`], [`linear`], [`loss`], [`optim`]: what else a network needs; [`all_finite`]: whether it still computes.
//! - [`resample`]: crops, resizes and affine maps of 8-bit images.
//!
//! ```
//! use cn_kernels::Precision;
//! use cn_kernels::conv::{self, ConvShape};
//!
//! let shape = ConvShape { batch: 1, height: 4, width: 4, in_channels: 1, out_channels: 1, kernel: [3, 3], stride: [1, 1], padding: [1, 1] };
//! let (image, weight) = (vec![1f32; 16], vec![1f32; 9]);
//! let mut out = vec![0f32; shape.output_len()];
//! conv::forward(&shape, Precision::F32, [&image, &weight], &mut out);
//! assert_eq!(out[5], 9.0); // an inner pixel sees nine ones
//! assert_eq!(out[0], 4.0); // a corner sees four
//! ```
#![deny(unsafe_code)]

pub mod conv;
mod finite;
mod float;
pub mod linear;
pub mod loss;
pub mod norm;
pub mod optim;
mod parallel;
pub mod pool;
mod precision;
pub mod resample;
mod scratch;
mod simd;

pub use finite::{all_finite, all_squares_finite};
pub use float::Float;
pub use parallel::{parallel, with_threads};
pub use precision::{Precision, PrecisionError};
pub use simd::{Isa, IsaError};

#[cfg(test)]
mod tests;
