//! Networks of the settings, and models that were trained, from a run or a file.

use crate::config::{Config, FAINT_INK, HeadKind};
use crate::glyphs;
use crate::problem::Problem;
use anyhow::{Context, Result};
use candle_core::{DType, Device};
use cn_augment::{Drawing, Image, Normalisation, Planes, ink_extent};
use cn_data::{Ground, ImageView, Pixels};
use cn_learn::{BatchConfig, Decode, Predictor, image_of};
use cn_ops::{Model as _, Network};
use cn_report::{Activation, ModelCard, RunFolder, Transform};
use cn_zoo::{Arch, Fit, Head, ResNetConfig, WeightFile};
use std::path::{Path, PathBuf};

/// What the ink of a scan extends over, which is so in 998 of 1,000 scans of handwriting.
const EXTENT: std::ops::RangeInclusive<f64> = 0.14..=0.78;

/// Share of a model's own images that have to be usual drawings before others are made so.
const USUAL: f64 = 0.95;

/// Images that a trained model sees at a time.
const BATCH: usize = 64;

/// What cn-zoo builds for the settings.
pub(crate) fn resnet(config: &Config, n_classes: usize) -> Result<ResNetConfig> {
    let head = match config.head {
        HeadKind::Fastai => Head::fastai(),
        HeadKind::Plain => Head::Linear,
    };
    Ok(ResNetConfig { arch: config.arch.parse()?, in_channels: config.channels, n_classes, head })
}

/// The network with initial weights, for images of this normalisation; one of three channels also takes grey images as
/// planes.
pub(crate) fn network(resnet: &ResNetConfig, normalisation: &Normalisation, seed: u64) -> Result<Network> {
    Ok(match resnet.in_channels {
        3 => resnet.build_folded(&normalisation.mix(3)?, seed, DType::F32, &Device::Cpu)?,
        _ => resnet.build(seed, DType::F32, &Device::Cpu)?,
    })
}

/// What batches of these images hold of each pixel.
pub(crate) fn planes(pixels: &Pixels) -> Planes {
    if pixels.channels() == 1 { Planes::Grey } else { Planes::Channels }
}

/// Whether an image is light ink on a dark ground; unless the model looks for the ink, in a square of about the `size` of
/// its input, with about as much room around it as handwriting in scans has.
fn is_usual(view: ImageView<'_>, size: usize, transform: Transform) -> bool {
    let is_framed = || ink_extent(image_of(view), FAINT_INK).is_some_and(|extent| EXTENT.contains(&extent));
    // A square about the ink is found wherever that is.
    let is_sought = matches!(transform, Transform::InkSquare { .. });
    let is_square = view.height == view.width && (size / 2..=2 * size).contains(&view.width);
    view.channels == 1 && view.ground() == Some(Ground::Dark) && (is_sought || (is_square && is_framed()))
}

/// How large other drawings have to be made for a model that was trained on these images; `None` where these are no such
/// drawings, so that nobody knows what others should look like.
pub(crate) fn ink_fill(pixels: &Pixels, size: usize, transform: Transform) -> Option<f64> {
    let n_usual = pixels.images().filter(|view| is_usual(*view, size, transform)).count();
    let mut extents: Vec<f64> = pixels.images().filter_map(|view| ink_extent(image_of(view), FAINT_INK)).collect();
    extents.sort_unstable_by(f64::total_cmp);
    let median = *extents.get(extents.len() / 2)?;
    (n_usual as f64 >= USUAL * pixels.len() as f64).then(|| (100.0 * median).round().max(1.0) / 100.0)
}

/// A model that was trained.
pub(crate) struct Trained {
    pub(crate) card: ModelCard,
    pub(crate) network: Network,
    /// The folder of its run, where there is one.
    pub(crate) run: Option<RunFolder>,
}

