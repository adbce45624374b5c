use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{Activation, Error, Prediction, Predictions, Thresholds};

mod sklearn;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/ops.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn sigmoid(x: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(x)).exp())) as f32
}

/// The golden logits as a table of probabilities, with their one-hot targets as fastai sees them.
fn golden_table(block: &Value) -> (Predictions, Vec<f32>, Vec<f32>) {
    let mut table = Predictions::new((0..15).map(|i| i.to_string())).unwrap();
    let (mut logits, mut one_hot) = (Vec::new(), Vec::new());
    let targets = block["target_class"].as_array().unwrap();
    for (i, (row, target)) in block["logits"].as_array().unwrap().iter().zip(targets).enumerate() {
        let target = target.as_u64().unwrap() as usize;
        let row = floats(row);
        one_hot.extend((0..15).map(|class| f32::from(u8::from(class == target))));
        table.push(image(&i.to_string(), &[target], row.iter().copied().map(sigmoid))).unwrap();
        logits.extend(row);
    }
    (table, logits, one_hot)
}

fn image(path: &str, targets: &[usize], probabilities: impl IntoIterator<Item = f32>) -> Prediction {
    let probabilities = probabilities.into_iter().collect();
    Prediction { path: path.into(), group: None, targets: targets.to_vec(), probabilities }
}

fn table(n_classes: usize, rows: impl IntoIterator<Item = Prediction>) -> Predictions {
    let mut table = Predictions::new((0..n_classes).map(|i| format!("c{i}"))).unwrap();
    rows.into_iter().for_each(|row| table.push(row).unwrap());
    table
}

fn at(threshold: f32) -> Thresholds {
    Thresholds::uniform(threshold).unwrap()
}

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} is not {expected}");
}

#[test]
fn loss_of_logits_equals_torch() {
    let golden = &golden()["bce"];
    let (_, logits, one_hot) = golden_table(golden);
    close(bce_with_logits(&logits, &one_hot), golden["loss"].as_f64().unwrap(), 1e-12);
    for (i, expected) in golden["loss_per_image"].as_array().unwrap().iter().enumerate() {
        let part = i * 15..(i + 1) * 15;
        close(bce_with_logits(&logits[part.clone()], &one_hot[part]), expected.as_f64().unwrap(), 1e-12);
    }
}

#[test]
fn loss_of_probabilities_equals_torch_up_to_the_clamp() {
    let golden = golden();
    let (table, _, _) = golden_table(&golden["accuracy_multi"]);
    let (_, logits, one_hot) = golden_table(&golden["accuracy_multi"]);
    // Rounding a probability to f32 moves ln(1 - p) by 2^-25 / (1 - p): about 1e-6 at these logits.
    close(table.loss(Activation::Sigmoid), bce_with_logits(&logits, &one_hot), 1e-6);

    // The other block has wrong logits of 30: where they say yes, the table can prove no more than 25 ln 2 of them.
    let (table, logits, one_hot) = golden_table(&golden["bce"]);
    let limit = 25.0 * std::f64::consts::LN_2;
    let clamped = logits.iter().zip(&one_hot).map(|(&x, &t)| {
        let (wrong_by, most) = if t == 1.0 { (-x, 6.0 * limit) } else { (x, limit) };
        f64::from(wrong_by).exp().ln_1p().min(most)
    });
    // Beyond logits of -88 the steps of f32 grow wide.
    close(table.loss(Activation::Sigmoid), clamped.sum::<f64>() / logits.len() as f64, 1e-3);
}

#[test]
fn bce_is_finite_for_huge_logits() {
    assert_eq!(bce_with_logits(&[1e4, -1e4], &[1.0, 0.0]), 0.0);
    assert_eq!(bce_with_logits(&[1e4, -1e4], &[0.0, 1.0]), 1e4);
    assert!(bce_with_logits(&[f32::NAN], &[0.0]).is_nan());
}

