//! Ranges and probabilities of what is done to images.

use cn_kernels::resample::Rect;
use cn_random::{Draws, Purpose};

use crate::framing::ATTEMPTS;
use crate::{Error, Framing, Geometry, Image, InkSquare, Result, image, ink_kept};

// One stream each, so that switching one thing on leaves the draws of the others as they were.
const FRAMING: Purpose = Purpose::named("augment.framing");
const FLIP: Purpose = Purpose::named("augment.flip");
const JITTER: Purpose = Purpose::named("augment.jitter");
const ERASING: Purpose = Purpose::named("augment.erasing");

/// What a [`Policy`] is built from. [`PolicyConfig::new`] has everything off but the framing.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyConfig {
    /// Side of the square output in pixels, 1 to 8192.
    pub size: u32,
    /// Which part of an image is seen.
    pub framing: Framing,
    /// A square about the ink is framed as if it were the whole image.
    pub ink_square: Option<InkSquare>,
    /// Framings that lose more ink than this are drawn again.
    pub min_ink: Option<MinInk>,
    /// Probability of a flip left to right, 0 to 1. Not for characters.
    pub flip: f64,
    /// Random brightness and contrast.
    pub jitter: Option<Jitter>,
    /// A random rectangle is overwritten.
    pub erasing: Option<Erasing>,
    /// Byte of what lies outside a warped image and of what is erased: the background.
    pub border: u8,
}

impl PolicyConfig {
    /// Framing alone: no flip, no jitter, nothing erased, black border.
    #[must_use]
    pub fn new(size: u32, framing: Framing) -> Self {
        Self { size, framing, ink_square: None, min_ink: None, flip: 0.0, jitter: None, erasing: None, border: 0 }
    }
}

/// How much ink a random framing must keep, by [`ink_kept`](crate::ink_kept).
///
/// It is drawn up to 10 times; if it never keeps enough, the whole image (or its [`InkSquare`]) is taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MinInk {
    /// Smallest share that is kept, 0 to 1.
    pub share: f64,
    /// Bytes below this are background.
    pub threshold: u8,
}

/// Random brightness and contrast with the meaning of torchvision's `ColorJitter`: a factor each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jitter {
    /// Probability that an image is changed at all, 0 to 1.
    pub probability: f64,
    /// Bytes are multiplied by 1 - `brightness` to 1 + `brightness`; 0 to 1.
    pub brightness: f64,
    /// Distances to the image's mean byte are multiplied by 1 - `contrast` to 1 + `contrast`; 0 to 1.
    pub contrast: f64,
}

/// Random erasing (Zhong et al., arXiv:1708.04896): a rectangle of the output is set to the border's byte.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Erasing {
    /// Probability that an image loses a rectangle, 0 to 1.
    pub probability: f64,
    /// Smallest and largest share of the output's area, above 0 and at most 1.
    pub area: (f64, f64),
    /// Smallest and largest width / height, 0.01 to 100; drawn evenly in its logarithm.
    pub ratio: (f64, f64),
}

impl Default for Erasing {
    /// The paper's: half of the images, 0.02 to 0.4 of the area, 0.3 to 1 / 0.3.
    fn default() -> Self {
        Self { probability: 0.5, area: (0.02, 0.4), ratio: (0.3, 1.0 / 0.3) }
    }
}

/// What a draw is keyed by; the same key gives the same draw, anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DrawKey {
    /// Seed of the run.
    pub seed: u64,
    /// Epoch, or whatever else counts how often the image was seen.
    pub epoch: u32,
    /// Number of the image in its data set.
    pub id: u32,
}

/// Validated ranges and probabilities; draws a [`Geometry`] per image.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    config: PolicyConfig,
}

