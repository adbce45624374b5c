//! Weights to start from: which ones, why these, and what was taken of them.

use crate::config::{Config, Normalise, precision_here};
use crate::glyphs;
use crate::model;
use crate::problem::Problem;
use anyhow::{Context, Result};
use cn_augment::Normalisation;
use cn_data::{Dataset, Digest};
use cn_learn::Checkpoint;
use cn_ops::Network;
use cn_report::{ModelCard, RunFolder, WeightsOrigin, printable, read_json_value};
use cn_zoo::{Arch, Fit, HubCache, HubFile, Loaded, WeightFile};
use std::path::Path;

/// Where weights lie that came from elsewhere than the hub.
const FOLDER: &str = "data/weights";
/// What a repository of the hub may call its weights, the better first.
const HUB_FILES: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];
/// Names of tensors that are listed.
const LISTED: usize = 3;

/// Where weights come from, as `--weights` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nowhere: initial weights.
    None,
    /// ImageNet, fetched for the architecture.
    Imagenet,
    /// Synthetic handwriting, built into the program.
    Glyphs,
    /// A file that the user names.
    File,
}

impl Source {
    /// Those that have a name, in the order in which `auto` looks for them.
    const NAMED: [Self; 3] = [Self::Imagenet, Self::Glyphs, Self::None];

    /// Its name in flags, settings and results; a file's is its path.
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Imagenet => "imagenet",
            Self::Glyphs => "glyphs",
            Self::File => "file",
        }
    }

    /// The weights that this build and this machine have; `None` if it has none.
    fn find(self, config: &Config) -> Result<Option<Weights>> {
        match self {
            Self::Imagenet => imagenet(config),
            Self::Glyphs if config.arch == glyphs::ARCH => Ok(Some(Weights::built_in()?)),
            Self::Glyphs => Ok(None),
            Self::None | Self::File => Ok(None),
        }
    }

    /// Why there are none, for people.
    fn absence(self, arch: &str) -> String {
        match self {
            Self::Imagenet => format!("ImageNet's for {arch} were not fetched"),
            Self::Glyphs if arch == glyphs::ARCH => "the built-in ones have learnt from such drawings already".into(),
            Self::Glyphs => format!("the built-in ones are of {}", glyphs::ARCH),
            Self::None | Self::File => String::new(),
        }
    }

    /// What to say where the user asked for these, and there are none.
    fn missing(self, arch: &str) -> Problem {
        match self {
            Self::Imagenet => {
                let problem =
                    format!("there are no ImageNet weights for {arch}, neither in `{FOLDER}` nor in the hub's cache");
                Problem::failure(problem).hint(format!(
                    "`cargo xtask fetch-weights {arch}` gets them; `--weights FILE` takes torchvision's .pth and timm's safetensors"
                ))
            }
            _ => {
                let problem = format!("the weights `{}` are of {}, not of {arch}", self.name(), glyphs::ARCH);
                Problem::usage(problem).hint(format!("use `--arch {}`, or `--weights none`", glyphs::ARCH))
            }
        }
    }
}

/// Whether the names of weights are all that `--weights` and the settings can say, files apart.
pub(crate) fn is_name(weights: &str) -> bool {
    weights == "auto" || Source::NAMED.iter().any(|source| source.name() == weights)
}

/// Whether the weights that the settings ask for are not on this machine.
pub(crate) fn are_elsewhere(config: &Config) -> bool {
    match config.weights.as_str() {
        "imagenet" => Source::Imagenet.find(config).is_ok_and(|found| found.is_none()),
        weights => !is_name(weights) && !Path::new(weights).exists(),
    }
}

/// What the path of a file says about it.
pub(crate) fn origin_of(path: &Path) -> WeightsOrigin {
    let (repo, revision) = HubFile::of_path(path).map(|file| (file.repo, file.revision)).unzip();
    WeightsOrigin { path: path.to_owned(), repo, revision }
}

fn origin_text(origin: &WeightsOrigin) -> String {
    match (&origin.repo, &origin.revision) {
        (Some(repo), Some(revision)) => format!("{repo}, revision {}", &revision[..revision.len().min(12)]),
        _ => format!("`{}`", origin.path.display()),
    }
}

#[derive(Clone)]
struct Weights {
    /// `None` where they are built in.
    origin: Option<WeightsOrigin>,
    /// `None` once a network has them.
    file: Option<WeightFile>,
    /// The statistics that they were trained with.
    normalisation: Normalisation,
    /// What the outputs mean, where the head may fit the data.
    card: Option<Box<ModelCard>>,
}

