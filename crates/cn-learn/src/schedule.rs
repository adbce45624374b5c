//! Learning rate and momentum as pure functions of the step.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Beyond, nobody lives to see the end, and counters of epochs and steps could overflow.
const MAX_EPOCHS: f64 = 1e9;

/// Peak learning rates of the parameter groups, the forms that fastai's `lr_max` takes.
///
/// In JSON and TOML a number, a pair `[first, last]`, or `{ last = rate }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a learning rate, a pair of them as in [1e-5, 1e-3], or { last = 1e-3 }")]
pub enum Rates {
    /// One rate for all groups.
    Uniform(f64),
    /// From the first group's to the last group's, a constant factor from group to group: `slice(a, b)`.
    Slice(f64, f64),
    /// This rate for the last group, a tenth of it for the others: `slice(b)`.
    Last {
        /// Rate of the last group.
        last: f64,
    },
}

impl Rates {
    /// The rate of each of `n_groups` groups.
    #[must_use]
    pub fn of_groups(self, n_groups: usize) -> Vec<f64> {
        match self {
            Self::Uniform(lr) => vec![lr; n_groups],
            Self::Slice(first, last) => even_mults(first, last, n_groups),
            Self::Last { last } => {
                (1..=n_groups).map(|group| if group == n_groups { last } else { last / 10.0 }).collect()
            }
        }
    }

    /// Of the first and of the last group, but for the tenth of [`Rates::Last`].
    fn ends(self) -> [f64; 2] {
        match self {
            Self::Uniform(lr) | Self::Last { last: lr } => [lr; 2],
            Self::Slice(first, last) => [first, last],
        }
    }
}

/// `n` numbers from `first` to `last`, each the same multiple of the one before; `last` alone for one.
#[must_use]
pub fn even_mults(first: f64, last: f64, n: usize) -> Vec<f64> {
    if n <= 1 {
        return vec![last; n];
    }
    let mult = last / first;
    let step = mult.powf(1.0 / (n - 1) as f64);
    (0..n).map(|i| first * step.powi(i32::try_from(i).unwrap_or(i32::MAX))).collect()
}

/// How rate and momentum move over a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Curve {
    /// Cosine warm-up to the peak, then cosine decay; momentum the other way round (arXiv:1708.07120).
    #[default]
    OneCycle,
    /// The peak rate and `moms[0]` throughout.
    Flat,
    /// Cosine from the peak rate towards zero, without warm-up; momentum stays at `moms[0]`.
    Cosine,
}

/// A stretch of training with one schedule: what fastai calls a fit.
///
/// The defaults are those of `fit_one_cycle`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Phase {
    /// `true` freezes all groups but the last at the start, `false` unfreezes, `None` leaves them as they are.
    ///
    /// Freezing and unfreezing forget the optimizer's moments, as in fastai.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen: Option<bool>,
    /// Number of epochs.
    pub epochs: usize,
    /// Peak rates.
    pub lr: Rates,
    /// Shape of the schedule.
    pub curve: Curve,
    /// Share of the phase that warms up.
    pub pct_start: f64,
    /// The first rate is the peak divided by this.
    pub div: f64,
    /// The rate goes towards the peak divided by this.
    pub div_final: f64,
    /// Momentum at the start, at the peak rate, at the end.
    pub moms: [f64; 3],
}

impl Default for Phase {
    fn default() -> Self {
        Self {
            frozen: None,
            epochs: 1,
            lr: Rates::Uniform(1e-3),
            curve: Curve::OneCycle,
            pct_start: 0.25,
            div: 25.0,
            div_final: 1e5,
            moms: [0.95, 0.85, 0.95],
        }
    }
}

impl Phase {
    /// fastai's `fit_one_cycle(epochs, lr_max)`: whatever is frozen stays so.
    #[must_use]
    pub fn one_cycle(epochs: usize, lr: Rates) -> Self {
        Self { epochs, lr, ..Self::default() }
    }

    /// fastai's `fine_tune(epochs, base_lr, freeze_epochs)`: a frozen warm-up of the head, then all groups at rates from
    /// `base_lr / 200` to `base_lr / 2`.
    ///
    /// A phase of no epochs is left out.
    #[must_use]
    pub fn fine_tune(epochs: usize, base_lr: f64, freeze_epochs: usize) -> Vec<Self> {
        let head = Self {
            frozen: Some(true),
            pct_start: 0.99,
            ..Self::one_cycle(freeze_epochs, Rates::Last { last: base_lr })
        };
        let half = base_lr / 2.0;
        let all = Self {
            frozen: Some(false),
            pct_start: 0.3,
            div: 5.0,
            ..Self::one_cycle(epochs, Rates::Slice(half / 100.0, half))
        };
        [head, all].into_iter().filter(|phase| phase.epochs > 0).collect()
    }

