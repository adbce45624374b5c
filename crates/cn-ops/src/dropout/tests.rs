use super::*;
use crate::testing::*;
use crate::{Parameters, Pool};
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;

const RATE: f64 = 0.25;

fn layer(name: &str) -> Dropout {
    Dropout::new(RATE, name).unwrap()
}

/// The mask of each image, by its id.
fn masks(layer: &mut Dropout, draw: Draw<'_>, features: usize) -> Vec<(u32, Vec<f64>)> {
    let x = Tensor::ones((draw.ids.len(), features), DType::F64, &Device::Cpu).unwrap();
    let y = layer.forward(&x.into(), &mut Pass::train(&Pool::default(), draw)).unwrap();
    draw.ids.iter().copied().zip(values(&y).chunks(features).map(<[f64]>::to_vec)).collect()
}

#[test]
fn gradients_are_those_of_finite_differences() {
    check_layer(|_| layer("a"), &fill("x", &[4, 9]), training(4));
    check_layer(|_| layer("a"), &fill("x", &[4, 2, 3, 2]), training(4));
    check_layer(|_| layer("a"), &fill("x", &[4, 9]), Mode::Eval);
    check_layer(|_| Dropout::new(0.0, "a").unwrap(), &fill("x", &[4, 9]), training(4));
}

#[test]
fn the_mask_of_an_image_does_not_depend_on_its_batch_or_threads() {
    let ids = [5, 900, 17, 2, 65_000, 40];
    let all = masks(&mut layer("a"), Draw { seed: 1, epoch: 2, ids: &ids }, 50);
    let mut apart = Vec::new();
    for batch in [&ids[..2], &ids[2..3], &ids[3..]] {
        apart.extend(masks(&mut layer("a"), Draw { seed: 1, epoch: 2, ids: batch }, 50));
    }
    assert_eq!(apart, all);
    let reversed: Vec<u32> = ids.iter().rev().copied().collect();
    let mut turned = masks(&mut layer("a"), Draw { seed: 1, epoch: 2, ids: &reversed }, 50);
    turned.reverse();
    assert_eq!(turned, all);
    for threads in [1, 4] {
        let draw = Draw { seed: 1, epoch: 2, ids: &ids };
        let again = cn_kernels::with_threads(threads, || masks(&mut layer("a"), draw, 50)).unwrap();
        assert_eq!(again, all);
    }
}

#[test]
fn seed_epoch_image_and_name_each_change_the_mask() {
    let of = |seed, epoch, id, name| masks(&mut layer(name), Draw { seed, epoch, ids: &[id] }, 100).remove(0).1;
    let all = [of(1, 1, 1, "a"), of(2, 1, 1, "a"), of(1, 2, 1, "a"), of(1, 1, 2, "a"), of(1, 1, 1, "b")];
    for (i, mask) in all.iter().enumerate() {
        assert!(all[i + 1..].iter().all(|other| mask != other));
    }
}

#[test]
fn the_share_is_p_and_the_mean_stays() {
    let ids: Vec<u32> = (0..200).collect();
    let masks = masks(&mut layer("a"), Draw { seed: 3, epoch: 0, ids: &ids }, 500);
    let all: Vec<f64> = masks.into_iter().flat_map(|(_, mask)| mask).collect();
    assert!(all.iter().all(|&m| m == 0.0 || m == 1.0 / (1.0 - RATE)));
    let dropped = all.iter().filter(|&&m| m == 0.0).count() as f64 / all.len() as f64;
    // Five standard deviations of the share among 100,000.
    assert!((dropped - RATE).abs() < 5.0 * (RATE * (1.0 - RATE) / 1e5f64).sqrt(), "{dropped}");
}

#[test]
fn use_is_the_identity_without_a_copy() {
    let x = Activation::from(fill("x", &[2, 3]));
    let y = layer("a").forward(&x, &mut Pass::eval(&Pool::default())).unwrap();
    assert_eq!(x.id(), y.id());
}

#[test]
fn what_does_not_fit_is_refused() {
    for p in [-0.1, 1.0, f64::NAN] {
        assert!(matches!(Dropout::new(p, "a"), Err(Error::Setting { name: "dropout", .. })));
    }
    let x = Activation::from(fill("x", &[3, 4]));
    let refused = layer("a").forward(&x, &mut pass(&Pool::default(), training(2)));
    assert!(matches!(refused, Err(Error::Shape { .. })), "three rows, two ids");
    let none = Parameters::gather(&mut layer("a"), |_| 0).unwrap();
    assert!(none.entries().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_rate_drops_its_share_and_the_backward_pass_drops_the_same(
        p in 0.0..0.97f64, rows in 1usize..=8, features in 1usize..400, epoch: u32,
    ) {
        let (pool, mut layer) = (Pool::default(), Dropout::new(p, "a").unwrap());
        let mode = Mode::Train(Draw { seed: 5, epoch, ids: &IDS[..rows] });
        // Nothing is zero but what was dropped.
        let x = (fill("x", &[rows, features]) + 2.0).unwrap();
        let dy = (fill("dy", &[rows, features]) - 3.0).unwrap();
        let y = values(&layer.forward(&x.clone().into(), &mut pass(&pool, mode)).unwrap());
        let dx = layer.backward(dy.clone().into(), InputGrad::New, &mut pass(&pool, mode)).unwrap().unwrap();
        let scale = 1.0 / (1.0 - p);
        let mut dropped = 0;
        for (((x, y), dy), dx) in values(&x).iter().zip(&y).zip(values(&dy)).zip(values(&dx)) {
            if *y == 0.0 {
                dropped += 1;
                prop_assert_eq!(dx, 0.0);
            } else {
                prop_assert_eq!((*y, dx), (x * scale, dy * scale));
            }
        }
        // Seven standard deviations, and something for the long tail of rare events.
        let n = (rows * features) as f64;
        let slack = 7.0 * (n * p * (1.0 - p)).sqrt() + 7.0;
        prop_assert!((f64::from(dropped) - n * p).abs() <= slack, "{} of {} at {}", dropped, n, p);
    }
}
