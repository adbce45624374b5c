//! What to do about an error.

use std::path::Path;

use super::Error;
use crate::split::VAL_GROUPS;

const GROUPS_HINT: &str = "name groups of the data set: a comma-separated list, or a file with one on each line";

impl Error {
    /// What a person can do about it; `None` where only the caller's code can be wrong.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        self.hint_on_files().or_else(|| self.hint_on_rows()).or_else(|| self.hint_on_use())
    }

    /// Advice on the files of a data set as a whole.
    fn hint_on_files(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoFolder { .. } => "run `cargo xtask fetch-data`, or pass the folder of the data set with `--data`",
            Self::NotRecognised { .. } => {
                "describe the layout in a `dataset.toml`, or with `--csv`, `--image` and `--label`"
            }
            // What is no file, or longer than any.
            Self::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::Other => {
                "see that it is the file that was meant"
            }
            Self::Unreadable { .. } => "see that it exists, and that you are allowed to read it",
            Self::Unwritable { .. } => "see that you are allowed to write there, and that the disk is not full",
            Self::BadSpec { .. } => {
                "its keys are `name`, `csv`, `image`, `label`, `label_separator`, `display`, `group`, `licence` and \
                 `citation`, each with a text in quotes"
            }
            Self::IncompleteSpec { .. } => "add the key to `dataset.toml`, or pass the flag of that name",
            Self::BadTemplate { .. } | Self::OutsideRoot { .. } => {
                "a template names a file below the data set's folder, as in `images/{id}.jpg`"
            }
            Self::CsvOutside { .. } => "move it below the data set's folder, or name it yourself with `--csv`",
            Self::NameNotUtf8 { .. } => "rename the file",
            Self::NoImages { .. } => "see that the table or the folders name images, or pass another data set",
            Self::ManyLabelsOfOne { .. } | Self::TooManyLabels { .. } => {
                "name the column that holds labels, and what divides several of them (`label_separator`)"
            }
            Self::TooManyImages { .. } => "divide the data set, or leave images out",
            Self::BadImages { .. } => "repair or remove them, or leave them out with `--skip-damaged`",
            Self::TooManyBytes { .. } => "use fewer images, or decode them to a smaller longest side",
            _ => return None,
        })
    }

    /// Advice on the rows of a table, and on labels.
    fn hint_on_rows(&self) -> Option<&'static str> {
        Some(match self {
            Self::EmptyCsv { .. } | Self::NoRows { .. } => {
                "the first line names the columns, and each line below it describes one image"
            }
            Self::NoColumn { .. } => "name one of the columns that exist",
            Self::SameColumn { .. } => "give one of them another name",
            Self::BadCsv { .. } | Self::Utf16 { .. } | Self::NotUtf8 { .. } => "save the table as CSV in UTF-8",
            Self::SeparatorLine { .. } => "take that line out: comma, semicolon and tab are told apart without it",
            Self::OpenQuote { .. } => "close it, or write the field in quotes and each quote within it twice",
            Self::RowLength { .. } => "quote fields that hold the separator or a line break",
            Self::EmptyField { .. } => {
                "fill the field in, or leave the row out; where labels are divided (`label_separator`), an empty field of \
                 labels is an image without any"
            }
            Self::LongLine { .. } => "end each row with a line break",
            Self::ManyColumns { .. } => "leave out the columns that are not needed",
            Self::LongField { .. } => {
                "name another column, or write shorter names; several labels in one field need `label_separator`"
            }
            Self::LongPath { .. } => "name the columns that make the image's path",
            Self::LongPaths { .. } => "move the images nearer to the table, so that the template is shorter",
            Self::NoLabels { .. } => "name the column that holds labels",
            Self::DuplicateRow { .. } => {
                "keep one row an image; several labels go into one field, see `label_separator`"
            }
            Self::DuplicateRecord { .. } => "list each image once, with all its labels",
            Self::DisplayConflict { .. } | Self::DisplayCount { .. } => "`display` must give each label one name",
            Self::UnknownLabel { .. } => {
                "the vocabulary is that of the training part: add images of that label to it, or split in another way"
            }
            Self::DuplicateLabel { .. } => "list each label once",
            _ => return None,
        })
    }

    /// Advice on what the images are to be used for: splits, limits and batches.
    fn hint_on_use(&self) -> Option<&'static str> {
        Some(match self {
            Self::EmptyPart { method, part: "validation", .. } if method == VAL_GROUPS => GROUPS_HINT,
            Self::NoSuchGroup { group, .. } if looks_like_a_file(group) => GROUPS_HINT,
            Self::NoSuchGroup { .. } => "name groups as the data set does",
            Self::EmptyPart { .. } => "use more images, or another validation share",
            Self::BadFraction { .. } => "a fifth of the images is `--val-fraction 0.2`",
            Self::GroupUnknown { .. } => {
                "name the column that holds the group with `group` or `--group` and fill its empty fields, or split at random"
            }
            Self::TooFewGroups { .. } => "use fewer folds, more images, or split at random",
            Self::BadFold { .. } => "five folds are `kfold:5/0` to `kfold:5/4`",
            Self::NoFixedParts { .. } => {
                "lay the images out as `train/<label>/` and `val/<label>/`, or use another split"
            }
            Self::UnknownMethod { .. } => "`group` shares no group between the parts; `random` needs none",
            Self::LimitZero => "take at least 1, or set no limit",
            Self::BatchSizeZero => "64 images are a usual batch",
            Self::BatchTooLarge { .. } => "use a smaller batch or more images",
            _ => return None,
        })
    }
}

/// Whether someone may have meant a file of groups, and no group.
fn looks_like_a_file(group: &str) -> bool {
    let extension = Path::new(group).extension().and_then(|e| e.to_str());
    let known = |e: &str| ["txt", "csv", "tsv", "list", "json", "toml"].iter().any(|k| e.eq_ignore_ascii_case(k));
    group.trim().is_empty() || group.contains(['/', '\\']) || extension.is_some_and(known)
}
