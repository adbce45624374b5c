//! Every kernel against the CPU's. The same code judges the emulation in tests and a GPU where there is one.

mod convolutions;
mod layers;
mod network;
mod steps;

pub use network::check_network;

use cn_cuda::{Buffer, Device, Element, Result};
use cn_random::{Draws, Purpose, fill_normal};

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Kernel, type and shape.
    pub name: String,
    /// Length of the difference, relative to the length of what the CPU computes.
    pub error: f64,
    /// Largest error that passes.
    pub tolerance: f64,
}

impl Check {
    fn of(name: String, tolerance: f64, found: &[f32], expected: &[f32]) -> Self {
        let length = |squares: f64| squares.sqrt();
        let square = |x: f64| x * x;
        let differences = found.iter().zip(expected).map(|(a, b)| square(f64::from(*a) - f64::from(*b)));
        let difference = length(differences.sum());
        let whole = length(expected.iter().map(|b| square(f64::from(*b))).sum());
        // Nothing expected: any difference is all.
        let error = if found.len() != expected.len() {
            f64::INFINITY
        } else if difference == 0.0 {
            0.0
        } else {
            difference / whole
        };
        Self { name, error, tolerance }
    }

    /// Whether the device agrees with the CPU.
    #[must_use]
    pub fn passes(&self) -> bool {
        // NaN passes nothing.
        self.error <= self.tolerance
    }
}

/// Compares every kernel for networks on `device` with the CPU, on shapes drawn by `seed`.
///
/// # Errors
///
/// If the device fails.
pub fn check_kernels(device: &Device, seed: u64) -> Result<Vec<Check>> {
    let mut lab = Lab { device, seed, checks: Vec::new(), n_draws: 0 };
    for element in [Element::F32, Element::Bf16] {
        convolutions::check(&mut lab, element)?;
        layers::check(&mut lab, element)?;
    }
    steps::check(&mut lab)?;
    Ok(lab.checks)
}

/// The same for sizes at which blocks go round several times.
///
/// # Errors
///
/// If the device fails.
pub fn check_large_kernels(device: &Device, seed: u64) -> Result<Vec<Check>> {
    let mut lab = Lab { device, seed, checks: Vec::new(), n_draws: 0 };
    convolutions::check_large(&mut lab)?;
    Ok(lab.checks)
}

/// Sums of `f32` in another order than the CPU's.
const F32: f64 = 1e-5;
/// One rounding to 8 bits of each result.
const BF16: f64 = 4e-3;

/// A device, and what was found out about it.
struct Lab<'a> {
    device: &'a Device,
    seed: u64,
    checks: Vec<Check>,
    n_draws: u32,
}

impl Lab<'_> {
    /// Another draw for each call.
    fn draws(&mut self) -> Draws {
        self.n_draws += 1;
        Draws::new(self.seed, 0, self.n_draws, Purpose::named("gpu.check"))
    }

    /// A size from `low` to `high`.
    fn size(&mut self, low: u32, high: u32) -> usize {
        (low + self.draws().below(high - low + 1)) as usize
    }

    /// Normal numbers on the device, rounded to the type there, and the same on the host.
    fn random(&mut self, element: Element, n: usize) -> Result<(Buffer, Vec<f32>)> {
        let mut values = vec![0.0; n];
        self.n_draws += 1;
        fill_normal(self.seed, &format!("gpu.check.{}", self.n_draws), 1.0, &mut values);
        self.put(element, &values)
    }

    /// These numbers on the device, rounded to the type there, and the same on the host.
    fn put(&mut self, element: Element, values: &[f32]) -> Result<(Buffer, Vec<f32>)> {
        let buffer = self.device.allocate(values.len() * element.size(), "numbers to compare")?;
        buffer.write(element, values)?;
        let rounded = buffer.read(element)?;
        Ok((buffer, rounded))
    }

    /// Room for `n` numbers, with something in it that must be overwritten.
    fn room(&mut self, element: Element, n: usize) -> Result<Buffer> {
        Ok(self.put(element, &vec![f32::NAN; n])?.0)
    }

    fn compare(&mut self, name: String, tolerance: f64, found: &[f32], expected: &[f32]) {
        self.checks.push(Check::of(name, tolerance, found, expected));
    }

    /// Compares what is on the device.
    fn judge(&mut self, name: String, element: Element, found: &Buffer, expected: &[f32]) -> Result<()> {
        let tolerance = if element == Element::F32 { F32 } else { BF16 };
        let found = found.read(element)?;
        self.compare(name, tolerance, &found, expected);
        Ok(())
    }
}

fn name_of(element: Element) -> &'static str {
    match element {
        Element::F32 => "f32",
        Element::Bf16 => "bf16",
    }
}

#[cfg(test)]
mod tests;
