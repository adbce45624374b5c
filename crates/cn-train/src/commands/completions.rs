//! `completions`: a script for a shell.

use crate::args::{Args, CompletionsArgs};
use anyhow::Result;
use clap::CommandFactory;
use std::io::Write;

pub(super) fn run(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "cn-train", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}
