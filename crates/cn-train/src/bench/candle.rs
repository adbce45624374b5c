//! The same network built of candle-nn, trained by candle's autograd.

use super::ours::targets;
use super::{CLASSES, Job, Measured, Rival, timed};
use crate::args::Work;
use anyhow::Result;
use candle_core::{DType, Device, ModuleT, Tensor};
use candle_nn::{
    AdamW, BatchNorm, Conv2d, Conv2dConfig, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, batch_norm,
    conv2d_no_bias, linear,
};

struct Candle {
    work: Work,
    network: ResNet18,
    adam: AdamW,
    images: Tensor,
    targets: Tensor,
}

/// ResNet-18 on random images.
pub(super) fn rival(job: Job) -> Result<Box<dyn Rival>> {
    let Job { work, image_size, batch_size, .. } = job;
    let vars = VarMap::new();
    let network = ResNet18::new(&VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
    let adam = AdamW::new(vars.all_vars(), ParamsAdamW::default())?;
    let images = Tensor::randn(0f32, 1.0, (batch_size, 3, image_size, image_size), &Device::Cpu)?;
    Ok(Box::new(Candle { work, network, adam, images, targets: targets(batch_size)? }))
}

impl Rival for Candle {
    fn name(&self) -> &'static str {
        "candle"
    }

    fn run(&mut self, steps: usize) -> Result<Measured> {
        timed(steps, || match self.work {
            Work::Train => {
                let logits = self.network.forward_t(&self.images, true)?;
                let loss = candle_nn::loss::binary_cross_entropy_with_logit(&logits, &self.targets)?;
                Ok(self.adam.backward_step(&loss)?)
            }
            Work::Infer => {
                self.network.forward_t(&self.images, false)?;
                Ok(())
            }
        })
    }
}

struct ResNet18 {
    stem: Conv2d,
    norm: BatchNorm,
    blocks: Vec<Block>,
    fc: Linear,
}

impl ResNet18 {
    fn new(vb: &VarBuilder<'_>) -> candle_core::Result<Self> {
        let config = Conv2dConfig { padding: 3, stride: 2, ..Conv2dConfig::default() };
        let mut blocks = Vec::new();
        for (stage, [inputs, width]) in [[64, 64], [64, 128], [128, 256], [256, 512]].into_iter().enumerate() {
            for (i, inputs) in [inputs, width].into_iter().enumerate() {
                blocks.push(Block::new(inputs, width, &vb.pp(format!("layer{}.{i}", stage + 1)))?);
            }
        }
        Ok(Self {
            stem: conv2d_no_bias(3, 64, 7, config, vb.pp("conv1"))?,
            norm: batch_norm(64, 1e-5, vb.pp("bn1"))?,
            blocks,
            fc: linear(512, CLASSES, vb.pp("fc"))?,
        })
    }
}

impl ModuleT for ResNet18 {
    fn forward_t(&self, images: &Tensor, train: bool) -> candle_core::Result<Tensor> {
        let x = self.norm.forward_t(&self.stem.forward(images)?, train)?.relu()?;
        // ResNet's 3x3 pool with stride 2 has no gradient in candle.
        let x = x.max_pool2d_with_stride(2, 2)?;
        let x = self.blocks.iter().try_fold(x, |x, block| block.forward_t(&x, train))?;
        self.fc.forward(&x.mean((2, 3))?)
    }
}

struct Block {
    convs: [Conv2d; 2],
    norms: [BatchNorm; 2],
    shortcut: Option<(Conv2d, BatchNorm)>,
}

impl Block {
    fn new(inputs: usize, width: usize, vb: &VarBuilder<'_>) -> candle_core::Result<Self> {
        let stride = if inputs == width { 1 } else { 2 };
        let config = |stride, padding| Conv2dConfig { stride, padding, ..Conv2dConfig::default() };
        let shortcut = match stride {
            1 => None,
            _ => Some((
                conv2d_no_bias(inputs, width, 1, config(stride, 0), vb.pp("downsample.0"))?,
                batch_norm(width, 1e-5, vb.pp("downsample.1"))?,
            )),
        };
        Ok(Self {
            convs: [
                conv2d_no_bias(inputs, width, 3, config(stride, 1), vb.pp("conv1"))?,
                conv2d_no_bias(width, width, 3, config(1, 1), vb.pp("conv2"))?,
            ],
            norms: [batch_norm(width, 1e-5, vb.pp("bn1"))?, batch_norm(width, 1e-5, vb.pp("bn2"))?],
            shortcut,
        })
    }
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, train: bool) -> candle_core::Result<Tensor> {
        let [conv1, conv2] = &self.convs;
        let [norm1, norm2] = &self.norms;
        let y = norm1.forward_t(&conv1.forward(x)?, train)?.relu()?;
        let y = norm2.forward_t(&conv2.forward(&y)?, train)?;
        let x = match &self.shortcut {
            Some((conv, norm)) => norm.forward_t(&conv.forward(x)?, train)?,
            None => x.clone(),
        };
        (x + y)?.relu()
    }
}
