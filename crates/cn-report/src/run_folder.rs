//! The files of a run: where they lie, what is in them, how they are read and written.

mod atomic;
mod epochs;
mod interpretation;
pub(crate) mod json;
mod lock;
mod manifest;
mod model_card;
mod predictions;
mod steps;
mod summary;
mod trained_on;

use std::path::{Path, PathBuf};

pub use atomic::write_atomic;
pub use epochs::{EpochRecord, Metrics};
pub use interpretation::{EmbeddedImage, GalleryImage, Interpretation};
pub(crate) use interpretation::{MOST_OF_PICTURE, gallery_file};
pub use json::read_json_value;
pub use lock::RunLock;
pub use manifest::{DataChange, DataHashes, MANIFEST_SCHEMA, Machine, Manifest, Versions, WeightsHash, WeightsOrigin};
pub use model_card::{
    Activation, ClassCard, DataCard, Ground, MODEL_SCHEMA, ModelCard, Normalisation, Transform, UsualDrawing,
    WeightsCard,
};
pub use predictions::{Prediction, Predictions};
pub use steps::StepRecord;
pub use summary::{DataSummary, SUMMARY_SCHEMA, SecondsSummary, Summary, ValSummary};
pub use trained_on::TrainedOn;

use crate::error::{Error, Result};
use crate::tensorboard::EventFile;

/// The folder of a run: knows the name of each file, reads nothing by itself.
///
/// ```
/// let run = cn_report::RunFolder::new("runs/x");
/// assert!(run.summary().ends_with("summary.json"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    root: PathBuf,
}

macro_rules! paths {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {
        impl RunFolder {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(&self) -> PathBuf {
                self.root.join($file)
            })*
        }
    };
}

paths! {
    /// `config.toml`: every value that the run used; the first file written. Its content belongs to the command line.
    config = "config.toml";
    /// `manifest.json`: a [`Manifest`].
    manifest = "manifest.json";
    /// `trained-on.sha256`: [`TrainedOn`], where the images are files.
    trained_on = "trained-on.sha256";
    /// `metrics.jsonl`: one [`EpochRecord`] a line.
    metrics = "metrics.jsonl";
    /// `steps.jsonl`: one [`StepRecord`] a line, for every few steps.
    steps = "steps.jsonl";
    /// `history.csv`: the epochs as a table.
    history = "history.csv";
    /// `checkpoints/`: a folder.
    checkpoints = "checkpoints";
    /// `interpret/`: a folder; what a report needs from the model.
    interpret = "interpret";
    /// `interpret/tuning.csv`: [`Predictions`] of a part of the training images, to fit a temperature and thresholds on.
    tuning = "interpret/tuning.csv";
    /// `model.safetensors`: the final weights.
    weights = "model.safetensors";
    /// `model.json`: the [`ModelCard`].
    model_card = "model.json";
    /// `predictions.csv`: [`Predictions`] of the validation images.
    predictions = "predictions.csv";
    /// `summary.json`: the [`Summary`].
    summary = "summary.json";
    /// `SHA256SUMS`: the hash of every file of a finished run but its checkpoints. Its content belongs to the command line.
    sums = "SHA256SUMS";
    /// `audit/audit.json`: an [`Audit`](crate::Audit), where one was made; its pictures are in the page beside it.
    audit = "audit/audit.json";
    /// `report.html`.
    report = "report.html";
}

impl RunFolder {
    /// The run in `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether a run was started here: `config.toml`, the first file of a run, is there.
    #[must_use]
    pub fn holds_run(&self) -> bool {
        self.config().is_file()
    }

    /// Whether a run was finished here: `summary.json`, the last file of a run, is there.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.summary().exists()
    }

    /// The files that training writes to the folder itself, the last one last; not all runs have all of them.
    #[must_use]
    pub fn files(&self) -> [PathBuf; 10] {
        [
            self.config(),
            self.manifest(),
            self.trained_on(),
            self.metrics(),
            self.steps(),
            self.history(),
            self.weights(),
            self.model_card(),
            self.predictions(),
            self.summary(),
        ]
    }

    /// Refuses a folder with a run, or with the remains of one, which would be taken for the new run's.
    ///
    /// # Errors
    ///
    /// [`Error::RunExists`], [`Error::Remains`].
    pub fn refuse_used(&self) -> Result<()> {
        if self.holds_run() {
            return Err(Error::RunExists { path: self.root.clone() });
        }
        let (files, others) = (self.files(), [self.checkpoints(), self.interpret(), self.sums()]);
        let is_known = |path: &PathBuf| files.contains(path) || others.contains(path) || EventFile::is_one(path);
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten().map(|entry| entry.path());
        match entries.filter(is_known).min() {
            Some(path) => Err(Error::Remains { path }),
            None => Ok(()),
        }
    }

    /// Makes the folder, with its parents. A folder that exists and holds nothing of a run is fine.
    ///
    /// # Errors
    ///
    /// As [`RunFolder::refuse_used`], [`Error::Write`] if it cannot be made.
    pub fn create(&self) -> Result<()> {
        self.refuse_used()?;
        std::fs::create_dir_all(&self.root).map_err(|source| Error::Write {
            path: self.root.clone(),
            bytes: None,
            source,
        })
    }
}

/// Bytes of a file of a run, where nothing else is said: far more than any run writes.
const MOST: u64 = 16 << 20;
/// The same of a file that has a line for each image.
pub(crate) const MOST_OF_IMAGES: u64 = 1 << 30;

/// Reads a whole file of a run, which may come from strangers: a pipe or a device, which may have no end, is none, and
/// 16 MiB are the most.
///
/// # Errors
///
/// [`Error::Missing`] where there is none, [`Error::Read`] with what the system said.
pub fn read_bytes(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    read_at_most(path, MOST)
}

/// As [`read_bytes`], of at most so many bytes.
pub(crate) fn read_at_most(path: impl AsRef<Path>, most: u64) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let read = std::fs::metadata(path).and_then(|meta| match meta.is_file() || meta.is_dir() {
        true if meta.len() > most => {
            Err(std::io::Error::other(format!("it has {} bytes, more than the {most} of any run", meta.len())))
        }
        true => std::fs::read(path),
        false => Err(std::io::Error::other("it is a pipe or a device, no file")),
    });
    read.map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::Missing { path: path.to_owned() },
        _ => Error::Read { path: path.to_owned(), source },
    })
}

#[cfg(test)]
mod tests;
