//! Counter-based randomness: a draw is a function of what it is for, not of what was drawn before.
//!
//! A generator with a state gives results that depend on the number of threads, on the batch size and on where a run
//! was resumed. Here every draw is Philox4x32-10 of (seed, epoch, id, purpose), so that the crop of image 17 in epoch 3
//! is the same wherever and whenever it is computed.
//!
//! - [`Draws`]: the stream of numbers that belongs to one (seed, epoch, id, purpose);
//! - [`Purpose`]: the name of what is drawn; each crate makes its own with [`Purpose::named`];
//! - [`permutation`] for orders, [`fill_normal`] and [`fill_uniform`] for initial weights;
//! - [`philox4x32_10`]: the block function itself.
//!
//! ```
//! use cn_random::{Draws, Purpose};
//!
//! const CROP: Purpose = Purpose::named("crop");
//!
//! let (seed, epoch, image) = (42, 3, 17);
//! let mut draws = Draws::new(seed, epoch, image, CROP);
//! let area = draws.range(0.35, 1.0);
//! let flipped = draws.below(2) == 1;
//!
//! let mut again = Draws::new(seed, epoch, image, CROP);
//! assert_eq!((area, flipped), (again.range(0.35, 1.0), again.below(2) == 1));
//! ```
//!
//! # The same bits everywhere
//!
//! Only integer operations and the arithmetic that IEEE 754 rounds exactly (`+ - * /` and the square root) are used.
//! Logarithms, sines and cosines come from polynomials in this crate, because those of the C libraries differ between
//! platforms. The numbers that this version gives are part of its contract; tests hold them.
//!
//! Not for cryptography.

#![forbid(unsafe_code)]

mod draws;
mod fill;
mod math;
mod philox;

pub use draws::{Draws, Purpose, permutation};
pub use fill::{fill_normal, fill_uniform};
pub use philox::philox4x32_10;
