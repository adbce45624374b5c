//! Everything a learner needs of the data.

use crate::{
    Damaged, Digest, Index, LoadConfig, Pixels, Result, Split, SplitConfig, Targets, Vocabulary,
    pixels::{BadImage, expect},
};

/// Index, pixels, split, vocabulary and targets that belong together; ids mean the same in all of them.
#[derive(Debug, Clone)]
pub struct Dataset {
    index: Index,
    pixels: Pixels,
    split: Split,
    vocabulary: Vocabulary,
    targets: Targets,
    skipped: Vec<BadImage>,
}

impl Dataset {
    /// Loads the images of `index` and splits them.
    ///
    /// The split is tried before anything is decoded. With [`Damaged::Skip`], images that cannot be used leave the
    /// index before the split, so ids are those of what is left.
    ///
    /// # Errors
    ///
    /// As [`Split::new`], [`Pixels::load`] and [`Dataset::new`].
    pub fn load(index: Index, load: &LoadConfig, split: &SplitConfig) -> Result<Self> {
        let whole = Split::new(&index, split)?;
        let loaded = Pixels::load(&index, load)?;
        if loaded.skipped.is_empty() {
            return Self::new(index, loaded.pixels, whole);
        }
        debug_assert_eq!(load.damaged, Damaged::Skip);
        let index = index.subset(&loaded.kept)?;
        let split = Split::new(&index, split)?;
        let dataset = Self::new(index, loaded.pixels, split)?;
        Ok(Self { skipped: loaded.skipped, ..dataset })
    }

    /// Puts the parts together; the vocabulary is that of the training part.
    ///
    /// ```
    /// use cn_data::{Dataset, Index, Pixels, Record, Split, SplitConfig};
    ///
    /// let record = |i: u32| Record { path: i.to_string(), labels: vec![(i % 3).to_string()], group: None };
    /// let index = Index::from_records("toy", "", (0..30).map(record).collect())?;
    /// let pixels = Pixels::uniform(vec![0; 30 * 8 * 8], [8, 8, 1])?;
    /// let split = Split::new(&index, &SplitConfig::default())?;
    /// let dataset = Dataset::new(index, pixels, split)?;
    /// assert_eq!(dataset.targets().multi_hot(&[4]), [0.0, 1.0, 0.0]);
    /// # Ok::<(), cn_data::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If there are not as many images as records, the split is of another data set, or a label of an image in
    /// neither or the validation part is unknown to the training part.
    pub fn new(index: Index, pixels: Pixels, split: Split) -> Result<Self> {
        let split = Split::from_parts(split.train, split.val, index.len())?;
        let vocabulary = Vocabulary::of(&index, split.train());
        Self::with_vocabulary(index, pixels, split, vocabulary)
    }

    /// As [`Dataset::new`], with the classes of a model that is there already.
    ///
    /// # Errors
    ///
    /// As [`Dataset::new`].
    pub fn with_vocabulary(index: Index, pixels: Pixels, split: Split, vocabulary: Vocabulary) -> Result<Self> {
        expect("images of the index", index.len(), pixels.len())?;
        let split = Split::from_parts(split.train, split.val, index.len())?;
        let targets = Targets::new(&vocabulary, index.records())?;
        Ok(Self { index, pixels, split, vocabulary, targets, skipped: Vec::new() })
    }

    /// Names, labels and groups.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The decoded images.
    #[must_use]
    pub fn pixels(&self) -> &Pixels {
        &self.pixels
    }

    /// The parts.
    #[must_use]
    pub fn split(&self) -> &Split {
        &self.split
    }

    /// The classes.
    #[must_use]
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The classes of each image.
    #[must_use]
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Images that were left out since they could not be used; ids are those of the index before that.
    #[must_use]
    pub fn skipped(&self) -> &[BadImage] {
        &self.skipped
    }

    /// How each class is shown to people, by class.
    #[must_use]
    pub fn class_names(&self) -> Vec<&str> {
        self.vocabulary.labels().iter().map(|label| self.index.display(label)).collect()
    }

    /// Digest of the content of all images, see [`Pixels::content_sha256`].
    #[must_use]
    pub fn content_sha256(&self) -> Digest {
        let paths = self.index.records().iter().map(|record| record.path.as_str());
        self.pixels.content_sha256(paths).expect("as many records as images")
    }
}
