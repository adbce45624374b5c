//! What a training step takes from the allocator. A file of its own, since it replaces the allocator.
#![allow(clippy::unwrap_used, reason = "an error fails the test")]

use candle_core::{DType, Device, Tensor};
use cn_ops::{Adam, AdamConfig, Draw, Hyper, Mode, Model, Network, bce_with_logits};
use cn_zoo::{Arch, Head, ResNetConfig};
use dhat::{HeapStats, Profiler};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const IDS: [u32; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
const SIDE: usize = 64;
/// The largest activation: the stem's output.
const LARGEST: u64 = (IDS.len() * SIDE / 2 * SIDE / 2 * 64 * 4) as u64;

fn step(network: &mut Network, adam: &mut Adam, images: &Tensor, targets: &Tensor) {
    let logits = network.forward(images, Mode::Train(Draw { seed: 42, epoch: 0, ids: &IDS })).unwrap();
    let (_, d_logits) = bce_with_logits(&logits, targets).unwrap();
    network.parameters().zero_grads().unwrap();
    network.backward(&d_logits).unwrap();
    adam.step(network.parameters(), &Hyper { lr: &[1e-3; 3], beta1: 0.9 }).unwrap();
}

/// All activations, gradients and working memory of a step are those of the first one. What is left are the sums of norms
/// over parts of the batch, none longer than a row of channels.
#[test]
fn a_step_takes_next_to_nothing_after_the_first() {
    let config = ResNetConfig { arch: Arch::ResNet18, in_channels: 3, n_classes: 15, head: Head::Linear };
    let mut network = config.build(42, DType::F32, &Device::Cpu).unwrap();
    let mut adam = Adam::new(network.parameters(), AdamConfig::default()).unwrap();
    let images = Tensor::rand(-1f32, 1.0, (IDS.len(), SIDE, SIDE, 3), &Device::Cpu).unwrap();
    let targets = Tensor::zeros((IDS.len(), 15), DType::F32, &Device::Cpu).unwrap();
    let _profiler = Profiler::builder().testing().build();
    // One thread: with several, how many need working memory at a time is a matter of luck.
    cn_ops::with_threads(1, || {
        step(&mut network, &mut adam, &images, &targets);
        let (first, pool) = (HeapStats::get(), network.pool().allocated());
        assert!(first.total_bytes > 10 * LARGEST, "the first step takes what all steps need");
        let mut before = first;
        for _ in 0..4 {
            step(&mut network, &mut adam, &images, &targets);
            let after = HeapStats::get();
            let taken = after.total_bytes - before.total_bytes;
            assert!(taken < LARGEST / 2, "{taken} bytes, where the largest activation has {LARGEST}");
            assert_eq!((after.curr_bytes, network.pool().allocated()), (before.curr_bytes, pool), "nothing is kept");
            before = after;
        }
    })
    .unwrap();
}
