use super::*;
use crate::testing::*;
use crate::{Mode, Pool};
use proptest::prelude::*;

fn config(kernel: usize, stride: usize, padding: usize) -> MaxPool2dConfig {
    MaxPool2dConfig { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 2] }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    check_layer(|_| MaxPool2d::new(config(3, 2, 1)), &fill("x", &[2, 5, 6, 3]), Mode::Eval);
    check_layer(|_| MaxPool2d::new(config(2, 2, 0)), &fill("x", &[2, 4, 5, 3]), Mode::Eval);
}

#[test]
fn numbers_are_pytorchs_also_with_ties() {
    let golden = golden("ops.json");
    for g in [&golden["maxpool_3_2_1"], &golden["maxpool_ties"]] {
        let of = |key: &str, shape: &str| channels_last(&tensor(singles(&g[key]), &sizes(&g[shape])));
        let (mut layer, pool) = (MaxPool2d::new(config(3, 2, 1)), Pool::default());
        let y = layer.forward(&of("x", "in_shape").into(), &mut Pass::eval(&pool).saving()).unwrap();
        assert_eq!(values(&channels_first(&y)), singles(&g["y"]));
        let dy = of("dy", "out_shape");
        let dx = layer.backward(dy.into(), InputGrad::New, &mut Pass::eval(&pool)).unwrap().unwrap();
        close(&values(&channels_first(&dx)), &numbers(&g["dx"]), 1e-10);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_window_gives_its_first_maximum(
        (b, h, w, c) in (1usize..3, 1usize..9, 1usize..9, 1usize..5),
        kernel in prop::array::uniform2(1usize..5),
        stride in prop::array::uniform2(1usize..4),
        padding in prop::array::uniform2(0usize..3),
    ) {
        // Few different values: many ties.
        let x = (fill("x", &[b, h, w, c]) * 2.0).unwrap().round().unwrap();
        let config = MaxPool2dConfig { kernel, stride, padding };
        let Ok(s) = config.shape(&x) else { return Ok(()) };
        let (mut layer, pool) = (MaxPool2d::new(config), Pool::default());
        let y = layer.forward(&x.clone().into(), &mut Pass::eval(&pool).saving()).unwrap();
        let (x, mut expected, mut dx) = (values(&x), Vec::new(), vec![0.0; b * h * w * c]);
        let (ho, wo) = (s.out_height(), s.out_width());
        let dy = fill("dy", &[b, ho, wo, c]);
        for (at, dy) in values(&dy).into_iter().enumerate() {
            let (n, oy, ox, ch) = (at / (ho * wo * c), at / (wo * c) % ho, at / c % wo, at % c);
            let mut best = None;
            for (ky, kx) in (0..kernel[0]).flat_map(|ky| (0..kernel[1]).map(move |kx| (ky, kx))) {
                let (iy, ix) = (oy * stride[0] + ky, ox * stride[1] + kx);
                if iy < padding[0] || ix < padding[1] || iy >= h + padding[0] || ix >= w + padding[1] {
                    continue;
                }
                let from = ((n * h + iy - padding[0]) * w + ix - padding[1]) * c + ch;
                if best.is_none_or(|best: usize| x[from] > x[best]) {
                    best = Some(from);
                }
            }
            let best = best.expect("padding is at most half a window");
            expected.push(x[best]);
            dx[best] += dy;
        }
        prop_assert_eq!(values(&y), expected);
        let found = layer.backward(dy.into(), InputGrad::New, &mut Pass::eval(&pool)).unwrap().unwrap();
        close(&values(&found), &dx, 1e-14);
    }
}

#[test]
fn windows_that_cannot_be_are_refused() {
    let x = Activation::from(fill("x", &[1, 4, 4, 1]));
    for refused in [config(0, 1, 0), config(2, 0, 0), config(2, 2, 2), config(5, 1, 0), config(16, 1, 8)] {
        let error = MaxPool2d::new(refused).forward(&x, &mut Pass::eval(&Pool::default())).unwrap_err();
        assert!(matches!(error, Error::PoolShape(_)) && error.hint().is_some());
    }
}
