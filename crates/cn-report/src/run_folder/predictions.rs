use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::epochs::csv_error;
use super::{MOST_OF_IMAGES, atomic::write_atomic, read_at_most};
use crate::error::{Error, Result};

/// The columns before the classes.
const FIXED: [&str; 3] = ["path", "group", "targets"];
/// Classes of a table that is read, as many as a data set may have.
const MOST_CLASSES: usize = 50_000;
/// Precedes a label in the header, so that a class may be called `path`.
const CLASS_PREFIX: &str = "p:";

/// What a model said about one image, beside what is true.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Path relative to the data root, with `/`.
    pub path: String,
    /// Who made the image (the writer), where the data say so.
    pub group: Option<String>,
    /// The true classes: indices into [`Predictions::classes`].
    pub targets: Vec<usize>,
    /// A probability for each class.
    pub probabilities: Vec<f32>,
}

impl Prediction {
    /// The class of the highest probability; of equal ones the first.
    ///
    /// 0 if there are no probabilities.
    #[must_use]
    pub fn most_probable(&self) -> usize {
        self.most_probable_of(0..self.probabilities.len()).unwrap_or(0)
    }

    /// The same among some classes in ascending order.
    pub(crate) fn most_probable_of(&self, classes: impl IntoIterator<Item = usize>) -> Option<usize> {
        let p = |class: usize| self.probabilities[class];
        classes.into_iter().reduce(|best, class| if p(class) > p(best) { class } else { best })
    }
}

/// A table of predictions, `predictions.csv`: everything that the numbers of this crate are computed from.
///
/// Always sound: targets are valid, sorted and unique, probabilities lie in 0..=1 and are as many as the classes.
///
/// The file is CSV (RFC 4180, UTF-8) with the columns `path`, `group`, `targets` and one `p:<label>` a class.
/// `targets` holds the true labels divided by `|`; inside a label `|` and `\` are preceded by `\`, and an empty label
/// is `\e`. Probabilities are written so that they read back bit for bit.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    classes: Vec<String>,
    rows: Vec<Prediction>,
}

impl Predictions {
    /// An empty table for these class labels, in the order of the model's outputs.
    ///
    /// # Errors
    ///
    /// [`Error::Classes`] if there is none, or one twice.
    pub fn new<L: Into<String>>(classes: impl IntoIterator<Item = L>) -> Result<Self> {
        let classes: Vec<String> = classes.into_iter().map(Into::into).collect();
        let n_classes = classes.len();
        if n_classes == 0 {
            return Err(Error::Classes { n_classes, problem: "at least one is needed".into() });
        }
        let mut seen = HashSet::new();
        if let Some(label) = classes.iter().find(|label| !seen.insert(*label)) {
            return Err(Error::Classes { n_classes, problem: format!("`{label}` stands there twice") });
        }
        Ok(Self { classes, rows: Vec::new() })
    }

    /// Adds one image. Targets are sorted, doubled ones dropped; a group of empty text counts as none.
    ///
    /// # Errors
    ///
    /// If a probability is NaN or outside 0..=1, their count is not that of the classes, or a target is no class; each
    /// names the image.
    pub fn push(&mut self, mut row: Prediction) -> Result<()> {
        let n_classes = self.classes.len();
        let image = || row.path.clone();
        if row.probabilities.len() != n_classes {
            let found = row.probabilities.len();
            return Err(Error::ProbabilityCount { image: image(), found, expected: n_classes });
        }
        if let Some(&target) = row.targets.iter().find(|&&target| target >= n_classes) {
            return Err(Error::Target { image: image(), target, n_classes });
        }
        let unsound = row.probabilities.iter().position(|p| !(0.0..=1.0).contains(p));
        if let Some(class) = unsound {
            let value = row.probabilities[class];
            return Err(Error::Probability { image: image(), class: self.classes[class].clone(), value });
        }
        row.targets.sort_unstable();
        row.targets.dedup();
        row.group = row.group.filter(|group| !group.is_empty());
        self.rows.push(row);
        Ok(())
    }

    /// Labels of the classes, in the order of the model's outputs.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The images, in the order in which they were added.
    #[must_use]
    pub fn rows(&self) -> &[Prediction] {
        &self.rows
    }

    /// Whether every image has exactly one true class: then classes can be confused with each other.
    #[must_use]
    pub fn is_single_label(&self) -> bool {
        self.rows.iter().all(|row| row.targets.len() == 1)
    }