    /// The schedule of this phase for a model with `n_groups` groups and epochs of `steps_per_epoch` steps.
    #[must_use]
    pub fn schedule(&self, n_groups: usize, steps_per_epoch: usize) -> Schedule {
        Schedule { phase: self.clone(), peaks: self.lr.of_groups(n_groups), steps_per_epoch }
    }

    /// Refuses what cannot be trained with.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] names the first field that is out of its range.
    pub fn check(&self) -> Result<()> {
        let positive = |name, value| check(name, value, |x| x.is_finite() && x > 0.0, "a finite number above 0");
        // The optimizer has rates as `f32`.
        let rate = |lr: f64| check("lr", lr, |lr| lr > 0.0 && lr <= f64::from(f32::MAX), "above 0, and at most 3.4e38");
        self.lr.ends().into_iter().try_for_each(rate)?;
        check("epochs", self.epochs as f64, |n| (1.0..=MAX_EPOCHS).contains(&n), "1 to 1e9")?;
        check("pct_start", self.pct_start, |x| (0.0..=1.0).contains(&x), "0 to 1")?;
        positive("div", self.div)?;
        positive("div_final", self.div_final)?;
        // Each of them may be a number, and what is made of them none.
        let [first, last] = self.lr.ends();
        let finite = |name, value: f64| check(name, value, f64::is_finite, "a finite number");
        finite("lr of the last group / lr of the first group", last / first)?;
        finite("lr / div", first.max(last) / self.div)?;
        finite("lr / div_final", first.max(last) / self.div_final)?;
        let below_1 = |x: f64| (0.0..1.0).contains(&x);
        self.moms.into_iter().try_for_each(|mom| check("moms", mom, below_1, "0 up to, not with, 1"))
    }
}

fn check(name: &'static str, value: f64, fits: impl FnOnce(f64) -> bool, expected: &'static str) -> Result<()> {
    if fits(value) { Ok(()) } else { Err(Error::Setting { name, value, expected }) }
}

/// What the optimizer uses in one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypers {
    /// Learning rate of each parameter group.
    pub lr: Vec<f64>,
    /// Momentum, Adam's beta1.
    pub momentum: f64,
}

/// Rates and momentum of a [`Phase`], a pure function of the step.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    phase: Phase,
    peaks: Vec<f64>,
    steps_per_epoch: usize,
}

impl Schedule {
    /// Optimizer steps of the whole phase.
    #[must_use]
    pub fn n_steps(&self) -> usize {
        self.phase.epochs * self.steps_per_epoch
    }

    /// The values for `step`, counted from 0 over the phase.
    ///
    /// As in fastai the position is `step / n_steps`, so that the end values are approached and never used, and the
    /// position within warm-up or decay is computed in `f32`.
    #[must_use]
    pub fn at(&self, step: usize) -> Hypers {
        let Phase { pct_start, div, div_final, moms, curve, .. } = self.phase;
        let position = self.position(step);
        let momentum = match curve {
            Curve::OneCycle => one_cycle(pct_start, moms, position),
            Curve::Flat | Curve::Cosine => moms[0],
        };
        let rate = |&peak: &f64| match curve {
            Curve::OneCycle => one_cycle(pct_start, [peak / div, peak, peak / div_final], position),
            Curve::Flat => peak,
            Curve::Cosine => cosine(peak, 0.0, position),
        };
        Hypers { lr: self.peaks.iter().map(rate).collect(), momentum }
    }

    /// Where in 0..1 `step` lies; summed from the start of the epoch, as fastai does.
    fn position(&self, step: usize) -> f64 {
        let per_epoch = self.steps_per_epoch.max(1);
        let (epoch, batch) = (step / per_epoch, step % per_epoch);
        let n_epochs = self.phase.epochs.max(1) as f64;
        epoch as f64 / n_epochs + batch as f64 * (1.0 / (per_epoch as f64 * n_epochs))
    }
}

/// Cosine from `a` to `b` up to `pct`, then from `b` to `c`.
fn one_cycle(pct: f64, [a, b, c]: [f64; 3], position: f64) -> f64 {
    // fastai holds the limits and the position in f32 tensors; f64 differs by up to 4e-6 of the peak.
    let (position, peak) = (position as f32, pct as f32);
    let end = peak + (1.0 - pct) as f32;
    if position >= peak && peak < end {
        cosine(b, c, f64::from((position - peak) / (end - peak)))
    } else {
        cosine(a, b, f64::from(position / peak))
    }
}

fn cosine(from: f64, to: f64, position: f64) -> f64 {
    from + (1.0 + (PI * (1.0 - position)).cos()) * (to - from) / 2.0
}

#[cfg(test)]
mod tests;
