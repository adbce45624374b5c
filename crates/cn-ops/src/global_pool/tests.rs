use super::*;
use crate::testing::*;
use crate::{Flatten, Mode, Pool};
use proptest::prelude::*;

#[test]
fn gradients_are_those_of_finite_differences() {
    let x = fill("x", &[2, 3, 4, 5]);
    check_layer(|_| ConcatPool::new(), &x, Mode::Eval);
    check_layer(|_| MeanPool::new(), &x, training(2));
    check_layer(|_| Flatten::new(), &x, Mode::Eval);
}

#[test]
fn numbers_are_pytorchs_also_with_ties() {
    let golden = &golden("ops.json")["concat_pool"];
    let x = channels_last(&tensor(singles(&golden["x"]), &sizes(&golden["shape"])));
    let (mut layer, pool) = (ConcatPool::new(), Pool::default());
    let y = layer.forward(&x.into(), &mut Pass::eval(&pool).saving()).unwrap();
    close(&values(&y), &numbers(&golden["y"]), 1e-10);
    let dy = tensor(singles(&golden["dy"]), &[2, 6]);
    let dx = layer.backward(dy.into(), InputGrad::New, &mut Pass::eval(&pool)).unwrap().unwrap();
    close(&values(&channels_first(&dx)), &numbers(&golden["dx"]), 1e-10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_shape_gives_maximum_and_mean(
        (b, h, w, c) in (1usize..5, 1usize..7, 1usize..7, 1usize..30), skipped in 0usize..2,
    ) {
        let x = fill("x", &[b + skipped, h, w, c]).narrow(0, skipped, b).unwrap();
        let max = x.reshape((b, h * w, c)).unwrap().max(1).unwrap();
        let expected = Tensor::cat(&[max, x.mean((1, 2)).unwrap()], 1).unwrap();
        let pool = Pool::default();
        let both = ConcatPool::new().forward(&x.clone().into(), &mut Pass::eval(&pool)).unwrap();
        close(&values(&both), &values(&expected), 1e-14);
        let mean = MeanPool::new().forward(&x.into(), &mut Pass::eval(&pool)).unwrap();
        close(&values(&mean), &values(&expected.narrow(1, c, c).unwrap()), 1e-14);
    }
}

#[test]
fn empty_images_are_refused() {
    let pool = Pool::default();
    for shape in [vec![0, 2, 2, 3], vec![1, 0, 2, 3], vec![1, 2, 2, 0], vec![2, 3]] {
        let x = Activation::from(Tensor::zeros(shape, DType::F32, &candle_core::Device::Cpu).unwrap());
        assert!(matches!(ConcatPool::new().forward(&x, &mut Pass::eval(&pool)), Err(Error::Shape { .. })));
        assert!(matches!(MeanPool::new().forward(&x, &mut Pass::eval(&pool)), Err(Error::Shape { .. })));
    }
}
