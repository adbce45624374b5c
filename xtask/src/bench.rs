//! `cargo xtask bench`: a release build of `cn-train`, and its `bench` with the flags passed on.

use crate::args::Args;
use crate::workspace;
use anyhow::Result;

/// Runs the task.
pub(crate) fn run(args: Args) -> Result<()> {
    let flags = args.rest();
    let mut command = workspace::cargo();
    command.args(["run", "--release", "--quiet", "--package", "cn-train"]);
    // candle-nn is compiled in only where it is compared with.
    if flags.iter().any(|flag| flag == "--against-candle") {
        command.args(["--features", "bench-candle"]);
    }
    workspace::run(command.args(["--", "bench"]).args(flags))
}
