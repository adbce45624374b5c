//! Cells 1 to 6: files, the table, what is x and what is y.

use crate::{AnyError, SEED, cell};
use cn_data::{Dataset, Index, LoadConfig, Pixels, Record, Split};
use cn_synth::{CHARACTERS, Handwriting, Sample, Style, writers};
use std::collections::BTreeMap;
use std::path::Path;

/// The index and all images, decoded; drawn where there is no such folder.
pub(crate) fn open(folder: &Path) -> Result<(Index, Pixels), AnyError> {
    cell("1-3", "path.ls()");
    if !folder.is_dir() {
        println!("no folder `{}`: drawing handwriting", folder.display());
        return draw();
    }
    let index = Index::open(folder)?;
    let pixels = Pixels::load(&index, &LoadConfig::default())?.pixels;
    println!("(#{}) in `{}`", pixels.len(), folder.display());
    Ok((index, pixels))
}

/// 100 writers, ten samples of each of the 15 characters, as in the real data.
fn draw() -> Result<(Index, Pixels), AnyError> {
    let samples: Vec<Sample> = Sample::pages(writers::TRAIN.start..writers::TRAIN.start + 100, 10).collect();
    let record = |sample: &Sample| Record {
        path: format!("input_{}_{}_{}.jpg", sample.writer(), sample.sample(), sample.code()),
        labels: vec![CHARACTERS[usize::from(sample.code()) - 1].value.to_owned()],
        group: Some(sample.writer().to_string()),
    };
    let display: BTreeMap<_, _> = CHARACTERS.iter().map(|c| (c.value.to_owned(), c.character.to_string())).collect();
    let index = Index::from_records("synthetic handwriting", "", samples.iter().map(record).collect())?;
    let pixels = Pixels::uniform(Handwriting::new(SEED, Style::scans())?.draw_all(&samples), [64, 64, 1])?;
    println!("(#{})", pixels.len());
    Ok((index.with_display(display), pixels))
}

/// The head of the table. The file name comes from the columns by the template in `dataset.toml`, so that there is no
/// column to add.
pub(crate) fn head(index: &Index) {
    cell("4-6", "df['fname'] = ...; df.head()");
    println!("  suite_id  value  character  fname");
    for (i, record) in index.records().iter().take(5).enumerate() {
        let (label, name) = (record.labels.join(" "), record.path.rsplit('/').next().unwrap_or_default());
        let writer = record.group.as_deref().unwrap_or_default();
        println!("{i} {writer:>8} {label:>6}         {}  {name}", index.display(&label));
    }
}

/// The title of an image in a picture of a batch.
pub(crate) fn title(data: &Dataset, id: u32) -> String {
    data.index().records()[id as usize].labels.join(";")
}

/// The same data, of whose parts only the first images are used: some of each class, as the parts are in random order.
pub(crate) fn part(data: &Dataset, n_train: usize, n_val: usize) -> Result<Dataset, AnyError> {
    let first = |ids: &[u32], n: usize| ids.iter().copied().take(n).collect();
    let (train, val) = (first(data.split().train(), n_train), first(data.split().val(), n_val));
    let split = Split::from_parts(train, val, data.index().len())?;
    Ok(Dataset::new(data.index().clone(), data.pixels().clone(), split)?)
}
