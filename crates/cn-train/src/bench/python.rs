//! Rivals in Python, in a process of their own: PyTorch in channels-last, its fastest layout here, and ONNX Runtime.

use super::{Job, Measured, Rival};
use crate::problem::Problem;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A library that does the job.
#[derive(Clone, Copy, Debug)]
pub(super) enum Library {
    Torch,
    OnnxRuntime,
}

impl Library {
    fn script(self) -> &'static str {
        match self {
            Self::Torch => include_str!("throughput_torch.py"),
            Self::OnnxRuntime => include_str!("onnx.py"),
        }
    }

    fn needs(self) -> &'static str {
        match self {
            Self::Torch => "torch and torchvision",
            Self::OnnxRuntime => "torch, torchvision, onnx and onnxruntime",
        }
    }
}

/// A Python that waits for numbers of steps.
pub(super) struct Python {
    library: Library,
    program: PathBuf,
    child: Child,
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Python {
    pub(super) fn start(python: &Path, library: Library, job: Job, threads: usize) -> Result<Self> {
        let numbers = [job.image_size, job.batch_size, threads].map(|n| n.to_string());
        let mut child = Command::new(python)
            .args(["-W", "ignore", "-c", library.script(), job.name()])
            .args(numbers)
            .args([job.precision.to_string(), job.frozen.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| {
                Problem::failure(format!("cannot start `{}`", python.display()))
                    .caused_by(e)
                    .hint(format!("name a Python that has {}", library.needs()))
            })?;
        let asks = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("the output of Python is not a pipe")?);
        Ok(Self { library, program: python.to_owned(), child, asks, answers })
    }

    fn ask(&mut self, steps: usize) -> Result<Measured> {
        // A process that has ended is told by the missing answer, with the same words at any moment.
        let asked = self.asks.as_mut().map(|asks| writeln!(asks, "{steps}").and_then(|()| asks.flush()));
        let mut line = String::new();
        let answered = self.answers.read_line(&mut line)?;
        anyhow::ensure!(asked.is_some_and(|asked| asked.is_ok()) && answered > 0, "it ended without an answer");
        let measured: Measured = serde_json::from_str(&line).context("its answer is not the JSON of a measurement")?;
        let usable = measured.seconds.iter().all(|seconds| seconds.is_finite() && *seconds > 0.0);
        anyhow::ensure!(usable && !measured.seconds.is_empty(), "its steps took {:?} seconds", measured.seconds);
        Ok(measured)
    }
}

impl Rival for Python {
    fn name(&self) -> &'static str {
        match self.library {
            Library::Torch => "torch",
            Library::OnnxRuntime => "onnxruntime",
        }
    }

    fn run(&mut self, steps: usize) -> Result<Measured> {
        self.ask(steps).map_err(|e| {
            let needs = format!("name a Python that has {}; what it said stands above", self.library.needs());
            let message = format!("`{}` did not measure {}", self.program.display(), self.name());
            Problem::failure(message).caused_by(e.into_boxed_dyn_error()).hint(needs).into()
        })
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // Python ends when nobody asks any more.
        self.asks = None;
        let _ = self.child.wait();
    }
}
