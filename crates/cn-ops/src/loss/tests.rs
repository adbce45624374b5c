use super::*;
use crate::testing::*;
use candle_core::{DType, Device};
use proptest::prelude::*;

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

/// Logits of up to 12 in size, where naive formulas still hold, and targets from 0 to 1, by rows and classes.
fn cases() -> impl Strategy<Value = ([usize; 2], Vec<f64>, Vec<f64>)> {
    (1usize..6, 1usize..9).prop_flat_map(|(rows, classes)| {
        let n = rows * classes;
        (Just([rows, classes]), prop::collection::vec(-12.0..12.0f64, n), prop::collection::vec(0.0..=1.0f64, n))
    })
}

fn naive_bce(x: &[f64], t: &[f64]) -> f64 {
    let term = |(x, t): (&f64, &f64)| {
        let p = 1.0 / (1.0 + (-x).exp());
        -(t * p.ln() + (1.0 - t) * (1.0 - p).ln())
    };
    x.iter().zip(t).map(term).sum::<f64>() / x.len() as f64
}

fn naive_cross_entropy(classes: usize, x: &[f64], t: &[f64]) -> f64 {
    let row = |(x, t): (&[f64], &[f64])| {
        let total: f64 = x.iter().map(|x| x.exp()).sum();
        x.iter().zip(t).map(|(x, t)| -t * (x.exp() / total).ln()).sum::<f64>()
    };
    x.chunks(classes).zip(t.chunks(classes)).map(row).sum::<f64>() / (x.len() / classes) as f64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_loss_is_what_the_definition_gives((shape, x, t) in cases(), smoothing in 0.0..=1.0f64) {
        let [_, classes] = shape;
        let smooth: Vec<f64> = t.iter().map(|t| (1.0 - smoothing) * t + smoothing / classes as f64).collect();
        for (loss, naive) in [
            (Loss::Bce, naive_bce(&x, &t)),
            (SHARP, naive_cross_entropy(classes, &x, &t)),
            (Loss::CrossEntropy { label_smoothing: smoothing }, naive_cross_entropy(classes, &x, &smooth)),
        ] {
            let of = |dtype| {
                let logits = tensor(x.clone(), &shape).to_dtype(dtype).unwrap();
                number(&loss.compute(&logits, &tensor(t.clone(), &shape)).unwrap().0)
            };
            // 1 - p has lost up to 6 digits of 16 at a logit of 12.
            prop_assert!((of(DType::F64) - naive).abs() <= 1e-9 * naive.abs().max(1.0), "{:?}: {}", loss, naive);
            prop_assert!((of(DType::F32) - naive).abs() <= 1e-5 * naive.abs().max(1.0), "{:?}: {}", loss, naive);
        }
    }

    #[test]
    fn any_gradient_is_that_of_finite_differences((shape, x, t) in cases(), smoothing in 0.0..=1.0f64) {
        const STEP: f64 = 1e-4;
        let targets = tensor(t, &shape);
        for loss in [Loss::Bce, SHARP, Loss::CrossEntropy { label_smoothing: smoothing }] {
            let at = |i: usize, shift: f64| {
                let mut moved = x.clone();
                moved[i] += shift;
                number(&loss.compute(&tensor(moved, &shape), &targets).unwrap().0)
            };
            let gradient = values(&loss.compute(&tensor(x.clone(), &shape), &targets).unwrap().1);
            for (i, found) in gradient.into_iter().enumerate() {
                let numeric = (at(i, STEP) - at(i, -STEP)) / (2.0 * STEP);
                // Of a loss of up to some hundred, 1e-16 is lost and divided by the step.
                prop_assert!((found - numeric).abs() < 1e-8, "{:?}, {}: {}, not {}", loss, i, found, numeric);
            }
        }
    }

    #[test]
    fn a_shift_of_a_row_changes_no_softmax((shape, x, t) in cases(), shift in -50.0..50.0f64) {
        let [_, classes] = shape;
        let targets = tensor(t, &shape);
        let of = |x: Vec<f64>| SHARP.compute(&tensor(x, &shape), &targets).unwrap();
        // Rows are shifted by different amounts.
        let shifted = x.iter().enumerate().map(|(i, x)| x + shift * (1 + i / classes) as f64).collect();
        let ((loss, d), (loss_shifted, d_shifted)) = (of(x), of(shifted));
        close(&[number(&loss_shifted)], &[number(&loss)], 1e-11);
        close(&values(&d_shifted), &values(&d), 1e-11);
        // What one class gains the others lose.
        for row in values(&d).chunks(classes) {
            prop_assert!(row.iter().sum::<f64>().abs() < 1e-13 * classes as f64, "{:?}", row);
        }
    }
}
