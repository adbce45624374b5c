//! `audit`: what is wrong with the data.

mod pictures;

use super::Context;
use super::evaluate::cross::{self, Folds};
use super::evaluate::relocated;
use crate::args::{AuditArgs, BatchArgs, ConfigArgs};
use crate::config::{Config, INK};
use crate::data::{self, Plan, shown};
use crate::destination;
use crate::problem::Problem;
use anyhow::Result;
use cn_augment::{DrawKey, Image, ink_kept};
use cn_data::{BadImage, Cache, Dataset, Ground, Pixels, Record};
use cn_learn::image_of;
use cn_report::{
    Audit, AuditNote, CROP_LOSS, CopyImage, CopySet, CropLoss, CroppedImages, LabelAudit, LabelSuspect, Manifest,
    Prediction, Predictions, RunFolder, SuspectLabel, audit_page, write_atomic,
};
use std::collections::HashMap;
use std::path::Path;

/// Distance of near copies: scans that were compressed anew at a quality of 75 differ by less, two samples of one hand by
/// more (0.118 at least among the 15,000 scans).
const NEAR: f64 = 0.1;

/// The data, and what was found.
struct Found {
    dataset: Dataset,
    /// The images before those on a bright ground were turned, where they may differ.
    originals: Option<Pixels>,
    audit: Audit,
    /// Predictions that judge the labels, and their order of suspicion.
    suspects: Option<(Predictions, Vec<LabelSuspect>)>,
    /// Training images that lose much in the first epoch: id and share kept, the worst first.
    cut: Vec<(u32, f64)>,
}

impl Found {
    /// The images as they lie in their files.
    fn seen(&self) -> &Pixels {
        self.originals.as_ref().unwrap_or_else(|| self.dataset.pixels())
    }
}

/// Audits, and returns the exit code.
pub(super) fn run(context: &Context<'_>, args: &AuditArgs) -> Result<u8> {
    let config = config(context, args)?;
    let out = args.out.clone().unwrap_or_else(|| args.run.as_deref().unwrap_or(Path::new("runs")).join("audit"));
    if let Some(run) = &args.run {
        RunFolder::new(run).refuse_links()?;
    }
    destination::check(&out)?;
    destination::check_outside(&out, &config.data)?;
    let cache = || if args.batch.no_cache { Cache::Off } else { Cache::User };
    let judged_by = match judges(context, args, &config, cache)? {
        Judges::Stopped(code) => return Ok(code),
        Judges::Table(table) => table,
    };
    // What is damaged is a finding here, not a reason to stop.
    let config = Config { skip_damaged: true, ..config };
    let plan = Plan::to_look_at(&config)?;
    let split = plan.method.to_string();
    let data::Loaded { dataset, skipped: damaged, originals, .. } = plan.load_naming(&config, cache())?;
    let judged_by = match judged_by {
        Some(judge) => of_now(context, judge, &dataset)?,
        None => None,
    };
    let found = find(&config, Images { dataset, originals, damaged, split }, judged_by, args.top)?;
    write(&out, &config, &found)?;
    context.ui.result(found.audit.text());
    context.ui.say(format_args!("with pictures: `{}`", out.join("audit.html").display()));
    context.ui.json(&found.audit);
    Ok(0)
}

/// The settings of the flags, or those of a run with its data where they are now.
fn config(context: &Context<'_>, args: &AuditArgs) -> Result<Config> {
    let flags = ConfigArgs { batch: args.batch.clone(), ..ConfigArgs::default() };
    let config = match &args.run {
        None => Config::try_from((context.common, &flags))?,
        Some(run) => {
            let run = RunFolder::new(run);
            if !run.holds_run() {
                return Err(Problem::no_run(run.root()).into());
            }
            let (stored, data) = relocated(Config::of_run(&run.config())?, args.batch.data.clone());
            let batch = BatchArgs { data, ..args.batch.clone() };
            stored.with_flags(context.common, &ConfigArgs { batch, ..ConfigArgs::default() })?.resolved()?
        }
    };
    if config.synthetic.steps.is_some() {
        return Err(Problem::usage("endless handwriting is drawn for each step, and there is nothing to audit")
            .hint("audit images that are there: `--data DIR`")
            .into());
    }
    Ok(config)
}

