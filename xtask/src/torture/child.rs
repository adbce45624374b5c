//! The real program as a child process, in a folder of its own.

use super::files;
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::cell::{Cell, OnceCell};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A small run of two phases of 20 steps, then a validation each; random weights, so that all layers matter.
pub(super) const TRAIN: &str = "train --synthetic --limit 200 --image-size 32 --batch-size 8 --freeze-epochs 1 \
    --epochs 1 --lr 2e-3 --ema 0.9 --weights none --no-cache --threads 1 --json";
/// Steps of each of its two phases.
pub(super) const STEPS: u64 = 20;
/// Longer than anything here takes: what is still running then hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// The folder, and the program.
pub(super) struct Place {
    root: PathBuf,
    program: PathBuf,
    keeps: Cell<Keeps>,
    reference: OnceCell<String>,
}

/// What becomes of the folder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Nothing,
    All,
}

/// How a child ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
    /// Largest resident memory that was seen.
    pub(super) peak_kib: u64,
}

/// A child that runs.
pub(super) struct Running {
    child: Child,
    outputs: [PathBuf; 2],
    started: Instant,
}

impl Place {
    /// Makes the folder, and builds the program unless it is given.
    pub(super) fn new(root: &Path, program: Option<PathBuf>) -> Result<Self> {
        let program = program.map_or_else(build, |given| Ok(std::path::absolute(given)?))?;
        ensure!(program.is_file(), "there is no program `{}`", program.display());
        fs::create_dir_all(root).with_context(|| format!("cannot make `{}`", root.display()))?;
        let root = root.canonicalize()?;
        ensure!(fs::read_dir(&root)?.next().is_none(), "`{}` is not empty", root.display());
        Ok(Self { root, program, keeps: Cell::new(Keeps::Nothing), reference: OnceCell::new() })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Leaves the folder for a look.
    pub(super) fn keep(&self) {
        self.keeps.set(Keeps::All);
    }

    /// A path in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The program with these words, in the folder.
    pub(super) fn command(&self, line: &str) -> Command {
        self.child_of(&self.program, line)
    }

    /// This program with these words.
    pub(super) fn xtask(&self, line: &str) -> Result<Command> {
        Ok(self.child_of(&std::env::current_exe()?, line))
    }

    fn child_of(&self, program: &Path, line: &str) -> Command {
        let mut command = Command::new(program);
        command.args(line.split_whitespace()).current_dir(&self.root).env("XDG_CACHE_HOME", self.path("cache"));
        for name in ["CN_ISA", "RUST_LOG", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs the program with these words to its end.
    pub(super) fn run(&self, line: &str) -> Result<Ended> {
        self.start(self.command(line))?.wait()
    }

    /// Starts a command whose output goes to files, so that no pipe can stop it.
    pub(super) fn start(&self, mut command: Command) -> Result<Running> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let outputs = [self.path(&format!(".out-{n}")), self.path(&format!(".err-{n}"))];
        command.stdin(Stdio::null()).stdout(File::create(&outputs[0])?).stderr(File::create(&outputs[1])?);
        let child = command.spawn().with_context(|| format!("cannot run `{}`", workspace::show(&command)))?;
        Ok(Running { child, outputs, started: Instant::now() })
    }

    /// Hash of the weights of the small run, never stopped.
    pub(super) fn reference(&self) -> Result<&str> {
        if self.reference.get().is_none() {
            let ended = self.run(&format!("{TRAIN} --out reference"))?;
            ended.succeeded()?;
            let _ = self.reference.set(self.hash("reference")?);
        }
        self.reference.get().map(String::as_str).context("the reference was just set")
    }

    /// The hash in the summary of a finished run.
    pub(super) fn hash(&self, run: &str) -> Result<String> {
        let path = self.path(run).join("summary.json");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let summary: Value = serde_json::from_str(&text)?;
        Ok(summary["weights_sha256"].as_str().context("no hash in the summary")?.to_owned())
    }

    /// Goes on with `run` to its end, which must be that of the run that was never stopped; returns the step that it
    /// went on from.
    pub(super) fn finish(&self, run: &str) -> Result<u64> {
        let ended = self.run(&format!("train --resume {run} --checkpoint-every 1000 --no-cache --json"))?;
        ended.succeeded()?;
        ensure!(self.hash(run)? == self.reference()?, "other weights at the end");
        let left: Vec<_> = files::below(&self.path(run))?.into_iter().filter(|name| name.ends_with(".tmp")).collect();
        ensure!(left.is_empty(), "left behind: {}", left.join(", "));
        Ok(ended.resumed_at().unwrap_or(0))
    }

    /// Removes a run.
    pub(super) fn forget(&self, run: &str) {
        let _ = fs::remove_dir_all(self.path(run));
    }
}

/// Builds `cn-train` as this program was built, so that it lies beside it.
fn build() -> Result<PathBuf> {
    workspace::run(workspace::cargo().args(["build", "--quiet", "--package", "cn-train"]))?;
    let ours = std::env::current_exe().context("cannot find this program")?;
    Ok(ours.with_file_name(format!("cn-train{}", std::env::consts::EXE_SUFFIX)))
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.keeps.get() == Keeps::Nothing {
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}

impl Running {
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by the name that `kill` knows.
    pub(super) fn send(&self, signal: &str) -> Result<()> {
        let status = Command::new("kill").args([signal, &self.id().to_string()]).stderr(Stdio::null()).status();
        status.map(drop).context("cannot run `kill`")
    }

    /// Whether it still runs.
    pub(super) fn runs(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for its end.
    pub(super) fn wait(mut self) -> Result<Ended> {
        let table = format!("/proc/{}/status", self.id());
        let mut peak_kib = 0;
        let status = loop {
            peak_kib = peak_kib.max(peak(&table));
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if self.started.elapsed() > PATIENCE {
                self.child.kill()?;
                self.child.wait()?;
                bail!("it did not end within {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let [stdout, stderr] = self.outputs.each_ref().map(|path| {
            let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            let _ = fs::remove_file(path);
            text.unwrap_or_default()
        });
        let ended = Ended { code: status.code(), signal: signal_of(status), stdout, stderr, peak_kib };
        ensure!(
            !ended.stderr.contains("panicked at") && !matches!(ended.signal, Some(4 | 6 | 7 | 8 | 11)),
            "it crashed:\n{}",
            ended.stderr
        );
        Ok(ended)
    }
}

#[cfg(unix)]
fn signal_of(status: std::process::ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal_of(_: std::process::ExitStatus) -> Option<i32> {
    None
}

fn peak(table: &str) -> u64 {
    let table = fs::read_to_string(table).unwrap_or_default();
    let line = table.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

impl Ended {
    pub(super) fn succeeded(&self) -> Result<()> {
        ensure!(self.code == Some(0), "exit {:?}, signal {:?}:\n{}", self.code, self.signal, self.stderr.trim_end());
        Ok(())
    }

    /// It must have been refused, in words that hold all of `words`.
    pub(super) fn refused(&self, words: &[&str]) -> Result<()> {
        ensure!(matches!(self.code, Some(1 | 2)), "exit {:?}, signal {:?}, expected a refusal", self.code, self.signal);
        ensure!(self.stderr.starts_with("error: ") || self.stderr.contains("\nerror: "), "no error: {}", self.stderr);
        for word in words {
            ensure!(self.stderr.contains(word), "`{word}` is not in the error:\n{}", self.stderr);
        }
        Ok(())
    }

    /// The step that a resumed run went on from, if it said so.
    pub(super) fn resumed_at(&self) -> Option<u64> {
        self.step_of("resume")
    }

    /// The step that a run says it saved when it was asked to end, if it said so.
    pub(super) fn stopped_at(&self) -> Option<u64> {
        self.step_of("stopped")
    }

    fn step_of(&self, event: &str) -> Option<u64> {
        let mut lines = self.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["event"] == event)?["step"].as_u64()
    }
}
