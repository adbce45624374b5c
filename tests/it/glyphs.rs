//! Pretraining on endless handwriting, and the weights that it made.

use crate::run::{Place, RealData};
use serde_json::Value;

const TRAIN: &str =
    "train --recipe glyphs --steps 6 --epochs 2 --batch-size 8 --image-size 32 --limit 60 --checkpoint-every 2";

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

#[test]
fn endless_handwriting_goes_on_where_it_stopped() {
    let place = Place::new();
    let never = place.result(&format!("{TRAIN} --out never"));
    assert_eq!((&never["data"]["n_train"], &never["data"]["n_val"]), (&48.into(), &60.into()));
    assert_eq!((&never["data"]["groups_shared"], &never["weights"]), (&0.into(), &"none".into()));

    // As after a cut: the last checkpoint and everything behind it are lost.
    place.result(&format!("{TRAIN} --out cut --threads 1"));
    place.cut("cut");
    let resumed = place.result("train --resume cut");
    assert_eq!(resumed["weights_sha256"], never["weights_sha256"]);
    assert_ne!(place.result(&format!("{TRAIN} --out other --seed 1"))["weights_sha256"], never["weights_sha256"]);
}

#[test]
fn packed_models_are_models() {
    let place = Place::new();
    place.result(&format!("{TRAIN} --out run"));
    let packed = place.result("pack run --out small");
    assert!(packed["bytes"].as_u64().is_some_and(|n| n < 9_000_000), "{packed}");
    assert_eq!(place.json("small/model.json")["weights"]["sha256"], packed["weights_sha256"]);
    let [whole, small] = ["run", "small/weights.bin"]
        .map(|model| place.result(&format!("evaluate {model} --synthetic --limit 60 --no-cache")));
    assert!((number(&whole["loss"]) - number(&small["loss"])).abs() < 0.02, "{whole} {small}");
}

#[test]
fn the_built_in_weights_read_new_writers() {
    let judged = Place::new().result("evaluate glyphs --synthetic --limit 600");
    assert!(number(&judged["exact_match"]) > 0.95, "{judged}");
}

#[test]
fn the_built_in_weights_read_real_scans() {
    let Some(real) = RealData::find() else { return };
    let place = Place::new();
    let judged = place.result(&format!("evaluate glyphs --data {} --limit 1500 --no-cache", real.folder()));
    assert!(number(&judged["exact_match"]) > 0.985, "{judged}");
    let few = place.result(&format!("evaluate glyphs --data {} --groups 3,14 --no-cache", real.folder()));
    assert_eq!(few["n"], 300);
}

#[test]
fn the_recipe_of_the_built_in_weights_gives_what_it_gave() {
    let isa = "avx2";
    if cn_ops::Isa::available().iter().all(|found| found.to_string() != isa) {
        println!("skipped: this processor has no {isa}, of which the hash is known");
        return;
    }
    let page = include_str!("../../data/README.md");
    let row = page.lines().find_map(|line| line.strip_prefix("| AVX2 | `")).expect("the table of hashes");
    let place = Place::new();
    let line = "train --recipe glyphs --steps 50 --out run --json";
    let mut command = place.command(&line.split(' ').collect::<Vec<_>>());
    command.env("CN_ISA", isa);
    let trained = crate::run::Ended::of(command).result();
    assert_eq!(trained["weights_sha256"].as_str(), row.split('`').next());
}
