use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn folder() -> (tempfile::TempDir, RunFolder) {
    let dir = tempfile::tempdir().unwrap();
    let run = RunFolder::new(dir.path());
    (dir, run)
}

/// The error with its cause, without the folder, which differs each time.
fn check_error<T: std::fmt::Debug>(result: Result<T>, run: &RunFolder, expected: Expect) {
    let error = result.unwrap_err();
    assert!(error.hint().is_some());
    let cause = std::error::Error::source(&error).map(|cause| format!("\ncause: {cause}"));
    let text = format!("{error}{}", cause.unwrap_or_default());
    expected.assert_eq(&text.replace(&format!("{}/", run.root().display()), ""));
}

const SUMMARY: &str = r#"{"schema":1,"run":"runs/x","arch":"resnet18","weights":"none","device":"cpu","precision":"f32","threads":2,"isa":"avx512","data":{"name":"chinese-mnist","sha256":"ab","synthetic":false,"n_train":12000,"n_val":3000,"split":"random","seed":42,"vocab":["0","1"],"groups_shared":100},"recipe":"notebook","epochs":7,"image_size":128,"batch_size":64,"val":{"loss":0.1,"accuracy_multi":0.99,"threshold":0.2,"exact_match":0.9,"exact_match_ci95":[0.8,0.95],"top1":0.92,"refused":3},"seconds":{"total":9.5,"to_first_step":1.5,"train":7.0,"validate":1.0},"train_img_s":100.5,"infer_img_s":300.0,"peak_rss_mib":512,"weights_sha256":"cd"}"#;

fn summary() -> Summary {
    serde_json::from_str(SUMMARY).unwrap()
}

#[test]
fn summary_has_the_keys_in_their_order() {
    assert_eq!(summary().to_json_line(), SUMMARY);
}

#[test]
fn summary_survives_the_disk() {
    let (_dir, run) = folder();
    assert!(!run.is_finished());
    summary().write(run.summary()).unwrap();
    assert!(run.is_finished());
    assert_eq!(Summary::read(run.summary()).unwrap(), summary());
    let mut lost = summary();
    lost.val.loss = f64::NAN;
    lost.val.threshold = None;
    lost.data.groups_shared = None;
    lost.write(run.summary()).unwrap();
    let read = Summary::read(run.summary()).unwrap();
    assert!(read.val.loss.is_nan());
    assert_eq!(read.val.threshold, None);
}

#[test]
fn missing_summary_is_named() {
    let (_dir, run) = folder();
    check_error(Summary::read(run.summary()), &run, expect!["`summary.json` does not exist"]);
}