/// Who judges the labels, if anybody.
enum Judges {
    Stopped(u8),
    Table(Option<Judge>),
}

/// Verdicts of networks that did not train on what they judge.
struct Judge {
    by: String,
    table: Predictions,
    /// Images of the table that they trained on all the same.
    n_seen: usize,
    /// Hashes of the images that they were trained on and judged, of each of them.
    images: Vec<String>,
}

impl Judge {
    fn folds(runs: &[RunFolder]) -> Result<Self> {
        let images = runs.iter().map(images_of).collect::<Result<_>>()?;
        let by = format!("{} folds", runs.len());
        Ok(Self { by, table: cross::gathered(runs)?, n_seen: cross::n_seen(runs)?, images })
    }
}

fn images_of(run: &RunFolder) -> Result<String> {
    Ok(Manifest::read(run.manifest())?.data.content_sha256)
}

fn judges(context: &Context<'_>, args: &AuditArgs, config: &Config, cache: impl Fn() -> Cache) -> Result<Judges> {
    let Some(run) = &args.run else { return Ok(Judges::Table(None)) };
    if let Some(k) = args.cross_validate {
        return Ok(match cross::train(context, config, &cross::folder(run, k), k, cache)? {
            Folds::Stopped(code) => Judges::Stopped(code),
            Folds::Trained(runs) => Judges::Table(Some(Judge::folds(&runs)?)),
        });
    }
    if let Some(runs) = cross_validated(run) {
        return Ok(Judges::Table(Some(Judge::folds(&runs)?)));
    }
    let run = RunFolder::new(run);
    if !run.predictions().is_file() {
        return Ok(Judges::Table(None));
    }
    context.ui.say("only the labels of the validation part are judged; `--cross-validate 5` judges all\n");
    let table = if run.is_finished() { cross::judged_by(&run)? } else { Predictions::read(run.predictions())? };
    let n_seen = if run.is_finished() { cross::n_seen(std::slice::from_ref(&run))? } else { 0 };
    Ok(Judges::Table(Some(Judge { by: "the run".into(), table, n_seen, images: vec![images_of(&run)?] })))
}

/// The verdicts about the images as they are now: none where the images are others, those of the labels that they have
/// now where these were changed since the judges were trained.
fn of_now(context: &Context<'_>, judge: Judge, dataset: &Dataset) -> Result<Option<Judge>> {
    let images = dataset.content_sha256().to_string();
    if judge.images.iter().any(|judged| *judged != images) {
        context.ui.warn(format_args!(
            "the images are not those that {} judged: no labels are judged; train on these, and audit that run",
            judge.by
        ));
        return Ok(None);
    }
    let (table, changed) = with_present_labels(context, &judge.table, dataset)?;
    let by = match changed {
        0 => judge.by,
        n => format!("{} (trained before the labels of {n} of these images were changed)", judge.by),
    };
    Ok(Some(Judge { by, table, ..judge }))
}

/// The table with the labels that the images have now, which may have been corrected since the judges were trained.
fn with_present_labels(context: &Context<'_>, table: &Predictions, dataset: &Dataset) -> Result<(Predictions, usize)> {
    let records = dataset.index().records();
    let now: HashMap<&str, &Record> = records.iter().map(|record| (record.path.as_str(), record)).collect();
    let class: HashMap<&str, usize> = table.classes().iter().map(String::as_str).zip(0..).collect();
    let mut present = Predictions::new(table.classes().iter().cloned())?;
    let (mut changed, mut gone) = (0, 0);
    for row in table.rows() {
        let record = now.get(row.path.as_str());
        // What the judges do not know, they cannot judge.
        let targets: Option<Vec<usize>> =
            record.and_then(|record| record.labels.iter().map(|label| class.get(label.as_str()).copied()).collect());
        let (Some(record), Some(mut targets)) = (record, targets) else {
            gone += 1;
            continue;
        };
        targets.sort_unstable();
        changed += usize::from(targets != row.targets);
        present.push(Prediction { targets, group: record.group.clone(), ..row.clone() })?;
    }
    if changed > 0 {
        context.ui.warn(format_args!(
            "labels have changed since the judges were trained, of {changed} images: those that they have now are judged"
        ));
    }
    if gone > 0 {
        context.ui.warn(format_args!(
            "{gone} images that the judges judged are not there now, or have labels that these do not know: left out"
        ));
    }
    Ok((present, changed))
}

