//! What was found in a data set before, or after, a model was trained on it.

use crate::error::Result;
use crate::run_folder::json::{nan_as_null, parse};
use crate::run_folder::{MOST_OF_IMAGES, read_at_most};
use crate::text::{Align, Table};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// Rows of a table that are listed before the rest is counted.
const LISTED: usize = 20;
/// The share of ink that a crop may lose before it is counted.
pub const CROP_LOSS: f64 = 0.25;

/// Everything that an audit found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// Name of the data set.
    pub data: String,
    /// Images that could be decoded.
    pub n_images: usize,
    /// Images that train, and that judge.
    pub n_train: usize,
    /// Images that judge.
    pub n_val: usize,
    /// How they were told apart, such as `group`.
    pub split: String,
    /// What groups are called, such as `writers`.
    pub groups: String,
    /// Groups, where they are known.
    pub n_groups: usize,
    /// Groups with images on both sides of the split.
    pub groups_shared: usize,
    /// Images that cannot be used.
    pub damaged: Vec<AuditNote>,
    /// Images unlike the rest.
    pub odd: Vec<AuditNote>,
    /// Images that show the same.
    pub copies: Vec<CopySet>,
    /// Labels that a model contradicts; `None` where no predictions are at hand.
    pub labels: Option<LabelAudit>,
    /// Training images that the augmentation was tried on once, and those of them that lost ink.
    #[serde(default)]
    pub cropped: CroppedImages,
    /// What the augmentation cuts off, class by class: an image counts for each of its labels.
    pub crops: Vec<CropLoss>,
}

/// An image, and what is the matter with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditNote {
    /// Path relative to the data root.
    pub path: String,
    /// What is the matter.
    pub note: String,
}

/// Images that show the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CopySet {
    /// Two or more; in a set of near ones, the first alone of those that are equal, which are a set of their own.
    pub images: Vec<CopyImage>,
    /// 0 for images that agree in every byte.
    pub distance: f64,
    /// Whether some train and others judge.
    pub leaks: bool,
    /// Whether their labels differ.
    pub contradicts: bool,
}

/// One image of a [`CopySet`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyImage {
    /// Path relative to the data root.
    pub path: String,
    /// Its labels as people are shown them.
    pub labels: String,
    /// `train`, `val`, or `none`.
    pub part: String,
}

/// Images of a set that a table names; a file of JSON has all.
const COPIES_SHOWN: usize = 6;
/// The margin from which a label is not listed as suspicious: the model gives it at least half more than any other.
const SURE: f64 = 0.5;

/// What a model says against the labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelAudit {
    /// Where the predictions come from, such as `5 folds`.
    pub by: String,
    /// Images that they speak of.
    pub n_judged: usize,
    /// How many of those were trained on by who judges them.
    #[serde(default)]
    pub n_seen: usize,
    /// Images whose label the model would not have given.
    pub n_contradicted: usize,
    /// The most suspicious ones, in order.
    pub suspects: Vec<SuspectLabel>,
    /// Groups whose labels look shifted: the group, and what it takes for what.
    pub shifted: Vec<AuditNote>,
}

/// A label that a model contradicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuspectLabel {
    /// Path relative to the data root.
    pub path: String,
    /// Who made it, where that is known.
    pub group: Option<String>,
    /// The label as people are shown it.
    pub label: String,
    /// What the model would have said.
    pub suggested: String,
    /// -1 (surely wrong, by the model) to 1.
    #[serde(with = "nan_as_null")]
    pub margin: f64,
}

/// How often the augmentation cuts off much of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CroppedImages {
    /// Training images.
    pub n: usize,
    /// Those that lost at least [`CROP_LOSS`] of their ink in one epoch.
    pub lost: usize,
}

/// How often the augmentation cuts off much of the images of a class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CropLoss {
    /// The label.
    pub label: String,
    /// As people are shown it.
    pub display: String,
    /// Training images of the class.
    pub n: usize,
    /// Those that lost at least [`CROP_LOSS`] of their ink in one epoch.
    pub lost: usize,
}

