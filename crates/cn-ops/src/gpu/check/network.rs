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

/// Trains `network` for a few steps on random images, on the device and on the CPU, each step from where the CPU's last one
/// ended, and compares: logits, loss, gradients, what changed of the parameters, moments; then logits in use.
///
/// Several steps by themselves would compare nothing: a gradient that differs by 1e-5 turns a few ReLUs over, and after
/// three steps two instruction sets of one CPU differ by a tenth.
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
        let before = State::of(network, &cpu_adam)?;
        gpu.load(network)?;
        gpu.load_optimizer(network, &cpu_adam)?;
        let (images_of, targets) = (dims, &targets[..]);
        let input = GpuStep { images: images_of, seed: SEED, epoch, ids: &ids, targets, loss: Loss::Bce, adam, hyper };
        gpu.step(&input, |buffer| Ok(buffer.copy_from(&pixels_there)?))?;
        let finite = if gpu.is_finite()? { 1.0 } else { 0.0 };
        judge.compare("finite numbers", [0.0; 2], &[finite], &[1.0]);

        let logits = network.forward(&images, Mode::Train(Draw { seed: SEED, epoch, ids: &ids }))?;
        let (loss, d_logits) = Loss::Bce.compute(&logits, &target_tensor)?;
        network.parameters().zero_grads()?;
        network.backward(&d_logits)?;
        let grads = network.parameters().grads().to_vec1::<f32>()?;
        cpu_adam.step(network.parameters(), &hyper)?;
        let here = State::of(network, &cpu_adam)?;
        let kept =
            network.named_tensors()?.into_iter().map(|(name, t)| Ok((name, t.copy()?))).collect::<Result<Vec<_>>>()?;
        let mut there = Adam::new(network.parameters(), adam)?;
        gpu.store(network)?;
        gpu.store_optimizer(network, &mut there)?;
        let there = State::of(network, &there)?;
        network.load_tensors(&kept)?;

        judge.compare("logits", [1e-3, 0.15], &gpu.train_logits()?, &flat(&logits)?);
        judge.compare("loss", [1e-3, 0.05], &[gpu.loss()?], &[loss.to_scalar()?]);
        judge.compare("gradients", [2e-2, 0.6], &gpu.grads(network)?.to_vec1::<f32>()?, &grads);
        judge.compare_states(&before, &there, &here);
    }
    let expected = flat(&*network.forward(&images, Mode::Eval)?)?;
    gpu.load(network)?;
    let logits = gpu.judge(dims, |buffer| Ok(buffer.copy_from(&pixels_there)?))?;
    judge.compare("logits in use", [1e-3, 0.1], &logits, &expected);
    Ok(judge.checks)
}

/// All that a step changes.
struct State {
    values: Vec<f32>,
    running: Vec<f32>,
    m: Vec<f32>,
    /// Of the optimizer, for each tensor.
    steps: Vec<f32>,
}

impl State {
    fn of(network: &mut Network, adam: &Adam) -> Result<Self> {
        let values = network.parameters().values().to_vec1::<f32>()?;
        let names: Vec<String> = network.parameters().entries().iter().map(|entry| entry.name.clone()).collect();
        let mut running = Vec::new();
        for (_, tensor) in network.named_tensors()?.into_iter().filter(|(name, _)| !names.contains(name)) {
            running.extend(flat(&tensor.to_dtype(candle_core::DType::F32)?)?);
        }
        let steps = adam.steps().iter().map(|step| *step as f32).collect();
        Ok(Self { values, running, m: adam.m().to_vec1::<f32>()?, steps })
    }
}

fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
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

    fn compare_states(&mut self, before: &State, there: &State, here: &State) {
        let change = |after: &[f32]| after.iter().zip(&before.values).map(|(a, b)| a - b).collect::<Vec<_>>();
        self.compare("changes of parameters", [2e-2, 0.6], &change(&there.values), &change(&here.values));
        self.compare("running moments", [1e-4, 0.03], &there.running, &here.running);
        self.compare("moments of the optimizer", [2e-2, 0.6], &there.m, &here.m);
        self.compare("counts of steps", [0.0; 2], &there.steps, &here.steps);
    }
}
