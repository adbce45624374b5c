//! The flags. What they mean together is decided in `config.rs`.

mod measuring;
mod runs;

use crate::config::{GroundKind, OnNan};
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

pub(crate) use measuring::{BenchArgs, GpuCheckArgs, GpuPrecision, Work};
pub(crate) use runs::{CompareArgs, EvaluateArgs, Part, PredictArgs, ReportArgs, ReproduceArgs, VerifyArgs};

/// Trains image classifiers, and says honestly how good they are.
///
/// Without a command: `train` with every default.
#[derive(Debug, Parser)]
#[command(name = "cn-train", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Flags of every command.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct Common {
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, global = true, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    /// Threads that compute; the result does not depend on it [default: all cores]
    #[arg(long, global = true, value_name = "N", allow_negative_numbers = true)]
    pub(crate) threads: Option<usize>,
    /// Seed of everything random [default: 42]
    #[arg(long, global = true, value_name = "N", allow_negative_numbers = true, value_parser = storable())]
    pub(crate) seed: Option<u64>,
    /// Print JSON only: one object a line, the last one is the result
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print the result alone
    #[arg(long, global = true)]
    pub(crate) quiet: bool,
    /// Log to stderr; twice for more
    #[arg(short = 'v', long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train a model, judge it, and keep everything in a run folder (the default command)
    Train(Box<TrainArgs>),
    /// Try growing learning rates, and suggest one
    LrFind(Box<LrFindArgs>),
    /// Honest numbers about a trained model
    Evaluate(EvaluateArgs),
    /// Labels of images, with probabilities
    Predict(PredictArgs),
    /// What is wrong with the data: copies, leaks, odd and damaged images, suspicious labels, harmful crops
    Audit(Box<AuditArgs>),
    /// One HTML file about a run, to look at and to send
    Report(ReportArgs),
    /// Several runs side by side: a table, and curves as PNG and HTML
    Compare(CompareArgs),
    /// Check every hash of a run: settings, weights, checkpoints, results, and the data where they are
    Verify(VerifyArgs),
    /// Train a run again from its folder alone, and compare
    Reproduce(ReproduceArgs),
    /// What a weight file or a run's weights hold: tensors, groups, checksums, source
    Inspect(InspectArgs),
    /// What is in the data, and a picture of augmented images with their labels
    Show(Box<ShowArgs>),
    /// Draw a synthetic data set in the published layout
    Synth(SynthArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Make one small file of a trained model, as the built-in weights are
    #[command(hide = true)]
    Pack(PackArgs),
    /// Images a second
    #[command(hide = true)]
    Bench(BenchArgs),
    /// Check and measure everything on a GPU
    #[command(hide = true)]
    GpuCheck(GpuCheckArgs),
}

/// Numbers that a TOML file can hold.
fn storable() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(..=i64::MAX.unsigned_abs())
}

/// Which images.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct DataArgs {
    /// Folder of the data set [default: data/chinese-mnist if it is there, else synthetic handwriting]
    #[arg(long, help_heading = "Data", value_name = "DIR", conflicts_with = "synthetic")]
    pub(crate) data: Option<PathBuf>,
    /// Draw the images: synthetic handwriting
    #[arg(long, help_heading = "Data")]
    pub(crate) synthetic: bool,
    /// CSV file with a header, relative to the folder
    #[arg(long, help_heading = "Data", value_name = "FILE", conflicts_with = "synthetic")]
    pub(crate) csv: Option<PathBuf>,
    /// Path of an image with CSV columns in braces, as in `scans/{id}.png`
    #[arg(long, help_heading = "Data", value_name = "TEMPLATE", conflicts_with = "synthetic")]
    pub(crate) image: Option<String>,
    /// CSV column of the label or labels
    #[arg(long, help_heading = "Data", value_name = "COLUMN", conflicts_with = "synthetic")]
    pub(crate) label: Option<String>,
    /// What divides several labels in one field
    #[arg(long, help_heading = "Data", value_name = "TEXT", conflicts_with = "synthetic")]
    pub(crate) label_separator: Option<String>,
    /// CSV column that says how a label is shown to people
    #[arg(long, help_heading = "Data", value_name = "COLUMN", conflicts_with = "synthetic")]
    pub(crate) display: Option<String>,
    /// CSV column of the group that a split by group keeps together: the writer, the patient
    #[arg(long, help_heading = "Data", value_name = "COLUMN", conflicts_with = "synthetic")]
    pub(crate) group: Option<String>,
    /// Go on without images that are missing or damaged
    #[arg(long, help_heading = "Data")]
    pub(crate) skip_damaged: bool,
}