#[test]
fn cut_summary_is_named_by_line_and_column() {
    let (_dir, run) = folder();
    summary().write(run.summary()).unwrap();
    let text = std::fs::read_to_string(run.summary()).unwrap();
    std::fs::write(run.summary(), &text[..60]).unwrap();
    check_error(
        Summary::read(run.summary()),
        &run,
        expect![[r#"
            `summary.json` line 5 column 2: not the JSON that was expected
            cause: EOF while parsing a value at line 5 column 2"#]],
    );
    std::fs::write(run.summary(), text.replace("\"n_val\": 3000", "\"n_val\": -1")).unwrap();
    check_error(
        Summary::read(run.summary()),
        &run,
        expect![[r#"
        `summary.json` line 15 column 15: not the JSON that was expected
        cause: invalid value: integer `-1`, expected usize at line 15 column 15"#]],
    );
}

#[test]
fn every_cut_of_a_file_is_an_error_and_no_panic() {
    let (_dir, run) = folder();
    let text = SUMMARY.as_bytes();
    for end in 0..text.len() {
        std::fs::write(run.summary(), &text[..end]).unwrap();
        assert!(matches!(Summary::read(run.summary()), Err(Error::Json { .. })));
    }
}

#[test]
fn newer_schema_is_no_damage() {
    let (_dir, run) = folder();
    std::fs::write(run.summary(), r#"{"schema": 2, "all": "different"}"#).unwrap();
    check_error(Summary::read(run.summary()), &run, expect!["`summary.json` has schema 2, this program reads up to 1"]);
}

#[test]
fn a_folder_with_a_run_is_refused() {
    let (dir, _) = folder();
    let run = RunFolder::new(dir.path().join("a/b"));
    run.create().unwrap();
    run.create().unwrap();
    write_atomic(run.config(), b"").unwrap();
    assert!(run.holds_run());
    let error = run.create().unwrap_err();
    assert!(matches!(error, Error::RunExists { .. }));
}

#[test]
fn atomic_writes_replace_and_leave_nothing_behind() {
    let (_dir, run) = folder();
    write_atomic(run.manifest(), b"old").unwrap();
    write_atomic(run.manifest(), b"new").unwrap();
    assert_eq!(std::fs::read(run.manifest()).unwrap(), b"new");
    // A folder cannot be replaced by a file: the write fails at its last step.
    std::fs::create_dir(run.checkpoints()).unwrap();
    assert!(matches!(write_atomic(run.checkpoints(), b"x"), Err(Error::Write { .. })));
    assert!(matches!(write_atomic(run.root().join("no/such/f"), b"x"), Err(Error::Write { .. })));
    assert_eq!(std::fs::read_dir(run.root()).unwrap().count(), 2);
}

fn manifest() -> Manifest {
    let hash = |digit: &str| digit.repeat(64);
    Manifest {
        schema: MANIFEST_SCHEMA,
        started: "2026-01-31T12:00:00Z".into(),
        command: vec!["cn-train".into(), "train".into()],
        data: DataHashes {
            name: "toy".into(),
            n_images: 12,
            content_sha256: hash("1"),
            index_sha256: hash("2"),
            split_sha256: hash("3"),
        },
        weights: WeightsHash { name: "none".into(), sha256: hash("4") },
        weights_from: None,
        config_sha256: hash("5"),
        versions: Versions { cn_train: "0.1.0".into() },
        isa: "avx2".into(),
        kernel_plan: 1,
        threads: 2,
        forced: Vec::new(),
        machine: Machine { os: "linux".into(), arch: "x86_64".into(), cpu: None, cores: 2 },
    }
}

#[test]
fn a_manifest_comes_back_as_it_was_written() {
    let (_dir, run) = folder();
    manifest().write(run.manifest()).unwrap();
    assert_eq!(Manifest::read(run.manifest()).unwrap(), manifest());
    let newer = Manifest { schema: MANIFEST_SCHEMA + 1, ..manifest() };
    newer.write(run.manifest()).unwrap();
    assert!(matches!(Manifest::read(run.manifest()), Err(Error::Schema { found: 2, supported: 1, .. })));
}

#[test]
fn what_changes_the_result_stands_in_the_way_of_going_on() {
    let old = manifest();
    let other = Manifest { threads: 1, started: "2027-01-31T12:00:00Z".into(), ..manifest() };
    assert_eq!(old.differences(&other), [""; 0]);
    let weights = WeightsHash { sha256: "6".repeat(64), ..old.weights.clone() };
    let data = DataHashes { index_sha256: "7".repeat(64), ..old.data.clone() };
    let changed = Manifest { isa: "avx512".into(), kernel_plan: 2, weights, data, ..manifest() };
    let lines = old.differences(&changed);
    let starts = ["labels: 222", "initial weights: 444", "instruction set: avx2, now avx512", "kernel plan: 1, now 2"];
    assert_eq!(lines.len(), starts.len());
    assert!(lines.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{lines:?}");
}

fn record(epoch: usize) -> EpochRecord {
    EpochRecord {
        epoch,
        phase: usize::from(epoch > 0),
        step: 187 * (epoch as u64 + 1),
        lr: vec![1e-5 / 3.0, 1e-3],
        train_loss: 0.1 + 0.2,
        val_loss: Some(1.0 / 3.0),
        metrics: [("top1", 0.99), ("accuracy_multi", 0.999), ("f1, macro", 1e-7)].into_iter().collect(),
        seconds: 12.5,
        img_s: 987.654_321,
    }
}

#[test]
fn epochs_survive_the_disk() {
    let (_dir, run) = folder();
    let mut records = vec![record(0), record(1), record(2)];
    records[1].val_loss = None;
    EpochRecord::write_all(&records, run.metrics()).unwrap();
    assert_eq!(EpochRecord::read_all(run.metrics()).unwrap(), records);
    EpochRecord::write_history(&records, run.history()).unwrap();
    assert_eq!(EpochRecord::read_history(run.history()).unwrap(), records);
    expect![[r#"
        epoch,phase,step,lr_0,lr_1,train_loss,val_loss,top1,accuracy_multi,"f1, macro",seconds,img_s
        0,0,187,3.3333333333333337e-6,0.001,0.30000000000000004,0.3333333333333333,0.99,0.999,1e-7,12.5,987.654321
        1,1,374,3.3333333333333337e-6,0.001,0.30000000000000004,,0.99,0.999,1e-7,12.5,987.654321
        2,1,561,3.3333333333333337e-6,0.001,0.30000000000000004,0.3333333333333333,0.99,0.999,1e-7,12.5,987.654321
    "#]]
    .assert_eq(&std::fs::read_to_string(run.history()).unwrap());
    expect![[r#"{"epoch":0,"phase":0,"step":187,"lr":[3.3333333333333337e-6,0.001],"train_loss":0.30000000000000004,"val_loss":0.3333333333333333,"metrics":{"top1":0.99,"accuracy_multi":0.999,"f1, macro":1e-7},"seconds":12.5,"img_s":987.654321}"#]]
        .assert_eq(&records[0].to_json_line());
}

#[test]
fn no_epochs_are_fine() {
    let (_dir, run) = folder();
    EpochRecord::write_all(&[], run.metrics()).unwrap();
    assert!(EpochRecord::read_all(run.metrics()).unwrap().is_empty());
    EpochRecord::write_history(&[], run.history()).unwrap();
    assert!(EpochRecord::read_history(run.history()).unwrap().is_empty());
}

#[test]
fn diverged_epochs_are_kept() {
    let (_dir, run) = folder();
    let diverged = EpochRecord { train_loss: f64::NAN, img_s: f64::INFINITY, ..record(0) };
    EpochRecord::write_all(std::slice::from_ref(&diverged), run.metrics()).unwrap();
    assert!(EpochRecord::read_all(run.metrics()).unwrap()[0].train_loss.is_nan());
    EpochRecord::write_history(&[diverged], run.history()).unwrap();
    let read = &EpochRecord::read_history(run.history()).unwrap()[0];
    assert!(read.train_loss.is_nan() && read.img_s.is_nan());
}

#[test]
fn tables_of_more_columns_than_any_run_has_are_refused() {
    let (_dir, run) = folder();
    let named = |names: std::ops::Range<usize>| {
        let metrics = names.map(|name| (format!("m{name}"), 0.5)).collect();
        EpochRecord { lr: vec![1e-3], metrics, ..record(0) }
    };
    // As many as are read, in both forms.
    let most = [named(0..500), named(400..999)];
    EpochRecord::write_all(&most, run.metrics()).unwrap();
    EpochRecord::write_history(&most, run.history()).unwrap();
    assert_eq!(EpochRecord::read_all(run.metrics()).unwrap(), most);
    assert_eq!(EpochRecord::read_history(run.history()).unwrap()[1].metrics.get("m998"), Some(0.5));
    let more = [named(0..500), named(400..1000)];
    EpochRecord::write_all(&more, run.metrics()).unwrap();
    EpochRecord::write_history(&more, run.history()).unwrap();
    let refusal = |file: &str| format!("`{file}` has 1001 columns of numbers, and at most 1000 are read");
    let [metrics, history] = [run.metrics(), run.history()].map(|path| path.display().to_string());
    assert_eq!(EpochRecord::read_all(run.metrics()).unwrap_err().to_string(), refusal(&metrics));
    assert_eq!(EpochRecord::read_history(run.history()).unwrap_err().to_string(), refusal(&history));
    let classes: String = (0..50_001).map(|class| format!(",p:{class}")).collect();
    std::fs::write(run.predictions(), format!("path,group,targets{classes}\n")).unwrap();
    check_error(
        Predictions::read(run.predictions()),
        &run,
        expect!["`predictions.csv` has 50001 columns of numbers, and at most 50000 are read"],
    );
}

#[test]
fn damaged_epochs_are_named_by_line() {
    let (_dir, run) = folder();
    let line = record(0).to_json_line();
    std::fs::write(run.metrics(), format!("{line}\n\n{}", &line[..30])).unwrap();
    check_error(
        EpochRecord::read_all(run.metrics()),
        &run,
        expect![[r#"
        `metrics.jsonl` line 3 column 30: not the JSON that was expected
        cause: EOF while parsing an object at line 1 column 30"#]],
    );
    std::fs::write(run.history(), "epoch,phase,step,lr_0,loss\n").unwrap();
    check_error(
        EpochRecord::read_history(run.history()),
        &run,
        expect!["`history.csv` line 1 column 5: expected train_loss, found `loss`"],
    );
    std::fs::write(run.history(), "").unwrap();
    check_error(
        EpochRecord::read_history(run.history()),
        &run,
        expect!["`history.csv` line 1 column 1: expected epoch, found ``"],
    );
    let head = "epoch,phase,step,train_loss,val_loss,seconds,img_s\n";
    std::fs::write(run.history(), format!("{head}0,0,1,0.5,0.5,1,1\n1,0,2,x,0.5,1,1\n")).unwrap();
    check_error(
        EpochRecord::read_history(run.history()),
        &run,
        expect!["`history.csv` line 3 column `train_loss`: expected a number, found `x`"],
    );
}

fn card() -> ModelCard {
    let class = |label: &str, display: &str| ClassCard { label: label.into(), display: display.into(), threshold: 0.2 };
    ModelCard {
        schema: MODEL_SCHEMA,
        arch: "resnet18".into(),
        stem: "imagenet".into(),
        head: "fastai".into(),
        channels: 1,
        image_size: 128,
        precision: "f32".into(),
        transform: Transform::Centre { resize: 152 },
        ink_fill: None,
        usual: None,
        ground: None,
        normalisation: Normalisation { mean: vec![0.0086], std: vec![0.0545] },
        activation: Activation::Sigmoid,
        classes: vec![class("0", "零"), class("10", "十")],
        weights: WeightsCard { file: "model.safetensors".into(), sha256: "cd".into() },
        data: DataCard { name: "chinese-mnist".into(), licence: Some("CC BY 4.0".into()), citation: None },
    }
}

#[test]
fn model_card_survives_the_disk() {
    let (_dir, run) = folder();
    card().write(run.model_card()).unwrap();
    assert_eq!(ModelCard::read(run.model_card()).unwrap(), card());
    expect![[r#"{"schema":1,"arch":"resnet18","stem":"imagenet","head":"fastai","channels":1,"image_size":128,"transform":{"kind":"centre","resize":152},"normalisation":{"mean":[0.0086],"std":[0.0545]},"activation":"sigmoid","classes":[{"label":"0","display":"零","threshold":0.2},{"label":"10","display":"十","threshold":0.2}],"weights":{"file":"model.safetensors","sha256":"cd"},"data":{"name":"chinese-mnist","licence":"CC BY 4.0","citation":null}}"#]]
        .assert_eq(&serde_json::to_string(&card()).unwrap());
}

#[test]
fn contradicting_model_cards_are_refused() {
    let check = |change: fn(&mut ModelCard), expected: &str| {
        let mut changed = card();
        change(&mut changed);
        assert_eq!(changed.validate().unwrap_err().to_string(), format!("model card: {expected}"));
    };
    check(|card| card.channels = 2, "`channels` is 2, expected 1 or 3");
    check(|card| card.image_size = 0, "`image_size` is 0");
    check(|card| card.image_size = 160, "`transform` resizes to 152, below `image_size` 160");
    check(
        |card| card.transform = Transform::InkSquare { fill: 1.5, threshold: 40 },
        "`transform` `fill` is 1.5, expected above 0, at most 1",
    );
    check(|card| card.ink_fill = Some(0.0), "`ink_fill` is 0, expected above 0, at most 1");
    check(|card| card.channels = 3, "`normalisation` has 1 means and 1 deviations for 3 channels");
    check(|card| card.normalisation.std[0] = 0.0, "`normalisation` needs finite means and deviations above 0");
    check(|card| card.classes.clear(), "`classes` are empty");
    check(|card| card.classes[1].label = "0".into(), "`classes` name `0` twice");
    check(|card| card.classes[1].threshold = 2.0, "`classes` give `10` the threshold 2");
    check(|card| card.schema = 0, "`schema` is 0, expected 1");
}

#[test]
fn model_card_thresholds_are_one_where_all_are_equal() {
    let uniform = crate::Thresholds::uniform(0.2).unwrap();
    assert_eq!(card().thresholds().unwrap(), uniform);
    let mut differing = card();
    differing.classes[1].threshold = 0.3;
    let expected = crate::Thresholds::per_class(vec![0.2, 0.3]).unwrap();
    assert_eq!(differing.thresholds().unwrap(), expected);
}

fn read_table(text: &str) -> (Result<Predictions>, tempfile::TempDir, RunFolder) {
    let (dir, run) = folder();
    std::fs::write(run.predictions(), text).unwrap();
    (Predictions::read(run.predictions()), dir, run)
}

fn check_table(text: &str, expected: Expect) {
    let (result, _dir, run) = read_table(text);
    check_error(result, &run, expected);
}

#[test]
fn predictions_look_like_this() {
    let (_dir, run) = folder();
    let mut table = Predictions::new(["0", "a|b", "path"]).unwrap();
    let row = Prediction {
        path: "data/1.jpg".into(),
        group: Some("7".into()),
        targets: vec![1, 0],
        probabilities: vec![0.1, 1.0, 1e-20],
    };
    table.push(row.clone()).unwrap();
    table.push(Prediction { group: None, targets: vec![], ..row }).unwrap();
    table.write(run.predictions()).unwrap();
    expect![[r#"
        path,group,targets,p:0,p:a|b,p:path
        data/1.jpg,7,0|a\|b,0.1,1,1e-20
        data/1.jpg,,,0.1,1,1e-20
    "#]]
    .assert_eq(&std::fs::read_to_string(run.predictions()).unwrap());
    assert_eq!(Predictions::read(run.predictions()).unwrap(), table);
}

#[test]
fn spreadsheets_may_add_a_byte_order_mark_and_line_ends() {
    let (result, _dir, _) = read_table("\u{feff}path,group,targets,p:0\r\na,,0,0.5\r\n");
    assert_eq!(result.unwrap().rows()[0].targets, [0]);
}

#[test]
fn damaged_predictions_are_named_by_line_and_column() {
    check_table("", expect!["`predictions.csv` line 1 column 1: expected path, found ``"]);
    check_table(
        "path,group,truth,p:0\n",
        expect!["`predictions.csv` line 1 column 3: expected targets, found `truth`"],
    );
    check_table(
        "path,group,targets\n",
        expect!["`predictions.csv` line 1 column 4: expected `p:` and a class label, found ``"],
    );
    check_table(
        "path,group,targets,p:0,1\n",
        expect!["`predictions.csv` line 1 column 5: expected `p:` and a class label, found `1`"],
    );
    check_table(
        "path,group,targets,p:0,p:0\n",
        expect!["`predictions.csv` line 1 column 5: expected each class once, found `p:0`"],
    );
    let head = "path,group,targets,p:0,p:1\n";
    check_table(
        &format!("{head}a,,0,0.5,0.5\nb,,2,0.5,0.5\n"),
        expect!["`predictions.csv` line 3 column `targets`: expected labels of the header divided by `|`, found `2`"],
    );
    check_table(
        &format!("{head}a,,0\\x,0.5,0.5\n"),
        expect![[
            r"`predictions.csv` line 2 column `targets`: expected labels of the header divided by `|`, found `0\x`"
        ]],
    );
    for bad in ["NaN", "", "1.5", "-0.1", "inf", "x"] {
        let (result, _dir, _) = read_table(&format!("{head}a,,0,0.5,{bad}\n"));
        assert!(matches!(result, Err(Error::Cell { line: 2, column, .. }) if column == "p:1"));
    }
    check_table(
        &format!("{head}a,,0,0.5,NaN\n"),
        expect!["`predictions.csv` line 2 column `p:1`: expected a probability, found `NaN`"],
    );
    check_table(
        &format!("{head}a,,0,0.5,0.5\nb,,1,0."),
        expect![[r#"
        `predictions.csv` line 3: not the table that was expected
        cause: CSV error: record 2 (line: 3, byte: 40): found record with 4 fields, but the previous record has 5 fields"#]],
    );
}

proptest! {
    #[test]
    fn any_labels_and_probabilities_survive_the_disk(
        labels in proptest::collection::hash_set(r#"[\\|,"a-c零\r\n e:p]{0,4}"#, 1..5),
        rows in proptest::collection::vec(("[ -~\n零]{1,9}", "[,a ]{0,2}", proptest::collection::vec(0..100_usize, 0..3), any::<[u32; 4]>()), 0..5),
    ) {
        let labels: Vec<String> = labels.into_iter().collect();
        let k = labels.len();
        let mut table = Predictions::new(labels).unwrap();
        for (path, group, targets, bits) in rows {
            let targets = targets.into_iter().map(|target| target % k).collect();
            // Any f32 of 0..=1 by its bits, so that tiny ones come as often as large ones.
            let probabilities = (0..k).map(|i| f32::from_bits(bits[i % 4] % 0x3f80_0001)).collect();
            table.push(Prediction { path, group: Some(group), targets, probabilities }).unwrap();
        }
        let (_dir, run) = folder();
        table.write(run.predictions()).unwrap();
        prop_assert_eq!(Predictions::read(run.predictions()).unwrap(), table);
    }

    #[test]
    fn damaged_predictions_never_panic(at in 0..200_usize, byte in any::<u8>(), cut in any::<bool>()) {
        let text = "path,group,targets,p:0,p:1\na,w,0,0.5,0.25\n\"b,c\",w,0|1,1e-9,1\nd,,,0,0.125\n";
        let mut bytes = text.as_bytes().to_vec();
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        let (_dir, run) = folder();
        std::fs::write(run.predictions(), bytes).unwrap();
        let _ = Predictions::read(run.predictions());
    }
}

#[test]
fn the_next_writer_removes_what_a_dead_one_left() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::new(folder.path());
    let write = |name: &str| std::fs::write(folder.path().join(name), "half").unwrap();
    let (parts, others) = (
        [".steps.jsonl.11125-2.tmp", ".model.safetensors.aB3xYz.tmp"],
        [".report.html.7-0.tmp", ".steps.jsonl.tmp", ".steps.jsonl.a.b.tmp", "steps.jsonl.7-0.tmp", ".mine.7-0.tmp"],
    );
    parts.iter().chain(&others).for_each(|name| write(name));
    let _lock = run.lock().unwrap();
    let left = |names: &[&str]| names.iter().filter(|name| folder.path().join(name).exists()).count();
    assert_eq!((left(&parts), left(&others)), (0, others.len()));
}
