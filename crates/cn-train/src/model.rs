//! Networks of the settings, and models that were trained, from a run or a file.

use crate::args::Common;
use crate::config::{Config, FAINT_INK, HeadKind, MAX_IMAGE_SIZE, check_device, precision_here};
use crate::glyphs;
use crate::problem::Problem;
use crate::session;
use anyhow::{Context, Result};
use candle_core::{DType, Device};
use cn_augment::{Drawing, Image, Normalisation, Planes, ink_extent};
use cn_data::{Ground, ImageView, Pixels};
use cn_learn::{BatchConfig, Decode, Predictor, image_of};
use cn_ops::{Model as _, Network};
use cn_report::{Activation, ModelCard, RunFolder, UsualDrawing};
use cn_zoo::{Arch, FileFormat, Fit, Head, ResNetConfig, WeightFile};
use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// What the ink of a scan extends over, which is so in 998 of 1,000 scans of handwriting.
const EXTENT: [f64; 2] = [0.14, 0.78];

/// Drawings whose ink mostly extends over so much have no room around them that could be made for others.
const FILLED: f64 = 0.95;

/// Heights by width of images of which a square drawing can become one.
const NEARLY_SQUARE: RangeInclusive<f64> = 0.8..=1.25;

/// Share of a square that the ink of a drawing fills: about the middle of what pretraining draws.
pub(crate) const DRAWN_FILL: f64 = 0.6;

/// Images that a trained model sees at a time.
const BATCH: usize = 64;
/// Up to this side of an image.
const LARGE_SIDE: usize = 512;

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

/// What the ink of a grey image extends over, as a share of its longer side; 0 without ink.
fn extent(view: ImageView<'_>) -> f64 {
    ink_extent(image_of(view), FAINT_INK).unwrap_or(0.0)
}

/// What the images of a model of so many channels look like, and how large others have to be made for that; `None` where
/// most are not nearly square, with light ink on a dark ground and room around it, so that nobody knows what others
/// should look like.
pub(crate) fn usual_drawing(pixels: &Pixels, channels: usize) -> Option<(UsualDrawing, f64)> {
    if !reads_dark(pixels) || (channels > 1 && pixels.images().any(|view| !view.is_colourless())) {
        return None;
    }
    let grey = if pixels.channels() == 1 { Cow::Borrowed(pixels) } else { Cow::Owned(pixels.to_grey()) };
    let sides = || grey.images().map(longer_side);
    let (extent, fill) = range(grey.images().map(extent))?;
    let (aspect, shape) = range(grey.images().map(aspect))?;
    let usual = UsualDrawing { side: [sides().min()?, sides().max()?], extent, aspect };
    let fill = (100.0 * fill).round() / 100.0;
    ((0.01..FILLED).contains(&fill) && NEARLY_SQUARE.contains(&shape)).then_some((usual, fill))
}

/// Least and most, rounded outwards so that what is read from a card holds all of them; and the median.
fn range(values: impl Iterator<Item = f64>) -> Option<([f64; 2], f64)> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let outwards = [(1000.0 * values.first()?).floor() / 1000.0, (1000.0 * values.last()?).ceil() / 1000.0];
    Some((outwards, values[values.len() / 2]))
}

fn longer_side(view: ImageView<'_>) -> usize {
    view.height.max(view.width)
}

fn aspect(view: ImageView<'_>) -> f64 {
    view.height as f64 / view.width as f64
}

