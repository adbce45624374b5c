//! From settings to images: files, or synthetic handwriting.

use crate::config::{BatchFit, Config, GroundKind, StyleKind};
use crate::output::{Ui, counted};
use crate::problem::Problem;
use anyhow::{Context, Result};
use cn_data::{
    BadImage, Cache, Damaged, Dataset, DecodeConfig, Ground, Index, LoadConfig, Pixels, Record, Spec, Split,
    SplitMethod, Vocabulary,
};
use cn_report::{ClassNames, DataHashes, printable};
use cn_synth::{CHARACTERS, Handwriting, Sample, Style, writers};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

/// Synthetic images of one run, which all lie in memory: 4 GiB of scans.
const MOST_SYNTHETIC: usize = 1 << 20;
/// Name of the drawn data set.
const SYNTHETIC: &str = "synthetic-handwriting";
/// Seed of the choice that a limit makes: no seed of a run, so that all runs with a limit see the same images.
const LIMIT_SEED: u64 = 42;

/// A data set that was listed and split, before anything is decoded or drawn.
pub(crate) struct Plan {
    pub(crate) index: Index,
    pub(crate) split: Split,
    /// How it was split, with nothing left open.
    pub(crate) method: SplitMethod,
    /// Who wrote what, where images are to be drawn.
    samples: Option<Vec<Sample>>,
    /// The labels, where those of the training part are not all, which is no matter to somebody who looks.
    vocabulary: Option<Vocabulary>,
}

/// What images are planned for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Training,
    Looking,
}

