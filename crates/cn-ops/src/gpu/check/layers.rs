//! Norms, pools, dropout, and what lies between.

use super::{Lab, name_of};
use crate::gpu::dropout_mask;
use cn_cuda::norm::{Gradients, Running, SMALL_ROWS, Saved, ScaleShift};
use cn_cuda::{Activation, BatchNorm, BatchNormConfig, Dropout, Element, GlobalShape, PoolShape, Result, StepState};
use cn_cuda::{conv, pool, train};
use cn_kernels::norm::{self as cpu, Moments, Source};
use cn_kernels::pool as cpu_pool;

pub(super) fn check(lab: &mut Lab<'_>, element: Element) -> Result<()> {
    for activation in [Activation::Identity, Activation::Relu] {
        for (channels, rows) in
            [(lab.size(1, 9), 300), (64, 3000), (4 * lab.size(1, 20), 300), (8 * lab.size(1, 20), 600)]
        {
            let rows = lab.size(2, rows);
            let case = NormCase { rows, channels, activation };
            norm(lab, element, case)?;
            norm_grads(lab, element, case)?;
        }
        // More rows than a block holds.
        for channels in [lab.size(1, 9), 8 * lab.size(1, 9)] {
            let case = NormCase { rows: SMALL_ROWS + lab.size(1, 2000), channels, activation };
            norm(lab, element, case)?;
            norm_grads(lab, element, case)?;
        }
    }
    max_pool(lab, element)?;
    let even = [2 * lab.size(2, 6), 2 * lab.size(2, 6)];
    for (channels, sides, activation) in [
        (lab.size(1, 20), [lab.size(3, 12), lab.size(3, 12)], Activation::Relu),
        (24, [lab.size(3, 12), 2 * lab.size(1, 6) + 1], Activation::Relu),
        (24, even, Activation::Relu),
        (16, even, Activation::Identity),
        (lab.size(1, 7), even, Activation::Relu),
    ] {
        norm_pool(lab, element, (channels, sides), activation)?;
    }
    global_pools(lab, element)?;
    dropout(lab, element)?;
    elementwise(lab, element)
}

#[derive(Clone, Copy, Debug)]
struct NormCase {
    rows: usize,
    channels: usize,
    activation: Activation,
}

const EPS: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

impl NormCase {
    fn device(self, lab: &Lab<'_>, element: Element) -> Result<BatchNorm> {
        let Self { rows, channels, activation } = self;
        BatchNorm::new(
            lab.device,
            BatchNormConfig { rows, channels, element, eps: EPS, momentum: MOMENTUM, activation },
        )
    }

    fn cpu<'a>(self, gamma: &'a [f32], beta: &'a [f32]) -> cpu::BatchNorm<'a, f32> {
        let activation = match self.activation {
            Activation::Identity => cpu::Activation::Identity,
            Activation::Relu => cpu::Activation::Relu,
        };
        cpu::BatchNorm { gamma, beta, eps: EPS, activation }
    }

    fn name(self, what: &str, element: Element) -> String {
        format!("{what} {} {self:?}", name_of(element))
    }
}

fn norm(lab: &mut Lab<'_>, element: Element, case: NormCase) -> Result<()> {
    let NormCase { rows, channels, .. } = case;
    let (e, n) = (Element::F32, rows * channels);
    let (x, x_host) = lab.random(element, n)?;
    let (residual, residual_host) = lab.random(element, n)?;
    let (gamma, gamma_host) = lab.random(e, channels)?;
    let (beta, beta_host) = lab.random(e, channels)?;
    let (mean, mut mean_host) = lab.random(e, channels)?;
    let (var, mut var_host) = lab.put(e, &(0..channels).map(|c| 0.5 + c as f32 / 7.0).collect::<Vec<_>>())?;
    let (norm, bn) = (case.device(lab, element)?, case.cpu(&gamma_host, &beta_host));
    let parameters = (ScaleShift { gamma: &gamma, beta: &beta }, Running { mean: &mean, var: &var });

    let (y, mut expected) = (lab.room(element, n)?, vec![0.0; n]);
    norm.forward_running(parameters, &x, Some(&residual), &y)?;
    let running = Moments::given(&mean_host, &var_host, EPS);
    cpu::forward(&bn, &running, &x_host, Some(&residual_host), &mut expected);
    lab.judge(case.name("norm in use", element), element, &y, &expected)?;

    let (y, mut expected) = (lab.room(element, n)?, vec![0.0; n]);
    norm.forward(parameters, &x, Some(&residual), &y)?;
    let moments = cpu::moments(&x_host, channels, EPS);
    moments.update_running(rows, MOMENTUM, &mut mean_host, &mut var_host);
    cpu::forward(&bn, &moments, &x_host, Some(&residual_host), &mut expected);
    lab.judge(case.name("norm in training", element), element, &y, &expected)?;
    lab.judge(case.name("running means", element), e, &mean, &mean_host)?;
    lab.judge(case.name("running variances", element), e, &var, &var_host)
}