/// Whether images are light ink on a dark ground, and none of them the other way round.
pub(crate) fn reads_dark(pixels: &Pixels) -> bool {
    pixels.ground() == Some(Ground::Dark) && pixels.images().all(|view| view.ground() != Some(Ground::Bright))
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
        let card = ModelCard::read(&card).with_context(|| format!("cannot use the model `{}`", path.display()))?;
        Self::of(path, card, &WeightFile::open(&weights)?, run)
    }

    /// The same on the device of the flags, in the precision that it was trained in.
    pub(crate) fn on(self, common: &Common) -> Result<Self> {
        let device = common.device.as_deref().unwrap_or("auto");
        check_device(device)?;
        let network = session::on_device(self.network, device, &self.card.precision)?;
        Ok(Self { network, ..self })
    }

    fn of(path: &Path, card: ModelCard, file: &WeightFile, run: Option<RunFolder>) -> Result<Self> {
        let in_file = || format!("cannot use the model `{}`", path.display());
        let resnet = ResNetConfig::of_file(file).with_context(in_file)?;
        check_card(&card, &resnet).with_context(in_file)?;
        let mut network =
            network(&resnet, &normalisation_of(&card)?, 0)?.with_precision(precision_here(&card.precision)?);
        cn_zoo::load(&mut network, file, Fit::Exact).with_context(in_file)?;
        let sha256 = cn_zoo::weights_sha256(&network.named_tensors()?)?;
        if sha256 != card.weights.sha256 {
            return Err(other_weights(path).into());
        }
        Ok(Self { card, network, run })
    }

    /// Where the weights of `path` lie, which was opened.
    pub(crate) fn weights(&self, path: &Path) -> PathBuf {
        if path.is_dir() { path.join(&self.card.weights.file) } else { path.to_owned() }
    }

    /// Whether it was trained on light ink on a dark ground alone.
    pub(crate) fn reads_light_ink(&self) -> bool {
        self.card.ink_fill.is_some() || self.card.ground.is_some()
    }

    /// Grey images of any size, pen and polarity as this model wants drawings, the ink of unusual ones filling the share
    /// `fill`; and which of those have none.
    pub(crate) fn drawings(&self, pixels: &Pixels, fill: f64) -> Result<(Pixels, Vec<bool>)> {
        let grey = pixels.to_grey();
        let views = pixels.images().zip(grey.images());
        let framed = |(view, grey)| (!self.is_usual(grey)).then(|| Drawing::of(image_of(view), fill));
        let framed: Vec<Option<Drawing>> = views.map(framed).collect();
        let views = grey.images().zip(&framed).map(|(view, framed)| match framed {
            Some(Drawing { side, pixels }) => ImageView { pixels, height: *side, width: *side, channels: 1 },
            None => view,
        });
        // A drawing without ink is black all over.
        let is_blank = |drawing: &Option<Drawing>| drawing.as_ref().is_some_and(|d| d.pixels.iter().all(|&p| p == 0));
        Ok((Pixels::from_images(views)?, framed.iter().map(is_blank).collect()))
    }

    /// Whether a grey image looks like those that the model was trained on.
    fn is_usual(&self, view: ImageView<'_>) -> bool {
        let size = self.card.image_size;
        let fallback = UsualDrawing { side: [size / 2, 2 * size], extent: EXTENT, aspect: [1.0; 2] };
        let usual = self.card.usual.unwrap_or(fallback);
        let is_within = |value: f64, [least, most]: [f64; 2]| (least..=most).contains(&value);
        (usual.side[0]..=usual.side[1]).contains(&longer_side(view))
            && is_within(aspect(view), usual.aspect)
            && is_within(extent(view), usual.extent)
    }

    /// `model.json`, the weights, the run.
    fn places(path: &Path) -> Result<(PathBuf, PathBuf, Option<RunFolder>)> {
        if path.is_dir() {
            let run = RunFolder::new(path);
            check_weights(&run)?;
            return Ok((run.model_card(), weights_in(path)?, Some(run)));
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

/// The weights of a run, or those that the card in a folder names.
pub(crate) fn weights_in(folder: &Path) -> Result<PathBuf> {
    let run = RunFolder::new(folder);
    if run.weights().is_file() || !run.model_card().is_file() {
        return Ok(run.weights());
    }
    Ok(folder.join(ModelCard::read(run.model_card())?.weights.file))
}

/// The hash of the weights of a file, as a card has it.
pub(crate) fn weights_sha256(file: &WeightFile) -> Result<String> {
    if file.format() == FileFormat::Packed {
        // It leaves out the counters of norms, which the hash covers.
        let mut network = ResNetConfig::of_file(file)?.build(0, DType::F32, &Device::Cpu)?;
        cn_zoo::load(&mut network, file, Fit::Exact)?;
        return Ok(cn_zoo::weights_sha256(&network.named_tensors()?)?);
    }
    let tensors: Vec<_> = file.tensors().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
    Ok(cn_zoo::weights_sha256(&tensors)?)
}

/// What is wrong where a card stands beside weights of the name that it has, and of other contents.
pub(crate) fn other_weights(path: &Path) -> Problem {
    Problem::failure(format!("the weights of `{}` are not those that its model.json describes", path.display()))
        .hint("one of the two files was changed: restore it")
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
    let arch: Arch = card.arch.parse().map_err(|error: cn_zoo::Error| {
        Problem::failure("model.json is of an unknown network")
            .caused_by(error)
            .hint("the file was changed: restore it")
    })?;
    if !(1..=MAX_IMAGE_SIZE as usize).contains(&card.image_size) {
        let problem =
            format!("model.json has images of {} px, and 1 to {MAX_IMAGE_SIZE} are possible", card.image_size);
        return Err(Problem::failure(problem).hint("the file was changed: restore it").into());
    }
    let same = (arch, card.channels, card.classes.len()) == (resnet.arch, resnet.in_channels, resnet.n_classes);
    if same {
        return Ok(());
    }
    Err(Problem::failure("model.json and the weights are of different networks")
        .hint("one of the two files was changed: restore it")
        .into())
}

/// Images of a batch that is judged: fewer where each of them takes much memory.
fn batch_for(image_size: usize) -> usize {
    (BATCH * LARGE_SIDE.pow(2) / image_size.pow(2)).clamp(1, BATCH)
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
            eval_batch_size: batch_for(self.card.image_size),
            channels: self.card.channels,
            normalisation: normalisation_of(&self.card)?,
            // A GPU takes the channels.
            planes: if self.network.gpu().is_some() { Planes::Channels } else { planes(pixels) },
            device: Device::Cpu,
            ..BatchConfig::new(policy.clone(), policy)
        };
        let images: Vec<Image<'_>> = pixels.images().map(image_of).collect();
        let found = Predictor::new(&config, decode)?.predict(&mut self.network, &images)?.probabilities();
        if found.iter().all(|probability| probability.is_finite()) {
            return Ok(found);
        }
        Err(Problem::failure("the model answers with numbers that are none")
            .hint("its weights or the normalisation of its model.json were changed: restore them")
            .into())
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
