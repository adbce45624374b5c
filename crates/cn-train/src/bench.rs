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
/// The name of this workspace's own work.
const OWN: &str = "cn";
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

    /// Whether the network of candle-nn can do it.
    fn suits_candle(self) -> bool {
        self.precision == Precision::F32 && !self.frozen
    }

    /// Whether the exported network can do it.
    fn suits_onnxruntime(self) -> bool {
        self.work == Work::Infer && self.precision == Precision::F32
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
    let mut failed = None;
    for job in jobs {
        ours::check_memory(job)?;
        if args.layers {
            let table = layers::table(job, args.steps)?;
            context.ui.result(format_args!("{}\n{table}\n", title(job)));
            context.ui.json(&described(job, threads).into_iter().chain(table.json()).collect::<Map<_, _>>());
            continue;
        }
        host::reset_peak_rss();
        let rivals = rivals(args, job, threads)?;
        let (all, error) = measure(context, rivals, args.steps)?;
        report(context, job, all, threads);
        failed = failed.or(error);
    }
    // Whoever asked for a comparison did not get all of it.
    failed.map_or(Ok(()), Err)
}

/// Ours, then who else was asked for and can do the job.
fn rivals(args: &BenchArgs, job: Job, threads: usize) -> Result<Vec<Box<dyn Rival>>> {
    let mut rivals: Vec<Box<dyn Rival>> = vec![Box::new(ours::network(job)?)];
    if args.against_candle && job.suits_candle() {
        rivals.push(candle::rival(job)?);
    }
    if let Some(python) = &args.against_torch {
        rivals.push(Box::new(Python::start(python, Library::Torch, job, threads)?));
    }
    if let Some(python) = &args.against_onnxruntime
        && job.suits_onnxruntime()
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
    let (supported, left_out) = precisions(args)?;
    for precision in supported {
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
    let compared = [
        ("--against-candle", args.against_candle, Job::suits_candle as fn(Job) -> bool, "all weights in f32"),
        ("--against-onnxruntime", args.against_onnxruntime.is_some(), Job::suits_onnxruntime, "inference in f32"),
    ];
    for (flag, asked, suits, what) in compared {
        if asked && !jobs.iter().any(|&job| suits(job)) {
            return Err(Problem::usage(format!("`{flag}` compares {what}, which the other flags leave out"))
                .hint("leave out that flag, or `--only`, `--precision` or `--frozen`")
                .into());
        }
    }
    for problem in left_out {
        context.ui.warn(format_args!("skipped: {problem}"));
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
    let others = args.against_candle || args.against_torch.is_some() || args.against_onnxruntime.is_some();
    if args.layers && others {
        return Err(Problem::usage("`--layers` takes the steps of this program apart, not those of others")
            .hint("leave `--layers` or `--against-...` out")
            .into());
    }
    Ok(())
}

/// The precision asked for, else all that this processor has, and why others are left out.
fn precisions(args: &BenchArgs) -> Result<(Vec<Precision>, Vec<String>)> {
    let all = match &args.precision {
        Some(name) => vec![name.parse::<Precision>().map_err(|e| {
            Problem::usage(format!("cannot measure the precision `{name}`")).caused_by(e).hint("use f32 or bf16")
        })?],
        None => vec![Precision::F32, Precision::Bf16],
    };
    let (supported, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|precision| precision.is_supported());
    let isa = cn_ops::Isa::current();
    let reason = |precision| format!("no products of {precision} here ({isa} without AVX512-BF16)");
    let left_out: Vec<String> = others.into_iter().map(reason).collect();
    match left_out.first() {
        Some(problem) if args.precision.is_some() => {
            Err(Problem::failure(problem.clone()).hint("leave `--precision` out, or measure f32").into())
        }
        _ => Ok((supported, left_out)),
    }
}

/// Names and times of those that were measured.
type Times = Vec<(&'static str, Measured)>;

/// What each rival took for all steps, in turns; one that fails is left out, and the others go on.
fn measure(context: &Context<'_>, rivals: Vec<Box<dyn Rival>>, steps: usize) -> Result<(Times, Option<anyhow::Error>)> {
    let rounds = if rivals.len() > 1 { ROUNDS } else { 1 };
    let mut going: Vec<_> = rivals.into_iter().map(|rival| (rival, Measured::default())).collect();
    let mut failed = None;
    for _ in 0..rounds {
        for (mut rival, mut sum) in std::mem::take(&mut going) {
            match rival.run(steps.div_ceil(rounds)) {
                Ok(measured) => {
                    sum.seconds.extend(measured.seconds);
                    sum.peak_mib = sum.peak_mib.max(measured.peak_mib);
                    going.push((rival, sum));
                }
                Err(error) if rival.name() == OWN => return Err(error),
                Err(error) => {
                    context.ui.warn(format_args!("{} is left out: {error}", rival.name()));
                    failed = Some(error);
                }
            }
        }
    }
    Ok((going.into_iter().map(|(rival, measured)| (rival.name(), measured)).collect(), failed))
}

fn title(job: Job) -> String {
    let frozen = if job.frozen { " frozen" } else { "" };
    let Job { image_size, batch_size, precision, .. } = job;
    format!("{:<5}{frozen} {precision:<4} {image_size:>4} px  batch {batch_size:>3}", job.name())
}

/// The job, for programs.
fn described(job: Job, threads: usize) -> Map<String, Value> {
    let Job { image_size, batch_size, precision, frozen, .. } = job;
    let values: [(&str, Value); 7] = [
        ("what", job.name().into()),
        ("image_size", image_size.into()),
        ("batch_size", batch_size.into()),
        ("precision", precision.to_string().into()),
        ("frozen", frozen.into()),
        ("threads", threads.into()),
        ("isa", cn_ops::Isa::current().to_string().into()),
    ];
    values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn report(context: &Context<'_>, job: Job, mut all: Times, threads: usize) {
    let mut line = described(job, threads);
    let mut set = |key: &str, value: Value| drop(line.insert(key.to_owned(), value));
    let mut text = title(job);
    let mut own = None;
    for (name, Measured { seconds, peak_mib }) in &mut all {
        seconds.sort_by(f64::total_cmp);
        let rate = |seconds: f64| job.batch_size as f64 / seconds;
        let (median, best) = (rate(seconds[seconds.len() / 2]), rate(seconds[0]));
        let own = *own.get_or_insert(median);
        let prefix = if *name == OWN { String::new() } else { format!("{name}_") };
        set(&format!("{prefix}img_s"), json!(median));
        set(&format!("{prefix}best_img_s"), json!(best));
        set(&format!("{prefix}peak_mib"), json!(peak_mib));
        text += &format!("  {name} {median:.1} images/s (best {best:.1}; {peak_mib} MiB)");
        if *name != OWN {
            set(&format!("{prefix}ratio"), json!(own / median));
            text += &format!(", cn is {:.2} times as fast", own / median);
        }
    }
    context.ui.result(text + "\n");
    context.ui.json(&Value::Object(line));
}
