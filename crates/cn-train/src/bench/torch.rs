//! PyTorch as a yardstick: torchvision's ResNet-18 in a process of its own, in channels-last, its fastest layout here.

use super::{Job, Rival};
use crate::problem::Problem;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const SCRIPT: &str = include_str!("throughput_torch.py");

/// A Python that waits for numbers of steps.
pub(super) struct Torch {
    child: Child,
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Torch {
    pub(super) fn start(python: &Path, job: Job, threads: usize) -> Result<Self> {
        let numbers = [job.image_size, job.batch_size, threads].map(|n| n.to_string());
        let mut child = Command::new(python)
            .args(["-c", SCRIPT, job.name()])
            .args(numbers)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| {
                Problem::failure(format!("cannot start `{}`", python.display()))
                    .caused_by(e)
                    .hint("`--against-torch` takes a Python that has torch and torchvision")
            })?;
        let asks = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("the output of Python is not a pipe")?);
        Ok(Self { child, asks, answers })
    }
}

impl Rival for Torch {
    fn name(&self) -> &'static str {
        "torch"
    }

    fn run(&mut self, steps: usize) -> Result<Vec<f64>> {
        let ended = "Python ended without an answer";
        let asks = self.asks.as_mut().context(ended)?;
        writeln!(asks, "{steps}").and_then(|()| asks.flush()).context(ended)?;
        let mut line = String::new();
        self.answers.read_line(&mut line).context(ended)?;
        let times = serde_json::from_str::<Vec<f64>>(&line);
        let hint = "it needs torch and torchvision; what it said stands above";
        let times = times.map_err(|e| Problem::failure(ended).caused_by(e).hint(hint))?;
        Ok(times)
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        // Python ends when nobody asks any more.
        self.asks = None;
        let _ = self.child.wait();
    }
}
