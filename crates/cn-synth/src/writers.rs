//! Who may write for what: ranges of writer ids that never meet.

use std::ops::Range;

/// Writers of training and pretraining images.
pub const TRAIN: Range<u32> = 1..1_000_000_000;

/// Writers of validation images, whom no training draws.
pub const VALIDATION: Range<u32> = 1_000_000_000..2_000_000_000;
