//! `SHA256SUMS`: what the files of a finished run are, in the form that `sha256sum --check` reads.

use crate::output::Ui;
use crate::problem::Problem;
use anyhow::{Context as _, Result};
use cn_data::Digest;
use cn_report::{EventFile, RunFolder, read_bytes, write_atomic};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

/// Files of every finished run; the last one is in the last line, which a list that was cut lacks.
const ALWAYS: [&str; 8] = [
    "config.toml",
    "manifest.json",
    "metrics.jsonl",
    "history.csv",
    "model.safetensors",
    CARD,
    "predictions.csv",
    SUMMARY,
];
const CARD: &str = "model.json";
const SUMMARY: &str = "summary.json";
const LIST: &str = "SHA256SUMS";

/// Differences that are named one by one.
const NAMED: usize = 10;

/// Notes every file that the training wrote, and its summary, which is to come. Checkpoints carry checksums of their own,
/// and go on changing.
pub(crate) fn write(run: &RunFolder, summary: &[u8]) -> Result<()> {
    // The summary is to come.
    let own = run.files().into_iter().filter(|path| path.is_file() && *path != run.summary());
    let mut files: Vec<PathBuf> = own.collect();
    for entry in std::fs::read_dir(run.root())? {
        let path = entry?.path();
        if EventFile::is_one(&path) && path.is_file() {
            files.push(path);
        }
    }
    // Others may have made folders there.
    let inside = std::fs::read_dir(run.interpret()).into_iter().flatten().flatten().map(|entry| entry.path());
    files.extend(inside.filter(|path| path.is_file()));
    files.sort_unstable();
    let mut text = String::new();
    for path in files {
        let name = path.strip_prefix(run.root())?.to_str().context("a run has files with odd names")?.to_owned();
        writeln!(text, "{}  {name}", digest(&path)?)?;
    }
    writeln!(text, "{}  summary.json", Digest::of(summary))?;
    Ok(write_atomic(run.sums(), text.as_bytes())?)
}

/// Those of the files of every finished run that are others than were noted, and the list of them where it cannot be
/// read or was cut; none where there is no list.
pub(crate) fn edited(run: &RunFolder) -> Vec<String> {
    edited_of(run, &ALWAYS)
}

fn edited_of(run: &RunFolder, names: &[&str]) -> Vec<String> {
    let path = run.sums();
    if path.symlink_metadata().is_err() {
        return Vec::new();
    }
    let noted = read_bytes(&path).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    let has_end = noted.lines().any(|line| line.split_once("  ").is_some_and(|(_, name)| name == SUMMARY));
    let list = (!has_end).then(|| LIST.to_owned());
    let mut seen = HashSet::new();
    let lines = noted.lines().filter_map(|line| line.split_once("  "));
    // A name that stands twice is read once.
    let lines = lines.filter(|(_, name)| names.contains(name) && seen.insert(*name));
    let differs = |(sha256, name): &(&str, &str)| digest(&run.root().join(name)).is_ok_and(|found| found != *sha256);
    list.into_iter().chain(lines.filter(differs).map(|(_, name)| name.to_owned())).collect()
}

/// Warns where files were edited: the rest is shown as if the run had come to them. Numbers that were are refused.
///
/// # Errors
///
/// If the summary is another.
pub(crate) fn warn_of_edits(ui: Ui, run: &RunFolder) -> Result<()> {
    let edited = edited(run);
    if edited.iter().any(|name| name == SUMMARY) {
        return Err(changed(run, &[SUMMARY.to_owned()]).into());
    }
    warn(ui, run, &edited);
    Ok(())
}

/// Warns where what says what a model's outputs mean was edited; that its weights were, their hash in it says.
pub(crate) fn warn_of_edited_card(ui: Ui, run: Option<&RunFolder>) {
    if let Some(run) = run {
        warn(ui, run, &edited_of(run, &[CARD]));
    }
}

fn warn(ui: Ui, run: &RunFolder, edited: &[String]) {
    if !edited.is_empty() {
        let (folder, names) = (run.root().display(), edited.join(", "));
        ui.warn(format_args!("`{folder}` is not as the run wrote it ({names}): see `cn-train verify`"));
    }
}

/// Refuses a run whose files were edited.
pub(crate) fn refuse_edits(run: &RunFolder) -> Result<()> {
    let edited = edited(run);
    if edited.is_empty() { Ok(()) } else { Err(changed(run, &edited).into()) }
}

