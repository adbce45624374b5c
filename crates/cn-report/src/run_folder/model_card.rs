use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::json;
use crate::error::{Error, Result};
use crate::scores::Thresholds;

/// The schema of [`ModelCard`] that this version writes.
pub const MODEL_SCHEMA: u32 = 1;

/// `model.json`: what a program needs to use `model.safetensors` without the code that trained it.
///
/// To serve an image: decode it to u8 (grey where `channels` is 1, else RGB), do what `ink_fill` and `ground` say if
/// they are there, apply `transform`, divide by 255,
/// subtract `mean` and divide by `std` per channel, run `arch` with `stem` and `head`, apply `activation` to the
/// outputs; output `i` speaks of `classes[i]`, and says yes where it exceeds that class's threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// [`MODEL_SCHEMA`].
    pub schema: u32,
    /// Architecture, such as `resnet18`.
    pub arch: String,
    /// Variant of the first layers, in the words of the architecture.
    pub stem: String,
    /// Variant of the last layers, such as `fastai` or `plain`.
    pub head: String,
    /// Channels of the input: 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// Products of convolutions: `f32`, or `bf16` with sums of `f32`.
    #[serde(default = "f32_products", skip_serializing_if = "is_f32")]
    pub precision: String,
    /// How an image of any size becomes `image_size` square.
    pub transform: Transform,
    /// For a drawing that does not look like the images that it was trained on, of any size, place and polarity: make it
    /// light ink on black, cut it out as a square whose side the ink's longer side fills to this share, and go on with
    /// `transform`. Absent for a model that wants images as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ink_fill: Option<f64>,
    /// Which grey images look like those that it was trained on, and are not cut out by `ink_fill`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual: Option<UsualDrawing>,
    /// The ground of the drawings that it was trained on: images of dark ink on a bright ground are turned first (`v`
    /// becomes `255 - v`). Absent for a model of other images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ground: Option<Ground>,
    /// What follows the division by 255.
    pub normalisation: Normalisation,
    /// What turns outputs into probabilities.
    pub activation: Activation,
    /// One entry for each output, in order.
    pub classes: Vec<ClassCard>,
    /// The file of the weights.
    pub weights: WeightsCard,
    /// What it was trained on.
    pub data: DataCard,
}

/// Images of light ink on a dark ground, in [`ModelCard`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct UsualDrawing {
    /// Smallest and largest longer side, in pixels.
    pub side: [usize; 2],
    /// Smallest and largest share of the side that the ink extends over; 0 without ink.
    pub extent: [f64; 2],
    /// Smallest and largest ratio of height to width; squares alone where nothing is said.
    #[serde(default = "squares", skip_serializing_if = "is_squares")]
    pub aspect: [f64; 2],
}

/// What light ink is drawn on, in [`ModelCard`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ground {
    /// Black, or nearly.
    Dark,
}

fn squares() -> [f64; 2] {
    [1.0; 2]
}

fn is_squares(aspect: &[f64; 2]) -> bool {
    *aspect == squares()
}

fn f32_products() -> String {
    "f32".into()
}

fn is_f32(precision: &str) -> bool {
    precision == "f32"
}

/// How an image becomes the model's input. Resizing is Pillow's two-pass `BILINEAR` on bytes; aspect is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Transform {
    /// The whole image, resized to `image_size` square.
    Whole,
    /// The whole image resized to `resize` square, of which the central `image_size` square is taken: the validation
    /// part of fastai's `RandomResizedCrop`.
    Centre {
        /// Side before cropping, in pixels; at least `image_size`.
        resize: usize,
    },
    /// A square about the ink, resized to `image_size` square. Its side is that of the longer side of the ink's box
    /// over `fill`; it is moved into the image, and cut where the image is smaller. Without ink: the whole image.
    InkSquare {
        /// Share of the square's side that the ink fills, above 0 and at most 1.
        fill: f64,
        /// Smallest byte that is ink.
        threshold: u8,
    },
}

/// Mean and standard deviation of each channel, for values in 0..=1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    /// Subtracted.
    pub mean: Vec<f32>,
    /// Divided by; above 0.
    pub std: Vec<f32>,
}

/// What turns outputs into probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Each class for itself: an image may have none, one or several.
    Sigmoid,
    /// Exactly one class.
    Softmax,
}

/// One output of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassCard {
    /// The label in the data, such as `10`.
    pub label: String,
    /// How people are shown it, such as `十`; the label again where the data say nothing.
    pub display: String,
    /// What the probability has to exceed.
    pub threshold: f32,
}

