//! Random crops and affine maps of whole batches, from u8 pixels to normalised floats in one pass.
//!
//! A data loader that decodes, crops, resizes, converts and normalises in five passes spends its time on memory. Here
//! a batch goes from packed bytes to normalised channels-last floats in one: bytes are resampled row by row with
//! integers (Pillow's BILINEAR, bit for bit), and a table turns each row into floats while it is in the cache.
//!
//! What happens to an image is decided apart from doing it:
//!
//! - [`Policy`]: ranges and probabilities, validated when built; [`Framing`] says which part of an image is seen;
//! - [`Geometry`]: what was drawn for one image, plain numbers, a pure function of the policy, the image and
//!   [`DrawKey`] (seed, epoch, id): no thread, batch or device has a part in it;
//! - [`Batcher`]: images and their geometries to a batch `(B, S, S, C)`, in a slice or a tensor; [`Planes`] says what of
//!   each pixel, since grey images need not fill three channels;
//! - [`GpuBatcher`]: the same batches on a GPU, from images that lie there;
//! - [`Drawing`]: a drawing of any size, pen and polarity as an image of handwriting;
//! - [`InkSquare`]: the square about the ink, for drawings that fill a small part of their images;
//! - [`ink_kept`]: how much of the ink a geometry leaves, since a 三 that loses a stroke is a 二 with a wrong label.
//!
//! ```
//! use cn_augment::{Batcher, DrawKey, Framing, Image, Normalisation, Policy, PolicyConfig, RandomResizedCrop};
//!
//! let pixels = vec![0u8; 64 * 64]; // a grey image
//! let image = Image { pixels: &pixels, height: 64, width: 64, channels: 1 };
//!
//! let crop = RandomResizedCrop { min_scale: 0.35, ..RandomResizedCrop::default() };
//! let policy = Policy::new(PolicyConfig::new(128, Framing::RandomResizedCrop(crop)))?;
//! let geometry = policy.geometry(image, DrawKey { seed: 42, epoch: 0, id: 17 })?;
//!
//! let batcher = Batcher::new(3, Normalisation::imagenet())?;
//! let mut batch = vec![0f32; 128 * 128 * 3]; // kept from step to step
//! batcher.fill(&[image], &[geometry], &mut batch)?;
//! assert_eq!(batch[0], ((0.0 - 0.485) / 0.229) as f32);
//! # Ok::<(), cn_augment::Error>(())
//! ```
//!
//! # The same numbers everywhere
//!
//! Draws come from [`cn_random`] (Philox keyed by seed, epoch, id and purpose), exponentials and sines from software
//! (`libm`), pixels from integers: geometry and bytes are the same on every platform, at any number of threads and
//! whatever else is in the batch.

#![forbid(unsafe_code)]

mod batch;
mod device;
mod drawing;
mod error;
mod framing;
mod geometry;
mod gpu;
mod image;
mod ink;
mod normalise;
mod planes;
mod policy;
#[cfg(test)]
mod testing;

pub use batch::Batcher;
pub use drawing::Drawing;
pub use error::{Error, Result};
pub use framing::{Affine, Framing, RandomResizedCrop};
pub use geometry::Geometry;
pub use gpu::{BatchCheck, GpuBatcher, check_batches};
pub use image::{Image, ImageStack};
pub use ink::{InkSquare, ink_extent, ink_kept};
pub use normalise::{Normalisation, Value};
pub use planes::Planes;
pub use policy::{DrawKey, Erasing, Jitter, MinInk, Policy, PolicyConfig};