/// A part of the audit, for text and page alike.
pub(crate) struct AuditSection {
    /// Name of the part, by which its picture is found.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// What was found, in a sentence or two.
    pub(crate) finding: String,
    pub(crate) head: Vec<(&'static str, Align)>,
    pub(crate) rows: Vec<Vec<String>>,
    /// Rows that are not listed.
    pub(crate) more: usize,
}

impl Audit {
    /// What an audit wrote, such as `audit/audit.json` of a run.
    ///
    /// # Errors
    ///
    /// If there is no such file, or it is none of an audit.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        parse(&read_at_most(path, MOST_OF_IMAGES)?, path, 1)
    }

    /// All findings as text for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for section in self.sections() {
            out += &format!("{}\n{}\n", section.title, indent(&section.finding));
            if !section.rows.is_empty() {
                let mut table = Table::new(section.head.iter().copied());
                section.rows.iter().for_each(|row| table.row(row.iter().cloned()));
                out += &format!("{}\n", indent(&table.render()));
            }
            if section.more > 0 {
                out += &format!("  and {} more\n", section.more);
            }
            out.push('\n');
        }
        out
    }

    pub(crate) fn sections(&self) -> Vec<AuditSection> {
        let mut sections = vec![self.parts(), self.unusable(), self.unlike(), self.twins()];
        sections.extend(self.labels.as_ref().map(LabelAudit::section));
        sections.extend(self.labels.as_ref().map(|labels| labels.shifts(&self.groups)));
        if !self.crops.is_empty() {
            sections.push(self.cut());
        }
        sections
    }

    fn parts(&self) -> AuditSection {
        let Self { n_train, n_val, split, groups, n_groups, groups_shared, .. } = self;
        let shared = match (n_groups, groups_shared) {
            (0, _) => "Nobody knows which images belong together, so that nothing keeps them on one side.".into(),
            (_, 0) => format!("None of the {n_groups} {groups} is on both sides."),
            (n, shared) => format!(
                "{shared} of {n} {groups} are on both sides: the score says little about a new one (`--split group`)."
            ),
        };
        AuditSection::plain(
            "parts",
            "Training and validation",
            format!("By `{split}`, {n_train} images train and {n_val} judge. {shared}"),
        )
    }

    fn unusable(&self) -> AuditSection {
        let finding = match self.damaged.len() {
            0 => "Every file can be read.".into(),
            1 => "1 file cannot be used; `--skip-damaged` leaves it out.".into(),
            n => format!("{n} files cannot be used; `--skip-damaged` leaves them out."),
        };
        AuditSection::plain("damaged", "Damaged files", finding).of_notes(&self.damaged)
    }

    fn unlike(&self) -> AuditSection {
        let images: BTreeSet<&str> = self.odd.iter().map(|note| note.path.as_str()).collect();
        let finding = match images.len() {
            0 => "None is blank, inverted, or of a size, colour or kind of file of its own.".into(),
            1 => "1 is unlike nearly all others.".into(),
            n => format!("{n} are unlike nearly all others."),
        };
        AuditSection::plain("odd", "Odd images", finding).of_notes(&self.odd)
    }

    fn twins(&self) -> AuditSection {
        let count = |is: fn(&CopySet) -> bool| self.copies.iter().filter(|set| is(set)).count();
        let (equal, leaks, contradict) = (count(|s| s.distance == 0.0), count(|s| s.leaks), count(|s| s.contradicts));
        let finding = match self.copies.len() {
            0 => {
                "No two images are equal, or nearly so. A copy that was shifted, turned, mirrored, cut, made smaller, \
                  inverted, tinted, noisy, lighter or darker in its middle tones, or compressed anew at a JPEG quality \
                  below 75, is not found."
                    .into()
            }
            n => format!(
                "{} the same, {equal} of them pixel for pixel; in {leaks} some train and others judge, which flatters \
                 the score, and in {contradict} the labels differ.",
                if n == 1 { "1 set of images shows".to_owned() } else { format!("{n} sets of images show") }
            ),
        };
        let row = |set: &CopySet| {
            let images = set.images.iter().map(|image| format!("{} ({}, {})", image.path, image.labels, image.part));
            let more = set.images.len().saturating_sub(COPIES_SHOWN);
            let more = (more > 0).then(|| format!("and {more} more"));
            let images = images.take(COPIES_SHOWN).chain(more);
            let kind = if set.distance == 0.0 { "equal".into() } else { format!("{:.3} apart", set.distance) };
            vec![images.collect::<Vec<_>>().join("  "), kind, what_matters(set)]
        };
        let mut sets: Vec<&CopySet> = self.copies.iter().collect();
        sets.sort_by_key(|set| std::cmp::Reverse((set.contradicts, set.leaks)));
        AuditSection::plain("copies", "Copies", finding).of_rows(
            vec![("images (label, part)", Align::Left), ("how near", Align::Left), ("", Align::Left)],
            sets.into_iter().map(row).collect(),
        )
    }

    fn cut(&self) -> AuditSection {
        let CroppedImages { n, lost } = self.cropped;
        let finding = format!(
            "In one epoch of this augmentation, {lost} of {n} training images ({}) lose at least {:.0} % of their \
             ink, and with it perhaps what their label says.",
            share(lost, n),
            100.0 * CROP_LOSS
        );
        let row = |class: &CropLoss| {
            let name = if class.display == class.label {
                class.label.clone()
            } else {
                format!("{} {}", class.label, class.display)
            };
            vec![name, class.n.to_string(), class.lost.to_string(), share(class.lost, class.n)]
        };
        let mut classes: Vec<&CropLoss> = self.crops.iter().filter(|class| class.lost > 0).collect();
        classes.sort_by(|a, b| (b.lost * a.n).cmp(&(a.lost * b.n)));
        AuditSection::plain("crops", "What the augmentation cuts off", finding).of_rows(
            vec![("class", Align::Left), ("images", Align::Right), ("cut", Align::Right), ("share", Align::Right)],
            classes.into_iter().map(row).collect(),
        )
    }
}

