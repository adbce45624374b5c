//! "fastai-v2/GPU for Chinese MNIST Prediction" cell by cell, as library code.
//!
//! `cargo run -p cn-learn --example notebook` takes a small part of the data and few epochs; with `-- --full` it does
//! what the notebook does. Data: the first argument that is a folder, else `data/chinese-mnist`, else handwriting that
//! is drawn on the spot. The notebook starts from ImageNet weights and we from random ones, so numbers differ.
#![allow(clippy::print_stdout)]

use candle_core::{DType, Device};
use cn_augment::Policy;
use cn_data::{Dataset, Index, LoadConfig, Pixels, Record, Split, SplitConfig};
use cn_learn::{
    BatchConfig, Batches, EpochEnd, Evaluation, FitStart, Flow, Handler, Learner, LearnerConfig, LrFindConfig, Metric,
    PhaseStart, Predictions, Rates, Result,
};
use cn_ops::{Draw, Loss, Mode, Model, Network};
use cn_synth::{CHARACTERS, Handwriting, Sample, Style, writers};
use cn_zoo::{Arch, Head, ResNetConfig};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

const SEED: u64 = 42;
/// The notebook's threshold; half would be the natural one.
const THRESHOLD: f64 = 0.2;

type AnyError = Box<dyn std::error::Error>;

/// What `--full` changes.
struct Scale {
    n_images: usize,
    image_size: u32,
    batch_size: usize,
    epochs: usize,
    frozen_epochs: usize,
    finder_steps: usize,
}

const SMALL: Scale =
    Scale { n_images: 1200, image_size: 64, batch_size: 16, epochs: 4, frozen_epochs: 1, finder_steps: 60 };
const FULL: Scale =
    Scale { n_images: 15_000, image_size: 128, batch_size: 64, epochs: 6, frozen_epochs: 3, finder_steps: 100 };

fn main() -> Result<(), AnyError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let scale = if args.iter().any(|arg| arg == "--full") { FULL } else { SMALL };
    let folder = args.iter().find(|arg| !arg.starts_with("--")).map_or("data/chinese-mnist".into(), PathBuf::from);

    let data = Arc::new(prepare_data(&folder, &scale)?);
    prepare_batches(&data, &scale)?;
    test_a_batch(&mut learner(&data, &scale)?)?;

    heading("Baseline: fine_tune");
    let mut baseline = learner(&data, &scale)?;
    baseline.fine_tune(scale.epochs, 2e-3, &mut [&mut Table::default()])?;
    analyse(&baseline.evaluate()?, &data);

    heading("Learning rate finder");
    let mut tuned = learner(&data, &scale)?;
    find_rates(&mut tuned, &scale)?;

    heading("fine_tune with base_lr=1e-2");
    tuned.fine_tune(scale.epochs, 1e-2, &mut [&mut Table::default()])?;

    heading("Frozen, then all groups");
    let mut staged = learner(&data, &scale)?;
    staged.freeze()?;
    // The notebook's `fit_one_cycle(3, base_lr=1e-2)` is a TypeError in fastai: the argument is called `lr_max`.
    staged.fit_one_cycle(scale.frozen_epochs, Rates::Uniform(1e-2), &mut [&mut Table::default()])?;
    staged.unfreeze()?;
    find_rates(&mut staged, &scale)?;
    staged.fit_one_cycle(scale.epochs, Rates::Uniform(1e-4), &mut [&mut Table::default()])?;
    Ok(())
}

fn heading(text: &str) {
    println!("\n== {text}");
}

/// Files, the head of the table, the split.
fn prepare_data(folder: &Path, scale: &Scale) -> Result<Dataset, AnyError> {
    heading("Files and table");
    let (index, pixels) = if folder.is_dir() {
        let index = Index::open(folder)?;
        let index = index.limit(scale.n_images.min(index.len()), SEED)?;
        let pixels = Pixels::load(&index, &LoadConfig::default())?.pixels;
        (index, pixels)
    } else {
        println!("no folder `{}`: drawing handwriting", folder.display());
        draw_data(scale.n_images)?
    };
    println!("{} images in {}", index.len(), index.name());
    for record in &index.records()[..5] {
        let character = index.display(&record.labels[0]);
        println!("  {}  {}  {character}", record.path, record.labels.join(" "));
    }
    let split = Split::new(&index, &SplitConfig { seed: SEED, ..SplitConfig::default() })?;
    Ok(Dataset::new(index, pixels, split)?)
}

