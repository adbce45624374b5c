use super::*;
use crate::testing::*;
use crate::{Parameters, Pool};
use proptest::prelude::*;

fn norm(channels: usize) -> impl Fn(DType) -> BatchNorm {
    move |dtype| {
        let of = |name| fill(name, &[channels]).to_dtype(dtype).unwrap();
        let norm = BatchNorm::new(of("gamma"), of("beta")).unwrap();
        // Running moments that differ from the batch's.
        crate::storage::copy_into(&norm.running_mean, &(of("mean") * 0.3).unwrap()).unwrap();
        crate::storage::copy_into(&norm.running_var, &((of("var") * 0.5).unwrap() + 1.0).unwrap()).unwrap();
        norm
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for mode in [training(4), Mode::Eval] {
        check_layer(norm(3), &fill("x", &[4, 2, 3, 3]), mode);
        check_layer(norm(5), &fill("x", &[4, 5]), mode);
        check_layer(|dtype| norm(3)(dtype).relu(), &fill("x", &[4, 2, 3, 3]), mode);
    }
}

#[test]
fn numbers_are_pytorchs() {
    let golden = golden("ops.json");
    check_golden(&golden["batchnorm2d"], channels_last, channels_first);
    check_golden(&golden["batchnorm1d"], Tensor::clone, Tensor::clone);
}

fn check_golden(g: &serde_json::Value, to_ours: fn(&Tensor) -> Tensor, to_theirs: fn(&Tensor) -> Tensor) {
    let shape = sizes(&g["shape"]);
    let single = |key: &str, shape: &[usize]| tensor(singles(&g[key]), shape);
    let channels = [shape[1]];
    let mut bn = BatchNorm::new(single("weight", &channels), single("bias", &channels)).unwrap();
    crate::storage::copy_into(&bn.running_mean, &single("running_mean_start", &channels)).unwrap();
    crate::storage::copy_into(&bn.running_var, &single("running_var_start", &channels)).unwrap();
    let parameters = Parameters::gather(&mut bn, |_| 0).unwrap();
    let pool = Pool::default();
    let x = Activation::from(to_ours(&single("x", &shape)));
    let y = bn.forward(&x, &mut Pass::eval(&pool)).unwrap();
    close(&values(&to_theirs(&y)), &numbers(&g["eval_y"]), 1e-10);

    let y = bn.forward(&x, &mut pass(&pool, training(shape[0]))).unwrap();
    close(&values(&to_theirs(&y)), &numbers(&g["train_y"]), 1e-10);
    close(&buffer(&mut bn, "running_mean"), &numbers(&g["running_mean_after_1"]), 1e-10);
    close(&buffer(&mut bn, "running_var"), &numbers(&g["running_var_after_1"]), 1e-10);
    let dy = to_ours(&single("dy", &shape));
    let dx = bn.backward(dy.into(), InputGrad::New, &mut Pass::eval(&pool)).unwrap().unwrap();
    close(&values(&to_theirs(&dx)), &numbers(&g["dx"]), 1e-10);
    let grads = [numbers(&g["dweight"]), numbers(&g["dbias"])].concat();
    close(&values(parameters.grads()), &grads, 1e-10);

    bn.forward(&x, &mut pass(&pool, training(shape[0]))).unwrap();
    close(&buffer(&mut bn, "running_mean"), &numbers(&g["running_mean_after_2"]), 1e-10);
    close(&buffer(&mut bn, "running_var"), &numbers(&g["running_var_after_2"]), 1e-10);
    assert_eq!(buffer(&mut bn, "num_batches_tracked"), numbers(&g["num_batches_tracked"]));
}

#[test]
fn running_moments_move_in_training_only() {
    let mut bn = norm(3)(DType::F64);
    let x = Activation::from(fill("x", &[2, 2, 2, 3]));
    let before = buffer(&mut bn, "running_mean");
    bn.forward(&x, &mut Pass::eval(&Pool::default()).saving()).unwrap();
    assert_eq!(buffer(&mut bn, "running_mean"), before);
    assert_eq!(buffer(&mut bn, "num_batches_tracked"), [0.0]);
    bn.forward(&x, &mut pass(&Pool::default(), training(2))).unwrap();
    assert_ne!(buffer(&mut bn, "running_mean"), before);
    assert_eq!(buffer(&mut bn, "num_batches_tracked"), [1.0]);
}

#[test]
fn fused_relu_is_the_relu_of_the_norm() {
    for mode in [training(4), Mode::Eval] {
        let x = fill("x", &[4, 3, 3, 5]);
        let (mut fused, mut apart) = (norm(5)(DType::F64).relu(), crate::Sequential::new());
        apart = apart.push("bn", norm(5)(DType::F64)).push("relu", crate::Relu::new());
        let p = [Parameters::gather(&mut fused, |_| 0).unwrap(), Parameters::gather(&mut apart, |_| 0).unwrap()];
        let (fused, apart) = (run(&mut fused, &p[0], &x, mode), run(&mut apart, &p[1], &x, mode));
        close(&values(&fused.y), &values(&apart.y), 1e-14);
        close(&values(&fused.dx), &values(&apart.dx), 1e-13);
        close(&fused.params, &apart.params, 1e-13);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_shape_has_mean_beta_and_deviation_gamma(
        (b, h, w, c) in (1usize..6, 1usize..6, 1usize..6, 1usize..40), offset in -100.0..100.0f64,
    ) {
        let rows = b * h * w;
        prop_assume!(rows > 1);
        let x = (fill("x", &[b, h, w, c]) + offset).unwrap();
        let mut bn = norm(c)(DType::F64);
        let (gamma, beta) = (values(bn.weight.value()), values(bn.bias.value()));
        let y = values(&bn.forward(&x.clone().into(), &mut pass(&Pool::default(), training(b.min(8)))).unwrap());
        let x = values(&x);
        for c in 0..c {
            let column = |v: &[f64]| v.iter().skip(c).step_by(gamma.len()).copied().collect::<Vec<_>>();
            let mean = |v: &[f64]| v.iter().sum::<f64>() / rows as f64;
            let x = column(&x);
            let mu = mean(&x);
            let var = mean(&x.iter().map(|x| (x - mu).powi(2)).collect::<Vec<_>>());
            let expected: Vec<f64> = x.iter().map(|x| (x - mu) / (var + 1e-5).sqrt() * gamma[c] + beta[c]).collect();
            close(&column(&y), &expected, 1e-9);
        }
    }
}

#[test]
fn one_value_a_channel_cannot_be_trained() {
    let mut bn = norm(3)(DType::F64);
    let x = Activation::from(fill("x", &[1, 3]));
    let refused = bn.forward(&x, &mut pass(&Pool::default(), training(1)));
    assert!(refused.unwrap_err().to_string().contains("at least two values"));
    assert!(bn.forward(&x, &mut Pass::eval(&Pool::default())).is_ok());
    let wrong = Activation::from(fill("x", &[2, 4]));
    assert!(matches!(bn.forward(&wrong, &mut Pass::eval(&Pool::default())), Err(Error::Shape { .. })));
}

#[test]
fn settings_are_checked() {
    let with = |eps, momentum| norm(3)(DType::F64).with_config(BatchNormConfig { eps, momentum });
    assert!(matches!(with(0.0, 0.1), Err(Error::Setting { name: "eps", .. })));
    assert!(matches!(with(f64::NAN, 0.1), Err(Error::Setting { name: "eps", .. })));
    assert!(matches!(with(1e-3, 1.5), Err(Error::Setting { name: "momentum", .. })));
    assert!(with(1e-3, 1.0).is_ok());
}
