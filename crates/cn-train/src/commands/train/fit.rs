//! The fit of a run, with what becomes of numbers that go wrong and of signals.

use super::super::Context;
use super::manifest::{identity, is_own, write_again};
use super::{Prepared, phases, result};
use crate::config::{Config, OnNan, gpu_of};
use crate::output::Ui;
use crate::problem::Problem;
use crate::recorder::Recorder;
use crate::seen;
use crate::signals::Stop;
use anyhow::Result;
use cn_learn::{
    BadPlace, Checkpoint, CheckpointFolder, EarlyStopping, Handler, Monitor, NotFinite, Outcome, SaveCheckpoints,
};
use cn_ops::Interrupt;
use cn_report::{Manifest, RunFolder, TrainedOn};

/// Rates are halved no more once they are below this share.
const SMALLEST_SCALE: f64 = 0.2;

/// After each epoch, as often as the settings say, and when the program is asked to end.
fn checkpoints(run: &RunFolder, config: &Config, stop: &Stop) -> SaveCheckpoints {
    let stop = stop.clone();
    let save = SaveCheckpoints::to(CheckpointFolder::new(run.checkpoints()));
    let save = save.stop_when(move || stop.exit_code().is_some());
    let save = match config.on_nan {
        // To go back to what is right before the step would meet it again.
        OnNan::Rollback => save.not_before_nan().keeping_epochs(),
        // A GPU is done with an epoch before the disk is with a checkpoint.
        OnNan::Stop | OnNan::Skip if gpu_of(&config.device).is_some() => save.never_waiting(),
        OnNan::Stop | OnNan::Skip => save,
    };
    let save = match config.checkpoint_every {
        Some(steps) => save.every(steps),
        None => save,
    };
    match config.checkpoint_interval() {
        Some(interval) => save.at_least_every(interval),
        None => save,
    }
}

/// Trains from the start, or from a checkpoint, and closes the run.
pub(super) fn fit(
    context: &Context<'_>,
    run: RunFolder,
    mut prepared: Prepared,
    manifest: &Manifest,
    checkpoint: Option<Checkpoint>,
) -> Result<u8> {
    let before = if checkpoint.is_some() { TrainedOn::read(run.trained_on())? } else { TrainedOn::default() };
    seen::note(&run, &prepared.dataset, &prepared.start, before)?;
    // Of results that were lost, and are written anew.
    let _ = std::fs::remove_file(run.sums());
    let stop = Stop::listen()?;
    let asked = stop.clone();
    prepared.learner.model_mut().set_interrupt(Interrupt::when(move || asked.exit_code().is_some()));
    let (mut from, start) = (checkpoint, prepared.initial.take());
    let mut tried: Option<Recorder> = None;
    let (outcome, recorder, mut checkpoints) = loop {
        let fresh = Recorder::new(context.ui, run.clone(), context.start);
        let mut recorder = match &tried {
            Some(tried) => fresh.after(tried),
            None => fresh,
        };
        let mut checkpoints = checkpoints(&run, &prepared.config, &stop).with_extra(identity(manifest));
        let mut early =
            prepared.config.patience.map(|epochs| EarlyStopping::new(Monitor::new("val_loss"), epochs.get()));
        let early = early.as_mut().map(|early| early as &mut dyn Handler);
        // The recorder comes last, and counts what the others take.
        let own: [&mut dyn Handler; 2] = [&mut checkpoints, &mut recorder];
        let mut handlers: Vec<_> = early.into_iter().chain(own).collect();
        let outcome = go(&mut prepared, from.take(), &mut handlers);
        match (outcome, &start) {
            (Ok(outcome), _) => break (outcome, recorder, checkpoints),
            (Err(cn_learn::Error::NotFinite(bad)), Some(start)) if prepared.learner.lr_scale() > SMALLEST_SCALE => {
                checkpoints.wait()?;
                from = Some(roll_back(context.ui, &run, &mut prepared, (start, manifest), &bad)?);
                tried = Some(recorder);
            }
            (Err(cn_learn::Error::NotFinite(bad)), _) => return Err(refuse_nan(&run, &prepared.config, &bad).into()),
            (Err(error), _) => return Err(gone(&run, error.into()).context("training failed")),
        }
    };
    if let (Outcome::Stopped, Some(code)) = (outcome, stop.exit_code()) {
        let step = prepared.learner.position().steps_done;
        tell_stopped(context.ui, &run, step, &format!("at step {step}, which is saved"));
        return Ok(code);
    }
    let step = prepared.learner.position().steps_done;
    tell_early(context.ui, &prepared.config, recorder.kept().records.len());
    write_again(context.ui, &run, &prepared.config, manifest).map_err(|error| gone(&run, error))?;
    match (result::close(context, &run, prepared, &recorder), stop.exit_code()) {
        (Err(error), Some(code)) if is_interruption(&error) => {
            let when = format!("after training, at step {step}, before the results were written");
            tell_stopped(context.ui, &run, step, &when);
            Ok(code)
        }
        (closed, _) => {
            closed.and_then(|()| checkpoints.wait().map_err(Into::into)).map_err(|error| gone(&run, error)).map(|()| 0)
        }
    }
}

/// Says so where phases were cut short.
fn tell_early(ui: Ui, config: &Config, epochs: usize) {
    if let Some(patience) = config.patience.filter(|_| epochs < config.epochs()) {
        let (planned, patience) = (config.epochs(), phases::epochs(patience.get()));
        ui.say(format_args!(
            "early     {epochs} of {planned} epochs: in {patience} in a row, the validation loss was no lower"
        ));
        ui.json(&serde_json::json!({ "event": "early_stop", "epochs": epochs, "planned": planned }));
    }
}