impl Weights {
    fn built_in() -> Result<Self> {
        let (file, card) = glyphs::open()?;
        let (normalisation, card) = (model::normalisation_of(&card)?, Some(Box::new(card)));
        Ok(Self { origin: None, file: Some(file), normalisation, card })
    }
}

/// What training starts from.
#[derive(Clone)]
pub(crate) struct Start {
    source: Source,
    /// Why, where nobody asked for it by name.
    why: Option<String>,
    weights: Option<Weights>,
}

impl Start {
    /// Initial weights.
    #[cfg(test)]
    pub(crate) fn scratch() -> Self {
        Self { source: Source::None, why: None, weights: None }
    }

    /// Finds and reads what `config.weights` names.
    pub(crate) fn open(config: &Config) -> Result<Self> {
        if config.weights == "auto" {
            return Self::automatic(config);
        }
        let named = Source::NAMED.into_iter().find(|source| source.name() == config.weights);
        let (source, weights) = match named {
            Some(Source::None) => (Source::None, None),
            Some(source) => {
                let weights = source.find(config)?.ok_or_else(|| source.missing(&config.arch))?;
                (source, Some(weights))
            }
            None => (Source::File, Some(file(Path::new(&config.weights), config)?)),
        };
        Ok(Self { source, why: None, weights })
    }

    /// The first that there is. One that is there and cannot be used is an error: silence would hide a worse start.
    fn automatic(config: &Config) -> Result<Self> {
        let mut absent = Vec::new();
        for source in Source::NAMED.into_iter().filter(|source| *source != Source::None) {
            // Nothing would be left to learn.
            let is_drawn = source == Source::Glyphs && config.data.synthetic && config.arch == glyphs::ARCH;
            let found = if is_drawn { Ok(None) } else { source.find(config) }.map_err(|error| {
                let name = source.name();
                error.context(format!("`--weights auto` found weights called `{name}`, and cannot use them"))
            })?;
            match found {
                Some(weights) => {
                    if absent.is_empty() {
                        absent.push("they come first where they were fetched".to_owned());
                    }
                    let why = format!("{}; `--weights none` starts from scratch", absent.join(", and "));
                    return Ok(Self { source, why: Some(why), weights: Some(weights) });
                }
                None if is_drawn => absent = vec![source.absence(&config.arch)],
                None => absent.push(source.absence(&config.arch)),
            }
        }
        let why = format!("{}; training starts from scratch", absent.join(", and "));
        Ok(Self { source: Source::None, why: Some(why), weights: None })
    }

    pub(crate) fn is_pretrained(&self) -> bool {
        self.weights.is_some()
    }

    /// Why it is these, where nobody named them.
    pub(crate) fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// What settings and results call it: `none`, `imagenet`, or the path of a file.
    pub(crate) fn name(&self) -> String {
        match (self.source, &self.weights) {
            (Source::File, Some(Weights { origin: Some(origin), .. })) => origin.path.display().to_string(),
            (source, _) => source.name().into(),
        }
    }

    /// The file, where there is one.
    pub(crate) fn origin(&self) -> Option<&WeightsOrigin> {
        self.weights.as_ref()?.origin.as_ref()
    }

    /// These weights with a head for the classes of `dataset`, where they know them.
    pub(crate) fn for_data(&self, dataset: &Dataset) -> Result<Self> {
        let mut start = self.clone();
        if let Some(Weights { file: Some(file), card: Some(card), .. }) = &mut start.weights {
            *file = glyphs::fitted(file, card, dataset)?;
        }
        Ok(start)
    }

    /// Frees the weights that a network was built with; what is said about them stays.
    pub(crate) fn forget_tensors(&mut self) {
        if let Some(weights) = &mut self.weights {
            weights.file = None;
        }
    }

    /// The first lines of a run: which weights, and why.
    pub(crate) fn lines(&self, arch: &str) -> Vec<String> {
        let name = self.name();
        let what = match (self.source, self.origin()) {
            (Source::Glyphs, _) => format!("{name}, built in, trained on drawn handwriting alone"),
            (Source::File | Source::None, _) | (_, None) => name,
            (_, Some(origin)) => format!("{name}: {}", origin_text(origin)),
        };
        let mut lines = match (&self.why, self.source) {
            (None, _) => vec![what],
            (Some(why), Source::None) => vec![format!("{what}: {why}")],
            (Some(why), _) => vec![format!("{what}, since {why}")],
        };
        if self.why.is_some() && self.source == Source::None {
            let glyphs = if arch == glyphs::ARCH { "those: `--weights glyphs`; " } else { "" };
            lines.push(format!(
                "{glyphs}ImageNet's: `cargo xtask fetch-weights {arch}`; a file of yours: `--weights FILE`"
            ));
        }
        lines
    }