fn changed(run: &RunFolder, names: &[String]) -> Problem {
    let problem = format!("`{}` is not as the run wrote it: {} changed", run.root().display(), names.join(", "));
    Problem::failure(problem).hint("restore it from a copy; `cn-train verify RUN` says more")
}

/// How many files are as they were noted; the summary counts where there is one.
///
/// # Errors
///
/// If one is not: all that differ are named.
pub(crate) fn check(run: &RunFolder) -> Result<usize> {
    let path = run.sums();
    let text = read_bytes(&path)
        .map_err(anyhow::Error::from)
        .and_then(|bytes| Ok(String::from_utf8(bytes)?))
        .with_context(|| format!("cannot read `{}`, the hashes of the run's files", path.display()))?;
    let (mut wrong, mut n_same, mut seen) = (Vec::new(), 0, HashSet::new());
    for line in text.lines() {
        let (sha256, file) = line
            .split_once("  ")
            .filter(|(_, name)| is_inside(name))
            .with_context(|| format!("`{}` has a line that is no hash and name: `{line}`", path.display()))?;
        if !seen.insert(Path::new(file)) {
            wrong.push(format!("{file} is listed twice"));
            continue;
        }
        match digest(&run.root().join(file)) {
            Ok(found) if found == sha256 => n_same += 1,
            Err(_) if run.root().join(file) == run.summary() && !run.is_finished() => {}
            Ok(_) => wrong.push(format!("{file} changed")),
            Err(error) => wrong.push(format!("{file}: {error:#}")),
        }
    }
    let listed: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once("  ")?.1)).collect();
    let missing = ALWAYS.iter().filter(|name| !listed.contains(name)).map(|name| format!("{name} is not in it"));
    wrong.extend(missing);
    if wrong.is_empty() {
        return Ok(n_same);
    }
    let (n, named) = (wrong.len(), wrong.len().min(NAMED));
    let more = if n > named { format!(", and {} more", n - named) } else { String::new() };
    Err(Problem::failure(format!("{}{more}", wrong[..named].join(", "))).into())
}

/// Whether a name leads to a file of the run, nowhere else.
fn is_inside(name: &str) -> bool {
    !name.is_empty() && PathBuf::from(name).components().all(|part| matches!(part, Component::Normal(_)))
}

fn digest(path: &Path) -> Result<String> {
    let found = Digest::of_file(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(found.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_or_goes_is_named() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let run = RunFolder::new(dir.path());
        std::fs::create_dir(run.interpret())?;
        for name in
            ALWAYS.iter().filter(|name| **name != "summary.json").chain(&["interpret/index.json", "report.html"])
        {
            std::fs::write(run.root().join(name), "as it was")?;
        }
        std::fs::write(run.root().join("train.log"), "by the user")?;
        write(&run, b"to come")?;
        std::fs::write(run.summary(), "to come")?;
        assert_eq!(check(&run)?, 9);
        std::fs::write(run.report(), "written later")?;
        assert_eq!(check(&run)?, 9);
        std::fs::write(run.metrics(), "otherwise")?;
        std::fs::remove_file(run.interpret().join("index.json"))?;
        let error = check(&run).expect_err("two differ").to_string();
        assert!(error.contains("metrics.jsonl changed") && error.contains("interpret/index.json: "), "{error}");

        let whole = std::fs::read_to_string(run.sums())?;
        for n in [0, 2, whole.lines().count() - 1] {
            std::fs::write(run.sums(), whole.lines().take(n).map(|line| format!("{line}\n")).collect::<String>())?;
            let error = check(&run).expect_err("the list was cut").to_string();
            assert!(error.contains("summary.json is not in it"), "{error}");
            assert!(edited(&run).iter().any(|name| name == LIST));
        }
        std::fs::write(run.sums(), [0xFF])?;
        assert_eq!(edited(&run), [LIST]);
        std::fs::remove_file(run.sums())?;
        assert!(edited(&run).is_empty());
        let last = whole.lines().next_back().expect("lines");
        std::fs::write(run.sums(), format!("{whole}{last}\n"))?;
        assert!(check(&run).expect_err("twice").to_string().contains("summary.json is listed twice"));
        assert_eq!(edited(&run), ["metrics.jsonl"]);
        for line in ["no hash", "0  ../outside", "0  /etc/hostname"] {
            std::fs::write(run.sums(), line)?;
            assert!(check(&run).expect_err(line).to_string().contains("is no hash and name"));
        }
        Ok(())
    }
}
