//! The numbers of scikit-learn.

use super::*;
use crate::Bootstrap;

/// f64 sums in another order.
const TOLERANCE: f64 = 1e-9;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/scores.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn table_of(block: &Value) -> Predictions {
    let rows = block["targets"].as_array().unwrap().iter().zip(block["probabilities"].as_array().unwrap());
    let n_classes = block["classes"].as_array().unwrap().len();
    let row = |(i, (targets, probabilities)): (usize, (&Value, &Value))| {
        let targets: Vec<usize> = targets.as_array().unwrap().iter().map(|t| t.as_u64().unwrap() as usize).collect();
        image(&i.to_string(), &targets, floats(probabilities))
    };
    table(n_classes, rows.enumerate().map(row))
}

fn same(found: f64, expected: &Value) {
    close(found, expected.as_f64().unwrap(), TOLERANCE);
}

/// Calls `check` with each table and its numbers.
fn each(check: impl Fn(&Predictions, &Answers<'_>, &Value)) {
    let golden = golden();
    for name in ["single", "multi"] {
        let block = &golden[name];
        let table = table_of(block);
        let answers =
            table.answers(Thresholds::per_class(floats(&block["thresholds"])).unwrap(), Activation::Sigmoid).unwrap();
        check(&table, &answers, block);
    }
}

#[test]
fn rates_and_loss() {
    each(|table, answers, golden| {
        same(answers.exact_match().share(), &golden["exact_match"]);
        same(answers.accuracy_multi().share(), &golden["accuracy_multi"]);
        same(table.loss(Activation::Sigmoid), &golden["loss"]);
    });
}

#[test]
fn classes() {
    each(|table, answers, golden| {
        let classes = answers.class_scores().into_iter().zip(table.class_rankings());
        for ((score, ranking), want) in classes.zip(golden["classes"].as_array().unwrap()) {
            let matrix = [[score.true_negative, score.false_positive], [score.false_negative, score.true_positive]];
            assert_eq!(serde_json::to_value(matrix).unwrap(), want["matrix"]);
            same(score.precision.unwrap(), &want["precision"]);
            same(score.recall.unwrap(), &want["recall"]);
            same(score.f1.unwrap(), &want["f1"]);
            same(ranking.ranking.average_precision.unwrap(), &want["average_precision"]);
            same(ranking.ranking.roc_auc.unwrap(), &want["roc_auc"]);
        }
    });
}

#[test]
fn averages() {
    each(|_, answers, golden| {
        let averages = serde_json::to_value(answers.averages()).unwrap();
        for kind in ["macro", "micro"] {
            for (name, want) in golden[kind].as_object().unwrap() {
                same(averages[kind][name].as_f64().unwrap(), want);
            }
        }
    });
}

#[test]
fn calibration() {
    each(|table, _, golden| {
        let calibration = table.calibration(10);
        same(calibration.ece, &golden["ece"]);
        same(calibration.brier, &golden["brier"]);
        let [accuracy, confidence] =
            ["accuracy", "confidence"].map(|key| golden["reliability"][key].as_array().unwrap());
        assert_eq!(calibration.bins.len(), accuracy.len());
        for (bin, (accuracy, confidence)) in calibration.bins.iter().zip(accuracy.iter().zip(confidence)) {
            same(bin.accuracy, accuracy);
            same(bin.confidence, confidence);
        }
    });
}

#[test]
fn temperature() {
    each(|table, _, golden| {
        let fitted = table.fit_temperature(Activation::Sigmoid).unwrap();
        let want = &golden["temperature"];
        same(fitted.loss_after, &want["loss"]);
        // Near its minimum the loss is flat: f64 tells places apart by the root of its last digit.
        close(fitted.value, want["value"].as_f64().unwrap(), 1e-6);
        same(fitted.loss_before, &golden["loss"]);
        let scaled = table.at_temperature(fitted.value, Activation::Sigmoid).unwrap();
        close(scaled.loss(Activation::Sigmoid), fitted.loss_after, 1e-6); // Probabilities are f32.
    });
}

#[test]
fn thresholds_reach_the_best_f1_of_the_curve() {
    each(|table, _, golden| {
        let tuned = table.tune_thresholds(0.5);
        let answers = table.answers(Thresholds::tuned(&tuned).unwrap(), Activation::Sigmoid).unwrap();
        for ((class, score), want) in
            tuned.iter().zip(answers.class_scores()).zip(golden["classes"].as_array().unwrap())
        {
            same(class.f1.unwrap(), &want["best_f1"]);
            assert_eq!(score.f1, class.f1);
        }
    });
}

#[test]
fn a_class_without_images_has_no_ranking_and_keeps_its_threshold() {
    let table = table(2, [image("1", &[0], [0.9, 0.1]), image("2", &[0], [0.4, 0.3])]);
    let ranking = table.class_rankings()[1].ranking;
    assert_eq!((ranking.average_precision, ranking.roc_auc), (None, None));
    assert_eq!(table.class_rankings()[0].ranking.roc_auc, None);
    let tuned = table.tune_thresholds(0.25);
    assert_eq!((tuned[1].threshold, tuned[1].f1), (0.25, None));
    assert_eq!((tuned[0].threshold, tuned[0].f1), (0.2, Some(1.0)));
}

#[test]
fn an_overconfident_softmax_is_cooled() {
    let row = |path: &str, target| image(path, &[target], [0.99, 0.01]);
    let table = table(2, [row("1", 0), row("2", 0), row("3", 0), row("4", 1)]);
    let fitted = table.fit_temperature(Activation::Softmax).unwrap();
    // Three of four are right, so that 0.75 is the probability to say: its logit is ln 3, that of 0.99 is ln 99.
    close(fitted.value, 99f64.ln() / 3f64.ln(), 1e-5);
    let scaled = table.at_temperature(fitted.value, Activation::Softmax).unwrap();
    close(f64::from(scaled.rows()[0].probabilities[0]), 0.75, 1e-6);
    close(scaled.calibration(10).ece, 0.0, 1e-6);
}

/// Ten groups of ten images; of two groups everything is wrong.
fn clustered() -> Predictions {
    let row = |i: usize| Prediction {
        group: Some((i / 10).to_string()),
        ..image(&format!("{i:03}"), &[0], [if i < 20 { 0.1 } else { 0.9 }, 0.2])
    };
    table(2, (0..100).map(row))
}

#[test]
fn intervals_by_groups_are_wider_where_errors_come_together() {
    let table = clustered();
    let intervals = table.answers(at(0.5), Activation::Sigmoid).unwrap().intervals(&Bootstrap::default()).unwrap();
    let (images, groups) = (intervals.images, intervals.groups.unwrap());
    assert_eq!((images.units, groups.units), (100, 10));
    let width = |[low, high]: [f64; 2]| high - low;
    // Standard errors by the binomial: 0.04 of 100 images, 0.126 of 10 groups.
    close(width(images.exact_match), 2.0 * 1.96 * 0.04, 0.02);
    close(width(groups.exact_match), 2.0 * 1.96 * 0.126, 0.11);
    let [low, high] = images.exact_match;
    assert!(low < 0.8 && 0.8 < high);
    // A refused image is one wrong answer of two: half the width.
    close(width(images.accuracy_multi), width(images.exact_match) / 2.0, 1e-9);
}

#[test]
fn intervals_do_not_depend_on_the_order_but_on_the_seed() {
    let table = clustered();
    let mut other = Predictions::new(table.classes().to_vec()).unwrap();
    table.rows().iter().rev().for_each(|row| other.push(row.clone()).unwrap());
    let of = |table: &Predictions, seed| {
        table.answers(at(0.5), Activation::Sigmoid).unwrap().intervals(&Bootstrap { resamples: 50, seed }).unwrap()
    };
    assert_eq!(of(&table, 1), of(&other, 1));
    assert_ne!(of(&table, 1).images, of(&table, 2).images);
    // One group drawn whole is the same whatever is drawn.
    let one = super::table(1, [("a", 0.9), ("b", 0.1)].map(|(path, p)| super::image(path, &[0], [p])));
    assert!(of(&one, 1).groups.is_none());
    let empty = Predictions::new(["a"]).unwrap();
    assert!(empty.answers(at(0.5), Activation::Sigmoid).unwrap().intervals(&Bootstrap::default()).is_none());
    for probability in [0.9, 0.1] {
        let same = super::table(1, ["a", "b", "c"].map(|path| super::image(path, &[0], [probability])));
        let found = same.answers(at(0.5), Activation::Sigmoid).unwrap().intervals(&Bootstrap::default());
        assert!(found.is_none(), "all right, or all wrong: {found:?}");
    }
}
