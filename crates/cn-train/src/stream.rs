//! Handwriting without end as a source of batches: no image is seen twice.

use crate::data::name_of;
use cn_augment::Image;
use cn_data::Dataset;
use cn_learn::{Error, Result, Source};
use cn_synth::{CHARACTERS, Glyphs};
use std::sync::Arc;

/// Training images that are drawn when they are needed, and those of a data set to judge by.
///
/// Ids of the data set come first. Behind them each step of each epoch has ids of its own, so that an image is a
/// function of the seed and the step, whatever was drawn before.
pub(crate) struct Stream {
    judges: Arc<Dataset>,
    glyphs: Glyphs,
    n_train: usize,
    /// The class of each character, in the order of their codes.
    classes: Vec<usize>,
}

impl Stream {
    /// `n_train` images an epoch by the hands of `seed`; the vocabulary is that of `judges`, by the label.
    pub(crate) fn new(judges: Arc<Dataset>, seed: u64, n_train: usize) -> Self {
        let labels = judges.vocabulary().labels();
        let class = |value: &str| labels.iter().position(|label| label == value);
        let classes = CHARACTERS.iter().filter_map(|character| class(character.value)).collect();
        Self { judges, glyphs: Glyphs::new(seed), n_train, classes }
    }

    fn n_judges(&self) -> u32 {
        self.judges.index().len() as u32
    }

    /// Ids of drawn images as they are drawn by; `None` if these are images of the data set.
    fn drawn(&self, ids: &[u32]) -> Option<Vec<u32>> {
        ids.iter().map(|id| id.checked_sub(self.n_judges())).collect()
    }
}

impl Source for Stream {
    fn n_classes(&self) -> usize {
        self.judges.vocabulary().len()
    }

    fn n_train(&self) -> usize {
        self.n_train
    }

    fn train_order(&self, _: u64, epoch: u32) -> Result<Vec<u32>> {
        let first = u64::from(self.n_judges()) + u64::from(epoch) * self.n_train as u64;
        let last = first + self.n_train as u64;
        match (u32::try_from(first), u32::try_from(last)) {
            (Ok(first), Ok(last)) => Ok((first..last).collect()),
            _ => Err(Error::Setting { name: "images", value: last as f64, expected: "below 2^32 over all epochs" }),
        }
    }

    fn val_ids(&self) -> &[u32] {
        self.judges.val_ids()
    }

    fn images<'a>(&'a self, ids: &[u32], room: &'a mut Vec<u8>) -> Result<Vec<Image<'a>>> {
        let Some(drawn) = self.drawn(ids) else { return self.judges.images(ids, room) };
        self.glyphs.draw_all(&drawn, room);
        let side = Glyphs::SIDE;
        let image = |pixels| Image { pixels, height: side, width: side, channels: 1 };
        Ok(room.chunks_exact(side * side).map(image).collect())
    }

    fn targets(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let Some(drawn) = self.drawn(ids) else { return Source::targets(&*self.judges, ids) };
        let n_classes = self.n_classes();
        let mut targets = vec![0.0; ids.len() * n_classes];
        for (row, id) in targets.chunks_exact_mut(n_classes).zip(drawn) {
            row[self.classes[usize::from(Glyphs::sample(id).code()) - 1]] = 1.0;
        }
        Ok(targets)
    }

    fn name(&self, id: u32) -> String {
        match id.checked_sub(self.n_judges()) {
            Some(drawn) => name_of(&Glyphs::sample(drawn)),
            None => self.judges.name(id),
        }
    }
}

#[cfg(test)]
mod tests;
