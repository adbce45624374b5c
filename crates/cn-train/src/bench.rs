//! `bench`: images a second of ResNet-18, alone or beside candle-nn, PyTorch and ONNX Runtime doing the same work.
//!
//! The work: 3 channels in, 15 outputs, random data; a training step is forward, binary cross-entropy, backward, Adam.

#[cfg(feature = "bench-candle")]
mod candle;
#[cfg(not(feature = "bench-candle"))]
#[path = "bench/candle_off.rs"]
mod candle;
mod layers;
mod ours;
mod python;

use crate::args::{BenchArgs, Work};
use crate::commands::Context;
use crate::host;
use crate::problem::Problem;
use anyhow::Result;
use cn_ops::Precision;
use python::{Library, Python};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// Classes of the data.
const CLASSES: usize = 15;
/// Steps before the clock starts, at least.
const WARM_UP: usize = 2;
/// Shortest time of the steps before the clock starts, and of those that are timed: threads of the rival whose turn
/// it was before still spin for a while, and a few short steps measure the caches that it left.
const SHORTEST: Duration = Duration::from_millis(400);
/// Rounds in which rivals take turns, so that a busy moment of the machine hits all of them.
const ROUNDS: usize = 3;

/// One kind of work.
#[derive(Clone, Copy, Debug)]
struct Job {
    work: Work,
    image_size: usize,
    batch_size: usize,
    precision: Precision,
    /// Whether the body's weights are fixed, all but those of its norms.
    frozen: bool,
}

impl Job {
    fn name(self) -> &'static str {
        match self.work {
            Work::Train => "train",
            Work::Infer => "infer",
        }
    }
}

/// What steps took.
#[derive(Debug, Default, Deserialize)]
struct Measured {
    seconds: Vec<f64>,
    /// Largest resident memory of the process.
    peak_mib: u64,
}

/// Something that can do a job.
trait Rival {
    /// The prefix of its key in JSON, and its name for people.
    fn name(&self) -> &'static str;

    /// Does `steps` steps, or more where they are short.
    fn run(&mut self, steps: usize) -> Result<Measured>;
}

