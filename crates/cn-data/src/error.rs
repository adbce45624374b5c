//! What can be wrong with a data set, and what to do about it.

use std::{io, path::PathBuf};

use crate::pixels::BadImage;

mod hints;

/// Result with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a data set cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder of the data set is missing or no folder.
    #[error("there is no folder `{}`", path.display())]
    NoFolder {
        /// The folder asked for.
        path: PathBuf,
    },
    /// The folder has none of the known layouts.
    #[error(
        "`{}` holds no `dataset.toml`, no `chinese_mnist.csv`, no `train/<label>/` and no `<label>/` with images",
        path.display()
    )]
    NotRecognised {
        /// The folder.
        path: PathBuf,
    },
    /// A file or folder of the data set cannot be read.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write `{}`", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A `dataset.toml` that is not as documented.
    #[error("`{}` is not a valid description of a data set", path.display())]
    BadSpec {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A description of a data set that lacks a part.
    #[error("the description of the data set `{}` lacks `{missing}`", path.display())]
    IncompleteSpec {
        /// The folder of the data set.
        path: PathBuf,
        /// Key of `dataset.toml`.
        missing: &'static str,
    },
    /// A description whose table would lie outside the data set.
    #[error("`{}` names the table `{}`, which lies outside the data set", path.display(), csv.display())]
    CsvOutside {
        /// The description.
        path: PathBuf,
        /// The table.
        csv: PathBuf,
    },
    /// An image template that cannot be read.
    #[error("the image template `{template}` {problem}")]
    BadTemplate {
        /// The template.
        template: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A row whose image would lie outside the data set.
    #[error("`{}` line {line}: the image `{image}` lies outside the data set", path.display())]
    OutsideRoot {
        /// The CSV file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// The path that the template gave.
        image: String,
    },
    /// A CSV file that the reader gives up on.
    #[error("`{}` is not a valid CSV file", path.display())]
    BadCsv {
        /// The CSV file.
        path: PathBuf,
        /// Where and why.
        source: Box<csv::Error>,
    },
    /// A quote that no other one closes: the rest of the table would be one field.
    #[error("`{}` line {line}: a field begins with a quote that is never closed", path.display())]
    OpenQuote {
        /// The CSV file.
        path: PathBuf,
        /// Line of the quote, from 1.
        line: u64,
    },
    /// A CSV file in UTF-16.
    #[error("`{}` is in UTF-16, expected UTF-8", path.display())]
    Utf16 {
        /// The CSV file.
        path: PathBuf,
    },
    /// A CSV file that begins with the separator, as some spreadsheets want it.
    #[error("the first line of `{}` names a separator (`sep=`) instead of columns", path.display())]
    SeparatorLine {
        /// The CSV file.
        path: PathBuf,
    },
    /// Bytes that are no UTF-8.
    #[error("`{}` line {line}: the text is not valid UTF-8", path.display())]
    NotUtf8 {
        /// The CSV file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
    },
    /// A file name that is no UTF-8 and could not be listed.
    #[error("the name of `{}` is not valid UTF-8", path.display())]
    NameNotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// A CSV file without even a header.
    #[error("`{}` is empty: it has no header", path.display())]
    EmptyCsv {
        /// The CSV file.
        path: PathBuf,
    },
    /// A CSV file with a header alone.
    #[error("`{}` lists no images: it has no row below its header", path.display())]
    NoRows {
        /// The CSV file.
        path: PathBuf,
    },
    /// A column that the CSV does not have.
    #[error("`{}` has no column `{column}`, only {}", path.display(), quoted(columns))]
    NoColumn {
        /// The CSV file.
        path: PathBuf,
        /// The column asked for.
        column: String,
        /// The columns that exist, in order.
        columns: Vec<String>,
    },
    /// Two columns of the name that is asked for.
    #[error("`{}` has several columns called `{column}`", path.display())]
    SameColumn {
        /// The CSV file.
        path: PathBuf,
        /// The column asked for.
        column: String,
    },
    /// A row that is longer or shorter than the header.
    #[error("`{}` line {line}: {}, the header has {expected}", path.display(), counted(*found, "field"))]
    RowLength {
        /// The CSV file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Fields of the header.
        expected: usize,
        /// Fields of the row.
        found: usize,
    },
    /// A field that must hold something.
    #[error("`{}` line {line}: the column `{column}` is empty", path.display())]
    EmptyField {
        /// The CSV file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// The column.
        column: String,
    },
    /// A row that is longer than any table needs.
    #[error("`{}`: the row from line {line} on has more than {max} bytes", path.display())]
    LongLine {
        /// The CSV file.
        path: PathBuf,
        /// Line on which it begins, from 1.
        line: u64,
        /// The limit.
        max: usize,
    },
    /// A table of more columns than any has.
    #[error("`{}` has {n} columns, and at most {max} are read", path.display())]
    ManyColumns {
        /// The CSV file.
        path: PathBuf,
        /// Columns of the header.
        n: usize,
        /// The limit.
        max: usize,
    },
    /// A field that is too long for a name.
    #[error("`{}` line {line}: the column `{column}` has {length} characters, more than the {max} of a name", path.display())]
    LongField {
        /// The CSV file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// The column.
        column: String,
        /// Characters of the field.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// A row whose path is longer than any that can be opened.
    #[error("`{}` line {line}: the path of its image has more than {max} bytes", path.display())]
    LongPath {
        /// The CSV file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// The limit.
        max: usize,
    },
    /// Paths that take many times what the table does.
    #[error("`{}`: up to line {line}, the paths of its images have {bytes} bytes, many times the table's own", path.display())]
    LongPaths {
        /// The CSV file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Bytes of the paths so far.
        bytes: u64,
    },
    /// A column of labels that holds none.
    #[error("`{}` has no label in the column `{column}`", path.display())]
    NoLabels {
        /// The CSV file.
        path: PathBuf,
        /// The column.
        column: String,
    },
    /// Two rows for one image.
    #[error("`{}` line {line}: the image `{image}` was already listed on line {first_line}", path.display())]
    DuplicateRow {
        /// The CSV file.
        path: PathBuf,
        /// Line of the second one, from 1.
        line: u64,
        /// Line of the first one, from 1.
        first_line: u64,
        /// The image.
        image: String,
    },
    /// One label with two names for people.
    #[error(
        "`{}` line {line}: the label `{label}` is displayed as `{second}`, further up as `{first}`",
        path.display()
    )]
    DisplayConflict {
        /// The CSV file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// The label.
        label: String,
        /// Its first name.
        first: String,
        /// Its second name.
        second: String,
    },
    /// As many labels as display names are needed in a row.
    #[error("`{}` line {line}: {} but {}", path.display(), counted(*labels, "label"), counted(*names, "display name"))]
    DisplayCount {
        /// The CSV file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Number of labels.
        labels: usize,
        /// Number of display names.
        names: usize,
    },
    /// Two records of one image.
    #[error("the image `{image}` is listed twice")]
    DuplicateRecord {
        /// The image.
        image: String,
    },
    /// A data set without images.
    #[error("the data set `{}` lists no images", path.display())]
    NoImages {
        /// CSV file, folder or name.
        path: PathBuf,
    },
    /// More images than the splits can number.
    #[error("{n} images are more than the {max} that can be handled")]
    TooManyImages {
        /// Images listed.
        n: usize,
        /// The limit.
        max: usize,
    },
    /// More labels of one image than it may have.
    #[error("`{}` line {line}: an image with more than {max} labels", path.display())]
    ManyLabelsOfOne {
        /// The CSV file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// The limit.
        max: usize,
    },
    /// More labels than a model has outputs for.
    #[error("{n} labels are more than the {max} that can be handled")]
    TooManyLabels {
        /// Labels listed.
        n: usize,
        /// The limit.
        max: usize,
    },
    /// A label that the vocabulary lacks.
    #[error("the label `{label}` of `{image}` is not among the {n_classes} classes of the vocabulary")]
    UnknownLabel {
        /// The label.
        label: String,
        /// The image that has it.
        image: String,
        /// Classes of the vocabulary.
        n_classes: usize,
    },
    /// A vocabulary that names a class twice.
    #[error("the vocabulary lists the label `{label}` twice")]
    DuplicateLabel {
        /// The label.
        label: String,
    },
    /// A split with nothing on one side.
    #[error("the split `{method}` of {} leaves the {part} part empty", counted(*n, "image"))]
    EmptyPart {
        /// The split.
        method: String,
        /// Images to split.
        n: usize,
        /// `training` or `validation`.
        part: &'static str,
    },
    /// A share that is not between 0 and 1.
    #[error("the validation share {fraction} is not between 0 and 1")]
    BadFraction {
        /// The share.
        fraction: f64,
    },
    /// A split by group of a data set without groups.
    #[error("the group of `{image}` is unknown, and the split `{method}` needs one for every image")]
    GroupUnknown {
        /// The first image without a group.
        image: String,
        /// The split.
        method: String,
    },
    /// Too few groups to divide.
    #[error("{} cannot be divided into {parts} parts", counted(*groups, "group"))]
    TooFewGroups {
        /// Groups there are.
        groups: usize,
        /// Parts asked for.
        parts: usize,
    },
    /// A group that no image has.
    #[error("there is no group `{group}`{} among the {n_groups}", nearest_clause(nearest.as_ref()))]
    NoSuchGroup {
        /// The group asked for.
        group: String,
        /// The most similar one.
        nearest: Option<String>,
        /// Groups there are.
        n_groups: usize,
    },
    /// A fold that does not exist.
    #[error("fold {fold} of {k}: `k` must be at least 2, and folds count from 0 to `k` - 1")]
    BadFold {
        /// Number of folds.
        k: u32,
        /// The fold asked for.
        fold: u32,
    },
    /// A split by folders of a data set without `train` and `val`.
    #[error("the data set `{name}` has no validation part of its own")]
    NoFixedParts {
        /// Name of the data set.
        name: String,
    },
    /// A split that does not exist.
    #[error("`{text}` is no split: expected `random`, `group`, `stratified`, `kfold:K/I` or `fixed`")]
    UnknownMethod {
        /// What was asked for.
        text: String,
    },
    /// An image in both parts, twice in one, or one that does not exist.
    #[error("image {id} of {n} stands twice in the split, or does not exist")]
    BadParts {
        /// The image.
        id: u32,
        /// Images of the data set.
        n: usize,
    },
    /// A limit of 0.
    #[error("a limit of 0 images leaves nothing")]
    LimitZero,
    /// A batch of 0 images.
    #[error("the batch size must be at least 1")]
    BatchSizeZero,
    /// A batch that the training part cannot fill.
    #[error("a batch of {batch_size} images cannot be filled from a training part of {n}")]
    BatchTooLarge {
        /// Images a batch.
        batch_size: usize,
        /// Images of the part.
        n: usize,
    },
    /// Images that cannot be decoded, all of them.
    #[error("{} of {n} images cannot be used:{}", bad.len(), crate::pixels::listing(bad))]
    BadImages {
        /// The images with their reasons, in the order of the index.
        bad: Vec<BadImage>,
        /// Images asked for.
        n: usize,
    },
    /// More decoded pixels than allowed.
    #[error("the decoded images take more than the {limit} bytes allowed")]
    TooManyBytes {
        /// The limit.
        limit: u64,
    },
    /// Pixels that do not fit their description.
    #[error("{what}: expected {expected}, found {found}")]
    Mismatch {
        /// What is counted.
        what: &'static str,
        /// As it should be.
        expected: usize,
        /// As it is.
        found: usize,
    },
}

