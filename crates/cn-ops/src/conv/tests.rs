use super::*;
use crate::testing::*;
use crate::{Parameters, Pool, Sequential};
use candle_core::{DType, Device, Var};
use proptest::prelude::*;

/// Sums of products that differ in order only.
const TOLERANCE: f64 = 1e-12;

fn conv(kernel: [usize; 4], config: Conv2dConfig) -> impl Fn(DType) -> Conv2d {
    move |dtype| Conv2d::new(fill("w", &kernel).to_dtype(dtype).unwrap(), config).unwrap()
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let check = |kernel, stride, padding, sizes: [usize; 4]| {
        check_layer(conv(kernel, Conv2dConfig { stride, padding }), &fill("x", &sizes), Mode::Eval);
    };
    use crate::Mode;
    check([3, 2, 3, 3], [1, 1], [1, 1], [2, 5, 4, 2]);
    check([3, 2, 3, 3], [2, 2], [1, 1], [2, 5, 6, 2]);
    check([4, 1, 7, 7], [2, 2], [3, 3], [1, 9, 8, 1]);
    check([3, 4, 1, 1], [2, 2], [0, 0], [2, 4, 5, 4]);
    check([2, 2, 2, 3], [1, 2], [0, 2], [1, 4, 4, 2]);
}

#[test]
fn bias_is_added_to_every_pixel() {
    let make = |dtype: DType| {
        let bias = fill("b", &[3]).to_dtype(dtype).unwrap();
        conv([3, 2, 3, 3], Conv2dConfig::default())(dtype).with_bias(bias).unwrap()
    };
    check_layer(make, &fill("x", &[2, 4, 5, 2]), crate::Mode::Eval);
    let bias = fill("b", &[4]);
    let refused = conv([3, 2, 3, 3], Conv2dConfig::default())(DType::F64).with_bias(bias);
    assert!(matches!(refused, Err(Error::Shape { .. })));
}

#[test]
fn numbers_are_pytorchs() {
    let golden = &golden("ops.json")["conv_3_2_1"];
    let of =
        |key: &str, shape: &str, f: fn(&serde_json::Value) -> Vec<f64>| tensor(f(&golden[key]), &sizes(&golden[shape]));
    let config = Conv2dConfig { stride: [2, 2], padding: [1, 1] };
    let mut layer = Conv2d::new(of("w", "w_shape", singles), config).unwrap();
    let parameters = Parameters::gather(&mut layer, |_| 0).unwrap();
    let pool = Pool::default();
    let x = channels_last(&of("x", "in_shape", singles));
    let y = layer.forward(&x.into(), &mut Pass::eval(&pool).saving()).unwrap();
    close(&values(&channels_first(&y)), &numbers(&golden["y"]), 1e-10);
    let dy = channels_last(&of("dy", "out_shape", singles));
    let dx = layer.backward(dy.into(), InputGrad::New, &mut Pass::eval(&pool)).unwrap().unwrap();
    close(&values(&channels_first(&dx)), &numbers(&golden["dx"]), 1e-10);
    close(&values(parameters.grads()), &numbers(&golden["dw"]), 1e-10);
}

/// `y`, `dx` and `dw` by definition.
fn naive(s: &ConvShape, x: &[f64], w: &[f64], dy: &[f64]) -> [Vec<f64>; 3] {
    let (ho, wo) = (s.out_height(), s.out_width());
    let mut out = [vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]];
    for b in 0..s.batch {
        for (oy, ox, o) in triples(ho, wo, s.out_channels) {
            for (ky, kx, i) in triples(s.kernel[0], s.kernel[1], s.in_channels) {
                let inside = |at: usize, padding: usize, size| at.checked_sub(padding).filter(|&at| at < size);
                let Some(iy) = inside(oy * s.stride[0] + ky, s.padding[0], s.height) else { continue };
                let Some(ix) = inside(ox * s.stride[1] + kx, s.padding[1], s.width) else { continue };
                let at_x = ((b * s.height + iy) * s.width + ix) * s.in_channels + i;
                let at_w = ((o * s.in_channels + i) * s.kernel[0] + ky) * s.kernel[1] + kx;
                let at_y = ((b * ho + oy) * wo + ox) * s.out_channels + o;
                out[0][at_y] += x[at_x] * w[at_w];
                out[1][at_x] += dy[at_y] * w[at_w];
                out[2][at_w] += dy[at_y] * x[at_x];
            }
        }
    }
    out
}

