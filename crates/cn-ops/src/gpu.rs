//! Networks on a GPU.
//!
//! A [`Network`](crate::Network) stays what describes and keeps a model, on the CPU. [`GpuNetwork`] writes its layers down
//! as launches over memory that is planned once, and trains there; [`check_kernels`] compares every kernel with the CPU's,
//! on random shapes, and [`check_network`] whole training steps.

mod check;
mod layout;
mod memory;
mod network;
mod parameters;
mod program;
mod recorded;
mod side;
mod spec;

pub use check::{Check, check_kernels, check_large_kernels, check_network};
pub use network::{GpuConfig, GpuNetwork, GpuStep};
pub(crate) use side::GpuSide;
pub use spec::{Bias, NormSpec, Spec};

use cn_cuda::AdamRates;
use cn_kernels::optim::AdamStep;
use cn_random::Draws;

/// The rates of one update as the device multiplies with them; the same numbers as on the CPU.
fn adam_rates(hyper: &AdamStep) -> AdamRates {
    let debias = |beta: f64| 1.0 - beta.powi(i32::try_from(hyper.step).unwrap_or(i32::MAX));
    AdamRates {
        keep: (1.0 - hyper.lr * hyper.weight_decay) as f32,
        beta: [hyper.beta1 as f32, hyper.beta2 as f32],
        rest: [(1.0 - hyper.beta1) as f32, (1.0 - hyper.beta2) as f32],
        rate: (hyper.lr / debias(hyper.beta1)) as f32,
        unbias: (1.0 / debias(hyper.beta2)) as f32,
        eps: hyper.eps as f32,
        trained: 1,
    }
}

/// The factors of a dropout layer for images `ids`, 0 or the scale, from cn-random's own streams.
fn dropout_mask(layer: &cn_cuda::Dropout, seed: u64, epoch: u32, ids: &[u32], row_len: usize) -> Vec<f32> {
    let purpose = cn_random::Purpose::of_identifier(layer.purpose);
    let threshold = (layer.p * 2f64.powi(32)).round() as u32;
    let scale = (1.0 / (1.0 - layer.p)) as f32;
    let row = |id: &u32| {
        let mut draws = Draws::new(seed, epoch, *id, purpose);
        (0..row_len).map(|_| if draws.next_u32() < threshold { 0.0 } else { scale }).collect::<Vec<_>>()
    };
    ids.iter().flat_map(row).collect()
}