impl Plan {
    /// Lists and splits the images, and checks what can be checked without their pixels.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        Self::to(Use::Training, config)
    }

    /// The same for images that are looked at, whatever the size of a batch.
    pub(crate) fn to_look_at(config: &Config) -> Result<Self> {
        Self::to(Use::Looking, config)
    }

    fn to(for_what: Use, config: &Config) -> Result<Self> {
        if config.synthetic.steps.is_some() {
            return Self::judges(config);
        }
        let mut plan = if config.data.synthetic { Self::synthetic(config)? } else { Self::files(config)? };
        let n = plan.split.train().len();
        let is_fixed = n < 2 || config.batch_fit == BatchFit::Fixed;
        if config.batch_size > n && is_fixed && for_what == Use::Training {
            let problem = format!("a batch of {} images is larger than the training part of {n}", config.batch_size);
            return Err(Problem::usage(problem).hint("use a smaller `--batch-size`, or more images").into());
        }
        // Labels that the training part does not know.
        let known = cn_data::Targets::new(&Vocabulary::of(&plan.index, plan.split.train()), plan.index.records());
        match known {
            Err(_) if for_what == Use::Looking => {
                let all: Vec<u32> = (0..).take(plan.index.len()).collect();
                plan.vocabulary = Some(Vocabulary::of(&plan.index, &all));
            }
            known => drop(known?),
        }
        Ok(plan)
    }

    fn files(config: &Config) -> Result<Self> {
        let index = open(config)?;
        let (split, method) = split_files(config, &index)?;
        Ok(Self { index, split, method, samples: None, vocabulary: None })
    }

    /// The writers who judge endless handwriting; those who train are drawn when they are needed.
    fn judges(config: &Config) -> Result<Self> {
        let n = config.synthetic.val_images.unwrap_or(config.synthetic.images);
        check_memory(n)?;
        let samples = take(writers::VALIDATION, config.synthetic.pages, n);
        let index = index_of(&samples)?;
        let split = Split::from_parts(Vec::new(), (0..).take(samples.len()).collect(), samples.len())?;
        Ok(Self { index, split, method: SplitMethod::Group, samples: Some(samples), vocabulary: None })
    }

    /// Writers of the training range train. Where writers are kept apart, writers of the other range validate.
    fn synthetic(config: &Config) -> Result<Self> {
        let images = config.synthetic.images;
        check_memory(images)?;
        let apart = matches!(config.split.as_str(), "auto" | "group") && config.val_groups.is_empty();
        let n_val = match config.synthetic.val_images {
            _ if !apart => 0,
            Some(n) => n.min(images),
            None => (config.val_fraction * images as f64).round() as usize,
        };
        let pages = config.synthetic.pages;
        let mut samples = take(writers::TRAIN, pages, images - n_val);
        samples.extend(take(writers::VALIDATION, pages, n_val));
        let index = index_of(&samples)?;
        let (split, method) = if apart {
            let ids = |range: Range<usize>| range.map(|id| id as u32).collect::<Vec<_>>();
            let split = Split::from_parts(ids(0..images - n_val), ids(images - n_val..images), images)?;
            if n_val == 0 || n_val == images {
                let images = counted(images, "image", "images");
                let problem = format!("with {images} in all, the training or the validation part is empty");
                return Err(Problem::usage(problem).hint("draw more: `--limit 1500`").into());
            }
            (limited(config, &index, split)?, SplitMethod::Group)
        } else {
            split_files(config, &index)?
        };
        Ok(Self { index, split, method, samples: Some(samples), vocabulary: None })
    }

    /// Decodes or draws the images; those that cannot be used are left out where the settings allow it, and named.
    pub(crate) fn load(self, ui: Ui, config: &Config, cache: Cache) -> Result<Dataset> {
        let Loaded { dataset, skipped, turned, .. } = self.read(config, cache, Originals::Dropped)?;
        name_skipped(ui, &skipped);
        match turned {
            Some((Ground::Bright, n)) if n > 0 => {
                ui.say("ground    bright: dark ink becomes light ink on a dark ground; `--ground as-is` keeps it");
            }
            Some((Ground::Dark, n)) if n > 0 => ui.say(format_args!(
                "ground    dark; {n} of {} with dark ink on a bright ground are turned; `--ground as-is` keeps them",
                dataset.index().len()
            )),
            _ => {}
        }
        Ok(dataset)
    }

    /// The same, with what there is to say of it, and with the images as they were.
    pub(crate) fn load_naming(self, config: &Config, cache: Cache) -> Result<Loaded> {
        self.read(config, cache, Originals::Kept)
    }

    fn read(self, config: &Config, cache: Cache, originals: Originals) -> Result<Loaded> {
        let Some(samples) = self.samples else { return self.decode(config, cache, originals) };
        let pixels = draw(config, &samples)?;
        let dataset = if config.synthetic.steps.is_some() {
            Dataset::with_vocabulary(self.index, pixels, self.split, characters()?)?
        } else {
            Dataset::new(self.index, pixels, self.split)?
        };
        Ok(Loaded { dataset, skipped: Vec::new(), turned: None, originals: None })
    }

    fn decode(self, config: &Config, cache: Cache, originals: Originals) -> Result<Loaded> {
        let mut loaded = Pixels::load(&self.index, &load_config(config, cache))?;
        let ground = loaded.pixels.ground().filter(|_| config.ground == GroundKind::Turned);
        let originals = (originals == Originals::Kept && ground.is_some()).then(|| loaded.pixels.clone());
        let turned = ground.map(|ground| (ground, turn(&mut loaded.pixels)));
        let (index, split) = if loaded.skipped.is_empty() {
            (self.index, self.split)
        } else {
            let index = self.index.subset(&loaded.kept)?;
            let split = split_files(config, &index)?.0;
            (index, split)
        };
        let dataset = match self.vocabulary {
            Some(all) => Dataset::with_vocabulary(index, loaded.pixels, split, all)?,
            None => Dataset::new(index, loaded.pixels, split)?,
        };
        Ok(Loaded { dataset, skipped: loaded.skipped, turned, originals })
    }
}

/// A data set as it is trained on.
pub(crate) struct Loaded {
    pub(crate) dataset: Dataset,
    /// Images that were left out.
    pub(crate) skipped: Vec<BadImage>,
    /// The ground of nearly all images, where it is known and matters, and how many were turned to be dark.
    turned: Option<(Ground, usize)>,
    /// The images before that, where they were asked for and may differ.
    pub(crate) originals: Option<Pixels>,
}

/// What becomes of images as they were before some are turned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Originals {
    Kept,
    Dropped,
}

/// Turns each drawing with dark ink on a bright ground to light ink on a dark one; how many there were.
pub(crate) fn turn(pixels: &mut Pixels) -> usize {
    let is_bright = |&id: &u32| pixels.image(id).ground() == Some(Ground::Bright);
    let bright: Vec<u32> = (0..).take(pixels.len()).filter(is_bright).collect();
    bright.iter().for_each(|&id| pixels.invert(id));
    bright.len()
}

