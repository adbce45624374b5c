use super::*;
use crate::{BatchNorm, Flatten, Linear, Network, Sequential};
use candle_core::{DType, Device};

/// A norm and a linear layer: parameters, running statistics, and a counter.
fn model() -> Network {
    let ones = Tensor::ones(2, DType::F32, &Device::Cpu).unwrap();
    let weight = Tensor::arange(0f32, 24.0, &Device::Cpu).unwrap().reshape((3, 8)).unwrap();
    let layers = Sequential::new()
        .push("norm", BatchNorm::new(ones.clone(), ones).unwrap())
        .push("flat", Flatten::new())
        .push("head", Linear::new(weight).unwrap());
    Network::new(layers, |_| 0).unwrap()
}

/// All floats of the model become `value`, and counters its whole part.
fn set(model: &mut Network, value: f64) {
    let tensors = model.named_tensors().unwrap();
    let of = |tensor: &Tensor| (Tensor::ones(tensor.dims(), DType::F64, &Device::Cpu).unwrap() * value).unwrap();
    let filled: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), of(tensor))).collect();
    model.load_tensors(&filled).unwrap();
}

/// The one value of each tensor, which all its elements have.
fn values(tensors: &[(String, Tensor)]) -> Vec<(String, f64)> {
    let of = |tensor: &Tensor| {
        let all: Vec<f64> = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert!(all.iter().all(|value| *value == all[0]), "{all:?}");
        all[0]
    };
    tensors.iter().map(|(name, tensor)| (name.clone(), of(tensor))).collect()
}

fn is_counter(name: &str) -> bool {
    name.ends_with("num_batches_tracked")
}

#[test]
fn it_follows_the_weights_and_forgets_the_first_steps() {
    let (mut model, mut ema) = (model(), Ema::new(0.25).unwrap());
    assert!(ema.named_tensors(&mut model).unwrap().is_none());
    let mut expected = 8.0;
    for (n, value) in [8.0, 4.0, 16.0, 2.0, 3.0].into_iter().enumerate() {
        set(&mut model, value);
        ema.update(&mut model).unwrap();
        // 1/10, 2/11, 3/12 reach the decay of 1/4.
        let decay = [0.1f64, 2.0 / 11.0, 0.25, 0.25, 0.25][n];
        expected = decay * expected + (1.0 - decay) * value;
        let found = values(&ema.named_tensors(&mut model).unwrap().unwrap());
        assert_eq!(found.len(), model.named_tensors().unwrap().len());
        for (name, found) in found {
            let expected = if is_counter(&name) { value } else { expected };
            assert!((found - expected).abs() < 1e-5, "{name} after {n}: {found}, expected {expected}");
        }
    }
    assert_eq!(ema.updates(), 5);
}

#[test]
fn swapping_twice_gives_every_bit_back() {
    let (mut model, mut ema) = (model(), Ema::new(0.9).unwrap());
    ema.swap(&mut model).unwrap();
    for value in [1.0, 0.3, 7.0] {
        set(&mut model, value);
        ema.update(&mut model).unwrap();
    }
    let average = values(&ema.named_tensors(&mut model).unwrap().unwrap());
    let before = values(&model.named_tensors().unwrap());
    ema.swap(&mut model).unwrap();
    assert_eq!(values(&model.named_tensors().unwrap()), average);
    assert_eq!(values(&ema.named_tensors(&mut model).unwrap().unwrap()), before);
    ema.swap(&mut model).unwrap();
    assert_eq!(values(&model.named_tensors().unwrap()), before);
}

#[test]
fn what_the_layers_answer_is_the_average_s_while_it_is_swapped_in() {
    let (mut model, mut ema) = (model(), Ema::new(0.9).unwrap());
    let images = Tensor::ones((1, 2, 2, 2), DType::F32, &Device::Cpu).unwrap();
    let logit = |model: &mut Network| -> f32 {
        let logits = model.forward(&images, crate::Mode::Eval).unwrap();
        logits.flatten_all().unwrap().to_vec1().unwrap()[0]
    };
    set(&mut model, 1.0);
    ema.update(&mut model).unwrap();
    let first = logit(&mut model);
    set(&mut model, 2.0);
    let second = logit(&mut model);
    assert_ne!(first, second);
    ema.swap(&mut model).unwrap();
    assert_eq!(logit(&mut model), first);
    ema.swap(&mut model).unwrap();
    assert_eq!(logit(&mut model), second);
}

#[test]
fn a_loaded_one_goes_on_as_the_one_that_was_copied() {
    let (mut model, mut ema) = (model(), Ema::new(0.9).unwrap());
    for value in [1.0, 0.3] {
        set(&mut model, value);
        ema.update(&mut model).unwrap();
    }
    let mut again = Ema::new(0.9).unwrap();
    let tensors = ema.named_tensors(&mut model).unwrap().unwrap();
    again.load(&mut model, ema.updates(), &tensors).unwrap();
    set(&mut model, 5.0);
    for ema in [&mut ema, &mut again] {
        ema.update(&mut model).unwrap();
    }
    let of = |ema: &Ema, model: &mut Network| values(&ema.named_tensors(model).unwrap().unwrap());
    assert_eq!(of(&ema, &mut model), of(&again, &mut model));

    let error = again.load(&mut model, 1, &tensors[1..]).unwrap_err();
    assert!(matches!(&error, Error::UnknownTensor { name } if *name == tensors[0].0), "{error}");
    assert_eq!(of(&ema, &mut model), of(&again, &mut model), "nothing has changed");
}

#[test]
fn decays_that_are_none_are_refused() {
    for decay in [0.0, 1.0, -0.1, f64::NAN, f64::INFINITY] {
        assert!(matches!(Ema::new(decay), Err(Error::Setting { name: "ema", .. })), "{decay}");
    }
}
