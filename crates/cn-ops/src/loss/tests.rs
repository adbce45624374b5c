use super::*;
use crate::testing::*;
use candle_core::{DType, Device};

const SMOOTH: Loss = Loss::CrossEntropy { label_smoothing: 0.1 };
const SHARP: Loss = Loss::CrossEntropy { label_smoothing: 0.0 };

fn one_hot(classes: &[usize], n_classes: usize) -> Tensor {
    let values = classes.iter().flat_map(|&c| (0..n_classes).map(move |k| f64::from(u8::from(k == c)))).collect();
    tensor(values, &[classes.len(), n_classes])
}

fn number(loss: &Tensor) -> f64 {
    assert_eq!(loss.rank(), 0);
    values(loss)[0]
}

#[test]
fn bce_is_pytorchs() {
    let golden = &golden("ops.json")["bce"];
    let logits = tensor(singles(&golden["logits"]), &[4, 15]);
    let targets = one_hot(&sizes(&golden["target_class"]), 15);
    let (loss, d_logits) = bce_with_logits(&logits, &targets).unwrap();
    close(&[number(&loss)], &numbers(&golden["loss"]), 1e-10);
    close(&values(&d_logits), &numbers(&golden["grad"]), 1e-10);
    let (loss, d_logits) = bce_with_logits(&logits.to_dtype(DType::F32).unwrap(), &targets).unwrap();
    assert_eq!(loss.dtype(), DType::F32);
    close(&[number(&loss)], &numbers(&golden["loss"]), 2e-5);
    close(&values(&d_logits), &numbers(&golden["grad"]), 2e-5);
    for (row, expected) in numbers(&golden["loss_per_image"]).into_iter().enumerate() {
        let part = |t: &Tensor| t.narrow(0, row, 1).unwrap();
        close(&[number(&bce_with_logits(&part(&logits), &part(&targets)).unwrap().0)], &[expected], 1e-10);
    }
}

#[test]
fn cross_entropy_is_candles_and_by_definition() {
    let (logits, classes) = ((fill("x", &[5, 7]) * 4.0).unwrap(), [0usize, 3, 6, 3, 2]);
    let labels = Tensor::new(classes.map(|c| c as u32).as_slice(), &Device::Cpu).unwrap();
    let var = candle_core::Var::from_tensor(&logits).unwrap();
    let expected = candle_nn::loss::cross_entropy(&var, &labels).unwrap();
    let (loss, d_logits) = SHARP.compute(&logits, &one_hot(&classes, 7)).unwrap();
    close(&[number(&loss)], &values(&expected), 1e-12);
    let grads = expected.backward().unwrap();
    close(&values(&d_logits), &values(grads.get(&var).unwrap()), 1e-12);

    // Smoothing by s is (1 - s) of the loss and s of its mean over all classes.
    let (smooth, _) = SMOOTH.compute(&logits, &one_hot(&classes, 7)).unwrap();
    let of_class = |c: usize| number(&SHARP.compute(&logits, &one_hot(&[c; 5], 7)).unwrap().0);
    let mean = (0..7).map(of_class).sum::<f64>() / 7.0;
    close(&[number(&smooth)], &[0.9 * number(&loss) + 0.1 * mean], 1e-12);
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let (logits, step) = ((fill("x", &[3, 4]) * 3.0).unwrap(), 1e-5);
    let targets = ((fill("t", &[3, 4]) + 1.0).unwrap() * 0.5).unwrap();
    for loss in [Loss::Bce, SHARP, SMOOTH] {
        let at = |i: usize, shift: f64| {
            let mut x = values(&logits);
            x[i] += shift;
            number(&loss.compute(&tensor(x, &[3, 4]), &targets).unwrap().0)
        };
        let numeric: Vec<f64> = (0..12).map(|i| (at(i, step) - at(i, -step)) / (2.0 * step)).collect();
        close(&values(&loss.compute(&logits, &targets).unwrap().1), &numeric, 1e-8);
    }
}

#[test]
fn large_logits_stay_finite_and_nan_shows() {
    let targets = one_hot(&[0, 1], 3);
    for dtype in [DType::F32, DType::F64] {
        for loss in [Loss::Bce, SHARP, SMOOTH] {
            let logits = tensor(vec![-1e4, 1e4, 0.0, 1e4, -1e4, 1e4], &[2, 3]).to_dtype(dtype).unwrap();
            let (value, d_logits) = loss.compute(&logits, &targets).unwrap();
            assert!(number(&value).is_finite() && number(&value) > 1e3, "{loss:?}");
            assert!(values(&d_logits).iter().all(|d| d.is_finite()));
            let broken = tensor(vec![f64::NAN, 0., 0., 0., 0., 0.], &[2, 3]).to_dtype(dtype).unwrap();
            assert!(number(&loss.compute(&broken, &targets).unwrap().0).is_nan(), "{loss:?}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused =
        |logits: &[usize], targets: &[usize]| bce_with_logits(&fill("x", logits), &fill("t", targets)).is_err();
    assert!(refused(&[2, 3], &[2, 4]));
    assert!(refused(&[2, 3], &[3, 2]));
    assert!(refused(&[6], &[6]));
    assert!(refused(&[0, 3], &[0, 3]));
    let smoothing = Loss::CrossEntropy { label_smoothing: 1.5 };
    assert!(matches!(smoothing.compute(&fill("x", &[2, 3]), &fill("t", &[2, 3])), Err(Error::Setting { .. })));
}
