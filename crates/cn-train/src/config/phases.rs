//! Epochs and rates from flags.

use super::Config;
use crate::args::PhaseArgs;
use crate::problem::Problem;
use cn_learn::{Phase, Rates};
use cn_zoo::Loaded;

/// The phases that `--epochs`, `--freeze-epochs` and `--lr` make of those of a recipe.
///
/// `--epochs` alone changes the last phase. With one of the others they make fastai's `fine_tune`, or for no frozen
/// epochs `fit_one_cycle`; what is not given is taken from the recipe. No epochs but frozen ones train the head alone.
pub(super) fn with_flags(phases: &[Phase], args: &PhaseArgs) -> Result<Vec<Phase>, Problem> {
    check_flags(args)?;
    let Some(last) = phases.last() else { return Ok(Vec::new()) };
    let epochs = args.epochs.unwrap_or(last.epochs);
    if args.freeze_epochs.is_none() && args.lr.is_none() {
        let mut phases = phases.to_vec();
        phases.iter_mut().next_back().into_iter().for_each(|last| last.epochs = epochs);
        return Ok(phases);
    }
    let frozen: Vec<&Phase> = phases.iter().filter(|phase| phase.frozen == Some(true)).collect();
    let freeze_epochs =
        args.freeze_epochs.unwrap_or_else(|| frozen.iter().fold(0usize, |sum, phase| sum.saturating_add(phase.epochs)));
    let lr = args.lr.unwrap_or_else(|| head_rate(frozen.first().unwrap_or(&last)));
    if freeze_epochs > 0 {
        return Ok(Phase::fine_tune(epochs, lr, freeze_epochs));
    }
    Ok(vec![Phase { frozen: Some(false), ..Phase::one_cycle(epochs, Rates::Uniform(lr)) }])
}

fn check_flags(args: &PhaseArgs) -> Result<(), Problem> {
    if args.epochs == Some(0) && args.freeze_epochs.is_none_or(|epochs| epochs == 0) {
        return Err(Problem::usage("`--epochs 0` trains nothing")
            .hint("`--epochs 0 --freeze-epochs 3` trains the head alone; `--dry-run` does all but train"));
    }
    match args.lr {
        Some(lr) if !(lr.is_finite() && lr > 0.0) => {
            Err(Problem::usage(format!("the learning rate {lr} is not a finite number above 0"))
                .hint("`cn-train lr-find` suggests one"))
        }
        _ => Ok(()),
    }
}

/// The peak rate of the last group.
fn head_rate(phase: &Phase) -> f64 {
    phase.lr.of_groups(1)[0]
}

impl Config {
    /// The phases at `fine_tune_lr`, those that have one rate for all groups.
    pub(super) fn fine_tuned(&self) -> Vec<Phase> {
        let rate = |phase: &Phase| match (phase.lr, self.fine_tune_lr) {
            (Rates::Uniform(_), Some(lr)) => Rates::Uniform(lr),
            (rates, _) => rates,
        };
        self.phase.iter().map(|phase| Phase { lr: rate(phase), ..phase.clone() }).collect()
    }

    /// Settles the rates, once it is known what was taken of weights: with their head they tell the classes apart.
    pub(crate) fn settle_rates(&mut self, loaded: Option<&Loaded>) {
        if loaded.is_some_and(|loaded| !loaded.head_replaced()) {
            self.phase = self.fine_tuned();
        }
        self.fine_tune_lr = None;
    }
}

/// Refuses phases that cannot be trained with.
pub(super) fn check(phases: &[Phase]) -> Result<(), Problem> {
    if phases.is_empty() {
        return Err(Problem::usage("there is no phase to train").hint("a recipe needs at least one `[[phase]]`"));
    }
    for (i, phase) in (1..).zip(phases) {
        phase.check().map_err(|e| {
            Problem::usage(format!("phase {i} cannot be trained"))
                .caused_by(e)
                .hint("the config.toml of a run shows phases that can be trained")
        })?;
    }
    Ok(())
}
