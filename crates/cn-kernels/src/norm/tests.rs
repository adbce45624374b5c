use super::*;
use crate::tests::fill;

struct Case {
    y: Vec<f64>,
    dx: Vec<f64>,
    d_residual: Vec<f64>,
    dgamma: Vec<f64>,
    dbeta: Vec<f64>,
}

/// What a batch norm is asked to do.
#[derive(Clone, Copy, Debug)]
struct Form {
    channels: usize,
    activation: Activation,
    residual: bool,
}

/// All that a batch norm computes, by the formulas, in nested loops.
fn naive(rows: usize, form: Form, [x, r, dy, gamma, beta]: [&[f64]; 5]) -> Case {
    let Form { channels, activation, residual } = form;
    let n = rows as f64;
    let (mut y, mut dx, mut d_residual) = (vec![0.0; x.len()], vec![0.0; x.len()], vec![0.0; x.len()]);
    let (mut dgamma, mut dbeta) = (vec![0.0; channels], vec![0.0; channels]);
    for c in 0..channels {
        let at = |row: usize| row * channels + c;
        let mean = (0..rows).map(|i| x[at(i)]).sum::<f64>() / n;
        let var = (0..rows).map(|i| (x[at(i)] - mean).powi(2)).sum::<f64>() / n;
        let inv_std = 1.0 / (var + 1e-5).sqrt();
        for i in (0..rows).map(at) {
            let v = (x[i] - mean) * inv_std * gamma[c] + beta[c] + if residual { r[i] } else { 0.0 };
            y[i] = if activation == Activation::Relu { v.max(0.0) } else { v };
            d_residual[i] = if activation == Activation::Relu && v <= 0.0 { 0.0 } else { dy[i] };
            dbeta[c] += d_residual[i];
            dgamma[c] += d_residual[i] * (x[i] - mean) * inv_std;
        }
        for i in (0..rows).map(at) {
            let hat = (x[i] - mean) * inv_std;
            dx[i] = gamma[c] * inv_std * (d_residual[i] - dbeta[c] / n - hat * dgamma[c] / n);
        }
    }
    Case { y, dx, d_residual, dgamma, dbeta }
}

fn run<T: Float>(form: Form, inputs: [&[f64]; 5]) -> Case {
    let Form { channels, activation, residual } = form;
    let narrow = |v: &[f64]| v.iter().map(|&x| T::from_f64(x)).collect::<Vec<T>>();
    let wide = |v: &[T]| v.iter().map(|x| x.to_f64()).collect::<Vec<f64>>();
    let [x, r, dy, gamma, beta] = inputs.map(narrow);
    let bn = BatchNorm { gamma: &gamma, beta: &beta, eps: 1e-5, activation };
    let moments = moments(&x, channels, 1e-5);
    let mut y = vec![T::ONE; x.len()];
    forward(&bn, &moments, &x, residual.then_some(&r), &mut y);
    let (mut dx, mut dr) = (vec![T::ONE; x.len()], vec![T::ONE; x.len()]);
    let (mut dgamma, mut dbeta) = (vec![T::ZERO; channels], vec![T::ZERO; channels]);
    let saved = Saved { x: &x, y: residual.then_some(&y), moments: &moments, source: Source::Batch };
    let d_residual = residual.then_some(&mut dr[..]);
    backward(&bn, &saved, &dy, Gradients { dx: &mut dx, d_residual, dgamma: &mut dgamma, dbeta: &mut dbeta });
    Case { y: wide(&y), dx: wide(&dx), d_residual: wide(&dr), dgamma: wide(&dgamma), dbeta: wide(&dbeta) }
}

fn check(rows: usize, channels: usize, offset: f64) {
    let x: Vec<f64> = fill(rows * channels, 1).iter().map(|x| f64::from((x + offset) as f32)).collect();
    let (r, dy, gamma, beta) = (fill(x.len(), 2), fill(x.len(), 3), fill(channels, 4), fill(channels, 5));
    let inputs = [&x[..], &r, &dy, &gamma, &beta];
    for activation in [Activation::Identity, Activation::Relu] {
        for residual in [false, true] {
            let form = Form { channels, activation, residual };
            let expected = naive(rows, form, inputs);
            for (found, tolerance) in
                [(run::<f64>(form, inputs), 1e-10), (run::<f32>(form, inputs), 2e-5 * (1.0 + offset))]
            {
                let mut pairs = vec![
                    (&found.y, &expected.y),
                    (&found.dx, &expected.dx),
                    (&found.dgamma, &expected.dgamma),
                    (&found.dbeta, &expected.dbeta),
                ];
                if residual {
                    pairs.push((&found.d_residual, &expected.d_residual));
                }
                for (i, (a, b)) in pairs.into_iter().enumerate() {
                    let norm = b.iter().map(|x| x * x).sum::<f64>().sqrt().max(1.0);
                    let error = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
                    assert!(error < tolerance * norm, "{rows} rows, {form:?}, {i}: {error} of {norm}");
                }
            }
        }
    }
}

#[test]
fn passes_match_the_formulas() {
    check(300, 64, 0.0);
    check(37, 5, 0.0);
    check(5, 130, 0.0);
    check(4000, 33, 0.0);
}

#[test]
fn a_large_mean_does_not_eat_the_variance() {
    check(2000, 48, 100.0);
}

#[test]
fn nan_is_not_hidden_by_the_relu() {
    let (gamma, beta) = ([1f32; 16], [0f32; 16]);
    let bn = BatchNorm { gamma: &gamma, beta: &beta, eps: 1e-5, activation: Activation::Relu };
    let x = [f32::NAN; 32];
    let mut y = [0f32; 32];
    forward(&bn, &Moments::given(&[0.0; 16], &[1.0; 16], 1e-5), &x, None, &mut y);
    assert!(y.iter().all(|y| y.is_nan()));
}

#[test]
fn a_mask_that_is_computed_again_has_the_same_bits() {
    for channels in [64, 37] {
        let n = 500 * channels;
        // Many outputs near zero, where rounding decides on their sign.
        let x: Vec<f32> = fill(n, 1).iter().map(|x| (x * 8.0).round() as f32 / 8.0).collect();
        let (gamma, dy) = (vec![1.0; channels], fill(n, 2).iter().map(|&x| x as f32).collect::<Vec<f32>>());
        let moments = moments(&x, channels, 1e-5);
        let beta: Vec<f32> = moments.mean.iter().zip(&moments.inv_std).map(|(mean, s)| mean * s).collect();
        let bn = BatchNorm { gamma: &gamma, beta: &beta, eps: 1e-5, activation: Activation::Relu };
        let mut y = vec![0.0; n];
        forward(&bn, &moments, &x, None, &mut y);
        let run = |y: Option<&[f32]>| {
            let (mut dx, mut d) = (vec![0.0; n], vec![0.0; n]);
            let (mut dgamma, mut dbeta) = (vec![0.0; channels], vec![0.0; channels]);
            let saved = Saved { x: &x, y, moments: &moments, source: Source::Batch };
            let out = Gradients { dx: &mut dx, d_residual: Some(&mut d), dgamma: &mut dgamma, dbeta: &mut dbeta };
            backward(&bn, &saved, &dy, out);
            [dx, d, dgamma, dbeta].map(|part| part.iter().map(|x| x.to_bits()).collect::<Vec<u32>>())
        };
        assert!(run(None) == run(Some(&y)), "{channels} channels");
    }
}
