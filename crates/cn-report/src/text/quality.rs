use std::fmt::Write;

use serde::Serialize;

use super::digits::{digits, share};
use crate::error::Result;
use crate::run_folder::Predictions;
use crate::scores::{
    Answers, Averages, Bootstrap, Calibration, Intervals, Rate, Temperature, Thresholds, TunedThreshold,
};

/// Bins of the reliability curve.
const BINS: usize = 10;

/// What stands behind the headline: averages, calibration, intervals.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quality {
    /// Averages over the classes.
    #[serde(flatten)]
    pub averages: Averages,
    /// Whether probabilities mean what they say.
    pub calibration: Calibration,
    /// Bootstrap intervals; `None` without images.
    pub intervals: Option<Intervals>,
    /// What a temperature and thresholds from the training part would change; `None` where there are none.
    pub tuning: Option<Tuning>,
}

/// A temperature and thresholds fitted on training images, and what they do to the images that judge.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tuning {
    /// Training images that it was fitted on.
    pub n_images: usize,
    /// The temperature; `None` where the training images have none that is best.
    pub temperature: Option<TunedTemperature>,
    /// A threshold for each class.
    pub thresholds: Vec<TunedThreshold>,
    /// Judging images whose whole label set is right at those thresholds.
    pub exact_match: Rate,
}

/// A temperature, and what it does to the images that judge.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TunedTemperature {
    /// The fit.
    #[serde(flatten)]
    pub fit: Temperature,
    /// Calibration of the judging images at this temperature.
    pub calibration: Calibration,
}

impl Quality {
    /// Everything about `answers`; `training` holds predictions for a part of the training images.
    ///
    /// # Errors
    ///
    /// If `training` has other classes.
    pub fn of(answers: &Answers<'_>, training: Option<&Predictions>) -> Result<Self> {
        let tuning = training.filter(|training| training.classes() == answers.table().classes());
        Ok(Self {
            averages: answers.averages(),
            calibration: answers.table().calibration(BINS),
            intervals: answers.intervals(&Bootstrap::default()),
            tuning: tuning.map(|training| Tuning::of(answers, training)).transpose()?.flatten(),
        })
    }
}

impl Tuning {
    /// `None` without training images.
    fn of(answers: &Answers<'_>, training: &Predictions) -> Result<Option<Self>> {
        if training.rows().is_empty() {
            return Ok(None);
        }
        let (table, activation) = (answers.table(), answers.activation());
        let scaled = |fit: Temperature| -> Result<_> {
            let calibration = table.at_temperature(fit.value, activation)?.calibration(BINS);
            Ok(TunedTemperature { fit, calibration })
        };
        let thresholds = training.tune_thresholds(0.5);
        Ok(Some(Self {
            n_images: training.rows().len(),
            temperature: training.fit_temperature(activation).map(scaled).transpose()?,
            exact_match: table.answers(Thresholds::tuned(&thresholds)?, activation)?.exact_match(),
            thresholds,
        }))
    }
}

/// A line for each of averages, calibration, intervals and tuning.
#[must_use]
pub fn quality_lines(quality: &Quality, groups: &str) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    if let Some(intervals) = &quality.intervals {
        let ends = |[low, high]: [f64; 2]| {
            let digits = digits(1.0, 4, &[low, high]);
            format!("{low:.digits$} to {high:.digits$}")
        };
        lines.push(("95 % by images", format!("exact match {}, by bootstrap", ends(intervals.images.exact_match))));
        if let Some(set) = &intervals.groups {
            let text = format!("exact match {}, {}", ends(set.exact_match), intervals.units_text(groups));
            lines.push(("95 % by groups", text));
        }
    }
    let left_out = match quality.averages.n_unranked {
        0 => String::new(),
        n => format!(" (without {n} that cannot be ranked)"),
    };
    for (name, average, left_out) in
        [("macro", &quality.averages.macro_, left_out.as_str()), ("micro", &quality.averages.micro, "")]
    {
        let known = |value: Option<f64>| value.map_or("-".into(), share);
        lines.push((
            name,
            format!(
                "precision {}, recall {}, f1 {}, average precision {}, ROC AUC {}{left_out}",
                share(average.precision),
                share(average.recall),
                share(average.f1),
                known(average.ranking.average_precision),
                known(average.ranking.roc_auc)
            ),
        ));
    }
    let Calibration { ece, brier, .. } = &quality.calibration;
    lines.push(("calibration", format!("ECE {ece:.4}, Brier {brier:.6}")));
    if let Some(tuning) = &quality.tuning {
        let n = tuning.n_images;
        let text = match &tuning.temperature {
            Some(TunedTemperature { fit, calibration }) => {
                format!("{:.3} fitted on {n} training images makes the ECE {:.4}", fit.value, calibration.ece)
            }
            None => format!("none from 1/20 to 20 is best on {n} training images"),
        };
        lines.push(("temperature", text));
        let exact = share(tuning.exact_match.share());
        let (low, high) = ends_of(&tuning.thresholds);
        lines.push(("thresholds", format!("{low:.3} to {high:.3} tuned there make the exact match {exact}")));
    }
    lines.iter().fold(String::new(), |mut text, (name, value)| {
        writeln!(text, "{name:<14}  {value}").expect("a string takes any text");
        text
    })
}

fn ends_of(thresholds: &[TunedThreshold]) -> (f32, f32) {
    let values = thresholds.iter().map(|class| class.threshold);
    (values.clone().fold(f32::INFINITY, f32::min), values.fold(f32::NEG_INFINITY, f32::max))
}