#[test]
fn certain_and_wrong_is_finite_certain_and_right_costs_nothing() {
    let limits = 150.0 * std::f64::consts::LN_2 + 25.0 * std::f64::consts::LN_2;
    assert_eq!(table(2, [image("a", &[0], [0.0, 1.0])]).loss(Activation::Sigmoid), limits / 2.0);
    assert_eq!(table(2, [image("a", &[0], [1.0, 0.0])]).loss(Activation::Sigmoid), 0.0);
}

#[test]
fn accuracies_equal_fastai() {
    let golden = &golden()["accuracy_multi"];
    let (table, _, _) = golden_table(golden);
    for (threshold, key) in [(0.2, "0_2"), (0.5, "0_5")] {
        let answers = table.answers(at(threshold), Activation::Sigmoid).unwrap();
        let number = |name: &str| golden[format!("{name}_{key}")].as_f64().unwrap();
        assert_eq!(answers.accuracy_multi().hits as f64, number("correct_entries"));
        close(answers.accuracy_multi().share(), number("thresh"), 6e-8); // f32 in the file
        assert_eq!(answers.exact_match().share(), number("exact_match"));
    }
    assert_eq!(table.top1().share(), golden["top1"].as_f64().unwrap());
    let never = table.answers(at(1.0), Activation::Sigmoid).unwrap();
    assert_eq!(never.accuracy_multi().share(), golden["always_none"].as_f64().unwrap());
}

#[test]
fn bits_equal_fastai() {
    let golden = golden();
    let (table, _, _) = golden_table(&golden["accuracy_multi"]);
    let bits = table.answers(at(0.5), Activation::Sigmoid).unwrap().multilabel_bits();
    let number = |name: &str| golden["multilabel_confusion_0_5"][name].as_u64().unwrap() as usize;
    assert_eq!(bits[0], [number("true_negative"), number("false_positive")]);
    assert_eq!(bits[1], [number("false_negative"), number("true_positive")]);
}

#[test]
fn the_threshold_itself_does_not_pass() {
    let table = table(2, [image("a", &[0], [0.2, 0.1])]);
    assert!(table.answers(at(0.2), Activation::Sigmoid).unwrap().passed(0).is_empty());
    assert_eq!(table.answers(at(0.199_999_99), Activation::Sigmoid).unwrap().passed(0), [0]);
}

#[test]
fn thresholds_may_differ_by_class() {
    let table = table(2, [image("a", &[1], [0.6, 0.3])]);
    let answers = table.answers(Thresholds::per_class(vec![0.7, 0.2]).unwrap(), Activation::Sigmoid).unwrap();
    assert_eq!(answers.exact_match(), Rate { hits: 1, total: 1 });
    assert_eq!(answers.val_summary().threshold, None);
    let wrong = table.answers(Thresholds::per_class(vec![0.5]).unwrap(), Activation::Sigmoid);
    assert!(matches!(wrong, Err(Error::ThresholdCount { found: 1, expected: 2 })));
    assert!(matches!(Thresholds::uniform(f32::NAN), Err(Error::Threshold { .. })));
    assert!(matches!(Thresholds::per_class(vec![1.5]), Err(Error::Threshold { .. })));
}

#[test]
fn a_nan_is_an_error_that_names_the_image() {
    let mut table = Predictions::new(["a", "b"]).unwrap();
    let error = table.push(image("x/1.png", &[0], [0.5, f32::NAN])).unwrap_err();
    assert_eq!(error.to_string(), "image `x/1.png` class `b`: NaN is not a probability");
    assert_eq!(error.hint(), Some("the training diverged: lower the learning rate"));
    assert!(table.rows().is_empty());
    for value in [1.000_001, -1e-9, f32::INFINITY] {
        let error = table.push(image("x", &[0], [value, 0.0])).unwrap_err();
        assert!(matches!(error, Error::Probability { .. }));
    }
}

#[test]
fn misfitting_rows_are_errors() {
    let mut table = Predictions::new(["a", "b"]).unwrap();
    let count = table.push(image("x", &[0], [0.5])).unwrap_err();
    assert_eq!(count.to_string(), "image `x`: 1 probabilities for 2 classes");
    let target = table.push(image("x", &[2], [0.5, 0.5])).unwrap_err();
    assert_eq!(target.to_string(), "image `x`: target 2 is not below the class count 2");
    assert!(Predictions::new(Vec::<String>::new()).is_err());
    assert!(Predictions::new(["a", "b", "a"]).unwrap_err().to_string().contains("`a`"));
}

