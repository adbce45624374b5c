use std::path::PathBuf;

/// What can go wrong when a run folder is read or written, or when predictions make no sense.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file or folder could not be written; what was there before is still there.
    #[error("cannot write `{}`{}", path.display(), bytes.map_or_else(String::new, |n| format!(" of {n} bytes")))]
    Write {
        /// The file.
        path: PathBuf,
        /// How large it is to be, where that is known.
        bytes: Option<u64>,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that every run folder has is not there.
    #[error("`{}` does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The folder already holds a run.
    #[error("`{}` already holds a run", path.display())]
    RunExists {
        /// The folder.
        path: PathBuf,
    },
    /// A file of a run in a folder that holds none.
    #[error("`{}` is there, of a run that is not", path.display())]
    Remains {
        /// The file or folder.
        path: PathBuf,
    },
    /// Another process writes to the run.
    #[error("another process{} writes to the run `{}`", holder.map_or_else(String::new, |id| format!(" ({id})")), path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
        /// The process, where it is known.
        holder: Option<u32>,
    },
    /// JSON that is damaged or has other keys than expected.
    #[error("`{}` line {line} column {column}: not the JSON that was expected", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column in characters, from 1 (0 when the line is empty).
        column: u64,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A table that is not CSV: a wrong number of cells, an open quote, text that is not UTF-8.
    #[error("`{}` line {line}: not the table that was expected", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What the parser said.
        source: csv::Error,
    },
    /// The first line of a table names other columns.
    #[error("`{}` line 1 column {column}: expected {expected}, found `{found}`", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// Column, counted in cells from 1.
        column: usize,
        /// What the header has there, empty when it ends before.
        found: String,
        /// What it should have.
        expected: &'static str,
    },
    /// A table of more columns of numbers than any run has; rates and further numbers of epochs count as such.
    #[error("`{}` has {found} columns of numbers, and at most {most} are read", path.display())]
    Columns {
        /// The file.
        path: PathBuf,
        /// How many.
        found: usize,
        /// How many may be.
        most: usize,
    },
    /// One cell of a table.
    #[error("`{}` line {line} column `{column}`: expected {expected}, found `{found}`", path.display())]
    Cell {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Name of the column.
        column: String,
        /// What the cell holds.
        found: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A file written by a newer version of the program.
    #[error("`{}` has schema {found}, this program reads up to {supported}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// The file's schema.
        found: u32,
        /// The newest schema that can be read.
        supported: u32,
    },
    /// A probability that is no probability: NaN, infinite, below 0 or above 1.
    #[error("image `{image}` class `{class}`: {value} is not a probability")]
    Probability {
        /// Path of the image.
        image: String,
        /// Label of the class.
        class: String,
        /// The value.
        value: f32,
    },
    /// An image with more or fewer probabilities than there are classes.
    #[error("image `{image}`: {found} probabilities for {expected} classes")]
    ProbabilityCount {
        /// Path of the image.
        image: String,
        /// Values given.
        found: usize,
        /// Number of classes.
        expected: usize,
    },
    /// A target that is not an index into the classes.
    #[error("image `{image}`: target {target} is not below the class count {n_classes}")]
    Target {
        /// Path of the image.
        image: String,
        /// The index given.
        target: usize,
        /// Number of classes.
        n_classes: usize,
    },
    /// No class at all, or one label twice.
    #[error("the {n_classes} class labels are not usable: {problem}")]
    Classes {
        /// Number of labels given.
        n_classes: usize,
        /// What is wrong with them.
        problem: String,
    },
    /// Thresholds that do not fit.
    #[error("{found} thresholds for {expected} classes")]
    ThresholdCount {
        /// Thresholds given.
        found: usize,
        /// Number of classes.
        expected: usize,
    },
    /// A threshold outside 0..=1, or NaN.
    #[error("threshold {value} is not between 0 and 1")]
    Threshold {
        /// The value.
        value: f32,
    },
    /// More or fewer epochs than the summary has.
    #[error("`{}` has {found} epochs, `summary.json` {expected}", path.display())]
    EpochCount {
        /// The file of epochs.
        path: PathBuf,
        /// Epochs in it.
        found: usize,
        /// Epochs of the summary.
        expected: usize,
    },
    /// A model card whose values contradict each other.
    #[error("model card: `{key}` {problem}")]
    ModelCard {
        /// Name of the key.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A link in the folder of a run.
    #[error("`{}` is a link, and the files of a run are in its own folder alone", path.display())]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// A description of another model than the run's.
    #[error("`{}` is of other weights than the run's summary", path.display())]
    OtherModel {
        /// The description.
        path: PathBuf,
    },
    /// A table of predictions that is not what the run came to.
    #[error(
        "`{}` holds {found}, and the run's summary has {expected}", path.display()
    )]
    OtherPredictions {
        /// The table.
        path: PathBuf,
        /// Images and exact match of it.
        found: String,
        /// Those of the summary.
        expected: String,
    },
    /// A picture that cannot be drawn.
    #[error("picture: {what} is {found}, expected {expected}")]
    Picture {
        /// The argument.
        what: &'static str,
        /// Its value.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The PNG encoder refused.
    #[error("cannot encode a PNG of {width}x{height} pixels")]
    Png {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// What the encoder said.
        source: png::EncodingError,
    },
}

impl Error {
    /// What a person can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Read { .. } => "check that the path is right and that you may read it",
            Self::Write { .. } => "check the free space and that you may write there",
            Self::Missing { .. } => "name the folder of a run that was trained to its end",
            Self::Remains { .. } => "choose another `--out`, or remove what is left of the run there",
            Self::RunExists { .. } => "choose another `--out`, or continue it with `--resume`",
            Self::Busy { .. } => {
                "wait for its end, stop it (`kill` with its number: it saves first), or choose another `--out`"
            }
            // A report does without it.
            Self::Json { path, .. } if path.ends_with("audit/audit.json") => "audit the run again, or remove the file",
            Self::Json { .. }
            | Self::Csv { .. }
            | Self::Header { .. }
            | Self::Columns { .. }
            | Self::Cell { .. }
            | Self::EpochCount { .. } => {
                "the file was cut or edited: restore it from a copy, or train again with the config.toml of the run"
            }
            Self::Schema { .. } => "use the version of the program that wrote the run, or a newer one",
            Self::Probability { value, .. } if value.is_nan() => "the training diverged: lower the learning rate",
            Self::Probability { .. } => "pass logits through a sigmoid or softmax first",
            Self::ProbabilityCount { .. } => "the model and the vocabulary have to belong together",
            Self::Target { .. } | Self::Classes { .. } => "targets index the sorted, unique labels",
            Self::ThresholdCount { .. } => "give one threshold, or one for each class",
            Self::Threshold { .. } => "thresholds are probabilities, such as 0.2 or 0.5",
            Self::ModelCard { .. } => "restore `model.json`, it belongs to `model.safetensors`",
            Self::OtherModel { .. } => "`cn-train verify RUN` says what differs; restore it from a copy",
            Self::Link { .. } => "replace it by what it leads to, or remove it",
            Self::OtherPredictions { .. } => {
                "one of the files was changed: restore the table, `summary.json`, or the thresholds in `model.json`"
            }
            Self::Picture { .. } | Self::Png { .. } => return None,
        })
    }
}

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
