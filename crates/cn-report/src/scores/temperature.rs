use serde::Serialize;

use crate::error::Result;
use crate::run_folder::{Activation, Prediction, Predictions};

/// A temperature that logits are divided by, so that probabilities mean what they say (Guo et al., arXiv:1706.04599).
///
/// It changes no order of classes within an image: top-1 stays.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Temperature {
    /// Above 1 the model was too sure, below 1 not sure enough.
    pub value: f64,
    /// Mean loss of the images that it was fitted on, as they were.
    pub loss_before: f64,
    /// The same at the temperature.
    pub loss_after: f64,
}

/// Temperatures that are tried: 1/20 to 20.
const LARGEST: f64 = 20.0;
/// Each step leaves 0.618 of the interval: 80 leave nothing that f64 can tell.
const STEPS: usize = 80;
/// A minimum this near an end, relative to it, is none.
const AT_END: f64 = 1e-6;

impl Predictions {
    /// The temperature of the least loss; `None` without images, or where the loss falls to an end of 1/20 to 20: it
    /// does where every image is right, and then says nothing about how sure the model may be.
    ///
    /// Fit it on images that no number is reported on. The loss is convex in `1 / temperature`, so a golden-section
    /// search finds its one minimum; logits are taken back from the probabilities.
    #[must_use]
    pub fn fit_temperature(&self, activation: Activation) -> Option<Temperature> {
        if self.rows().is_empty() {
            return None;
        }
        let logits: Vec<Vec<f64>> = self.rows().iter().map(|row| logits(row, activation)).collect();
        let loss = |inverse: f64| {
            let images = self.rows().iter().zip(&logits);
            images.map(|(row, x)| loss_of(row, x, inverse, activation)).sum::<f64>() / logits.len() as f64
        };
        let inverse = minimum(&loss, 1.0 / LARGEST, LARGEST);
        let ends = [1.0 / LARGEST, LARGEST];
        if ends.into_iter().any(|end| (inverse / end - 1.0).abs() < AT_END) {
            return None;
        }
        Some(Temperature { value: 1.0 / inverse, loss_before: loss(1.0), loss_after: loss(inverse) })
    }

    /// The same table at this temperature; 1 changes nothing but roundings.
    ///
    /// # Errors
    ///
    /// If the temperature makes values that are no probabilities, as 0 does.
    pub fn at_temperature(&self, temperature: f64, activation: Activation) -> Result<Self> {
        let mut table = Self::new(self.classes().to_vec())?;
        for row in self.rows() {
            let scaled: Vec<f64> = logits(row, activation).iter().map(|x| x / temperature).collect();
            let probabilities = match activation {
                Activation::Sigmoid => scaled.iter().map(|x| (1.0 / (1.0 + (-x).exp())) as f32).collect(),
                Activation::Softmax => {
                    let total = log_sum_exp(&scaled);
                    scaled.iter().map(|x| (x - total).exp() as f32).collect()
                }
            };
            table.push(Prediction { probabilities, ..row.clone() })?;
        }
        Ok(table)
    }
}

/// The logits that gave these probabilities; of 0 and 1, as far as an f32 can prove.
fn logits(row: &Prediction, activation: Activation) -> Vec<f64> {
    let smallest = f64::from(f32::MIN_POSITIVE);
    let ln = |p: f64| p.max(smallest).ln();
    let largest = 25.0 * std::f64::consts::LN_2;
    let of = |&p: &f32| match (activation, f64::from(p)) {
        (Activation::Sigmoid, p) => (ln(p) - (-p).ln_1p().max(-largest)).min(largest),
        (Activation::Softmax, p) => ln(p),
    };
    row.probabilities.iter().map(of).collect()
}

fn loss_of(row: &Prediction, x: &[f64], inverse: f64, activation: Activation) -> f64 {
    let is = |class: usize| row.targets.binary_search(&class).is_ok();
    match activation {
        Activation::Sigmoid => {
            let term = |(class, &x): (usize, &f64)| {
                let x = inverse * x;
                x.max(0.0) - if is(class) { x } else { 0.0 } + (-x.abs()).exp().ln_1p()
            };
            x.iter().enumerate().map(term).sum::<f64>() / x.len() as f64
        }
        Activation::Softmax => {
            let scaled: Vec<f64> = x.iter().map(|x| inverse * x).collect();
            let total = log_sum_exp(&scaled);
            row.targets.iter().map(|&class| total - scaled[class]).sum()
        }
    }
}

fn log_sum_exp(x: &[f64]) -> f64 {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    max + x.iter().map(|x| (x - max).exp()).sum::<f64>().ln()
}

/// Where a function with one minimum has it, by golden sections.
fn minimum(f: &impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> f64 {
    let share = (5f64.sqrt() - 1.0) / 2.0;
    let inner = |low: f64, high: f64| (high - share * (high - low), low + share * (high - low));
    let (mut a, mut b) = inner(low, high);
    let (mut fa, mut fb) = (f(a), f(b));
    for _ in 0..STEPS {
        if fa <= fb {
            (high, b, fb) = (b, a, fa);
            a = inner(low, high).0;
            fa = f(a);
        } else {
            (low, a, fa) = (a, b, fb);
            b = inner(low, high).1;
            fb = f(b);
        }
    }
    f64::midpoint(low, high)
}
