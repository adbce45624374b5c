//! What the tests share: numbers, finite differences, and the laws that every layer keeps.

use crate::storage::write;
use crate::{Activation, Draw, Error, InputGrad, Layer, Mode, Parameters, Pass, Pool, Result, Slot};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

/// Step of the central differences, and what they may be off by, relative to the largest gradient.
const STEP: f64 = 1e-5;
const DIFFERENCE_TOLERANCE: f64 = 1e-7;
/// `f32` against `f64`, relative to the largest value: some hundred roundings of 6e-8.
const F32_TOLERANCE: f64 = 2e-5;

/// Values in [-1, 1), a function of `name` alone.
pub(crate) fn fill(name: &str, shape: &[usize]) -> Tensor {
    let n = shape.iter().product();
    let mut draws = cn_random::Draws::new(7, 0, 0, cn_random::Purpose::named(name));
    let values: Vec<f64> = (0..n).map(|_| draws.range(-1.0, 1.0)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

pub(crate) fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Checks that the largest difference is at most `tolerance` times the largest expected value.
#[track_caller]
pub(crate) fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1e-30, |m: f64, x| m.max(x.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        // Written so that NaN fails.
        assert!((f - e).abs() <= tolerance * scale, "element {i}: {f} instead of {e}, scale {scale}");
    }
}

pub(crate) const IDS: [u32; 8] = [3, 1, 4, 15, 9, 2, 6, 5];

pub(crate) fn training(batch: usize) -> Mode<'static> {
    Mode::Train(Draw { seed: 42, epoch: 1, ids: &IDS[..batch] })
}

pub(crate) fn pass<'a>(pool: &Pool, mode: Mode<'a>) -> Pass<'a> {
    match mode {
        Mode::Train(draw) => Pass::train(pool, draw),
        Mode::Eval => Pass::eval(pool).saving(),
    }
}

/// Output, and gradients of the input and of all parameters for an output gradient of `fill("dy")`.
pub(crate) struct Grads {
    pub y: Tensor,
    pub dx: Tensor,
    pub params: Vec<f64>,
}

pub(crate) fn run(layer: &mut dyn Layer, parameters: &Parameters, x: &Tensor, mode: Mode<'_>) -> Grads {
    let pool = Pool::default();
    parameters.zero_grads().unwrap();
    let y = layer.forward(&x.clone().into(), &mut pass(&pool, mode)).unwrap();
    let dy = fill("dy", y.dims()).to_dtype(x.dtype()).unwrap();
    let y = y.to_tensor().unwrap();
    let dx = layer.backward(dy.into(), InputGrad::New, &mut pass(&pool, mode)).unwrap().unwrap();
    Grads { y, dx: dx.to_tensor().unwrap(), params: values(parameters.grads()) }
}

/// Checks the gradients of `make(F64)` against central differences, those of `make(F32)` against them, and the laws
/// of [`Layer`].
#[track_caller]
pub(crate) fn check_layer<L: Layer>(make: impl Fn(DType) -> L, x: &Tensor, mode: Mode<'_>) {
    let mut layer = make(DType::F64);
    let parameters = Parameters::gather(&mut layer, |_| 0).unwrap();
    let grads = run(&mut layer, &parameters, x, mode);
    check_differences(&mut layer, &parameters, x, mode, &grads);
    check_requests(&mut layer, &parameters, x, mode, &grads);
    check_frozen(&mut layer, parameters, x, mode, &grads);

    let mut single = make(DType::F32);
    let parameters = Parameters::gather(&mut single, |_| 0).unwrap();
    let found = run(&mut single, &parameters, &x.to_dtype(DType::F32).unwrap(), mode);
    close(&values(&found.y), &values(&grads.y), F32_TOLERANCE);
    close(&values(&found.dx), &values(&grads.dx), F32_TOLERANCE);
    close(&found.params, &grads.params, F32_TOLERANCE);
}

/// `sum(y * dy)`, whose gradients `run` gives.
fn objective(layer: &mut dyn Layer, x: &Tensor, mode: Mode<'_>) -> f64 {
    let y = layer.forward(&x.clone().into(), &mut pass(&Pool::default(), mode)).unwrap();
    let dy = values(&fill("dy", y.dims()));
    values(&y).iter().zip(dy).map(|(y, dy)| y * dy).sum()
}