fn norm_grads(lab: &mut Lab<'_>, element: Element, case: NormCase) -> Result<()> {
    let NormCase { rows, channels, .. } = case;
    let (e, n) = (Element::F32, rows * channels);
    let (x, x_host) = lab.random(element, n)?;
    let (residual, _) = lab.random(element, n)?;
    let (dy, dy_host) = lab.random(element, n)?;
    let (gamma, gamma_host) = lab.random(e, channels)?;
    let (beta, beta_host) = lab.random(e, channels)?;
    let (mean, _) = lab.random(e, channels)?;
    let (var, _) = lab.put(e, &vec![1.0; channels])?;
    let (norm, bn) = (case.device(lab, element)?, case.cpu(&gamma_host, &beta_host));
    let parameters = (ScaleShift { gamma: &gamma, beta: &beta }, Running { mean: &mean, var: &var });
    let moments = cpu::moments(&x_host, channels, EPS);
    // Of few rows, little of the gradient is left after the mean and the slope are taken out.
    let tolerance = if element == Element::F32 { 1e-4 } else { super::BF16 };

    let y = lab.room(element, n)?;
    for residual in [Some(&residual), None] {
        norm.forward(parameters, &x, residual, &y)?;
        let (dx, rest) = (lab.room(element, n)?, lab.room(element, n)?);
        let (dgamma, dbeta) = (lab.room(e, channels)?, lab.room(e, channels)?);
        let out = Gradients { dx: &dx, d_residual: residual.map(|_| &rest), dgamma: &dgamma, dbeta: &dbeta };
        // Without a residual, the sign of the output is computed again.
        norm.backward(&gamma, Saved { x: &x, y: residual.map(|_| &y), dy: &dy }, out)?;

        let y_host = y.read(element)?;
        let saved = cpu::Saved { x: &x_host, y: Some(&y_host), moments: &moments, source: Source::Batch };
        let (mut dx_host, mut rest_host) = (vec![0.0; n], vec![0.0; n]);
        let (mut dgamma_host, mut dbeta_host) = (vec![0.0; channels], vec![0.0; channels]);
        let d_residual = residual.map(|_| &mut rest_host[..]);
        let out = cpu::Gradients { dx: &mut dx_host, d_residual, dgamma: &mut dgamma_host, dbeta: &mut dbeta_host };
        cpu::backward(&bn, &saved, &dy_host, out);

        let beside = if residual.is_some() { "" } else { " without residual" };
        let name = |what: &str| case.name(&format!("{what}{beside}"), element);
        lab.compare(name("gradient of a norm's input"), tolerance, &dx.read(element)?, &dx_host);
        if residual.is_some() {
            lab.judge(name("gradient of the residual"), element, &rest, &rest_host)?;
        }
        lab.compare(name("gradient of scales"), tolerance, &dgamma.read_floats()?, &dgamma_host);
        lab.compare(name("gradient of shifts"), tolerance, &dbeta.read_floats()?, &dbeta_host);
    }
    Ok(())
}

fn max_pool(lab: &mut Lab<'_>, element: Element) -> Result<()> {
    let windows = [([3, 3], [2, 2], [1, 1]), ([2, 3], [1, 2], [1, 0]), ([2, 2], [3, 3], [0, 0])];
    let few = lab.size(1, 20);
    for (channels, (kernel, stride, padding)) in windows.into_iter().flat_map(|w| [(few, w), (24, w)]) {
        let [batch, height, width, channels] = [lab.size(1, 3), lab.size(3, 12), lab.size(3, 12), channels];
        let s = PoolShape { batch, height, width, channels, kernel, stride, padding };
        // Few different values, so that many are equal.
        let values: Vec<f32> = {
            let mut draws = lab.draws();
            (0..s.input_len()).map(|_| draws.below(4) as f32 - 2.0).collect()
        };
        let (x, x_host) = lab.put(element, &values)?;
        let (dy, dy_host) = lab.random(element, s.output_len())?;
        let (y, winners) = (lab.room(element, s.output_len())?, lab.device.zeros(s.output_len(), "winners")?);
        pool::max_pool(lab.device, element, &s, &x, [&y, &winners])?;
        let (mut expected, mut winners_host) = (vec![0.0; s.output_len()], vec![0; s.output_len()]);
        cpu_pool::max_forward(&s, &x_host, &mut expected, &mut winners_host);
        lab.judge(format!("max pool {} {s:?}", name_of(element)), element, &y, &expected)?;
        let as_floats = |bytes: Vec<u8>| bytes.into_iter().map(f32::from).collect::<Vec<_>>();
        let found = as_floats(winners.read_bytes()?);
        lab.compare(format!("winners {} {s:?}", name_of(element)), 0.0, &found, &as_floats(winners_host.clone()));
        let (dx, mut expected) = (lab.room(element, s.input_len())?, vec![0.0; s.input_len()]);
        pool::max_pool_grad(lab.device, element, &s, [&dy, &winners], &dx)?;
        cpu_pool::max_backward(&s, &dy_host, &winners_host, &mut expected);
        lab.judge(format!("gradient of a max pool {} {s:?}", name_of(element)), element, &dx, &expected)?;
    }
    Ok(())
}

