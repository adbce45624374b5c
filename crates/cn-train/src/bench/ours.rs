//! The network, loss and optimizer of this workspace.

use super::{CLASSES, Job, Measured, OWN, Rival, timed};
use crate::args::Work;
use crate::host;
use crate::memory::{MEASURED_SIDE, mib, scaled};
use crate::problem::Problem;
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use cn_ops::{ActivationBytes, Adam, AdamConfig, Draw, Hyper, Loss, Mode, Model, Network, Pass, Precision, Timings};
use cn_zoo::{Arch, Head, ResNetConfig};
use std::time::{Duration, Instant};

pub(super) struct Ours {
    work: Work,
    pub(super) network: Network,
    precision: Precision,
    adam: Adam,
    images: Tensor,
    targets: Tensor,
    ids: Vec<u32>,
}

/// ResNet-18 with a plain head on random images.
pub(super) fn network(job: Job) -> Result<Ours> {
    let config = ResNetConfig { arch: Arch::ResNet18, in_channels: 3, n_classes: CLASSES, head: Head::Linear };
    let Job { work, image_size, batch_size, precision, frozen } = job;
    let mut network = config.build(42, DType::F32, &Device::Cpu)?.with_precision(precision);
    let head = network.parameters().n_groups() - 1;
    network.set_trainable(&|entry| !frozen || entry.group >= head || entry.norm)?;
    let images = Tensor::randn(0f32, 1.0, (batch_size, image_size, image_size, 3), &Device::Cpu)?;
    Ok(Ours {
        work,
        precision,
        adam: Adam::new(network.parameters(), AdamConfig::default())?,
        network,
        images,
        targets: targets(batch_size)?,
        ids: (0..).take(batch_size).collect(),
    })
}

/// Pixels of a batch that are measured without a look at the memory: 64 images of 128 px. The look leaves some behind,
/// which the peak of a small job would show.
const USUAL_PIXELS: usize = 64 * 128 * 128;

/// Refuses a job whose activations the machine has no memory for.
pub(super) fn check_memory(job: Job) -> Result<()> {
    let pixels = job.image_size.saturating_pow(2).saturating_mul(job.batch_size);
    let Some(available) = host::available_memory().filter(|_| pixels > USUAL_PIXELS) else { return Ok(()) };
    let small = Job { image_size: job.image_size.min(MEASURED_SIDE as usize), batch_size: 2, ..job };
    let mut network = network(small)?.network;
    let ActivationBytes { train, eval } = network.activation_bytes([small.image_size, small.image_size, 3])?;
    let each = scaled(if job.work == Work::Train { train } else { eval } as u64, job.image_size as u32);
    let weights = network.parameters().values().elem_count() as u64;
    // Three floats a pixel; weights, gradients and two moments.
    let bytes = each.saturating_mul(job.batch_size as u64).saturating_add(12 * pixels as u64 + 16 * weights);
    if bytes <= available {
        return Ok(());
    }
    let Job { image_size, batch_size, .. } = job;
    let problem = format!(
        "batches of {batch_size} images of {image_size} px need about {} MiB of memory, and there are {}",
        mib(bytes),
        mib(available)
    );
    Err(Problem::failure(problem).hint("use a smaller `--batch-size` or `--image-size`").into())
}

/// One label an image, in turn.
pub(super) fn targets(batch_size: usize) -> Result<Tensor> {
    let one = |i: usize| if i / CLASSES % CLASSES == i % CLASSES { 1f32 } else { 0.0 };
    Ok(Tensor::from_iter((0..batch_size * CLASSES).map(one), &Device::Cpu)?.reshape((batch_size, CLASSES))?)
}

impl Rival for Ours {
    fn name(&self) -> &'static str {
        OWN
    }

    fn run(&mut self, steps: usize) -> Result<Measured> {
        timed(steps, || match self.work {
            Work::Train => self.train_step(None).map(drop),
            Work::Infer => {
                self.network.forward(&self.images, Mode::Eval)?;
                Ok(())
            }
        })
    }
}

impl Ours {
    /// One step; `timings` receives what its layers take. Returns how long loss and optimizer took.
    pub(super) fn train_step(&mut self, mut timings: Option<&mut Timings>) -> Result<[Duration; 2]> {
        let draw = Draw { seed: 42, epoch: 0, ids: &self.ids };
        let pool = self.network.pool().clone();
        let pass = Pass::train(&pool, draw).with_precision(self.precision).timed(timings.as_deref_mut());
        let logits = self.network.forward_pass(&self.images, pass)?;
        let start = Instant::now();
        let (_, d_logits) = Loss::Bce.compute(&logits, &self.targets)?;
        let loss = start.elapsed();
        self.network.parameters().zero_grads()?;
        let pass = Pass::eval(&pool).with_precision(self.precision).timed(timings);
        self.network.backward_pass(&d_logits, pass)?;
        let start = Instant::now();
        self.adam.step(self.network.parameters(), &Hyper { lr: &[1e-3; 3], beta1: 0.9 })?;
        Ok([loss, start.elapsed()])
    }
}
