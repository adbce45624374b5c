//! The resolved configuration: every value that a run used, from a recipe, a file and flags.

mod keys;
mod overlay;
mod phases;
mod recipes;
mod transform;

use crate::args::{BatchSize, Common, ConfigArgs};
use crate::problem::Problem;
use clap::ValueEnum;
use cn_data::{SplitConfig, SplitMethod};
use cn_learn::Phase;
use cn_ops::Precision;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Table;

use overlay::text_of;
use recipes::{QUICK, recipe, usual_recipe};

pub(crate) use overlay::groups_of;
pub(crate) use transform::{INK, Transform, policy_of};

/// Where the real data lie unless something else is said.
pub(crate) const REAL_DATA: &str = "data/chinese-mnist";
/// Larger inputs than any image net uses; beyond, memory would run out long before the first step.
const MAX_IMAGE_SIZE: u32 = 2048;

/// Everything that decides what a run computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) recipe: String,
    pub(crate) seed: u64,
    /// `cpu`; no device changes what is computed beyond rounding.
    pub(crate) device: String,
    pub(crate) threads: usize,
    pub(crate) precision: String,
    pub(crate) arch: String,
    pub(crate) head: HeadKind,
    /// Channels of the model's input, 1 or 3.
    pub(crate) channels: usize,
    /// `none`, or the file that training starts from.
    pub(crate) weights: String,
    pub(crate) normalise: Normalise,
    /// Whether a learner begins frozen if its weights are pretrained, as fastai's `vision_learner`.
    pub(crate) freeze_pretrained: bool,
    pub(crate) loss: LossKind,
    pub(crate) threshold: f64,
    pub(crate) image_size: u32,
    /// Share of a square about the ink that the ink fills: what is seen in place of the whole image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ink_square: Option<f64>,
    pub(crate) batch_size: usize,
    /// Whether `batch_size` may become smaller where memory is short; what it came to is stored.
    #[serde(skip)]
    pub(crate) fit_batch: bool,
    /// A method of cn-data, or `auto`: by group where groups are known.
    pub(crate) split: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) split_seed: Option<u64>,
    pub(crate) val_fraction: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) val_groups: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit_per_class: Option<usize>,
    pub(crate) skip_damaged: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint_every: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint_minutes: Option<f64>,
    pub(crate) on_nan: OnNan,
    /// Epochs.
    pub(crate) validate_every: NonZeroUsize,
    pub(crate) data: DataConfig,
    pub(crate) synthetic: SyntheticConfig,
    pub(crate) augment: Transform,
    pub(crate) validation: Transform,
    /// Peak rate instead of the phases', where the initial weights tell these classes apart already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fine_tune_lr: Option<f64>,
    pub(crate) phase: Vec<Phase>,
}

/// Which images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DataConfig {
    /// Draw them.
    pub(crate) synthetic: bool,
    /// The folder; neither this nor `synthetic` means the real data if they are there, else synthetic ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dir: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) csv: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) label_separator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) display: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
}

/// How images are drawn, where they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SyntheticConfig {
    /// Images in all.
    pub(crate) images: usize,
    /// Those of them that validate, by writers of their own; the share `val_fraction` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) val_images: Option<usize>,
    /// Steps of an epoch whose images are drawn for it alone, without end; absent where all images are drawn first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) steps: Option<usize>,
    /// Times that each writer writes each character.
    pub(crate) pages: u32,
    /// Which people there are; apart from the run's seed, so that runs of several seeds share their data.
    pub(crate) seed: u64,
    pub(crate) style: StyleKind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StyleKind {
    #[default]
    Scans,
    Wide,
}