/// Flags that make batches of data.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct BatchArgs {
    /// Settings to start from: quick, handwriting, notebook, notebook-lr, notebook-tuned, best or glyphs [default: quick,
    /// and handwriting where images are drawn]
    #[arg(long, value_name = "RECIPE")]
    pub(crate) recipe: Option<String>,
    /// TOML file with settings that replace those of the recipe
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Use this many images, balanced by class; with --synthetic, draw this many
    #[arg(long, help_heading = "Data", value_name = "N", allow_negative_numbers = true)]
    pub(crate) limit: Option<usize>,
    /// Train with at most this many images of each class
    #[arg(long, help_heading = "Data", value_name = "N", allow_negative_numbers = true)]
    pub(crate) limit_per_class: Option<usize>,
    /// Neither read nor write the cache of decoded images
    #[arg(long, help_heading = "Data")]
    pub(crate) no_cache: bool,
    /// Which images judge: random, group, stratified, kfold:K/I or fixed
    #[arg(long, help_heading = "Split", value_name = "SPLIT")]
    pub(crate) split: Option<String>,
    /// Seed of the split [default: --seed]
    #[arg(long, help_heading = "Split", value_name = "N", allow_negative_numbers = true, value_parser = storable())]
    pub(crate) split_seed: Option<u64>,
    /// Share of the images that judge
    #[arg(long, help_heading = "Split", value_name = "SHARE", allow_negative_numbers = true)]
    pub(crate) val_fraction: Option<f64>,
    /// Groups that judge: `3,14`, or a file with one on each line
    #[arg(long, help_heading = "Split", value_name = "LIST|FILE", conflicts_with_all = ["split", "val_fraction"])]
    pub(crate) val_groups: Option<String>,
    /// Side of the model's input, in pixels
    #[arg(long, help_heading = "Model", value_name = "PX", allow_negative_numbers = true)]
    pub(crate) image_size: Option<u32>,
    /// See a square about the ink, of which the ink fills this share, and not the whole image: for small drawings on
    /// black
    #[arg(long, help_heading = "Model", value_name = "SHARE", allow_negative_numbers = true)]
    pub(crate) ink_square: Option<f64>,
    /// What becomes of drawings with dark ink on a bright ground [default: turned]
    #[arg(long, help_heading = "Model")]
    pub(crate) ground: Option<GroundKind>,
    /// Images a step; auto: as the recipe says, or the largest power of two below it that memory has room for
    #[arg(long, help_heading = "Training", value_name = "N|auto", allow_negative_numbers = true)]
    pub(crate) batch_size: Option<BatchSize>,
}

/// How many images a step takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BatchSize {
    /// As many as memory has room for.
    Auto,
    Images(usize),
}

impl std::str::FromStr for BatchSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text.parse().map(Self::Images).map_err(|e| format!("{e}, expected a number or auto")),
        }
    }
}

/// Flags that make a model.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct ModelArgs {
    /// Architecture: resnet18, resnet34 or resnet50
    #[arg(long, help_heading = "Model", value_name = "ARCH")]
    pub(crate) arch: Option<String>,
    /// Weights to start from: auto, none, imagenet, glyphs (built in), or a file (safetensors, PyTorch's .pth)
    /// [default: auto, ImageNet's if they were fetched, else the built-in ones]
    #[arg(long, help_heading = "Model", value_name = "WEIGHTS")]
    pub(crate) weights: Option<String>,
    /// Products of convolutions: f32, or bf16 with sums of f32, faster where the processor has AVX512-BF16; on a GPU
    /// also tf32
    #[arg(long, help_heading = "Model", value_name = "TYPE")]
    pub(crate) precision: Option<String>,
}

/// Flags that make phases of training.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct PhaseArgs {
    /// Epochs with all layers training
    #[arg(long, help_heading = "Training", value_name = "N", allow_negative_numbers = true)]
    pub(crate) epochs: Option<usize>,
    /// Epochs before, with the head alone training; 0 for one cycle over all layers
    #[arg(long, help_heading = "Training", value_name = "N", allow_negative_numbers = true)]
    pub(crate) freeze_epochs: Option<usize>,
    /// Peak learning rate
    #[arg(long, help_heading = "Training", value_name = "RATE", allow_negative_numbers = true)]
    pub(crate) lr: Option<f64>,
    /// Steps of an epoch, where the images are endless handwriting (the recipe glyphs)
    #[arg(long, help_heading = "Training", value_name = "N", allow_negative_numbers = true)]
    pub(crate) steps: Option<usize>,
    /// Write a checkpoint every so many steps, besides those after each epoch
    #[arg(long, help_heading = "Output", value_name = "STEPS", allow_negative_numbers = true)]
    pub(crate) checkpoint_every: Option<u64>,
    /// Write a checkpoint every so many minutes, besides those after each epoch
    #[arg(long, help_heading = "Output", value_name = "MINUTES", allow_negative_numbers = true)]
    pub(crate) checkpoint_minutes: Option<f64>,
    /// Validate every so many epochs, and after the last one of a phase [default: 1]
    #[arg(long, help_heading = "Training", value_name = "EPOCHS", allow_negative_numbers = true)]
    pub(crate) validate_every: Option<usize>,
    /// End a phase when so many epochs in a row bring no lower validation loss
    #[arg(long, help_heading = "Training", value_name = "EPOCHS", allow_negative_numbers = true)]
    pub(crate) patience: Option<usize>,
    /// Judge and keep a moving average of the weights, of which this share is left after a step: 0.99
    #[arg(long, help_heading = "Training", value_name = "DECAY", allow_negative_numbers = true)]
    pub(crate) ema: Option<f64>,
    /// At a step whose loss or gradients are NaN or infinite [default: stop]
    #[arg(long, help_heading = "Training", value_enum, value_name = "WAY")]
    pub(crate) on_nan: Option<OnNan>,
}

