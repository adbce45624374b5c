//! The network, loss and optimizer of this workspace.

use super::{CLASSES, Job, Rival, timed};
use crate::args::Work;
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use cn_ops::{Adam, AdamConfig, Draw, Hyper, Loss, Mode, Model, Network};
use cn_zoo::{Arch, Head, ResNetConfig};

struct Ours {
    work: Work,
    network: Network,
    adam: Adam,
    images: Tensor,
    targets: Tensor,
    ids: Vec<u32>,
}

/// ResNet-18 with a plain head on random images.
pub(super) fn rival(job: Job) -> Result<Box<dyn Rival>> {
    let config = ResNetConfig { arch: Arch::ResNet18, in_channels: 3, n_classes: CLASSES, head: Head::Linear };
    let network = config.build(42, DType::F32, &Device::Cpu)?;
    let Job { work, image_size, batch_size } = job;
    let images = Tensor::randn(0f32, 1.0, (batch_size, image_size, image_size, 3), &Device::Cpu)?;
    Ok(Box::new(Ours {
        work,
        adam: Adam::new(network.parameters(), AdamConfig::default())?,
        network,
        images,
        targets: targets(batch_size)?,
        ids: (0..).take(batch_size).collect(),
    }))
}

/// One label an image, in turn.
pub(super) fn targets(batch_size: usize) -> Result<Tensor> {
    let one = |i: usize| if i / CLASSES % CLASSES == i % CLASSES { 1f32 } else { 0.0 };
    Ok(Tensor::from_iter((0..batch_size * CLASSES).map(one), &Device::Cpu)?.reshape((batch_size, CLASSES))?)
}

impl Rival for Ours {
    fn name(&self) -> &'static str {
        "cn"
    }

    fn run(&mut self, steps: usize) -> Result<Vec<f64>> {
        timed(steps, || match self.work {
            Work::Train => self.train_step(),
            Work::Infer => {
                self.network.forward(&self.images, Mode::Eval)?;
                Ok(())
            }
        })
    }
}

impl Ours {
    fn train_step(&mut self) -> Result<()> {
        let draw = Draw { seed: 42, epoch: 0, ids: &self.ids };
        let logits = self.network.forward(&self.images, Mode::Train(draw))?;
        let (_, d_logits) = Loss::Bce.compute(&logits, &self.targets)?;
        self.network.parameters().zero_grads()?;
        self.network.backward(&d_logits)?;
        self.adam.step(self.network.parameters(), &Hyper { lr: &[1e-3; 3], beta1: 0.9 })?;
        Ok(())
    }
}
