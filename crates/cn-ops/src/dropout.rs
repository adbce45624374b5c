//! Dropout whose masks belong to images.

use crate::gpu::Spec;
use crate::relu::zip;
use crate::storage::{Element, check_shape, owned, read, shape_error, with_float, write};
use crate::{Activation, Draw, Error, InputGrad, Layer, Mode, Pass, Result, Visit};
use cn_kernels::Float;
use cn_random::{Draws, Purpose};
use rayon::prelude::*;

/// Sets each element to 0 with probability `p` in training, and scales the others by `1 / (1 - p)`
/// (Srivastava et al. 2014).
///
/// The mask of an image is a function of (seed, epoch, image id, name of this layer): it does not depend on the batch
/// that the image came in, on threads, or on what was drawn before.
#[derive(Debug)]
pub struct Dropout {
    p: f64,
    purpose: Purpose,
    saved: Option<Saved>,
}

#[derive(Debug)]
enum Saved {
    /// The layer did nothing.
    Identity,
    /// 0 or the scale, for each element.
    Mask(Activation),
}

impl Dropout {
    /// Drops with probability `p`. Layers of one model need different names, such as `head.3`, to drop independently.
    ///
    /// # Errors
    ///
    /// If `p` is outside [0, 1).
    pub fn new(p: f64, name: &str) -> Result<Self> {
        if !(0.0..1.0).contains(&p) {
            return Err(Error::Setting {
                name: "dropout",
                value: p,
                expected: "a number from 0 up to, not including, 1",
            });
        }
        Ok(Self { p, purpose: Purpose::named(name), saved: None })
    }

    fn fill_mask<T: Element>(&self, draw: &Draw<'_>, mask: &mut [T]) {
        let scale = <T as Float>::from_f64(1.0 / (1.0 - self.p));
        // An element is dropped if its 32 random bits lie below this.
        let threshold = (self.p * 2f64.powi(32)).round() as u32;
        let image = mask.len() / draw.ids.len();
        mask.par_chunks_mut(image).zip(draw.ids).for_each(|(mask, id)| {
            let mut draws = Draws::new(draw.seed, draw.epoch, *id, self.purpose);
            mask.iter_mut().for_each(|m| *m = if draws.next_u32() < threshold { T::ZERO } else { scale });
        });
    }
}

impl Layer for Dropout {
    fn forward(&mut self, x: &Activation, pass: &mut Pass<'_>) -> Result<Activation> {
        let draw = match pass.mode {
            Mode::Train(draw) if self.p > 0.0 => draw,
            _ => {
                self.saved = pass.saves.then_some(Saved::Identity);
                return Ok(x.clone());
            }
        };
        if x.elem_count() == 0 || x.dims().first() != Some(&draw.ids.len()) {
            let expected = format!("one row for each of the {} image ids", draw.ids.len());
            return Err(shape_error("x", &expected, x.shape()));
        }
        let take = || pass.pool.take(x.shape().clone(), x.dtype(), x.device());
        let (mask, y) = (take()?, take()?);
        with_float!("x", x, T => {
            write::<T, _>(&mask, |mask| self.fill_mask(&draw, mask))?;
            let (x, mask) = (read::<T>(x)?, read::<T>(&mask)?);
            write::<T, _>(&y, |y| {
                y.copy_from_slice(&x);
                zip(y, &mask, |y, mask| *y *= mask);
            })
        })?;
        self.saved = pass.saves.then_some(Saved::Mask(mask));
        Ok(y)
    }

    fn backward(&mut self, dy: Activation, dx: InputGrad, pass: &mut Pass<'_>) -> Result<Option<Activation>> {
        let mask = match self.saved.take().ok_or(Error::NothingSaved { layer: "Dropout" })? {
            Saved::Identity => return dx.give(dy),
            Saved::Mask(mask) => mask,
        };
        check_shape("dy", &dy, mask.dims())?;
        if matches!(dx, InputGrad::Skip) {
            return Ok(None);
        }
        let dy = owned(dy, &pass.pool)?;
        with_float!("dy", dy, T => {
            let mask = read::<T>(&mask)?;
            write::<T, _>(&dy, |dy| zip(dy, &mask, |dy, mask| *dy *= mask))
        })?;
        dx.give(dy)
    }

    fn spec(&self, _prefix: &str) -> Result<Spec> {
        Ok(Spec::Dropout { p: self.p, purpose: self.purpose.identifier() })
    }

    fn visit(&mut self, _prefix: &str, _f: &mut Visit<'_>) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