fn draw_data(n_images: usize) -> Result<(Index, Pixels), AnyError> {
    let first = writers::TRAIN.start;
    let n_writers = n_images.div_ceil(10 * CHARACTERS.len()) as u32;
    let samples: Vec<Sample> = Sample::pages(first..first + n_writers, 10).take(n_images).collect();
    let record = |sample: &Sample| Record {
        path: format!("input_{}_{}_{}.jpg", sample.writer(), sample.sample(), sample.code()),
        labels: vec![CHARACTERS[usize::from(sample.code()) - 1].value.to_owned()],
        group: Some(sample.writer().to_string()),
    };
    let display: BTreeMap<_, _> = CHARACTERS.iter().map(|c| (c.value.to_owned(), c.character.to_string())).collect();
    let index = Index::from_records("synthetic handwriting", "", samples.iter().map(record).collect())?;
    let pixels = Pixels::uniform(Handwriting::new(SEED, Style::scans())?.draw_all(&samples), [64, 64, 1])?;
    Ok((index.with_display(display), pixels))
}

/// The data block's item transform and batches.
fn batches(data: &Arc<Dataset>, scale: &Scale) -> Result<Batches> {
    let train = Policy::fastai_train(scale.image_size, 0.35)?;
    let eval = Policy::fastai_valid(scale.image_size)?;
    let config = BatchConfig { batch_size: scale.batch_size, ..BatchConfig::new(train, eval) };
    Batches::new(Arc::<Dataset>::clone(data), config, SEED)
}

/// `len(dls.train), len(dls.valid)`, one batch, one-hot targets.
fn prepare_batches(data: &Arc<Dataset>, scale: &Scale) -> Result<()> {
    heading("Batches");
    let batches = batches(data, scale)?;
    let (train, val) = (data.split().train(), data.split().val());
    println!("{} and {} batches", batches.steps_per_epoch(), batches.eval(val)?.len());
    println!("{} and {} images", train.len(), val.len());
    println!("classes: {}", data.vocabulary().labels().join(" "));
    if let Some(batch) = batches.train(0, 0)?.next().transpose()? {
        println!("a batch: images {:?}, targets {:?}", batch.images.dims(), batch.targets.dims());
        println!("first target: {:?}", batch.targets.get(0)?.to_vec1::<f32>()?);
    }
    Ok(())
}

/// `cnn_learner(dls, resnet18)`, from random weights.
fn learner(data: &Arc<Dataset>, scale: &Scale) -> Result<Learner<Network>, AnyError> {
    let n_classes = data.vocabulary().len();
    let config = ResNetConfig { arch: Arch::ResNet18, in_channels: 3, n_classes, head: Head::fastai() };
    let model = config.build(SEED, DType::F32, &Device::Cpu)?;
    Ok(Learner::new(model, batches(data, scale)?, LearnerConfig::multi_label(THRESHOLD))?)
}

/// One batch through the untrained model: logits, the loss by hand and by the library, accuracy at thresholds.
fn test_a_batch(learner: &mut Learner<Network>) -> Result<(), AnyError> {
    heading("One batch through the untrained model");
    let Some(batch) = learner.batches().train(0, 0)?.next().transpose()? else { return Ok(()) };
    let draw = Draw { seed: SEED, epoch: 0, ids: &batch.ids };
    let logits = learner.model_mut().forward(&batch.images, Mode::Train(draw))?.to_tensor()?;
    println!("logits {:?}; the first image's:", logits.dims());
    println!("{:.3?}", logits.get(0)?.to_vec1::<f32>()?);

    let (x, t): (Vec<f32>, Vec<f32>) = (logits.flatten_all()?.to_vec1()?, batch.targets.flatten_all()?.to_vec1()?);
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    let term = |(&x, &t): (&f32, &f32)| if t == 1.0 { -sigmoid(x).ln() } else { -(1.0 - sigmoid(x)).ln() };
    let by_hand = x.iter().zip(&t).map(term).sum::<f32>() / x.len() as f32;
    let (by_library, _) = Loss::Bce.compute(&logits, &batch.targets)?;
    println!("loss by hand {by_hand:.6}, by the library {:.6}", by_library.to_scalar::<f32>()?);

    let (n_classes, decode) = (logits.dim(1)?, cn_learn::Decode::Sigmoid);
    let predictions = Predictions { ids: batch.ids.clone(), logits: x, n_classes, decode };
    for threshold in [0.2, 0.5] {
        let accuracy = Metric::accuracy_multi(threshold).of(&predictions, &t);
        println!("accuracy_multi at {threshold}: {accuracy:.4}");
    }
    Ok(())
}

