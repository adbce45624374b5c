use expect_test::expect;

use super::*;
use crate::{Activation, EpochRecord, Prediction, Predictions, Thresholds};

fn names() -> ClassNames {
    ClassNames::new([("0", "零"), ("10", "十"), ("100000000", "亿")])
}

fn table() -> Predictions {
    let mut table = Predictions::new(["0", "10", "100000000"]).unwrap();
    for (path, group, target, probabilities) in [
        ("input_1_1_1.jpg", "1", 0, [0.99, 0.01, 0.0]),
        ("input_1_2_11.jpg", "1", 1, [0.02, 0.1, 0.3]),
        ("input_20_1_15.jpg", "20", 2, [0.0, 0.75, 0.25]),
        ("input_20_2_15.jpg", "20", 2, [0.6, 0.0, 0.9]),
    ] {
        let (path, group) = (path.to_owned(), Some(group.to_owned()));
        table.push(Prediction { path, group, targets: vec![target], probabilities: probabilities.to_vec() }).unwrap();
    }
    table
}

fn record(epoch: usize, phase: usize, val_loss: Option<f64>, seconds: f64) -> EpochRecord {
    EpochRecord {
        epoch,
        phase,
        step: 187,
        lr: vec![1e-3],
        train_loss: 0.123_456_78,
        val_loss,
        metrics: [("accuracy_multi", 0.999), ("top1", 0.5)].into_iter().collect(),
        seconds,
        img_s: 100.0,
    }
}