/// The cross-validation of most folds whose folds are all finished.
fn cross_validated(run: &Path) -> Option<Vec<RunFolder>> {
    let entries = std::fs::read_dir(run).ok()?.flatten();
    let k = |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_prefix(cross::PREFIX)?.parse::<u32>().ok();
    let mut found: Vec<u32> = entries.filter_map(k).collect();
    found.sort_unstable();
    let finished = |runs: &Vec<RunFolder>| runs.iter().all(|run| run.is_finished() && run.predictions().is_file());
    found.into_iter().rev().map(|k| cross::folds_in(&cross::folder(run, k), k)).find(finished)
}

/// What is audited.
struct Images {
    dataset: Dataset,
    originals: Option<Pixels>,
    damaged: Vec<BadImage>,
    /// How they are split.
    split: String,
}

fn find(config: &Config, images: Images, judged_by: Option<Judge>, top: usize) -> Result<Found> {
    let Images { dataset, originals, damaged, split } = images;
    let index = dataset.index();
    let path = |id: u32| index.records()[id as usize].path.clone();
    // What is inverted among the others, or a negative of one, is that no more once it was turned.
    let seen = originals.as_ref().unwrap_or_else(|| dataset.pixels());
    let mut odd = seen.odd_images();
    odd.extend(index.odd_files());
    odd.sort_by_key(|odd| odd.id);
    let odd = odd.iter().map(|odd| AuditNote { path: path(odd.id), note: odd.reason.to_string() }).collect();
    let cut = cut(config, &dataset)?;
    let suspects = judged_by.as_ref().map(|judge| judge.table.label_suspects());
    let labels =
        judged_by.as_ref().zip(suspects.as_ref()).map(|(judge, suspects)| labels(&dataset, judge, suspects, top));
    let audit = Audit {
        data: index.name().to_owned(),
        n_images: index.len(),
        n_train: dataset.split().train().len(),
        n_val: dataset.split().val().len(),
        split,
        groups: data::groups_name(config),
        n_groups: index.groups().len(),
        groups_shared: dataset.split().groups_shared(index),
        damaged: damaged.iter().map(|bad| AuditNote { path: bad.path.clone(), note: bad.reason.to_string() }).collect(),
        odd,
        copies: copies(&dataset, seen),
        labels,
        cropped: cut.as_deref().map(cropped).unwrap_or_default(),
        crops: cut.as_deref().map(|cut| crops(&dataset, cut)).unwrap_or_default(),
    };
    let suspects = judged_by.map(|judge| judge.table).zip(suspects);
    let mut cut: Vec<(u32, f64)> = cut.unwrap_or_default().into_iter().filter(|(_, kept)| is_cut(*kept)).collect();
    cut.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    Ok(Found { dataset, originals, audit, suspects, cut })
}

fn copies(dataset: &Dataset, seen: &Pixels) -> Vec<CopySet> {
    let records = dataset.index().records();
    let mut part = vec!["none"; records.len()];
    dataset.split().train().iter().for_each(|&id| part[id as usize] = "train");
    dataset.split().val().iter().for_each(|&id| part[id as usize] = "val");
    let image = |&id: &u32| CopyImage {
        path: records[id as usize].path.clone(),
        labels: shown(dataset, &records[id as usize].labels),
        part: part[id as usize].to_owned(),
    };
    let sets = seen.copies(NEAR);
    let equal: HashMap<u32, &[u32]> =
        sets.iter().filter(|set| set.distance == 0.0).map(|set| (set.ids[0], &set.ids[..])).collect();
    let of = |set: &cn_data::Copies| {
        // One that has equals stands for them.
        let meant = |id: &u32| equal.get(id).map_or_else(|| vec![*id], |ids| ids.to_vec());
        let meant: Vec<u32> = set.ids.iter().flat_map(meant).collect();
        let has = |name| meant.iter().any(|&id| part[id as usize] == name);
        let targets = |id: u32| dataset.targets().classes(id);
        CopySet {
            leaks: has("train") && has("val"),
            contradicts: meant.iter().any(|&id| targets(id) != targets(meant[0])),
            images: set.ids.iter().map(image).collect(),
            distance: set.distance,
        }
    };
    sets.iter().map(of).collect()
}

