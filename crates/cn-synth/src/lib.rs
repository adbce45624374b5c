//! Synthetic handwriting of the fifteen Chinese numerals 零一二三四五六七八九十百千万亿, made to look like the
//! scans of the *Handwritten Chinese Numbers* data set (64 px, thin grey lines on black, JPEG).
//!
//! A model can be trained, and a pipeline tested, without a single file on disk; writers are as many as ids.
//!
//! - [`Handwriting`]: draws the image of a [`Sample`] (writer, page, character code);
//! - [`Glyphs`]: images without end for pretraining, each in a look of its own;
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
//!
//! # How an image comes about
//!
//! 1. `data/skeletons.txt` holds the characters: parts, the forms that each part takes in adult handwriting (from the
//!    form taught in school to running script), and strokes in writing order. They were drawn for this crate.
//! 2. A writer has traits (size, slope, lean, pen, darkness, roundness, hooks, ...) and, for each character, habits:
//!    a usual form and usual deviations from it. A page moves and darkens all of its characters alike, and each image
//!    adds chance of its own.
//! 3. The pen follows the curves with tremor, pressure at the start, thinning at the end, uneven ink; hasty writers
//!    link strokes.
//! 4. The scanner squeezes the page (vertical lines in the scans are thinner than horizontal ones), averages ink over
//!    pixels, and JPEG rings: an actual transform and quantisation at the scans' quality, 75.
//!
//! Steps 2 to 4 are fitted to the published pixel statistics of all 15,000 scans and to the forms of writers 1 to 20;
//! no image of the other writers was looked at, but errors of earlier weights were counted over all of them, character by
//! character.
//!
//! # The same bits everywhere
//!
//! Draws are keyed (`cn-random`): an image is a function of seed, style, writer, page and code, never of order or
//! threads. The arithmetic is `+ - * /`, square roots, comparisons and roundings in `f32`, which IEEE 754 fixes to
//! the bit, in a fixed order and without contraction; no function of the C library is called. So every platform that
//! Rust supports with IEEE `f32` (not x86 without SSE2) gives the same bytes; a test holds them. A later version may
//! improve the look, and then changes them.

#![forbid(unsafe_code)]

mod character;
mod error;
mod glyphs;
mod handwriting;
mod jpeg;
mod noise;
mod pen;
mod scan;
mod shape;
mod skeleton;
mod style;
mod wear;
mod writer;
pub mod writers;

pub use character::{CHARACTERS, Character};
pub use error::Error;
pub use glyphs::Glyphs;
pub use handwriting::{Handwriting, Sample};
pub use style::{Polarity, Spread, Style};
