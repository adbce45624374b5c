//! CUDA kernels for training convolutional networks, and what launches them.
//!
//! A GPU waits more than it computes if every small layer asks for memory and launches three kernels. Here a layer's work
//! is one or two launches over memory that was planned before, in one stream, so that a whole step can be recorded once
//! ([`Device::capture`]) and launched as one.
//!
//! - [`Device`] and [`Buffer`]: a GPU and memory on it; [`Device::cuda`] says in words why there is none;
//! - [`Augment`]: images of bytes to batches, bit for bit as on the CPU;
//! - [`Convolution`], [`BatchNorm`], the pools, [`Loss`], [`Dropout`], [`Adam`]: what a network needs, forward and back.
//!
//! Every function checks the sizes of its buffers before it launches anything. Sums run in an order that follows from the
//! shape alone, without atomics, so that the same inputs give the same bits.
//!
//! # Features
//!
//! Without features there are no kernels and no CUDA crate: [`Device::cuda`] answers [`Error::NotCompiled`]. `cuda` compiles
//! the kernels with nvcc and loads the driver at run time: such a program starts on every machine, and says what is missing
//! when it is asked for a GPU. `cudnn` also loads cuDNN, if it is there, for convolutions. `emulation` compiles the same
//! kernels with the C++ compiler of the machine and runs them on the CPU, which finds wrong indices without a GPU:
//!
//! ```
//! use cn_cuda::{Device, Element, train};
//!
//! # #[cfg(not(feature = "emulation"))]
//! # fn main() {}
//! # #[cfg(feature = "emulation")]
//! # fn main() -> Result<(), cn_cuda::Error> {
//! let device = match Device::cuda(0).or_else(|_| Device::emulated()) {
//!     Ok(device) => device,
//!     Err(why) => return Ok(println!("skipped: {why}")),
//! };
//! let x = device.floats(&[-1.0, 2.0], "an example")?;
//! train::relu(&device, Element::F32, &x, &x)?;
//! assert_eq!(x.read_floats()?, [0.0, 2.0]);
//! # Ok(())
//! # }
//! ```

mod augment;
mod backend;
pub mod conv;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "cuda_off.rs"]
mod cuda;
mod device;
#[cfg(feature = "emulation")]
mod emulation;
mod error;
mod folded;
mod launch;
pub mod norm;
mod picked;
pub mod pool;
mod stem;
pub mod train;

pub use augment::{Augment, Geometry, ImageStack, Plane};
pub use backend::{Products, Timing};
pub use cn_kernels::conv::ConvShape;
pub use conv::{Convolution, LinearShape, Write};
pub use device::{Buffer, Device, Element, Graph};
pub use error::{Error, Result};
pub use folded::{FoldedConfig, FoldedConvolution, Unfolded};
pub use norm::{Activation, BatchNorm, BatchNormConfig};
pub use pool::{GlobalShape, PoolShape};
pub use train::{Adam, AdamRates, Dropout, Grads, Loss, StepState, Widen};