    /// What the model's input is normalised by.
    pub(crate) fn normalisation(&self, config: &Config) -> Result<Normalisation> {
        match (config.normalise, &self.weights) {
            (Normalise::Imagenet, _) => imagenet_normalisation(config.channels),
            (Normalise::Pretrained, Some(weights)) => for_channels(&weights.normalisation, config.channels),
            _ => Ok(Normalisation::none()),
        }
    }

    /// The network of the settings with these weights, and what was taken of them.
    pub(crate) fn build(&self, config: &Config, n_classes: usize) -> Result<(Network, Option<Loaded>)> {
        let resnet = model::resnet(config, n_classes)?;
        let network = model::network(&resnet, &self.normalisation(config)?, config.seed)?;
        let mut network = network.with_precision(precision_here(&config.precision)?);
        let Some(Weights { file, .. }) = &self.weights else { return Ok((network, None)) };
        let file = file.as_ref().context("the weights to start from are in another network already")?;
        let loaded = cn_zoo::load(&mut network, file, Fit::Transfer);
        let loaded = loaded.with_context(|| match self.origin() {
            Some(origin) => format!("cannot start from `{}`", origin.path.display()),
            None => format!("cannot start from `{}`", self.name()),
        })?;
        Ok((network, Some(loaded)))
    }
}

/// Reads a file, and refuses one of another architecture, whose tensors might fit by chance.
fn open(path: &Path, arch: &str) -> Result<WeightFile> {
    check_fetched(path)?;
    let file = WeightFile::open(path).map_err(|e| {
        let usual =
            "`--weights` takes auto, none, imagenet, glyphs, a file (safetensors, PyTorch's .pth) or a run's folder";
        let advice = e.hint().filter(|_| path.is_file()).unwrap_or(usual);
        Problem::failure("there are no weights to start from").caused_by(e).hint(advice)
    })?;
    if file.metadata().contains_key(Checkpoint::KEY) {
        let problem = format!("`{}` is a checkpoint, which holds more than weights", path.display());
        let advice =
            "once its run is finished, `--weights RUN` takes the weights; until then, `train --resume RUN` goes on";
        return Err(Problem::failure(problem).hint(advice).into());
    }
    let found = Arch::of_file(&file).with_context(|| format!("cannot start from `{}`", path.display()))?;
    if found.name() != arch {
        let problem = format!("`{}` holds a {found}, and a {arch} is to be trained", path.display());
        return Err(Problem::failure(problem).hint(format!("use `--arch {found}`, or other weights")).into());
    }
    Ok(file)
}

