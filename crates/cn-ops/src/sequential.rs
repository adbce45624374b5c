//! Layers one after the other.

use crate::gpu::Spec;
use crate::layer::join;
use crate::{Activation, After, InputGrad, Layer, Pass, Result, Visit};

type Child = (String, Box<dyn Layer>);

/// Named layers one after the other; the names make up those of the parameters.
#[derive(Default)]
pub struct Sequential {
    children: Vec<Child>,
}

impl Sequential {
    /// No layers: the identity.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with `layer` at the end.
    #[must_use]
    pub fn push(mut self, name: impl Into<String>, layer: impl Layer + 'static) -> Self {
        self.children.push((name.into(), Box::new(layer)));
        self
    }

    /// Names of the children, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.children.iter().map(|(name, _)| name.as_str())
    }

    #[cfg(test)]
    pub(crate) fn into_children(self) -> Vec<Box<dyn Layer>> {
        self.children.into_iter().map(|(_, child)| child).collect()
    }

    #[cfg(test)]
    pub(crate) fn last_mut(&mut self) -> &mut dyn Layer {
        &mut *self.children.last_mut().expect("a child").1
    }
}

impl std::fmt::Debug for Sequential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sequential").field(&self.names().collect::<Vec<_>>()).finish()
    }
}

impl Layer for Sequential {
    fn forward(&mut self, x: &Activation, pass: &mut Pass<'_>) -> Result<Activation> {
        run(&mut self.children, x, pass)
    }

    fn backward(&mut self, dy: Activation, dx: InputGrad, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        let Some((first, others)) = self.children.split_first_mut() else { return dx.give(dy) };
        let mut dy = dy;
        for (name, child) in others.iter_mut().rev() {
            let dx = pass.backward_child(name, child, dy, InputGrad::New)?;
            dy = dx.expect("`InputGrad::New` is answered with a gradient");
        }
        pass.backward_child(&first.0, &mut first.1, dy, dx)
    }

    fn forward_then(&mut self, x: &Activation, after: &After<'_>, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        let Some(((_, last), others)) = self.children.split_last_mut() else { return Ok(None) };
        let x = run(others, x, pass)?;
        last.forward_then(&x, after, pass)
    }

    fn spec(&self, prefix: &str) -> Result<Spec> {
        let mut specs = Vec::new();
        for (name, child) in &self.children {
            match child.spec(&join(prefix, name))? {
                // Without a name, its children are as if they were of this one.
                Spec::Sequence(children) if name.is_empty() => specs.extend(children),
                spec => specs.push(spec),
            }
        }
        Ok(Spec::Sequence(specs))
    }

    fn visit(&mut self, prefix: &str, f: &mut Visit<'_>) -> Result<()> {
        self.children.iter_mut().try_for_each(|(name, child)| child.visit(&join(prefix, name), f))
    }
}

/// The children one after the other; in eval mode a norm is done by the convolution before it.
fn run(children: &mut [Child], x: &Activation, pass: &mut Pass<'_>) -> Result<Activation> {
    let (mut x, mut rest) = (x.clone(), children);
    while let Some(((name, child), others)) = rest.split_first_mut() {
        match fused(child, others, &x, pass)? {
            Some(y) => (x, rest) = (y, &mut others[1..]),
            None => (x, rest) = (pass.forward_child(name, child, &x)?, others),
        }
    }
    Ok(x)
}

/// `child` and the first of `others` in one, if the one is a map of channels that the other can do in passing.
fn fused(
    child: &mut Box<dyn Layer>,
    others: &[Child],
    x: &Activation,
    pass: &mut Pass<'_>,
) -> Result<Option<Activation>> {
    let Some((_, next)) = others.first().filter(|_| pass.fuses()) else { return Ok(None) };
    let Some(affine) = next.as_affine()? else { return Ok(None) };
    child.forward_then(x, &After { affine: &affine, residual: None }, pass)
}
