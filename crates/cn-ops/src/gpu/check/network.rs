//! Training steps of a whole network, on both.

use super::Check;
use crate::gpu::{GpuConfig, GpuNetwork, GpuStep};
use crate::{Adam, AdamConfig, Draw, Hyper, Loss, Mode, Model, Network, Result};
use candle_core::{Device as Candle, Tensor};
use cn_cuda::{Device, Element, Products};
use cn_random::fill_normal;

const SEED: u64 = 42;
const N_STEPS: usize = 3;
const LR: f64 = 1e-3;
/// Far above the gradients' own size: an update is then about as large as its gradient, and tells as much of it. With the
/// usual 1e-8 the first updates are the gradients' signs, which noise turns over.
const EPS: f64 = 0.1;

/// Trains `network` for a few steps on random images, on the device and on the CPU, and compares: logits, loss and
/// gradients of the first step, then what all steps changed of the weights, running moments and logits in use.
///
/// `images` are `[B, H, W, C]`. The network is trained afterwards.
///
/// # Errors
///
/// If a layer has no kernels for the device, a shape does not fit, or the device fails.
pub fn check_network(
    device: &Device,
    network: &mut Network,
    images: [usize; 4],
    element: Element,
) -> Result<Vec<Check>> {
    let (dims, batch, adam) = (images, images[0], AdamConfig { eps: EPS, ..AdamConfig::default() });
    let before = tensors(network)?;
    let mut gpu = GpuNetwork::new(device, network, GpuConfig { element, products: Products::Exact })?;
    let mut cpu_adam = Adam::new(network.parameters(), adam)?;
    let ids: Vec<u32> = (0..batch as u32).map(|i| i * 37).collect();
    let mut pixels = vec![0.0; images.iter().product::<usize>()];
    fill_normal(SEED, "gpu.check.images", 1.0, &mut pixels);
    let images = Tensor::from_slice(&pixels, &dims[..], &Candle::Cpu)?;
    let classes = network.forward(&images, Mode::Eval)?.dim(1)?;
    let targets: Vec<f32> =
        (0..batch * classes).map(|i| f32::from(u8::from(i % classes == i / classes % classes))).collect();
    let target_tensor = Tensor::from_slice(&targets, (batch, classes), &Candle::Cpu)?;
    let lr = vec![LR; network.parameters().n_groups()];
    // What is recorded must not read the host.
    let pixels_there = device.allocate(pixels.len() * element.size(), "images")?;
    pixels_there.write(element, &pixels)?;
    let mut judge = Judge { element, checks: Vec::new() };
    for step in 0..N_STEPS {
        let (epoch, hyper) = (step as u32, Hyper { lr: &lr, beta1: 0.9 });
        let logits = network.forward(&images, Mode::Train(Draw { seed: SEED, epoch, ids: &ids }))?;
        let (loss, d_logits) = Loss::Bce.compute(&logits, &target_tensor)?;
        network.parameters().zero_grads()?;
        network.backward(&d_logits)?;
        let grads = network.parameters().grads().to_vec1::<f32>()?;
        cpu_adam.step(network.parameters(), &hyper)?;

        let (images, targets) = (dims, &targets[..]);
        let input = GpuStep { images, seed: SEED, epoch, ids: &ids, targets, loss: Loss::Bce, adam, hyper };
        gpu.step(&input, |buffer| Ok(buffer.copy_from(&pixels_there)?))?;
        if !gpu.is_finite()? {
            judge.compare("finite numbers", [0.0; 2], &[0.0], &[1.0]);
        }
        if step == 0 {
            judge.compare("logits of a step", [1e-3, 0.1], &gpu.train_logits()?, &flat(&logits)?);
            judge.compare("loss of a step", [1e-3, 0.05], &[gpu.loss()?], &[loss.to_scalar()?]);
            judge.compare("gradients of a step", [1e-3, 0.5], &gpu.grads(network)?.to_vec1::<f32>()?, &grads);
        }
    }
    let expected = tensors(network)?;
    let expected_logits = flat(&*network.forward(&images, Mode::Eval)?)?;
    let logits = gpu.judge(dims, |buffer| Ok(buffer.copy_from(&pixels_there)?))?;
    judge.compare("logits in use", [1e-2, 0.3], &logits, &expected_logits);
    gpu.store(network)?;
    let change = |after: Vec<f32>| after.iter().zip(&before).map(|(a, b)| a - b).collect::<Vec<_>>();
    let found = change(tensors(network)?);
    judge.compare("changes by some steps", [1e-2, 0.3], &found, &change(expected));
    let steps = cpu_adam.steps().to_vec();
    let m = cpu_adam.m().to_vec1::<f32>()?;
    gpu.store_optimizer(network, &mut cpu_adam)?;
    judge.compare("moments after some steps", [1e-2, 0.5], &cpu_adam.m().to_vec1::<f32>()?, &m);
    let as_floats = |steps: &[u32]| steps.iter().map(|s| *s as f32).collect::<Vec<_>>();
    judge.compare("counts of steps", [0.0; 2], &as_floats(cpu_adam.steps()), &as_floats(&steps));
    Ok(judge.checks)
}

fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

/// All tensors of floats, one after the other.
fn tensors(network: &mut Network) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for (_, tensor) in network.named_tensors()? {
        all.extend(flat(&tensor.to_dtype(candle_core::DType::F32)?)?);
    }
    Ok(all)
}

struct Judge {
    element: Element,
    checks: Vec<Check>,
}

impl Judge {
    /// Compares, with a tolerance for `f32` and one for bf16: a network with norms over few rows and half of the features
    /// dropped makes much of the rounding of its activations. Each kernel alone is judged strictly.
    fn compare(&mut self, name: &str, [f32, bf16]: [f64; 2], found: &[f32], expected: &[f32]) {
        let tolerance = if self.element == Element::F32 { f32 } else { bf16 };
        let name = format!("{name}, {}", super::name_of(self.element));
        self.checks.push(Check::of(name, tolerance, found, expected));
    }
}
