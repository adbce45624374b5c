//! What a report needs of the trained model: written at the end of a run, or when a report finds it missing.

use crate::config::Config;
use crate::data;
use crate::model::planes;
use crate::session;
use anyhow::{Context as _, Result};
use candle_core::Device;
use cn_augment::{Batcher, Framing, Image, Normalisation, Policy, PolicyConfig};
use cn_data::Dataset;
use cn_learn::{Decode, image_of};
use cn_ops::{Network, Recompute};
use cn_report::{
    Answers, EmbeddedImage, GalleryImage, ImageView, Interpretation, Picture, Predictions, RunFolder, Tile, grid,
};
use std::collections::{HashMap, HashSet};

/// Training images that a temperature and thresholds are fitted on.
const TUNING: usize = 1500;
/// Validation images of the embedding.
const EMBEDDED: usize = 1000;
/// Top losses in the gallery.
const TOP: usize = 18;
/// Pairs that are confused most, and images of each.
const PAIRS: usize = 12;
const EACH: usize = 3;
/// Rows and columns of the sample of augmented images.
const SAMPLE: [usize; 2] = [4, 8];
/// Longest sides of pictures in a report, which is one file that is sent: of the gallery and of the sample.
const GALLERY_SIDE: u32 = 128;
const SAMPLE_SIDE: u32 = 112;
/// Images at a time, as far as a batch has so many: memory is there for one.
const BATCH: usize = 64;
/// Images that are explained at a time: all their activations are kept.
const EXPLAINED: usize = 16;
/// The layer whose mean output is the embedding: the last one before the head.
const EMBEDDING: &str = "layer4";

/// A trained network with the data that it was trained and judged on.
pub(crate) struct Interpreter<'a> {
    pub(crate) network: &'a mut Network,
    pub(crate) config: &'a Config,
    pub(crate) dataset: &'a Dataset,
    pub(crate) normalisation: Normalisation,
    pub(crate) decode: Decode,
}