impl Policy {
    /// Checks the numbers.
    ///
    /// # Errors
    ///
    /// The first number that is out of its range, by the name of its field.
    pub fn new(config: PolicyConfig) -> Result<Self> {
        check_range("size", f64::from(config.size), 1.0, 8192.0, "1 to 8192")?;
        config.framing.check()?;
        if let Some(square) = &config.ink_square {
            check_range("ink_square.fill", square.fill, f64::MIN_POSITIVE, 1.0, "above 0, at most 1")?;
        }
        check_range("flip", config.flip, 0.0, 1.0, "0 to 1")?;
        if let Some(ink) = &config.min_ink {
            check_range("min_ink.share", ink.share, 0.0, 1.0, "0 to 1")?;
        }
        if let Some(jitter) = &config.jitter {
            jitter.check()?;
        }
        if let Some(erasing) = &config.erasing {
            erasing.check()?;
        }
        Ok(Self { config })
    }

    /// fastai's `RandomResizedCrop(size, min_scale)` in training.
    ///
    /// # Errors
    ///
    /// If `size` or `min_scale` is out of range.
    pub fn fastai_train(size: u32, min_scale: f64) -> Result<Self> {
        let crop = crate::RandomResizedCrop { min_scale, ..Default::default() };
        Self::new(PolicyConfig::new(size, Framing::RandomResizedCrop(crop)))
    }

    /// fastai's `RandomResizedCrop(size)` in validation.
    ///
    /// # Errors
    ///
    /// If `size` is out of range.
    pub fn fastai_valid(size: u32) -> Result<Self> {
        Self::new(PolicyConfig::new(size, Framing::CentreCrop { extra: 0.14 }))
    }

    /// The whole image, resized.
    ///
    /// # Errors
    ///
    /// If `size` is out of range.
    pub fn whole(size: u32) -> Result<Self> {
        Self::new(PolicyConfig::new(size, Framing::Whole))
    }

    /// What the policy was built from.
    #[must_use]
    pub fn config(&self) -> &PolicyConfig {
        &self.config
    }