/// A norm and the pool behind it in one pass, against the two one after the other.
fn norm_pool(
    lab: &mut Lab<'_>,
    element: Element,
    (channels, [height, width]): (usize, [usize; 2]),
    activation: Activation,
) -> Result<()> {
    // So many that the norm alone takes its moments from the same kernels.
    let batch = SMALL_ROWS / (height * width) + lab.size(1, 3);
    let s = PoolShape { batch, height, width, channels, kernel: [3, 3], stride: [2, 2], padding: [1, 1] };
    let (e, n, rows) = (Element::F32, s.input_len(), batch * height * width);
    let (x, _) = lab.random(element, n)?;
    let (gamma, _) = lab.random(e, channels)?;
    let (beta, _) = lab.random(e, channels)?;
    let (mean, var) = (lab.device.zeros(channels * 4, "means")?, lab.device.zeros(channels * 4, "variances")?);
    let (dy, dy_host) = lab.random(element, s.output_len())?;
    let config = BatchNormConfig { rows, channels, element, eps: EPS, momentum: MOMENTUM, activation };
    let norm = BatchNorm::new(lab.device, config)?;
    let parameters = (ScaleShift { gamma: &gamma, beta: &beta }, Running { mean: &mean, var: &var });
    let name = |what: &str| format!("{what} of a norm and a pool {} {s:?} {activation:?}", name_of(element));

    let between = lab.room(element, n)?;
    norm.forward(parameters, &x, None, &between)?;
    let (mut expected, mut winners_host) = (vec![0.0; s.output_len()], vec![0; s.output_len()]);
    cpu_pool::max_forward(&s, &between.read(element)?, &mut expected, &mut winners_host);
    // The gradient of a window whose maximum the rectifier has cut goes nowhere, which its winner says.
    let cut = |(winner, best): (&u8, &f32)| {
        if activation == Activation::Relu && *best <= 0.0 { 255.0 } else { f32::from(*winner) }
    };
    let places: Vec<f32> = winners_host.iter().zip(&expected).map(cut).collect();
    let (y, winners) = (lab.room(element, s.output_len())?, lab.device.zeros(s.output_len(), "winners")?);
    norm.forward_pooled(parameters, &x, &s, [&y, &winners])?;
    lab.compare(name("output"), 0.0, &y.read(element)?, &expected);
    let found: Vec<f32> = winners.read_bytes()?.into_iter().map(f32::from).collect();
    lab.compare(name("winners"), 0.0, &found, &places);

    let mut gathered = vec![0.0; n];
    cpu_pool::max_backward(&s, &dy_host, &winners_host, &mut gathered);
    let (gathered, dx_expected) = (lab.put(element, &gathered)?.0, lab.room(element, n)?);
    let room = |lab: &mut Lab<'_>| -> Result<_> { Ok([lab.room(e, channels)?, lab.room(e, channels)?]) };
    let [dgamma_expected, dbeta_expected] = room(lab)?;
    let out = Gradients { dx: &dx_expected, d_residual: None, dgamma: &dgamma_expected, dbeta: &dbeta_expected };
    norm.backward(&gamma, Saved { x: &x, y: None, dy: &gathered }, out)?;
    let (dx, [dgamma, dbeta]) = (lab.room(element, n)?, room(lab)?);
    norm.backward_pooled(&gamma, &x, (&s, &dy, &winners), [&dx, &dgamma, &dbeta])?;
    let tolerance = if element == Element::F32 { 1e-5 } else { 2.0 * super::BF16 };
    lab.compare(name("gradient of the input"), tolerance, &dx.read(element)?, &dx_expected.read(element)?);
    lab.compare(name("gradient of scales"), tolerance, &dgamma.read_floats()?, &dgamma_expected.read_floats()?);
    lab.compare(name("gradient of shifts"), tolerance, &dbeta.read_floats()?, &dbeta_expected.read_floats()?);
    Ok(())
}

