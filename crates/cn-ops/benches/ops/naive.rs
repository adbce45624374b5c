//! Plain loops on one thread, as a first version would have them.

use super::{BATCH, Group, numbers};
use criterion::Throughput;

/// A convolution of one `(H, W, I)` image with an `(O, I, K, K)` weight.
pub(super) struct Convolution {
    pub side: usize,
    pub channels: [usize; 2],
    pub kernel: usize,
    pub stride: usize,
}

impl Convolution {
    pub(super) fn time(&self, group: &mut Group<'_>) {
        let [i, o] = self.channels;
        let out = self.side.div_ceil(self.stride);
        let (x, w) = (numbers(self.side * self.side * i), numbers(o * i * self.kernel * self.kernel));
        let (mut y, dy) = (vec![0.0; out * out * o], numbers(out * out * o));
        let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
        group.throughput(Throughput::Elements(1));
        group.bench_function("naive/forward", |b| {
            b.iter(|| {
                y.fill(0.0);
                self.each(|x_at, w_at, y_at| y[y_at] += x[x_at] * w[w_at]);
            });
        });
        group.bench_function("naive/backward", |b| {
            b.iter(|| {
                dx.fill(0.0);
                self.each(|x_at, w_at, y_at| {
                    dx[x_at] += dy[y_at] * w[w_at];
                    dw[w_at] += dy[y_at] * x[x_at];
                });
            });
        });
        group.throughput(Throughput::Elements(BATCH as u64));
    }

    /// Calls `visit(element of the image, of the weight, of the output)` for each product.
    fn each(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let (out, [channels_in, channels_out], k) = (self.side.div_ceil(self.stride), self.channels, self.kernel);
        let inside = |at: usize, tap: usize| (at * self.stride + tap).checked_sub(k / 2).filter(|&at| at < self.side);
        for (pixel, tap) in (0..out * out).flat_map(|pixel| (0..k * k).map(move |tap| (pixel, tap))) {
            let (Some(y), Some(x)) = (inside(pixel / out, tap / k), inside(pixel % out, tap % k)) else { continue };
            for o in 0..channels_out {
                for i in 0..channels_in {
                    let (x_at, w_at) = ((y * self.side + x) * channels_in + i, (o * channels_in + i) * k * k + tap);
                    visit(x_at, w_at, pixel * channels_out + o);
                }
            }
        }
    }
}

/// Batch norm of `(rows, channels)`, a sum and ReLU, with all their gradients.
pub(super) fn norm(group: &mut Group<'_>, rows: usize, channels: usize) {
    let n = rows * channels;
    let (x, residual, dy) = (numbers(n), numbers(n), numbers(n));
    let (mut y, mut dx, mut d_residual) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
    let count = rows as f32;
    group.bench_function("naive/forward+backward", |b| {
        b.iter(|| {
            for c in 0..channels {
                let at = || (c..n).step_by(channels);
                let mean = at().map(|i| x[i]).sum::<f32>() / count;
                let var = at().map(|i| (x[i] - mean) * (x[i] - mean)).sum::<f32>() / count;
                let scale = 1.0 / (var + 1e-5).sqrt();
                at().for_each(|i| y[i] = ((x[i] - mean) * scale + residual[i]).max(0.0));
                at().for_each(|i| d_residual[i] = if y[i] > 0.0 { dy[i] } else { 0.0 });
                let sum = at().map(|i| d_residual[i]).sum::<f32>();
                let dot = at().map(|i| d_residual[i] * (x[i] - mean) * scale).sum::<f32>();
                at().for_each(|i| {
                    dx[i] = scale * (d_residual[i] - (sum + (x[i] - mean) * scale * dot) / count);
                });
            }
        });
    });
}

