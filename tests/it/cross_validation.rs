//! Every image judged once, by a model that did not see it.

use crate::cli::check;
use crate::run::Place;
use expect_test::expect;
use std::collections::BTreeSet;

const TRAIN: &str =
    "train --synthetic --limit 210 --image-size 32 --batch-size 16 --epochs 1 --freeze-epochs 0 --lr 2e-3 --out run";

#[test]
fn folds_judge_every_image_once_and_go_on_after_a_stop() {
    let place = Place::new();
    place.result(TRAIN);
    let result = place.result("evaluate run --cross-validate 3");
    assert_eq!((result["n"].as_u64(), result["split"].as_str()), (Some(210), Some("all")));
    let folds = result["folds"].as_array().expect("folds");
    assert_eq!(folds.len(), 3);
    let sum = |key: &str| folds.iter().map(|fold| fold[key].as_u64().expect("a number")).sum::<u64>();
    assert_eq!((sum("n_val"), sum("n_train"), sum("groups_shared")), (210, 420, 0));
    let mean = |key: &str| {
        let right = |fold: &serde_json::Value| fold[key].as_f64().zip(fold["n_val"].as_f64());
        folds.iter().filter_map(right).map(|(share, n)| share * n).sum::<f64>() / 210.0
    };
    assert!((mean("exact_match") - result["exact_match"].as_f64().expect("a share")).abs() < 1e-9);

    // No fold trained on the writers that it judged: all of them together judge each image once.
    let table = place.read("run/cross-validation-3/predictions.csv");
    let paths: Vec<&str> = table.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!((paths.len(), paths.iter().collect::<BTreeSet<_>>().len()), (210, 210));
    assert_eq!(place.json("run/cross-validation-3/summary.json"), result);

    // A fold that is missing is trained again, and comes out as it was; the others stay.
    let before = place.json("run/cross-validation-3/fold-2/summary.json");
    std::fs::remove_dir_all(place.path("run/cross-validation-3/fold-2")).expect("removed");
    let again = place.result("evaluate run --cross-validate 3");
    assert_eq!(place.json("run/cross-validation-3/fold-2/summary.json")["weights_sha256"], before["weights_sha256"]);
    assert_eq!(again["exact_match"], result["exact_match"]);

    check(
        &place,
        "evaluate run --cross-validate 3 --seed 7",
        expect![[r#"
        --- stdout
        fold      1 of 3: `run/cross-validation-3/fold-1`
        --- stderr
        error: `run/cross-validation-3/fold-1` was trained with other settings:
          seed: 42, now 7

        hint: choose another `--out`, or remove that folder
        --- exit 1
    "#]],
    );
}

#[test]
fn only_runs_can_be_repeated() {
    let place = Place::new();
    check(
        &place,
        "evaluate glyphs --cross-validate 5",
        expect![[r#"
        --- stderr
        error: `glyphs` is no folder of a run, and only a run can be repeated

        hint: train once, then `cn-train evaluate RUN --cross-validate 5`
        --- exit 2
    "#]],
    );
    check(
        &place,
        "evaluate glyphs --cross-validate 1",
        expect![[r#"
        --- stderr
        error: invalid value '1' for '--cross-validate <K>': 1 is not in 2..=1000

        For more information, try '--help'.
        --- exit 2
    "#]],
    );
    check(
        &place,
        "evaluate glyphs --cross-validate 5 --split val",
        expect![[r#"
        --- stderr
        error: the argument '--cross-validate <K>' cannot be used with '--split <SPLIT>'

        Usage: cn-train evaluate --cross-validate <K> <RUN|FILE|glyphs>

        For more information, try '--help'.
        --- exit 2
    "#]],
    );
}

/// Drawn images with a table that only its flags describe.
fn described(place: &Place) -> &'static str {
    place.result("synth --out drawn --writers 8 --samples 1");
    std::fs::rename(place.path("drawn/data/data"), place.path("own")).expect("moved");
    let table = place.read("drawn/chinese_mnist.csv");
    place.write("own/labels.csv", table);
    std::fs::remove_dir_all(place.path("drawn")).expect("removed");
    "--data own --csv labels.csv --image input_{suite_id}_{sample_id}_{code}.jpg --label value --group suite_id"
}

#[test]
fn labels_that_changed_are_not_judged_by_old_folds() {
    let place = Place::new();
    let data = described(&place);
    place.result(&format!("train {data} --image-size 32 --batch-size 16 --epochs 1 --freeze-epochs 0 --out run"));
    place.result("evaluate run --cross-validate 2");
    let table = place.read("own/labels.csv");
    assert!(table.contains("\n1,1,2,1,"), "{table}");
    place.write("own/labels.csv", table.replace("\n1,1,2,1,", "\n1,1,2,5,"));
    for command in ["evaluate", "audit"] {
        let refused = place.line(&format!("{command} run --cross-validate 2"));
        assert_eq!(refused.code, 1, "{}", refused.snapshot());
        assert!(
            refused.stderr.contains("fold-1` was trained on other labels than there are now"),
            "{}",
            refused.stderr
        );
    }
    // The folds that are there judge the labels of now.
    let audit = place.line("audit run --json");
    assert_eq!(audit.code, 0, "{}", audit.snapshot());
    assert!(
        audit.stderr.contains("labels have changed since the judges were trained, of 1 images"),
        "{}",
        audit.stderr
    );
    let found: serde_json::Value = serde_json::from_str(audit.stdout.lines().last().expect("a line")).expect("JSON");
    let suspects = found["labels"]["suspects"].as_array().expect("suspects");
    let changed = suspects.iter().find(|suspect| suspect["path"] == "input_1_1_2.jpg");
    assert!(changed.is_none_or(|suspect| suspect["label"] == "5"), "{changed:?}");
    let by = found["labels"]["by"].as_str().expect("judges");
    assert!(by.starts_with("2 folds (trained before the labels of 1 of these"), "{by}");
    place.write("own/labels.csv", table);

    // Nor what they do not hold.
    let name = "run/cross-validation-2/fold-1/predictions.csv";
    let whole = place.read(name);
    place.write(name, whole.lines().take(20).map(|line| format!("{line}\n")).collect::<String>());
    for line in ["evaluate run --cross-validate 2", "audit run"] {
        let refused = place.line(line);
        assert!(
            refused.code == 1 && refused.stderr.contains("predictions.csv` holds 19 images, and"),
            "{}",
            refused.stderr
        );
    }
    // Nor what they did not say.
    let edited = whole.replacen(",0.", ",0.9", 1);
    assert_ne!(edited, whole);
    place.write(name, edited);
    for line in ["evaluate run --cross-validate 2", "audit run"] {
        let refused = place.line(line);
        let what = "predictions.csv` is not as the run wrote it";
        assert!(refused.code == 1 && refused.stderr.contains(what), "{}", refused.stderr);
    }
    place.write(name, whole);

    // Nor other images.
    std::fs::copy(place.path("own/input_1_1_1.jpg"), place.path("own/input_1_1_2.jpg")).expect("copied");
    let audit = place.line("audit run --json");
    assert!(audit.stderr.contains("the images are not those that 2 folds judged"), "{}", audit.stderr);
    let found: serde_json::Value = serde_json::from_str(audit.stdout.lines().last().expect("a line")).expect("JSON");
    assert!(found["labels"].is_null(), "{found}");
}

#[test]
fn folds_are_not_written_among_the_images() {
    let place = Place::new();
    place.folders(12);
    let train =
        "train --data images --image-size 32 --batch-size 8 --epochs 1 --freeze-epochs 0 --weights none --out run";
    place.result(train);
    let refused = place.line("evaluate run --cross-validate 2 --out images/cv");
    assert_eq!(refused.code, 1, "{}", refused.snapshot());
    assert!(refused.stderr.contains("is in the folder of the images"), "{}", refused.stderr);
    assert!(!place.path("images/cv").exists());
}

#[test]
fn a_folder_that_describes_itself_is_read_as_the_run_read_it() {
    let place = Place::new();
    place.result("synth --out own --writers 8 --samples 1");
    let data = "--data own --csv chinese_mnist.csv --image data/data/input_{suite_id}_{sample_id}_{code}.jpg --label suite_id --group sample_id";
    place.result(&format!(
        "train {data} --split random --image-size 32 --batch-size 16 --epochs 1 --freeze-epochs 0 --out run"
    ));
    std::fs::rename(place.path("own"), place.path("moved")).expect("moved");
    let audit = place.result("audit run --data moved");
    assert!(audit["labels"]["n_judged"].as_u64().is_some_and(|n| n > 0), "{audit}");
    assert_eq!(audit["crops"].as_array().map(Vec::len), Some(8), "classes of the run: its writers");
}

#[test]
fn data_that_moved_keep_their_description() {
    let place = Place::new();
    let data = described(&place);
    place.result(&format!("train {data} --image-size 32 --batch-size 16 --epochs 1 --freeze-epochs 0 --out run"));
    std::fs::rename(place.path("own"), place.path("moved")).expect("moved");
    let result = place.result("evaluate run --data moved --cross-validate 2");
    assert_eq!((result["n"].as_u64(), result["classes"].as_array().map(Vec::len)), (Some(120), Some(15)));
    let audit = place.result("audit run --data moved --cross-validate 2");
    assert_eq!((audit["n_images"].as_u64(), audit["labels"]["n_judged"].as_u64()), (Some(120), Some(120)));
}
