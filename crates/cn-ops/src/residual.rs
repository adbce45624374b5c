//! A branch and its shortcut.

use crate::batch_norm::Residuum;
use crate::gpu::Spec;
use crate::layer::join;
use crate::storage::owned;
use crate::{Activation, After, BatchNorm, InputGrad, Layer, Pass, Result, Sequential, Visit};

/// `activation(norm(branch(x)) + shortcut(x))`, where norm, sum and activation are one pass over memory
/// (He et al., arXiv:1512.03385).
///
/// The children of the branch stand under the block's own name, as in torchvision: `layer1.0.conv1.weight`.
#[derive(Debug)]
pub struct Residual {
    branch: Sequential,
    norm_name: String,
    norm: BatchNorm,
    shortcut: Option<(String, Sequential)>,
}

impl Residual {
    /// A block whose branch ends in `norm`; what `norm` fuses ([`BatchNorm::relu`]) follows the sum. The shortcut is the
    /// identity.
    #[must_use]
    pub fn new(branch: Sequential, norm_name: impl Into<String>, norm: BatchNorm) -> Self {
        Self { branch, norm_name: norm_name.into(), norm, shortcut: None }
    }

    /// The same with this shortcut, such as `("downsample", convolution and norm)`.
    #[must_use]
    pub fn with_shortcut(mut self, name: impl Into<String>, shortcut: Sequential) -> Self {
        self.shortcut = Some((name.into(), shortcut));
        self
    }
}

impl Residual {
    /// The forward pass with norm, sum and activation done by the last layer of the branch, in eval mode.
    fn fused(&mut self, x: &Activation, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        let Some(affine) = pass.fuses().then(|| self.norm.as_affine()).transpose()?.flatten() else { return Ok(None) };
        let skip = match &mut self.shortcut {
            Some((_, shortcut)) => shortcut.forward(x, pass)?,
            None => x.clone(),
        };
        self.branch.forward_then(x, &After { affine: &affine, residual: Some(&skip) }, pass)
    }
}

impl Layer for Residual {
    fn forward(&mut self, x: &Activation, pass: &mut Pass<'_>) -> Result<Activation> {
        if let Some(y) = self.fused(x, pass)? {
            return Ok(y);
        }
        let inner = self.branch.forward(x, pass)?;
        let skip = match &mut self.shortcut {
            Some((name, shortcut)) => pass.forward_child(name, shortcut, x)?,
            None => x.clone(),
        };
        self.norm.forward_add(&inner, Some(&skip), pass)
    }

    fn backward(&mut self, dy: Activation, dx: InputGrad, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        let skips = matches!(dx, InputGrad::Skip);
        let needs_mask = self.norm.masks() && (self.shortcut.is_some() || !skips);
        let residuum = if needs_mask { Residuum::New } else { Residuum::Skip };
        let (d_inner, d_skip) = self.norm.backward_add(&dy, InputGrad::New, residuum, pass)?;
        let d_inner = d_inner.expect("`InputGrad::New` is answered with a gradient");
        let d_skip = d_skip.unwrap_or(dy);
        let is_new = matches!(dx, InputGrad::New);
        let sum = match &mut self.shortcut {
            Some((name, shortcut)) => pass.backward_child(name, shortcut, d_skip, dx)?,
            None => dx.give(d_skip)?,
        };
        let sum = if is_new { sum.map(|sum| owned(sum, &pass.pool)).transpose()? } else { sum };
        self.branch.backward(d_inner, sum.map_or(InputGrad::Skip, InputGrad::AddTo), pass)
    }

    fn spec(&self, prefix: &str) -> Result<Spec> {
        let shortcut = self.shortcut.as_ref().map(|(name, shortcut)| shortcut.spec(&join(prefix, name))).transpose()?;
        Ok(Spec::Residual {
            branch: Box::new(self.branch.spec(prefix)?),
            norm: self.norm.norm_spec(&join(prefix, &self.norm_name)),
            shortcut: shortcut.map(Box::new),
        })
    }

    fn visit(&mut self, prefix: &str, f: &mut Visit<'_>) -> Result<()> {
        self.branch.visit(prefix, f)?;
        self.norm.visit(&join(prefix, &self.norm_name), f)?;
        match &mut self.shortcut {
            Some((name, shortcut)) => shortcut.visit(&join(prefix, name), f),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