/// What becomes of a run at a step whose loss or gradients are NaN or infinite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnNan {
    /// End, with a checkpoint from right before it
    #[default]
    Stop,
    /// Leave the step out and go on
    Skip,
    /// Go back to the last checkpoint, and on from there with half the learning rates
    Rollback,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum HeadKind {
    #[default]
    Fastai,
    Plain,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LossKind {
    #[default]
    Bce,
    Softmax,
}

/// Whether ImageNet's mean and deviation are applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Normalise {
    /// If the weights are pretrained, with the statistics that they were trained with.
    #[default]
    Pretrained,
    Imagenet,
    None,
}

impl DataConfig {
    /// The real data if they are there, else synthetic ones, where neither is asked for.
    fn resolved(mut self) -> Result<Self, Problem> {
        if self.dir.is_none() && !self.synthetic {
            if Path::new(REAL_DATA).is_dir() {
                self.dir = Some(REAL_DATA.into());
            } else if self.csv.is_some() || self.image.is_some() || self.label.is_some() || self.group.is_some() {
                return Err(Problem::usage("flags describe a table, but no `--data` says where it is")
                    .hint("add `--data DIR`: the folder that paths in the table begin in"));
            } else {
                self.synthetic = true;
            }
        }
        Ok(self)
    }

    /// As cn-data describes a data set by hand.
    pub(crate) fn spec(&self) -> cn_data::Spec {
        cn_data::Spec {
            csv: self.csv.clone(),
            image: self.image.clone(),
            label: self.label.clone(),
            label_separator: self.label_separator.clone(),
            display: self.display.clone(),
            group: self.group.clone(),
            ..cn_data::Spec::default()
        }
    }
}

impl Default for SyntheticConfig {
    fn default() -> Self {
        Self { images: 15_000, val_images: None, steps: None, pages: 10, seed: 42, style: StyleKind::Scans }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            recipe: QUICK.into(),
            seed: 42,
            device: "auto".into(),
            threads: 0,
            precision: "f32".into(),
            arch: "resnet18".into(),
            head: HeadKind::default(),
            channels: 3,
            weights: "auto".into(),
            normalise: Normalise::default(),
            freeze_pretrained: false,
            loss: LossKind::default(),
            threshold: 0.5,
            image_size: 64,
            ink_square: None,
            batch_size: 64,
            fit_batch: false,
            split: "auto".into(),
            split_seed: None,
            val_fraction: 0.2,
            val_groups: Vec::new(),
            limit: None,
            limit_per_class: None,
            skip_damaged: false,
            checkpoint_every: None,
            checkpoint_minutes: None,
            on_nan: OnNan::default(),
            validate_every: NonZeroUsize::MIN,
            data: DataConfig::default(),
            synthetic: SyntheticConfig::default(),
            augment: Transform::default(),
            validation: Transform::default(),
            fine_tune_lr: None,
            phase: vec![Phase::default()],
        }
    }
}

impl TryFrom<(&Common, &ConfigArgs)> for Config {
    type Error = Problem;

    /// The recipe, under the file, under the flags; checked, with nothing left open but the data.
    fn try_from((common, args): (&Common, &ConfigArgs)) -> Result<Self, Problem> {
        let file = args.batch.config.as_deref().map(read_file).transpose()?.unwrap_or_default();
        let named = overlay::recipe_of(&file, QUICK)?;
        let name = args.batch.recipe.as_deref().or(named).unwrap_or_else(|| usual_recipe(&file, args)).to_owned();
        let mut table = recipe(&name)?;
        if is_complete(&file) {
            table.clear();
        }
        if file.contains_key("phase") {
            table.remove("fine_tune_lr");
        }
        overlay::merge(&mut table, file);
        table.insert("recipe".into(), name.into());
        let config = parse(table).map_err(|problem| match &args.batch.config {
            Some(path) => Problem::usage(format!("cannot use the settings of `{}`", path.display())).caused_by(problem),
            None => problem,
        })?;
        config.with_flags(common, args)?.resolved()
    }
}

impl Config {
    /// The config that a run was made with.
    pub(crate) fn of_run(path: &Path) -> Result<Self, Problem> {
        parse(read_file(path)?).map_err(|problem| {
            Problem::failure(format!("cannot use the settings of `{}`", path.display())).caused_by(problem)
        })
    }

