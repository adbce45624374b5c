use std::collections::HashMap;
use std::fmt::Write;

use super::digits::{digits, share};
use super::layout::{Align, Table};
use crate::run_folder::ModelCard;
use crate::scores::{Answers, ClassRanking, ClassScore, ConfusedPair, Confusion, GroupScore, ImageLoss};

const NO_CLASS: &str = "none";

/// How class labels are shown to people: `10 十`, or the label alone where nothing else is known.
#[derive(Debug, Clone, Default)]
pub struct ClassNames(HashMap<String, String>);

impl ClassNames {
    /// From pairs of label and display text.
    pub fn new<L: Into<String>, D: Into<String>>(pairs: impl IntoIterator<Item = (L, D)>) -> Self {
        Self(pairs.into_iter().map(|(label, display)| (label.into(), display.into())).collect())
    }

    /// The label, followed by its display text if that is another.
    #[must_use]
    pub fn show(&self, label: &str) -> String {
        match self.0.get(label) {
            Some(display) if display != label => format!("{label} {display}"),
            _ => label.to_owned(),
        }
    }

    /// What stands for the class in little room: the display text, or the label.
    #[must_use]
    pub fn short<'a>(&'a self, label: &'a str) -> &'a str {
        self.0.get(label).map_or(label, String::as_str)
    }

    /// What stands where no class passes its threshold: `none`, unless a class is called that.
    #[must_use]
    pub fn no_class(&self) -> &'static str {
        if self.0.iter().any(|(label, display)| label == NO_CLASS || display == NO_CLASS) {
            "(no class)"
        } else {
            NO_CLASS
        }
    }
}

impl From<&ModelCard> for ClassNames {
    fn from(card: &ModelCard) -> Self {
        Self::new(card.classes.iter().map(|class| (&class.label, &class.display)))
    }
}

/// The numbers to quote, with what they mean, five lines.
#[must_use]
pub fn headline(answers: &Answers<'_>) -> String {
    let val = answers.val_summary();
    let exact = answers.exact_match();
    let counts = answers.counts();
    let [low, high] = val.exact_match_ci95;
    let digits = digits(1.0, 4, &[low, high]);
    let silent = answers.accuracy_multi_of_silence().share();
    let threshold = val.threshold.map_or("a threshold per class".into(), |value| format!("threshold {value}"));
    let lines = [
        (
            "exact match",
            format!(
                "{}  {} of {} images, 95 % by images {low:.digits$} to {high:.digits$}",
                share(val.exact_match),
                exact.hits,
                exact.total,
            ),
        ),
        ("top-1", share(val.top1)),
        ("accuracy_multi", format!("{}  at {threshold}; saying nothing scores {silent:.4}", share(val.accuracy_multi))),
        ("loss", format!("{:.6}", val.loss)),
        ("answers", format!("{} none, {} one, {} several", counts.none, counts.one, counts.several)),
    ];
    lines.iter().fold(String::new(), |mut text, (name, value)| {
        writeln!(text, "{name:<14}  {value}").expect("a string takes any text");
        text
    })
}

/// Precision, recall, F1, average precision, ROC AUC and support of each class; `-` where a share is of nothing.
#[must_use]
pub fn class_table(scores: &[ClassScore], rankings: &[ClassRanking], names: &ClassNames) -> String {
    use Align::{Left, Right};
    let numbers = ["precision", "recall", "f1", "avg precision", "roc auc", "images"].map(|name| (name, Right));
    let mut table = Table::new([("class", Left)].into_iter().chain(numbers));
    let known = |value: Option<f64>| value.map_or("-".into(), share);
    for (score, ClassRanking { ranking, .. }) in scores.iter().zip(rankings) {
        let values = [score.precision, score.recall, score.f1, ranking.average_precision, ranking.roc_auc].map(known);
        let support = score.support.to_string();
        table.row([names.show(&score.label)].into_iter().chain(values).chain([support]));
    }
    table.render()
}

/// The 2x2 table of each class on one line, for several labels an image.
#[must_use]
pub fn two_by_two_table(scores: &[ClassScore], names: &ClassNames) -> String {
    let columns = ["is it, said so", "is it, not said", "is not, said so", "is not, not said"];
    let columns = columns.map(|name| (name, Align::Right));
    let mut table = Table::new([("class", Align::Left)].into_iter().chain(columns));
    for score in scores {
        let counts = [score.true_positive, score.false_negative, score.false_positive, score.true_negative];
        table.row([names.show(&score.label)].into_iter().chain(counts.map(|count| count.to_string())));
    }
    table.render()
}

/// True classes down, predicted classes and `none` across; `.` stands for no image.
#[must_use]
pub fn confusion_table(confusion: &Confusion, names: &ClassNames) -> String {
    let columns = confusion.labels.iter().map(|label| names.short(label)).chain([names.no_class()]);
    let columns = columns.map(|name| (name, Align::Right));
    let mut table = Table::new([("true", Align::Left)].into_iter().chain(columns));
    for (label, counts) in confusion.labels.iter().zip(&confusion.counts) {
        let cells = counts.iter().map(|&count| if count == 0 { ".".into() } else { count.to_string() });
        table.row([names.show(label)].into_iter().chain(cells));
    }
    table.render()
}

/// What was taken for what, and how often.
#[must_use]
pub fn confused_table(pairs: &[ConfusedPair], names: &ClassNames) -> String {
    let mut table = Table::new([("true", Align::Left), ("predicted", Align::Left), ("images", Align::Right)]);
    for pair in pairs {
        let predicted = pair.predicted.as_ref().map_or_else(|| names.no_class().into(), |label| names.show(label));
        table.row([names.show(&pair.truth), predicted, pair.count.to_string()]);
    }
    table.render()
}

/// The images of `losses` (see [`crate::Predictions::top_losses`]): loss, true classes, classes that pass, and the
/// probability of the most probable class.
///
/// # Panics
///
/// If a row is not one of the table of `answers`.
#[must_use]
pub fn top_losses_table(answers: &Answers<'_>, losses: &[ImageLoss], names: &ClassNames) -> String {
    use Align::{Left, Right};
    let columns = [("image", Left), ("loss", Right), ("true", Left), ("predicted", Left), ("most probable", Left)];
    let mut table = Table::new(columns);
    let labels = answers.table().classes();
    let several = |classes: &[usize]| match classes {
        [] => names.no_class().to_owned(),
        _ => classes.iter().map(|&class| names.show(&labels[class])).collect::<Vec<_>>().join(", "),
    };
    for image in losses {
        let row = &answers.table().rows()[image.row];
        let best = row.most_probable();
        let best = format!("{} {:.4}", names.show(&labels[best]), row.probabilities[best]);
        let loss = format!("{:.4}", image.loss);
        table.row([row.path.clone(), loss, several(&row.targets), several(answers.passed(image.row)), best]);
    }
    table.render()
}

/// Exact match of each group, as they come.
#[must_use]
pub fn group_table(scores: &[GroupScore]) -> String {
    let columns = [("group", Align::Left), ("exact match", Align::Right), ("right", Align::Right)];
    let mut table = Table::new(columns.into_iter().chain([("images", Align::Right)]));
    for GroupScore { group, exact } in scores {
        table.row([group.clone(), format!("{:.4}", exact.share()), exact.hits.to_string(), exact.total.to_string()]);
    }
    table.render()
}