    /// Writes `predictions.csv`, atomically.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        write_atomic(path, &self.to_csv())
    }

    /// Reads `predictions.csv`.
    ///
    /// # Errors
    ///
    /// If there is no such file or something in it is not as described at [`Predictions`]; the error names line and
    /// column.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read_at_most(path, MOST_OF_IMAGES)?;
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        let header = reader.headers().map_err(|source| csv_error(path, source))?;
        let mut table = Self::new(classes_of(header, path)?)?;
        let class_of = index_of(&table.classes.clone());
        for record in reader.records() {
            let record = record.map_err(|source| csv_error(path, source))?;
            let row = parse_row(&record, &table.classes, &class_of, path)?;
            table.push(row)?;
        }
        Ok(table)
    }

    fn to_csv(&self) -> Vec<u8> {
        let in_memory = "writing to memory does not fail";
        let mut writer = csv::Writer::from_writer(Vec::new());
        let classes = self.classes.iter().map(|label| format!("{CLASS_PREFIX}{label}"));
        writer.write_record(FIXED.map(String::from).into_iter().chain(classes)).expect(in_memory);
        for row in &self.rows {
            let labels: Vec<String> = row.targets.iter().map(|&i| escape(&self.classes[i])).collect();
            let fixed = [row.path.clone(), row.group.clone().unwrap_or_default(), labels.join("|")];
            let probabilities = row.probabilities.iter().map(|&p| probability_cell(p));
            writer.write_record(fixed.into_iter().chain(probabilities)).expect(in_memory);
        }
        writer.into_inner().expect(in_memory)
    }
}

fn index_of(classes: &[String]) -> HashMap<String, usize> {
    classes.iter().cloned().zip(0..).collect()
}

fn classes_of(header: &csv::StringRecord, path: &Path) -> Result<Vec<String>> {
    let wrong = |column: usize, expected| Error::Header {
        path: path.to_owned(),
        column: column + 1,
        found: header.get(column).unwrap_or_default().to_owned(),
        expected,
    };
    for (column, name) in FIXED.into_iter().enumerate() {
        if header.get(column) != Some(name) {
            return Err(wrong(column, name));
        }
    }
    let found = header.len() - FIXED.len();
    if found > MOST_CLASSES {
        return Err(Error::Columns { path: path.to_owned(), found, most: MOST_CLASSES });
    }
    let labels = header.iter().enumerate().skip(FIXED.len()).map(|(column, name)| {
        let label = name.strip_prefix(CLASS_PREFIX).map(str::to_owned);
        label.ok_or_else(|| wrong(column, "`p:` and a class label"))
    });
    let labels = labels.collect::<Result<Vec<_>>>()?;
    let mut seen = HashMap::new();
    for (column, label) in labels.iter().enumerate() {
        if seen.insert(label, column).is_some() {
            return Err(wrong(FIXED.len() + column, "each class once"));
        }
    }
    if labels.is_empty() { Err(wrong(FIXED.len(), "`p:` and a class label")) } else { Ok(labels) }
}

fn parse_row(
    record: &csv::StringRecord,
    classes: &[String],
    class_of: &HashMap<String, usize>,
    path: &Path,
) -> Result<Prediction> {
    let wrong = |column: String, found: &str, expected| Error::Cell {
        path: path.to_owned(),
        line: record.position().map_or(0, csv::Position::line),
        column,
        found: found.to_owned(),
        expected,
    };
    let targets = unescape_all(&record[2])
        .and_then(|labels| labels.iter().map(|label| class_of.get(label).copied()).collect())
        .ok_or_else(|| wrong(FIXED[2].into(), &record[2], "labels of the header divided by `|`"))?;
    let cells = record.iter().skip(FIXED.len()).zip(classes);
    let probabilities = cells.map(|(cell, label)| {
        let value = cell.parse::<f32>().ok().filter(|p| (0.0..=1.0).contains(p));
        value.ok_or_else(|| wrong(format!("{CLASS_PREFIX}{label}"), cell, "a probability"))
    });
    Ok(Prediction {
        path: record[0].to_owned(),
        group: Some(record[1].to_owned()),
        targets,
        probabilities: probabilities.collect::<Result<_>>()?,
    })
}

/// The shortest text that reads back as the same f32; exponents keep 1e-30 short.
fn probability_cell(p: f32) -> String {
    if p != 0.0 && p < 1e-4 { format!("{p:e}") } else { p.to_string() }
}

fn escape(label: &str) -> String {
    match label {
        "" => r"\e".into(),
        _ => label.replace('\\', r"\\").replace('|', r"\|"),
    }
}

/// The labels of a `targets` cell; `None` if a backslash precedes what it cannot.
fn unescape_all(cell: &str) -> Option<Vec<String>> {
    if cell.is_empty() {
        return Some(Vec::new());
    }
    let mut labels = vec![String::new()];
    let mut chars = cell.chars();
    while let Some(c) = chars.next() {
        let label = labels.last_mut()?;
        match c {
            '|' => labels.push(String::new()),
            '\\' => match chars.next()? {
                escaped @ ('\\' | '|') => label.push(escaped),
                'e' => {} // An empty label has no text of its own.
                _ => return None,
            },
            _ => label.push(c),
        }
    }
    Some(labels)
}