/// Says which images are left out.
pub(crate) fn name_skipped(ui: Ui, skipped: &[BadImage]) {
    if !skipped.is_empty() {
        let names: String = skipped.iter().map(|image| format!("\n  {}: {}", image.path, image.reason)).collect();
        let what = match skipped.len() {
            1 => "1 image is left out, since it".to_owned(),
            n => format!("{n} images are left out, since they"),
        };
        ui.warn(format_args!("{what} cannot be used:{names}"));
    }
}

/// Every character that can be drawn, in the order of a vocabulary.
fn characters() -> Result<Vocabulary> {
    let mut labels: Vec<String> = CHARACTERS.iter().map(|character| character.value.to_owned()).collect();
    labels.sort_unstable();
    Ok(Vocabulary::from_labels(labels)?)
}

/// Refuses more images to draw than should lie in memory.
fn check_memory(images: usize) -> Result<(), Problem> {
    if images <= MOST_SYNTHETIC {
        return Ok(());
    }
    let gib = images.saturating_mul(Style::scans().size.pow(2)) >> 30;
    Err(Problem::usage(format!("{images} synthetic images need {gib} GiB of memory, more than the 4 GiB allowed"))
        .hint(format!("draw at most {MOST_SYNTHETIC}: `--limit {MOST_SYNTHETIC}`")))
}

fn split_files(config: &Config, index: &Index) -> Result<(Split, SplitMethod)> {
    let split_config = config.split_config(index)?;
    let split = limited(config, index, Split::new(index, &split_config)?)?;
    Ok((split, split_config.method))
}

fn limited(config: &Config, index: &Index, split: Split) -> Result<Split> {
    Ok(match config.limit_per_class {
        Some(n) => split.limit_per_class(index, n, config.split_seed.unwrap_or(config.seed))?,
        None => split,
    })
}

/// Every image of the settings' data, without a split: for models that judge and do not train.
pub(crate) fn all(ui: Ui, config: &Config, cache: Cache) -> Result<(Index, Pixels)> {
    if config.data.synthetic {
        check_memory(config.synthetic.images)?;
        let samples = take(writers::VALIDATION, config.synthetic.pages, config.synthetic.images);
        return Ok((index_of(&samples)?, draw(config, &samples)?));
    }
    let index = open(config)?;
    let loaded = Pixels::load(&index, &load_config(config, cache))?;
    name_skipped(ui, &loaded.skipped);
    let index = if loaded.skipped.is_empty() { index } else { index.subset(&loaded.kept)? };
    Ok((index, loaded.pixels))
}

/// Every image that a training with these settings uses, on one side or the other.
pub(crate) fn training(ui: Ui, config: &Config, cache: Cache) -> Result<(Index, Pixels)> {
    let dataset = Plan::new(config)?.load(ui, config, cache)?;
    Ok((dataset.index().clone(), dataset.pixels().clone()))
}

/// `n` of the images, the same ones every time, balanced by class.
pub(crate) fn choose(index: &Index, n: usize) -> Result<Vec<u32>> {
    let limited = index.limit(n, LIMIT_SEED)?;
    let chosen: HashSet<&str> = limited.records().iter().map(|record| record.path.as_str()).collect();
    let ids = (0..).zip(index.records()).filter(|(_, record)| chosen.contains(record.path.as_str()));
    Ok(ids.map(|(id, _)| id).collect())
}

/// What to call the groups of the settings' data: by the column that names them, where there is one.
pub(crate) fn groups_name(config: &Config) -> String {
    if config.data.synthetic {
        return "writers".into();
    }
    column_of_groups(config).map_or_else(|| "groups".into(), |column| format!("groups by `{column}`"))
}

fn column_of_groups(config: &Config) -> Option<String> {
    let own = &config.data;
    if own.group.is_some() || own.csv.is_some() {
        return own.group.clone();
    }
    let dir = own.dir.as_deref()?;
    Spec::of_folder(dir).ok()??.group
}

fn open(config: &Config) -> Result<Index> {
    let dir = config.data.dir.as_deref().context("no folder of data is named")?;
    if dir.is_file() {
        let hint = match dir.extension() {
            Some(kind) if kind.eq_ignore_ascii_case("csv") => "pass its folder with `--data` and the file with `--csv`",
            _ => "pass a folder of images; an archive has to be unpacked first",
        };
        return Err(Problem::usage(format!("`{}` is a file, not a folder", dir.display())).hint(hint).into());
    }
    let index = Index::open_with(dir, &config.data.spec())?;
    Ok(match config.limit {
        Some(n) => index.limit(n, LIMIT_SEED)?,
        None => index,
    })
}

