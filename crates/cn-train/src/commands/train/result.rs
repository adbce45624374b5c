//! The end of a run: weights, predictions, summary.

use super::super::Context;
use super::Prepared;
use crate::config::{Config, HeadKind, LossKind};
use crate::data::names;
use crate::host;
use crate::interpret::Interpreter;
use crate::model;
use crate::output::{Ui, and_more};
use crate::recorder::{self, Recorder};
use crate::seen;
use crate::session;
use crate::sums;
use anyhow::Result;
use cn_data::Dataset;
use cn_learn::Decode;
use cn_ops::Model as _;
use cn_report::{
    Answers, ClassCard, Confusion, DataCard, DataSummary, EventFile, Ground, MODEL_SCHEMA, ModelCard, Normalisation,
    Picture, RunFolder, SUMMARY_SCHEMA, SecondsSummary, Summary, Thresholds, TrainedOn, WeightsCard, confused_table,
    confusion_picture, headline,
};

/// Most confused pairs that are listed.
const LISTED: usize = 5;

/// Writes what describes the final weights, the average where there is one, and shows it.
pub(super) fn close(context: &Context<'_>, run: &RunFolder, mut prepared: Prepared, recorder: &Recorder) -> Result<()> {
    prepared.learner.adopt_average()?;
    let evaluation = match &recorder.evaluation {
        Some(evaluation) => evaluation.clone(),
        // Resumed behind its last epoch.
        None => prepared.learner.evaluate()?,
    };
    // Before anything is written: weights that are no numbers give no table.
    let table = session::predictions(&prepared.dataset, &evaluation.predictions)?;
    let sha256 = save(run, &mut prepared)?;
    table.write(run.predictions())?;
    let answers =
        table.answers(Thresholds::uniform(prepared.config.threshold as f32)?, session::activation(&prepared.config))?;
    let mut val = answers.val_summary();
    // Of the logits, not of the probabilities in the table.
    val.loss = evaluation.loss;
    let started = std::time::Instant::now();
    let sample = interpret(run, &mut prepared, &answers)?;
    pictures(run, &prepared.dataset, &answers, sample.as_ref(), recorder)?;
    let interpreting = started.elapsed().as_secs_f64();
    let summary = Summary { val, ..summary(run, &prepared, recorder, &sha256)? };
    // Before the summary, which makes the run a finished one.
    sums::write(run, &summary.to_bytes())?;
    summary.write(run.summary())?;
    show(context.ui, run, &answers, &prepared.dataset, &summary, [recorder.kept().saving, interpreting]);
    context.ui.json(&summary);
    Ok(())
}

/// What TensorBoard shows beside the curves: augmented training images, and which class was taken for which.
fn pictures(
    run: &RunFolder,
    dataset: &Dataset,
    answers: &Answers<'_>,
    sample: Option<&Picture>,
    recorder: &Recorder,
) -> Result<()> {
    let step = recorder.kept().records.last().map_or(0, |record| record.step);
    let now = recorder::wall_time();
    let mut events = EventFile::new(run.root(), now);
    if let Some(sample) = sample {
        events.image(now, step, "augmented", sample)?;
    }
    if let Some(confusion) = answers.confusion(Confusion::READABLE) {
        events.image(
            now,
            step,
            "confusion",
            &confusion_picture(&confusion, &names(dataset.index(), dataset.vocabulary().labels())),
        )?;
    }
    Ok(events.flush()?)
}

/// What a report needs of the model, of which the sample of augmented images comes back; the memory of training goes
/// first.
fn interpret(run: &RunFolder, prepared: &mut Prepared, answers: &Answers<'_>) -> Result<Option<Picture>> {
    let Prepared { config, dataset, learner, .. } = prepared;
    if dataset.split().train().is_empty() {
        return Ok(None); // Endless handwriting keeps no training images to tune or show.
    }
    let normalisation = learner.batches().config().normalisation.clone();
    let decode = match config.loss {
        LossKind::Bce => Decode::Sigmoid,
        LossKind::Softmax => Decode::Softmax,
    };
    let network = learner.model_mut();
    network.pool().clear();
    Interpreter { network, config, dataset, normalisation, decode }.write(run, answers).map(Some)
}

/// Weights and their card; returns the hash of the weights.
fn save(run: &RunFolder, prepared: &mut Prepared) -> Result<String> {
    let tensors = prepared.learner.model_mut().named_tensors()?;
    let sha256 = cn_zoo::weights_sha256(&tensors)?;
    let resnet = model::resnet(&prepared.config, prepared.dataset.vocabulary().len())?;
    cn_zoo::save(run.weights(), &tensors, &resnet)?;
    card(prepared, &sha256).write(run.model_card())?;
    Ok(sha256)
}

