//! The resolved configuration: every value that a run used, from a recipe, a file and flags.

mod check;
mod keys;
mod kinds;
mod overlay;
mod phases;
mod recipes;
mod transform;

use crate::args::{BatchSize, Common, ConfigArgs};
use crate::problem::Problem;
use cn_augment::{Policy, PolicyConfig};
use cn_data::{Ground, SplitConfig, SplitMethod};
use cn_learn::Phase;
use cn_ops::Precision;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Table;

use overlay::{MOST_MARKS, MOST_OF_SETTINGS, marks, text_of};
use recipes::{QUICK, recipe, usual_recipe};

pub(crate) use check::{MAX_IMAGE_SIZE, MOST_EPOCHS, check_device};
pub(crate) use kinds::{BatchFit, GroundKind, HeadKind, LossKind, Normalise, OnNan, StyleKind};
pub(crate) use overlay::groups_of;
pub(crate) use transform::{FAINT_INK, INK, Transform, policy_of};

/// Where the real data lie unless something else is said.
pub(crate) const REAL_DATA: &str = "data/chinese-mnist";

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
    #[serde(skip_serializing_if = "GroundKind::is_turned")]
    pub(crate) ground: GroundKind,
    pub(crate) batch_size: usize,
    /// Whether `batch_size` may become smaller; what it came to is stored.
    #[serde(skip)]
    pub(crate) batch_fit: BatchFit,
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
    /// Epochs in a row without a lower validation loss that end a phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) patience: Option<NonZeroUsize>,
    /// Decay of the average of the weights that is judged and kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ema: Option<f64>,
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
            ground: GroundKind::Turned,
            batch_size: 64,
            batch_fit: BatchFit::Fixed,
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
            patience: None,
            ema: None,
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
        let is_usual = !file.contains_key("batch_size") && args.batch.batch_size.is_none();
        overlay::merge(&mut table, file);
        table.insert("recipe".into(), name.into());
        let config = parse(table).map_err(|problem| match &args.batch.config {
            Some(path) => Problem::usage(format!("cannot use the settings of `{}`", path.display())).caused_by(problem),
            None => problem,
        })?;
        let mut config = config.with_flags(common, args)?.resolved()?;
        if is_usual {
            config.batch_fit = BatchFit::Images;
        }
        Ok(config)
    }
}

impl Config {
    /// The config that a run was made with.
    pub(crate) fn of_run(path: &Path) -> Result<Self, Problem> {
        if path.exists() && !path.is_file() {
            return Err(Problem::failure(format!("the settings `{}` are no file", path.display()))
                .hint("name the folder of a run that `cn-train train` made"));
        }
        let config = parse(read_file(path)?).map_err(|problem| {
            Problem::failure(format!("cannot use the settings of `{}`", path.display())).caused_by(problem)
        })?;
        if config.data.dir.is_none() && !config.data.synthetic {
            return Err(Problem::failure(format!("`{}` names no data, as what a run writes does", path.display()))
                .hint("it was cut or edited: restore it"));
        }
        Ok(config)
    }

    /// This config under `args`.
    pub(crate) fn with_flags(&self, common: &Common, args: &ConfigArgs) -> Result<Self, Problem> {
        let mut table = Table::try_from(self).map_err(|e| Problem::failure("cannot store settings").caused_by(e))?;
        overlay::flags(&mut table, common, args)?;
        let mut config = parse(table)?;
        config.phase = phases::with_flags(&config.phase, &args.phases)?;
        if args.batch.batch_size == Some(BatchSize::Auto) {
            config.batch_fit = BatchFit::Memory;
        }
        Ok(config)
    }

    /// The size of a batch where so many images train.
    pub(crate) fn batch_size_of(&self, n_train: usize) -> usize {
        match self.batch_fit {
            BatchFit::Images if n_train >= 2 => self.batch_size.min(n_train),
            BatchFit::Memory if n_train >= 2 => self.batch_size.min(1 << n_train.ilog2()),
            _ => self.batch_size,
        }
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

    /// What happens to images that train, on such a ground.
    pub(crate) fn train_policy(&self, ground: Option<Ground>) -> Result<Policy, Problem> {
        let policy = self.augment.policy(self.image_size, self.ink_square)?;
        match ground {
            // What is turned in is as white as the paper, and brightness is no ink.
            Some(Ground::Bright) => {
                transform::build(PolicyConfig { border: u8::MAX, min_ink: None, ..policy.config().clone() })
            }
            _ => Ok(policy),
        }
    }

    /// What happens to images that judge.
    pub(crate) fn eval_policy(&self) -> Result<Policy, Problem> {
        self.validation.fixed_policy(self.image_size, self.ink_square)
    }

    /// The same, as `model.json` says it.
    pub(crate) fn transform_card(&self) -> cn_report::Transform {
        self.validation.card(self.image_size, self.ink_square)
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

    /// What a run that goes on may decide anew and what may change its result, a line each.
    pub(crate) fn decisions(&self, other: &Self) -> Vec<String> {
        let table = |config: &Self| {
            let mut table = Table::try_from(config.stored()).unwrap_or_default();
            table.retain(|key, _| matches!(key, "on_nan" | "validate_every"));
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
    let text = text_of(path, MOST_OF_SETTINGS).map_err(|e| {
        Problem::failure(format!("cannot read the settings `{}`", path.display()))
            .caused_by(e)
            .hint("name a TOML file, such as the config.toml of a run")
    })?;
    if marks(&text) > MOST_MARKS {
        return Err(Problem::failure(format!(
            "`{}` has more than {MOST_MARKS} commas, dots, brackets and lines",
            path.display()
        ))
        .hint("settings have some hundred: see that it is the right file"));
    }
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

/// The precision that GPUs alone have: operands of products rounded to 11 bits.
pub(crate) const TF32: &str = "tf32";

/// What the CPU computes in, of settings or a model of this precision: `f32` in place of TF32.
pub(crate) fn precision_here(name: &str) -> Result<Precision, cn_ops::PrecisionError> {
    if name == TF32 { Ok(Precision::F32) } else { name.parse() }
}

/// The number of the GPU that a device names: 0 for `cuda`, N for `cuda:N`.
pub(crate) fn gpu_of(device: &str) -> Option<usize> {
    match device {
        "cuda" => Some(0),
        _ => device.strip_prefix("cuda:").and_then(|n| n.parse::<u8>().ok()).map(usize::from),
    }
}

#[cfg(test)]
mod tests;
