//! Activations that are computed twice in place of being kept.

use crate::gpu::Spec;
use crate::{Activation, Affine, After, Draw, InputGrad, Layer, Mode, Pass, Result, Visit};

/// A part of a network of which, in passes that [recompute](Pass::recomputing), the input alone is kept: the backward
/// pass computes the rest once more (Chen et al., arXiv:1604.06174).
///
/// Gradients and running statistics have the same bits either way. The part has no name of its own: push it into a
/// [`crate::Sequential`] as `""` where its children stand under the parent's names.
#[derive(Debug)]
pub struct Recomputed<L> {
    inner: L,
    kept: Option<Kept>,
}

/// What the forward pass is repeated with.
#[derive(Debug)]
struct Kept {
    x: Activation,
    /// `None` of evaluation mode.
    draw: Option<(u64, u32, Vec<u32>)>,
}

impl Kept {
    fn mode(&self) -> Mode<'_> {
        match &self.draw {
            Some((seed, epoch, ids)) => Mode::Train(Draw { seed: *seed, epoch: *epoch, ids }),
            None => Mode::Eval,
        }
    }
}

impl<L: Layer> Recomputed<L> {
    /// The part `inner`.
    #[must_use]
    pub fn new(inner: L) -> Self {
        Self { inner, kept: None }
    }
}

impl<L: Layer> Layer for Recomputed<L> {
    fn forward(&mut self, x: &Activation, pass: &mut Pass<'_>) -> Result<Activation> {
        self.kept = None;
        if !(pass.saves && pass.recomputes) {
            return self.inner.forward(x, pass);
        }
        let draw = match pass.mode {
            Mode::Train(Draw { seed, epoch, ids }) => Some((seed, epoch, ids.to_vec())),
            Mode::Eval => None,
        };
        pass.saves = false;
        let y = self.inner.forward(x, pass);
        pass.saves = true;
        // Other parts have other sizes: for them it would lie about unused.
        pass.pool.clear();
        self.kept = Some(Kept { x: x.clone(), draw });
        y
    }

    fn backward(&mut self, dy: Activation, dx: InputGrad, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        if let Some(kept) = self.kept.take() {
            pass.pool.clear();
            self.inner.forward(&kept.x, &mut pass.again(kept.mode()))?;
        }
        self.inner.backward(dy, dx, pass)
    }

    fn forward_then(&mut self, x: &Activation, after: &After<'_>, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        self.inner.forward_then(x, after, pass)
    }

    fn as_affine(&self) -> Result<Option<Affine>> {
        self.inner.as_affine()
    }

    fn spec(&self, prefix: &str) -> Result<Spec> {
        self.inner.spec(prefix)
    }

    fn visit(&mut self, prefix: &str, f: &mut Visit<'_>) -> Result<()> {
        self.inner.visit(prefix, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{BatchNorm, Conv2d, Conv2dConfig, Dropout, MaxPool2d, MaxPool2dConfig, Parameters, Pool, Sequential};
    use candle_core::DType;

    /// A part of every kind of layer that keeps something, and one behind it.
    fn layers() -> Sequential {
        let of = |name: &str, shape: &[usize]| fill(name, shape).to_dtype(DType::F32).unwrap();
        let conv = Conv2dConfig { stride: [1, 1], padding: [1, 1] };
        let pool = MaxPool2dConfig { kernel: [3, 3], stride: [2, 2], padding: [1, 1] };
        let part = Sequential::new()
            .push("conv", Conv2d::new(of("conv", &[4, 2, 3, 3]), conv).unwrap())
            .push("bn", BatchNorm::new(of("scale", &[4]), of("shift", &[4])).unwrap().relu())
            .push("drop", Dropout::new(0.4, "drop").unwrap())
            .push("pool", MaxPool2d::new(pool));
        let last = Conv2d::new(of("last", &[3, 4, 3, 3]), conv).unwrap();
        Sequential::new().push("", Recomputed::new(part)).push("last", last)
    }

    #[test]
    fn bits_do_not_depend_on_it_and_memory_does() {
        let x = fill("x", &[3, 8, 8, 2]).to_dtype(DType::F32).unwrap();
        let step = |recomputes: bool| {
            let mut layers = layers();
            let parameters = Parameters::gather(&mut layers, |_| 0).unwrap();
            let pool = Pool::default();
            let mut forward = pass(&pool, training(3));
            forward.recomputes = recomputes;
            let y = layers.forward(&x.clone().into(), &mut forward).unwrap();
            let kept = pool.in_use();
            let dy = fill("dy", y.dims()).to_dtype(DType::F32).unwrap();
            let dx = layers.backward(dy.into(), InputGrad::New, &mut Pass::eval(&pool)).unwrap().unwrap();
            let state = ["bn.running_mean", "bn.running_var", "bn.num_batches_tracked"].map(|b| buffer(&mut layers, b));
            (kept, [values(&y), values(&dx), values(parameters.grads())], state)
        };
        let ((kept, numbers, state), (less, again, same)) = (step(false), step(true));
        assert_eq!((numbers, state), (again, same));
        assert!(less < kept, "{less} and {kept} bytes");
    }

    #[test]
    fn nothing_is_kept_unless_a_backward_pass_follows() {
        let (mut layers, pool) = (layers(), Pool::default());
        let x = Activation::from(fill("x", &[3, 8, 8, 2]).to_dtype(DType::F32).unwrap());
        let y = layers.forward(&x, &mut Pass::train(&pool, draw()).recomputing()).unwrap();
        layers.forward(&x, &mut Pass::eval(&pool).recomputing()).unwrap();
        let error = layers.backward(y.clone(), InputGrad::Skip, &mut Pass::eval(&pool)).unwrap_err();
        assert!(matches!(error, crate::Error::NothingSaved { .. }), "{error}");
    }

    fn draw() -> Draw<'static> {
        Draw { seed: 42, epoch: 1, ids: &IDS[..3] }
    }
}