    /// This config under `args`.
    pub(crate) fn with_flags(&self, common: &Common, args: &ConfigArgs) -> Result<Self, Problem> {
        let mut table = Table::try_from(self).map_err(|e| Problem::failure("cannot store settings").caused_by(e))?;
        overlay::flags(&mut table, common, args)?;
        let mut config = parse(table)?;
        config.phase = phases::with_flags(&config.phase, &args.phases)?;
        config.fit_batch = args.batch.batch_size == Some(BatchSize::Auto);
        Ok(config)
    }

    /// Fills in what `auto` stands for where no data are needed to know, and refuses what cannot be trained with.
    pub(crate) fn resolved(mut self) -> Result<Self, Problem> {
        if self.threads == 0 {
            self.threads = std::thread::available_parallelism().map_or(1, usize::from);
        }
        self.split_seed = Some(self.split_seed.unwrap_or(self.seed));
        self.check()?;
        self.data = self.data.resolved()?;
        if let (true, Some(n)) = (self.data.synthetic, self.limit) {
            self.synthetic = SyntheticConfig { images: n, val_images: None, ..self.synthetic };
            self.limit = None;
        }
        if self.device == "auto" {
            self.device = "cpu".into();
        }
        Ok(self)
    }

    fn check(&self) -> Result<(), Problem> {
        check_device(&self.device)?;
        check_precision(&self.precision)?;
        self.arch.parse::<cn_zoo::Arch>().map_err(|e| {
            Problem::usage(format!("there is no architecture `{}`", self.arch))
                .caused_by(e)
                .hint("use `--arch resnet18`")
        })?;
        if !matches!(self.channels, 1 | 3) {
            return Err(Problem::usage(format!("`channels` is {}, expected 1 (grey) or 3 (RGB)", self.channels))
                .hint("set `channels = 1` or `channels = 3`"));
        }
        if !(1..=MAX_IMAGE_SIZE).contains(&self.image_size) {
            return Err(Problem::usage(format!(
                "the image size {} is not between 1 and {MAX_IMAGE_SIZE}",
                self.image_size
            ))
            .hint("the scans have 64 px; `--image-size 64` or 128 are usual"));
        }
        if self.batch_size < 2 {
            return Err(Problem::usage(format!("the batch size is {}, expected at least 2", self.batch_size))
                .hint("batch norm needs several images; 64 is usual"));
        }
        if !(0.0..1.0).contains(&self.threshold) {
            return Err(Problem::usage(format!("the threshold {} is not from 0 up to 1", self.threshold))
                .hint("classes above it are said; 0.5 is usual: `threshold = 0.5`"));
        }
        self.check_split()?;
        phases::check(&self.phase)?;
        self.check_steps()?;
        if let Some(lr) = self.fine_tune_lr.filter(|lr| !(lr.is_finite() && *lr > 0.0)) {
            return Err(Problem::usage(format!("`fine_tune_lr` is {lr}, expected a finite number above 0"))
                .hint("leave it out, and weights that know the classes are trained as others are"));
        }
        self.augment.policy(self.image_size, self.ink_square)?;
        self.validation.fixed_policy(self.image_size, self.ink_square)?;
        // What a reader of the model's card will do.
        policy_of(self.validation.card(self.image_size, self.ink_square), self.image_size).map_err(|problem| {
            problem.hint(format!("{} px are too few to cut a margin off: use a larger `--image-size`", self.image_size))
        })?;
        Ok(())
    }

    /// Every image that is drawn for a step has a number of 32 bits.
    fn check_steps(&self) -> Result<(), Problem> {
        let Some(steps) = self.synthetic.steps else { return Ok(()) };
        let images =
            [steps, self.batch_size, self.epochs()].into_iter().fold(1u128, |n, by| n.saturating_mul(by as u128));
        if images <= u128::from(u32::MAX / 2) {
            return Ok(());
        }
        Err(Problem::usage(format!("{images} images would be drawn, more than the {} allowed", u32::MAX / 2))
            .hint("use fewer `--steps` or `--epochs`: some thousand steps are usual"))
    }

