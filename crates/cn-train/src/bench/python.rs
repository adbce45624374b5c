//! Rivals in Python, in a process of their own: PyTorch in channels-last, its fastest layout here, and ONNX Runtime.

use super::{Job, Measured, Rival};
use crate::problem::Problem;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
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
        Ok(Self { library, child, asks, answers })
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
        let ended = "Python ended without an answer";
        let asks = self.asks.as_mut().context(ended)?;
        writeln!(asks, "{steps}").and_then(|()| asks.flush()).context(ended)?;
        let mut line = String::new();
        self.answers.read_line(&mut line).context(ended)?;
        let hint = format!("it needs {}; what it said stands above", self.library.needs());
        let measured = serde_json::from_str::<Measured>(&line);
        Ok(measured.map_err(|e| Problem::failure(ended).caused_by(e).hint(hint))?)
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // Python ends when nobody asks any more.
        self.asks = None;
        let _ = self.child.wait();
    }
}