impl LabelAudit {
    fn section(&self) -> AuditSection {
        let Self { by, n_judged, n_seen, n_contradicted, .. } = self;
        let seen = match n_seen {
            0 => " that did not train on them".to_owned(),
            n => format!(", which trained on {n} of them and say little about these"),
        };
        let finding = format!(
            "Of {n_judged} images, judged by {by}{seen}, {n_contradicted} have a label that the \
             model would not have given. Those come first, with a margin below 0; then those of whose label it was not \
             sure. A hard image stands here beside a wrong label: look at them, from the top."
        );
        let row = |suspect: &SuspectLabel| {
            let group = suspect.group.clone().unwrap_or_default();
            let SuspectLabel { path, label, suggested, margin, .. } = suspect;
            vec![path.clone(), group, label.clone(), suggested.clone(), format!("{margin:.3}")]
        };
        AuditSection::plain("labels", "Suspicious labels", finding).of_rows(
            vec![
                ("image", Align::Left),
                ("group", Align::Left),
                ("label", Align::Left),
                ("model", Align::Left),
                ("margin", Align::Right),
            ],
            self.suspects.iter().filter(|suspect| suspect.margin < SURE).map(row).collect(),
        )
    }

    fn shifts(&self, groups: &str) -> AuditSection {
        let finding = match self.shifted.len() {
            0 => format!("None of the {groups} has several classes that are mostly taken for others."),
            n => format!(
                "{n} of the {groups} {} several classes that are mostly taken for others: a slip in their labels?",
                if n == 1 { "has" } else { "have" }
            ),
        };
        AuditSection::plain("shifted", "Shifted labels", finding).of_notes(&self.shifted)
    }
}

fn what_matters(set: &CopySet) -> String {
    let matters = [(set.contradicts, "labels differ"), (set.leaks, "on both sides")];
    matters.into_iter().filter(|(is, _)| *is).map(|(_, text)| text).collect::<Vec<_>>().join(", ")
}

fn share(part: usize, all: usize) -> String {
    if all == 0 { "–".into() } else { format!("{:.2} %", 100.0 * part as f64 / all as f64) }
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect::<String>().trim_end().to_owned()
}

impl AuditSection {
    fn plain(id: &'static str, title: &'static str, finding: String) -> Self {
        Self { id, title, finding, head: Vec::new(), rows: Vec::new(), more: 0 }
    }

    fn of_notes(self, notes: &[AuditNote]) -> Self {
        let rows = notes.iter().map(|note| vec![note.path.clone(), note.note.clone()]).collect();
        self.of_rows(vec![("what", Align::Left), ("finding", Align::Left)], rows)
    }

    fn of_rows(self, head: Vec<(&'static str, Align)>, mut rows: Vec<Vec<String>>) -> Self {
        let more = rows.len().saturating_sub(LISTED);
        rows.truncate(LISTED);
        Self { head, rows, more, ..self }
    }
}

#[cfg(test)]
mod tests;
