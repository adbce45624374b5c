//! `bench`: images a second.

use crate::args::BenchArgs;
use crate::commands::Context;
use anyhow::Result;

pub(crate) fn run(_: &Context<'_>, _: &BenchArgs, _: usize) -> Result<()> {
    Ok(())
}
