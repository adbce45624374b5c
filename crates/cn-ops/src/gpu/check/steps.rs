//! Losses and the optimizer.

use super::Lab;
use crate::gpu::adam_rates;
use cn_cuda::{Adam, Element, Grads, Loss, Result, StepState};
use cn_kernels::loss;
use cn_kernels::optim::{self, AdamSlices, AdamStep};

const E: Element = Element::F32;

pub(super) fn check(lab: &mut Lab<'_>) -> Result<()> {
    losses(lab)?;
    adam(lab)?;
    not_finite(lab)
}

fn losses(lab: &mut Lab<'_>) -> Result<()> {
    let (rows, classes) = (lab.size(1, 300), lab.size(2, 20));
    let n = rows * classes;
    let (_, mut values) = lab.random(E, n)?;
    // Large logits overflow what is written without care.
    values.iter_mut().step_by(5).for_each(|x| *x *= 60.0);
    let (logits, logits_host) = lab.put(E, &values)?;
    let one_hot: Vec<f32> = (0..n).map(|i| f32::from(u8::from(i % classes == i / classes % classes))).collect();
    let (targets, targets_host) = lab.put(E, &one_hot)?;
    for (name, kind) in [
        ("binary cross-entropy", Loss::Bce),
        ("cross-entropy", Loss::Softmax { label_smoothing: 0.0 }),
        ("cross-entropy, smoothed", Loss::Softmax { label_smoothing: 0.1 }),
    ] {
        let (value, grad) = (lab.room(E, 1)?, lab.room(E, n)?);
        kind.run(lab.device, classes, [&logits, &targets], [&value, &grad])?;
        let mut expected = vec![0.0; n];
        let expected_value = match kind {
            Loss::Bce => loss::bce_with_logits(&logits_host, &targets_host, &mut expected),
            Loss::Softmax { label_smoothing: share } => {
                let spread = |t: &f32| t * (1.0 - share as f32) + share as f32 / classes as f32;
                let targets: Vec<f32> = targets_host.iter().map(spread).collect();
                loss::softmax_cross_entropy(classes, &logits_host, &targets, &mut expected)
            }
        };
        lab.judge(format!("{name} ({rows}, {classes})"), E, &value, &[expected_value as f32])?;
        lab.judge(format!("gradient of {name} ({rows}, {classes})"), E, &grad, &expected)?;
    }
    Ok(())
}

fn adam(lab: &mut Lab<'_>) -> Result<()> {
    // A tensor of several chunks with gradients in bf16, one that is frozen, small ones, one of them beside the packs that
    // are read at once; and gaps between them.
    let tensors = [(0, 9000), (9008, 100), (9120, 3), (9125, 40)];
    let len = 9200;
    let (values, mut values_host) = lab.random(E, len)?;
    let optimizer = Adam::new(lab.device, &tensors, len)?.with_narrow(&[0])?;
    let state = StepState::new(lab.device)?;
    state.begin(1, 2)?;
    let copy = lab.room(Element::Bf16, len)?;
    let (mut m, mut v) = (vec![0.0; len], vec![0.0; len]);
    for step in 1..=3 {
        let (wide, mut grads_host) = lab.random(E, len)?;
        let (narrow, narrow_host) = lab.random(Element::Bf16, len)?;
        grads_host[..9000].copy_from_slice(&narrow_host[..9000]);
        let grads = Grads { wide: &wide, narrow: Some(&narrow) };
        let hyper = AdamStep { lr: 3e-2, beta1: 0.9, beta2: 0.99, eps: 1e-5, weight_decay: 0.1, step };
        let other = AdamStep { weight_decay: 0.0, lr: 1e-3, ..hyper };
        let all = [Some(hyper), None, Some(other), Some(hyper)];
        optimizer.set_rates(&all.map(|hyper| hyper.as_ref().map_or_else(Default::default, adam_rates)))?;
        optimizer.watch(&state, grads)?;
        optimizer.step(&state, &values, grads, Some(&copy))?;
        for ((at, n), hyper) in tensors.iter().zip(all).filter_map(|(t, hyper)| Some((*t, hyper?))) {
            let r = at..at + n;
            let (params, grads) = (&mut values_host[r.clone()], &mut grads_host[r.clone()]);
            optim::adam(&hyper, AdamSlices { params, grads, m: &mut m[r.clone()], v: &mut v[r] });
        }
    }
    lab.judge("Adam: values".into(), E, &values, &values_host)?;
    lab.judge("Adam: first moments".into(), E, &optimizer.m, &m)?;
    lab.judge("Adam: second moments".into(), E, &optimizer.v, &v)?;
    let copied = copy.part(0..18_000)?;
    lab.judge("Adam: copy in bf16".into(), Element::Bf16, &copied, &values_host[..9000])?;

    // After a number that is none, nothing moves.
    let bad = lab.put(E, &[0.0, f32::INFINITY])?.0;
    state.watch(&bad)?;
    let before = values.read_floats()?;
    let (wide, _) = lab.random(E, len)?;
    optimizer.step(&state, &values, Grads { wide: &wide, narrow: Some(&lab.random(Element::Bf16, len)?.0) }, None)?;
    lab.compare("Adam: a step that is left out".into(), 0.0, &values.read_floats()?, &before);

    // Of a gradient alone in each of the types, at ends of tensors; in gaps and where the other type is read, nobody looks.
    let places = [(Element::Bf16, 8999, 0.0), (E, 9122, 0.0), (E, 9164, 0.0), (E, 3, 1.0), (Element::Bf16, 9122, 1.0)];
    for (element, at, expected) in places.into_iter().chain([(E, 9124, 1.0)]) {
        let mut values = vec![1.0; len];
        values[at] = f32::NAN;
        let (bad, good) = (lab.put(element, &values)?.0, [E, Element::Bf16].map(|e| lab.put(e, &vec![1.0; len])));
        let [wide, narrow] = good;
        let (wide, narrow) = (wide?.0, narrow?.0);
        let (wide, narrow) = if element == E { (bad, narrow) } else { (wide, bad) };
        state.begin(1, 2)?;
        optimizer.watch(&state, Grads { wide: &wide, narrow: Some(&narrow) })?;
        let found = f32::from(u8::from(state.is_finite()?));
        lab.compare(format!("whether gradients are finite, {element:?} {at}"), 0.0, &[found], &[expected]);
    }
    Ok(())
}

fn not_finite(lab: &mut Lab<'_>) -> Result<()> {
    let n = lab.size(1000, 2000);
    for (bad, expected) in [(0.0, 1.0), (f32::MAX, 1.0), (f32::NAN, 0.0), (f32::NEG_INFINITY, 0.0)] {
        let state = StepState::new(lab.device)?;
        state.begin(0, 0)?;
        let mut values = vec![1.0; n];
        values[n - 1] = bad;
        state.watch(&lab.put(E, &values)?.0)?;
        let found = f32::from(u8::from(state.is_finite()?));
        lab.compare(format!("whether {bad} is finite"), 0.0, &[found], &[expected]);
    }
    Ok(())
}
