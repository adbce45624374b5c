//! `bench`: images a second of ResNet-18, alone or beside candle-nn and PyTorch doing the same work.
//!
//! The work: 3 channels in, 15 outputs, random data; a training step is forward, binary cross-entropy, backward, Adam.

#[cfg(feature = "bench-candle")]
mod candle;
#[cfg(not(feature = "bench-candle"))]
#[path = "bench/candle_off.rs"]
mod candle;
mod ours;
mod torch;

use crate::args::{BenchArgs, Work};
use crate::commands::Context;
use crate::problem::Problem;
use anyhow::Result;
use serde_json::{Map, Value, json};
use std::time::Instant;

/// Classes of the data.
const CLASSES: usize = 15;
/// Steps before the clock starts.
const WARM_UP: usize = 2;
/// Rounds in which rivals take turns, so that a busy moment of the machine hits all of them.
const ROUNDS: usize = 3;

/// One kind of work.
#[derive(Clone, Copy, Debug)]
struct Job {
    work: Work,
    image_size: usize,
    batch_size: usize,
}

impl Job {
    fn name(self) -> &'static str {
        match self.work {
            Work::Train => "train",
            Work::Infer => "infer",
        }
    }
}

/// Something that can do a job, and says how many seconds each step took.
trait Rival {
    /// The prefix of its key in JSON, and its name for people.
    fn name(&self) -> &'static str;

    /// Seconds of each of `steps` steps.
    fn run(&mut self, steps: usize) -> Result<Vec<f64>>;
}

/// Runs and times a step.
fn timed(steps: usize, mut step: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    (0..WARM_UP).try_for_each(|_| step())?;
    let timed = |_| {
        let start = Instant::now();
        step()?;
        Ok(start.elapsed().as_secs_f64())
    };
    (0..steps).map(timed).collect()
}

pub(crate) fn run(context: &Context<'_>, args: &BenchArgs, threads: usize) -> Result<()> {
    check(args)?;
    context.ui.say(format_args!("ResNet-18, {threads} threads, {}", cn_ops::Isa::current()));
    if args.against_candle {
        context.ui.say("candle-nn's network has a 2x2 max pool in place of the 3x3 one, which candle cannot train");
    }
    for job in jobs(args) {
        let mut rivals: Vec<Box<dyn Rival>> = vec![ours::rival(job)?];
        if args.against_candle {
            rivals.push(candle::rival(job)?);
        }
        if let Some(python) = &args.against_torch {
            rivals.push(Box::new(torch::Torch::start(python, job, threads)?));
        }
        report(context, job, measure(rivals, args.steps)?, threads);
    }
    Ok(())
}

fn check(args: &BenchArgs) -> Result<()> {
    if args.precision != "f32" {
        return Err(Problem::usage(format!("there are no CPU kernels for the precision `{}`", args.precision))
            .hint("use `--precision f32`")
            .into());
    }
    if args.steps == 0 || args.image_size == Some(0) || args.batch_size == Some(0) {
        return Err(Problem::usage("steps, image size and batch size must be at least 1").into());
    }
    if args.only != Some(Work::Infer) && args.batch_size == Some(1) {
        return Err(Problem::usage("training needs a batch of at least 2 images").into());
    }
    Ok(())
}

fn jobs(args: &BenchArgs) -> Vec<Job> {
    let sizes = args.image_size.map_or(vec![64, 128], |size| vec![size]);
    let works = args.only.map_or(vec![Work::Train, Work::Infer], |work| vec![work]);
    let batches = |work| match (args.batch_size, work) {
        (Some(batch_size), _) => vec![batch_size],
        (None, Work::Train) => vec![64],
        (None, Work::Infer) => vec![1, 64],
    };
    let mut jobs = Vec::new();
    for work in works {
        for &image_size in &sizes {
            jobs.extend(batches(work).into_iter().map(|batch_size| Job { work, image_size, batch_size }));
        }
    }
    jobs
}

/// Seconds of all steps of each rival, in turns.
fn measure(mut rivals: Vec<Box<dyn Rival>>, steps: usize) -> Result<Vec<(&'static str, Vec<f64>)>> {
    let mut times: Vec<(&str, Vec<f64>)> = rivals.iter().map(|rival| (rival.name(), Vec::new())).collect();
    let rounds = if rivals.len() > 1 { ROUNDS } else { 1 };
    for _ in 0..rounds {
        for (rival, (_, times)) in rivals.iter_mut().zip(&mut times) {
            times.extend(rival.run(steps.div_ceil(rounds))?);
        }
    }
    Ok(times)
}

fn report(context: &Context<'_>, job: Job, mut times: Vec<(&'static str, Vec<f64>)>, threads: usize) {
    let mut line = Map::new();
    let mut set = |key: &str, value: Value| drop(line.insert(key.to_owned(), value));
    set("what", job.name().into());
    set("image_size", job.image_size.into());
    set("batch_size", job.batch_size.into());
    set("precision", "f32".into());
    set("threads", threads.into());
    set("isa", cn_ops::Isa::current().to_string().into());
    let mut text = format!("{:<6} {:>4} px  batch {:>3}", job.name(), job.image_size, job.batch_size);
    let mut own = None;
    for (name, times) in &mut times {
        times.sort_by(f64::total_cmp);
        let rate = |seconds: f64| job.batch_size as f64 / seconds;
        let (median, best) = (rate(times[times.len() / 2]), rate(times[0]));
        let own = *own.get_or_insert(median);
        let prefix = if *name == "cn" { String::new() } else { format!("{name}_") };
        set(&format!("{prefix}img_s"), json!(median));
        set(&format!("{prefix}best_img_s"), json!(best));
        text += &format!("  {name} {median:.1} images/s (best {best:.1})");
        if *name != "cn" {
            set(&format!("{prefix}ratio"), json!(own / median));
            text += &format!(", cn is {:.2} times as fast", own / median);
        }
    }
    context.ui.result(text + "\n");
    context.ui.json(&Value::Object(line));
}