fn load_config(config: &Config, cache: Cache) -> LoadConfig {
    let damaged = if config.skip_damaged { Damaged::Skip } else { Damaged::Refuse };
    LoadConfig { cache, damaged, decode: decoded_for(config.image_size as usize) }
}

/// How images are read for a model's input of `size` px: not smaller than that.
pub(crate) fn decoded_for(size: usize) -> DecodeConfig {
    let usual = DecodeConfig::default();
    DecodeConfig { longest_side: usual.longest_side.max(u32::try_from(size).unwrap_or(u32::MAX)), ..usual }
}

/// What a manifest says of the data.
pub(crate) fn hashes(dataset: &Dataset) -> DataHashes {
    let index = dataset.index();
    DataHashes {
        name: index.name().to_owned(),
        n_images: index.len(),
        content_sha256: dataset.content_sha256().to_string(),
        index_sha256: index.sha256().to_string(),
        split_sha256: dataset.split().sha256().to_string(),
    }
}

/// How people are shown `labels`.
pub(crate) fn names(index: &Index, labels: &[String]) -> ClassNames {
    ClassNames::new(labels.iter().map(|label| (label, index.display(label))))
}

/// `10 十`, several divided by commas.
pub(crate) fn shown(dataset: &Dataset, labels: &[String]) -> String {
    let one = |label: &String| match dataset.index().display(label) {
        display if display == label => printable(label),
        display => printable(&format!("{label} {display}")),
    };
    labels.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The first `n` samples: writer by writer, page by page, all characters.
fn take(writers: Range<u32>, pages: u32, n: usize) -> Vec<Sample> {
    Sample::pages(writers, pages).take(n).collect()
}

/// What a drawing is called where a file would have a path.
pub(crate) fn name_of(sample: &Sample) -> String {
    format!("{}_{}_{}", sample.writer(), sample.sample(), sample.code())
}

fn index_of(samples: &[Sample]) -> Result<Index> {
    let record = |sample: &Sample| Record {
        path: name_of(sample),
        labels: vec![CHARACTERS[usize::from(sample.code()) - 1].value.to_owned()],
        group: Some(sample.writer().to_string()),
    };
    let display: BTreeMap<String, String> =
        CHARACTERS.iter().map(|c| (c.value.to_owned(), c.character.to_string())).collect();
    Ok(Index::from_records(SYNTHETIC, "", samples.iter().map(record).collect())?.with_display(display))
}

fn draw(config: &Config, samples: &[Sample]) -> Result<Pixels> {
    let style = match config.synthetic.style {
        StyleKind::Scans => Style::scans(),
        StyleKind::Wide => Style::wide(),
    };
    let handwriting = Handwriting::new(config.synthetic.seed, style)?;
    let size = handwriting.size();
    Ok(Pixels::uniform(handwriting.draw_all(samples), [size, size, 1])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DataConfig;

    /// The paths of the training part of a folder with 40 images of each of two classes.
    fn training_paths(dir: &std::path::Path, change: impl FnOnce(&mut Config)) -> Vec<String> {
        let data = DataConfig { dir: Some(dir.to_owned()), ..DataConfig::default() };
        let mut config = Config { data, batch_size: 2, split_seed: Some(1), ..Config::default() };
        change(&mut config);
        let plan = Plan::new(&config).expect("a plan");
        plan.split.train().iter().map(|&id| plan.index.records()[id as usize].path.clone()).collect()
    }

    #[test]
    fn limits_choose_the_same_images_for_every_seed() {
        let folder = tempfile::tempdir().expect("a folder");
        for class in ["dark", "light"] {
            std::fs::create_dir(folder.path().join(class)).expect("made");
            (0..40).for_each(|i| std::fs::write(folder.path().join(format!("{class}/{i}.png")), "").expect("written"));
        }
        for key in ["limit", "limit_per_class"] {
            let of = |seed: u64, split_seed: u64| {
                training_paths(folder.path(), |config| {
                    (config.seed, config.split_seed) = (seed, Some(split_seed));
                    match key {
                        "limit" => config.limit = Some(24),
                        _ => config.limit_per_class = Some(8),
                    }
                })
            };
            assert_eq!(of(1, 1), of(2, 1), "{key}");
            assert_ne!(of(1, 1), of(1, 2), "{key}");
        }
    }
}
