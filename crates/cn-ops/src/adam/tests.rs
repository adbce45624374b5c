use super::*;
use crate::testing::*;
use crate::{InputGrad, Layer, Param, Pass, Slot, Visit};
use candle_core::DType;
use proptest::prelude::*;
use serde_json::Value;

/// Parameters alone.
struct Bag(Vec<(&'static str, Param)>);

impl Layer for Bag {
    fn forward(&mut self, x: &crate::Activation, _: &mut Pass<'_>) -> Result<crate::Activation> {
        Ok(x.clone())
    }
    fn backward(
        &mut self,
        dy: crate::Activation,
        dx: InputGrad,
        _: &mut Pass<'_>,
    ) -> Result<Option<crate::Activation>> {
        dx.give(dy)
    }
    fn visit(&mut self, _: &str, f: &mut Visit<'_>) -> Result<()> {
        self.0.iter_mut().try_for_each(|(name, param)| f(name, Slot::Param(param)))
    }
}

const NAMES: [&str; 3] = ["w", "bn_w", "bn_b"];

/// The golden parameters: a weight in group 0, a norm in group 1.
fn start(golden: &Value, dtype: DType) -> (Bag, Parameters) {
    let of = |name: &str| {
        let shape = sizes(&golden["shapes"][name]);
        tensor(singles(&golden["start"][name]), &shape).to_dtype(dtype).unwrap()
    };
    let (w, bn_w, bn_b) = (Param::weight(of("w")), Param::norm(of("bn_w")), Param::norm(of("bn_b")));
    let mut bag = Bag(vec![("w", w.unwrap()), ("bn_w", bn_w.unwrap()), ("bn_b", bn_b.unwrap())]);
    let parameters = Parameters::gather(&mut bag, |name| usize::from(name != "w")).unwrap();
    (bag, parameters)
}

fn all(of: &Value, read: fn(&Value) -> Vec<f64>) -> Vec<f64> {
    NAMES.iter().flat_map(|name| read(&of[name])).collect()
}

fn set_grads(parameters: &Parameters, grads: Vec<f64>) {
    let n = grads.len();
    copy_into(parameters.grads(), &tensor(grads, &[n])).unwrap();
}

fn check_golden(dtype: DType, tolerance: f64) {
    let golden = golden("adam.json");
    for (name, case) in golden["cases"].as_object().unwrap() {
        let (_bag, parameters) = start(&golden, dtype);
        let config = AdamConfig { weight_decay: case["wd"].as_f64().unwrap(), ..AdamConfig::default() };
        let mut adam = Adam::new(&parameters, config).unwrap();
        for step in 0..10 {
            if case["clear_state_before_step"].as_u64() == Some(step as u64) {
                adam.reset().unwrap();
            }
            set_grads(&parameters, all(&golden["grads"][step], singles));
            let lr = numbers(&case["lr_per_step"][step]);
            let beta1 = case["mom_per_step"][step].as_f64().unwrap();
            adam.step(&parameters, &Hyper { lr: &lr, beta1 }).unwrap();
            let expected = all(&case["params_after_step"][step], numbers);
            for (found, expected) in values(parameters.values()).iter().zip(&expected) {
                assert!((found - expected).abs() < tolerance, "{name}, step {step}: {found} instead of {expected}");
            }
        }
        let state =
            |key: &str| NAMES.iter().flat_map(|n| numbers(&case["state_after_last_step"][n][key])).collect::<Vec<_>>();
        close(&values(adam.m()), &state("grad_avg"), tolerance);
        close(&values(adam.v()), &state("sqr_avg"), tolerance);
        assert_eq!(adam.steps().iter().map(|&s| f64::from(s)).collect::<Vec<_>>(), state("step"));
    }
}

#[test]
fn numbers_are_fastais() {
    check_golden(DType::F64, 1e-10);
    check_golden(DType::F32, 1e-6);
}

#[test]
fn frozen_parameters_are_left_alone_and_zero_gradients_decay() {
    let golden = &golden("adam.json")["none_and_zero_gradients"];
    let start = numbers(&golden["start"]);
    let mut bag = Bag(vec![("a", Param::weight(tensor(start.clone(), &[2])).unwrap())]);
    let mut parameters = Parameters::gather(&mut bag, |_| 0).unwrap();
    let config = AdamConfig { weight_decay: golden["wd"].as_f64().unwrap(), ..AdamConfig::default() };
    let mut adam = Adam::new(&parameters, config).unwrap();
    let lr = [golden["lr"].as_f64().unwrap()];
    let hyper = Hyper { lr: &lr, beta1: 0.9 };
    parameters.set_trainable(&mut bag, |_| false).unwrap();
    adam.step(&parameters, &hyper).unwrap();
    assert_eq!(values(parameters.values()), numbers(&golden["after_step_grad_none"]));
    assert_eq!(adam.steps(), [0]);
    parameters.set_trainable(&mut bag, |_| true).unwrap();
    adam.step(&parameters, &hyper).unwrap();
    close(&values(parameters.values()), &numbers(&golden["after_step_grad_zero"]), 1e-14);
    assert_eq!(adam.steps(), [1]);
}

#[test]
fn a_step_leaves_no_gradient() {
    let golden = golden("adam.json");
    for dtype in [DType::F64, DType::F32] {
        let (mut bag, mut parameters) = start(&golden, dtype);
        let mut adam = Adam::new(&parameters, AdamConfig::default()).unwrap();
        let hyper = Hyper { lr: &[0.1, 0.1], beta1: 0.9 };
        let is_clear = |p: &Parameters| values(p.grads()).iter().all(|&g| g == 0.0);
        let grads = || all(&golden["grads"][0], singles);
        set_grads(&parameters, grads());
        adam.step(&parameters, &hyper).unwrap();
        // Whoever writes a gradient after the step finds it cleared all the same.
        copy_into(bag.0[0].1.grad(), &tensor(vec![1.0; 6], bag.0[0].1.value().dims())).unwrap();
        parameters.zero_grads().unwrap();
        assert!(is_clear(&parameters));
        // What is frozen with a gradient loses it, what is not keeps its own.
        set_grads(&parameters, grads());
        parameters.set_trainable(&mut bag, |e| e.name == "w").unwrap();
        assert!(values(parameters.grads())[6..].iter().all(|&g| g == 0.0));
        assert_eq!(values(parameters.grads())[..6], grads()[..6]);
        adam.step(&parameters, &hyper).unwrap();
        assert!(is_clear(&parameters));
    }
}

#[test]
fn neighbours_that_are_updated_alike_are_one_run() {
    let golden = golden("adam.json");
    let (mut bag, mut parameters) = start(&golden, DType::F64);
    let mut adam = Adam::new(&parameters, AdamConfig::default()).unwrap();
    let hyper = Hyper { lr: &[0.1, 0.1], beta1: 0.9 };
    let spans = |adam: &mut Adam, p: &Parameters| {
        adam.runs(p.entries(), &hyper).iter().map(|r| (r.start, r.len)).collect::<Vec<_>>()
    };
    assert_eq!(spans(&mut adam, &parameters), [(0, 6), (6, 4)]);
    parameters.set_trainable(&mut bag, |e| e.name != "bn_w").unwrap();
    assert_eq!(spans(&mut adam, &parameters), [(0, 6), (8, 2)]);
    parameters.set_trainable(&mut bag, |_| true).unwrap();
    assert_eq!(spans(&mut adam, &parameters), [(0, 6), (6, 2), (8, 2)], "steps differ now");
}

#[test]
fn loaded_state_goes_on_as_if_never_stopped() {
    let golden = golden("adam.json");
    let (_a, straight) = start(&golden, DType::F64);
    let (_b, resumed) = start(&golden, DType::F64);
    let mut first = Adam::new(&straight, AdamConfig::default()).unwrap();
    let hyper = Hyper { lr: &[0.01, 0.02], beta1: 0.95 };
    let step = |adam: &mut Adam, p: &Parameters, i: usize| {
        set_grads(p, all(&golden["grads"][i], singles));
        adam.step(p, &hyper).unwrap();
    };
    (0..3).for_each(|i| step(&mut first, &straight, i));
    copy_into(resumed.values(), straight.values()).unwrap();
    let mut second = Adam::new(&resumed, AdamConfig::default()).unwrap();
    second.load(first.m(), first.v(), first.steps()).unwrap();
    (3..6).for_each(|i| {
        step(&mut first, &straight, i);
        step(&mut second, &resumed, i);
    });
    assert_eq!(values(resumed.values()), values(straight.values()));
    assert!(second.load(&fill("m", &[3]), first.v(), first.steps()).is_err());
    assert!(second.load(first.m(), first.v(), &[1]).is_err());
}

#[test]
fn settings_are_checked() {
    let (_bag, p) = start(&golden("adam.json"), DType::F64);
    let refused = |config: AdamConfig| matches!(Adam::new(&p, config), Err(Error::Setting { .. }));
    let good = AdamConfig::default();
    assert!(refused(AdamConfig { beta2: 1.0, ..good }));
    assert!(refused(AdamConfig { eps: 0.0, ..good }));
    assert!(refused(AdamConfig { weight_decay: -0.1, ..good }));
    let mut adam = Adam::new(&p, good).unwrap();
    assert!(adam.step(&p, &Hyper { lr: &[0.1], beta1: 0.9 }).is_err(), "two groups need two rates");
    assert!(adam.step(&p, &Hyper { lr: &[0.1, 0.1], beta1: 1.0 }).is_err());
    assert_eq!(adam.steps(), [0, 0, 0], "a refused step does not count");
}

/// A tensor among others: its size, group, kind, and whether it is trained in each of four steps.
#[derive(Clone, Copy, Debug)]
struct Part {
    len: usize,
    group: usize,
    norm: bool,
    trained: [bool; 4],
}

const LETTERS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let part = (1usize..40, 0usize..3, any::<bool>(), prop::array::uniform4(prop::bool::weighted(0.7)));
    let part = part.prop_map(|(len, group, norm, trained)| Part { len, group, norm, trained });
    // One of several thousand among the small ones: vectors with and without a rest.
    let large = (0usize..4000).prop_map(|len| Part { len: 1 + len, group: 0, norm: false, trained: [true; 4] });
    (prop::collection::vec(part, 1..5), large).prop_map(|(mut parts, large)| {
        parts.push(large);
        parts
    })
}

/// One element by the formulas of Kingma & Ba with decoupled decay.
fn naive_adam([p, m, v]: [f64; 3], g: f64, hyper: &AdamStep) -> [f64; 3] {
    let m = hyper.beta1 * m + (1.0 - hyper.beta1) * g;
    let v = hyper.beta2 * v + (1.0 - hyper.beta2) * g * g;
    let (m_hat, v_hat) =
        (m / (1.0 - hyper.beta1.powf(hyper.step.into())), v / (1.0 - hyper.beta2.powf(hyper.step.into())));
    [p - p * hyper.lr * hyper.weight_decay - hyper.lr * m_hat / (v_hat.sqrt() + hyper.eps), m, v]
}

/// Four steps, flat and tensor by tensor.
fn check_naive(parts: &[Part], config: AdamConfig, steps: &[([f64; 3], f64); 4], dtype: DType, tolerance: f64) {
    let param = |(name, part): (&&'static str, &Part)| {
        let value = fill(name, &[part.len]).to_dtype(dtype).unwrap();
        (*name, if part.norm { Param::norm(value).unwrap() } else { Param::weight(value).unwrap() })
    };
    let mut bag = Bag(LETTERS.iter().zip(parts).map(param).collect());
    let index = |name: &str| LETTERS.iter().position(|letter| *letter == name).unwrap();
    let mut parameters = Parameters::gather(&mut bag, |name| parts[index(name)].group).unwrap();
    let mut adam = Adam::new(&parameters, config).unwrap();
    let mut naive: Vec<Vec<[f64; 3]>> = LETTERS
        .iter()
        .zip(parts)
        .map(|(name, part)| values(&fill(name, &[part.len])).into_iter().map(|p| [p, 0.0, 0.0]).collect())
        .collect();
    let mut counts = vec![0; parts.len()];
    for (i, (lr, beta1)) in steps.iter().enumerate() {
        parameters.set_trainable(&mut bag, |entry| parts[index(&entry.name)].trained[i]).unwrap();
        let mut all = vec![0.0; parameters.grads().elem_count()];
        for entry in parameters.entries() {
            let part = index(&entry.name);
            let grads = values(&fill(&format!("grad {part} {i}"), &[entry.len]));
            all[entry.offset..entry.offset + entry.len].copy_from_slice(&grads);
            if !parts[part].trained[i] {
                continue;
            }
            counts[part] += 1;
            let weight_decay = if parts[part].norm { 0.0 } else { config.weight_decay };
            let AdamConfig { beta2, eps, .. } = config;
            let hyper =
                AdamStep { lr: lr[parts[part].group], beta1: *beta1, beta2, eps, weight_decay, step: counts[part] };
            naive[part].iter_mut().zip(grads).for_each(|(state, g)| *state = naive_adam(*state, g, &hyper));
        }
        set_grads(&parameters, all);
        adam.step(&parameters, &Hyper { lr, beta1: *beta1 }).unwrap();
    }
    for (entry, steps) in parameters.entries().iter().zip(adam.steps()) {
        let part = index(&entry.name);
        assert_eq!(*steps, counts[part]);
        for (which, tensor) in [parameters.values(), adam.m(), adam.v()].into_iter().enumerate() {
            let found = &values(tensor)[entry.offset..entry.offset + entry.len];
            let expected: Vec<f64> = naive[part].iter().map(|state| state[which]).collect();
            // All numbers are of the order of 1; a single one may come close to 0.
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() <= tolerance, "{entry:?}, {which}: {found} instead of {expected}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_parameters_step_as_if_each_tensor_were_alone(
        parts in parts(),
        steps in prop::array::uniform4((prop::array::uniform3(1e-5..1e-1f64), 0.0..0.99f64)),
        (beta2, weight_decay, log_eps) in (0.5..0.999f64, 0.0..0.3f64, -8.0..-2.0f64),
    ) {
        let config = AdamConfig { beta2, eps: 10f64.powf(log_eps), weight_decay };
        check_naive(&parts, config, &steps, DType::F64, 1e-12);
        check_naive(&parts, config, &steps, DType::F32, 5e-5);
    }
}
