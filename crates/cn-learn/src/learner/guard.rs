//! Steps whose numbers are no numbers.

use super::Learner;
use super::feed::Fed;
use crate::{BadPlace, Error, Handler, Moment, NotFinite, OnNan, Result};
use candle_core::{DType, Tensor};
use cn_ops::{Buffers, Mode, Model};

pub(super) fn is_finite(loss: &Tensor) -> Result<bool> {
    Ok(loss.to_dtype(DType::F64)?.to_scalar::<f64>()?.is_finite())
}

/// As [`refuse`], of a step that has undone itself.
pub(super) fn refuse_whole<M: Model>(learner: &mut Learner<M>, batch: &Fed, mode: Mode<'_>) -> Result<NotFinite> {
    let kept = Buffers::of(&mut learner.model)?;
    refuse(learner, batch, mode, None, &kept)
}

/// Describes the step that begins at the learner's position, and undoes what it did.
pub(super) fn refuse<M: Model>(
    learner: &mut Learner<M>,
    batch: &Fed,
    mode: Mode<'_>,
    gradient: Option<String>,
    kept: &Buffers,
) -> Result<NotFinite> {
    let (place, rows) = match gradient {
        Some(name) => (BadPlace::Gradient { name }, Vec::new()),
        None => match learner.model.find_not_finite(&batch.here(&learner.batches)?, mode)? {
            Some(found) => (BadPlace::Output { layer: found.layer }, found.rows),
            None => match Buffers::of(&mut learner.model)?.not_finite()? {
                Some(name) => (BadPlace::Statistics { name: name.to_owned() }, Vec::new()),
                None => (BadPlace::Loss, Vec::new()),
            },
        },
    };
    kept.put_back(&mut learner.model)?;
    let all = rows.is_empty() || rows.len() == batch.ids().len();
    let ids: Vec<u32> = if all { batch.ids().to_vec() } else { rows.iter().map(|&row| batch.ids()[row]).collect() };
    let names = ids.iter().map(|&id| learner.batches.source().name(id)).collect();
    let position = learner.position;
    Ok(NotFinite { step: position.steps_done, epoch: position.epochs_done, place, ids, names })
}

impl<M: Model> Learner<M> {
    /// Goes on without a step, or ends the fit there with everything as it was before it.
    pub(super) fn leave_out(&mut self, bad: NotFinite, handlers: &mut [&mut dyn Handler]) -> Result<()> {
        match self.config.on_nan {
            OnNan::Skip { at_most } if self.skipped < at_most => {
                self.skipped += 1;
                self.left_out += 1;
                handlers.iter_mut().try_for_each(|handler| handler.on_skipped(&bad))
            }
            OnNan::Skip { .. } | OnNan::Stop => {
                self.offer_checkpoint(Moment::NotFinite, handlers)?;
                Err(Error::NotFinite(Box::new(bad)))
            }
        }
    }
}