impl Interpreter<'_> {
    /// Fills `interpret/` for the validation images in `answers`; returns the sample of augmented images.
    pub(crate) fn write(&mut self, run: &RunFolder, answers: &Answers<'_>) -> Result<Picture> {
        Interpretation::prepare(run)?;
        self.tuning()?.write(run.tuning())?;
        let layer = cam_layer(self.config.image_size);
        let mut found = Interpretation::new(layer, EMBEDDING);
        (found.embedding, found.explained) = self.embedding()?;
        found.gallery = self.gallery(run, answers, layer)?;
        let sample = augmented(self.config, self.dataset, SAMPLE)?;
        Interpretation::write_augmented(run, &sample)?;
        found.write(run)?;
        Ok(sample)
    }

    /// Predictions for a part of the training images, evenly spread.
    fn tuning(&mut self) -> Result<Predictions> {
        let dataset = self.dataset;
        let ids = spread(dataset.split().train(), TUNING);
        let mut logits = Vec::new();
        for ids in ids.chunks(BATCH.min(self.config.batch_size)) {
            let batch = self.batch(ids)?;
            logits.extend(cn_learn::logits(self.network, &batch)?);
        }
        let n_classes = dataset.vocabulary().len();
        let predictions = cn_learn::Predictions { ids, logits, n_classes, decode: self.decode };
        session::predictions(dataset, &predictions)
    }

    /// Where validation images lie in the plane that shows most of how the network sees them.
    fn embedding(&mut self) -> Result<(Vec<EmbeddedImage>, [f64; 2])> {
        let ids = spread(self.dataset.split().val(), EMBEDDED);
        let (mut rows, mut width) = (Vec::new(), 1);
        for ids in ids.chunks(BATCH.min(self.config.batch_size)) {
            let batch = self.batch(ids)?;
            let (values, channels) = cn_learn::features(self.network, &batch, EMBEDDING)?;
            rows.extend(values);
            width = channels;
        }
        let plane = cn_learn::principal_plane(&rows, width);
        let path = |id: u32| self.dataset.index().records()[id as usize].path.clone();
        let images = ids.iter().zip(&plane.points).map(|(&id, &[x, y])| EmbeddedImage { path: path(id), x, y });
        Ok((images.collect(), plane.explained))
    }

    /// The highest losses, and examples of what is confused most, each with where the network looked.
    fn gallery(&mut self, run: &RunFolder, answers: &Answers<'_>, layer: &str) -> Result<Vec<GalleryImage>> {
        let rows = gallery_rows(answers);
        let table = answers.table();
        let records = self.dataset.index().records();
        let by_path: HashMap<&str, u32> =
            self.dataset.split().val().iter().map(|&id| (records[id as usize].path.as_str(), id)).collect();
        let known = |row: &usize| Some((*row, *by_path.get(table.rows()[*row].path.as_str())?));
        let images: Vec<(usize, u32)> = rows.iter().filter_map(known).collect();
        let mut gallery = Vec::new();
        // What passes over larger batches left.
        self.network.pool().clear();
        for images in images.chunks(self.explained()) {
            let ids: Vec<u32> = images.iter().map(|(_, id)| *id).collect();
            let classes: Vec<usize> = images.iter().map(|(row, _)| table.rows()[*row].most_probable()).collect();
            let batch = self.batch(&ids)?;
            let maps = cn_learn::grad_cam(self.network, &batch, &classes, layer)?;
            let pictures = self.pictures(&ids)?;
            for (((row, _), map), (class, png)) in images.iter().zip(maps.maps()).zip(classes.into_iter().zip(pictures))
            {
                let file = format!("image-{:03}.png", gallery.len());
                cn_report::write_atomic(run.interpret().join(&file), &png)?;
                let (path, cam) = (table.rows()[*row].path.clone(), map.to_vec());
                gallery.push(GalleryImage { path, file, class, height: maps.height, width: maps.width, cam });
            }
        }
        Ok(gallery)
    }

    /// Images that are explained at a time. Where training does not keep all activations of a batch, there may be no
    /// room for those of one.
    fn explained(&self) -> usize {
        let n = EXPLAINED.min(self.config.batch_size);
        match self.network.recompute() {
            Recompute::Never => n,
            Recompute::Always => n.div_ceil(4),
        }
    }

    /// PNG files of the images as the network sees them.
    fn pictures(&self, ids: &[u32]) -> Result<Vec<Vec<u8>>> {
        let policy = self.config.eval_policy()?;
        let drawn = rendered(self.config, self.dataset, ids, &policy)?;
        let (drawn, side) = at_most(self.config, drawn, GALLERY_SIDE)?;
        drawn.iter().map(|pixels| Ok(view(self.config.channels, side, pixels)?.to_png()?)).collect()
    }

    /// The input of the network for these images.
    fn batch(&self, ids: &[u32]) -> Result<candle_core::Tensor> {
        let policy = self.config.eval_policy()?;
        let batcher = Batcher::new(self.config.channels, self.normalisation.clone())?;
        let batcher = batcher.with_planes(planes(self.dataset.pixels()));
        let images: Vec<Image<'_>> = ids.iter().map(|&id| image_of(self.dataset.pixels().image(id))).collect();
        let geometry = policy.geometries(&images, 0, 0, ids)?;
        Ok(batcher.batch(&images, &geometry, &Device::Cpu)?)
    }
}

/// The deepest layer whose output still has four rows: deeper ones are too coarse to point at a stroke.
fn cam_layer(image_size: u32) -> &'static str {
    let layers = [("layer4", 32), ("layer3", 16), ("layer2", 8)];
    layers.iter().find(|(_, stride)| image_size.div_ceil(*stride) >= 4).map_or("layer1", |(name, _)| *name)
}

/// At most `n` of the ids, evenly spread.
fn spread(ids: &[u32], n: usize) -> Vec<u32> {
    let n = n.min(ids.len());
    (0..n).map(|i| ids[i * ids.len() / n]).collect()
}

/// Rows of the table for the gallery, each once.
fn gallery_rows(answers: &Answers<'_>) -> Vec<usize> {
    let mut rows: Vec<usize> = answers.top_losses(TOP).iter().map(|image| image.row).collect();
    for pair in answers.most_confused(1).unwrap_or_default().iter().take(PAIRS) {
        rows.extend(pair.rows.iter().take(EACH));
    }
    let mut seen = HashSet::new();
    rows.retain(|row| seen.insert(*row));
    rows
}

