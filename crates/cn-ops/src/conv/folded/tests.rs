use super::*;
use crate::testing::*;
use crate::{
    BatchNorm, Linear, MaxPool2d, MaxPool2dConfig, MeanPool, Mode, Model, Network, Parameters, Pool, Sequential,
    bce_with_logits,
};
use candle_core::Device;

/// ImageNet's statistics.
const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const STD: [f64; 3] = [0.229, 0.224, 0.225];
/// Of the largest value; the folded sums differ from the others in order and by some factors of order 4.
const F64_TOLERANCE: f64 = 1e-12;
const F32_TOLERANCE: f64 = 1e-5;
const STEM: Conv2dConfig = Conv2dConfig { stride: [2, 2], padding: [3, 3] };

/// Channels of a grey image that are normalised one by one.
fn mix() -> Tensor {
    let row = |c: usize| [1.0 / STD[c], -MEAN[c] / STD[c]];
    Tensor::new(&[row(0), row(1), row(2)], &Device::Cpu).unwrap()
}

fn weight(outputs: usize, dtype: DType) -> Tensor {
    fill("w", &[outputs, 3, 7, 7]).to_dtype(dtype).unwrap()
}

/// A stem of 7x7 taps with stride 2.
fn stem(outputs: usize, dtype: DType) -> FoldedConv2d {
    FoldedConv2d::new(weight(outputs, dtype), STEM, &mix()).unwrap()
}

/// The same grey images `(B, H, W, _)` as planes and as normalised channels, rounded from f64.
fn images(sizes: [usize; 3], dtype: DType) -> [Tensor; 2] {
    let [b, h, w] = sizes;
    let grey = (fill("grey", &[b, h, w, 1]).abs().unwrap() * 0.9).unwrap();
    let planes = Tensor::cat(&[&grey, &grey.ones_like().unwrap()], 3).unwrap();
    let channels = planes.reshape((b * h * w, 2)).unwrap().matmul(&mix().t().unwrap()).unwrap();
    [planes, channels.reshape((b, h, w, 3)).unwrap()].map(|t| t.to_dtype(dtype).unwrap())
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let [planes, channels] = images([1, 9, 8], DType::F64);
    for x in [planes, channels] {
        check_layer(|dtype| stem(2, dtype), &x, Mode::Eval);
    }
}

#[test]
fn planes_give_what_channels_give() {
    for (dtype, tolerance) in [(DType::F64, F64_TOLERANCE), (DType::F32, F32_TOLERANCE)] {
        let [planes, channels] = images([2, 21, 18], dtype);
        let mut folded = stem(8, dtype);
        let mut plain = Conv2d::new(weight(8, dtype), STEM).unwrap();
        let parameters = Parameters::gather(&mut folded, |_| 0).unwrap();
        let found = run(&mut folded, &parameters, &planes, Mode::Eval);
        assert_eq!((parameters.entries().len(), parameters.entries()[0].shape.dims()), (1, &[8, 3, 7, 7][..]));
        let parameters = Parameters::gather(&mut plain, |_| 0).unwrap();
        let expected = run(&mut plain, &parameters, &channels, Mode::Eval);
        close(&values(&found.y), &values(&expected.y), tolerance);
        close(&found.params, &expected.params, tolerance);
        // The windows of these rows and columns reach over the edge: they must agree on their own as well.
        let line = |y: &Tensor, axis, at| values(&y.narrow(axis, at, 1).unwrap());
        let border =
            |y: &Tensor| [(1, 0), (1, 1), (1, 10), (2, 0), (2, 1), (2, 8)].map(|(a, i)| line(y, a, i)).concat();
        close(&border(&found.y), &border(&expected.y), tolerance);
    }
}

/// Loss, logits and all gradients of a small network on a stem.
fn trained(stem: impl Layer + 'static, x: &Tensor) -> [Vec<f64>; 3] {
    let of = |name: &str, shape: &[usize]| fill(name, shape).to_dtype(x.dtype()).unwrap();
    let pool = MaxPool2dConfig { kernel: [3, 3], stride: [2, 2], padding: [1, 1] };
    let layers = Sequential::new()
        .push("conv1", stem)
        .push("bn1", BatchNorm::new(of("g", &[8]), of("b", &[8])).unwrap().relu())
        .push("maxpool", MaxPool2d::new(pool))
        .push("avgpool", MeanPool::new())
        .push("fc", Linear::new(of("fc", &[5, 8])).unwrap());
    let mut network = Network::new(layers, |_| 0).unwrap();
    let logits = network.forward(x, training(4)).unwrap();
    let targets = of("targets", &[4, 5]).abs().unwrap();
    let (loss, d_logits) = bce_with_logits(&logits, &targets).unwrap();
    network.backward(&d_logits).unwrap();
    [values(&loss), values(&logits), values(network.parameters().grads())]
}

