//! How a model does on images with labels.

use crate::learner::{Feed, Resident};
use crate::{Batches, Decode, Error, Metric, Predictions, Result, Validated};
use candle_core::{DType, Tensor};
use cn_ops::{Images, Loss, Mode, Model};
use std::ops::ControlFlow;

/// Loss, metrics and all predictions on a part of the data.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Mean loss over the images.
    pub loss: f64,
    /// Metrics by name, in the order in which they were asked for.
    pub metrics: Vec<(String, f64)>,
    /// What the model says, in the order of the ids.
    pub predictions: Predictions,
    /// Targets, `(N, K)`, row by row.
    pub targets: Vec<f32>,
}

impl Evaluation {
    /// The value of the metric called `name`.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }

    /// Positions of the images, the largest loss first, with their losses.
    #[must_use]
    pub fn top_losses(&self) -> Vec<(usize, f64)> {
        let mut losses: Vec<_> = self.predictions.losses(&self.targets).into_iter().enumerate().collect();
        losses.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        losses
    }
}

/// How probabilities belong to a loss.
pub(crate) fn decode(loss: Loss) -> Decode {
    match loss {
        Loss::Bce => Decode::Sigmoid,
        _ => Decode::Softmax,
    }
}

/// Evaluates `model` on the images `ids`, of its GPU if they lie there; `on_batch` hears how far it is.
pub(crate) fn evaluate(
    model: &mut dyn Model,
    (batches, resident): (&Batches, &mut Resident),
    judge: Judge<'_>,
    ids: &[u32],
    on_batch: &mut dyn FnMut(Validated) -> Result<ControlFlow<()>>,
) -> Result<Option<Evaluation>> {
    let (mut logits, mut losses) = (Logits::default(), Vec::new());
    let mut stream = Feed::eval(batches, resident, ids)?;
    while let Some(batch) = stream.next()? {
        let there = match resident.images(&batch)? {
            Some(Images::Gpu(images)) => model.judge(images)?,
            _ => None,
        };
        let out = match there {
            Some(logits) => logits,
            None => model.forward(&batch.here(batches)?, Mode::Eval)?,
        };
        check_outputs(&out, batches.source().n_classes())?;
        losses.push(judge.loss.compute(&out, batch.targets())?.0);
        logits.add(&out)?;
        stream.give_back(batch);
        if on_batch(Validated { n_done: logits.n_images, n_images: ids.len() })?.is_break() {
            return Ok(None);
        }
    }
    let sizes = ids.chunks(batches.config().eval_batch_size).map(<[u32]>::len);
    let loss = weighted_mean(&losses, sizes)?;
    let predictions = logits.read(ids.to_vec(), decode(judge.loss))?;
    let targets = batches.source().targets(ids)?;
    let metrics = judge.metrics.iter().map(|m| (m.name().to_owned(), m.of(&predictions, &targets))).collect();
    Ok(Some(Evaluation { loss, metrics, predictions, targets }))
}

/// What predictions are measured by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judge<'a> {
    pub(crate) loss: Loss,
    pub(crate) metrics: &'a [Metric],
}

/// Logits of batch after batch, left on the device.
#[derive(Default)]
pub(crate) struct Logits {
    batches: Vec<Tensor>,
    n_images: usize,
}

impl Logits {
    pub(crate) fn add(&mut self, logits: &Tensor) -> Result<()> {
        self.n_images += logits.dim(0)?;
        self.batches.push(logits.force_contiguous()?);
        Ok(())
    }

    /// Images so far.
    pub(crate) fn n_images(&self) -> usize {
        self.n_images
    }

    /// The one copy to the host.
    pub(crate) fn read(self, ids: Vec<u32>, decode: Decode) -> Result<Predictions> {
        if self.batches.is_empty() {
            return Err(Error::NoImages);
        }
        let all = Tensor::cat(&self.batches, 0)?.to_dtype(DType::F32)?;
        let n_classes = all.dim(1)?;
        Ok(Predictions { ids, logits: all.flatten_all()?.to_vec1()?, n_classes, decode })
    }
}

/// Refuses logits that are not one for each class.
pub(crate) fn check_outputs(logits: &Tensor, n_classes: usize) -> Result<()> {
    match logits.dims() {
        [_, found] if *found == n_classes => Ok(()),
        dims => Err(Error::Outputs { found: dims.last().copied().unwrap_or(0), n_classes }),
    }
}

/// Mean of the batches' losses by their sizes; NaN for none.
fn weighted_mean(losses: &[Tensor], sizes: impl Iterator<Item = usize>) -> Result<f64> {
    if losses.is_empty() {
        return Ok(f64::NAN);
    }
    let losses: Vec<f64> = Tensor::stack(losses, 0)?.to_dtype(DType::F64)?.to_vec1()?;
    let (mut sum, mut n) = (0.0, 0);
    for (loss, size) in losses.into_iter().zip(sizes) {
        sum += loss * size as f64;
        n += size;
    }
    Ok(sum / n as f64)
}
