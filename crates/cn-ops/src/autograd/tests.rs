use super::*;
use crate::testing::*;
use candle_core::Var;

/// Gradients through candle's `backward`, against central differences of `f`.
fn check(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Tensor) {
    const STEP: f64 = 1e-5;
    let vars: Vec<Var> = inputs.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
    let at = |inputs: &[Tensor]| {
        let y = f(inputs);
        // A factor, so that the gradient that arrives is not one.
        (&y * &fill("dy", y.dims())).unwrap().sum_all().unwrap()
    };
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let grads = at(&tracked).backward().unwrap();
    for (k, input) in inputs.iter().enumerate() {
        let numeric: Vec<f64> = (0..input.elem_count())
            .map(|i| {
                let moved = |shift: f64| {
                    let mut x = values(input);
                    x[i] += shift;
                    let mut all = inputs.to_vec();
                    all[k] = tensor(x, input.dims());
                    values(&at(&all))[0]
                };
                (moved(STEP) - moved(-STEP)) / (2.0 * STEP)
            })
            .collect();
        close(&values(grads.get(&vars[k]).unwrap()), &numeric, 1e-7);
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let config = Conv2dConfig { stride: [2, 1], padding: [1, 0] };
    check(&[fill("x", &[2, 5, 4, 2]), fill("w", &[3, 2, 3, 2])], |t| conv2d(&t[0], &t[1], config).unwrap());
    let windows = MaxPool2dConfig { kernel: [3, 3], stride: [2, 2], padding: [1, 1] };
    check(&[fill("x", &[2, 5, 4, 2])], |t| max_pool2d(&t[0], windows).unwrap());
    let targets = ((fill("t", &[3, 4]) + 1.0).unwrap() * 0.5).unwrap();
    check(&[(fill("x", &[3, 4]) * 3.0).unwrap()], |t| bce_with_logits(&t[0], &targets).unwrap());
}

#[test]
fn they_compose_with_candles_own_operations() {
    let windows = MaxPool2dConfig { kernel: [2, 2], stride: [1, 1], padding: [0, 0] };
    let targets = fill("t", &[2, 3]).abs().unwrap();
    // Transposed views arrive from both sides.
    check(&[fill("x", &[2, 1, 5, 5]), fill("w", &[3, 1, 2, 2])], |t| {
        let x = t[0].permute((0, 2, 3, 1)).unwrap();
        let y = conv2d(&x, &t[1], Conv2dConfig::default()).unwrap().sqr().unwrap();
        let y = max_pool2d(&y.transpose(1, 2).unwrap(), windows).unwrap();
        bce_with_logits(&y.mean((1, 2)).unwrap(), &targets).unwrap()
    });
}

#[test]
fn single_precision_is_the_layers() {
    let (x, w) = (fill("x", &[2, 6, 6, 4]), fill("w", &[5, 4, 3, 3]));
    let single = |t: &Tensor| t.to_dtype(candle_core::DType::F32).unwrap();
    let config = Conv2dConfig { stride: [1, 1], padding: [1, 1] };
    let y = conv2d(&single(&x), &single(&w), config).unwrap();
    close(&values(&y), &values(&conv2d(&x, &w, config).unwrap()), 2e-5);
    let loss = bce_with_logits(&single(&fill("l", &[2, 3])), &fill("t", &[2, 3])).unwrap();
    close(&values(&loss), &values(&bce_with_logits(&fill("l", &[2, 3]), &fill("t", &[2, 3])).unwrap()), 2e-5);
}

#[test]
fn constants_get_no_gradient_and_large_logits_a_finite_one() {
    let x = fill("x", &[1, 4, 4, 1]);
    let w = Var::from_tensor(&fill("w", &[2, 1, 3, 3])).unwrap();
    let grads = conv2d(&x, &w, Conv2dConfig::default()).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&x).is_none() && grads.get(&w).is_some());

    let logits = Var::new(&[[1e4f32, -1e4], [17.0, -200.0]], &candle_core::Device::Cpu).unwrap();
    let loss = bce_with_logits(&logits, &fill("t", &[2, 2]).abs().unwrap()).unwrap();
    let grads = loss.backward().unwrap();
    assert!(values(&loss)[0].is_finite());
    assert!(values(grads.get(&logits).unwrap()).iter().all(|g| g.is_finite()));
}

#[test]
fn what_does_not_fit_is_refused() {
    let (x, w) = (fill("x", &[1, 4, 4, 2]), fill("w", &[2, 2, 3, 3]));
    let single = w.to_dtype(candle_core::DType::F32).unwrap();
    assert!(conv2d(&x, &single, Conv2dConfig::default()).is_err());
    assert!(conv2d(&x, &fill("w", &[2, 3, 3, 3]), Conv2dConfig::default()).is_err());
    let integers = x.to_dtype(candle_core::DType::U32).unwrap();
    let windows = MaxPool2dConfig { kernel: [2, 2], stride: [1, 1], padding: [0, 0] };
    assert!(max_pool2d(&integers, windows).unwrap_err().to_string().contains("f32 or f64"));
}
