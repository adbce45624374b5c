//! The notebook's job on the real data, up to the first step.

use crate::run::{Place, RealData};

#[test]
fn the_real_data_have_the_notebooks_counts() {
    let Some(data) = RealData::find() else { return };
    let place = Place::new();
    let data = data.folder();
    let run = |args: &[&str]| {
        let words = [&["train", "--data", data, "--dry-run", "--json"], args].concat();
        place.run(&words).result()
    };
    let notebook = run(&["--recipe", "notebook", "--weights", "none"]);
    assert_eq!((&notebook["n_train"], &notebook["n_val"]), (&12_000.into(), &3000.into()));
    assert_eq!((&notebook["train_batches"], &notebook["val_batches"]), (&187.into(), &47.into()));
    assert_eq!((&notebook["epochs"], &notebook["batch"]), (&7.into(), &serde_json::json!([64, 128, 128, 3])));
    assert_eq!(notebook["classes"][3], "100");

    let groups = run(&["--image-size", "64"]);
    assert_eq!((&groups["split"], &groups["n_val"]), (&"group".into(), &3000.into()));
    let list = (1..=20).map(|i| (5 * i).to_string()).collect::<Vec<_>>().join(",");
    let named = run(&["--val-groups", &list]);
    assert_eq!((&named["split"], &named["n_val"]), (&"val-groups".into(), &3000.into()));
}

#[test]
fn the_notebooks_recipe_trains() {
    let place = Place::new();
    let flags = "--synthetic --limit 180 --image-size 32 --batch-size 32 --epochs 1";
    let result = place.result(&format!("train --recipe notebook {flags} --out run"));
    assert_eq!((&result["epochs"], &result["data"]["split"]), (&2.into(), &"random".into()));
    assert!(result["data"]["groups_shared"].as_u64().is_some_and(|n| n > 0), "{result}");
    let history = cn_report::EpochRecord::read_all(place.path("run/metrics.jsonl")).expect("readable");
    // fastai's slices: a tenth for the body while it is frozen, then a factor of ten from group to group.
    let ratio = |epoch: usize| history[epoch].lr[2] / history[epoch].lr[0];
    assert_eq!(history.iter().map(|record| record.phase).collect::<Vec<_>>(), [0, 1]);
    assert!((ratio(0) - 10.0).abs() < 1e-9 && (ratio(1) - 100.0).abs() < 1e-9, "{history:?}");
}
