//! Training from drawn handwriting, all of it on the GPU.

use super::NETWORK;
use crate::output::Ui;
use crate::{glyphs, model};
use anyhow::Result;
use candle_core::{DType, Device as Candle};
use cn_augment::{Batcher, DrawKey, Framing, GpuBatcher, ImageStack, Normalisation, Policy, PolicyConfig};
use cn_cuda::{Device, Element, Products};
use cn_ops::gpu::{GpuConfig, GpuNetwork, GpuStep};
use cn_ops::{AdamConfig, Hyper, Loss, Mode, Model};
use cn_random::Purpose;
use cn_synth::{Handwriting, Sample, Style};
use cn_zoo::{Fit, ResNetConfig};
use std::ops::Range;
use std::time::Instant;

/// Steps of the training.
pub(super) const STEPS: usize = 300;
const SEED: u64 = 42;
const SIZE: usize = 64;
const BATCH: usize = 64;
const MAX_LR: f64 = 3e-3;
const CLASSES: usize = 15;
/// Who writes what trains, and what judges.
const WRITERS: [Range<u32>; 2] = [0..120, 1_000_000..1_000_040];
const PAGES: u32 = 2;
const ORDER: Purpose = Purpose::named("gpu-check.order");

/// Drawn images and their classes: those that train, then those that judge.
pub(super) struct Job {
    pixels: Vec<u8>,
    side: usize,
    labels: Vec<usize>,
    n_train: usize,
}

/// How a training ended.
pub(super) struct Trained {
    pub(super) top1: f64,
    pub(super) seconds: f64,
    pub(super) sha256: String,
}

/// How a network in use compares with the CPU's.
pub(super) struct Use {
    pub(super) n: usize,
    /// Images whose best class is the same.
    pub(super) n_same: usize,
    /// Length of the difference of all logits, relative to that of the CPU's.
    pub(super) error: f64,
}

impl Job {
    /// The built-in network over all images, here and on the device.
    pub(super) fn use_built_in(&self, device: &Device, element: Element) -> Result<Use> {
        let (file, card) = glyphs::open()?;
        let config = ResNetConfig::of_file(&file)?;
        let (channels, mut network) = (config.in_channels, config.build(SEED, DType::F32, &Candle::Cpu)?);
        cn_zoo::load(&mut network, &file, Fit::Transfer)?;
        let batcher = Batcher::new(channels, model::normalisation_of(&card)?)?;
        let stack = ImageStack::new(&self.pixels, [self.side, self.side, 1])?;
        let mut gpu = GpuNetwork::new(device, &mut network, GpuConfig { element, products: Products::Exact })?;
        let mut batches = GpuBatcher::new(device, &batcher, &stack, BATCH)?;
        let policy = Policy::whole(SIZE as u32)?;
        let (mut n_same, mut difference, mut whole) = (0, 0.0, 0.0);
        for ids in (0..self.labels.len() as u32).collect::<Vec<_>>().chunks(BATCH) {
            let images = stack.select(ids)?;
            let geometry = policy.geometries(&images, 0, 0, ids)?;
            let here = network.forward(&batcher.batch(&images, &geometry, &Candle::Cpu)?, Mode::Eval)?;
            let here = here.flatten_all()?.to_vec1::<f32>()?;
            batches.prepare(ids, &geometry)?;
            let there = gpu.judge([ids.len(), SIZE, SIZE, channels], |buffer| Ok(batches.launch(element, buffer)?))?;
            for (a, b) in here.iter().zip(&there) {
                difference += (f64::from(*a) - f64::from(*b)).powi(2);
                whole += f64::from(*a).powi(2);
            }
            n_same += here.chunks(CLASSES).zip(there.chunks(CLASSES)).filter(|(a, b)| best(a) == best(b)).count();
        }
        Ok(Use { n: self.labels.len(), n_same, error: (difference / whole).sqrt() })
    }

    pub(super) fn draw() -> Result<Self> {
        let handwriting = Handwriting::new(SEED, Style::default())?;
        let [train, val] = WRITERS.map(|writers| Sample::pages(writers, PAGES).collect::<Vec<_>>());
        let n_train = train.len();
        let samples = [train, val].concat();
        let labels = samples.iter().map(|sample| usize::from(sample.code()) - 1).collect();
        Ok(Self { pixels: handwriting.draw_all(&samples), side: handwriting.size(), labels, n_train })
    }

    pub(super) fn n_val(&self) -> usize {
        self.labels.len() - self.n_train
    }

    fn targets(&self, ids: &[u32]) -> Vec<f32> {
        let mut targets = vec![0.0; ids.len() * CLASSES];
        for (row, id) in targets.chunks_exact_mut(CLASSES).zip(ids) {
            row[self.labels[*id as usize]] = 1.0;
        }
        targets
    }