impl Trained {
    /// Opens a run, a weight file with its `model.json` beside it, or the built-in weights.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if path == Path::new(glyphs::NAME) && !path.exists() {
            let (file, card) = glyphs::open()?;
            return Self::of(path, card, &file, None);
        }
        let (card, weights, run) = Self::places(path)?;
        Self::of(path, ModelCard::read(&card)?, &WeightFile::open(&weights)?, run)
    }

    fn of(path: &Path, card: ModelCard, file: &WeightFile, run: Option<RunFolder>) -> Result<Self> {
        let in_file = || format!("cannot use the model `{}`", path.display());
        let resnet = ResNetConfig::of_file(file).with_context(in_file)?;
        check_card(&card, &resnet).with_context(in_file)?;
        let mut network = network(&resnet, &normalisation_of(&card)?, 0)?.with_precision(card.precision.parse()?);
        cn_zoo::load(&mut network, file, Fit::Exact).with_context(in_file)?;
        let sha256 = cn_zoo::weights_sha256(&network.named_tensors()?)?;
        if sha256 != card.weights.sha256 {
            let problem = format!("the weights of `{}` are not those that its model.json describes", path.display());
            return Err(Problem::failure(problem).hint("one of the two files was changed: restore it").into());
        }
        Ok(Self { card, network, run })
    }

    /// Where the weights of `path` lie, which was opened.
    pub(crate) fn weights(&self, path: &Path) -> PathBuf {
        if path.is_dir() { RunFolder::new(path).weights() } else { path.to_owned() }
    }

    /// Whether it was trained on light ink on a dark ground alone.
    pub(crate) fn reads_light_ink(&self) -> bool {
        self.card.ink_fill.is_some() || self.card.ground.is_some()
    }

    /// Images of any size, pen and polarity as this model wants drawings; those that look like the images that it was
    /// trained on stay as they are.
    pub(crate) fn drawings(&self, pixels: &Pixels) -> Result<Pixels> {
        let fill = self.card.ink_fill.unwrap_or(1.0);
        let (size, transform) = (self.card.image_size, self.card.transform);
        let framed = |view| (!is_usual(view, size, transform)).then(|| Drawing::of(image_of(view), fill));
        let framed: Vec<Option<Drawing>> = pixels.images().map(framed).collect();
        let views = pixels.images().zip(&framed).map(|(view, framed)| match framed {
            Some(Drawing { side, pixels }) => ImageView { pixels, height: *side, width: *side, channels: 1 },
            None => view,
        });
        Ok(Pixels::from_images(views)?)
    }

    /// `model.json`, the weights, the run.
    fn places(path: &Path) -> Result<(PathBuf, PathBuf, Option<RunFolder>)> {
        if path.is_dir() {
            let run = RunFolder::new(path);
            check_weights(&run)?;
            return Ok((run.model_card(), run.weights(), Some(run)));
        }
        if !path.is_file() {
            return Err(Problem::failure(format!("there is no run or model `{}`", path.display()))
                .hint("name the folder of a run, or a safetensors file with its model.json beside it")
                .into());
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let run = RunFolder::new(folder);
        if !run.model_card().is_file() {
            let problem = format!("there is no model.json beside `{}`", path.display());
            return Err(Problem::failure(problem).hint("it says what the outputs mean; a run writes both").into());
        }
        Ok((run.model_card(), path.to_owned(), run.holds_run().then_some(run)))
    }
}

/// What the input of a trained model is normalised by.
pub(crate) fn normalisation_of(card: &ModelCard) -> Result<Normalisation> {
    let wide = |values: &[f32]| values.iter().map(|&v| shortest(v)).collect::<Vec<_>>();
    Ok(Normalisation::new(&wide(&card.normalisation.mean), &wide(&card.normalisation.std))?)
}

/// The `f64` that is written like this `f32`: 0.485, not 0.48500001430511475.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn check_card(card: &ModelCard, resnet: &ResNetConfig) -> Result<()> {
    let arch: Arch = card.arch.parse()?;
    let same = (arch, card.channels, card.classes.len()) == (resnet.arch, resnet.in_channels, resnet.n_classes);
    if same {
        return Ok(());
    }
    Err(Problem::failure("model.json and the weights are of different networks")
        .hint("one of the two files was changed: restore it")
        .into())
}

impl Trained {
    /// Probabilities of the classes, `(N, K)` row by row.
    pub(crate) fn probabilities(&mut self, pixels: &Pixels) -> Result<Vec<f32>> {
        let size = u32::try_from(self.card.image_size)?;
        let policy = crate::config::policy_of(self.card.transform, size)?;
        let decode = match self.card.activation {
            Activation::Sigmoid => Decode::Sigmoid,
            Activation::Softmax => Decode::Softmax,
        };
        let config = BatchConfig {
            eval_batch_size: BATCH,
            channels: self.card.channels,
            normalisation: normalisation_of(&self.card)?,
            planes: planes(pixels),
            device: Device::Cpu,
            ..BatchConfig::new(policy.clone(), policy)
        };
        let images: Vec<Image<'_>> = pixels.images().map(image_of).collect();
        Ok(Predictor::new(&config, decode)?.predict(&mut self.network, &images)?.probabilities())
    }
}

/// Refuses a run without its final weights.
pub(crate) fn check_weights(run: &RunFolder) -> Result<(), Problem> {
    if run.weights().is_file() || !run.holds_run() {
        return Ok(());
    }
    if run.is_finished() {
        let problem = format!("`{}` is missing, although the run is finished", run.weights().display());
        return Err(Problem::failure(problem)
            .hint("restore it, or write it again from the last checkpoint: `cn-train train --resume RUN`"));
    }
    Err(Problem::unfinished(run.root()))
}
