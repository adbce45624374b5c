//! Several runs side by side.

use crate::error::{Error, Result};
use crate::picture::{LineChart, Series};
use crate::run_folder::{DataChange, DataHashes, EpochRecord, Manifest, RunFolder, Summary};
use crate::text::{Align, Table, clock};

/// A finished run, read to be compared.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparedRun {
    /// The last part of its folder's path; its path where several are to be told apart.
    pub name: String,
    /// Its result.
    pub summary: Summary,
    /// What it was trained and judged on.
    pub data: DataHashes,
    /// Its epochs.
    pub epochs: Vec<EpochRecord>,
}

impl ComparedRun {
    /// Reads a finished run.
    ///
    /// # Errors
    ///
    /// If its summary, its manifest or its epochs are missing or damaged.
    pub fn read(run: &RunFolder) -> Result<Self> {
        let name = run.root().file_name().unwrap_or(run.root().as_os_str()).to_string_lossy().into_owned();
        let (summary, epochs) = (Summary::read(run.summary())?, EpochRecord::read_all(run.metrics())?);
        if epochs.len() != summary.epochs {
            return Err(Error::EpochCount { path: run.metrics(), found: epochs.len(), expected: summary.epochs });
        }
        Ok(Self { name, summary, data: Manifest::read(run.manifest())?.data, epochs })
    }

    /// What stands in the table about it, after its name.
    pub(crate) fn cells(&self) -> [String; 10] {
        let Summary { val, data, seconds, .. } = &self.summary;
        let [low, high] = val.exact_match_ci95;
        [
            self.summary.recipe.clone(),
            format!("{} px", self.summary.image_size),
            self.summary.epochs.to_string(),
            data.split.clone(),
            data.groups_shared.map_or("-".into(), |n| n.to_string()),
            format!("{:.4}", val.exact_match),
            format!("{low:.4} to {high:.4}"),
            format!("{:.4}", val.top1),
            format!("{:.6}", val.loss),
            clock(seconds.total),
        ]
    }
}

/// Names of the columns of a comparison, after that of the run.
pub(crate) const COLUMNS: [&str; 10] =
    ["recipe", "size", "epochs", "split", "shared", "exact match", "95 % by images", "top-1", "loss", "time"];

/// One line a run.
#[must_use]
pub fn compare_table(runs: &[ComparedRun]) -> String {
    let columns =
        COLUMNS.map(|name| (name, if name == "recipe" || name == "split" { Align::Left } else { Align::Right }));
    let mut table = Table::new([("run", Align::Left)].into_iter().chain(columns));
    runs.iter().for_each(|run| table.row([run.name.clone()].into_iter().chain(run.cells())));
    table.render()
}

/// What makes the runs hard to compare, a line each: other images judge, or other labels say what is right.
#[must_use]
pub fn compare_warnings(runs: &[ComparedRun]) -> Vec<String> {
    let Some((first, others)) = runs.split_first() else { return Vec::new() };
    let seen = |run: &ComparedRun| {
        let (n, of) = (run.summary.data.n_val_seen, run.summary.data.n_val);
        (n > 0).then(|| format!("`{}` was trained on {n} of the {of} images that judge it", run.name))
    };
    let line = |run: &ComparedRun| {
        let what = match first.data.change(&run.data)? {
            DataChange::Labels => "was judged by the labels of another table",
            DataChange::Images => "was judged on other images",
        };
        Some(format!("`{}` {what} than `{}`", run.name, first.name))
    };
    others.iter().filter_map(line).chain(runs.iter().filter_map(seen)).collect()
}

/// Curves of all runs over their epochs: validation loss, then exact match.
#[must_use]
pub fn compare_charts(runs: &[ComparedRun]) -> [LineChart; 2] {
    let chart = |title: &str, y_label: &str, of: &dyn Fn(&EpochRecord) -> Option<f64>| LineChart {
        title: title.into(),
        x_label: "epoch".into(),
        y_label: y_label.into(),
        series: runs.iter().map(|run| Series { name: run.name.clone(), points: points(run, of) }).collect(),
        ..LineChart::default()
    };
    [
        chart("Validation loss", "loss", &|epoch| epoch.val_loss),
        chart("Exact match", "share of the images that judge", &|epoch| epoch.metrics.get("exact_match")),
    ]
}

fn points(run: &ComparedRun, of: &dyn Fn(&EpochRecord) -> Option<f64>) -> Vec<(f64, f64)> {
    run.epochs.iter().filter_map(|epoch| Some((epoch.epoch as f64 + 1.0, of(epoch)?))).collect()
}
