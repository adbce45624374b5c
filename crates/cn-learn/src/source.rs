//! Where images and targets come from.

use crate::{Error, Result};
use cn_augment::{Image, ImageStack};
use cn_data::{Dataset, Sampler};

/// Images and targets by id, and the order of an epoch.
///
/// [`Dataset`] is one. A source that draws its images can give other ids each epoch, without end.
pub trait Source: Send + Sync {
    /// K, the number of classes.
    fn n_classes(&self) -> usize;

    /// Images that an epoch of training sees.
    fn n_train(&self) -> usize;

    /// Ids of the training images of `epoch`, in their order: a pure function of (`seed`, `epoch`).
    ///
    /// # Errors
    ///
    /// If the data cannot be read.
    fn train_order(&self, seed: u64, epoch: u32) -> Result<Vec<u32>>;

    /// Ids of the validation images, in the order of predictions.
    fn val_ids(&self) -> &[u32];

    /// The images with these ids, 8 bits a channel, in this order; `room` may be used for pixels that are made on the
    /// spot. Called on a thread of its own.
    ///
    /// # Errors
    ///
    /// If there is no such image, or the data cannot be read.
    fn images<'a>(&'a self, ids: &[u32], room: &'a mut Vec<u8>) -> Result<Vec<Image<'a>>>;

    /// All images by id, where they are one stack that a GPU can hold; `None` where they are not, or are made on the spot.
    fn stack(&self) -> Option<ImageStack<'_>> {
        None
    }

    /// Targets of these images, `(B, K)` row by row: 1 for each label of an image, else 0.
    ///
    /// # Errors
    ///
    /// As [`Source::images`].
    fn targets(&self, ids: &[u32]) -> Result<Vec<f32>>;

    /// What people call an image, such as the path of its file.
    fn name(&self, id: u32) -> String {
        format!("image {id}")
    }
}

impl Source for Dataset {
    fn n_classes(&self) -> usize {
        self.vocabulary().len()
    }

    fn n_train(&self) -> usize {
        self.split().train().len()
    }

    fn train_order(&self, seed: u64, epoch: u32) -> Result<Vec<u32>> {
        let ids = self.split().train();
        // One batch as large as the part is its order; that does not depend on the batch size.
        let sampler = Sampler::train(ids, ids.len(), seed).map_err(Error::data)?;
        Ok(sampler.epoch(epoch).next().unwrap_or_default())
    }

    fn val_ids(&self) -> &[u32] {
        self.split().val()
    }

    fn images<'a>(&'a self, ids: &[u32], _: &'a mut Vec<u8>) -> Result<Vec<Image<'a>>> {
        check_ids(ids, self.pixels().len())?;
        Ok(ids.iter().map(|&id| image_of(self.pixels().image(id))).collect())
    }

    fn stack(&self) -> Option<ImageStack<'_>> {
        let (bytes, shape) = self.pixels().packed()?;
        ImageStack::new(bytes, shape).ok()
    }

    fn targets(&self, ids: &[u32]) -> Result<Vec<f32>> {
        check_ids(ids, self.targets().len())?;
        Ok(self.targets().multi_hot(ids))
    }

    /// The path in the data set.
    fn name(&self, id: u32) -> String {
        self.index().records().get(id as usize).map_or_else(|| format!("image {id}"), |record| record.path.clone())
    }
}

/// A decoded image as the augmentation takes it: the same bytes, borrowed.
///
/// ```
/// let pixels = cn_data::Pixels::uniform(vec![7; 2 * 4 * 3], [4, 3, 1])?;
/// let images: Vec<cn_augment::Image<'_>> = pixels.images().map(cn_learn::image_of).collect();
/// assert_eq!((images.len(), images[1].height, images[1].width), (2, 4, 3));
/// # Ok::<(), cn_data::Error>(())
/// ```
#[must_use]
pub fn image_of(view: cn_data::ImageView<'_>) -> Image<'_> {
    let cn_data::ImageView { pixels, height, width, channels } = view;
    Image { pixels, height, width, channels }
}

fn check_ids(ids: &[u32], n_images: usize) -> Result<()> {
    match ids.iter().find(|&&id| id as usize >= n_images) {
        Some(&id) => Err(Error::NoSuchImage { id, n_images }),
        None => Ok(()),
    }
}