/// The file of the weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsCard {
    /// Name of the file, beside the card.
    pub file: String,
    /// As `weights_sha256` of `summary.json`.
    pub sha256: String,
}

/// What the model was trained on, for those who pass it on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataCard {
    /// Name of the data set.
    pub name: String,
    /// Its licence, where it is known.
    pub licence: Option<String>,
    /// Whom to cite, where it is known.
    pub citation: Option<String>,
}

impl ModelCard {
    /// Reads `model.json` and checks it with [`ModelCard::validate`].
    ///
    /// # Errors
    ///
    /// If there is no such file, if it is damaged (the error names line and column), newer than this program, or
    /// contradicts itself.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let card: Self = json::read(path.as_ref(), MODEL_SCHEMA)?;
        card.validate()?;
        Ok(card)
    }

    /// Checks the card and writes `model.json`, atomically.
    ///
    /// # Errors
    ///
    /// If the card contradicts itself or the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        self.validate()?;
        json::write(path.as_ref(), self)
    }

    /// Labels of the outputs, in order.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.classes.iter().map(|class| class.label.as_str())
    }

    /// The output that speaks of a label: the one whose class people are shown as `display`, else the one of this
    /// label.
    #[must_use]
    pub fn output_of(&self, label: &str, display: &str) -> Option<usize> {
        let shown = self.classes.iter().position(|class| class.display == display);
        shown.or_else(|| self.labels().position(|known| known == label))
    }

    /// The thresholds of the classes: one for all where they are equal.
    ///
    /// # Errors
    ///
    /// If one is outside 0..=1, or there are no classes.
    pub fn thresholds(&self) -> Result<Thresholds> {
        self.validate_classes()?;
        let values: Vec<f32> = self.classes.iter().map(|class| class.threshold).collect();
        match values.as_slice() {
            [first, rest @ ..] if rest.iter().all(|value| value == first) => Thresholds::uniform(*first),
            _ => Thresholds::per_class(values),
        }
    }

    /// Checks that sizes, counts and ranges agree.
    ///
    /// # Errors
    ///
    /// [`Error::ModelCard`] with the first key that is wrong.
    pub fn validate(&self) -> Result<()> {
        let wrong = |key, problem: String| Err(Error::ModelCard { key, problem });
        if self.schema != MODEL_SCHEMA {
            return wrong("schema", format!("is {}, expected {MODEL_SCHEMA}", self.schema));
        }
        if !matches!(self.channels, 1 | 3) {
            return wrong("channels", format!("is {}, expected 1 or 3", self.channels));
        }
        if self.image_size == 0 {
            return wrong("image_size", "is 0".into());
        }
        if let Transform::Centre { resize } = self.transform
            && resize < self.image_size
        {
            return wrong("transform", format!("resizes to {resize}, below `image_size` {}", self.image_size));
        }
        let is_share = |fill: f64| fill > 0.0 && fill <= 1.0;
        if let Transform::InkSquare { fill, .. } = self.transform
            && !is_share(fill)
        {
            return wrong("transform", format!("`fill` is {fill}, expected above 0, at most 1"));
        }
        if let Some(fill) = self.ink_fill.filter(|fill| !is_share(*fill)) {
            return wrong("ink_fill", format!("is {fill}, expected above 0, at most 1"));
        }
        self.validate_normalisation()?;
        self.validate_classes()
    }

    fn validate_normalisation(&self) -> Result<()> {
        let Normalisation { mean, std } = &self.normalisation;
        let bad = |value: &f32| !value.is_finite();
        let problem = if mean.len() != self.channels || std.len() != self.channels {
            format!("has {} means and {} deviations for {} channels", mean.len(), std.len(), self.channels)
        } else if mean.iter().any(bad) || std.iter().any(|value| bad(value) || *value <= 0.0) {
            "needs finite means and deviations above 0".into()
        } else {
            return Ok(());
        };
        Err(Error::ModelCard { key: "normalisation", problem })
    }

    fn validate_classes(&self) -> Result<()> {
        let wrong = |problem| Err(Error::ModelCard { key: "classes", problem });
        let mut seen = HashSet::new();
        if let Some(twice) = self.labels().find(|label| !seen.insert(*label)) {
            return wrong(format!("name `{twice}` twice"));
        }
        if self.classes.is_empty() {
            return wrong("are empty".into());
        }
        match self.classes.iter().find(|class| !(0.0..=1.0).contains(&class.threshold)) {
            Some(class) => wrong(format!("give `{}` the threshold {}", class.label, class.threshold)),
            None => Ok(()),
        }
    }
}
