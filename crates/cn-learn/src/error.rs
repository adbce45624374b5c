//! What can go wrong in training, and what to do about it.

use std::path::PathBuf;

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Training that could not go on, or a checkpoint that could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting outside its range.
    #[error("`{name}` is {value}, expected {expected}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What came.
        value: f64,
        /// The range.
        expected: &'static str,
    },
    /// A training part that does not fill one batch.
    #[error("the training part has {n_images} images, fewer than one batch of {batch_size}")]
    TooFewImages {
        /// Images of the training part.
        n_images: usize,
        /// Images a batch.
        batch_size: usize,
    },
    /// Evaluation of nothing.
    #[error("there are no images to evaluate")]
    NoImages,
    /// Images that have no labels were asked for with them.
    #[error("image {id} is asked for, but there are {n_images}")]
    NoSuchImage {
        /// The image.
        id: u32,
        /// How many there are.
        n_images: usize,
    },
    /// A model whose number of outputs is not that of the classes.
    #[error("the model gives {found} logits an image, but there are {n_classes} classes")]
    Outputs {
        /// Logits of an image.
        found: usize,
        /// Classes of the data.
        n_classes: usize,
    },
    /// A layer that the network does not have, or whose output is no image.
    #[error("no layer `{name}` gives an output `(B, H, W, C)`")]
    NoSuchLayer {
        /// What was asked for.
        name: String,
    },
    /// A parameter group that the model does not have.
    #[error("parameter group {group} is asked for, but there are {n_groups}")]
    NoSuchGroup {
        /// The group.
        group: usize,
        /// How many there are.
        n_groups: usize,
    },
    /// An epoch gave no loss, score or metric of this name.
    #[error("nothing called `{name}` is measured, only {}", known.join(", "))]
    UnknownMonitor {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A file of a checkpoint that cannot be read or written.
    #[error("cannot {action} the checkpoint `{}`{}", path.display(), bytes.map_or_else(String::new, |n| format!(" of {n} bytes")))]
    CheckpointFile {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// How large it is to be, where it is written.
        bytes: Option<u64>,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A file that is no checkpoint, or a damaged one.
    #[error("the checkpoint `{}` is damaged: {reason}", path.display())]
    CheckpointDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A checkpoint in another version of the format.
    #[error("the checkpoint has format {found}, expected {expected}")]
    CheckpointFormat {
        /// Version of the file.
        found: u32,
        /// Version that this build reads.
        expected: u32,
    },
    /// A checkpoint in the folder of a run that it is none of.
    #[error("the checkpoint `{}` is of another run", path.display())]
    CheckpointForeign {
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint of another run than the one that it is loaded into.
    #[error("the checkpoint does not fit: {what} is {found}, expected {expected}")]
    CheckpointMismatch {
        /// What differs.
        what: &'static str,
        /// What the checkpoint has.
        found: String,
        /// What the learner has.
        expected: String,
    },
    /// A step whose loss or gradients are NaN or infinite; it was not taken.
    #[error("{0}")]
    NotFinite(Box<crate::NotFinite>),
    /// The thread that makes batches ended without a word.
    #[error("the thread that makes batches stopped")]
    BatchThread {
        /// Why it could not start, where that is the case.
        #[source]
        source: Option<std::io::Error>,
    },
    /// An error of the data.
    #[error("cannot read the data")]
    Data(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An error of a handler.
    #[error("`{handler}` failed")]
    Handler {
        /// The handler's name.
        handler: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An error of a layer, a loss or the optimizer.
    #[error(transparent)]
    Ops(#[from] cn_ops::Error),
    /// An error of the augmentation.
    #[error(transparent)]
    Augment(#[from] cn_augment::Error),
    /// An error of candle's.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// Whether a pass ended because it was to, see [`cn_ops::Interrupt`].
    #[must_use]
    pub fn is_interruption(&self) -> bool {
        matches!(self, Self::Ops(cn_ops::Error::Interrupted))
    }

    /// What to do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TooFewImages { .. } => Some("use a smaller batch, or more images"),
            Self::Outputs { .. } => Some("replace the model's head by one with as many outputs as there are classes"),
            Self::CheckpointDamaged { .. } => Some("use the checkpoint before it, or train again"),
            Self::CheckpointFormat { .. } => Some("use the program that wrote it, or train again"),
            Self::CheckpointMismatch { .. } => {
                Some("go on with the settings, images and weights that it was made with, or begin a new run")
            }
            Self::NotFinite(_) => Some("lower the learning rate"),
            Self::Ops(e) => e.hint(),
            Self::Augment(e) => e.hint(),
            _ => None,
        }
    }

    /// Wraps an error of a [`crate::Source`] of one's own.
    #[must_use]
    pub fn data(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Data(Box::new(source))
    }
}
