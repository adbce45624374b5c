//! What a model says about images.

/// How logits become probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decode {
    /// Each class for itself, `1 / (1 + e^-x)`: several classes an image, or none.
    Sigmoid,
    /// One distribution over the classes: exactly one class an image.
    Softmax,
}

/// Logits of images, on the host, in the order in which the images were asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    /// Ids of the images, `(N)`; for images without one, their positions.
    pub ids: Vec<u32>,
    /// Logits, `(N, K)`, row by row.
    pub logits: Vec<f32>,
    /// K.
    pub n_classes: usize,
    /// How logits become probabilities.
    pub decode: Decode,
}

impl Predictions {
    /// Number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no image.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The logits of each image, `(K)` a row.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.logits.chunks_exact(self.n_classes.max(1))
    }

    /// Probabilities, `(N, K)`, row by row.
    #[must_use]
    pub fn probabilities(&self) -> Vec<f32> {
        match self.decode {
            Decode::Sigmoid => self.logits.iter().map(|&x| sigmoid(f64::from(x)) as f32).collect(),
            Decode::Softmax => self.rows().flat_map(softmax).collect(),
        }
    }

    /// The class with the largest logit of each image, the first of equals; `None` where a logit is NaN.
    #[must_use]
    pub fn top1(&self) -> Vec<Option<usize>> {
        self.rows().map(argmax).collect()
    }

    /// Whether each class of each image passes `threshold`, `(N, K)`: probability strictly above it.
    #[must_use]
    pub fn above(&self, threshold: f64) -> Vec<bool> {
        match self.decode {
            Decode::Sigmoid => self.logits.iter().map(|&x| sigmoid(f64::from(x)) > threshold).collect(),
            Decode::Softmax => self.probabilities().into_iter().map(|p| f64::from(p) > threshold).collect(),
        }
    }

    /// The loss of each image, in `f64`: for [`Decode::Sigmoid`] the mean binary cross-entropy over the classes, for
    /// [`Decode::Softmax`] the cross-entropy.
    ///
    /// `targets`: `(N, K)`, row by row.
    #[must_use]
    pub fn losses(&self, targets: &[f32]) -> Vec<f64> {
        let rows = self.rows().zip(targets.chunks_exact(self.n_classes.max(1)));
        match self.decode {
            Decode::Sigmoid => rows.map(|(x, t)| binary_cross_entropy(x, t)).collect(),
            Decode::Softmax => rows.map(|(x, t)| cross_entropy(x, t)).collect(),
        }
    }
}

/// `1 / (1 + e^-x)` without overflow.
fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

fn softmax(row: &[f32]) -> Vec<f32> {
    let log_total = log_sum_exp(row);
    row.iter().map(|&x| (f64::from(x) - log_total).exp() as f32).collect()
}

fn log_sum_exp(row: &[f32]) -> f64 {
    let max = row.iter().fold(f64::NEG_INFINITY, |max, &x| max.max(f64::from(x)));
    max + row.iter().map(|&x| (f64::from(x) - max).exp()).sum::<f64>().ln()
}

fn binary_cross_entropy(row: &[f32], targets: &[f32]) -> f64 {
    let term = |(&x, &t): (&f32, &f32)| {
        let (x, t) = (f64::from(x), f64::from(t));
        // `max` would drop a NaN.
        if x.is_nan() { x } else { x.max(0.0) - x * t + (-x.abs()).exp().ln_1p() }
    };
    row.iter().zip(targets).map(term).sum::<f64>() / row.len() as f64
}

fn cross_entropy(row: &[f32], targets: &[f32]) -> f64 {
    let log_total = log_sum_exp(row);
    row.iter().zip(targets).map(|(&x, &t)| f64::from(t) * (log_total - f64::from(x))).sum()
}

fn argmax(row: &[f32]) -> Option<usize> {
    if row.iter().any(|x| x.is_nan()) {
        return None;
    }
    (0..row.len()).reduce(|best, i| if row[i] > row[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{golden, numbers};

    fn predictions(rows: &[[f32; 3]], decode: Decode) -> Predictions {
        Predictions { ids: (0..rows.len() as u32).collect(), logits: rows.concat(), n_classes: 3, decode }
    }

    #[test]
    fn losses_are_fastais() {
        let want = &golden("ops")["bce"];
        let rows = want["logits"].as_array().expect("rows");
        let logits: Vec<f32> = rows.iter().flat_map(crate::golden::floats).collect();
        let mut targets = vec![0.0; logits.len()];
        for (image, class) in numbers(&want["target_class"]).into_iter().enumerate() {
            targets[image * 15 + class as usize] = 1.0;
        }
        let got = Predictions { ids: vec![0; rows.len()], logits, n_classes: 15, decode: Decode::Sigmoid };
        for (got, want) in got.losses(&targets).into_iter().zip(numbers(&want["loss_per_image"])) {
            assert!((got - want).abs() < 1e-10, "{got} against {want}");
        }
    }

    #[test]
    fn probabilities_of_softmax_sum_to_one() {
        let p = predictions(&[[1e4, 0.0, -1e4], [1.0, 1.0, 1.0]], Decode::Softmax).probabilities();
        assert_eq!(p[..3], [1.0, 0.0, 0.0]);
        assert!((p[3..].iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn losses_are_finite_at_the_edges() {
        let logits = [[1e4, -1e4, 0.0]];
        let bce = predictions(&logits, Decode::Sigmoid).losses(&[0.0, 1.0, 0.0]);
        assert!((bce[0] - (2e4 + std::f64::consts::LN_2) / 3.0).abs() < 1e-9, "{bce:?}");
        assert_eq!(predictions(&logits, Decode::Softmax).losses(&[0.0, 1.0, 0.0]), [2e4]);
    }

    #[test]
    fn nan_is_no_answer() {
        let p = predictions(&[[f32::NAN, 1.0, 0.0], [0.0, 2.0, 2.0]], Decode::Sigmoid);
        assert_eq!(p.top1(), [None, Some(1)]);
        assert_eq!(p.above(0.2)[..3], [false, true, true]);
        assert!(p.losses(&[0.0; 6])[0].is_nan());
    }
}