fn card(prepared: &Prepared, sha256: &str) -> ModelCard {
    let Prepared { config, dataset, learner, .. } = prepared;
    let normalisation = &learner.batches().config().normalisation;
    // One value stands for all channels.
    let wide = |values: &[f64]| (0..config.channels).map(|c| values[c.min(values.len() - 1)] as f32).collect();
    let index = dataset.index();
    let (usual, ink_fill) = match model::usual_drawing(dataset.pixels(), config.channels) {
        // What it learnt from varies more than those who judge.
        _ if config.synthetic.steps.is_some() => (None, Some(model::DRAWN_FILL)),
        found => found.unzip(),
    };
    let class = |label: &String| ClassCard {
        label: label.clone(),
        display: index.display(label).to_owned(),
        threshold: config.threshold as f32,
    };
    ModelCard {
        schema: MODEL_SCHEMA,
        arch: config.arch.clone(),
        stem: "7x7".into(),
        head: match config.head {
            HeadKind::Fastai => "fastai".into(),
            HeadKind::Plain => "plain".into(),
        },
        channels: config.channels,
        image_size: config.image_size as usize,
        precision: config.precision.clone(),
        transform: config.transform_card(),
        ink_fill,
        usual,
        ground: model::reads_dark(dataset.pixels()).then_some(Ground::Dark),
        normalisation: Normalisation { mean: wide(normalisation.mean()), std: wide(normalisation.std()) },
        activation: session::activation(config),
        classes: dataset.vocabulary().labels().iter().map(class).collect(),
        weights: WeightsCard { file: "model.safetensors".into(), sha256: sha256.to_owned() },
        data: DataCard {
            name: index.name().to_owned(),
            licence: index.licence().map(str::to_owned),
            citation: index.citation().map(str::to_owned),
        },
    }
}

/// The summary but for `val`, which stands for nothing yet.
fn summary(run: &RunFolder, prepared: &Prepared, recorder: &Recorder, sha256: &str) -> Result<Summary> {
    let Prepared { config, start, dataset, split, learner, .. } = prepared;
    let kept = recorder.kept();
    Ok(Summary {
        schema: SUMMARY_SCHEMA,
        run: run.root().display().to_string(),
        arch: config.arch.clone(),
        weights: start.name(),
        device: config.device.clone(),
        precision: config.precision.clone(),
        threads: config.threads,
        isa: cn_ops::Isa::current().to_string(),
        data: DataSummary {
            n_train: learner.batches().source().n_train(),
            n_val_seen: seen::n_of(dataset.pixels(), dataset.split().val(), &TrainedOn::read(run.trained_on())?),
            ..data(config, dataset, split)
        },
        recipe: config.recipe.clone(),
        epochs: kept.records.len(),
        image_size: config.image_size as usize,
        batch_size: config.batch_size,
        val: cn_report::ValSummary {
            loss: f64::NAN,
            accuracy_multi: f64::NAN,
            threshold: None,
            exact_match: f64::NAN,
            exact_match_ci95: [0.0, 1.0],
            top1: f64::NAN,
            refused: 0,
        },
        seconds: SecondsSummary {
            total: recorder.total_seconds(),
            to_first_step: kept.to_first_step.unwrap_or(f64::NAN),
            train: kept.train,
            validate: kept.validate,
        },
        train_img_s: kept.n_trained as f64 / kept.train,
        infer_img_s: kept.n_validated as f64 / kept.validate,
        peak_rss_mib: host::peak_rss_mib(),
        weights_sha256: sha256.to_owned(),
    })
}

fn data(config: &Config, dataset: &Dataset, split: &str) -> DataSummary {
    let index = dataset.index();
    let has_groups = !index.groups().is_empty();
    DataSummary {
        name: index.name().to_owned(),
        sha256: dataset.content_sha256().to_string(),
        synthetic: config.data.synthetic,
        n_train: dataset.split().train().len(),
        n_val: dataset.split().val().len(),
        split: split.to_owned(),
        seed: config.split_seed.unwrap_or(config.seed),
        vocab: dataset.vocabulary().labels().to_vec(),
        groups_shared: has_groups.then(|| dataset.split().groups_shared(index)),
        n_val_seen: 0,
    }
}

fn show(
    ui: Ui,
    run: &RunFolder,
    answers: &Answers<'_>,
    dataset: &Dataset,
    summary: &Summary,
    [saving, interpreting]: [f64; 2],
) {
    let names = names(dataset.index(), dataset.vocabulary().labels());
    ui.say("");
    ui.result(headline(answers));
    let pairs = answers.most_confused(1).unwrap_or_default();
    if !pairs.is_empty() {
        ui.say("");
        let listed = &pairs[..pairs.len().min(LISTED)];
        ui.say(format_args!("{}{}", confused_table(listed, &names).trim_end(), and_more(pairs.len(), LISTED)));
    }
    let SecondsSummary { total, to_first_step, train, validate } = summary.seconds;
    let rest = (total - train - validate - saving - interpreting).max(0.0);
    ui.say("");
    ui.say(format_args!(
        "{train:.1} s of training, {validate:.1} s of validation, {saving:.1} s of checkpoints after epochs, {interpreting:.1} s for the report, {rest:.1} s before and after"
    ));
    ui.say(format_args!(
        "{total:.1} s in all, {to_first_step:.1} s to the first step; {:.0} images/s in training, {:.0} in validation; {} MiB",
        summary.train_img_s, summary.infer_img_s, summary.peak_rss_mib
    ));
    ui.say(format_args!("everything is in `{}`", run.root().display()));
}
