//! One file a command.

mod audit;
mod compare;
mod completions;
mod evaluate;
mod gpu_check;
mod inspect;
mod lr_find;
mod pack;
mod predict;
mod report;
mod reproduce;
mod show;
mod synth;
mod train;
mod verify;

use crate::args::{Args, Command, Common};
use crate::output::Ui;
use crate::problem::Problem;
use anyhow::{Context as _, Result};
use std::time::Instant;

/// More threads than any machine has cores for this work; far more take minutes to start.
const MOST_THREADS: usize = 1024;

/// What every command gets.
pub(crate) struct Context<'a> {
    pub(crate) common: &'a Common,
    pub(crate) ui: Ui,
    /// When the process started.
    pub(crate) start: Instant,
}

/// Runs the command on its threads; returns the exit code.
pub(crate) fn run(args: Args, start: Instant) -> Result<u8> {
    let common = &args.common;
    let context = &Context { common, ui: Ui::new(common), start };
    cn_ops::Isa::from_env().map_err(|e| {
        Problem::usage("the environment variable `CN_ISA` names no instruction set to use")
            .caused_by(e)
            .hint("unset it")
    })?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match common.threads {
        Some(0) => {
            return Err(Problem::usage("`--threads 0` leaves nobody to compute")
                .hint("leave it out to use all cores")
                .into());
        }
        Some(n) if n > MOST_THREADS => {
            return Err(Problem::usage(format!("`--threads {n}` is not between 1 and {MOST_THREADS}"))
                .hint(format!("leave it out to use all cores: {cores} here"))
                .into());
        }
        Some(n) => n,
        None => cores,
    };
    let command = args.command.unwrap_or_else(|| Command::Train(Box::default()));
    check_device(common, &command)?;
    let work = || match command {
        Command::Train(args) => train::run(context, &args),
        Command::LrFind(args) => lr_find::run(context, &args).map(|()| 0),
        Command::Evaluate(args) => evaluate::run(context, &args),
        Command::Predict(args) => predict::run(context, &args).map(|()| 0),
        Command::Audit(args) => audit::run(context, &args),
        Command::Compare(args) => compare::run(context, &args).map(|()| 0),
        Command::Report(args) => report::run(context, &args).map(|()| 0),
        Command::Verify(args) => verify::run(context, &args).map(|()| 0),
        Command::Reproduce(args) => reproduce::run(context, &args),
        Command::Inspect(args) => inspect::run(context, &args).map(|()| 0),
        Command::Show(args) => show::run(context, &args).map(|()| 0),
        Command::Synth(args) => synth::run(context, &args),
        Command::Completions(args) => completions::run(&args).map(|()| 0),
        Command::Pack(args) => pack::run(context, &args).map(|()| 0),
        Command::GpuCheck(args) => gpu_check::run(context, &args),
        Command::Bench(args) => crate::bench::run(context, &args, threads).map(|()| 0),
    };
    cn_ops::with_threads(threads, work).context("cannot start threads")?
}

/// Refuses a GPU for commands that would not use it.
fn check_device(common: &Common, command: &Command) -> Result<()> {
    let device = common.device.as_deref().unwrap_or("auto");
    use Command::{Evaluate, GpuCheck, LrFind, Predict, Show, Train};
    let may = matches!(command, Train(_) | LrFind(_) | Evaluate(_) | Predict(_) | GpuCheck(_) | Show(_));
    if may || crate::config::gpu_of(device).is_none() {
        return Ok(());
    }
    Err(Problem::failure(format!("this command cannot compute on `{device}`"))
        .hint("leave `--device` out: only `train`, `lr-find`, `evaluate`, `predict` and `gpu-check` use a GPU")
        .into())
}