fn tell_stopped(ui: Ui, run: &RunFolder, step: u64, when: &str) {
    let folder = run.root().display();
    ui.result(format_args!("stopped   {when}; go on with `cn-train train --resume {folder}`\n"));
    ui.json(&serde_json::json!({ "event": "stopped", "run": run.root(), "step": step }));
}

fn is_interruption(error: &anyhow::Error) -> bool {
    let learning =
        |cause: &&(dyn std::error::Error + 'static)| cause.downcast_ref().is_some_and(cn_learn::Error::is_interruption);
    let is_one = |cause| matches!(<dyn std::error::Error>::downcast_ref(cause), Some(cn_ops::Error::Interrupted));
    error.chain().any(|cause| learning(&cause) || is_one(cause))
}

/// Says so where the folder that is written to was removed meanwhile.
fn gone(run: &RunFolder, error: anyhow::Error) -> anyhow::Error {
    if run.holds_run() {
        return error;
    }
    let problem = format!("the run `{}` was removed while it was trained", run.root().display());
    error.context(Problem::failure(problem).hint("what was in it is lost: train again, also to the same `--out`"))
}

/// One try: from the start, or from a checkpoint with the rates of the learner as they are.
fn go(
    prepared: &mut Prepared,
    from: Option<Checkpoint>,
    handlers: &mut [&mut dyn Handler],
) -> cn_learn::Result<Outcome> {
    let Prepared { config, learner, .. } = prepared;
    match from {
        Some(checkpoint) if !checkpoint.phases().is_empty() => {
            let scale = learner.lr_scale().min(checkpoint.lr_scale());
            learner.restore(&checkpoint)?;
            // Its memory is for those that come.
            drop(checkpoint);
            learner.set_lr_scale(scale)?;
            learner.resume(handlers)
        }
        Some(start) => {
            let scale = learner.lr_scale();
            learner.restore(&start)?;
            learner.set_lr_scale(scale)?;
            learner.fit(&config.phase, handlers)
        }
        None => learner.fit(&config.phase, handlers),
    }
}

/// Halves the rates; the checkpoint to go on from: of the end of the last epoch where that was at the rates that failed, else
/// the start. Both are the same wherever the run was stopped in between, so that nothing else takes their place.
fn roll_back(
    ui: Ui,
    run: &RunFolder,
    prepared: &mut Prepared,
    (start, manifest): (&Checkpoint, &Manifest),
    bad: &NotFinite,
) -> Result<Checkpoint> {
    let failed = prepared.learner.lr_scale();
    let folder = CheckpointFolder::new(run.checkpoints());
    let is_of_epoch =
        |checkpoint: &Checkpoint| is_own(checkpoint, manifest) && checkpoint.position().epochs_done == bad.epoch;
    let is_of_try =
        |checkpoint: &Checkpoint| is_of_epoch(checkpoint) && checkpoint.lr_scale().to_bits() == failed.to_bits();
    // One of twice these rates was gone back to before.
    let is_of_the_try_before = |checkpoint: &Checkpoint| {
        is_of_epoch(checkpoint) && checkpoint.lr_scale().to_bits() == (2.0 * failed).to_bits()
    };
    let was_tried = || folder.epoch_where(is_of_the_try_before).is_some();
    let from = match folder.epoch_where(is_of_try) {
        Some(found) => {
            if let Some(damage) = &found.damage {
                ui.warn(format_args!("{damage}; another one of that epoch is used"));
            }
            found.checkpoint
        }
        None if bad.epoch == 0 || was_tried() => start.clone(),
        None => return Err(no_way_back(&folder, bad).into()),
    };
    let scale = failed / 2.0;
    prepared.learner.set_lr_scale(scale)?;
    let step = from.position().steps_done;
    ui.warn(format_args!("{bad}; back to step {step}, with {scale} of the learning rates"));
    Ok(from)
}

/// Where the checkpoint of the epoch before the step is lost, or never was there.
fn no_way_back(folder: &CheckpointFolder, bad: &NotFinite) -> Problem {
    let epoch = folder.epoch();
    let problem = format!("{bad}; there is no checkpoint of the epoch before it to go back to");
    let cause = Checkpoint::read(&epoch).err();
    // It is no step that is wrong where the validation is.
    let skip = if bad.place == BadPlace::Validation { "" } else { " leave such steps out (`--on-nan skip`)," };
    let problem = Problem::failure(problem).hint(format!(
        "restore `{}` from a copy,{skip} or train again: runs that begin with `--on-nan rollback` keep it",
        epoch.display()
    ));
    match cause {
        Some(cause) => problem.caused_by(cause),
        None => problem,
    }
}

fn refuse_nan(run: &RunFolder, config: &Config, bad: &NotFinite) -> Problem {
    let lower = "lower the learning rate: `cn-train lr-find` suggests one";
    let is_validation = bad.place == BadPlace::Validation;
    let tried = match config.on_nan {
        OnNan::Stop => "",
        OnNan::Skip if is_validation => "",
        OnNan::Skip => ", as in the steps before it, which were left out",
        OnNan::Rollback => ", also with an eighth of the learning rates",
    };
    Problem::failure(format!("{bad}{tried}")).hint(match config.on_nan {
        OnNan::Stop if !is_validation => {
            format!("{lower}; `cn-train train --resume {} --on-nan skip` leaves such steps out", run.root().display())
        }
        OnNan::Stop | OnNan::Skip | OnNan::Rollback => lower.to_owned(),
    })
}