/// Three classes: one right, one refused, one taken for another, one with two answers, one wrong pair twice.
fn five() -> Predictions {
    table(
        3,
        [
            image("1", &[0], [0.9, 0.1, 0.1]),
            image("2", &[1], [0.1, 0.3, 0.2]),
            image("3", &[2], [0.1, 0.8, 0.4]),
            image("4", &[2], [0.6, 0.1, 0.9]),
            image("5", &[2], [0.0, 0.7, 0.6]),
        ],
    )
}

#[test]
fn confusion_has_each_image_once() {
    let table = five();
    let answers = table.answers(at(0.5), Activation::Sigmoid).unwrap();
    let confusion = answers.confusion(3).unwrap();
    assert_eq!(confusion.counts, [[1, 0, 0, 0], [0, 0, 0, 1], [0, 2, 1, 0]]);
    let most = answers.confusion(2).unwrap();
    assert_eq!((most.labels, most.n_classes), (vec!["c1".into(), "c2".into()], 3));
    assert_eq!(most.counts, [[0, 0, 1], [2, 1, 0]]);
    let pairs = answers.most_confused(1).unwrap();
    let names = |pair: &ConfusedPair| (pair.truth.clone(), pair.predicted.clone(), pair.rows.clone());
    assert_eq!(names(&pairs[0]), ("c2".into(), Some("c1".into()), vec![2, 4]));
    assert_eq!(names(&pairs[1]), ("c1".into(), None, vec![1]));
    assert_eq!(pairs.len(), 2);
    assert_eq!(answers.most_confused(2).unwrap().len(), 1);
    assert_eq!(answers.counts(), AnswerCounts { none: 1, one: 2, several: 2 });
}

#[test]
fn a_matrix_of_many_classes_takes_the_memory_of_what_it_shows() {
    // All of them would take 20 GB.
    let n = 50_000;
    let rows = [(3, 49_999), (49_999, 49_999), (7, 3)].map(|(truth, said)| {
        let mut probabilities = vec![0.0; n];
        probabilities[said] = 0.9;
        image(&format!("{truth}"), &[truth], probabilities)
    });
    let table = table(n, rows);
    let confusion = table.answers(at(0.5), Activation::Sigmoid).unwrap().confusion(3).unwrap();
    assert_eq!((confusion.labels, confusion.n_classes), (vec!["c3".into(), "c7".into(), "c49999".into()], n));
    assert_eq!(confusion.counts, [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0]]);
}

#[test]
fn class_scores_are_those_of_the_two_by_two_table() {
    let table = five();
    let scores = table.answers(at(0.5), Activation::Sigmoid).unwrap().class_scores();
    let last = &scores[2];
    assert_eq!((last.true_positive, last.false_positive), (2, 0));
    assert_eq!((last.false_negative, last.true_negative, last.support), (1, 2, 3));
    assert_eq!((last.precision, last.recall, last.f1), (Some(1.0), Some(2.0 / 3.0), Some(0.8)));
    assert_eq!((scores[1].precision, scores[1].recall, scores[1].f1), (Some(0.0), Some(0.0), Some(0.0)));
    let silent = table.answers(at(1.0), Activation::Sigmoid).unwrap().class_scores();
    assert_eq!((silent[0].precision, silent[0].recall), (None, Some(0.0)));
}

#[test]
fn several_labels_have_no_confusion_but_exact_match() {
    let table = table(3, [image("a", &[2, 0], [0.9, 0.1, 0.8]), image("b", &[], [0.1, 0.1, 0.1])]);
    let answers = table.answers(at(0.5), Activation::Sigmoid).unwrap();
    assert_eq!(answers.exact_match(), Rate { hits: 2, total: 2 });
    assert!(answers.confusion(3).is_none() && answers.most_confused(1).is_none());
    // An image without any label has no most probable one to be right about.
    assert_eq!(table.top1(), Rate { hits: 1, total: 1 });
}