#[test]
fn epochs_look_as_in_fastai() {
    let records = [record(0, 0, Some(0.5), 59.9), record(1, 1, None, 61.0), record(2, 1, Some(f64::NAN), 7325.0)];
    expect![[r#"
        epoch     train_loss  valid_loss  accuracy_multi  time
        0         0.123457    0.500000    0.999000        00:59

        epoch     train_loss  valid_loss  accuracy_multi  time
        0         0.123457    -           0.999000        01:01
        1         0.123457    NaN         0.999000        2:02:05
    "#]]
    .assert_eq(&EpochTable::new(["accuracy_multi"]).phases(&records));
}

#[test]
fn a_metric_that_no_epoch_has_is_a_dash() {
    let row = EpochTable::new(["f1"]).row(3, &record(3, 0, Some(0.5), 1.0));
    expect!["3         0.123457    0.500000    -         00:01"].assert_eq(&row);
}

#[test]
fn headline_says_what_silence_scores() {
    let table = table();
    let answers = table.answers(Thresholds::uniform(0.5).unwrap(), Activation::Sigmoid).unwrap();
    expect![[r#"
        exact match     0.2500  1 of 4 images, 95 % by images 0.0456 to 0.6994
        top-1           0.5000
        accuracy_multi  0.6667  at threshold 0.5; saying nothing scores 0.6667
        loss            0.541150
        answers         1 none, 2 one, 1 several
    "#]]
    .assert_eq(&headline(&answers));
}

#[test]
fn chinese_characters_take_two_columns() {
    let table = table();
    let answers = table.answers(Thresholds::uniform(0.5).unwrap(), Activation::Sigmoid).unwrap();
    expect![[r#"
        class         precision  recall      f1  avg precision  roc auc  images
        0 零             0.5000  1.0000  0.6667         1.0000   1.0000       1
        10 十            0.0000  0.0000  0.0000         0.5000   0.6667       1
        100000000 亿     1.0000  0.5000  0.6667         0.8333   0.7500       2
    "#]]
    .assert_eq(&class_table(&answers.class_scores(), &table.class_rankings(), &names()));
    expect![[r#"
        true          零  十  亿  none
        0 零           1   .   .     .
        10 十          .   .   .     1
        100000000 亿   .   1   1     .
    "#]]
    .assert_eq(&confusion_table(&answers.confusion(60).unwrap(), &names()));
    expect![[r#"
        true          predicted  images
        10 十         none            1
        100000000 亿  10 十           1
    "#]]
    .assert_eq(&confused_table(&answers.most_confused(1).unwrap(), &names()));
}

#[test]
fn top_losses_and_groups() {
    let table = table();
    let answers = table.answers(Thresholds::uniform(0.5).unwrap(), Activation::Sigmoid).unwrap();
    expect![[r#"
        image                loss  true          predicted           most probable
        input_20_1_15.jpg  0.9242  100000000 亿  10 十               10 十 0.7500
        input_1_2_11.jpg   0.8932  10 十         none                100000000 亿 0.3000
        input_20_2_15.jpg  0.3406  100000000 亿  0 零, 100000000 亿  100000000 亿 0.9000
    "#]]
    .assert_eq(&top_losses_table(&answers, &table.top_losses(3, Activation::Sigmoid), &names()));
    expect![[r#"
        group  exact match  right  images
        20          0.0000      0       2
        1           0.5000      1       2
    "#]]
    .assert_eq(&group_table(&answers.group_scores()));
}

#[test]
fn no_precision_of_nothing() {
    let table = table();
    let answers = table.answers(Thresholds::uniform(0.95).unwrap(), Activation::Sigmoid).unwrap();
    expect![[r#"
        class      precision  recall      f1  avg precision  roc auc  images
        0             1.0000  1.0000  1.0000         1.0000   1.0000       1
        10                 -  0.0000  0.0000         0.5000   0.6667       1
        100000000          -  0.0000  0.0000         0.8333   0.7500       2
    "#]]
    .assert_eq(&class_table(&answers.class_scores(), &table.class_rankings(), &ClassNames::default()));
}

#[test]
fn escape_codes_in_labels_are_shown_not_obeyed() {
    let names = ClassNames::new([("0", "\u{1b}[31mred\nline")]);
    let table = table();
    let answers = table.answers(Thresholds::uniform(0.5).unwrap(), Activation::Sigmoid).unwrap();
    let text = class_table(&answers.class_scores()[..1], &table.class_rankings(), &names);
    assert!(text.contains(r"0 \u{1b}[31mred\nline"));
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn quality_is_told_line_by_line() {
    let table = table();
    let answers = table.answers(Thresholds::uniform(0.5).unwrap(), Activation::Sigmoid).unwrap();
    let quality = Quality::of(&answers, Some(&table)).unwrap();
    expect![[r#"
        95 % by images  exact match 0.0000 to 0.7500, by bootstrap
        95 % by groups  exact match 0.0000 to 0.5000, 2 writers drawn whole
        macro           precision 0.5000, recall 0.5000, f1 0.4444, average precision 0.7778, ROC AUC 0.8056
        micro           precision 0.5000, recall 0.5000, f1 0.5000, average precision 0.7679, ROC AUC 0.8125
        calibration     ECE 0.2900, Brier 0.199633
        temperature     2.610 fitted on 4 training images makes the ECE 0.2172
        thresholds      0.055 to 0.795 tuned there make the exact match 0.5000
    "#]]
    .assert_eq(&quality_lines(&quality, "writers"));
    // Where every image is right, no temperature is best.
    let mut right = Predictions::new(table.classes().to_vec()).unwrap();
    right
        .push(Prediction { path: "r".into(), group: None, targets: vec![0], probabilities: vec![0.9, 0.1, 0.1] })
        .unwrap();
    let quality = Quality::of(&answers, Some(&right)).unwrap();
    assert_eq!(quality.tuning.as_ref().unwrap().temperature, None);
    let text = quality_lines(&quality, "writers");
    assert!(text.contains("\ntemperature     none from 1/20 to 20 is best on 1 training images"), "{text}");
    let other = Predictions::new(["x"]).unwrap();
    assert!(Quality::of(&answers, Some(&other)).unwrap().tuning.is_none());
}

#[test]
fn two_by_two_tables_name_all_four_cells() {
    let table = table();
    let answers = table.answers(Thresholds::uniform(0.5).unwrap(), Activation::Sigmoid).unwrap();
    expect![[r#"
        class         is it, said so  is it, not said  is not, said so  is not, not said
        0 零                       1                0                1                 2
        10 十                      0                1                1                 2
        100000000 亿               1                1                0                 2
    "#]]
    .assert_eq(&two_by_two_table(&answers.class_scores(), &names()));
}