/// The bytes of images through a policy.
pub(crate) fn rendered(config: &Config, dataset: &Dataset, ids: &[u32], policy: &Policy) -> Result<Vec<Vec<u8>>> {
    let batcher = Batcher::new(config.channels, Normalisation::none())?;
    let images: Vec<Image<'_>> = ids.iter().map(|&id| image_of(dataset.pixels().image(id))).collect();
    let geometry = policy.geometries(&images, config.seed, 0, ids)?;
    let len = (config.image_size as usize).pow(2) * config.channels;
    let mut pixels = vec![0u8; ids.len() * len];
    batcher.fill(&images, &geometry, &mut pixels)?;
    Ok(pixels.chunks_exact(len).map(<[u8]>::to_vec).collect())
}

/// The same on squares of at most `longest` pixels, and their side.
fn at_most(config: &Config, drawn: Vec<Vec<u8>>, longest: u32) -> Result<(Vec<Vec<u8>>, u32)> {
    if config.image_size <= longest {
        return Ok((drawn, config.image_size));
    }
    let side = config.image_size as usize;
    let view = |pixels| Image { pixels, height: side, width: side, channels: config.channels };
    let images: Vec<Image<'_>> = drawn.iter().map(|pixels| view(pixels.as_slice())).collect();
    let policy = Policy::new(PolicyConfig::new(longest, Framing::Whole))?;
    let ids: Vec<u32> = (0..).take(images.len()).collect();
    let len = (longest as usize).pow(2) * config.channels;
    let mut pixels = vec![0u8; images.len() * len];
    let batcher = Batcher::new(config.channels, Normalisation::none())?;
    batcher.fill(&images, &policy.geometries(&images, 0, 0, &ids)?, &mut pixels)?;
    Ok((pixels.chunks_exact(len).map(<[u8]>::to_vec).collect(), longest))
}

/// Those bytes as a picture shows them.
pub(crate) fn view(channels: usize, side: u32, pixels: &[u8]) -> Result<ImageView<'_>> {
    let side = side as usize;
    Ok(match channels {
        1 => ImageView::grey(side, side, pixels)?,
        _ => ImageView::rgb(side, side, pixels)?,
    })
}

/// The first training images of the first epoch, as the model sees them, with their labels.
pub(crate) fn augmented(config: &Config, dataset: &Dataset, [rows, cols]: [usize; 2]) -> Result<Picture> {
    let n = rows.checked_mul(cols).context("the picture is too large")?.min(dataset.split().train().len());
    let sampler = cn_data::Sampler::train(dataset.split().train(), n, config.seed)?;
    let ids = sampler.epoch(0).next().unwrap_or_default();
    let drawn = rendered(config, dataset, &ids, &config.train_policy(dataset.pixels().ground())?)?;
    let (drawn, side) = at_most(config, drawn, SAMPLE_SIDE)?;
    let tile = |(&id, pixels)| {
        let caption = data::shown(dataset, &dataset.index().records()[id as usize].labels);
        Ok(Tile { image: view(config.channels, side, pixels)?, captions: vec![caption.into()] })
    };
    let tiles = ids.iter().zip(&drawn).map(|(id, pixels)| tile((id, pixels.as_slice()))).collect::<Result<Vec<_>>>()?;
    let title = format!("{}: augmented training images, {} px", dataset.index().name(), config.image_size);
    Ok(grid(&title, &tiles, cols)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_have_four_rows_or_more() {
        let layers = [32, 64, 128, 224].map(cam_layer);
        assert_eq!(layers, ["layer2", "layer3", "layer4", "layer4"]);
        assert_eq!(cam_layer(16), "layer1");
    }

    #[test]
    fn ids_are_spread_evenly() {
        assert_eq!(spread(&[5, 6, 7, 8, 9, 10], 3), [5, 7, 9]);
        assert_eq!(spread(&[5, 6], 3), [5, 6]);
        assert!(spread(&[], 3).is_empty());
    }
}
