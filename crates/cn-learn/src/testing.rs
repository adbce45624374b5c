//! A small task and a small network for tests.

use crate::{BatchConfig, Batches, Learner, LearnerConfig, Phase, Rates, Result};
use candle_core::{DType, Device, Tensor};
use cn_augment::{Normalisation, Policy};
use cn_data::{Dataset, Index, Pixels, Record, Split};
use cn_ops::{BatchNorm, Conv2d, Conv2dConfig, Dropout, Flatten, Linear, Network, Relu, Sequential};
use std::sync::Arc;

pub(crate) const SIDE: usize = 8;
pub(crate) const N_TRAIN: usize = 50;
pub(crate) const N_VAL: usize = 21;
pub(crate) const SEED: u64 = 42;

/// A bar, upright, lying, or slanting, at a place and with a background that depend on the id.
fn draw(id: usize, pixels: &mut [u8]) {
    for (i, pixel) in pixels.iter_mut().enumerate() {
        let (y, x) = (i / SIDE, i % SIDE);
        let place = 2 + id / 3 % 4;
        let ink = match id % 3 {
            0 => x == place,
            1 => y == place,
            _ => (x + y) % SIDE == place,
        };
        *pixel = if ink { 220 } else { ((id * 31 + i * 17) % 23) as u8 };
    }
}

/// 71 images of three classes, 50 to train with; ids of the validation part descend.
pub(crate) fn dataset() -> Arc<Dataset> {
    let n = N_TRAIN + N_VAL;
    let mut bytes = vec![0; n * SIDE * SIDE];
    bytes.chunks_mut(SIDE * SIDE).enumerate().for_each(|(id, pixels)| draw(id, pixels));
    let record = |id: usize| Record { path: id.to_string(), labels: vec![(id % 3).to_string()], group: None };
    let index = Index::from_records("bars", "", (0..n).map(record).collect()).expect("distinct names");
    let pixels = Pixels::uniform(bytes, [SIDE, SIDE, 1]).expect("whole images");
    let (train, val) = ((0..N_TRAIN as u32).collect(), (N_TRAIN as u32..n as u32).rev().collect());
    Arc::new(Dataset::new(index, pixels, Split::from_parts(train, val, n).expect("disjoint")).expect("fits"))
}

pub(crate) fn batches(batch_size: usize, seed: u64) -> Result<Batches> {
    let (train, eval) = (Policy::fastai_train(SIDE as u32, 0.7)?, Policy::whole(SIDE as u32)?);
    let config = BatchConfig {
        batch_size,
        eval_batch_size: 8,
        channels: 1,
        normalisation: Normalisation::new(&[0.15], &[0.3])?,
        ..BatchConfig::new(train, eval)
    };
    Batches::new(dataset(), config, seed)
}

/// Convolution, norm, ReLU, dropout, linear: two groups, with buffers and keyed draws.
pub(crate) fn network() -> cn_ops::Result<Network> {
    let tensor = |shape: &[usize], scale: f32| {
        let n: usize = shape.iter().product();
        // Any fixed numbers without symmetry do.
        let values = (0..n).map(|i| ((i * 7919 + 13) % 101) as f32 / 50.5 - 1.0).map(|u| u * scale).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)
    };
    let (ones, zeros) = (tensor(&[6], 0.0)?.affine(0.0, 1.0)?, tensor(&[6], 0.0)?);
    let conv = Conv2dConfig { stride: [1, 1], padding: [1, 1] };
    let layers = Sequential::new()
        .push("conv", Conv2d::new(tensor(&[6, 1, 3, 3], 0.5)?, conv)?)
        .push("norm", BatchNorm::new(ones, zeros)?)
        .push("relu", Relu::new())
        .push("flat", Flatten::new())
        .push("drop", Dropout::new(0.1, "drop")?)
        .push("head", Linear::new(tensor(&[3, 6 * SIDE * SIDE], 0.05)?)?);
    Network::new(layers, |name| usize::from(name.starts_with("head")))
}

pub(crate) fn learner() -> Result<Learner<Network>> {
    Learner::new(network()?, batches(8, SEED)?, LearnerConfig::multi_label(0.5))
}

/// Two phases of an epoch each, twelve steps.
pub(crate) fn two_phases() -> Vec<Phase> {
    let phases = [
        Phase { frozen: Some(true), ..Phase::one_cycle(1, Rates::Last { last: 1e-2 }) },
        Phase { frozen: Some(false), ..Phase::one_cycle(1, Rates::Slice(1e-3, 1e-2)) },
    ];
    phases.into()
}

/// All tensors of the model, their averages, Adam's moments and the history, as bits.
pub(crate) fn bits(learner: &mut Learner<Network>) -> Result<(Vec<u64>, String)> {
    let checkpoint = learner.checkpoint()?;
    let mut bits = Vec::new();
    let sets = [Some(&checkpoint.weights), checkpoint.average.as_ref()].into_iter().flatten();
    let tensors = sets.flat_map(|set| set.tensors().iter().map(|(_, t)| t)).chain(&checkpoint.adam);
    for tensor in tensors {
        // The counter of a norm is an integer.
        let values: Vec<f64> = tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
        bits.extend(values.into_iter().map(f64::to_bits));
    }
    Ok((bits, format!("{:?}", checkpoint.record)))
}
