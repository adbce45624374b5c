use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{RunFolder, json, read_at_most, write_atomic};
use crate::error::{Error, Result};
use crate::picture::Picture;

/// The schema of [`Interpretation`] that this version writes.
const SCHEMA: u32 = 1;
const INDEX: &str = "index.json";
const AUGMENTED: &str = "augmented.png";

/// `interpret/`: what a report needs of the model and of the images, so that it can be written without either.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interpretation {
    schema: u32,
    /// The layer whose output the maps are of.
    pub cam_layer: String,
    /// The layer whose mean output the embedding shows.
    pub embedding_layer: String,
    /// Shares of the variance that the two axes of the embedding show.
    pub explained: [f64; 2],
    /// Validation images in the plane of the largest variance.
    pub embedding: Vec<EmbeddedImage>,
    /// Images worth looking at.
    pub gallery: Vec<GalleryImage>,
}

/// A validation image in the plane of the embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbeddedImage {
    /// As in `predictions.csv`.
    pub path: String,
    /// Along the first axis.
    pub x: f64,
    /// Along the second axis.
    pub y: f64,
}

/// An image of the gallery, as the model sees it, and where the model looked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GalleryImage {
    /// As in `predictions.csv`.
    pub path: String,
    /// The picture: a PNG in the folder.
    pub file: String,
    /// The class that the map speaks for: the most probable one.
    pub class: usize,
    /// Rows of the map.
    pub height: usize,
    /// Columns of the map.
    pub width: usize,
    /// The map, 0 to 1, row by row.
    pub cam: Vec<f32>,
}

impl Interpretation {
    /// One with nothing in it yet.
    #[must_use]
    pub fn new(cam_layer: impl Into<String>, embedding_layer: impl Into<String>) -> Self {
        Self {
            schema: SCHEMA,
            cam_layer: cam_layer.into(),
            embedding_layer: embedding_layer.into(),
            explained: [0.0; 2],
            embedding: Vec::new(),
            gallery: Vec::new(),
        }
    }

    /// Whether a run has one.
    #[must_use]
    pub fn is_in(run: &RunFolder) -> bool {
        run.interpret().join(INDEX).is_file()
    }

    /// Reads the index.
    ///
    /// # Errors
    ///
    /// If there is none, or it is damaged or newer than this program.
    pub fn read(run: &RunFolder) -> Result<Self> {
        json::read(&run.interpret().join(INDEX), SCHEMA)
    }

    /// Writes the index, the last file of the folder.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write(&self, run: &RunFolder) -> Result<()> {
        let mut bytes = serde_json::to_vec(self).expect("an index has string keys");
        bytes.push(b'\n');
        write_atomic(run.interpret().join(INDEX), &bytes)
    }

    /// Makes the folder.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn prepare(run: &RunFolder) -> Result<()> {
        let path = run.interpret();
        std::fs::create_dir_all(&path).map_err(|source| Error::Write { path, bytes: None, source })
    }

    /// Writes the sample of augmented training images.
    ///
    /// # Errors
    ///
    /// If it cannot be encoded or written.
    pub fn write_augmented(run: &RunFolder, picture: &Picture) -> Result<()> {
        picture.write_png(run.interpret().join(AUGMENTED))
    }

    /// The PNG of that sample, where there is one that can be shown.
    #[must_use]
    pub fn augmented(run: &RunFolder) -> Option<Vec<u8>> {
        let png = read_at_most(run.interpret().join(AUGMENTED), MOST_OF_PICTURE);
        png.ok().filter(|png| Picture::from_png(png).is_some())
    }
}

/// Bytes of a picture that a page shows.
pub(crate) const MOST_OF_PICTURE: u64 = 8 << 20;

/// The place of a picture of the gallery.
pub(crate) fn gallery_file(run: &RunFolder, file: &str) -> std::path::PathBuf {
    // A name, never a way out of the folder.
    run.interpret().join(Path::new(file).file_name().unwrap_or_default())
}
