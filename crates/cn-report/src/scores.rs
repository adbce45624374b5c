//! Numbers from [`Predictions`](crate::Predictions): none depends on the order of the images.

mod answers;
mod classes;
mod loss;
mod rate;

pub use answers::{AnswerCounts, Answers, GroupScore, Thresholds};
pub use classes::{ClassScore, ConfusedPair, Confusion};
pub use loss::{ImageLoss, bce_with_logits};
pub use rate::Rate;

#[cfg(test)]
mod tests;
