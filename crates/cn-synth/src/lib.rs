//! Synthetic handwriting of the fifteen Chinese numerals 零一二三四五六七八九十百千万亿, made to look like the
//! scans of the *Handwritten Chinese Numbers* data set (64 px, thin grey lines on black, JPEG).
//!
//! A model can be trained, and a pipeline tested, without a single file on disk; writers are as many as ids.
//!
//! - [`Handwriting`]: draws the image of a [`Sample`] (writer, page, character code);
//! - [`Style`]: the look, from the scans' own ([`Style::scans`]) to a far wider one ([`Style::wide`]);
//! - [`CHARACTERS`]: codes, values and characters; [`writers`]: whom to train on, whom to keep for validation.
//!
//! ```
//! use cn_synth::{CHARACTERS, Handwriting, Sample, Style, writers};
//!
//! let handwriting = Handwriting::new(42, Style::scans())?;
//! let first = writers::TRAIN.start;
//! let samples: Vec<Sample> = Sample::pages(first..first + 2, 3).collect();
//! let images = handwriting.draw_all(&samples); // (N, 64, 64)
//! assert_eq!(images.len(), 2 * 3 * 15 * 64 * 64);
//!
//! let label = CHARACTERS[usize::from(samples[0].code()) - 1].value;
//! assert_eq!(label, "0");
//! # Ok::<(), cn_synth::Error>(())
//! ```

#![forbid(unsafe_code)]

mod character;
mod error;
mod handwriting;
mod jpeg;
mod noise;
mod pen;
mod scan;
mod shape;
mod skeleton;
mod style;
mod writer;
pub mod writers;

pub use character::{CHARACTERS, Character};
pub use error::Error;
pub use handwriting::{Handwriting, Sample};
pub use style::{Polarity, Spread, Style};
