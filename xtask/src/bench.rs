//! `cargo xtask bench`: a release build of `cn-train`, and its `bench` with the flags passed on.

use crate::args::Args;
use crate::workspace;
use anyhow::Result;

/// Runs the task.
pub(crate) fn run(args: Args) -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["run", "--release", "--quiet", "--package", "cn-train", "--", "bench"]);
    workspace::run(command.args(args.rest()))
}
