//! Weights that ship inside: a ResNet-18 for grey images of 64 px that reads the fifteen Chinese numerals
//! 零一二三四五六七八九十百千万亿, trained on drawn handwriting alone.
//!
//! No image of a data set went into them; `data/README.md` says how they were made and how anyone makes them again.
//!
//! ```
//! use cn_zoo::{Arch, ResNetConfig, WeightFile, glyphs};
//!
//! let file = WeightFile::from_bytes(glyphs::WEIGHTS)?;
//! let config = ResNetConfig::of_file(&file)?;
//! assert_eq!((config.arch, config.in_channels, config.n_classes), (Arch::ResNet18, 1, 15));
//! # Ok::<(), cn_zoo::Error>(())
//! ```

/// The packed weights, see [`save_packed`](crate::save_packed).
pub const WEIGHTS: &[u8] = include_bytes!("../weights/glyphs/weights.bin");
/// What the inputs and outputs mean: the `model.json` of a run, as text.
pub const CARD: &str = include_str!("../weights/glyphs/model.json");