/// Refuses a file that is not the one that was fetched, where the hub's cache or a note beside it has its hash.
fn check_fetched(path: &Path) -> Result<()> {
    for (by, sha256) in recorded_sha256(path) {
        let found = Digest::of_file(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        if found.to_string() != sha256 {
            return Err(other_file(path, by).into());
        }
    }
    Ok(())
}

/// SHA-256 of a fetched file as the hub's cache and the note of a fetch have it, and who says so.
pub(crate) fn recorded_sha256(path: &Path) -> Vec<(&'static str, String)> {
    let of_hub = HubFile::of_path(path).and_then(|file| file.sha256);
    let of_note = fetch_note(path).and_then(|note| Some(note["sha256"].as_str()?.to_owned()));
    let hashes = [("the hub's cache", of_hub), ("the source.json beside it", of_note)];
    hashes.into_iter().filter_map(|(by, sha256)| Some((by, sha256?))).collect()
}

/// What is wrong with a file whose hash lies beside it, and is another.
pub(crate) fn other_file(path: &Path, by: &str) -> Problem {
    Problem::failure(format!("`{}` is not the file that {by} describes: it has another SHA-256", path.display()))
        .hint("it was changed or damaged: fetch it again")
}

/// What `fetch-weights --from` wrote beside the file.
pub(crate) fn fetch_note(path: &Path) -> Option<serde_json::Value> {
    read_json_value(&path.with_extension("source.json"))
}

/// A file of weights, or a run's.
fn file(path: &Path, config: &Config) -> Result<Weights> {
    let of_folder = path.is_dir().then(|| model::weights_in(path)).transpose()?;
    let path = of_folder.as_deref().unwrap_or(path);
    let file = open(path, &config.arch)?;
    let card = card_of(path, &file)?;
    let normalisation = match &card {
        Some(card) => model::normalisation_of(card)?,
        None => imagenet_normalisation(config.channels)?,
    };
    Ok(Weights { origin: Some(origin_of(path)), file: Some(file), normalisation, card: card.map(Box::new) })
}

/// The `model.json` beside a file, if it is about these very weights: any other program may have left one there.
fn card_of(path: &Path, file: &WeightFile) -> Result<Option<ModelCard>> {
    let folder = RunFolder::new(path.parent().unwrap_or(Path::new("")));
    let card = match folder.model_card().is_file().then(|| ModelCard::read(folder.model_card())) {
        None => return Ok(None),
        Some(Ok(card)) => card,
        // A run's own is needed, and says what is wrong with it.
        Some(Err(error)) if folder.holds_run() => return Err(error.into()),
        Some(Err(_)) => return Ok(None),
    };
    let sha256 = model::weights_sha256(file).with_context(|| format!("cannot start from `{}`", path.display()))?;
    let is_it = sha256 == card.weights.sha256;
    // The same name, and other contents: nobody can tell which of the two is right.
    if !is_it && path.ends_with(&card.weights.file) {
        return Err(model::other_weights(path).into());
    }
    Ok(is_it.then_some(card))
}

/// What was given by hand comes before what the hub's cache holds.
fn imagenet(config: &Config) -> Result<Option<Weights>> {
    let arch: Arch = config.arch.parse()?;
    let given = ["safetensors", "pth"].map(|ending| Path::new(FOLDER).join(format!("{arch}.{ending}")));
    let given = given.into_iter().find(|path| path.is_file());
    let found = given.or_else(|| Some(HubCache::from_env()?.find(arch.imagenet_repo(), &HUB_FILES)?.path));
    let Some(path) = found else { return Ok(None) };
    let (file, normalisation) = (open(&path, arch.name())?, imagenet_normalisation(config.channels)?);
    Ok(Some(Weights { origin: Some(origin_of(&path)), file: Some(file), normalisation, card: None }))
}

/// What a model of three channels was normalised by, for one that has the sum of them.
fn for_channels(normalisation: &Normalisation, channels: usize) -> Result<Normalisation> {
    let (mean, std) = (normalisation.mean(), normalisation.std());
    if channels != 1 || mean.len() == 1 {
        return Ok(normalisation.clone());
    }
    let average = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    Ok(Normalisation::new(&[average(mean)], &[average(std)])?)
}

/// ImageNet's statistics; for grey images their means over the channels, see [`Fit::Transfer`].
fn imagenet_normalisation(channels: usize) -> Result<Normalisation> {
    Ok(if channels == 3 { Normalisation::imagenet() } else { Normalisation::new(&[0.449], &[0.226])? })
}

/// What was taken of a file, in a line.
pub(crate) fn loaded_line(loaded: &Loaded) -> String {
    let mut parts = vec![format!("{} tensors taken", loaded.taken.len())];
    for (names, what) in [(&loaded.missing, "new"), (&loaded.skipped, "of the file not used")] {
        if !names.is_empty() {
            let more = names.len().saturating_sub(LISTED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let listed: Vec<String> = names[..names.len().min(LISTED)].iter().map(|name| printable(name)).collect();
            let listed = listed.join(", ");
            parts.push(format!("{} {what} ({listed}{more})", names.len()));
        }
    }
    if loaded.stem_summed {
        parts.push("the stem's channels summed to one".into());
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_files() {
        assert!(["auto", "none", "imagenet", "glyphs"].into_iter().all(is_name));
        assert!(!["file", "weights.pth", "./none"].into_iter().any(is_name));
    }

    #[test]
    fn what_was_taken_is_listed_shortly() {
        let mut network =
            cn_zoo::ResNetConfig { arch: Arch::ResNet18, in_channels: 3, n_classes: 4, head: cn_zoo::Head::Linear }
                .build(1, candle_core::DType::F32, &candle_core::Device::Cpu)
                .expect("a network");
        let tensors = cn_ops::Model::named_tensors(&mut network).expect("tensors");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        let config = Config { weights: path.display().to_string(), ..Config::default() };
        let resnet = model::resnet(&config, 4).expect("settings");
        cn_zoo::save(&path, &tensors, &resnet).expect("saved");
        // fastai's head in place of the plain one, and the other way round for the classes of the plain one.
        let loaded = |config: &Config| Start::open(config).and_then(|start| start.build(config, 5)).expect("built").1;
        let line = loaded_line(&loaded(&config).expect("weights"));
        assert!(line.ends_with("; 2 of the file not used (fc.bias, fc.weight)"), "{line}");
        assert!(line.contains(" new (head.2.weight, head.2.bias, head.2.running_mean and "), "{line}");
        let grey = Config { channels: 1, head: crate::config::HeadKind::Plain, ..config };
        let line = loaded_line(&loaded(&grey).expect("weights"));
        assert!(line.contains("2 new (fc.weight, fc.bias)"), "{line}");
        assert!(line.ends_with("; the stem's channels summed to one"), "{line}");
    }
}
