//! `cargo xtask tidy`: the rules of the tree that no compiler keeps.

mod graph;
mod licence;
mod map;
mod source;
mod text;
mod tree;

use crate::args::Args;
use crate::workspace;
use anyhow::{Context, Result, bail};
use graph::Graph;
use serde_json::Value;
use std::fmt;
use std::process::Command;
use tree::Tree;

/// Something that breaks a rule, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// Path from the workspace's root, with forward slashes.
    file: String,
    line: usize,
    level: Level,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Error,
    Warning,
}

impl Finding {
    fn error(file: &str, line: usize, text: impl Into<String>) -> Self {
        Self::new(Level::Error, file, line, text)
    }

    fn warning(file: &str, line: usize, text: impl Into<String>) -> Self {
        Self::new(Level::Warning, file, line, text)
    }

    fn new(level: Level, file: &str, line: usize, text: impl Into<String>) -> Self {
        let (file, text) = (file.to_owned(), text.into());
        Self { file, line, level, text }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Error => "",
            Level::Warning => "warning: ",
        };
        write!(f, "{}:{}: {level}{}", self.file, self.line, self.text)
    }
}

/// Runs the task.
pub(crate) fn run(args: Args) -> Result<()> {
    args.finish()?;
    let tree = Tree::read(&workspace::root())?;
    let graph = Graph::new(&metadata(&[])?)?;
    let here = Graph::new(&metadata(&["--filter-platform", &host()?])?)?;
    let mut findings = Vec::new();
    graph.check_layers(&mut findings);
    graph.check_licences(&mut findings);
    graph.check_sources(&mut findings);
    graph.check_unused(&tree, &mut findings);
    here.list_duplicates(&tree, &mut findings);
    map::check(&tree, &graph, &mut findings);
    source::check(&tree, &mut findings);
    text::check(&tree, &mut findings);
    findings.sort();
    findings.dedup();
    for finding in &findings {
        say!("{finding}");
    }
    say!("tidy: advisories were not checked, since their database is not here; `cargo audit` does it");
    let errors = findings.iter().filter(|f| f.level == Level::Error).count();
    let warnings = findings.len() - errors;
    if errors > 0 {
        bail!("tidy: {errors} errors, {warnings} warnings");
    }
    say!("tidy: {} files, no errors, {warnings} warnings", tree.files.len());
    Ok(())
}

fn metadata(flags: &[&str]) -> Result<Value> {
    let mut command = workspace::cargo();
    command.args(["metadata", "--format-version", "1"]).args(flags);
    let output = command.output().context("cannot run `cargo metadata`")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        bail!("`cargo metadata` failed: {text}");
    }
    serde_json::from_slice(&output.stdout).context("cannot read what `cargo metadata` prints")
}

/// The target triple of this machine.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("cannot run `rustc -vV`")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}
