//! `cargo xtask ci`: what `.ci/run` runs after the tests.

use crate::args::Args;
use crate::{cuda_build, tidy, torture, workspace};
use anyhow::{Context as _, Result, bail};
use std::process::{Command, Stdio};
use std::time::Instant;

/// One cargo command, the rustup component that it needs, and variables for it.
struct Step {
    args: &'static [&'static str],
    component: Option<&'static str>,
    env: &'static [(&'static str, &'static str)],
}

const STEPS: [Step; 4] = [
    Step { args: &["fmt", "--all", "--check"], component: Some("rustfmt"), env: &[] },
    Step {
        args: &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
        component: Some("clippy"),
        env: &[],
    },
    Step { args: &["doc", "--workspace", "--no-deps"], component: None, env: &[("RUSTDOCFLAGS", "-D warnings")] },
    // `cargo test` builds neither.
    Step { args: &["build", "--workspace", "--benches", "--examples"], component: None, env: &[] },
];

/// Where the fuzz targets are built, and what each is begun with.
const FUZZ_BUILD: &str = "target/fuzz";
const SEEDS: &str = "tests/fuzz/corpus";

/// A task of this program with flags.
type Own = (&'static str, fn(Args) -> Result<()>, &'static [&'static str]);

const OWN: [Own; 2] = [("tidy", tidy::run, &[]), ("torture", torture::run, &["--short"])];

/// Runs the task: every step, also after one that failed.
pub(crate) fn run(args: Args) -> Result<()> {
    args.finish()?;
    let mut failed = Vec::new();
    for step in &STEPS {
        let mut command = workspace::cargo();
        command.args(step.args).envs(step.env.iter().copied());
        let name = workspace::show(&command);
        if step.component.is_some_and(|_| !has_subcommand(step.args[0])) {
            let component = step.component.unwrap_or_default();
            say!("skipped: {name} (no `{component}`; `rustup component add {component}`)");
            continue;
        }
        say!("running: {name}");
        let begin = Instant::now();
        if let Err(error) = workspace::run(&mut command) {
            failed.push(error.to_string());
        }
        say!("took {:.0} s", begin.elapsed().as_secs_f64());
    }
    let name = workspace::show(&fuzz_targets());
    if !has_cpp() {
        say!("skipped: {name} (no C++ compiler, which libFuzzer wants)");
    } else if !has_packages_of_fuzz_targets() {
        say!("skipped: {name} (its packages cannot be fetched)");
    } else {
        say!("running: {name}");
        let begin = Instant::now();
        if let Err(error) = workspace::run(&mut fuzz_targets()).and_then(|()| replay_seeds()) {
            failed.push(format!("{error:#}"));
        }
        say!("took {:.0} s", begin.elapsed().as_secs_f64());
    }
    for (name, task, flags) in OWN {
        say!("running: cargo xtask {name} {}", flags.join(" "));
        if let Err(error) = task(Args::new(flags.iter().map(|flag| (*flag).to_owned()).collect())) {
            failed.push(error.to_string());
        }
    }
    // Last, since it builds the crates again with other features.
    say!("running: cargo xtask cuda-build --check");
    match cuda_build::run_for_ci() {
        Ok(None) => {}
        Ok(Some(why)) => say!("skipped: cargo xtask cuda-build --check ({why})"),
        Err(error) => failed.push(format!("{error:#}")),
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    say!("all checks passed");
    Ok(())
}

/// The fuzz targets are a workspace of their own, and take modules of cn-train by their path.
fn fuzz_targets() -> Command {
    let mut command = workspace::cargo();
    command.args(["build", "--manifest-path", "tests/fuzz/Cargo.toml", "--target-dir", FUZZ_BUILD]);
    command
}

/// Gives each fuzz target its seeds, without a fuzzer: what it asserts is to hold for them at any time.
fn replay_seeds() -> Result<()> {
    for entry in std::fs::read_dir(workspace::root().join(SEEDS))? {
        let folder = entry?.path();
        let target = folder.file_name().context("a folder of seeds has a name")?;
        let program = workspace::root().join(FUZZ_BUILD).join("debug").join(target);
        let mut seeds =
            std::fs::read_dir(&folder)?.map(|seed| Ok(seed?.path())).collect::<std::io::Result<Vec<_>>>()?;
        seeds.sort();
        // It names each of thousands of files on stderr.
        let output = Command::new(&program).args(&seeds).output().with_context(|| program.display().to_string())?;
        if !output.status.success() {
            bail!("the fuzz target {} fails on a seed:\n{}", target.display(), String::from_utf8_lossy(&output.stderr));
        }
        say!("{}: {} seeds", target.display(), seeds.len());
    }
    Ok(())
}

fn has_packages_of_fuzz_targets() -> bool {
    let mut fetch = workspace::cargo();
    fetch.args(["fetch", "--manifest-path", "tests/fuzz/Cargo.toml"]).stdout(Stdio::null());
    fetch.status().is_ok_and(|status| status.success())
}

fn has_cpp() -> bool {
    let name = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let mut compiler = Command::new(name);
    compiler.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    compiler.status().is_ok_and(|status| status.success())
}

fn has_subcommand(name: &str) -> bool {
    let mut cargo: Command = workspace::cargo();
    cargo
        .args([name, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
