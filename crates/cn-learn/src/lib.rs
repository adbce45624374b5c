//! The training loop: schedules, learning-rate finder, freezing, metrics, events, checkpoints.
//!
//! What fastai's `Learner` does, with its numbers, for any [`cn_ops::Model`]; but a run that was stopped at any step and
//! goes on, on any number of threads, ends with the bits of one that was not. That is so because nothing here has a
//! hidden state: schedules and augmentation are functions of the step, and a [`Checkpoint`] holds the rest.
//!
//! - [`Learner`]: `fit_one_cycle`, `fine_tune`, `freeze`, `evaluate`, `predict`, `lr_find`, `checkpoint`; its file,
//!   `learner.rs`, is the one to read first;
//! - [`Phase`]: a stretch of training with its rates, [`Rates`], and whether the body is frozen;
//! - [`Batches`]: augmented images of a [`Source`] (a [`cn_data::Dataset`] is one), made ahead on a thread;
//! - [`Predictor`]: what a model says about images, without data set and learner;
//! - [`Handler`]: what hangs on the loop, such as [`EarlyStopping`], [`SaveCheckpoints`] and [`SaveBest`];
//! - [`OnNan`]: what becomes of a step whose numbers are none; it never changes the model.
//!
//! ```
//! use cn_augment::Policy;
//! use cn_data::{Dataset, Index, Pixels, Record, Split, SplitConfig};
//! use cn_learn::{BatchConfig, Batches, Learner, LearnerConfig, Rates};
//! use cn_ops::{Flatten, Linear, Network, Sequential};
//! use candle_core::{DType, Device, Tensor};
//! use std::sync::Arc;
//!
//! // Images that are dark or bright, and labels that say so.
//! let record = |i: u32| Record { path: i.to_string(), labels: vec![["dark", "bright"][i as usize % 2].into()], group: None };
//! let index = Index::from_records("toy", "", (0..100).map(record).collect())?;
//! let pixels = Pixels::uniform((0..100 * 16).map(|i| if i / 16 % 2 == 0 { 0 } else { 255 }).collect(), [4, 4, 1])?;
//! let split = Split::new(&index, &SplitConfig::default())?;
//! let data = Arc::new(Dataset::new(index, pixels, split)?);
//!
//! let config = BatchConfig { batch_size: 16, channels: 1, ..BatchConfig::new(Policy::whole(4)?, Policy::whole(4)?) };
//! let batches = Batches::new(data, config, 42)?;
//! let linear = Linear::new(Tensor::zeros((2, 16), DType::F32, &Device::Cpu)?)?
//!     .with_bias(Tensor::zeros(2, DType::F32, &Device::Cpu)?)?;
//! let model = Network::new(Sequential::new().push("flat", Flatten::new()).push("fc", linear), |_| 0)?;
//!
//! let mut learner = Learner::new(model, batches, LearnerConfig::single_label())?;
//! learner.fit_one_cycle(4, Rates::Uniform(0.1), &mut [])?;
//! assert_eq!(learner.evaluate()?.metric("top1"), Some(1.0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod batches;
mod checkpoint;
mod error;
mod evaluation;
mod events;
mod handlers;
mod interpret;
mod learner;
mod lr_find;
mod metrics;
mod not_finite;
mod position;
mod predictions;
mod predictor;
mod schedule;
mod smooth;
mod source;
mod train_loss;
mod weights;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod testing;

pub use batches::{Batch, BatchConfig, BatchStream, Batches};
pub use checkpoint::{Checkpoint, CheckpointFolder, NewestCheckpoint, SaveCheckpoints};
pub use error::{Error, Result};
pub use evaluation::Evaluation;
pub use events::{EpochEnd, FitStart, Flow, Handler, Moment, PhaseStart, Step, Validated};
pub use handlers::{EarlyStopping, Monitor, SaveBest};
pub use interpret::{CamMaps, Plane, features, grad_cam, logits, principal_plane};
pub use learner::{Learner, LearnerConfig, Outcome};
pub use lr_find::{LrCurve, LrFindConfig, Suggestion, Suggestions};
pub use metrics::{ClassCounts, Metric};
pub use not_finite::{BadPlace, NotFinite, OnNan};
pub use position::{EpochRecord, Position, Score};
pub use predictions::{Decode, Predictions};
pub use predictor::Predictor;
pub use schedule::{Curve, Hypers, Phase, Rates, Schedule, even_mults};
pub use smooth::SmoothLoss;
pub use source::{Source, image_of};
pub use weights::Weights;
