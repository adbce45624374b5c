//! An index from a CSV file: tolerant of how programs write them, strict about what they say.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    str,
};

use csv::{ByteRecord, ReaderBuilder, Trim};

use crate::{
    Digest, Error, Record, Result, Spec,
    index::Found,
    load::read_whole,
    template::{MAX_PATH, Template, stays_inside},
};

/// Characters of a label, of how it is shown, and of a group, at most.
const MAX_NAME: usize = 1000;

/// Labels of an image, at most.
const MAX_LABELS: usize = 1000;

/// Bytes of a table, at most: some ten million rows.
const MAX_TABLE: u64 = 1 << 30;
/// Bytes of the paths of a table, at most, for each of its own, and beside these: a template can make much of little.
const PATHS_PER_BYTE: u64 = 16;
const MORE_PATHS: u64 = 16 << 20;
/// Columns of a table, at most.
const MAX_COLUMNS: usize = 10_000;
/// Bytes of a row, at most: each field of it takes many times its own size until it is looked at.
const MAX_LINE: usize = 1 << 20;

/// Reads the table `path` of the data set in `folder` as `spec` describes it.
pub(crate) fn read(folder: &Path, path: &Path, spec: &Spec) -> Result<Found> {
    let needed = |value: &Option<String>, missing| {
        value.clone().ok_or_else(|| Error::IncompleteSpec { path: folder.to_owned(), missing })
    };
    let template = Template::parse(&needed(&spec.image, "image")?)?;
    let label = needed(&spec.label, "label")?;
    let bytes = read_whole(path, MAX_TABLE).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
    let text = text_of(path, &bytes)?;
    if text.trim_ascii().is_empty() {
        return Err(Error::EmptyCsv { path: path.to_owned() });
    }

    let delimiter = delimiter(text);
    check_rows(path, text, delimiter)?;
    let mut reader =
        ReaderBuilder::new().delimiter(delimiter).has_headers(false).flexible(true).trim(Trim::All).from_reader(text);
    let mut row = ByteRecord::new();
    let mut next = |row: &mut ByteRecord| {
        reader.read_byte_record(row).map_err(|e| Error::BadCsv { path: path.to_owned(), source: Box::new(e) })
    };
    next(&mut row)?;
    if row.len() > MAX_COLUMNS {
        return Err(Error::ManyColumns { path: path.to_owned(), n: row.len(), max: MAX_COLUMNS });
    }
    let header = Header::of(path, text, &row)?;
    let mut rows = Rows::new(&header, spec, &template, &label)?;
    while next(&mut row)? {
        rows.add(&row)?;
    }
    let Rows { records, display, .. } = rows;
    if records.is_empty() {
        return Err(Error::NoRows { path: path.to_owned() });
    }
    if records.iter().all(|record| record.labels.is_empty()) {
        return Err(Error::NoLabels { path: path.to_owned(), column: label });
    }
    Ok(Found { records, display, fixed_val: None, table_sha256: Some(Digest::of(&bytes)) })
}

/// The bytes without a byte order mark; UTF-16 and the line `sep=;` are refused by name, since their errors would be hard
/// to read.
fn text_of<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a [u8]> {
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err(Error::Utf16 { path: path.to_owned() });
    }
    let text = bytes.strip_prefix(&[0xEF, 0xBB, 0xBF]).unwrap_or(bytes);
    if names_separator(text) { Err(Error::SeparatorLine { path: path.to_owned() }) } else { Ok(text) }
}