#[test]
fn a_network_trains_with_planes_as_with_channels() {
    for (dtype, tolerance) in [(DType::F64, F64_TOLERANCE), (DType::F32, F32_TOLERANCE)] {
        let [planes, channels] = images([4, 20, 20], dtype);
        let found = trained(stem(8, dtype), &planes);
        let expected = trained(Conv2d::new(weight(8, dtype), STEM).unwrap(), &channels);
        found.iter().zip(&expected).for_each(|(found, expected)| close(found, expected, tolerance));
    }
}

#[test]
fn a_plane_of_black_is_not_padding() {
    let [planes, channels] = images([1, 9, 9], DType::F64);
    let black = |t: &Tensor, level: &[f64]| {
        let level = Tensor::new(level, &Device::Cpu).unwrap();
        t.zeros_like().unwrap().broadcast_add(&level).unwrap()
    };
    let normalised: Vec<f64> = (0..3).map(|c| -MEAN[c] / STD[c]).collect();
    let mut layer = stem(4, DType::F64);
    let pool = Pool::default();
    let mut forward = |x: Tensor| values(&layer.forward(&x.into(), &mut Pass::eval(&pool)).unwrap());
    let (found, expected) = (forward(black(&planes, &[0.0, 1.0])), forward(black(&channels, &normalised)));
    close(&found, &expected, F64_TOLERANCE);
    assert!((found[0] - found[2 * 5 * 4 + 2 * 4]).abs() > 0.1, "the corner sees the border");
}

#[test]
fn alike_channels_fold_into_one_plane() {
    let ones = Tensor::ones((3, 1), DType::F64, &Device::Cpu).unwrap();
    let mut layer = FoldedConv2d::new(weight(4, DType::F64), STEM, &ones).unwrap();
    let parameters = Parameters::gather(&mut layer, |_| 0).unwrap();
    let grey = fill("grey", &[2, 12, 10, 1]);
    let found = run(&mut layer, &parameters, &grey, Mode::Eval);
    let expected = run(&mut layer, &parameters, &Tensor::cat(&[&grey; 3], 3).unwrap(), Mode::Eval);
    close(&values(&found.y), &values(&expected.y), F64_TOLERANCE);
    close(&found.params, &expected.params, F64_TOLERANCE);
}

#[test]
fn evaluation_follows_the_weight() {
    let of = |name: &str| fill(name, &[8]).to_dtype(DType::F32).unwrap();
    let norm = BatchNorm::new(of("g"), of("b")).unwrap().relu();
    let layers = Sequential::new().push("conv1", stem(8, DType::F32)).push("bn1", norm);
    let mut network = Network::new(layers, |_| 0).unwrap();
    let before = evaluated(&mut network);
    let doubled = (weight(8, DType::F32) * 2.0).unwrap();
    network.load_tensors(&[("conv1.weight".into(), doubled)]).unwrap();
    assert_ne!(evaluated(&mut network), before);
}

/// The output, after a check that every way to it gives the same: with a backward pass to follow, the norm is a layer of
/// its own; without, the convolution does it.
fn evaluated(network: &mut Network) -> Vec<f64> {
    let pool = network.pool().clone();
    let [planes, channels] = images([2, 16, 16], DType::F32);
    let mut of = |x: &Tensor, pass| values(&network.forward_pass(x, pass).unwrap());
    let plain = of(&channels, Pass::eval(&pool).saving());
    close(&of(&planes, Pass::eval(&pool).saving()), &plain, F32_TOLERANCE);
    close(&of(&planes, Pass::eval(&pool)), &plain, F32_TOLERANCE);
    close(&of(&channels, Pass::eval(&pool)), &plain, F32_TOLERANCE);
    plain
}

#[test]
fn what_does_not_fit_is_named() {
    let refused = |mix: &[usize]| FoldedConv2d::new(weight(2, DType::F64), STEM, &fill("mix", mix)).unwrap_err();
    assert_eq!(refused(&[3, 3]).to_string(), "`mix` has shape [3, 3], expected (3, P), P from 1 and below 3");
    assert!(refused(&[2, 1]).to_string().starts_with("`mix` has shape [2, 1]"));
    assert!(refused(&[3]).to_string().ends_with("expected (C, P)"));
    let (pool, mut layer) = (Pool::default(), stem(2, DType::F64));
    let x = fill("x", &[1, 8, 8, 1]);
    let error = layer.forward(&x.into(), &mut Pass::eval(&pool)).unwrap_err();
    assert_eq!(error.to_string(), "`x` has shape [1, 8, 8, 1], expected (B, H, W, 3)");
}