#[test]
fn groups_come_worst_first() {
    let grouped = |path: &str, group: &str, p: f32| Prediction { group: Some(group.into()), ..image(path, &[0], [p]) };
    let table = table(1, [grouped("1", "b", 0.9), grouped("2", "a", 0.9), grouped("3", "c", 0.1)]);
    let scores = table.answers(at(0.5), Activation::Sigmoid).unwrap().group_scores();
    let names: Vec<_> = scores.iter().map(|score| score.group.as_str()).collect();
    assert_eq!(names, ["c", "a", "b"]);
    // Images without a group are none, and each is drawn alone.
    let mixed = self::table(
        1,
        [grouped("1", "b", 0.9), grouped("2", "a", 0.1), image("3", &[0], [0.9]), image("4", &[0], [0.9])],
    );
    let answers = mixed.answers(at(0.5), Activation::Sigmoid).unwrap();
    assert_eq!(answers.group_scores().len(), 2);
    let intervals = answers.intervals(&Bootstrap::default()).unwrap();
    assert_eq!(intervals.units_text("writers"), "2 writers drawn whole, and 2 images without");
    assert_eq!(intervals.groups.unwrap().units, 4);
    assert!(five().answers(at(0.5), Activation::Sigmoid).unwrap().group_scores().is_empty());
}

#[test]
fn top_losses_are_sorted_and_ties_go_by_path() {
    let rows = [("b", 0.5), ("a", 0.5), ("c", 0.1), ("d", 0.9)];
    let table = table(1, rows.map(|(path, p)| image(path, &[0], [p])));
    let top: Vec<usize> = table.top_losses(3, Activation::Sigmoid).iter().map(|image| image.row).collect();
    assert_eq!(top, [2, 1, 0]);
}

#[test]
fn wilson_equals_known_values() {
    // Computed with 50 digits from the closed form.
    for (hits, total, expected) in [
        (2994, 3000, [0.995_643_196_939_146_6, 0.999_083_069_730_416_7]),
        (3000, 3000, [0.998_721_151_274_674, 1.0]),
        (0, 10, [0.0, 0.277_532_799_862_889_25]),
    ] {
        let found = Rate { hits, total }.wilson95();
        close(found[0], expected[0], 1e-12);
        close(found[1], expected[1], 1e-12);
    }
    assert_eq!(Rate { hits: 0, total: 0 }.wilson95(), [0.0, 1.0]);
}

#[test]
fn an_empty_table_claims_nothing() {
    let table = Predictions::new(["a"]).unwrap();
    let val = table.answers(at(0.5), Activation::Sigmoid).unwrap().val_summary();
    assert!(val.loss.is_nan() && val.exact_match.is_nan() && val.top1.is_nan());
}

/// Tables of up to 30 images with one target each; probabilities on a coarse grid, so that ties and thresholds are hit.
fn tables() -> impl Strategy<Value = Predictions> {
    (1..6_usize, 0..30_usize).prop_flat_map(|(k, n)| {
        let row = (0..k, proptest::collection::vec((0..=10_u8).prop_map(|p| f32::from(p) / 10.0), k));
        proptest::collection::vec(row, n).prop_map(move |rows| {
            let rows = rows.into_iter().enumerate();
            table(
                k,
                rows.map(|(i, (target, p))| Prediction {
                    group: Some((i % 3).to_string()),
                    ..image(&i.to_string(), &[target], p)
                }),
            )
        })
    })
}

