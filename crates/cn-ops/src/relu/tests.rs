use super::*;
use crate::testing::*;
use crate::{Mode, Pool};
use proptest::prelude::*;

#[test]
fn gradients_are_those_of_finite_differences() {
    check_layer(|_| Relu::new(), &fill("x", &[2, 3, 4]), Mode::Eval);
}

#[test]
fn zero_has_no_slope_and_nan_shows() {
    let pool = Pool::default();
    let mut relu = Relu::new();
    let x = tensor(vec![0.0, -1.0, 2.0, f64::NAN, -0.0], &[1, 5]);
    let y = values(&relu.forward(&x.into(), &mut Pass::eval(&pool).saving()).unwrap());
    assert!(y[..3] == [0.0, 0.0, 2.0] && y[3].is_nan());
    let dy = tensor(vec![1.0; 5], &[1, 5]);
    let dx = relu.backward(dy.clone().into(), InputGrad::New, &mut Pass::eval(&pool)).unwrap().unwrap();
    assert_eq!(values(&dx)[..3], [0.0, 0.0, 1.0]);
    assert_eq!(values(&dy), [1.0; 5], "a gradient of the caller's is not written to");
}

#[test]
fn a_gradient_that_nobody_else_holds_is_used_again() {
    let pool = Pool::default();
    let mut relu = Relu::new();
    relu.forward(&fill("x", &[2, 3]).into(), &mut Pass::eval(&pool).saving()).unwrap();
    let dy = pool.take((2, 3), candle_core::DType::F64, &candle_core::Device::Cpu).unwrap();
    let (id, allocated) = (dy.id(), pool.allocated());
    let dx = relu.backward(dy, InputGrad::New, &mut Pass::eval(&pool)).unwrap().unwrap();
    assert_eq!((dx.id(), pool.allocated()), (id, allocated));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_shape_lets_positive_values_and_their_gradients_through(
        rows in 1usize..9, n in prop_oneof![1usize..60, PIECE / 4 - 2..PIECE / 4 + 3],
    ) {
        let (pool, mut relu) = (Pool::default(), Relu::new());
        let (x, dy) = (fill("x", &[rows, n]), fill("dy", &[rows, n]));
        let y = relu.forward(&x.clone().into(), &mut Pass::eval(&pool).saving()).unwrap();
        let dx = relu.backward(dy.clone().into(), InputGrad::New, &mut Pass::eval(&pool)).unwrap().unwrap();
        let (x, dy) = (values(&x), values(&dy));
        prop_assert!(values(&y).iter().zip(&x).all(|(y, x)| *y == x.max(0.0)));
        let expected = x.iter().zip(&dy).map(|(&x, &dy)| if x > 0.0 { dy } else { 0.0 });
        prop_assert!(values(&dx).into_iter().eq(expected));
    }
}