fn global_pools(lab: &mut Lab<'_>, element: Element) -> Result<()> {
    let e = Element::F32;
    let [batch, positions, channels] = [lab.size(1, 4), lab.size(1, 30), lab.size(1, 40)];
    let (shape, rows) = (GlobalShape { batch, positions, channels }, batch * channels);
    let (x, x_host) = lab.random(element, rows * positions)?;
    let (dy, dy_host) = lab.random(e, 2 * rows)?;
    let name = |what: &str| format!("{what} {} {shape:?}", name_of(element));

    let (y, winners) = (lab.room(e, 2 * rows)?, lab.device.zeros(rows * 4, "winners")?);
    pool::concat_pool(lab.device, element, &shape, &x, [&y, &winners])?;
    let (mut expected, mut winners_host) = (vec![0.0; 2 * rows], vec![0; rows]);
    cpu_pool::concat_forward(channels, &x_host, &mut expected, &mut winners_host);
    lab.judge(name("concat pool"), e, &y, &expected)?;
    let (dx, mut expected) = (lab.room(element, rows * positions)?, vec![0.0; rows * positions]);
    pool::concat_pool_grad(lab.device, element, &shape, [&dy, &winners], &dx)?;
    cpu_pool::concat_backward(channels, &dy_host, &winners_host, &mut expected);
    lab.judge(name("gradient of a concat pool"), element, &dx, &expected)?;

    let (y, mut expected) = (lab.room(e, rows)?, vec![0.0; rows]);
    pool::mean_pool(lab.device, element, &shape, &x, &y)?;
    cpu_pool::mean_forward(channels, &x_host, &mut expected);
    lab.judge(name("mean pool"), e, &y, &expected)?;
    let (dy, dy_host) = lab.random(e, rows)?;
    let (dx, mut expected) = (lab.room(element, rows * positions)?, vec![0.0; rows * positions]);
    pool::mean_pool_grad(lab.device, element, &shape, &dy, &dx)?;
    cpu_pool::mean_backward(channels, &dy_host, &mut expected);
    lab.judge(name("gradient of a mean pool"), element, &dx, &expected)
}

fn dropout(lab: &mut Lab<'_>, element: Element) -> Result<()> {
    let (rows, row_len) = (lab.size(1, 5), lab.size(1, 50));
    let ids: Vec<u32> = (0..rows as u32).map(|b| b * 1_000_003 + 7).collect();
    let layer = Dropout { p: 0.3, purpose: 0x9E37_79B9 };
    let state = StepState::new(lab.device)?;
    state.begin(0x1234_5678_9ABC_DEF0, 11)?;
    let (x, x_host) = lab.random(element, rows * row_len)?;
    let y = lab.room(element, rows * row_len)?;
    layer.run(element, &state, &lab.device.words(&ids, "ids")?, &x, &y)?;
    let mask = dropout_mask(&layer, 0x1234_5678_9ABC_DEF0, 11, &ids, row_len);
    let expected: Vec<f32> = x_host.iter().zip(mask).map(|(x, m)| x * m).collect();
    lab.judge(format!("dropout {} {rows} x {row_len}", name_of(element)), element, &y, &expected)
}

fn elementwise(lab: &mut Lab<'_>, element: Element) -> Result<()> {
    let channels = lab.size(1, 30);
    let n = channels * lab.size(1, 40);
    let (x, x_host) = lab.random(element, n)?;
    let (dy, dy_host) = lab.random(element, n)?;
    let name = |what: &str| format!("{what} {} {n}", name_of(element));

    let y = lab.room(element, n)?;
    train::relu(lab.device, element, &x, &y)?;
    let y_host: Vec<f32> = x_host.iter().map(|x| x.max(0.0)).collect();
    lab.judge(name("rectifier"), element, &y, &y_host)?;
    let dx = lab.room(element, n)?;
    train::relu_grad(lab.device, element, [&y, &dy], &dx)?;
    let expected: Vec<f32> = dy_host.iter().zip(&y_host).map(|(d, y)| if *y > 0.0 { *d } else { 0.0 }).collect();
    lab.judge(name("gradient of a rectifier"), element, &dx, &expected)?;

    train::add(lab.device, element, &x, &dy)?;
    let mut sums: Vec<f32> = x_host.iter().zip(&dy_host).map(|(a, b)| a + b).collect();
    lab.judge(name("sum"), element, &dy, &sums)?;
    let (bias, bias_host) = lab.random(Element::F32, channels)?;
    sums = dy.read(element)?;
    train::add_bias(lab.device, element, &bias, &dy)?;
    sums.iter_mut().enumerate().for_each(|(i, s)| *s += bias_host[i % channels]);
    lab.judge(name("bias"), element, &dy, &sums)?;

    let (narrow, narrow_host) = lab.random(Element::Bf16, n)?;
    let wide = lab.room(Element::F32, n)?;
    conv::widen(lab.device, &narrow, &wide)?;
    lab.judge(name("widening"), Element::F32, &wide, &narrow_host)?;
    let back = lab.room(Element::Bf16, n)?;
    conv::narrow(lab.device, &wide, &back)?;
    lab.judge(name("narrowing"), Element::Bf16, &back, &narrow_host)
}
