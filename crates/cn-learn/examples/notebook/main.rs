//! "fastai-v2/GPU for Chinese MNIST Prediction" cell by cell, as library code.
//!
//! `cargo run -p cn-learn --example notebook`, a minute or two: cells 1 to 18 see the data as the notebook does, the
//! trainings of 19 to 27 a part of it at a small size. With `-- --full` those too are the notebook's. Data: the first
//! argument that is a folder, else `data/chinese-mnist`, else handwriting drawn on the spot. The notebook starts from
//! ImageNet weights, this from random ones: the numbers are not its numbers. `docs/notebook.md` goes with it.
#![allow(clippy::print_stdout)]

mod data;
mod interpretation;
mod table;

use candle_core::{DType, Device, Tensor};
use cn_augment::Policy;
use cn_data::{Dataset, Split, SplitConfig};
use cn_learn::{
    Batch, BatchConfig, Batches, Decode, Learner, LearnerConfig, LrFindConfig, Metric, Predictions, Rates, Result,
};
use cn_ops::{Draw, Loss, Mode, Model, Network};
use cn_zoo::{Arch, Head, ResNetConfig};
use std::sync::Arc;
use table::Table;

const SEED: u64 = 42;
/// The notebook's threshold; half would be the natural one.
const THRESHOLD: f64 = 0.2;

type AnyError = Box<dyn std::error::Error>;

/// What a training costs. The notebook's: all images, 128 px, batches of 64.
#[derive(Clone, Copy)]
struct Scale {
    n_train: usize,
    n_val: usize,
    image_size: u32,
    batch_size: usize,
}

const FULL: Scale = Scale { n_train: 12_000, n_val: 3000, image_size: 128, batch_size: 64 };
const SMALL: Scale = Scale { n_train: 1600, n_val: 400, image_size: 32, batch_size: 48 };

fn main() -> Result<(), AnyError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let folder = args.iter().find(|arg| !arg.starts_with("--")).map_or("data/chinese-mnist", String::as_str);
    let full = args.iter().any(|arg| arg == "--full");

    // Preparing our data, our data block, our learner.
    let (index, pixels) = data::open(folder.as_ref())?;
    data::head(&index);
    let split = Split::new(&index, &SplitConfig { seed: SEED, ..SplitConfig::default() })?;
    let data = Arc::new(Dataset::new(index, pixels, split)?);
    let batch = data_block(&data)?;
    test_a_batch(&data, &batch)?;

    // Baseline model, improving our model.
    let scale = if full { FULL } else { SMALL };
    let data = if full { data } else { Arc::new(data::part(&data, scale.n_train, scale.n_val)?) };
    let mut baseline = learner(&data, scale)?;
    fine_tune(&mut baseline, scale)?;
    interpretation::of(&baseline.evaluate()?, &data);
    find_and_tune(&data, scale)?;
    freeze_and_unfreeze(&data, scale)
}

/// Starts a cell: its number among the notebook's code cells, and what stands there.
fn cell(number: &str, python: &str) {
    println!("\n[{number}] {python}");
}

/// Cell 7, `RandomResizedCrop(128, min_scale=0.35)` and `dblock.dataloaders(df)`.
fn batches(data: &Arc<Dataset>, scale: Scale) -> Result<Batches> {
    let train = Policy::fastai_train(scale.image_size, 0.35)?;
    let valid = Policy::fastai_valid(scale.image_size)?;
    let config = BatchConfig { batch_size: scale.batch_size, ..BatchConfig::new(train, valid) };
    Batches::new(Arc::<Dataset>::clone(data), config, SEED)
}

/// `cnn_learner(dls, resnet18, metrics=partial(accuracy_multi, thresh=0.2))`, from random weights.
fn learner(data: &Arc<Dataset>, scale: Scale) -> Result<Learner<Network>, AnyError> {
    let n_classes = data.vocabulary().len();
    let config = ResNetConfig { arch: Arch::ResNet18, in_channels: 3, n_classes, head: Head::fastai() };
    let model = config.build(SEED, DType::F32, &Device::Cpu)?;
    Ok(Learner::new(model, batches(data, scale)?, LearnerConfig::multi_label(THRESHOLD))?)
}

/// Cells 7 to 11: batches, the parts, one-hot targets.
fn data_block(data: &Arc<Dataset>) -> Result<Batch, AnyError> {
    let batches = batches(data, FULL)?;
    let (train, val) = (data.split().train(), data.split().val());
    cell("7, 8", "dls = dblock.dataloaders(df); len(dls.train), len(dls.valid)");
    println!("({}, {})", batches.steps_per_epoch(), batches.eval(val)?.len());

    cell("9", "dls.show_batch(nrows=1, ncols=5)");
    let batch = batches.train(0, 0)?.next().ok_or("no batch")??;
    println!("images {:?}, targets {:?}", batch.images.dims(), batch.targets.dims());
    println!("{}", batch.ids[..5].iter().map(|&id| data::title(data, id)).collect::<Vec<_>>().join("  "));

    cell("10, 11", "dls.train_ds, dls.valid_ds");
    println!("vocabulary {}", data.vocabulary().labels().join(" "));
    for (name, ids) in [("train", train), ("valid", val)] {
        let image = data.pixels().image(ids[0]);
        let one_hot = data.targets().multi_hot(&ids[..1]);
        println!("{name} (#{}) [({}x{}, {one_hot:?}), ...]", ids.len(), image.width, image.height);
    }
    Ok(batch)
}

