//! Images a second on the GPU.

use super::NETWORK;
use crate::args::GpuPrecision;
use crate::output::Ui;
use anyhow::Result;
use candle_core::{DType, Device as Candle};
use clap::ValueEnum;
use cn_augment::GpuBatcher;
use cn_cuda::{Buffer, Device, Element, Products, Timing};
use cn_ops::gpu::{GpuConfig, GpuNetwork, GpuStep};
use cn_ops::{AdamConfig, Hyper, Loss, Model};
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Instant;

/// Sides of images, with batches.
const SHAPES: [(usize, usize); 7] = [(64, 64), (64, 256), (128, 64), (128, 256), (128, 512), (224, 64), (224, 256)];
/// Steps before the clock starts: kernels are loaded, libraries asked, launches recorded.
const WARM_UP: usize = 5;
/// Shortest time that is measured, in seconds, and steps at most.
const SHORTEST: f64 = 0.5;
const MAX_STEPS: usize = 500;
const CLASSES: usize = 15;

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    pub(super) work: &'static str,
    pub(super) precision: &'static str,
    pub(super) image_size: usize,
    pub(super) batch_size: usize,
    /// Images a second.
    pub(super) img_s: f64,
    /// Those of PyTorch, eager and compiled, where they were measured.
    pub(super) torch_eager_img_s: Option<f64>,
    pub(super) torch_compile_img_s: Option<f64>,
}

pub(super) fn name_of(element: Element) -> &'static str {
    match element {
        Element::F32 => "f32",
        Element::Bf16 => "bf16",
    }
}

/// Measures every size, batch and precision.
pub(super) fn table(device: &Device, ui: Ui) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (image_size, batch_size) in SHAPES {
        for precision in GpuPrecision::value_variants() {
            let setup = Setup { precision: *precision, image_size, batch_size };
            let precision = setup.precision_name();
            let line = Line {
                work: "train",
                precision,
                image_size,
                batch_size,
                img_s: 0.0,
                torch_eager_img_s: None,
                torch_compile_img_s: None,
            };
            match setup.measure(device) {
                Ok([train, infer]) => {
                    lines.push(Line { img_s: train, ..line.clone() });
                    lines.push(Line { work: "infer", img_s: infer, ..line });
                }
                Err(error) => ui.warn(format_args!("{precision}, {image_size} px, batch {batch_size}: {error:#}")),
            }
        }
    }
    Ok(lines)
}

/// A network, and the batches that it works on.
pub(super) struct Setup {
    pub(super) precision: GpuPrecision,
    pub(super) image_size: usize,
    pub(super) batch_size: usize,
}

/// A network on the device with a batch, ready to step.
pub(super) struct Ready {
    gpu: GpuNetwork,
    batch: Batch,
    /// Whether the images of training and of use are there.
    written: [bool; 2],
}

struct Batch {
    element: Element,
    images: [usize; 4],
    lr: Vec<f64>,
    ids: Vec<u32>,
    targets: Vec<f32>,
    pixels: Vec<f32>,
}

impl Setup {
    fn precision_name(&self) -> &'static str {
        match self.precision {
            GpuPrecision::F32 => "f32",
            GpuPrecision::Tf32 => "tf32",
            GpuPrecision::Bf16 => "bf16",
        }
    }

    /// Builds the network on the device.
    pub(super) fn ready(&self, device: &Device) -> Result<Ready> {
        let Self { precision, image_size, batch_size: batch } = *self;
        let (element, products) = match precision {
            GpuPrecision::F32 => (Element::F32, Products::Exact),
            GpuPrecision::Tf32 => (Element::F32, Products::Tf32),
            GpuPrecision::Bf16 => (Element::Bf16, Products::Exact),
        };
        let mut network = NETWORK.build(42, DType::F32, &Candle::Cpu)?;
        let gpu = GpuNetwork::new(device, &mut network, GpuConfig { element, products })?;
        let images = [batch, image_size, image_size, 3];
        let mut pixels = vec![0.0; images.iter().product()];
        cn_random::fill_normal(1, "gpu-check.pixels", 1.0, &mut pixels);
        let lr = vec![1e-4; network.parameters().n_groups()];
        let ids = (0..batch as u32).collect();
        let is_target = |i: usize| i % CLASSES == i / CLASSES % CLASSES;
        let targets = (0..batch * CLASSES).map(|i| f32::from(u8::from(is_target(i)))).collect();
        Ok(Ready { gpu, batch: Batch { element, images, lr, ids, targets, pixels }, written: [false; 2] })
    }

    /// Images a second of training and of use, with images that lie there.
    fn measure(&self, device: &Device) -> Result<[f64; 2]> {
        let mut ready = self.ready(device)?;
        Ok([ready.train_rate(device)?, ready.use_rate(device)?])
    }
}

