//! Flags of the commands that look at a run.

use super::DataArgs;
use clap::{Args as ClapArgs, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, ClapArgs)]
pub(crate) struct EvaluateArgs {
    /// Folder of a run, a safetensors file with its model.json beside it, or the built-in glyphs
    #[arg(value_name = "RUN|FILE|glyphs")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Which images: those that the model was not trained on (of the data of its run, the validation part), or all, with
    /// a warning [default: val]
    #[arg(long, value_enum)]
    pub(crate) split: Option<Part>,
    /// Judge the images of these groups alone: `3,14`, or a file with one on each line
    #[arg(long, value_name = "LIST|FILE")]
    pub(crate) groups: Option<String>,
    /// Repeat the training of the run K times, by groups where they are known, so that each image is judged once, by a
    /// model that saw none of its group; the same command goes on with what was stopped
    #[arg(
        long,
        value_name = "K",
        value_parser = clap::value_parser!(u32).range(2..=1000),
        conflicts_with_all = ["synthetic", "split", "groups", "limit"]
    )]
    pub(crate) cross_validate: Option<u32>,
    /// How many of the images with the highest loss to list
    #[arg(long, value_name = "N", default_value_t = 9)]
    pub(crate) top: usize,
    /// Write the predictions as a table, and the top losses as a picture, to this folder
    /// [default with --cross-validate: cross-validation-K in the run]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Use this many of the images, balanced by class; with --synthetic, draw this many
    #[arg(long, help_heading = "Data", value_name = "N", allow_negative_numbers = true)]
    pub(crate) limit: Option<usize>,
    /// Neither read nor write the cache of decoded images
    #[arg(long, help_heading = "Data")]
    pub(crate) no_cache: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Every image
    All,
    /// What the model was not trained on
    Val,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PredictArgs {
    /// Folder of a run, a safetensors file with its model.json beside it, or the built-in glyphs
    #[arg(value_name = "RUN|FILE|glyphs")]
    pub(crate) model: PathBuf,
    /// Images, or folders that are searched for images
    #[arg(required = true, value_name = "IMAGE|FOLDER")]
    pub(crate) images: Vec<PathBuf>,
    /// Go on without images that are damaged
    #[arg(long)]
    pub(crate) skip_damaged: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ReportArgs {
    /// Folder of a finished run
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// The file [default: report.html in the folder]
    #[arg(long, help_heading = "Output", value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Where the run's images are now, if they moved; needed only for runs of older versions
    #[arg(long, help_heading = "Data", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Neither read nor write the cache of decoded images
    #[arg(long, help_heading = "Data")]
    pub(crate) no_cache: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CompareArgs {
    /// Folders of finished runs
    #[arg(required = true, value_name = "RUN")]
    pub(crate) runs: Vec<PathBuf>,
    /// Folder for compare.html and the curves
    #[arg(long, help_heading = "Output", value_name = "DIR", default_value = "runs")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct VerifyArgs {
    /// Folder of a run
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// Where the run's images are now, if they moved
    #[arg(long, help_heading = "Data", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ReproduceArgs {
    /// Folder of a finished run
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// Folder for the new run [default: RUN-again]
    #[arg(long, help_heading = "Output", value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Where the run's images are now, if they moved
    #[arg(long, help_heading = "Data", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Neither read nor write the cache of decoded images
    #[arg(long, help_heading = "Data")]
    pub(crate) no_cache: bool,
}