/// Whether the first line is `sep=` with a character, for spreadsheets, perhaps written anew by one.
fn names_separator(text: &[u8]) -> bool {
    let line = text.trim_ascii_start().split(|c| *c == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = line.strip_prefix(b"\"").unwrap_or(line);
    let Some((name, [_, rest @ ..])) = line.split_at_checked(4) else { return false };
    name.eq_ignore_ascii_case(b"sep=") && rest.iter().all(|c| b"\",; \t".contains(c))
}

/// Comma, or the semicolon or tab that some programs write, whichever the header has most of.
fn delimiter(text: &[u8]) -> u8 {
    let header = text.split(|&c| c == b'\n').find(|line| !line.trim_ascii().is_empty()).unwrap_or(&[]);
    let mut quoted = false;
    let mut counts = [(0, b','), (0, b';'), (0, b'\t')];
    for &c in header {
        quoted ^= c == b'"';
        if !quoted {
            counts.iter_mut().filter(|(_, d)| *d == c).for_each(|(n, _)| *n += 1);
        }
    }
    // The first one wins a draw: `max_by_key` returns the last.
    counts.iter().rev().max_by_key(|(n, _)| *n).map_or(b',', |(_, d)| *d)
}

/// Refuses a quote that begins a field and is never closed, and rows that are too long, also those whose quoted fields
/// hold line breaks.
fn check_rows(path: &Path, text: &[u8], delimiter: u8) -> Result<()> {
    // The quote that is open, or was closed right before.
    let (mut open, mut closed, mut begins) = (None, None, true);
    let (mut start, mut long) = (0, None);
    for (at, &c) in text.iter().enumerate() {
        match (c, open) {
            (b'"', Some(_)) => closed = open.take(),
            (b'"', None) if begins => (open, begins) = (Some(at), false),
            // Two of them within a field are one that belongs to it.
            (b'"', None) if closed.is_some() => open = closed.take(),
            (_, None) => (closed, begins) = (None, c == delimiter || c == b'\n' || c == b'\r'),
            (_, Some(_)) => {}
        }
        if open.is_none() && matches!(c, b'\n' | b'\r') {
            start = at + 1;
        } else if at - start >= MAX_LINE {
            long = long.or(Some(start));
        }
    }
    let line = |at: usize| line_at(text, at as u64);
    if let Some(at) = open {
        return Err(Error::OpenQuote { path: path.to_owned(), line: line(at) });
    }
    long.map_or(Ok(()), |at| Err(Error::LongLine { path: path.to_owned(), line: line(at), max: MAX_LINE }))
}

/// The table and the names of its columns.
struct Header<'a> {
    path: &'a Path,
    text: &'a [u8],
    names: Vec<String>,
}

impl<'a> Header<'a> {
    fn of(path: &'a Path, text: &'a [u8], row: &ByteRecord) -> Result<Self> {
        let names = row.iter().map(|name| str::from_utf8(name).map(str::to_owned)).collect::<Result<_, _>>();
        let names = names.map_err(|_| Error::NotUtf8 { path: path.to_owned(), line: line_at(text, offset_of(row)) })?;
        Ok(Self { path, text, names })
    }

    fn position(&self, column: &str) -> Result<usize> {
        let (path, wanted) = (|| self.path.to_owned(), || column.to_owned());
        let mut found = self.names.iter().enumerate().filter(|(_, name)| *name == column).map(|(at, _)| at);
        match (found.next(), found.next()) {
            (Some(at), None) => Ok(at),
            (Some(_), Some(_)) => Err(Error::SameColumn { path: path(), column: wanted() }),
            (None, _) => Err(Error::NoColumn { path: path(), column: wanted(), columns: self.names.clone() }),
        }
    }
}

/// The rows read so far, and how to read the next.
struct Rows<'a> {
    header: &'a Header<'a>,
    template: &'a Template,
    template_columns: Vec<usize>,
    label: usize,
    separator: Option<&'a str>,
    display_column: Option<usize>,
    group: Option<usize>,
    records: Vec<Record>,
    display: BTreeMap<String, String>,
    offset_of_image: HashMap<String, u64>,
    bytes_of_paths: u64,
}

impl<'a> Rows<'a> {
    fn new(header: &'a Header<'a>, spec: &'a Spec, template: &'a Template, label: &str) -> Result<Self> {
        let optional = |column: &Option<String>| column.as_ref().map(|name| header.position(name)).transpose();
        Ok(Self {
            header,
            template,
            template_columns: template.columns().map(|name| header.position(name)).collect::<Result<_>>()?,
            label: header.position(label)?,
            separator: spec.label_separator.as_deref().filter(|s| !s.is_empty()),
            display_column: optional(&spec.display)?,
            group: optional(&spec.group)?,
            records: Vec::new(),
            display: BTreeMap::new(),
            offset_of_image: HashMap::new(),
            bytes_of_paths: 0,
        })
    }

    fn add(&mut self, row: &ByteRecord) -> Result<()> {
        let at = offset_of(row);
        // Spreadsheets write rows of nothing but separators below the table.
        if row.iter().all(<[u8]>::is_empty) {
            return Ok(());
        }
        let fields = self.fields(row, at)?;
        let image = self.image(&fields, at)?;
        let labels = self.labels(&fields, at)?;
        if let Some(column) = self.display_column {
            self.show(&labels, fields[column], at)?;
        }
        // `./a` is `a`.
        let parts: Vec<&str> = image.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if let Some(first) = self.offset_of_image.insert(parts.join("/"), at) {
            return Err(Error::DuplicateRow {
                path: self.path(),
                line: self.line(at),
                first_line: self.line(first),
                image,
            });
        }
        let group = self.group.filter(|&column| !fields[column].is_empty());
        let group = group.map(|column| self.name(fields[column], column, at)).transpose()?;
        self.records.push(Record { path: image, labels, group });
        Ok(())
    }

