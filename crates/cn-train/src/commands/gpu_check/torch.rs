//! The same work in PyTorch on the same GPU, in a process of its own.

use super::measure::Line;
use crate::output::Ui;
use crate::problem::Problem;
use anyhow::Result;
use serde::Deserialize;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One line of the script's output.
#[derive(Deserialize)]
struct Measured {
    /// Position of the job.
    line: usize,
    eager: Option<f64>,
    compiled: Option<f64>,
    problem: Option<String>,
}

/// A Python of this machine that has what the script needs.
pub(super) fn find() -> Option<PathBuf> {
    let mut command = Command::new("python3");
    command.args(["-c", "import torch, torchvision; assert torch.cuda.is_available()"]);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success()).then(|| "python3".into())
}

/// Adds PyTorch's images a second to each line.
pub(super) fn add(python: &Path, ui: Ui, table: &mut [Line]) -> Result<()> {
    let jobs = table.iter().map(|l| format!("{},{},{},{}", l.work, l.precision, l.image_size, l.batch_size));
    let mut child = Command::new(python)
        .args(["-W", "ignore", "-c", include_str!("throughput_torch_gpu.py")])
        .args(jobs)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| Problem::failure(format!("cannot start `{}`", python.display())).caused_by(e))?;
    let output = child.stdout.take().map(BufReader::new);
    let answers = output.into_iter().flat_map(BufRead::lines);
    for answer in answers {
        let measured: Measured = serde_json::from_str(&answer?)
            .map_err(|e| Problem::failure("PyTorch answers with something else").caused_by(e))?;
        let n_lines = table.len();
        let line = table
            .get_mut(measured.line)
            .ok_or_else(|| Problem::failure(format!("PyTorch answers about job {} of {n_lines}", measured.line)))?;
        line.torch_eager_img_s = measured.eager.or(line.torch_eager_img_s);
        line.torch_compile_img_s = measured.compiled.or(line.torch_compile_img_s);
        if let Some(problem) = measured.problem {
            ui.warn(format_args!("PyTorch, {} px, batch {}: {problem}", line.image_size, line.batch_size));
        }
    }
    if !child.wait()?.success() {
        ui.warn("PyTorch ended early; it needs torch and torchvision, and a GPU that it knows");
    }
    Ok(())
}
