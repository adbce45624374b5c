use super::*;
use crate::testing::*;
use crate::{Conv2d, Conv2dConfig, Mode, Parameters, Slot};
use candle_core::{DType, Tensor};
use proptest::prelude::*;

fn conv(name: &str, kernel: [usize; 4], stride: usize, dtype: DType) -> Conv2d {
    let config = Conv2dConfig { stride: [stride; 2], padding: [kernel[2] / 2; 2] };
    Conv2d::new(fill(name, &kernel).to_dtype(dtype).unwrap(), config).unwrap()
}

fn norm(name: &str, channels: usize, dtype: DType) -> BatchNorm {
    let of = |part: &str| fill(&format!("{name}.{part}"), &[channels]).to_dtype(dtype).unwrap();
    BatchNorm::new(of("weight"), of("bias")).unwrap()
}

fn block(stride: usize, widths: [usize; 2], dtype: DType) -> Residual {
    let [i, o] = widths;
    let branch = Sequential::new()
        .push("conv1", conv("conv1", [o, i, 3, 3], stride, dtype))
        .push("bn1", norm("bn1", o, dtype).relu())
        .push("conv2", conv("conv2", [o, o, 3, 3], 1, dtype));
    let block = Residual::new(branch, "bn2", norm("bn2", o, dtype).relu());
    if stride == 1 && i == o {
        return block;
    }
    let shortcut = Sequential::new()
        .push("0", conv("downsample", [o, i, 1, 1], stride, dtype))
        .push("1", norm("downsample", o, dtype));
    block.with_shortcut("downsample", shortcut)
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for mode in [training(3), Mode::Eval] {
        check_layer(|dtype| block(1, [3, 3], dtype), &fill("x", &[3, 4, 4, 3]), mode);
        check_layer(|dtype| block(2, [2, 3], dtype), &fill("x", &[3, 4, 5, 2]), mode);
        let linear = |dtype| Residual::new(Sequential::new(), "bn", norm("bn", 3, dtype));
        check_layer(linear, &fill("x", &[3, 2, 2, 3]), mode);
        let convolved = |dtype| {
            let branch = Sequential::new().push("conv", conv("conv1", [3, 3, 3, 3], 1, dtype));
            Residual::new(branch, "bn", norm("bn", 3, dtype)).with_shortcut("same", Sequential::new())
        };
        check_layer(convolved, &fill("x", &[3, 2, 2, 3]), mode);
    }
}

#[test]
fn it_is_the_relu_of_the_sum_of_branch_and_shortcut() {
    let x = Activation::from(fill("x", &[3, 4, 4, 3]));
    let pool = crate::Pool::default();
    let y = block(1, [3, 3], DType::F64).forward(&x, &mut pass(&pool, training(3))).unwrap();
    let mut branch = Sequential::new()
        .push("conv1", conv("conv1", [3, 3, 3, 3], 1, DType::F64))
        .push("bn1", norm("bn1", 3, DType::F64))
        .push("relu", crate::Relu::new())
        .push("conv2", conv("conv2", [3, 3, 3, 3], 1, DType::F64))
        .push("bn2", norm("bn2", 3, DType::F64));
    let inner = branch.forward(&x, &mut pass(&pool, training(3))).unwrap();
    let expected = (&*inner + &*x).unwrap().relu().unwrap();
    close(&values(&y), &values(&expected), 1e-14);
}

#[test]
fn names_are_torchvisions() {
    let mut names = Vec::new();
    let mut layer = Sequential::new().push("0", block(2, [2, 3], DType::F64));
    layer
        .visit("layer2", &mut |name, slot| {
            names.extend(matches!(slot, Slot::Param(_)).then(|| name.to_string()));
            Ok(())
        })
        .unwrap();
    let parts = ["conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight", "bn2.weight", "bn2.bias"];
    let shortcut = ["downsample.0.weight", "downsample.1.weight", "downsample.1.bias"];
    let expected: Vec<String> = parts.iter().chain(&shortcut).map(|part| format!("layer2.0.{part}")).collect();
    assert_eq!(names, expected);
}

#[test]
fn the_output_gradient_of_the_caller_stays() {
    // Nothing masks here: the gradient itself walks down the shortcut, where sums are formed.
    let branch = Sequential::new().push("conv", conv("conv1", [3, 3, 3, 3], 1, DType::F64));
    let mut layer = Residual::new(branch, "bn", norm("bn", 3, DType::F64));
    let (pool, x) = (crate::Pool::default(), fill("x", &[3, 2, 2, 3]));
    let _parameters = Parameters::gather(&mut layer, |_| 0).unwrap();
    layer.forward(&x.into(), &mut pass(&pool, training(3))).unwrap();
    let dy = pool.take((3, 2, 2, 3), DType::F64, &candle_core::Device::Cpu).unwrap();
    crate::storage::copy_into(&dy, &fill("dy", &[3, 2, 2, 3])).unwrap();
    layer.backward(dy.clone(), InputGrad::New, &mut pass(&pool, training(3))).unwrap();
    assert_eq!(values(&dy), values(&fill("dy", &[3, 2, 2, 3])));
}

/// The gradient of the input of `layer` for this one of the output.
fn input_gradient(layer: &mut dyn Layer, x: &Tensor, dy: &Tensor, mode: Mode<'_>) -> Vec<f64> {
    let pool = crate::Pool::default();
    layer.forward(&x.clone().into(), &mut pass(&pool, mode)).unwrap();
    values(&layer.backward(dy.clone().into(), InputGrad::New, &mut pass(&pool, mode)).unwrap().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_gradient_is_the_sum_of_those_of_branch_and_shortcut(
        (b, h, w) in (2usize..5, 2usize..7, 2usize..7), widths in prop::array::uniform2(1usize..5),
        stride in 1usize..3, trains in any::<bool>(),
    ) {
        let [i, o] = widths;
        let mode = if trains { training(b) } else { Mode::Eval };
        let x = fill("x", &[b, h, w, i]);
        let mut whole = block(stride, widths, DType::F64);
        let y = whole.forward(&x.clone().into(), &mut pass(&crate::Pool::default(), mode)).unwrap();
        let dy = fill("dy", y.dims());
        let found = input_gradient(&mut whole, &x, &dy, mode);

        // What passes the activation goes down both ways.
        let masked = values(&y).iter().zip(values(&dy)).map(|(&y, dy)| if y > 0.0 { dy } else { 0.0 }).collect();
        let masked = tensor(masked, dy.dims());
        let mut branch = Sequential::new()
            .push("conv1", conv("conv1", [o, i, 3, 3], stride, DType::F64))
            .push("bn1", norm("bn1", o, DType::F64).relu())
            .push("conv2", conv("conv2", [o, o, 3, 3], 1, DType::F64))
            .push("bn2", norm("bn2", o, DType::F64));
        let mut shortcut = Sequential::new();
        if stride > 1 || i != o {
            shortcut = shortcut
                .push("0", conv("downsample", [o, i, 1, 1], stride, DType::F64))
                .push("1", norm("downsample", o, DType::F64));
        }
        let ways = [
            input_gradient(&mut branch, &x, &masked, mode),
            input_gradient(&mut shortcut, &x, &masked, mode),
        ];
        let expected: Vec<f64> = ways[0].iter().zip(&ways[1]).map(|(a, b)| a + b).collect();
        close(&found, &expected, 1e-10);
    }
}
