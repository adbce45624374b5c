//! Which images a model has seen: noted by training, asked by whoever judges.

use crate::model::Trained;
use crate::output::Ui;
use crate::start::Start;
use anyhow::Result;
use cn_data::{Dataset, Pixels};
use cn_report::{RunFolder, TrainedOn};

/// Whether the file of this image was trained on. An image that is no file is not.
pub(crate) fn is_seen(pixels: &Pixels, id: u32, seen: &TrainedOn) -> bool {
    pixels.file_sha256().is_some_and(|files| seen.contains(&files[id as usize].to_string()))
}

/// What the model has seen, as far as its run has noted it.
pub(crate) fn of_model(trained: &Trained) -> Result<TrainedOn> {
    Ok(trained.run.as_ref().map(|run| TrainedOn::read(run.trained_on())).transpose()?.unwrap_or_default())
}

/// What the weights have seen that a run begins with, where they are another run's.
fn of_weights(start: &Start) -> Result<TrainedOn> {
    let folder = start.origin().and_then(|origin| origin.path.parent());
    Ok(folder.map(|folder| TrainedOn::read(RunFolder::new(folder).trained_on())).transpose()?.unwrap_or_default())
}

/// Notes in the run what it is going to see, and what its weights have seen, beside what it has seen before.
pub(crate) fn note(run: &RunFolder, dataset: &Dataset, start: &Start, before: TrainedOn) -> Result<()> {
    let mut seen = before;
    seen.extend(of_weights(start)?);
    // Drawn images are no files.
    if let Some(files) = dataset.pixels().file_sha256() {
        for &id in dataset.split().train() {
            seen.insert(files[id as usize].to_string(), &dataset.index().records()[id as usize].path);
        }
    }
    match seen.is_empty() {
        true if run.trained_on().exists() => Ok(std::fs::remove_file(run.trained_on())?),
        true => Ok(()),
        false => Ok(seen.write(run.trained_on())?),
    }
}

/// How many of these images were trained on.
pub(crate) fn n_of(pixels: &Pixels, ids: &[u32], seen: &TrainedOn) -> usize {
    ids.iter().filter(|&&id| is_seen(pixels, id, seen)).count()
}

/// Says so where the weights that a run begins with were trained on images that are to judge it.
pub(crate) fn warn(ui: Ui, dataset: &Dataset, start: &Start) -> Result<()> {
    let (seen, val) = (of_weights(start)?, dataset.split().val());
    let n = n_of(dataset.pixels(), val, &seen);
    if n > 0 {
        ui.warn(format_args!(
            "the weights were trained on {n} of the {} images that judge: the numbers will flatter the model; begin with \
             other weights, or split as the run did that they are from",
            val.len()
        ));
    }
    Ok(())
}
