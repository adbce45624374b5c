//! The learning-rate finder: what it tries, when it stops, and what its curve suggests.

use crate::{Error, Result, SmoothLoss};
use serde::{Deserialize, Serialize};

/// Settings of the finder; the defaults are fastai's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrFindConfig {
    /// The first rate.
    pub start_lr: f64,
    /// The rate that would follow the last one.
    pub end_lr: f64,
    /// Number of training steps.
    pub n_steps: usize,
    /// Whether to stop once the smoothed loss exceeds four times its minimum.
    pub stop_diverging: bool,
}

impl Default for LrFindConfig {
    fn default() -> Self {
        Self { start_lr: 1e-7, end_lr: 10.0, n_steps: 100, stop_diverging: true }
    }
}

impl LrFindConfig {
    /// The rate of `step`: from `start_lr` up, a constant factor from step to step.
    #[must_use]
    pub fn lr(&self, step: usize) -> f64 {
        self.start_lr * (self.end_lr / self.start_lr).powf(step as f64 / self.n_steps as f64)
    }

    pub(crate) fn check(&self) -> Result<()> {
        let setting = |name, value, expected| Err(Error::Setting { name, value, expected });
        if !(self.start_lr.is_finite() && self.start_lr > 0.0) {
            return setting("start_lr", self.start_lr, "a finite number above 0");
        }
        if !(self.end_lr.is_finite() && self.end_lr > self.start_lr) {
            return setting("end_lr", self.end_lr, "a finite number above `start_lr`");
        }
        if self.n_steps == 0 {
            return setting("n_steps", 0.0, "at least 1");
        }
        Ok(())
    }
}

/// Smoothed training losses at growing learning rates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LrCurve {
    /// The rates that were tried.
    pub lrs: Vec<f64>,
    /// The smoothed loss of each, before the step with that rate; NaN once a loss was.
    pub losses: Vec<f32>,
    /// Steps that were asked for; a curve that stopped early has fewer points.
    pub n_steps: usize,
}

/// One suggested learning rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suggestion {
    /// The rate.
    pub lr: f64,
    /// Position of the point in the curve that led to it.
    pub index: usize,
}

/// What fastai's four rules make of one curve; `None` where it has too few points.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Suggestions {
    /// Two thirds down the longest falling stretch; the rule to use by default.
    pub valley: Option<Suggestion>,
    /// Before the slope at the right end changes, a rule of Novetta's for trained models.
    pub slide: Option<Suggestion>,
    /// A tenth of the rate with the smallest loss.
    pub minimum: Option<Suggestion>,
    /// Where the loss falls steepest over the logarithm of the rate.
    pub steep: Option<Suggestion>,
}

impl LrCurve {
    /// Suggested rates, by the rules of fastai.
    ///
    /// They see the curve without its first tenth and last five points, cut before the first NaN, in `f32`.
    #[must_use]
    pub fn suggestions(&self) -> Suggestions {
        let start = self.n_steps / 10;
        let end = self.losses.len().min(self.lrs.len()).saturating_sub(5);
        let Some(losses) = self.losses.get(start..end) else { return Suggestions::default() };
        let n = losses.iter().position(|loss| loss.is_nan()).unwrap_or(losses.len());
        let losses = &losses[..n];
        let lrs: Vec<f32> = self.lrs[start..start + n].iter().map(|&lr| lr as f32).collect();
        let at = |index: usize| Suggestion { lr: f64::from(lrs[index]), index: start + index };
        Suggestions {
            valley: valley(losses).map(at),
            slide: slide(losses).map(at),
            minimum: minimum(losses).map(at).map(|s| Suggestion { lr: s.lr / 10.0, ..s }),
            steep: steep(&lrs, losses).map(at),
        }
    }
}

/// Adds the points of a curve, and says when it is long enough.
#[derive(Clone, Debug)]
pub(crate) struct Tracer {
    config: LrFindConfig,
    smooth: SmoothLoss,
    best: f32,
    curve: LrCurve,
}

