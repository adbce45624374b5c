//! The command line of `cn`: flags and recipes to configs, progress, results, exit codes.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod commands;
mod config;
mod data;
mod destination;
mod glyphs;
mod host;
mod interpret;
mod memory;
mod model;
mod output;
mod problem;
mod progress;
mod recorder;
mod seen;
mod session;
mod signals;
mod start;
mod stream;
mod sums;

use args::Args;
use clap::Parser;
use output::Ui;
use problem::Problem;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let start = Instant::now();
    if let Some(odd) = std::env::args_os().find(|arg| arg.to_str().is_none()) {
        // Settings and results are TOML and JSON, which cannot name such a file.
        let problem = Problem::usage(format!("the argument `{}` is not UTF-8", odd.to_string_lossy()))
            .hint("give the file or folder a name in UTF-8");
        Ui::print_error(&problem.into());
        return ExitCode::from(2);
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => error.exit(),
    };
    output::log(args.common.verbose);
    signals::outlive_large_files();
    match commands::run(args, start).and_then(|code| output::check_printed().map(|()| code)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            Ui::print_error(&error);
            ExitCode::from(problem::exit_code(&error))
        }
    }
}