#[track_caller]
fn check_differences(layer: &mut dyn Layer, p: &Parameters, x: &Tensor, mode: Mode<'_>, grads: &Grads) {
    let x = x.copy().unwrap();
    let mut difference = |of: &Tensor, i: usize| {
        let mut at = |shift: f64| {
            let old = set(of, i, |old| old + shift);
            let value = objective(layer, &x, mode);
            set(of, i, |_| old);
            value
        };
        (at(STEP) - at(-STEP)) / (2.0 * STEP)
    };
    let numeric: Vec<f64> = (0..x.elem_count()).map(|i| difference(&x, i)).collect();
    close(&values(&grads.dx), &numeric, DIFFERENCE_TOLERANCE);
    let numeric: Vec<f64> = (0..p.values().elem_count()).map(|i| difference(p.values(), i)).collect();
    close(&grads.params, &numeric, DIFFERENCE_TOLERANCE);
}

/// Changes element `i`; returns what it was, since adding and subtracting again would not give it back.
pub(crate) fn set(of: &Tensor, i: usize, f: impl Fn(f64) -> f64) -> f64 {
    write::<f64, _>(of, |v| {
        let old = v[i];
        v[i] = f(old);
        old
    })
    .unwrap()
}

/// `AddTo` is `New` and a sum, `Skip` gives nothing but the parameters' gradients, a second backward pass fails.
#[track_caller]
fn check_requests(layer: &mut dyn Layer, p: &Parameters, x: &Tensor, mode: Mode<'_>, grads: &Grads) {
    let pool = Pool::default();
    let mut backward = |dx: InputGrad| -> Result<Option<Activation>> {
        let y = layer.forward(&x.clone().into(), &mut pass(&pool, mode))?;
        let dy = fill("dy", y.dims());
        layer.backward(dy.into(), dx, &mut pass(&pool, mode))
    };
    let start = fill("start", x.dims());
    let sum = pool.take(x.shape().clone(), DType::F64, &Device::Cpu).unwrap();
    write::<f64, _>(&sum, |s| s.copy_from_slice(&values(&start))).unwrap();
    let added = backward(InputGrad::AddTo(sum)).unwrap().expect("a gradient");
    close(&values(&added), &values(&(&grads.dx + &start).unwrap()), 1e-14);
    p.zero_grads().unwrap();
    assert!(backward(InputGrad::Skip).unwrap().is_none());
    assert_eq!(values(p.grads()), grads.params, "gradients of the parameters do not depend on the request");
    backward(InputGrad::Skip).unwrap();
    close(&values(p.grads()), &grads.params.iter().map(|g| 2.0 * g).collect::<Vec<_>>(), 1e-14);

    let dy = fill("dy", grads.y.dims());
    let again = layer.backward(dy.clone().into(), InputGrad::New, &mut pass(&pool, mode));
    assert!(matches!(again, Err(Error::NothingSaved { .. })), "what was saved is used up");
    let mut use_only = pass(&pool, mode);
    use_only.saves = false;
    layer.forward(&x.clone().into(), &mut use_only).unwrap();
    let after_use = layer.backward(dy.into(), InputGrad::New, &mut pass(&pool, mode));
    assert!(matches!(after_use, Err(Error::NothingSaved { .. })), "nothing is saved unless asked for");
}

/// Frozen parameters get no gradient, and the input the same one.
#[track_caller]
fn check_frozen(layer: &mut dyn Layer, mut p: Parameters, x: &Tensor, mode: Mode<'_>, grads: &Grads) {
    p.set_trainable(&mut *layer, |_| false).unwrap();
    let frozen = run(layer, &p, x, mode);
    assert!(frozen.params.iter().all(|&g| g == 0.0));
    assert_eq!(values(&frozen.dx), values(&grads.dx));
}

/// Values of the buffer `name` of a layer.
pub(crate) fn buffer(layer: &mut dyn Layer, name: &str) -> Vec<f64> {
    let mut found = None;
    layer
        .visit("", &mut |n, slot| {
            if let (true, Slot::Buffer(b)) = (n == name, slot) {
                found = Some(values(b));
            }
            Ok(())
        })
        .unwrap();
    found.expect("the layer has this buffer")
}

pub(crate) fn golden(file: &str) -> Value {
    let path = format!("{}/../../tests/golden/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A list of numbers, nested or not.
pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().expect("a number")],
    }
}

/// Numbers that the golden file holds as `f32`, exactly.
pub(crate) fn singles(value: &Value) -> Vec<f64> {
    numbers(value).into_iter().map(|x| f64::from(x as f32)).collect()
}

pub(crate) fn sizes(value: &Value) -> Vec<usize> {
    numbers(value).into_iter().map(|x| x as usize).collect()
}

pub(crate) fn tensor(values: Vec<f64>, shape: &[usize]) -> Tensor {
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// `(B, C, H, W)` to `(B, H, W, C)`.
pub(crate) fn channels_last(t: &Tensor) -> Tensor {
    t.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
}

/// `(B, H, W, C)` to `(B, C, H, W)`.
pub(crate) fn channels_first(t: &Tensor) -> Tensor {
    t.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap()
}