fn labels(dataset: &Dataset, judge: &Judge, suspects: &[LabelSuspect], top: usize) -> LabelAudit {
    let table = &judge.table;
    let names = data::names(dataset.index(), table.classes());
    let several = |classes: &[usize]| match classes {
        [] => names.no_class().to_owned(),
        _ => shown(dataset, &classes.iter().map(|&class| table.classes()[class].clone()).collect::<Vec<_>>()),
    };
    let suspect = |suspect: &LabelSuspect| {
        let row = &table.rows()[suspect.row];
        SuspectLabel {
            path: row.path.clone(),
            group: row.group.clone(),
            label: several(&row.targets),
            suggested: several(&suspect.suggested),
            margin: suspect.margin,
        }
    };
    let shifted = table.shifted_groups().into_iter().map(|group| {
        let classes = group.classes.iter().map(|class| {
            format!("{} as {} ({} of {})", several(&[class.labelled]), several(&[class.said]), class.n, class.of)
        });
        AuditNote { path: group.group.clone(), note: classes.collect::<Vec<_>>().join(", ") }
    });
    LabelAudit {
        by: judge.by.clone(),
        n_judged: suspects.len(),
        n_seen: judge.n_seen,
        n_contradicted: suspects.iter().filter(|suspect| suspect.margin < 0.0).count(),
        suspects: suspects.iter().take(top).map(suspect).collect(),
        shifted: shifted.collect(),
    }
}

/// What the first epoch keeps of each training image; `None` where the images are no drawings on an even ground.
fn cut(config: &Config, dataset: &Dataset) -> Result<Option<Vec<(u32, f64)>>> {
    let Some(ground) = dataset.pixels().ground() else { return Ok(None) };
    let policy = config.train_policy(Some(ground))?;
    let mut found = Vec::with_capacity(dataset.split().train().len());
    for &id in dataset.split().train() {
        let view = dataset.pixels().image(id);
        let inverted: Vec<u8>;
        let image = match ground {
            Ground::Dark => image_of(view),
            Ground::Bright => {
                inverted = view.pixels.iter().map(|&value| u8::MAX - value).collect();
                Image { pixels: &inverted, ..image_of(view) }
            }
        };
        let geometry = policy.geometry(image_of(view), DrawKey { seed: config.seed, epoch: 0, id })?;
        found.push((id, ink_kept(image, &geometry, INK)));
    }
    Ok(Some(found))
}

fn is_cut(kept: f64) -> bool {
    kept <= 1.0 - CROP_LOSS
}

fn cropped(cut: &[(u32, f64)]) -> CroppedImages {
    CroppedImages { n: cut.len(), lost: cut.iter().filter(|(_, kept)| is_cut(*kept)).count() }
}

fn crops(dataset: &Dataset, cut: &[(u32, f64)]) -> Vec<CropLoss> {
    let mut counts = vec![[0usize; 2]; dataset.vocabulary().len()];
    for &(id, kept) in cut {
        for &class in dataset.targets().classes(id) {
            counts[class as usize][0] += 1;
            counts[class as usize][1] += usize::from(is_cut(kept));
        }
    }
    let labels = dataset.vocabulary().labels().iter().zip(counts);
    labels
        .map(|(label, [n, lost])| CropLoss {
            label: label.clone(),
            display: dataset.index().display(label).to_owned(),
            n,
            lost,
        })
        .collect()
}

fn write(out: &Path, config: &Config, found: &Found) -> Result<()> {
    destination::make(out)?;
    let page = audit_page(&found.audit, &pictures::all(config, found)?)?;
    write_atomic(out.join("audit.html"), page.as_bytes())?;
    write_atomic(out.join("audit.json"), &serde_json::to_vec_pretty(&found.audit)?)?;
    if let Some((table, suspects)) = &found.suspects {
        table.write_label_suspects(suspects, out.join("labels.csv"))?;
    }
    Ok(())
}
