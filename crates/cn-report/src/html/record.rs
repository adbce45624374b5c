//! What a run's folder holds, all of it read.

use crate::audit::Audit;
use crate::error::{Error, Result};
use crate::picture::Picture;
use crate::run_folder::{
    EpochRecord, GalleryImage, Interpretation, MOST_OF_PICTURE, ModelCard, Predictions, RunFolder, StepRecord, Summary,
    gallery_file, read_at_most, read_json_value,
};
use crate::scores::Answers;
use crate::text::{ClassNames, Quality};
use serde_json::Value;
use std::collections::HashMap;

/// Pictures of the gallery: more than any run has.
const MOST_SHOWN: usize = 200;
/// Bytes of settings that a page shows.
const MOST_OF_SETTINGS: u64 = 1 << 20;

pub(super) struct Record {
    pub(super) run: RunFolder,
    pub(super) summary: Summary,
    pub(super) card: ModelCard,
    pub(super) names: ClassNames,
    pub(super) table: Predictions,
    pub(super) epochs: Vec<EpochRecord>,
    pub(super) steps: Vec<StepRecord>,
    /// `Null` where there is none.
    pub(super) manifest: Value,
    pub(super) settings: String,
    pub(super) interpretation: Option<Interpretation>,
    pub(super) audit: Option<Audit>,
    tuning: Option<Predictions>,
    rows: HashMap<String, usize>,
}

impl Record {
    pub(super) fn read(run: &RunFolder) -> Result<Self> {
        refuse_links(run)?;
        let card = ModelCard::read(run.model_card())?;
        let summary = Summary::read(run.summary())?;
        if card.weights.sha256 != summary.weights_sha256 {
            return Err(Error::OtherModel { path: run.model_card() });
        }
        let table = Predictions::read(run.predictions())?;
        let interpretation = Interpretation::is_in(run).then(|| Interpretation::read(run)).transpose()?;
        let manifest = read_json_value(&run.manifest());
        let rows = table.rows().iter().zip(0..).map(|(row, i)| (row.path.clone(), i)).collect();
        Ok(Self {
            summary,
            names: ClassNames::from(&card),
            card,
            table,
            epochs: EpochRecord::read_all(run.metrics())?,
            steps: StepRecord::read_all(run.steps())?,
            manifest: manifest.unwrap_or_default(),
            settings: settings_of(run)?,
            interpretation,
            audit: run.audit().is_file().then(|| Audit::read(run.audit())).transpose()?,
            tuning: run.tuning().is_file().then(|| Predictions::read(run.tuning())).transpose()?,
            rows,
            run: run.clone(),
        })
    }

    pub(super) fn quality(&self, answers: &Answers<'_>) -> Result<Quality> {
        Quality::of(answers, self.tuning.as_ref())
    }

    /// Row of the table of this image.
    pub(super) fn row(&self, path: &str) -> Option<usize> {
        self.rows.get(path).copied()
    }

    /// The pictures that there are and that can be shown, by row.
    pub(super) fn gallery(&self) -> HashMap<usize, (&GalleryImage, Vec<u8>)> {
        let images = self.interpretation.iter().flat_map(|found| &found.gallery).take(MOST_SHOWN);
        let read = |image: &GalleryImage| {
            if image.class >= self.table.classes().len() {
                return None;
            }
            let bytes = read_at_most(gallery_file(&self.run, &image.file), MOST_OF_PICTURE).ok()?;
            Picture::from_png(&bytes).is_some().then_some(bytes)
        };
        images.filter_map(|image| Some((self.row(&image.path)?, (image, read(image)?)))).collect()
    }

    /// What groups are called: people, in data of handwriting, else groups.
    pub(super) fn group_word(&self) -> [&'static str; 2] {
        let settings = self.settings.to_lowercase();
        let of_people = ["suite_id", "writer", "chinese-mnist", "synthetic = true"];
        if of_people.iter().any(|word| settings.contains(word)) { ["writer", "writers"] } else { ["group", "groups"] }
    }
}

/// Refuses links in place of what a page shows as it is: it is made to be sent, and they may lead to anything.
fn refuse_links(run: &RunFolder) -> Result<()> {
    let inside = std::fs::read_dir(run.interpret()).into_iter().flatten().flatten().map(|entry| entry.path());
    let shown = [run.config(), run.manifest(), run.interpret()].into_iter().chain(inside);
    match shown.into_iter().find(|path| path.is_symlink()) {
        Some(path) => Err(Error::Link { path }),
        None => Ok(()),
    }
}

/// The text of `config.toml`, empty where there is none.
fn settings_of(run: &RunFolder) -> Result<String> {
    match read_at_most(run.config(), MOST_OF_SETTINGS) {
        Ok(bytes) => Ok(String::from_utf8(bytes).unwrap_or_default()),
        Err(Error::Missing { .. }) => Ok(String::new()),
        Err(error) => Err(error),
    }
}