/// `1 image`, `2 images`.
fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// `a`, `b` and `c`, each in backticks, as far as a person reads on.
fn quoted(names: &[String]) -> String {
    const MOST: usize = 20;
    const LONGEST: usize = 60;
    let quote = |name: &String| match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("`{}...`", &name[..end]),
        None => format!("`{name}`"),
    };
    let more = if names.len() > MOST { format!(" and {} more", names.len() - MOST) } else { String::new() };
    names.iter().take(MOST).map(quote).collect::<Vec<_>>().join(", ") + &more
}

fn nearest_clause(nearest: Option<&String>) -> String {
    nearest.map(|name| format!(" (nearest: `{name}`)")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Spec;

    #[test]
    fn numbers_and_nouns_agree() {
        let text = |n| Error::EmptyPart { method: "stratified".into(), n, part: "training" }.to_string();
        assert_eq!(text(1), "the split `stratified` of 1 image leaves the training part empty");
        assert_eq!(text(2), "the split `stratified` of 2 images leaves the training part empty");
        assert_eq!(Error::TooFewGroups { groups: 1, parts: 5 }.to_string(), "1 group cannot be divided into 5 parts");
    }

    /// The advice on a bad `dataset.toml` names the keys that the reader takes.
    #[test]
    fn the_keys_in_the_hint_are_those_of_a_description() {
        let source = toml::from_str::<Spec>("key = 1").expect_err("no such key");
        let listed = source.to_string();
        let hint = Error::BadSpec { path: "dataset.toml".into(), source: Box::new(source) }.hint().expect("a hint");
        let keys: Vec<_> = hint.split('`').skip(1).step_by(2).collect();
        assert_eq!(keys.len(), 9);
        for key in keys {
            assert!(listed.contains(&format!("`{key}`")), "{key}: {listed}");
        }
    }
}
