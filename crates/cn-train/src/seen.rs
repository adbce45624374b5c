//! Which images a model has seen: noted by training, asked by whoever judges.

use crate::model::Trained;
use crate::output::Ui;
use crate::start::Start;
use anyhow::Result;
use cn_data::{Dataset, Pixels};
use cn_report::{RunFolder, Summary, TrainedOn};

/// Whether the file of this image was trained on. An image that is no file is not.
pub(crate) fn is_seen(pixels: &Pixels, id: u32, seen: &TrainedOn) -> bool {
    pixels.file_sha256().is_some_and(|files| seen.contains(&files[id as usize].to_string()))
}

/// What the model has seen, as far as its run has noted it.
pub(crate) fn of_model(trained: &Trained) -> Result<TrainedOn> {
    Ok(trained.run.as_ref().map(|run| TrainedOn::read(run.trained_on())).transpose()?.unwrap_or_default())
}

/// Says so where the run of a model trained on files, and its list of them is not there.
pub(crate) fn warn_of_no_list(ui: Ui, trained: &Trained) {
    if let Some(run) = trained.run.as_ref().filter(|run| lacks_list(run)) {
        let path = run.trained_on();
        ui.warn(format_args!("`{}` is missing: nobody knows whether these images were trained on", path.display()));
    }
}

/// Whether there is a model that may have been trained on files, and nobody knows which.
fn lacks_list(run: &RunFolder) -> bool {
    let drawn = || Summary::read(run.summary()).is_ok_and(|summary| summary.data.synthetic);
    run.model_card().is_file() && !run.trained_on().exists() && !drawn()
}

/// What the weights have seen that a run begins with, where they are another run's.
fn of_weights(start: &Start) -> Result<TrainedOn> {
    Ok(run_of(start).map(|run| TrainedOn::read(run.trained_on())).transpose()?.unwrap_or_default())
}

/// The folder of the weights' file, links followed.
fn run_of(start: &Start) -> Option<RunFolder> {
    let path = &start.origin()?.path;
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    Some(RunFolder::new(path.parent()?))
}

/// Notes in the run what it is going to see, and what its weights have seen, beside what it has seen before.
pub(crate) fn note(run: &RunFolder, dataset: &Dataset, start: &Start, before: TrainedOn) -> Result<()> {
    let mut seen = before;
    seen.extend(of_weights(start)?);
    add(&mut seen, dataset);
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

/// Says so where images that judge are trained on: by the weights that the run begins with, or as copies.
pub(crate) fn warn(ui: Ui, dataset: &Dataset, start: &Start) -> Result<()> {
    if run_of(start).is_some_and(|run| lacks_list(&run)) {
        ui.warn(format_args!(
            "there is no `trained-on.sha256` beside the weights: nobody knows whether they were trained on images that judge"
        ));
    }
    let (val, mut seen) = (dataset.split().val(), of_weights(start)?);
    let n = n_of(dataset.pixels(), val, &seen);
    if n > 0 {
        ui.warn(format_args!(
            "the weights were trained on {n} of the {} images that judge: the numbers will flatter the model; begin with \
             other weights, or split as the run did that they are from",
            val.len()
        ));
    }
    add(&mut seen, dataset);
    let n_copies = n_of(dataset.pixels(), val, &seen) - n;
    if n_copies > 0 {
        ui.warn(format_args!(
            "{n_copies} of the {} images that judge are in the training part too, as files with the same bytes: the numbers \
             will flatter the model; `cn-train audit` names them",
            val.len()
        ));
    }
    Ok(())
}

/// Adds the files that train; drawn images are none.
fn add(seen: &mut TrainedOn, dataset: &Dataset) {
    let Some(files) = dataset.pixels().file_sha256() else { return };
    for &id in dataset.split().train() {
        seen.insert(files[id as usize].to_string(), &dataset.index().records()[id as usize].path);
    }
}
