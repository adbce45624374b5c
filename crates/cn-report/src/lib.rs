//! From tables of predictions, and what else a run folder holds, to honest numbers, tables and pictures.
//!
//! A classifier's usual numbers flatter it: counting yes/no answers scores 93 % for saying nothing, and a NaN compares
//! as neither right nor wrong. Here everything is computed from one sound table, [`Predictions`]: [`Predictions::answers`]
//! turns it into [`Answers`] at a threshold, and these into rates with intervals, a score for each class, and pairs that
//! are confused. [`RunFolder`] names the files of a run; [`Summary`], [`ModelCard`], [`EpochRecord`] are what is in them.
//!
//! For people there are tables for terminals ([`headline`], [`class_table`], [`EpochTable`] and others) and pictures:
//! [`LineChart`], [`finder_curve`] and [`grid`] give a [`Picture`], written as PNG. Their text is drawn from an embedded
//! subset of Noto Sans CJK SC (copyright 2014-2021 Adobe, SIL Open Font License 1.1, licence text in `fonts/OFL.txt`):
//! Latin, Greek, Russian and the Chinese numerals. A character that it lacks is drawn as its code, such as `U+9F8D`.
//!
//! This crate never knows how a model computes: it has no tensors and no models.
//!
//! ```
//! use cn_report::{Activation, Prediction, Predictions, Thresholds};
//!
//! let mut table = Predictions::new(["0", "1"])?;
//! for (path, target, probabilities) in [("a.png", 0, vec![0.9, 0.1]), ("b.png", 1, vec![0.3, 0.4])] {
//!     table.push(Prediction { path: path.into(), group: None, targets: vec![target], probabilities })?;
//! }
//! let answers = table.answers(Thresholds::uniform(0.5)?, Activation::Sigmoid)?;
//! assert_eq!(answers.exact_match().share(), 0.5); // For `b.png` no class exceeds 0.5 ...
//! assert_eq!(answers.counts().none, 1); // ... so it was refused, ...
//! assert_eq!(table.top1().share(), 1.0); // ... though its most probable class is right.
//! # Ok::<(), cn_report::Error>(())
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod audit;
mod compare;
mod error;
mod html;
mod picture;
mod run_folder;
mod scores;
mod tensorboard;
mod text;

pub use audit::{Audit, AuditNote, CROP_LOSS, CopyImage, CopySet, CropLoss, CroppedImages, LabelAudit, SuspectLabel};
pub use compare::{ComparedRun, compare_charts, compare_table, compare_warnings};
pub use error::{Error, Result};
pub use html::{AuditPictures, audit_page, compare_page, report_page};
pub use picture::{
    Caption, ImageView, LineChart, Mark, Picture, Scale, Series, Tile, Tone, confusion_picture, finder_curve, grid,
};
pub use run_folder::{
    Activation, ClassCard, DataCard, DataChange, DataHashes, DataSummary, EmbeddedImage, EpochRecord, GalleryImage,
    Ground, Interpretation, MANIFEST_SCHEMA, MODEL_SCHEMA, Machine, Manifest, Metrics, ModelCard, Normalisation,
    Prediction, Predictions, RunFolder, RunLock, SUMMARY_SCHEMA, SecondsSummary, StepRecord, Summary, TrainedOn,
    Transform, UsualDrawing, ValSummary, Versions, WeightsCard, WeightsHash, WeightsOrigin, read_bytes,
    read_json_value, write_atomic,
};
pub use scores::{
    AnswerCounts, Answers, Average, Averages, Bootstrap, Calibration, ClassRanking, ClassScore, ConfusedPair,
    Confusion, GroupScore, ImageLoss, IntervalSet, Intervals, LabelSuspect, Ranking, Rate, ReliabilityBin,
    ShiftedClass, ShiftedGroup, Temperature, Thresholds, TunedThreshold, bce_with_logits,
};
pub use tensorboard::EventFile;
pub use text::{
    ClassNames, EpochTable, Quality, TunedTemperature, Tuning, class_table, clock, confused_table, confusion_table,
    group_table, headline, printable, quality_lines, top_losses_table, two_by_two_table,
};
