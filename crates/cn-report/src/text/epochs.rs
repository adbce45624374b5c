use super::layout::{Align, pad, printable};
use crate::run_folder::EpochRecord;

/// The table that fastai prints while it trains, a line at a time.
///
/// Columns: `epoch`, `train_loss`, `valid_loss`, the metrics, `time`; numbers have six decimals.
///
/// ```
/// let table = cn_report::EpochTable::new(["accuracy_multi"]);
/// assert_eq!(table.header(), "epoch     train_loss  valid_loss  accuracy_multi  time");
/// ```
#[derive(Debug, Clone)]
pub struct EpochTable {
    metrics: Vec<String>,
}

impl EpochTable {
    /// A table with these metrics, by their names in [`EpochRecord::metrics`].
    pub fn new<N: Into<String>>(metrics: impl IntoIterator<Item = N>) -> Self {
        Self { metrics: metrics.into_iter().map(Into::into).collect() }
    }

    /// The names of the columns; no line end.
    #[must_use]
    pub fn header(&self) -> String {
        self.line(self.columns().map(str::to_owned))
    }

    /// One epoch; no line end. `epoch` is the number to show: fastai counts anew in each phase, a record does not.
    ///
    /// A number that the record lacks, or that is not finite, is shown as `-` or by its name.
    #[must_use]
    pub fn row(&self, epoch: usize, record: &EpochRecord) -> String {
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.6}"));
        let metrics = self.metrics.iter().map(|name| number(record.metrics.get(name)));
        let losses = [number(Some(record.train_loss)), number(record.val_loss)];
        let cells = std::iter::once(epoch.to_string()).chain(losses).chain(metrics);
        self.line(cells.chain([clock(record.seconds)]))
    }

    /// All epochs of a run, a table for each phase; each line is closed.
    #[must_use]
    pub fn phases(&self, records: &[EpochRecord]) -> String {
        let tables = records.chunk_by(|a, b| a.phase == b.phase).map(|phase| {
            let rows = phase.iter().enumerate().map(|(epoch, record)| self.row(epoch, record) + "\n");
            self.header() + "\n" + &rows.collect::<String>()
        });
        tables.collect::<Vec<_>>().join("\n")
    }

    fn columns(&self) -> impl Iterator<Item = &str> {
        let metrics = self.metrics.iter().map(String::as_str);
        ["epoch", "train_loss", "valid_loss"].into_iter().chain(metrics).chain(["time"])
    }

    fn line(&self, cells: impl Iterator<Item = String>) -> String {
        let cells = self.columns().zip(cells);
        let width = |name: &str| name.chars().count().max(8);
        let cells: Vec<String> = cells.map(|(name, cell)| pad(&printable(&cell), width(name), Align::Left)).collect();
        cells.join("  ").trim_end().to_owned()
    }
}

/// A duration as fastai shows it: `mm:ss`, from an hour on `h:mm:ss`; parts of a second are dropped.
///
/// ```
/// assert_eq!(cn_report::clock(83.9), "01:23");
/// assert_eq!(cn_report::clock(3723.0), "1:02:03");
/// ```
#[must_use]
pub fn clock(seconds: f64) -> String {
    // A cast from NaN or below 0 gives 0.
    let seconds = seconds as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes:02}:{seconds:02}") }
}
