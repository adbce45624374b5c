//! In place of candle-nn, where it was not compiled in.

use super::{Job, Rival};
use crate::problem::Problem;
use anyhow::Result;

pub(super) fn rival(_: Job) -> Result<Box<dyn Rival>> {
    Err(Problem::failure("candle-nn is not part of this build")
        .hint("build with it: `cargo run --release -p cn-train --features bench-candle -- bench --against-candle`")
        .into())
}
