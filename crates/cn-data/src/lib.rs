//! Image data sets on disk: from files to decoded pixels, labels, splits and the order of an epoch.
//!
//! A classifier needs to know which images there are, what they show, which of them judge the result and in which
//! order they come; and it needs their pixels in memory, decoded once. That is all that happens here, in the memory of
//! the host: no model, no device, no augmentation.
//!
//! - [`Index`]: the list of [`Record`]s (path, labels, group), from a `dataset.toml` ([`Spec`]), a CSV file, folders,
//!   or made in memory;
//! - [`Split`]: the ids that train and that judge; fastai's random split bit for bit, whole groups, k-fold;
//! - [`Pixels`]: all images in one packed buffer, decoded on all cores and cached;
//! - [`Dataset`]: these together, with the [`Vocabulary`] of the training part and the [`Targets`];
//! - [`Sampler`]: the batches of an epoch, a function of (seed, epoch);
//! - [`Pixels::copies`], [`Pixels::odd_images`]: what to look at before training.
//!
//! ```
//! use cn_data::{Dataset, Index, LoadConfig, Cache, Sampler, SplitConfig};
//!
//! # let folder = tempfile::tempdir()?;
//! # for label in ["a", "b"] {
//! #     std::fs::create_dir(folder.path().join(label))?;
//! #     for i in 0..10 {
//! #         image::GrayImage::new(8, 8).save(folder.path().join(format!("{label}/{i}.png")))?;
//! #     }
//! # }
//! # let folder = folder.path();
//! let index = Index::open(folder)?; // <label>/*.png here
//! let load = LoadConfig { cache: Cache::Off, ..LoadConfig::default() };
//! let dataset = Dataset::load(index, &load, &SplitConfig::default())?;
//! assert_eq!(dataset.vocabulary().labels(), ["a", "b"]);
//!
//! let sampler = Sampler::train(dataset.split().train(), 4, 42)?;
//! for ids in sampler.epoch(0) {
//!     let targets = dataset.targets().multi_hot(&ids); // (B, K)
//!     let first = dataset.pixels().image(ids[0]); // (H, W, C) bytes
//!     assert_eq!((targets.len(), first.pixels.len()), (8, 64));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod audit;
mod cache;
mod dataset;
mod decode;
mod digest;
mod error;
mod folders;
mod ground;
mod index;
mod load;
mod pixels;
mod sampler;
mod spec;
mod split;
mod table;
mod template;
mod vocabulary;

pub use audit::{Copies, Odd, OddReason};
pub use cache::Cache;
pub use dataset::Dataset;
pub use decode::{BadReason, Channels, DecodeConfig};
pub use digest::{Digest, content_sha256};
pub use error::{Error, Result};
pub use folders::find_images;
pub use ground::Ground;
pub use index::{Index, Record};
pub use load::{Damaged, LoadConfig, Loaded, hash_files};
pub use pixels::{BadImage, ImageView, Pixels};
pub use sampler::{Batches, Sampler};
pub use spec::Spec;
pub use split::{Split, SplitConfig, SplitMethod};
pub use vocabulary::{Targets, Vocabulary};