/// Runs and times a step.
fn timed(steps: usize, mut step: impl FnMut() -> Result<()>) -> Result<Measured> {
    let mut repeat = |at_least: usize| {
        let (begin, mut seconds) = (Instant::now(), Vec::new());
        while seconds.len() < at_least || begin.elapsed() < SHORTEST {
            let start = Instant::now();
            step()?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        anyhow::Ok(seconds)
    };
    repeat(WARM_UP)?;
    Ok(Measured { seconds: repeat(steps)?, peak_mib: host::peak_rss_mib() })
}

pub(crate) fn run(context: &Context<'_>, args: &BenchArgs, threads: usize) -> Result<()> {
    let jobs = jobs(context, args)?;
    context.ui.say(format_args!("ResNet-18, {threads} threads, {}", cn_ops::Isa::current()));
    if args.against_candle {
        context.ui.say("candle-nn's network has a 2x2 max pool in place of the 3x3 one, which candle cannot train");
    }
    for job in jobs {
        if args.layers {
            context.ui.result(format_args!("{}\n{}\n", title(job), layers::table(job, args.steps)?));
            continue;
        }
        host::reset_peak_rss();
        let rivals = rivals(args, job, threads)?;
        report(context, job, measure(context, rivals, args.steps)?, threads);
    }
    Ok(())
}

/// Ours, then who else was asked for and can do the job.
fn rivals(args: &BenchArgs, job: Job, threads: usize) -> Result<Vec<Box<dyn Rival>>> {
    let mut rivals: Vec<Box<dyn Rival>> = vec![Box::new(ours::network(job)?)];
    if args.against_candle && job.precision == Precision::F32 && !job.frozen {
        rivals.push(candle::rival(job)?);
    }
    if let Some(python) = &args.against_torch {
        rivals.push(Box::new(Python::start(python, Library::Torch, job, threads)?));
    }
    if let Some(python) = &args.against_onnxruntime
        && job.work == Work::Infer
        && job.precision == Precision::F32
    {
        rivals.push(Box::new(Python::start(python, Library::OnnxRuntime, job, threads)?));
    }
    Ok(rivals)
}

/// The jobs of the flags.
fn jobs(context: &Context<'_>, args: &BenchArgs) -> Result<Vec<Job>> {
    check(args)?;
    let sizes = args.image_size.map_or(vec![64, 128], |size| vec![size]);
    let training_only = args.frozen || args.layers;
    let works = match args.only {
        Some(work) => vec![work],
        None if training_only => vec![Work::Train],
        None => vec![Work::Train, Work::Infer],
    };
    let mut jobs = Vec::new();
    for precision in precisions(context, args)? {
        for &work in &works {
            let batches = match (args.batch_size, work) {
                (Some(batch_size), _) => vec![batch_size],
                (None, Work::Train) => vec![64],
                (None, Work::Infer) => vec![1, 64],
            };
            for &image_size in &sizes {
                let job = |&batch_size| Job { work, image_size, batch_size, precision, frozen: args.frozen };
                jobs.extend(batches.iter().map(job));
            }
        }
    }
    Ok(jobs)
}

fn check(args: &BenchArgs) -> Result<()> {
    let sizes = [
        ("--steps", Some(args.steps), 1_000_000),
        ("--image-size", args.image_size, 4096),
        ("--batch-size", args.batch_size, 65_536),
    ];
    for (flag, value, most) in sizes {
        if let Some(value) = value.filter(|value| !(1..=most).contains(value)) {
            return Err(Problem::usage(format!("`{flag} {value}` cannot be measured"))
                .hint(format!("use a number from 1 to {most}"))
                .into());
        }
    }
    if args.only != Some(Work::Infer) && args.batch_size == Some(1) {
        return Err(Problem::usage("training needs a batch of at least 2 images")
            .hint("use a larger `--batch-size`, or `--only infer`")
            .into());
    }
    if args.only == Some(Work::Infer) && (args.frozen || args.layers) {
        return Err(Problem::usage("`--frozen` and `--layers` are about training").hint("leave `--only` out").into());
    }
    Ok(())
}

/// The precision asked for, else all that this processor has.
fn precisions(context: &Context<'_>, args: &BenchArgs) -> Result<Vec<Precision>> {
    let all = match &args.precision {
        Some(name) => vec![name.parse::<Precision>().map_err(|e| {
            Problem::usage(format!("cannot measure the precision `{name}`")).caused_by(e).hint("use f32 or bf16")
        })?],
        None => vec![Precision::F32, Precision::Bf16],
    };
    let (supported, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|precision| precision.is_supported());
    for precision in others {
        context.ui.warn(format_args!("skipped: this processor has no products of {precision}"));
    }
    Ok(supported)
}

/// What each rival took for all steps, in turns; one that fails is named, and the others go on.
fn measure(
    context: &Context<'_>,
    mut rivals: Vec<Box<dyn Rival>>,
    steps: usize,
) -> Result<Vec<(&'static str, Measured)>> {
    let mut all: Vec<(&str, Measured)> = rivals.iter().map(|rival| (rival.name(), Measured::default())).collect();
    let rounds = if rivals.len() > 1 { ROUNDS } else { 1 };
    for _ in 0..rounds {
        for (rival, (name, sum)) in rivals.iter_mut().zip(&mut all) {
            match rival.run(steps.div_ceil(rounds)) {
                Ok(measured) => {
                    sum.seconds.extend(measured.seconds);
                    sum.peak_mib = sum.peak_mib.max(measured.peak_mib);
                }
                Err(error) if *name == "cn" => return Err(error),
                Err(error) => context.ui.warn(format_args!("{name} is left out: {error:#}")),
            }
        }
    }
    all.retain(|(_, measured)| !measured.seconds.is_empty());
    Ok(all)
}

fn title(job: Job) -> String {
    let frozen = if job.frozen { " frozen" } else { "" };
    let Job { image_size, batch_size, precision, .. } = job;
    format!("{:<5}{frozen} {precision:<4} {image_size:>4} px  batch {batch_size:>3}", job.name())
}

fn report(context: &Context<'_>, job: Job, mut all: Vec<(&'static str, Measured)>, threads: usize) {
    let mut line = Map::new();
    let mut set = |key: &str, value: Value| drop(line.insert(key.to_owned(), value));
    set("what", job.name().into());
    set("image_size", job.image_size.into());
    set("batch_size", job.batch_size.into());
    set("precision", job.precision.to_string().into());
    set("frozen", job.frozen.into());
    set("threads", threads.into());
    set("isa", cn_ops::Isa::current().to_string().into());
    let mut text = title(job);
    let mut own = None;
    for (name, Measured { seconds, peak_mib }) in &mut all {
        seconds.sort_by(f64::total_cmp);
        let rate = |seconds: f64| job.batch_size as f64 / seconds;
        let (median, best) = (rate(seconds[seconds.len() / 2]), rate(seconds[0]));
        let own = *own.get_or_insert(median);
        let prefix = if *name == "cn" { String::new() } else { format!("{name}_") };
        set(&format!("{prefix}img_s"), json!(median));
        set(&format!("{prefix}best_img_s"), json!(best));
        set(&format!("{prefix}peak_mib"), json!(peak_mib));
        text += &format!("  {name} {median:.1} images/s (best {best:.1}; {peak_mib} MiB)");
        if *name != "cn" {
            set(&format!("{prefix}ratio"), json!(own / median));
            text += &format!(", cn is {:.2} times as fast", own / median);
        }
    }
    context.ui.result(text + "\n");
    context.ui.json(&Value::Object(line));
}