/// Cells 12 to 18: logits, the loss by hand and by the library, accuracy at thresholds.
fn test_a_batch(data: &Arc<Dataset>, batch: &Batch) -> Result<(), AnyError> {
    cell("12, 13", "learn = cnn_learner(dls, resnet18); x,y = dls.train.one_batch(); learn.model(x).shape");
    let mut learner = learner(data, FULL)?;
    // In training mode, as in the notebook: dropout draws, and the norms use and update the statistics of the batch.
    let mode = Mode::Train(Draw { seed: SEED, epoch: 0, ids: &batch.ids });
    let logits: Tensor = learner.model_mut().forward(&batch.images, mode)?.to_tensor()?;
    println!("{:?}", logits.dims());
    cell("14", "batch[0]");
    println!("{:.3?}", logits.get(0)?.to_vec1::<f32>()?);

    cell("15", "learn.loss_func");
    println!("{:?}", learner.config().loss);
    cell("16", "-torch.where(targets==1, inputs, 1-inputs).log().mean()");
    let (x, t): (Vec<f32>, Vec<f32>) = (logits.flatten_all()?.to_vec1()?, batch.targets.flatten_all()?.to_vec1()?);
    println!("{:.6}", loss_by_hand(&x, &t));
    cell("17", "nn.BCEWithLogitsLoss()(batch, y)");
    let (loss, _gradient) = Loss::Bce.compute(&logits, &batch.targets)?;
    println!("{:.6}", loss.to_scalar::<f32>()?);

    cell("18", "accuracy_multi(batch, y, thresh)");
    let (ids, n_classes) = (batch.ids.clone(), data.vocabulary().len());
    let said = Predictions { ids, logits: x, n_classes, decode: Decode::Sigmoid };
    for threshold in [0.2, 0.5] {
        println!("at {threshold}: {:.4}", Metric::accuracy_multi(threshold).of(&said, &t));
    }
    let silent = Predictions { logits: vec![-9.0; t.len()], ..said };
    println!("saying nothing: {:.4}", Metric::accuracy_multi(0.5).of(&silent, &t));
    Ok(())
}

/// The notebook's formula. It is infinite from a wrong logit of 17 on; the library's is not.
fn loss_by_hand(logits: &[f32], targets: &[f32]) -> f32 {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    let right = |(&x, &t): (&f32, &f32)| if t == 1.0 { sigmoid(x) } else { 1.0 - sigmoid(x) };
    -logits.iter().zip(targets).map(right).map(f32::ln).sum::<f32>() / logits.len() as f32
}

/// Cell 19.
fn fine_tune(learner: &mut Learner<Network>, scale: Scale) -> Result<()> {
    cell("19", "learn.fine_tune(6)");
    let source = learner.batches().source();
    let (n_train, n_val) = (source.n_train(), source.val_ids().len());
    println!("{n_train} images train, {n_val} judge, {} px, from random weights", scale.image_size);
    learner.fine_tune(6, 2e-3, &mut [&mut Table::default()])?;
    Ok(())
}

/// Cells 22 and 23.
fn find_and_tune(data: &Arc<Dataset>, scale: Scale) -> Result<(), AnyError> {
    cell("22", "learn = cnn_learner(dls, resnet18); learn.lr_find()");
    let mut learner = learner(data, scale)?;
    learner.freeze()?; // As `cnn_learner` leaves a pretrained model.
    find_rates(&mut learner)?;

    // The finder has put everything back, so that a new learner is not needed.
    cell("23", "learn.fine_tune(6, base_lr=1e-2)");
    learner.fine_tune(6, 1e-2, &mut [&mut Table::default()])?;
    Ok(())
}

/// Cells 24 to 27.
fn freeze_and_unfreeze(data: &Arc<Dataset>, scale: Scale) -> Result<(), AnyError> {
    // As it stands it is a TypeError: the argument is called `lr_max`.
    cell("24", "learn = cnn_learner(dls, resnet18); learn.fit_one_cycle(3, base_lr=1e-2)");
    let mut learner = learner(data, scale)?;
    learner.freeze()?;
    learner.fit_one_cycle(3, Rates::Uniform(1e-2), &mut [&mut Table::default()])?;

    cell("25, 26", "learn.unfreeze(); learn.lr_find()");
    learner.unfreeze()?;
    find_rates(&mut learner)?;

    cell("27", "learn.fit_one_cycle(6, 1e-4)");
    learner.fit_one_cycle(6, Rates::Uniform(1e-4), &mut [&mut Table::default()])?;
    Ok(())
}

/// `learn.lr_find()`: fastai's four suggestions; the learner is as before afterwards.
fn find_rates(learner: &mut Learner<Network>) -> Result<()> {
    let curve = learner.lr_find(&LrFindConfig::default())?;
    let found = curve.suggestions();
    println!("{} of {} steps", curve.lrs.len(), curve.n_steps);
    for (rule, found) in
        [("valley", found.valley), ("slide", found.slide), ("minimum", found.minimum), ("steep", found.steep)]
    {
        println!("{rule:<8}{}", found.map_or("none".into(), |s| format!("{:.2e}", s.lr)));
    }
    Ok(())
}
