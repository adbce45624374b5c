use super::*;
use crate::testing::*;
use crate::{Mode, Parameters, Pool};
use candle_core::{DType, Var};
use proptest::prelude::*;

fn layer(i: usize, o: usize) -> impl Fn(DType) -> Linear {
    move |dtype| Linear::new(fill("w", &[o, i]).to_dtype(dtype).unwrap()).unwrap()
}

fn with_bias(i: usize, o: usize) -> impl Fn(DType) -> Linear {
    move |dtype| layer(i, o)(dtype).with_bias(fill("b", &[o]).to_dtype(dtype).unwrap()).unwrap()
}

#[test]
fn gradients_are_those_of_finite_differences() {
    check_layer(layer(5, 3), &fill("x", &[4, 5]), Mode::Eval);
    check_layer(with_bias(5, 3), &fill("x", &[4, 5]), training(4));
    check_layer(with_bias(1, 1), &fill("x", &[1, 1]), Mode::Eval);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_shape_is_candles(b in 1usize..80, i in 1usize..70, o in 1usize..70) {
        let (w, x, bias) = (fill("w", &[o, i]), fill("x", &[b, i]), fill("b", &[o]));
        let mut ours = with_bias(i, o)(DType::F64);
        let parameters = Parameters::gather(&mut ours, |_| 0).unwrap();
        let ours = run(&mut ours, &parameters, &x, Mode::Eval);
        let [w, x, bias] = [w, x, bias].map(|t| Var::from_tensor(&t).unwrap());
        let theirs = candle_nn::Linear::new(w.as_tensor().clone(), Some(bias.as_tensor().clone()));
        let y = candle_nn::Module::forward(&theirs, &x).unwrap();
        let grads = (&y * fill("dy", &[b, o])).unwrap().sum_all().unwrap().backward().unwrap();
        close(&values(&ours.y), &values(&y), 1e-12);
        close(&values(&ours.dx), &values(grads.get(&x).unwrap()), 1e-12);
        let params = [values(grads.get(&w).unwrap()), values(grads.get(&bias).unwrap())].concat();
        close(&ours.params, &params, 1e-12);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut linear = layer(5, 3)(DType::F64);
    let mut forward = |shape: &[usize]| linear.forward(&fill("x", shape).into(), &mut Pass::eval(&Pool::default()));
    assert!(matches!(forward(&[4, 6]), Err(Error::Shape { name, .. }) if name == "x"));
    assert!(matches!(forward(&[4, 1, 5]), Err(Error::Shape { .. })));
    assert!(matches!(forward(&[0, 5]), Err(Error::Shape { .. })));
    assert!(layer(5, 3)(DType::F64).with_bias(fill("b", &[5])).is_err());
    assert!(Linear::new(fill("w", &[5])).is_err());
}