/// Flags that make a config; a command that has no use for some offers the others alone.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) phases: PhaseArgs,
}

#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Folder for the run [default: runs/DATE-RECIPE]
    #[arg(long, help_heading = "Output", value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Go on with the run in this folder; auto: with the one that the same flags began, in `--out` or as the newest such one
    /// in `runs`, show its result if it is finished, and begin it if there is none
    #[arg(long, help_heading = "Output", value_name = "RUN|auto")]
    pub(crate) resume: Option<Resume>,
    /// Resume although data or settings differ
    #[arg(long, help_heading = "Output", requires = "resume")]
    pub(crate) force: bool,
    /// Compute activations twice in place of keeping them (gradient checkpointing): less memory, the same numbers
    #[arg(long, help_heading = "Training", value_enum, value_name = "WHEN", default_value_t)]
    pub(crate) recompute: Recompute,
    /// Begin although memory may not be enough
    #[arg(long, help_heading = "Training")]
    pub(crate) ignore_memory: bool,
    /// Do everything up to the first step, and write nothing
    #[arg(long, help_heading = "Output")]
    pub(crate) dry_run: bool,
}

/// Which run `--resume` speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// The one that the other flags would begin.
    Auto,
    /// The one in this folder.
    Run(PathBuf),
}

impl From<OsString> for Resume {
    fn from(text: OsString) -> Self {
        if text == "auto" { Self::Auto } else { Self::Run(text.into()) }
    }
}

/// When training computes activations twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Recompute {
    /// Where memory is short
    #[default]
    Auto,
    /// At every step
    Always,
    /// At none
    Never,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct LrFindArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Start from the trained weights and the settings of this run
    #[arg(long, help_heading = "Model", value_name = "RUN", conflicts_with_all = ["recipe", "config", "weights"])]
    pub(crate) from: Option<PathBuf>,
    /// Train all layers, not those that the first phase trains
    #[arg(long, help_heading = "Training")]
    pub(crate) unfrozen: bool,
    /// Folder for lr-find.png and lr-find.json
    #[arg(long, help_heading = "Output", value_name = "DIR", default_value = "runs")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AuditArgs {
    /// Audit the data of this run; what it says about images that it did not train on judges their labels
    #[arg(value_name = "RUN", conflicts_with_all = ["recipe", "config"])]
    pub(crate) run: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) batch: BatchArgs,
    /// Judge all labels by K trainings, as `evaluate RUN --cross-validate K`; uses those that are there
    #[arg(
        long,
        value_name = "K",
        requires = "run",
        value_parser = clap::value_parser!(u32).range(2..=1000)
    )]
    pub(crate) cross_validate: Option<u32>,
    /// How many suspicious labels to show
    #[arg(long, value_name = "N", default_value_t = 36)]
    pub(crate) top: usize,
    /// Folder for audit.html, audit.json and labels.csv [default: audit in the run, else runs/audit]
    #[arg(long, help_heading = "Output", value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct InspectArgs {
    /// Weight file (safetensors, PyTorch's .pth), folder of a run, or the built-in glyphs
    #[arg(value_name = "FILE|RUN")]
    pub(crate) path: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) batch: BatchArgs,
    /// Rows of the picture
    #[arg(long, help_heading = "Output", value_name = "N", default_value_t = 4)]
    pub(crate) rows: usize,
    /// Columns of the picture
    #[arg(long, help_heading = "Output", value_name = "N", default_value_t = 8)]
    pub(crate) cols: usize,
    /// The picture
    #[arg(long, help_heading = "Output", value_name = "FILE", default_value = "runs/show.png")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct SynthArgs {
    /// Folder to write, empty or not there yet
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Writers
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) writers: u32,
    /// Times that each writer writes each character
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) samples: u32,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PackArgs {
    /// Folder of a run, or a safetensors file with its model.json beside it
    #[arg(value_name = "RUN|FILE")]
    pub(crate) run: PathBuf,
    /// Folder for weights.bin and model.json
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CompletionsArgs {
    /// Shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}
