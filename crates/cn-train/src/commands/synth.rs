//! `synth`: a synthetic data set in the published layout.

use super::Context;
use crate::args::SynthArgs;
use crate::destination;
use crate::problem::Problem;
use crate::signals::Stop;
use anyhow::{Context as _, Result};
use cn_data::Spec;
use cn_synth::{CHARACTERS, Handwriting, Sample, Style, writers};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Quality of the published files.
const QUALITY: u8 = 75;
/// Images that are drawn at a time: bounds the memory.
const CHUNK: usize = 1500;
/// More images than this are a mistake.
const MAX_IMAGES: u64 = 50_000_000;

/// Draws beside the target, which has its name only when it is whole; returns the exit code.
pub(super) fn run(context: &Context<'_>, args: &SynthArgs) -> Result<u8> {
    check(args)?;
    destination::check(&args.out)?;
    let stop = Stop::listen()?;
    let part = Part::beside(&args.out)?;
    let images = part.path.join("data/data");
    destination::make(&images)?;
    let handwriting = Handwriting::new(context.common.seed.unwrap_or(42), Style::scans())?;
    let first = writers::TRAIN.start;
    let samples: Vec<Sample> = Sample::pages(first..first + args.writers, args.samples).collect();
    for chunk in samples.chunks(CHUNK) {
        if let Some(code) = stop.exit_code() {
            context.ui.say("stopped   nothing was kept");
            return Ok(code);
        }
        let pixels = handwriting.draw_all(chunk);
        let side = handwriting.size();
        for (sample, image) in chunk.iter().zip(pixels.chunks_exact(side * side)) {
            write_image(&images.join(file_name(*sample)), image, side)?;
        }
    }
    cn_report::write_atomic(part.path.join("chinese_mnist.csv"), table(&samples).as_bytes())?;
    let spec =
        Spec { name: Some("synthetic-handwriting".into()), licence: None, citation: None, ..Spec::chinese_mnist() };
    cn_report::write_atomic(part.path.join("dataset.toml"), spec.to_toml().as_bytes())?;
    part.rename_to(&args.out)?;
    let folder = args.out.display();
    let by = if args.writers == 1 { "one writer".to_owned() } else { format!("{} writers", args.writers) };
    context.ui.result(format_args!("{} images by {by} are in `{folder}`\n", samples.len()));
    context.ui.json(&serde_json::json!({ "folder": args.out, "images": samples.len(), "writers": args.writers }));
    Ok(0)
}

/// A folder that is not whole yet; it goes away with its owner.
struct Part {
    path: PathBuf,
}

impl Part {
    /// Beside `target`, hidden, with a name of this process.
    fn beside(target: &Path) -> Result<Self> {
        let target = std::path::absolute(target).with_context(|| format!("`{}` is no path", target.display()))?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!(".{name}.{}.part", std::process::id()));
        destination::make(&path)?;
        Ok(Self { path })
    }

    fn rename_to(self, target: &Path) -> Result<()> {
        // An empty folder may be there; whatever else came in the meantime stays, and is an error.
        let _ = std::fs::remove_dir(target);
        std::fs::rename(&self.path, target).with_context(|| format!("cannot write `{}`", target.display()))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn check(args: &SynthArgs) -> Result<()> {
    let n = u128::from(args.writers) * u128::from(args.samples) * CHARACTERS.len() as u128;
    if n == 0 || n > u128::from(MAX_IMAGES) {
        let problem = format!(
            "{} writers with {} samples are {n} images, expected 1 to {MAX_IMAGES}",
            args.writers, args.samples
        );
        return Err(Problem::usage(problem).hint("each sample is a page of 15: `--writers 100 --samples 10`").into());
    }
    let taken = std::fs::read_dir(&args.out).is_ok_and(|mut entries| entries.next().is_some());
    if taken || args.out.is_file() {
        return Err(Problem::failure(format!("`{}` is not empty", args.out.display()))
            .hint("choose another `--out`")
            .into());
    }
    Ok(())
}

fn file_name(sample: Sample) -> String {
    format!("input_{}_{}_{}.jpg", sample.writer(), sample.sample(), sample.code())
}

fn write_image(path: &Path, pixels: &[u8], side: usize) -> Result<()> {
    let side = u32::try_from(side)?;
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode(pixels, side, side, ExtendedColorType::L8)?;
    std::fs::write(path, bytes).with_context(|| format!("cannot write `{}`", path.display()))
}

/// The published table: a line an image.
fn table(samples: &[Sample]) -> String {
    let mut text = String::from("suite_id,sample_id,code,value,character\n");
    for sample in samples {
        let character = CHARACTERS[usize::from(sample.code()) - 1];
        writeln!(
            text,
            "{},{},{},{},{}",
            sample.writer(),
            sample.sample(),
            sample.code(),
            character.value,
            character.character
        )
        .expect("a string takes any text");
    }
    text
}
