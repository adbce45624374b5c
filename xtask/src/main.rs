//! `cargo xtask TASK`: what is done around the workspace. The only program here that uses a network.
#![forbid(unsafe_code)]
// Talking to a person is what this program is for.
#![allow(clippy::print_stdout, clippy::print_stderr)]

/// A line for people; where nobody reads on, as behind `| head`, nothing is lost.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

mod args;
mod bench;
mod ci;
mod cuda_build;
mod download;
mod fetch_data;
mod fetch_weights;
mod gpu_check;
mod hint;
mod progress;
mod raw_zip;
#[cfg(test)]
mod test_server;
mod tidy;
mod torture;
mod unpack;
mod workspace;

use args::{Args, Usage};
use std::process::ExitCode;

/// Usage, what it does in a line, and the function.
type Task = (&'static str, &'static str, fn(Args) -> anyhow::Result<()>);

const TASKS: [Task; 8] = [
    (fetch_data::USAGE, "gets Chinese MNIST, checks every file, writes `dataset.toml`", fetch_data::run),
    (
        fetch_weights::USAGE,
        "gets ImageNet weights from the hub, an address or a file, and checks them",
        fetch_weights::run,
    ),
    ("bench [FLAGS of `cn-train bench`]", "measures images a second, in a release build", bench::run),
    (torture::USAGE, "keeps or breaks the promises of docs/reliability.md, an hour or `--short`", torture::run),
    (cuda_build::USAGE, "builds the program for NVIDIA GPUs; gets the compiler where there is none", cuda_build::run),
    (
        "gpu-check [FLAGS of `cn-train gpu-check`]",
        "builds that program, and checks and measures everything on the GPU here",
        gpu_check::run,
    ),
    ("tidy", "checks the rules of the tree: layers, licences, unsafe code, sizes, the code map", tidy::run),
    ("ci", "everything that must hold besides the tests: fmt, clippy, docs, benches, tidy", ci::run),
];

fn main() -> ExitCode {
    let args: Result<Vec<String>, _> = std::env::args_os().skip(1).map(std::ffi::OsString::into_string).collect();
    let mut args = match args {
        Ok(args) => args,
        Err(odd) => {
            let odd = odd.to_string_lossy();
            eprintln!("error: the argument `{odd}` is not UTF-8\n\nhint: give the file or folder a name in UTF-8");
            return ExitCode::from(2);
        }
    };
    if args.is_empty() || matches!(args[0].as_str(), "-h" | "--help" | "help") {
        print!("{}", help());
        return if args.is_empty() { ExitCode::from(2) } else { ExitCode::SUCCESS };
    }
    let name = args.remove(0);
    let Some((usage, about, run)) = TASKS.iter().find(|task| task_name(task.0) == name) else {
        eprint!("error: there is no task `{name}`\n\n{}", help());
        return ExitCode::from(2);
    };
    // These hand their flags on, `--help` among them.
    if !matches!(name.as_str(), "bench" | "gpu-check") && args.iter().any(|arg| arg == "-h" || arg == "--help") {
        say!("usage: cargo xtask {usage}\n\n{name} {about}.");
        return ExitCode::SUCCESS;
    }
    match run(Args::new(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, usage),
    }
}

fn task_name(usage: &str) -> &str {
    usage.split(' ').next().unwrap_or(usage)
}

fn help() -> String {
    let mut text = String::from("usage: cargo xtask TASK [FLAGS]\n\n");
    for (usage, about, _) in TASKS {
        let name = task_name(usage);
        text.push_str(&format!("  {name:<15}{about}\n"));
    }
    text.push_str("\n`cargo xtask TASK --help` shows the flags.\n");
    text
}

/// `error:`, a `cause:` for each source, and a `hint:` where there is advice.
fn fail(error: &anyhow::Error, usage: &str) -> ExitCode {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("cause: {cause}");
    }
    if error.is::<Usage>() {
        eprintln!("\nusage: cargo xtask {usage}");
        return ExitCode::from(2);
    }
    let hint = error.chain().find_map(|cause| cause.downcast_ref::<hint::Hinted>());
    if let Some(hint) = hint {
        eprintln!("\nhint: {}", hint.hint);
    }
    ExitCode::FAILURE
}