    /// Side of the square output in pixels.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.config.size
    }

    /// What is done to this image under this key: a pure function of policy, image and key.
    ///
    /// Only the size of the image matters, unless `ink_square`, `min_ink` or `jitter` is set.
    ///
    /// # Errors
    ///
    /// If the image's bytes do not match its shape, or it is neither grey nor RGB.
    pub fn geometry(&self, image: Image<'_>, key: DrawKey) -> Result<Geometry> {
        image::check(0, image)?;
        Ok(self.draw(image, key))
    }

    /// [`geometry`](Self::geometry) for each image of a batch; `ids` are their numbers in the data set.
    ///
    /// # Errors
    ///
    /// As [`geometry`](Self::geometry), or if there are not as many ids as images.
    pub fn geometries(&self, images: &[Image<'_>], seed: u64, epoch: u32, ids: &[u32]) -> Result<Vec<Geometry>> {
        if images.len() != ids.len() {
            return Err(Error::Length { argument: "ids", expected: images.len(), found: ids.len() });
        }
        let draw = |(index, (&image, &id)): (usize, (&Image<'_>, &u32))| {
            image::check(index, image)?;
            Ok(self.draw(image, DrawKey { seed, epoch, id }))
        };
        images.iter().zip(ids).enumerate().map(draw).collect()
    }

    fn draw(&self, image: Image<'_>, key: DrawKey) -> Geometry {
        let stream = |purpose| Draws::new(key.seed, key.epoch, key.id, purpose);
        let config = &self.config;
        let mut geometry = self.draw_framing(image, &mut stream(FRAMING));
        geometry.border = u32::from(config.border);
        if config.flip > 0.0 && stream(FLIP).uniform() < config.flip {
            geometry = geometry.flipped();
        }
        if let Some(jitter) = &config.jitter {
            (geometry.gain, geometry.bias) = jitter.draw(image, &mut stream(JITTER));
        }
        if let Some(erasing) = &config.erasing {
            geometry.erased = erasing.draw(config.size, &mut stream(ERASING));
        }
        geometry
    }

    fn draw_framing(&self, image: Image<'_>, draws: &mut Draws) -> Geometry {
        let PolicyConfig { framing, size, ink_square, .. } = self.config;
        let part = match ink_square {
            Some(square) => square.of(image),
            None => Rect::of_size(image.width, image.height),
        };
        let Some(ink) = self.config.min_ink.filter(|_| framing.is_random()) else {
            return framing.draw(part, size, draws);
        };
        (0..ATTEMPTS)
            .map(|_| framing.draw(part, size, draws))
            .find(|geometry| ink_kept(image, geometry, ink.threshold) >= ink.share)
            .unwrap_or_else(|| Geometry::resize(part, size))
    }
}

impl Jitter {
    fn check(&self) -> Result<()> {
        check_range("jitter.probability", self.probability, 0.0, 1.0, "0 to 1")?;
        check_range("jitter.brightness", self.brightness, 0.0, 1.0, "0 to 1")?;
        check_range("jitter.contrast", self.contrast, 0.0, 1.0, "0 to 1")
    }

    /// Gain and bias: brightness first, then contrast about the mean of what that gives.
    fn draw(&self, image: Image<'_>, draws: &mut Draws) -> (f32, f32) {
        if draws.uniform() >= self.probability {
            return (1.0, 0.0);
        }
        let brightness = draws.range(1.0 - self.brightness, 1.0 + self.brightness);
        let contrast = draws.range(1.0 - self.contrast, 1.0 + self.contrast);
        let sum: u64 = image.pixels.iter().map(|&v| u64::from(v)).sum();
        let mean = sum as f64 / image.pixels.len() as f64;
        ((brightness * contrast) as f32, (brightness * mean * (1.0 - contrast)) as f32)
    }
}

impl Erasing {
    fn check(&self) -> Result<()> {
        check_range("erasing.probability", self.probability, 0.0, 1.0, "0 to 1")?;
        check_range("erasing.area.0", self.area.0, f64::MIN_POSITIVE, 1.0, "above 0, at most 1")?;
        check_range("erasing.area.1", self.area.1, f64::MIN_POSITIVE, 1.0, "above 0, at most 1")?;
        check_order("erasing.area", self.area.0, self.area.1)?;
        check_range("erasing.ratio.0", self.ratio.0, 0.01, 100.0, "0.01 to 100")?;
        check_range("erasing.ratio.1", self.ratio.1, 0.01, 100.0, "0.01 to 100")?;
        check_order("erasing.ratio", self.ratio.0, self.ratio.1)
    }

    /// The erased rectangle; width 0 for none.
    fn draw(&self, size: u32, draws: &mut Draws) -> [u32; 4] {
        if draws.uniform() >= self.probability {
            return [0; 4];
        }
        let (low, high) = (libm::log(self.ratio.0), libm::log(self.ratio.1));
        let side = f64::from(size);
        for _ in 0..ATTEMPTS {
            let area = draws.range(self.area.0, self.area.1) * side * side;
            let ratio = libm::exp(draws.range(low, high));
            let w = (area * ratio).sqrt().round_ties_even() as u32;
            let h = (area / ratio).sqrt().round_ties_even() as u32;
            if (1..=size).contains(&w) && (1..=size).contains(&h) {
                return [draws.below(size - w + 1), draws.below(size - h + 1), w, h];
            }
        }
        [0; 4]
    }
}

/// Refuses a number outside `[low, high]`, and NaN.
pub(crate) fn check_range(field: &'static str, value: f64, low: f64, high: f64, allowed: &'static str) -> Result<()> {
    if (low..=high).contains(&value) { Ok(()) } else { Err(Error::OutOfRange { field, value, allowed }) }
}

/// Refuses a range that ends before it starts.
pub(crate) fn check_order(field: &'static str, low: f64, high: f64) -> Result<()> {
    if low <= high { Ok(()) } else { Err(Error::Reversed { field, low, high }) }
}

#[cfg(test)]
mod colour_tests;
#[cfg(test)]
mod tests;