fn triples(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a * b * c).map(move |i| (i / (b * c), i / c % b, i % c))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_shape_gives_what_the_definition_gives(
        (b, h, w, i, o) in (1usize..4, 1usize..12, 1usize..12, 1usize..20, 1usize..20),
        kernel in prop::array::uniform2(1usize..5),
        stride in prop::array::uniform2(1usize..4),
        padding in prop::array::uniform2(0usize..3),
        skipped in 0usize..2,
    ) {
        let weight = fill("w", &[o, i, kernel[0], kernel[1]]);
        // A part of a larger tensor: contiguous, but not at its start.
        let x = fill("x", &[b + skipped, h, w, i]).narrow(0, skipped, b).unwrap();
        let config = Conv2dConfig { stride, padding };
        let Ok(shape) = config.shape(&x, &weight) else {
            prop_assume!(h + 2 * padding[0] < kernel[0] || w + 2 * padding[1] < kernel[1]);
            return Ok(());
        };
        let mut layer = Conv2d::new(weight.clone(), config).unwrap();
        let parameters = Parameters::gather(&mut layer, |_| 0).unwrap();
        let found = run(&mut layer, &parameters, &x, crate::Mode::Eval);
        let dy = values(&fill("dy", found.y.dims()));
        let [y, dx, dw] = naive(&shape, &values(&x), &values(&weight), &dy);
        close(&values(&found.y), &y, TOLERANCE);
        close(&values(&found.dx), &dx, TOLERANCE);
        close(&found.params, &dw, TOLERANCE);
    }
}

#[test]
fn candle_agrees() {
    let check = |stride: usize, padding: usize, kernel: usize| {
        let (w, x) = (fill("w", &[5, 3, kernel, kernel]), fill("x", &[2, 9, 9, 3]));
        let config = Conv2dConfig { stride: [stride; 2], padding: [padding; 2] };
        let mut layer = Conv2d::new(w.clone(), config).unwrap();
        let parameters = Parameters::gather(&mut layer, |_| 0).unwrap();
        let ours = run(&mut layer, &parameters, &x, crate::Mode::Eval);

        let (w, x) = (Var::from_tensor(&w).unwrap(), Var::from_tensor(&channels_first(&x)).unwrap());
        let theirs = candle_nn::Conv2dConfig { stride, padding, ..Default::default() };
        let theirs = candle_nn::Conv2d::new(w.as_tensor().clone(), None, theirs);
        let y = candle_nn::Module::forward(&theirs, &x).unwrap();
        let dy = channels_first(&fill("dy", ours.y.dims()));
        let grads = (&y * dy).unwrap().sum_all().unwrap().backward().unwrap();
        close(&values(&ours.y), &values(&channels_last(&y)), TOLERANCE);
        close(&values(&ours.dx), &values(&channels_last(grads.get(&x).unwrap())), TOLERANCE);
        close(&ours.params, &values(grads.get(&w).unwrap()), TOLERANCE);
    };
    check(1, 1, 3);
    check(2, 1, 3);
    check(2, 3, 7);
    check(2, 0, 1);
}

#[test]
fn a_frozen_weight_keeps_no_input_alive() {
    let pool = Pool::default();
    let mut layer = conv([3, 2, 3, 3], Conv2dConfig::default())(DType::F64);
    let mut parameters = Parameters::gather(&mut layer, |_| 0).unwrap();
    parameters.set_trainable(&mut layer, |_| false).unwrap();
    let x = pool.take((1, 4, 4, 2), DType::F64, &Device::Cpu).unwrap();
    let _y = layer.forward(&x, &mut Pass::eval(&pool).saving()).unwrap();
    assert!(x.is_unique());
    parameters.set_trainable(&mut layer, |_| true).unwrap();
    let _y = layer.forward(&x, &mut Pass::eval(&pool).saving()).unwrap();
    assert!(!x.is_unique());
}

#[test]
fn what_does_not_fit_is_named() {
    let pool = Pool::default();
    let mut layer = Sequential::new().push("conv1", conv([3, 2, 3, 3], Conv2dConfig::default())(DType::F64));
    let mut forward = |x: Tensor| layer.forward(&x.into(), &mut Pass::eval(&pool)).unwrap_err().to_string();
    assert_eq!(forward(fill("x", &[2, 5, 5, 3])), "`x` has shape [2, 5, 5, 3], expected (B, H, W, 2)");
    assert_eq!(forward(fill("x", &[5, 5, 2])), "`x` has shape [5, 5, 2], expected (B, H, W, C)".replace('C', "I"));
    assert!(forward(fill("x", &[1, 2, 2, 2])).contains("does not fit into an image of [2, 2]"));
    let integers = Tensor::zeros((1, 5, 5, 2), DType::U32, &Device::Cpu).unwrap();
    assert_eq!(forward(integers), "`x` holds U32, expected f32 or f64");
    let strided = fill("x", &[1, 2, 5, 5]).permute((0, 2, 3, 1)).unwrap();
    assert!(forward(strided).contains("contiguous"));
}