impl Ready {
    /// One training step; the first one writes the images.
    fn step(&mut self) -> Result<()> {
        let Self { gpu, batch, written } = self;
        let again = std::mem::replace(&mut written[0], true);
        Ok(gpu.step(&batch.input(), |to| if again { Ok(()) } else { batch.write(to) })?)
    }

    /// Images a second of training. They are written once: as with PyTorch, they are on the device already.
    pub(super) fn train_rate(&mut self, device: &Device) -> Result<f64> {
        rate(device, self.batch.ids.len(), || self.step())
    }

    /// The same of use.
    fn use_rate(&mut self, device: &Device) -> Result<f64> {
        rate(device, self.batch.ids.len(), || self.judge())
    }

    /// One step on a batch that `batches` has prepared, launch by launch.
    pub(super) fn time_step(&mut self, batches: &GpuBatcher) -> Result<Option<Vec<Timing>>> {
        let Self { gpu, batch, .. } = self;
        Ok(gpu.time_step(&batch.input(), |to| Ok(batches.launch(batch.element, to)?))?)
    }

    /// One step of use; the first one writes the images.
    fn judge(&mut self) -> Result<()> {
        let Self { gpu, batch, written } = self;
        let again = std::mem::replace(&mut written[1], true);
        Ok(gpu.launch_judging(batch.images, |to| if again { Ok(()) } else { batch.write(to) })?)
    }
}

impl Batch {
    fn input(&self) -> GpuStep<'_> {
        let (adam, hyper) = (AdamConfig::default(), Hyper { lr: &self.lr, beta1: 0.9 });
        let Self { images, ids, targets, .. } = self;
        GpuStep { images: *images, seed: 1, epoch: 0, ids, targets, loss: Loss::Bce, adam, hyper }
    }

    fn write(&self, to: &Buffer) -> cn_ops::Result<()> {
        Ok(to.write(self.element, &self.pixels)?)
    }
}

/// Images a second of a step that is launched again and again.
fn rate(device: &Device, batch: usize, mut step: impl FnMut() -> Result<()>) -> Result<f64> {
    for _ in 0..WARM_UP {
        step()?;
    }
    device.synchronise()?;
    let (begin, mut n) = (Instant::now(), 0);
    // The host runs ahead of the device, so that whole bunches are timed.
    while begin.elapsed().as_secs_f64() < SHORTEST && n < MAX_STEPS {
        for _ in 0..10 {
            step()?;
        }
        device.synchronise()?;
        n += 10;
    }
    Ok((n * batch) as f64 / begin.elapsed().as_secs_f64())
}

/// The table for people.
pub(super) fn text(lines: &[Line]) -> String {
    let mut text =
        String::from("work   precision  px   batch     images/s  PyTorch eager  compiled  ratio to the best\n");
    for line in lines {
        let Line {
            work,
            precision,
            image_size,
            batch_size,
            img_s,
            torch_eager_img_s: eager,
            torch_compile_img_s: compiled,
        } = line;
        let show = |value: &Option<f64>| value.map_or_else(|| "-".into(), |v| format!("{v:.0}"));
        let best = eager.iter().chain(compiled).copied().fold(f64::NAN, f64::max);
        let ratio = if best.is_nan() { "-".into() } else { format!("{:.2}", img_s / best) };
        let _ = writeln!(
            text,
            "{work:<6} {precision:<9} {image_size:>4} {batch_size:>6} {img_s:>12.0} {:>14} {:>9} {ratio:>18}",
            show(eager),
            show(compiled)
        );
    }
    text
}