impl Tracer {
    pub(crate) fn new(config: LrFindConfig) -> Self {
        let curve = LrCurve { n_steps: config.n_steps, ..LrCurve::default() };
        Self { config, smooth: SmoothLoss::default(), best: f32::INFINITY, curve }
    }

    /// The rate of the next step, or `None` after the last one.
    pub(crate) fn next_lr(&self) -> Option<f64> {
        let step = self.curve.lrs.len();
        (step < self.config.n_steps).then(|| self.config.lr(step))
    }

    /// Takes in the loss of a step; whether another one should follow.
    pub(crate) fn add(&mut self, loss: f32) -> bool {
        let Some(lr) = self.next_lr() else { return false };
        self.smooth.add(loss);
        let smoothed = self.smooth.value().unwrap_or(f32::NAN);
        self.curve.lrs.push(lr);
        self.curve.losses.push(smoothed);
        self.best = self.best.min(smoothed);
        if smoothed.is_nan() {
            self.fill_with_nan();
        }
        !(self.config.stop_diverging && smoothed > 4.0 * self.best)
    }

    /// Smoothing cannot leave NaN again, so the steps that are left need not be run to be known.
    fn fill_with_nan(&mut self) {
        while let Some(lr) = self.next_lr() {
            self.curve.lrs.push(lr);
            self.curve.losses.push(f32::NAN);
        }
    }

    pub(crate) fn finish(self) -> LrCurve {
        self.curve
    }
}

/// Two thirds down the longest strictly falling subsequence.
fn valley(losses: &[f32]) -> Option<usize> {
    // longest[i]: points of the longest falling subsequence that ends at i.
    let mut longest = vec![1usize; losses.len()];
    let (mut length, mut end) = (0, 0);
    for i in 0..losses.len() {
        for j in 0..i {
            if losses[i] < losses[j] {
                longest[i] = longest[i].max(longest[j] + 1);
            }
        }
        if i > 0 && longest[i] > longest[end] {
            (length, end) = (longest[i], i);
        }
    }
    // fastai's start lies one before the first possible point; -1 means the last one.
    let (start, n) = (end as i64 - length as i64, losses.len() as i64);
    let third = (end as f64 - start as f64) / 3.0;
    let index = start + third as i64 + (third / 2.0) as i64;
    usize::try_from(if index < 0 { index + n } else { index }).ok().filter(|&i| i < losses.len())
}

/// Slides a pair of points 15 apart from the right end to the left while their slopes differ.
fn slide(losses: &[f32]) -> Option<usize> {
    const APART: usize = 15;
    const THRESHOLD: f32 = 0.005;
    let slope = gradient(losses);
    let first = losses.len().checked_sub(APART + 1)?;
    let differs = |left: &usize| (slope[left + APART] - slope[*left]).abs() > THRESHOLD;
    Some((0..=first).rev().take_while(differs).last().unwrap_or(first))
}

/// Central differences, one-sided at the ends.
fn gradient(y: &[f32]) -> Vec<f32> {
    let n = y.len();
    (0..n)
        .map(|i| match i {
            _ if n < 2 => 0.0,
            0 => y[1] - y[0],
            _ if i == n - 1 => y[i] - y[i - 1],
            _ => (y[i + 1] - y[i - 1]) / 2.0,
        })
        .collect()
}

fn minimum(losses: &[f32]) -> Option<usize> {
    first_minimum(losses.iter().copied())
}

fn steep(lrs: &[f32], losses: &[f32]) -> Option<usize> {
    let logs: Vec<f32> = lrs.iter().map(|&lr| f64::from(lr).ln() as f32).collect();
    let slope = |i: usize| (losses[i + 1] - losses[i]) / (logs[i + 1] - logs[i]);
    first_minimum((0..losses.len().saturating_sub(1)).map(slope))
}

fn first_minimum(values: impl Iterator<Item = f32>) -> Option<usize> {
    values.enumerate().filter(|(_, v)| !v.is_nan()).min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(i, _)| i)
}

#[cfg(test)]
mod tests;