    fn check_split(&self) -> Result<(), Problem> {
        if !(self.val_fraction > 0.0 && self.val_fraction < 1.0) {
            return Err(Problem::usage(format!("the validation share {} is not between 0 and 1", self.val_fraction))
                .hint("a fifth of the images is `--val-fraction 0.2`"));
        }
        for (name, value) in [("--limit", self.limit), ("--limit-per-class", self.limit_per_class)] {
            if value == Some(0) {
                return Err(Problem::usage(format!("`{name} 0` leaves no images"))
                    .hint("leave the flag out for all images, or name a number"));
            }
        }
        if self.synthetic.images == 0 || self.synthetic.pages == 0 {
            return Err(Problem::usage("no images are to be drawn").hint("use `--limit 1500` or more"));
        }
        if self.checkpoint_every == Some(0) {
            return Err(Problem::usage("`--checkpoint-every 0` is no interval")
                .hint("leave it out: each epoch ends with a checkpoint; or name a number of steps"));
        }
        if let Some(minutes) = self.checkpoint_minutes.filter(|minutes| interval(*minutes).is_none()) {
            return Err(Problem::usage(format!("`--checkpoint-minutes {minutes}` is no interval"))
                .hint("leave it out: each epoch ends with a checkpoint; or name a number of minutes above 0"));
        }
        self.check_stream()?;
        self.split_method().map(drop)
    }

    fn check_stream(&self) -> Result<(), Problem> {
        match self.synthetic.steps {
            Some(_) if !self.data.synthetic || !matches!(self.split.as_str(), "auto" | "group") => {
                Err(Problem::usage("endless handwriting is judged by drawn writers of its own, and nothing else")
                    .hint("leave `--data`, `--split` and `--val-groups` out, or use another recipe"))
            }
            Some(0) => Err(Problem::usage("`--steps 0` trains nothing")),
            _ => Ok(()),
        }
    }

    /// The method of the split; `None` for `auto`.
    fn split_method(&self) -> Result<Option<SplitMethod>, Problem> {
        if !self.val_groups.is_empty() {
            return Ok(Some(SplitMethod::ValGroups(self.val_groups.clone())));
        }
        if self.split == "auto" {
            return Ok(None);
        }
        let unknown = |e| {
            Problem::usage(format!("cannot split by `{}`", self.split))
                .caused_by(e)
                .hint("`--split group` keeps writers apart; `random`, `stratified` and `kfold:5/1` are others")
        };
        self.split.parse().map(Some).map_err(unknown)
    }

    /// How the images are split; `auto` is by group where `groups` says that every image has one, as the folders say
    /// where they say so, else by class.
    pub(crate) fn split_config(&self, index: &cn_data::Index) -> Result<SplitConfig, Problem> {
        let has_groups = || index.records().iter().all(|record| record.group.is_some());
        let method = match self.split_method()? {
            Some(method) => method,
            None if index.fixed_val().is_some() => SplitMethod::Fixed,
            None if has_groups() => SplitMethod::Group,
            None => SplitMethod::Stratified,
        };
        let seed = self.split_seed.unwrap_or(self.seed);
        Ok(SplitConfig { method, val_fraction: self.val_fraction, seed })
    }

    /// Time from one checkpoint to the next.
    pub(crate) fn checkpoint_interval(&self) -> Option<Duration> {
        self.checkpoint_minutes.and_then(interval)
    }

    /// Whether flags or a file changed the phases of the recipe.
    pub(crate) fn has_own_phases(&self) -> bool {
        recipe(&self.recipe)
            .and_then(parse)
            .is_ok_and(|recipe| recipe.phase != self.phase && recipe.fine_tuned() != self.phase)
    }

