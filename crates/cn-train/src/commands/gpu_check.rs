//! `gpu-check`: everything that runs on a GPU, checked against the CPU, trained, and measured.

mod job;
mod layers;
mod measure;
mod torch;

use super::Context;
use crate::args::GpuCheckArgs;
use crate::output::Ui;
use crate::problem::Problem;
use anyhow::Result;
use candle_core::{DType, Device as Candle};
use cn_cuda::{Device, Element};
use cn_zoo::{Arch, Head, ResNetConfig};
use job::Job;
use serde_json::{Map, Value, json};
use std::time::Instant;

/// Seeds of the random shapes.
const SEEDS: [u64; 3] = [1, 2, 3];

/// Images of the steps that are compared.
const BATCH: usize = 64;

/// ResNet-18 as the recipes train it.
const NETWORK: ResNetConfig =
    ResNetConfig { arch: Arch::ResNet18, in_channels: 3, n_classes: 15, head: Head::fastai() };

/// Runs the command: 1 if anything failed.
pub(super) fn run(context: &Context<'_>, args: &GpuCheckArgs) -> Result<u8> {
    let device = open(context.common.device.as_deref())?;
    let mut report = Report { ui: context.ui, failed: Vec::new(), results: Map::new() };
    report.set("device", json!(device.name()));
    report.ui.say(format_args!("checking {}", device.name()));
    if args.layers {
        let (image_size, batch_size) = (args.image_size as usize, args.batch_size as usize);
        let setup = measure::Setup { precision: args.precision, image_size, batch_size };
        let timed = layers::time(&device, &Job::draw()?, &setup)?;
        report.ui.result(layers::text(&timed));
        report.set("layers", json!(timed));
        report.ui.json(&Value::Object(report.results));
        return Ok(0);
    }
    compare(&device, &mut report)?;
    let job = Job::draw()?;
    use_built_in(&device, &job, &mut report)?;
    train_twice(&device, &job, &mut report)?;
    if !args.only_check {
        let mut table = measure::table(&device, report.ui)?;
        match args.against_torch.clone().or_else(torch::find) {
            Some(python) => torch::add(&python, report.ui, &mut table)?,
            None => report.ui.say("no python3 with torch and torchvision here: nothing to compare the speed with"),
        }
        report.ui.result(measure::text(&table));
        report.set("speed", json!(table));
        let made = layers::making(&device, &job)?;
        report.ui.result(layers::text_of_making(&made));
        report.set("making_batches", json!(made));
    }
    Ok(report.finish())
}

/// The GPU that `--device` names: `auto`, `cuda` or `cuda:N`.
fn open(name: Option<&str>) -> Result<Device> {
    let name = name.unwrap_or("auto");
    let ordinal = if name == "auto" { Some(0) } else { crate::config::gpu_of(name) };
    let ordinal = ordinal
        .ok_or_else(|| Problem::usage(format!("`{name}` is no GPU")).hint("leave `--device` out, or name cuda:N"))?;
    // What checks a GPU has nothing to do on a CPU, whatever the library's hint says.
    Device::cuda(ordinal).map_err(|error| {
        let problem = Problem::failure(error.to_string());
        match error.hint() {
            Some(hint) => {
                let hint = hint.trim_end_matches("or use `--device cpu`").trim_end_matches([' ', ',', ';']);
                problem.hint(hint).into()
            }
            None => problem.into(),
        }
    })
}

/// What was found out.
struct Report {
    ui: Ui,
    failed: Vec<String>,
    results: Map<String, Value>,
}

impl Report {
    fn set(&mut self, key: &str, value: Value) {
        self.results.insert(key.into(), value);
    }

    fn fail(&mut self, text: String) {
        self.ui.result(format_args!("failed: {text}\n"));
        self.failed.push(text);
    }

    fn check(&mut self, check: &cn_ops::gpu::Check) {
        if !check.passes() {
            let cn_ops::gpu::Check { name, error, tolerance } = check;
            self.fail(format!("{name}: differs by {error:.2e}, allowed {tolerance:.0e}"));
        }
    }

