use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use indexmap::IndexMap;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::json::{self, nan_as_null};
use super::{atomic::write_atomic, read_bytes};
use crate::error::{Error, Result};

/// Rates and further numbers of all epochs of a run, at most: each is a column of `history.csv`.
const MOST_COLUMNS: usize = 1_000;

/// One epoch: a line of `metrics.jsonl`, a row of `history.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Position in the run, from 0, counted through all phases.
    pub epoch: usize,
    /// Phase of the recipe, from 0.
    pub phase: usize,
    /// Optimizer steps done since the start of the run.
    pub step: u64,
    /// Learning rate of each parameter group at the epoch's last step.
    pub lr: Vec<f64>,
    /// Smoothed training loss at the end of the epoch; not finite is written as `null` and read as NaN.
    #[serde(with = "nan_as_null")]
    pub train_loss: f64,
    /// Mean loss of the validation part; `None` where the epoch was not validated, and after reading one that was not
    /// finite.
    pub val_loss: Option<f64>,
    /// Further numbers by name.
    pub metrics: Metrics,
    /// Wall clock of the epoch, validation included; not finite as above.
    #[serde(with = "nan_as_null")]
    pub seconds: f64,
    /// Training images a second; not finite as above.
    #[serde(with = "nan_as_null")]
    pub img_s: f64,
}

/// Named numbers in the order in which they are shown; a JSON object.
#[derive(Debug, Clone, Default)]
pub struct Metrics(IndexMap<String, f64>);

impl Metrics {
    /// Sets `name` to `value`, at the end if it is new.
    pub fn set(&mut self, name: impl Into<String>, value: f64) {
        self.0.insert(name.into(), value);
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

impl PartialEq for Metrics {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<N: Into<String>> FromIterator<(N, f64)> for Metrics {
    fn from_iter<I: IntoIterator<Item = (N, f64)>>(pairs: I) -> Self {
        let mut metrics = Self::default();
        pairs.into_iter().for_each(|(name, value)| metrics.set(name, value));
        metrics
    }
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(name, value)| (name, value.is_finite().then_some(*value))))
    }
}

impl<'de> Deserialize<'de> for Metrics {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Metrics;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metrics, A::Error> {
                let mut metrics = Metrics::default();
                while let Some((name, value)) = map.next_entry::<String, Option<f64>>()? {
                    metrics.set(name, value.unwrap_or(f64::NAN));
                }
                Ok(metrics)
            }
        }
        from.deserialize_map(Pairs)
    }
}

impl EpochRecord {
    /// The record on one line without a line end, as it stands in `metrics.jsonl`.
    #[must_use]
    pub fn to_json_line(&self) -> String {
        serde_json::to_string(self).expect("a record has string keys")
    }

    /// Reads `metrics.jsonl`. Empty lines are skipped.
    ///
    /// # Errors
    ///
    /// If there is no such file, a line is damaged (the error names line and column), or they have more than 1,000 columns.
    pub fn read_all(path: impl AsRef<Path>) -> Result<Vec<Self>> {
        let path = path.as_ref();
        let bytes = read_bytes(path)?;
        let lines = bytes.split(|&byte| byte == b'\n').zip(1..);
        let records: Vec<Self> = lines
            .filter(|(line, _)| !line.trim_ascii().is_empty())
            .map(|(line, number)| json::parse(line, path, number))
            .collect::<Result<_>>()?;
        Self::check_columns(&records, path)?;
        Ok(records)
    }

    /// Whether these epochs fit a table: they have at most 1,000 rates and further numbers, all names together.
    ///
    /// # Errors
    ///
    /// If they have more; the error names `path`, where they are from.
    pub fn check_columns(records: &[Self], path: impl AsRef<Path>) -> Result<()> {
        let n_groups = records.iter().map(|record| record.lr.len()).max().unwrap_or(0);
        let names: HashSet<&str> =
            records.iter().flat_map(|record| record.metrics.iter()).map(|(name, _)| name).collect();
        match n_groups + names.len() {
            0..=MOST_COLUMNS => Ok(()),
            found => Err(Error::Columns { path: path.as_ref().to_owned(), found, most: MOST_COLUMNS }),
        }
    }

    /// Writes `metrics.jsonl` anew, atomically: a run has few epochs, and no reader ever meets half a line.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write_all(records: &[Self], path: impl AsRef<Path>) -> Result<()> {
        let lines: String = records.iter().map(|record| record.to_json_line() + "\n").collect();
        write_atomic(path, lines.as_bytes())
    }

    /// Writes `history.csv`, atomically: the same records as a table for spreadsheets.
    ///
    /// Columns: `epoch,phase,step,lr_0,..,train_loss,val_loss,<metrics>,seconds,img_s`; a cell is empty where an epoch
    /// has no such value, or one that is not finite.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write_history(records: &[Self], path: impl AsRef<Path>) -> Result<()> {
        write_atomic(path, &history_csv(records))
    }

    /// Reads `history.csv`.
    ///
    /// # Errors
    ///
    /// If there is no such file, it has more than 1,000 columns, or a cell does not hold what its column says; the error
    /// names line and column.
    pub fn read_history(path: impl AsRef<Path>) -> Result<Vec<Self>> {
        let path = path.as_ref();
        let bytes = read_bytes(path)?;
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        let header = reader.headers().map_err(|source| csv_error(path, source))?.clone();
        check_history_header(&header, path)?;
        if header.len() > MOST_COLUMNS + FIXED_COLUMNS {
            let found = header.len() - FIXED_COLUMNS;
            return Err(Error::Columns { path: path.to_owned(), found, most: MOST_COLUMNS });
        }
        let mut records = Vec::new();
        for row in reader.records() {
            let row = row.map_err(|source| csv_error(path, source))?;
            records.push(history_record(&Cells { path, header: &header, row: &row })?);
        }
        Ok(records)
    }
}

