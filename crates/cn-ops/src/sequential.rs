//! Layers one after the other.

use crate::layer::join;
use crate::{Activation, InputGrad, Layer, Pass, Result, Visit};

/// Named layers one after the other; the names make up those of the parameters.
#[derive(Default)]
pub struct Sequential {
    children: Vec<(String, Box<dyn Layer>)>,
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
        let mut x = x.clone();
        for (name, child) in &mut self.children {
            x = pass.forward_child(name, child, &x)?;
        }
        Ok(x)
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

    fn visit(&mut self, prefix: &str, f: &mut Visit<'_>) -> Result<()> {
        self.children.iter_mut().try_for_each(|(name, child)| child.visit(&join(prefix, name), f))
    }
}
