//! The data that a model was trained with, so that nobody takes what it saw for news.

use crate::args::{BatchArgs, Common, ConfigArgs, DataArgs};
use crate::config::{Config, DataConfig};
use crate::data::{Plan, hashes};
use crate::model::Trained;
use crate::output::Ui;
use crate::seen::n_of;
use anyhow::Result;
use cn_data::{Cache, Dataset, Index};
use cn_report::{DataChange, Manifest, RunFolder, TrainedOn};
use std::collections::HashSet;
use std::path::Path;

/// The data of a run.
pub(in crate::commands) struct Own {
    pub(in crate::commands) config: Config,
    pub(in crate::commands) dataset: Dataset,
    /// Whether these are the images and labels that are asked for; else the images alone are.
    pub(in crate::commands) is_judged: bool,
}

impl Own {
    /// How many images of `index` trained the model, by their paths.
    pub(in crate::commands) fn n_trained(&self, index: &Index) -> usize {
        let records = self.dataset.index().records();
        let train: HashSet<&str> =
            self.dataset.split().train().iter().map(|&id| records[id as usize].path.as_str()).collect();
        index.records().iter().filter(|record| train.contains(record.path.as_str())).count()
    }

    /// How many images with these numbers trained the model or the weights that it began with.
    pub(super) fn n_seen(&self, ids: &[u32], seen: &TrainedOn) -> Result<usize> {
        if seen.is_empty() || self.dataset.pixels().file_sha256().is_none() {
            return Ok(self.n_trained(&self.dataset.index().subset(ids)?));
        }
        Ok(n_of(self.dataset.pixels(), ids, seen))
    }
}

/// The data of the model's run, where they were or where the flags say that they are now; `None` if the flags speak of
/// other data, or the model has no run.
pub(in crate::commands) fn find(
    ui: Ui,
    flags: &DataArgs,
    trained: &Trained,
    cache: impl Fn() -> Cache,
) -> Result<Option<Own>> {
    let Some(run) = trained.run.as_ref().filter(|run| run.holds_run()) else { return Ok(None) };
    if flags.synthetic {
        return Ok(None);
    }
    let mut stored = Config::of_run(&run.config())?.resolved()?;
    stored.skip_damaged |= flags.skip_damaged;
    let is_judged = described(&stored, flags)? == stored.data;
    let elsewhere = flags.data.as_ref().filter(|dir| !is_same_folder(dir, stored.data.dir.as_deref()));
    match elsewhere {
        None => {
            let dataset = unmoved(ui, &stored, run, cache())?;
            Ok(Some(Own { config: stored, dataset, is_judged }))
        }
        Some(_) if stored.data.synthetic => Ok(None),
        Some(dir) => {
            let data = DataConfig { dir: Some(dir.clone()), ..stored.data.clone() };
            let config = Config { data, ..stored };
            Ok(moved(ui, &config, run, cache()).map(|dataset| Own { config, dataset, is_judged }))
        }
    }
}

/// The stored description of the data under the flags, but for the folder.
fn described(stored: &Config, flags: &DataArgs) -> Result<DataConfig> {
    let data = DataArgs { data: None, ..flags.clone() };
    let flags = ConfigArgs { batch: BatchArgs { data, ..BatchArgs::default() }, ..ConfigArgs::default() };
    Ok(stored.with_flags(&Common::default(), &flags)?.data)
}

/// The data where the run found them.
fn unmoved(ui: Ui, config: &Config, run: &RunFolder, cache: Cache) -> Result<Dataset> {
    let dataset = Plan::new(config)?.load(ui, config, cache)?;
    if let Ok(manifest) = Manifest::read(run.manifest()) {
        warn_of_change(ui, manifest.data.change(&hashes(&dataset)));
    }
    Ok(dataset)
}

fn warn_of_change(ui: Ui, change: Option<DataChange>) {
    match change {
        Some(DataChange::Images) => {
            ui.warn("the data have changed since the run: images that judge may have been trained on");
        }
        Some(DataChange::Labels) => {
            ui.warn("the table of labels has changed since the run: the numbers are not those of its summary");
        }
        None => {}
    }
}

fn is_same_folder(dir: &Path, stored: Option<&Path>) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    stored.is_some_and(|stored| real(stored).is_some_and(|stored| real(dir) == Some(stored)))
}

/// The data of another folder, if they are those of the run by their hashes.
fn moved(ui: Ui, config: &Config, run: &RunFolder, cache: Cache) -> Option<Dataset> {
    let manifest = Manifest::read(run.manifest()).ok()?;
    let plan = Plan::new(config).ok()?;
    // Most other data are told apart before they are decoded. Damaged images leave the index only then.
    if !config.skip_damaged && plan.index.sha256().to_string() != manifest.data.index_sha256 {
        return None;
    }
    let dataset = plan.load(ui, config, cache).ok()?;
    if dataset.content_sha256().to_string() != manifest.data.content_sha256 {
        return None;
    }
    warn_of_change(ui, manifest.data.change(&hashes(&dataset)));
    Some(dataset)
}