    fn fields<'r>(&self, row: &'r ByteRecord, at: u64) -> Result<Vec<&'r str>> {
        let (expected, found) = (self.header.names.len(), row.len());
        if expected != found {
            return Err(Error::RowLength { path: self.path(), line: self.line(at), expected, found });
        }
        let text = |field| str::from_utf8(field).map_err(|_| Error::NotUtf8 { path: self.path(), line: self.line(at) });
        row.iter().map(text).collect()
    }

    fn image(&mut self, fields: &[&str], at: u64) -> Result<String> {
        if let Some(&column) = self.template_columns.iter().find(|&&column| fields[column].is_empty()) {
            return Err(self.empty(column, at));
        }
        let image = self.template.render(&mut |i| fields[self.template_columns[i]]);
        let image = image.ok_or_else(|| Error::LongPath { path: self.path(), line: self.line(at), max: MAX_PATH })?;
        self.bytes_of_paths += image.len() as u64;
        if self.bytes_of_paths > MORE_PATHS + PATHS_PER_BYTE * self.header.text.len() as u64 {
            return Err(Error::LongPaths { path: self.path(), line: self.line(at), bytes: self.bytes_of_paths });
        }
        if stays_inside(&image) {
            Ok(image)
        } else {
            Err(Error::OutsideRoot { path: self.path(), line: self.line(at), image })
        }
    }

    fn labels(&self, fields: &[&str], at: u64) -> Result<Vec<String>> {
        let mut seen = HashSet::new();
        let found = divide(fields[self.label], self.separator).filter(|label| seen.insert(*label));
        let found = found.take(MAX_LABELS + 1);
        let labels: Vec<String> = found.map(|label| self.name(label, self.label, at)).collect::<Result<_>>()?;
        if labels.len() > MAX_LABELS {
            return Err(Error::ManyLabelsOfOne { path: self.path(), line: self.line(at), max: MAX_LABELS });
        }
        // Where labels are divided, none is a number of labels too, as in fastai.
        if labels.is_empty() && self.separator.is_none() { Err(self.empty(self.label, at)) } else { Ok(labels) }
    }

    /// Notes how the labels of a row are shown.
    fn show(&mut self, labels: &[String], names: &str, at: u64) -> Result<()> {
        let separator = if labels.len() > 1 { self.separator } else { None };
        let names: Vec<_> = divide(names, separator).collect();
        if names.len() != labels.len() {
            let (labels, names) = (labels.len(), names.len());
            return Err(Error::DisplayCount { path: self.path(), line: self.line(at), labels, names });
        }
        for (label, &name) in labels.iter().zip(&names) {
            match self.display.get(label) {
                Some(first) if first != name => {
                    let (label, first, second) = (label.clone(), first.clone(), name.to_owned());
                    return Err(Error::DisplayConflict {
                        path: self.path(),
                        line: self.line(at),
                        label,
                        first,
                        second,
                    });
                }
                Some(_) => {}
                None => {
                    let column = self.display_column.unwrap_or(self.label);
                    let name = self.name(name, column, at)?;
                    self.display.insert(label.clone(), name);
                }
            }
        }
        Ok(())
    }

    /// What people are to read, everywhere, must be short enough for it.
    fn name(&self, text: &str, column: usize, at: u64) -> Result<String> {
        let length = text.chars().count();
        if length <= MAX_NAME {
            return Ok(text.to_owned());
        }
        let column = self.header.names[column].clone();
        Err(Error::LongField { path: self.path(), line: self.line(at), column, length, max: MAX_NAME })
    }

    fn empty(&self, column: usize, at: u64) -> Error {
        Error::EmptyField { path: self.path(), line: self.line(at), column: self.header.names[column].clone() }
    }

    /// Line that the row at this offset begins on.
    fn line(&self, at: u64) -> u64 {
        line_at(self.header.text, at)
    }

    fn path(&self) -> std::path::PathBuf {
        self.header.path.to_owned()
    }
}

/// The parts of a field, trimmed, without empty ones.
fn divide<'f>(field: &'f str, separator: Option<&'f str>) -> impl Iterator<Item = &'f str> {
    let whole = separator.is_none().then_some(field);
    let parts = separator.into_iter().flat_map(move |separator| field.split(separator));
    whole.into_iter().chain(parts).map(str::trim).filter(|part| !part.is_empty())
}

/// Where the reader stood before the row.
fn offset_of(row: &ByteRecord) -> u64 {
    row.position().map_or(0, csv::Position::byte)
}

/// Line, from 1, of the row that the reader found at `offset`; counted only when an error needs it.
///
/// The reader's own position and count are those before the line feed of a CRLF and before blank lines.
fn line_at(text: &[u8], offset: u64) -> u64 {
    let (before, rest) = text.split_at((offset as usize).min(text.len()));
    let blank = rest.iter().take_while(|c| c.is_ascii_whitespace()).count();
    let lines = before.iter().chain(&rest[..blank]).filter(|&&c| c == b'\n').count();
    lines as u64 + 1
}

#[cfg(test)]
mod tests;