    /// A batch of these images as fastai augments them, prepared on the device.
    pub(super) fn augmented(&self, device: &Device, ids: &[u32], size: usize) -> Result<GpuBatcher> {
        let ids: Vec<u32> = ids.iter().map(|id| id % self.labels.len() as u32).collect();
        let stack = ImageStack::new(&self.pixels, [self.side, self.side, 1])?;
        let batcher = Batcher::new(3, Normalisation::imagenet())?;
        let mut batches = GpuBatcher::new(device, &batcher, &stack, ids.len())?;
        let policy = Policy::fastai_train(size as u32, 0.75)?;
        batches.prepare(&ids, &policy.geometries(&stack.select(&ids)?, SEED, 0, &ids)?)?;
        Ok(batches)
    }

    /// Trains ResNet-18 from nothing, and judges it.
    pub(super) fn train(&self, device: &Device, element: Element, ui: Ui) -> Result<Trained> {
        let begin = Instant::now();
        let mut network = NETWORK.build(SEED, DType::F32, &Candle::Cpu)?;
        let (loss, adam) = (Loss::CrossEntropy { label_smoothing: 0.0 }, AdamConfig::default());
        let mut gpu = GpuNetwork::new(device, &mut network, GpuConfig { element, products: Products::Exact })?;
        let stack = ImageStack::new(&self.pixels, [self.side, self.side, 1])?;
        let batcher = Batcher::new(3, Normalisation::imagenet())?;
        let mut batches = GpuBatcher::new(device, &batcher, &stack, BATCH)?;
        let policy = Policy::new(PolicyConfig::new(SIZE as u32, Framing::Affine(cn_augment::Affine::default())))?;
        let n_groups = network.parameters().n_groups();
        let steps_per_epoch = self.n_train / BATCH;
        for step in 0..STEPS {
            let epoch = (step / steps_per_epoch) as u32;
            let order = cn_random::permutation(SEED, epoch, ORDER, self.n_train as u32);
            let ids = &order[step % steps_per_epoch * BATCH..][..BATCH];
            let images = stack.select(ids)?;
            let keyed = images.iter().zip(ids);
            let geometry = keyed.map(|(image, &id)| policy.geometry(*image, DrawKey { seed: SEED, epoch, id }));
            batches.prepare(ids, &geometry.collect::<Result<Vec<_>, _>>()?)?;
            let lr = vec![rate(step); n_groups];
            let targets = self.targets(ids);
            let hyper = Hyper { lr: &lr, beta1: 0.9 };
            let (images, targets) = ([BATCH, SIZE, SIZE, 3], &targets[..]);
            let input = GpuStep { images, seed: SEED, epoch, ids, targets, loss, adam, hyper };
            gpu.step(&input, |buffer| Ok(batches.launch(element, buffer)?))?;
        }
        device.synchronise()?;
        if let Some(why) = gpu.not_recorded() {
            ui.warn(format_args!("steps were not recorded: {why}"));
        }
        let seconds = begin.elapsed().as_secs_f64();
        let top1 = self.judge(&mut gpu, &mut batches, &stack, element)?;
        gpu.store(&mut network)?;
        Ok(Trained { top1, seconds, sha256: cn_zoo::weights_sha256(&network.named_tensors()?)? })
    }

    fn judge(
        &self,
        gpu: &mut GpuNetwork,
        batches: &mut GpuBatcher,
        stack: &ImageStack<'_>,
        element: Element,
    ) -> Result<f64> {
        let policy = Policy::whole(SIZE as u32)?;
        let ids: Vec<u32> = (self.n_train as u32..self.labels.len() as u32).collect();
        let mut n_right = 0;
        for ids in ids.chunks(BATCH) {
            let images = stack.select(ids)?;
            batches.prepare(ids, &policy.geometries(&images, 0, 0, ids)?)?;
            let logits = gpu.judge([ids.len(), SIZE, SIZE, 3], |buffer| Ok(batches.launch(element, buffer)?))?;
            n_right += logits
                .chunks_exact(CLASSES)
                .zip(ids)
                .filter(|(row, id)| best(row) == self.labels[**id as usize])
                .count();
        }
        Ok(n_right as f64 / self.n_val() as f64)
    }
}

/// Position of the largest number.
fn best(row: &[f32]) -> usize {
    (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(0)
}

/// Up to the largest rate in a tenth of the steps, then down in a line.
fn rate(step: usize) -> f64 {
    let (at, warm) = ((step + 1) as f64 / STEPS as f64, 0.1);
    MAX_LR * if at < warm { at / warm } else { (1.0 - at) / (1.0 - warm) }
}