/// Top losses and most confused pairs.
fn analyse(evaluation: &Evaluation, data: &Dataset) {
    let names = data.vocabulary().labels();
    let (p, top1) = (evaluation.predictions.probabilities(), evaluation.predictions.top1());
    println!("\ntop losses:");
    for (i, loss) in evaluation.top_losses().into_iter().take(5) {
        let id = evaluation.predictions.ids[i];
        let truth = data.targets().classes(id).iter().map(|&class| names[class as usize].as_str()).collect::<Vec<_>>();
        let said =
            top1[i].map_or("nothing".into(), |class| format!("{} ({:.3})", names[class], p[i * names.len() + class]));
        println!(
            "  {}: is {}, most likely {said}, loss {loss:.4}",
            data.index().records()[id as usize].path,
            truth.join(" ")
        );
    }
    let mut pairs: BTreeMap<(usize, Option<usize>), usize> = BTreeMap::new();
    let above = evaluation.predictions.above(THRESHOLD);
    for (i, &id) in evaluation.predictions.ids.iter().enumerate() {
        let truth = data.targets().classes(id)[0] as usize;
        let any = above[i * names.len()..][..names.len()].contains(&true);
        let said = top1[i].filter(|_| any);
        if said != Some(truth) {
            *pairs.entry((truth, said)).or_default() += 1;
        }
    }
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    pairs.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
    println!("most confused:");
    for ((truth, said), n) in pairs.into_iter().take(5) {
        println!("  {} taken for {}: {n}", names[truth], said.map_or("none", |class| &names[class]));
    }
}

/// `learn.lr_find()`; the learner is as before afterwards.
fn find_rates(learner: &mut Learner<Network>, scale: &Scale) -> Result<()> {
    let curve = learner.lr_find(&LrFindConfig { n_steps: scale.finder_steps, ..LrFindConfig::default() })?;
    let found = curve.suggestions();
    let show = |rate: Option<cn_learn::Suggestion>| rate.map_or("none".into(), |s| format!("{:.2e}", s.lr));
    println!("{} steps up to {:.2e}", curve.lrs.len(), curve.lrs.last().copied().unwrap_or(f64::NAN));
    println!("valley {}, slide {}", show(found.valley), show(found.slide));
    println!("minimum {}, steep {}", show(found.minimum), show(found.steep));
    Ok(())
}

/// The table that fastai prints.
struct Table {
    start: Instant,
}

impl Default for Table {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Handler for Table {
    fn name(&self) -> &'static str {
        "table"
    }

    fn on_fit_start(&mut self, _: &FitStart<'_>) -> Result<()> {
        self.start = Instant::now();
        Ok(())
    }

    fn on_phase_start(&mut self, _: &PhaseStart<'_>) -> Result<()> {
        println!(
            "{:>5} {:>11} {:>11} {:>15} {:>11} {:>9} {:>6}",
            "epoch", "train_loss", "valid_loss", "accuracy_multi", "exact_match", "top1", "time"
        );
        Ok(())
    }

    fn on_epoch_end(&mut self, end: &mut EpochEnd<'_>) -> Result<Flow> {
        let record = end.record;
        let get = |name| record.get(name).unwrap_or(f64::NAN);
        let seconds = std::mem::replace(&mut self.start, Instant::now()).elapsed().as_secs();
        println!(
            "{:>5} {:>11.6} {:>11.6} {:>15.6} {:>11.6} {:>9.6}  {:02}:{:02}",
            record.epoch,
            record.train_loss,
            record.val_loss,
            get("accuracy_multi"),
            get("exact_match"),
            get("top1"),
            seconds / 60,
            seconds % 60
        );
        Ok(Flow::Continue)
    }
}
