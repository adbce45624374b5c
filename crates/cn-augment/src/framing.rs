//! Which part of an image is seen.

use std::f64::consts::PI;

use cn_kernels::resample::Rect;
use cn_random::Draws;

use crate::policy::{check_order, check_range};
use crate::{Geometry, Result};

/// Attempts at a box that fits, as in torchvision and fastai.
pub(crate) const ATTEMPTS: usize = 10;

/// Which part of an image becomes the square that the model sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Framing {
    /// The whole image, resized; the aspect is not kept. Nothing is lost and nothing random.
    Whole,
    /// fastai's validation framing of `RandomResizedCrop` (`val_xtra`, there 0.14): the whole image resized to
    /// `S + ceil(S * extra / 8) * 8`, and the central `S` x `S` of that. Nothing random, but the margin is lost.
    CentreCrop {
        /// Share of `S` to resize beyond it, 0 to 1.
        extra: f64,
    },
    /// A random box of random aspect, resized.
    RandomResizedCrop(RandomResizedCrop),
    /// A small random affine map.
    Affine(Affine),
}

/// A box of random area and aspect, resized to the square: fastai 2.8's `RandomResizedCrop` in training.
///
/// Up to 10 times an area and a ratio are drawn and their box rounded (half to even) to whole pixels; the first box that
/// fits is placed evenly. If none fits: the whole image, or its central part if its own ratio is out of range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandomResizedCrop {
    /// Smallest share of the image's area, above 0.
    pub min_scale: f64,
    /// Largest share, at most 1.
    pub max_scale: f64,
    /// Smallest and largest width / height; drawn evenly in its logarithm.
    pub ratio: (f64, f64),
}

impl Default for RandomResizedCrop {
    /// fastai's: 0.08 to 1 of the area, 3/4 to 4/3.
    fn default() -> Self {
        Self { min_scale: 0.08, max_scale: 1.0, ratio: (3.0 / 4.0, 4.0 / 3.0) }
    }
}

/// A small random affine map of what is seen, about its centre: first stretched, then sheared, turned and shifted.
///
/// All ranges are even except that of `aspect`. A range of 0 (or 1 to 1) leaves a part out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// Largest shift to each side, as a share of the output's side; 0 to 1, each direction drawn by itself.
    pub shift: f64,
    /// Smallest and largest scale of the content: above 1 it grows. 0.1 to 10.
    pub scale: (f64, f64),
    /// Largest turn to each side, in degrees, 0 to 180.
    pub rotate: f64,
    /// Largest slant of the verticals to each side, in degrees, 0 to 60.
    pub shear: f64,
    /// Largest change of width / height, either way: 1 to 10, drawn evenly in its logarithm, the area kept.
    pub aspect: f64,
}

impl Default for Affine {
    /// What a character survives: shifts by 6 %, scales of 0.9 to 1.1, turns by 8 and slants by 6 degrees, aspect 1.1.
    fn default() -> Self {
        Self { shift: 0.06, scale: (0.9, 1.1), rotate: 8.0, shear: 6.0, aspect: 1.1 }
    }
}

impl Framing {
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::Whole => Ok(()),
            Self::CentreCrop { extra } => check_range("centre_crop.extra", *extra, 0.0, 1.0, "0 to 1"),
            Self::RandomResizedCrop(crop) => crop.check(),
            Self::Affine(affine) => affine.check(),
        }
    }

    /// Whether anything is drawn.
    pub(crate) fn is_random(&self) -> bool {
        matches!(self, Self::RandomResizedCrop(_) | Self::Affine(_))
    }

    /// Draws one geometry of `size` px that sees `part` as if it were the whole image.
    pub(crate) fn draw(&self, part: Rect, size: u32, draws: &mut Draws) -> Geometry {
        match self {
            Self::Whole => Geometry::resize(part, size),
            Self::CentreCrop { extra } => Geometry::centre(part, size, centre_margin(size, *extra)),
            Self::RandomResizedCrop(crop) => {
                let Rect { left, top, width, height } = crop.draw(part.width, part.height, draws);
                Geometry::resize(Rect { left: part.left + left, top: part.top + top, width, height }, size)
            }
            Self::Affine(affine) => Geometry::warp(affine.draw(part, size, draws), size),
        }
    }
}

/// Half of fastai's `xtra`, a multiple of 4.
fn centre_margin(size: u32, extra: f64) -> u32 {
    (f64::from(size) * extra / 8.0).ceil() as u32 * 4
}