    fn finish(mut self) -> u8 {
        let verdict = if self.failed.is_empty() { "everything agrees" } else { "NOT everything agrees" };
        self.ui.result(format_args!("{verdict}: {} checks failed\n", self.failed.len()));
        let failed = json!(self.failed);
        self.set("failed", failed);
        self.ui.json(&Value::Object(self.results));
        u8::from(!self.failed.is_empty())
    }
}

/// Kernels on random shapes, batches bit for bit, and training steps of ResNet-18.
fn compare(device: &Device, report: &mut Report) -> Result<()> {
    let (begin, mut n_checks) = (Instant::now(), 0);
    for seed in SEEDS {
        for check in cn_ops::gpu::check_kernels(device, seed)? {
            n_checks += 1;
            report.check(&check);
        }
        for check in cn_augment::check_batches(device, seed)? {
            n_checks += 1;
            if check.n_different > 0 {
                let cn_augment::BatchCheck { name, n_values, n_different } = check;
                report.fail(format!("batch {name}: {n_different} of {n_values} numbers differ"));
            }
        }
    }
    for check in cn_ops::gpu::check_large_kernels(device, SEEDS[0])? {
        n_checks += 1;
        report.check(&check);
    }
    for element in [Element::F32, Element::Bf16] {
        let mut network = NETWORK.build(42, DType::F32, &Candle::Cpu)?;
        for check in cn_ops::gpu::check_network(device, &mut network, [BATCH, 64, 64, 3], element)? {
            n_checks += 1;
            report.ui.say(format_args!("ResNet-18, {}: {:.1e}", check.name, check.error));
            report.check(&check);
        }
    }
    report.ui.result(format_args!("{n_checks} comparisons with the CPU in {:.0} s\n", begin.elapsed().as_secs_f64()));
    report.set("comparisons", json!(n_checks));
    Ok(())
}

/// The built-in network in use, on drawn handwriting: its logits, and what it says each image is.
fn use_built_in(device: &Device, job: &Job, report: &mut Report) -> Result<()> {
    /// Share of the images of which both say the same.
    const SAME: f64 = 0.999;
    for (element, tolerance) in [(Element::F32, 1e-3), (Element::Bf16, 3e-2)] {
        let name = measure::name_of(element);
        let job::Use { n, n_same, error } = job.use_built_in(device, element)?;
        report.ui.result(format_args!(
            "{name}: {n_same} of {n} images are what they are on the CPU; logits of the built-in network differ by {error:.1e}\n"
        ));
        if (n_same as f64) < SAME * n as f64 {
            report.fail(format!("in use, {name}: {n_same} of {n} images are the same, expected {SAME}"));
        }
        if error > tolerance || error.is_nan() {
            report.fail(format!("logits in use, {name}: differ by {error:.2e}, allowed {tolerance:.0e}"));
        }
        report.set(&format!("use_{name}"), json!({"images": n, "same": n_same, "error": error}));
    }
    Ok(())
}

/// Trains twice on drawn handwriting, to a named accuracy on other writers and to the same bytes.
fn train_twice(device: &Device, job: &Job, report: &mut Report) -> Result<()> {
    /// Share of images of other writers whose best class is right: chance is 1 in 15.
    const ACCURACY: f64 = 0.9;
    for element in [Element::F32, Element::Bf16] {
        let name = measure::name_of(element);
        let [first, second] = [job.train(device, element, report.ui)?, job.train(device, element, report.ui)?];
        report.ui.result(format_args!(
            "{name}: {:.1} % of {} images of other writers right after {} steps, {:.1} s\n",
            100.0 * first.top1,
            job.n_val(),
            job::STEPS,
            first.seconds
        ));
        if first.top1 < ACCURACY {
            report.fail(format!("training in {name} reaches {:.3}, expected {ACCURACY}", first.top1));
        }
        if first.sha256 != second.sha256 {
            report
                .fail(format!("training twice in {name} gives other weights: {} and {}", first.sha256, second.sha256));
        }
        report.set(
            &format!("train_{name}"),
            json!({"top1": first.top1, "seconds": first.seconds, "sha256": first.sha256}),
        );
    }
    Ok(())
}
