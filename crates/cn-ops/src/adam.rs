//! Adam over a flat buffer.

use crate::storage::{check_shape, copy_into, with_float, write};
use crate::{Entry, Error, Parameters, Result};
use candle_core::{Shape, Tensor};
use cn_kernels::optim::{AdamSlices, AdamStep};

/// What stays the same from step to step; the defaults are fastai's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, of the parameters that decay: they shrink by `lr * weight_decay` before each update.
    pub weight_decay: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { beta2: 0.99, eps: 1e-5, weight_decay: 0.01 }
    }
}

/// What a schedule sets at each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyper<'a> {
    /// Learning rate of each parameter group.
    pub lr: &'a [f64],
    /// Decay of the first moment, called momentum by schedules.
    pub beta1: f64,
}

/// Adam with decoupled weight decay (Kingma & Ba, arXiv:1412.6980; Loshchilov & Hutter, arXiv:1711.05101), as fastai
/// does it: the bias of the first moment is corrected by the present `beta1`, and steps are counted for each tensor.
///
/// Frozen parameters are left alone altogether: no decay, no step.
#[derive(Debug)]
pub struct Adam {
    config: AdamConfig,
    m: Tensor,
    v: Tensor,
    steps: Vec<u32>,
    /// Changes whenever the state does, other than by a device that steps in its place.
    version: u64,
}

/// Entries side by side that one kernel call updates.
struct Run {
    start: usize,
    len: usize,
    hyper: AdamStep,
}

impl Adam {
    /// An optimizer of these parameters, with moments 0.
    ///
    /// # Errors
    ///
    /// If a number of `config` is outside its range, or the device is out of memory.
    pub fn new(parameters: &Parameters, config: AdamConfig) -> Result<Self> {
        check_setting("beta2", config.beta2, |x| (0.0..1.0).contains(&x), "a number from 0 up to 1")?;
        check_setting("eps", config.eps, |x| x > 0.0 && x.is_finite(), "a positive number")?;
        let at_least_0 = |x: f64| x >= 0.0 && x.is_finite();
        check_setting("weight_decay", config.weight_decay, at_least_0, "a number of at least 0")?;
        let (m, v) = (parameters.values().zeros_like()?, parameters.values().zeros_like()?);
        Ok(Self { config, m, v, steps: vec![0; parameters.entries().len()], version: 0 })
    }

    /// Updates the trainable parameters by their gradients, and sets these to zero for the next backward pass, which costs
    /// next to nothing while they are at hand.
    ///
    /// # Errors
    ///
    /// If `parameters` are not those of [`Adam::new`], or `hyper` has not one rate for each group or a `beta1` outside
    /// [0, 1).
    pub fn step(&mut self, parameters: &Parameters, hyper: &Hyper<'_>) -> Result<()> {
        check_shape("parameters", parameters.values(), self.m.dims())?;
        check_setting("beta1", hyper.beta1, |x| (0.0..1.0).contains(&x), "a number from 0 up to 1")?;
        let groups = parameters.n_groups() as f64;
        check_setting("number of rates", hyper.lr.len() as f64, |n| n >= groups, "one for each group")?;
        self.version += 1;
        let runs = self.runs(parameters.entries(), hyper);
        parameters.touch();
        with_float!("parameters", parameters.values(), T => {
            write::<T, _>(parameters.values(), |p| {
                write::<T, _>(parameters.grads(), |g| {
                    write::<T, _>(&self.m, |m| write::<T, _>(&self.v, |v| update_runs::<T>(&runs, p, g, m, v)))
                })
            })???
        })?;
        parameters.mark_cleared();
        Ok(())
    }

    /// Counts a step of each trainable entry, and joins neighbours that are updated alike.
    fn runs(&mut self, entries: &[Entry], hyper: &Hyper<'_>) -> Vec<Run> {
        let AdamConfig { beta2, eps, weight_decay } = self.config;
        let mut runs: Vec<Run> = Vec::new();
        for (entry, step) in entries.iter().zip(&mut self.steps).filter(|(entry, _)| entry.trainable) {
            *step += 1;
            let weight_decay = if entry.decay { weight_decay } else { 0.0 };
            let (lr, beta1) = (hyper.lr[entry.group], hyper.beta1);
            let hyper = AdamStep { lr, beta1, beta2, eps, weight_decay, step: *step };
            match runs.last_mut() {
                Some(run) if run.hyper == hyper && run.start + run.len == entry.offset => run.len += entry.len,
                _ => runs.push(Run { start: entry.offset, len: entry.len, hyper }),
            }
        }
        runs
    }

    /// Forgets moments and steps, as `freeze` and `unfreeze` do.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn reset(&mut self) -> Result<()> {
        self.version += 1;
        self.steps.fill(0);
        with_float!("moments", self.m, T => {
            write::<T, _>(&self.m, |m| m.fill(0.0))?;
            write::<T, _>(&self.v, |v| v.fill(0.0))
        })
    }

    /// First moments, `(P)` in the order of [`Parameters::values`]; the optimizer's own memory, no copy.
    #[must_use]
    pub fn m(&self) -> &Tensor {
        &self.m
    }

    /// Second moments, `(P)`; no copy.
    #[must_use]
    pub fn v(&self) -> &Tensor {
        &self.v
    }

    /// What stays the same from step to step.
    #[must_use]
    pub fn config(&self) -> AdamConfig {
        self.config
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Updates so far, for each of [`Parameters::entries`].
    #[must_use]
    pub fn steps(&self) -> &[u32] {
        &self.steps
    }

    /// Takes over the state of another optimizer of the same parameters, by copy.
    ///
    /// # Errors
    ///
    /// If a length differs.
    pub fn load(&mut self, m: &Tensor, v: &Tensor, steps: &[u32]) -> Result<()> {
        check_shape("m", m, self.m.dims())?;
        check_shape("v", v, self.v.dims())?;
        if steps.len() != self.steps.len() {
            let expected = format!("[{}]", self.steps.len());
            return Err(Error::Shape { name: "steps".into(), expected, found: Shape::from(steps.len()) });
        }
        self.version += 1;
        copy_into(&self.m, m)?;
        copy_into(&self.v, v)?;
        self.steps.copy_from_slice(steps);
        Ok(())
    }
}

fn update_runs<T: cn_kernels::Float>(runs: &[Run], params: &mut [T], grads: &mut [T], m: &mut [T], v: &mut [T]) {
    for run in runs {
        let at = run.start..run.start + run.len;
        let (params, grads) = (&mut params[at.clone()], &mut grads[at.clone()]);
        let slices = AdamSlices { params, grads, m: &mut m[at.clone()], v: &mut v[at] };
        cn_kernels::optim::adam(&run.hyper, slices);
    }
}

fn check_setting(name: &'static str, value: f64, fits: impl Fn(f64) -> bool, expected: &'static str) -> Result<()> {
    if fits(value) { Ok(()) } else { Err(Error::Setting { name, value, expected }) }
}

#[cfg(test)]
mod tests;