impl RandomResizedCrop {
    fn check(&self) -> Result<()> {
        let (low, high) = self.ratio;
        check_range("random_resized_crop.min_scale", self.min_scale, f64::MIN_POSITIVE, 1.0, "above 0, at most 1")?;
        check_range("random_resized_crop.max_scale", self.max_scale, f64::MIN_POSITIVE, 1.0, "above 0, at most 1")?;
        check_order("random_resized_crop.min_scale, max_scale", self.min_scale, self.max_scale)?;
        check_range("random_resized_crop.ratio.0", low, 0.01, 100.0, "0.01 to 100")?;
        check_range("random_resized_crop.ratio.1", high, 0.01, 100.0, "0.01 to 100")?;
        check_order("random_resized_crop.ratio", low, high)
    }

    /// The box for a `width` x `height` image. Draws area and ratio per attempt, then left and top.
    fn draw(&self, width: usize, height: usize, draws: &mut Draws) -> Rect {
        let (low, high) = (libm::log(self.ratio.0), libm::log(self.ratio.1));
        let image_area = width as f64 * height as f64;
        for _ in 0..ATTEMPTS {
            let area = draws.range(self.min_scale, self.max_scale) * image_area;
            let ratio = libm::exp(draws.range(low, high));
            let w = (area * ratio).sqrt().round_ties_even() as usize;
            let h = (area / ratio).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let mut place = |room: usize| draws.below(u32::try_from(room + 1).unwrap_or(u32::MAX)) as usize;
                return Rect { left: place(width - w), top: place(height - h), width: w, height: h };
            }
        }
        self.fallback(width, height)
    }

    /// The largest central box whose ratio is allowed.
    fn fallback(&self, width: usize, height: usize) -> Rect {
        let ratio = width as f64 / height as f64;
        let (w, h) = if ratio < self.ratio.0 {
            (width, (width as f64 / self.ratio.0) as usize)
        } else if ratio > self.ratio.1 {
            ((height as f64 * self.ratio.1) as usize, height)
        } else {
            (width, height)
        };
        let (w, h) = (w.clamp(1, width), h.clamp(1, height));
        Rect { left: (width - w) / 2, top: (height - h) / 2, width: w, height: h }
    }
}

impl Affine {
    fn check(&self) -> Result<()> {
        let (low, high) = self.scale;
        check_range("affine.shift", self.shift, 0.0, 1.0, "0 to 1")?;
        check_range("affine.scale.0", low, 0.1, 10.0, "0.1 to 10")?;
        check_range("affine.scale.1", high, 0.1, 10.0, "0.1 to 10")?;
        check_order("affine.scale", low, high)?;
        check_range("affine.rotate", self.rotate, 0.0, 180.0, "0 to 180 degrees")?;
        check_range("affine.shear", self.shear, 0.0, 60.0, "0 to 60 degrees")?;
        check_range("affine.aspect", self.aspect, 1.0, 10.0, "1 to 10")
    }

    /// The matrix from output to image. Draws two shifts, turn, slant, aspect and scale, always all of them.
    ///
    /// On the unit square about its centre, content moves by p -> R K D p + t (turn, slant, stretch, shift). Output
    /// pixels look back through the inverse, D^-1 K^-1 R^-1 (p - t).
    fn draw(&self, part: Rect, size: u32, draws: &mut Draws) -> [f32; 6] {
        let mut either_way = |most: f64| most * (2.0 * draws.uniform() - 1.0);
        let [tx, ty] = [either_way(self.shift), either_way(self.shift)];
        let turn = either_way(self.rotate) * (PI / 180.0);
        let slant = libm::tan(either_way(self.shear) * (PI / 180.0));
        let aspect = libm::exp(either_way(libm::log(self.aspect)) / 2.0);
        let scale = draws.range(self.scale.0, self.scale.1);

        let (sin, cos) = (libm::sin(turn), libm::cos(turn));
        let unshear = [[cos + slant * sin, sin - slant * cos], [-sin, cos]];
        let stretch = [scale * aspect, scale / aspect];
        let side = f64::from(size);
        let lengths = [part.width as f64, part.height as f64];
        let starts = [part.left as f64, part.top as f64];
        let row = |i: usize| {
            let [a, b] = unshear[i].map(|v| v / stretch[i]);
            let centre = 0.5 - a * (tx + 0.5) - b * (ty + 0.5);
            [a / side * lengths[i], b / side * lengths[i], starts[i] + centre * lengths[i]]
        };
        let [[a, b, c], [d, e, f]] = [row(0), row(1)];
        [a, b, c, d, e, f].map(|v| v as f32)
    }
}

#[cfg(test)]
mod tests;