/// Columns of `history.csv` beside rates and further numbers.
const FIXED_COLUMNS: usize = 7;

fn history_csv(records: &[EpochRecord]) -> Vec<u8> {
    let n_groups = records.iter().map(|record| record.lr.len()).max().unwrap_or(0);
    let names: Metrics = records.iter().flat_map(|record| record.metrics.iter()).collect();
    let mut header: Vec<String> = ["epoch", "phase", "step"].map(String::from).into();
    header.extend((0..n_groups).map(|group| format!("lr_{group}")));
    header.extend(["train_loss", "val_loss"].map(String::from));
    header.extend(names.iter().map(|(name, _)| name.to_owned()));
    header.extend(["seconds", "img_s"].map(String::from));

    let mut writer = csv::Writer::from_writer(Vec::new());
    let in_memory = "writing to memory does not fail";
    writer.write_record(&header).expect(in_memory);
    for record in records {
        let mut row = vec![record.epoch.to_string(), record.phase.to_string(), record.step.to_string()];
        row.extend((0..n_groups).map(|group| number_cell(record.lr.get(group).copied())));
        row.extend([number_cell(Some(record.train_loss)), number_cell(record.val_loss)]);
        row.extend(names.iter().map(|(name, _)| number_cell(record.metrics.get(name))));
        row.extend([number_cell(Some(record.seconds)), number_cell(Some(record.img_s))]);
        writer.write_record(&row).expect(in_memory);
    }
    writer.into_inner().expect(in_memory)
}

/// The shortest text that reads back as the same number; exponents for the small ones (learning rates).
fn number_cell(value: Option<f64>) -> String {
    match value.filter(|value| value.is_finite()) {
        None => String::new(),
        Some(value) if value != 0.0 && value.abs() < 1e-4 => format!("{value:e}"),
        Some(value) => value.to_string(),
    }
}

fn check_history_header(header: &csv::StringRecord, path: &Path) -> Result<()> {
    let wrong = |column: usize, expected| Error::Header {
        path: path.to_owned(),
        column: column + 1,
        found: header.get(column).unwrap_or_default().to_owned(),
        expected,
    };
    let at = |column: usize| header.get(column);
    let train_loss = 3 + (0..).take_while(|group| at(3 + group) == Some(&format!("lr_{group}"))).count();
    let last = header.len().max(2);
    let fixed = [
        (0, "epoch"),
        (1, "phase"),
        (2, "step"),
        (train_loss, "train_loss"),
        (train_loss + 1, "val_loss"),
        ((last - 2).max(train_loss + 2), "seconds"),
        ((last - 1).max(train_loss + 3), "img_s"),
    ];
    match fixed.into_iter().find(|&(column, name)| at(column) != Some(name)) {
        Some((column, name)) => Err(wrong(column, name)),
        None => Ok(()),
    }
}

/// One row of a table with what its errors need.
struct Cells<'a> {
    path: &'a Path,
    header: &'a csv::StringRecord,
    row: &'a csv::StringRecord,
}

impl Cells<'_> {
    fn parse<T: std::str::FromStr>(&self, column: usize, expected: &'static str) -> Result<T> {
        self.row[column].parse().map_err(|_| Error::Cell {
            path: self.path.to_owned(),
            line: self.row.position().map_or(0, csv::Position::line),
            column: self.header[column].to_owned(),
            found: self.row[column].to_owned(),
            expected,
        })
    }

    fn number(&self, column: usize) -> Result<Option<f64>> {
        match &self.row[column] {
            "" => Ok(None),
            _ => self.parse(column, "a number").map(Some),
        }
    }
}

fn history_record(cells: &Cells<'_>) -> Result<EpochRecord> {
    let n_columns = cells.header.len();
    let n_groups = (0..).take_while(|group| cells.header[3 + group] == format!("lr_{group}")).count();
    let train_loss = 3 + n_groups;
    let mut lr = Vec::new();
    for group in 0..n_groups {
        lr.extend(cells.number(3 + group)?);
    }
    let mut metrics = Metrics::default();
    for column in train_loss + 2..n_columns - 2 {
        if let Some(value) = cells.number(column)? {
            metrics.set(&cells.header[column], value);
        }
    }
    Ok(EpochRecord {
        epoch: cells.parse(0, "a count")?,
        phase: cells.parse(1, "a count")?,
        step: cells.parse(2, "a count")?,
        lr,
        train_loss: cells.number(train_loss)?.unwrap_or(f64::NAN),
        val_loss: cells.number(train_loss + 1)?,
        metrics,
        seconds: cells.number(n_columns - 2)?.unwrap_or(f64::NAN),
        img_s: cells.number(n_columns - 1)?.unwrap_or(f64::NAN),
    })
}

pub(super) fn csv_error(path: &Path, source: csv::Error) -> Error {
    let line = source.position().map_or(1, csv::Position::line);
    Error::Csv { path: path.to_owned(), line, source }
}
