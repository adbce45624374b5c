//! Images a second on the GPU.

use super::NETWORK;
use crate::output::Ui;
use anyhow::Result;
use candle_core::{DType, Device as Candle};
use cn_cuda::{Device, Element, Products};
use cn_ops::gpu::{GpuConfig, GpuNetwork, GpuStep};
use cn_ops::{AdamConfig, Hyper, Loss, Model};
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Instant;

const SIZES: [usize; 3] = [64, 128, 224];
const BATCHES: [usize; 2] = [64, 256];
/// Steps before the clock starts: kernels are loaded, libraries asked, launches recorded.
const WARM_UP: usize = 5;
/// Shortest time that is measured, in seconds, and steps at most.
const SHORTEST: f64 = 1.0;
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
    let precisions = [
        ("f32", Element::F32, Products::Exact),
        ("tf32", Element::F32, Products::Tf32),
        ("bf16", Element::Bf16, Products::Exact),
    ];
    let mut lines = Vec::new();
    for image_size in SIZES {
        for batch_size in BATCHES {
            for (precision, element, products) in precisions {
                let line = Line {
                    work: "train",
                    precision,
                    image_size,
                    batch_size,
                    img_s: 0.0,
                    torch_eager_img_s: None,
                    torch_compile_img_s: None,
                };
                let setup = Setup { element, products, image_size, batch_size };
                match setup.measure(device) {
                    Ok([train, infer]) => {
                        lines.push(Line { img_s: train, ..line.clone() });
                        lines.push(Line { work: "infer", img_s: infer, ..line });
                    }
                    Err(error) => ui.warn(format_args!("{precision}, {image_size} px, batch {batch_size}: {error:#}")),
                }
            }
        }
    }
    Ok(lines)
}

struct Setup {
    element: Element,
    products: Products,
    image_size: usize,
    batch_size: usize,
}

impl Setup {
    /// Images a second of training and of use, with images that lie there.
    fn measure(&self, device: &Device) -> Result<[f64; 2]> {
        let Self { element, products, image_size, batch_size: batch } = *self;
        let mut network = NETWORK.build(42, DType::F32, &Candle::Cpu)?;
        let (images, adam) = ([batch, image_size, image_size, 3], AdamConfig::default());
        let mut gpu = GpuNetwork::new(device, &mut network, GpuConfig { element, products })?;
        let lr = vec![1e-4; network.parameters().n_groups()];
        let ids: Vec<u32> = (0..batch as u32).collect();
        let targets: Vec<f32> =
            (0..batch * CLASSES).map(|i| f32::from(u8::from(i % CLASSES == i / CLASSES % CLASSES))).collect();
        let pixels = vec![0.25; batch * image_size * image_size * 3];
        // Written once: as with PyTorch, the images are on the device already.
        let mut written = false;
        let train = rate(device, batch, || {
            let (ids, targets, hyper) = (&ids[..], &targets[..], Hyper { lr: &lr, beta1: 0.9 });
            let input = GpuStep { images, seed: 1, epoch: 0, ids, targets, loss: Loss::Bce, adam, hyper };
            let first = !std::mem::replace(&mut written, true);
            gpu.step(&input, |to| if first { Ok(to.write(element, &pixels)?) } else { Ok(()) })?;
            Ok(())
        })?;
        let mut written = false;
        let infer = rate(device, batch, || {
            let first = !std::mem::replace(&mut written, true);
            gpu.launch_judging(images, |to| if first { Ok(to.write(element, &pixels)?) } else { Ok(()) })?;
            Ok(())
        })?;
        Ok([train, infer])
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