/// The largest value of each window of 3 by 3, two apart, and its gradient.
pub(super) fn max_pool(group: &mut Group<'_>, side: usize, channels: usize) {
    let out = side.div_ceil(2);
    let (x, dy) = (numbers(BATCH * side * side * channels), numbers(BATCH * out * out * channels));
    let (mut y, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
    group.bench_function("naive/forward+backward", |b| {
        b.iter(|| {
            dx.fill(0.0);
            for (at, y) in y.iter_mut().enumerate() {
                let (pixel, c) = (at / channels, at % channels);
                let (image, oy, ox) = (pixel / (out * out), pixel / out % out, pixel % out);
                let inside = |o: usize, tap: usize| (2 * o + tap).checked_sub(1).filter(|&i| i < side);
                let mut best = None;
                for tap in 0..9 {
                    let (Some(iy), Some(ix)) = (inside(oy, tap / 3), inside(ox, tap % 3)) else { continue };
                    let from = ((image * side + iy) * side + ix) * channels + c;
                    if best.is_none_or(|best: usize| x[from] > x[best]) {
                        best = Some(from);
                    }
                }
                let best = best.expect("every window sees a pixel");
                *y = x[best];
                dx[best] += dy[at];
            }
        });
    });
}

/// The largest value and the mean of each channel of `(B, positions, channels)`, and their gradient.
pub(super) fn concat_pool(group: &mut Group<'_>, positions: usize, channels: usize) {
    let (x, dy) = (numbers(BATCH * positions * channels), numbers(BATCH * 2 * channels));
    let (mut y, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
    group.bench_function("naive/forward+backward", |b| {
        b.iter(|| {
            for (image, c) in (0..BATCH).flat_map(|image| (0..channels).map(move |c| (image, c))) {
                let at = |p: usize| (image * positions + p) * channels + c;
                let best = (1..positions).fold(0, |best, p| if x[at(p)] > x[at(best)] { p } else { best });
                let (max, mean) = (image * 2 * channels + c, (image * 2 + 1) * channels + c);
                y[max] = x[at(best)];
                y[mean] = (0..positions).map(|p| x[at(p)]).sum::<f32>() / positions as f32;
                (0..positions).for_each(|p| dx[at(p)] = dy[mean] / positions as f32);
                dx[at(best)] += dy[max];
            }
        });
    });
}

/// The product of `(B, inputs)` with `(outputs, inputs)`, and both gradients.
pub(super) fn linear(group: &mut Group<'_>, inputs: usize, outputs: usize) {
    let (x, w, dy) = (numbers(BATCH * inputs), numbers(outputs * inputs), numbers(BATCH * outputs));
    let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
    group.bench_function("naive/forward+backward", |b| {
        b.iter(|| {
            y.fill(0.0);
            dx.fill(0.0);
            for (image, o) in (0..BATCH).flat_map(|image| (0..outputs).map(move |o| (image, o))) {
                let to = image * outputs + o;
                for i in 0..inputs {
                    y[to] += x[image * inputs + i] * w[o * inputs + i];
                    dx[image * inputs + i] += dy[to] * w[o * inputs + i];
                    dw[o * inputs + i] += dy[to] * x[image * inputs + i];
                }
            }
        });
    });
}

/// Binary cross-entropy of sigmoids, and its gradient.
pub(super) fn loss(group: &mut Group<'_>, logits: &[f32], targets: &[f32]) {
    let mut d_logits = vec![0.0; logits.len()];
    group.bench_function("naive/forward+backward", |b| {
        b.iter(|| {
            let mut sum = 0.0;
            for ((x, t), d) in logits.iter().zip(targets).zip(&mut d_logits) {
                sum += x.max(0.0) - x * t + (-x.abs()).exp().ln_1p();
                *d = (1.0 / (1.0 + (-x).exp()) - t) / logits.len() as f32;
            }
            sum
        });
    });
}

/// One step of Adam.
pub(super) fn adam(group: &mut Group<'_>, n: usize) {
    let (mut p, g) = (numbers(n), numbers(n));
    let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
    group.bench_function("naive", |b| {
        b.iter(|| {
            for i in 0..n {
                m[i] = 0.9 * m[i] + 0.1 * g[i];
                v[i] = 0.99 * v[i] + 0.01 * g[i] * g[i];
                p[i] -= 1e-9 * m[i] / (f32::sqrt(v[i]) + 1e-5);
            }
        });
    });
}