    /// Epochs over all phases.
    pub(crate) fn epochs(&self) -> usize {
        self.phase.iter().map(|phase| phase.epochs).sum()
    }

    /// This config as a run keeps it: with places that mean the same from every folder.
    fn stored(&self) -> Self {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut config = self.clone();
        config.data.dir = self.data.dir.as_deref().map(absolute);
        if !crate::start::is_name(&self.weights) {
            config.weights = absolute(Path::new(&self.weights)).display().to_string();
        }
        config
    }

    /// The text of `config.toml`.
    pub(crate) fn to_toml(&self) -> Result<String, Problem> {
        toml::to_string(&self.stored()).map_err(|e| Problem::failure("cannot store settings").caused_by(e))
    }

    /// What differs between two configs, a line each. Threads do not change a result; what to do about numbers that go
    /// wrong is decided anew when a run goes on; whether data that moved are
    /// still the same, their hash says.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let table = |config: &Self| {
            let mut config = config.stored();
            config.data.dir = None;
            let mut table = Table::try_from(config).unwrap_or_default();
            ["threads", "checkpoint_every", "checkpoint_minutes", "on_nan", "validate_every"]
                .into_iter()
                .for_each(|key| drop(table.remove(key)));
            table
        };
        overlay::differences(&table(self), &table(other))
    }
}

/// Whether a file says all that must be said, as that of a run does: what it leaves out is then not what a recipe says.
fn is_complete(file: &Table) -> bool {
    Table::try_from(Config::default()).is_ok_and(|all| all.keys().all(|key| file.contains_key(key)))
}

fn read_file(path: &Path) -> Result<Table, Problem> {
    let text = text_of(path).map_err(|e| {
        Problem::failure(format!("cannot read the settings `{}`", path.display()))
            .caused_by(e)
            .hint("name a TOML file, such as the config.toml of a run")
    })?;
    text.parse().map_err(|e: toml::de::Error| {
        Problem::usage(format!("`{}` is not TOML", path.display()))
            .caused_by(e)
            .hint("mend the line, or begin with the config.toml of a run")
    })
}

/// Unknown keys are named with the nearest known one before serde sees them.
fn parse(table: Table) -> Result<Config, Problem> {
    keys::check(&table)?;
    table.try_into().map_err(|e: toml::de::Error| {
        Problem::usage("a setting has a wrong value")
            .caused_by(e)
            .hint("the config.toml of a run shows every setting with a value that can be")
    })
}

/// So many minutes; `None` if they are none, or too many to count.
fn interval(minutes: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(60.0 * minutes).ok().filter(|interval| !interval.is_zero())
}

fn check_device(device: &str) -> Result<(), Problem> {
    match device {
        "auto" | "cpu" => Ok(()),
        _ if gpu_of(device).is_none() => {
            Err(Problem::usage(format!("there is no device `{device}`, expected auto, cpu, cuda or cuda:N"))
                .hint("leave it out, or use `--device cpu`"))
        }
        _ if cn_cuda::Device::is_compiled() => Ok(()),
        _ => Err(Problem::failure(format!("this build cannot compute on `{device}`"))
            .hint(cn_cuda::Error::NotCompiled.hint().unwrap_or_default())),
    }
}

/// The number of the GPU that a device names: 0 for `cuda`, N for `cuda:N`.
pub(crate) fn gpu_of(device: &str) -> Option<usize> {
    match device {
        "cuda" => Some(0),
        _ => device.strip_prefix("cuda:").and_then(|n| n.parse::<u8>().ok()).map(usize::from),
    }
}

fn check_precision(precision: &str) -> Result<(), Problem> {
    precision
        .parse::<Precision>()
        .map(drop)
        .map_err(|e| Problem::usage(e.to_string()).hint("use `--precision f32`, or bf16 for speed"))
}

#[cfg(test)]
mod tests;
