//! Convolutions.

use super::naive::Convolution;
use super::{BATCH, CPU, candles, group, ours, ours_in_use, random};
use candle_core::{Module, ModuleT, Tensor, Var};
use cn_ops::{BatchNorm, Conv2d, Conv2dConfig, Precision, Sequential};
use criterion::Criterion;

/// A convolution of ResNet-18 and the side of its input for images of 64 pixels.
struct Layer {
    side: usize,
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
}

const LAYERS: [Layer; 7] = [
    Layer { side: 64, channels: [3, 64], kernel: 7, stride: 2 },
    Layer { side: 16, channels: [64, 64], kernel: 3, stride: 1 },
    Layer { side: 16, channels: [64, 128], kernel: 3, stride: 2 },
    Layer { side: 8, channels: [128, 128], kernel: 3, stride: 1 },
    Layer { side: 4, channels: [256, 256], kernel: 3, stride: 1 },
    Layer { side: 2, channels: [512, 512], kernel: 3, stride: 1 },
    Layer { side: 16, channels: [64, 128], kernel: 1, stride: 2 },
];

impl Layer {
    fn name(&self, side: usize) -> String {
        let Self { channels: [i, o], kernel, stride, .. } = self;
        format!("conv {kernel}x{kernel} by {stride}, {i} to {o} channels, {side} px")
    }

    fn weight(&self) -> Tensor {
        random(&[self.channels[1], self.channels[0], self.kernel, self.kernel])
    }

    fn ours(&self, weight: Tensor) -> Conv2d {
        let config = Conv2dConfig { stride: [self.stride; 2], padding: [self.kernel / 2; 2] };
        Conv2d::new(weight, config).expect("memory")
    }

    fn candles(&self, weight: &Tensor) -> candle_nn::Conv2d {
        let config = candle_nn::Conv2dConfig { stride: self.stride, padding: self.kernel / 2, ..Default::default() };
        let weight = Var::from_tensor(weight).expect("memory");
        candle_nn::Conv2d::new(weight.as_tensor().clone(), None, config)
    }
}

pub(super) fn in_training(c: &mut Criterion) {
    for (layer, scale) in LAYERS.iter().flat_map(|layer| [(layer, 1), (layer, 2)]) {
        let (side, [i, _]) = (layer.side * scale, layer.channels);
        let mut group = group(c, &layer.name(side));
        let (weight, x) = (layer.weight(), random(&[BATCH, side, side, i]));
        for precision in [Precision::F32, Precision::Bf16] {
            ours(&mut group, layer.ours(weight.clone()), &x, precision);
        }
        let theirs = layer.candles(&weight);
        candles(&mut group, &random(&[BATCH, i, side, side]), |x| theirs.forward(x));
        let Layer { channels, kernel, stride, .. } = *layer;
        Convolution { side, channels, kernel, stride }.time(&mut group);
    }
}

/// With the norm folded in and ReLU behind it.
pub(super) fn in_use(c: &mut Criterion) {
    for (layer, scale) in LAYERS.iter().flat_map(|layer| [(layer, 1), (layer, 2)]) {
        let (side, [i, o]) = (layer.side * scale, layer.channels);
        let mut group = group(c, &format!("in use: {}, norm, ReLU", layer.name(side)));
        let weight = layer.weight();
        let [one, zero] = [1.0f32, 0.0].map(|v| Tensor::full(v, o, &CPU).expect("memory"));
        let norm = BatchNorm::new(one.clone(), zero.clone()).expect("memory").relu();
        let both = Sequential::new().push("conv", layer.ours(weight.clone())).push("norm", norm);
        ours_in_use(&mut group, both, &random(&[BATCH, side, side, i]));
        let norm = candle_nn::BatchNorm::new(o, zero.clone(), one.clone(), one, zero, 1e-5).expect("shapes fit");
        let (conv, x) = (layer.candles(&weight), random(&[BATCH, i, side, side]));
        group.bench_function("candle/forward", |b| {
            b.iter(|| norm.forward_t(&conv.forward(&x)?, false)?.relu().map(drop));
        });
    }
}