proptest! {
    #[test]
    fn counts_equal_naive_loops(table in tables(), threshold in 0..=10_u8) {
        let threshold = f32::from(threshold) / 10.0;
        let answers = table.answers(at(threshold), Activation::Sigmoid).unwrap();
        let (mut bits, mut exact, mut top1, mut none, mut loss) = (0, 0, 0, 0, 0.0);
        for row in table.rows() {
            let (mut wrong, mut passing, mut best) = (0, 0, 0);
            for (class, &p) in row.probabilities.iter().enumerate() {
                let truth = row.targets.contains(&class);
                wrong += usize::from((p > threshold) != truth);
                passing += usize::from(p > threshold);
                if p > row.probabilities[best] { best = class; }
                let right = if truth { f64::from(p) } else { 1.0 - f64::from(p) };
                let most = if truth { 150.0 } else { 25.0 };
                loss += -right.ln().max(-most * std::f64::consts::LN_2) / row.probabilities.len() as f64;
            }
            bits += row.probabilities.len() - wrong;
            exact += usize::from(wrong == 0);
            none += usize::from(passing == 0);
            top1 += usize::from(row.targets.contains(&best));
        }
        prop_assert_eq!(answers.accuracy_multi().hits, bits);
        prop_assert_eq!(answers.exact_match().hits, exact);
        prop_assert_eq!(answers.counts().none, none);
        prop_assert_eq!(table.top1().hits, top1);
        if !table.rows().is_empty() {
            close(table.loss(Activation::Sigmoid), loss / table.rows().len() as f64, 1e-12);
        }
    }

    #[test]
    fn counts_add_up(table in tables(), threshold in 0..=10_u8) {
        let answers = table.answers(at(f32::from(threshold) / 10.0), Activation::Sigmoid).unwrap();
        let n = table.rows().len();
        let counts = answers.counts();
        prop_assert_eq!(counts.none + counts.one + counts.several, n);
        let confusion = answers.confusion(usize::MAX).unwrap();
        for (score, row) in answers.class_scores().iter().zip(&confusion.counts) {
            prop_assert_eq!(row.iter().sum::<usize>(), score.support);
            prop_assert_eq!(score.true_positive + score.false_positive + score.false_negative + score.true_negative, n);
        }
        let diagonal: usize = confusion.counts.iter().enumerate().map(|(i, row)| row[i]).sum();
        let confused: usize = answers.most_confused(0).unwrap().iter().map(|pair| pair.count).sum();
        prop_assert_eq!(diagonal + confused, n);
        let refused: usize = confusion.counts.iter().map(|row| row[row.len() - 1]).sum();
        prop_assert_eq!(refused, counts.none);
        let grouped: usize = answers.group_scores().iter().map(|group| group.exact.total).sum();
        prop_assert_eq!(grouped, n);
        let [low, high] = answers.exact_match().wilson95();
        prop_assert!(n == 0 || (low <= answers.exact_match().share() && answers.exact_match().share() <= high));
    }

    #[test]
    fn the_order_of_the_images_changes_nothing(table in tables(), by in 0..30_usize) {
        let mut rows = table.rows().to_vec();
        let by = by % rows.len().max(1);
        rows.rotate_left(by);
        rows.reverse();
        let mut other = Predictions::new(table.classes().to_vec()).unwrap();
        rows.into_iter().for_each(|row| other.push(row).unwrap());
        let (a, b) = (table.answers(at(0.5), Activation::Sigmoid).unwrap(), other.answers(at(0.5), Activation::Sigmoid).unwrap());
        prop_assert_eq!(table.loss(Activation::Sigmoid).to_bits(), other.loss(Activation::Sigmoid).to_bits());
        prop_assert_eq!(a.class_scores(), b.class_scores());
        prop_assert_eq!(a.confusion(2), b.confusion(2));
        prop_assert_eq!(a.confusion(99), b.confusion(99));
        prop_assert_eq!(a.group_scores(), b.group_scores());
        let paths = |of: &Predictions| of.top_losses(9, Activation::Sigmoid).iter().map(|i| of.rows()[i.row].path.clone()).collect::<Vec<_>>();
        prop_assert_eq!(paths(&table), paths(&other));
        let named = |of: &Predictions, pairs: Vec<ConfusedPair>| pairs.into_iter().map(|pair| {
            let paths: Vec<_> = pair.rows.iter().map(|&row| of.rows()[row].path.clone()).collect();
            (pair.truth, pair.predicted, pair.count, paths)
        }).collect::<Vec<_>>();
        prop_assert_eq!(named(&table, a.most_confused(1).unwrap()), named(&other, b.most_confused(1).unwrap()));
    }
}
