//! `cargo xtask gpu-check`: the program for GPUs, and its check of everything on the GPU of this machine.

use crate::args::Args;
use crate::{cuda_build, workspace};
use anyhow::Result;
use std::process::Command;

/// Runs the task.
pub(crate) fn run(args: Args) -> Result<()> {
    let flags = args.rest();
    let program = cuda_build::program()?;
    workspace::run(Command::new(program).arg("gpu-check").args(flags))
}
