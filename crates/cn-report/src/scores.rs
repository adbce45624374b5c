//! Numbers from [`Predictions`](crate::Predictions): none depends on the order of the images.

mod answers;
mod averages;
mod bootstrap;
mod calibration;
mod classes;
mod labels;
mod loss;
mod ranking;
mod rate;
mod temperature;
mod tuning;

pub use answers::{AnswerCounts, Answers, GroupScore, Thresholds};
pub use averages::{Average, Averages};
pub use bootstrap::{Bootstrap, IntervalSet, Intervals};
pub use calibration::{Calibration, ReliabilityBin};
pub use classes::{ClassScore, ConfusedPair, Confusion};
pub use labels::{LabelSuspect, ShiftedClass, ShiftedGroup};
pub use loss::{ImageLoss, bce_with_logits};
pub use ranking::{ClassRanking, Ranking};
pub use rate::Rate;
pub use temperature::Temperature;
pub use tuning::TunedThreshold;

#[cfg(test)]
mod tests;
