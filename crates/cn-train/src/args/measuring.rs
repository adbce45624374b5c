//! The flags of what measures and checks this build.

use clap::{Args as ClapArgs, ValueEnum};
use std::path::PathBuf;

/// Flags of `gpu-check`.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct GpuCheckArgs {
    /// Check alone, and measure no speed
    #[arg(long)]
    pub(crate) only_check: bool,
    /// Python with torch and torchvision that does the same work beside [default: python3, if it has them]
    #[arg(long, value_name = "PYTHON", conflicts_with = "only_check")]
    pub(crate) against_torch: Option<PathBuf>,
    /// Instead: what each kind of launch takes of a training step
    #[arg(long, conflicts_with_all = ["only_check", "against_torch"])]
    pub(crate) layers: bool,
    /// Side of the images of that step, in pixels
    #[arg(long, value_name = "PX", default_value_t = 128, requires = "layers",
          value_parser = clap::value_parser!(u32).range(16..=1024))]
    pub(crate) image_size: u32,
    /// Images of that step
    #[arg(long, value_name = "N", default_value_t = 256, requires = "layers",
          value_parser = clap::value_parser!(u32).range(2..=4096))]
    pub(crate) batch_size: u32,
    /// Precision of that step
    #[arg(long, value_name = "TYPE", value_enum, default_value_t, requires = "layers")]
    pub(crate) precision: GpuPrecision,
}

/// What a GPU computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum GpuPrecision {
    /// 24 bits throughout
    F32,
    /// Operands of products rounded to 11 bits
    Tf32,
    /// Images, activations and operands of 8 bits
    #[default]
    Bf16,
}

#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct BenchArgs {
    /// Measure this alone
    #[arg(long, value_enum)]
    pub(crate) only: Option<Work>,
    /// Side of the images, in pixels [default: 64 and 128]
    #[arg(long, value_name = "PX", allow_negative_numbers = true)]
    pub(crate) image_size: Option<usize>,
    /// Images a step [default: 64, and 1 for inference]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) batch_size: Option<usize>,
    /// Products of convolutions: f32 or bf16 [default: all that the processor has]
    #[arg(long, value_name = "TYPE")]
    pub(crate) precision: Option<String>,
    /// Also measure the same network built of candle-nn (needs the feature `bench-candle`)
    #[arg(long)]
    pub(crate) against_candle: bool,
    /// Also measure torchvision's network, in turns, with this Python
    #[arg(long, value_name = "PYTHON")]
    pub(crate) against_torch: Option<PathBuf>,
    /// Also measure the exported network in ONNX Runtime, for inference in f32, in turns, with this Python
    #[arg(long, value_name = "PYTHON")]
    pub(crate) against_onnxruntime: Option<PathBuf>,
    /// Train the head and the norms alone
    #[arg(long)]
    pub(crate) frozen: bool,
    /// Instead of images a second: what each layer takes of a training step, and each kind of work
    #[arg(long)]
    pub(crate) layers: bool,
    /// Steps that are timed, at least
    #[arg(long, value_name = "N", default_value_t = 9)]
    pub(crate) steps: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// Forward, loss, backward, Adam
    Train,
    /// Forward in evaluation
    Infer,
}
