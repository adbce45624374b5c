//! A run is what it was, or it is said what changed.

use crate::cli::check;
use crate::run::Place;
use expect_test::expect;
use serde_json::Value;

const TRAIN: &str =
    "train --data data --image-size 32 --batch-size 16 --epochs 2 --freeze-epochs 0 --lr 2e-3 --out run";

fn trained() -> Place {
    let place = Place::new();
    place.result("synth --out data --writers 10 --samples 1");
    place.result(TRAIN);
    place
}

/// Names of the checks that came to this.
fn named<'a>(result: &'a Value, outcome: &str) -> Vec<&'a str> {
    let checks = result["checks"].as_array().expect("checks").iter();
    checks.filter(|check| check["outcome"] == outcome).filter_map(|check| check["what"].as_str()).collect()
}

/// What `verify` finds different after a file was changed, which is then put back.
fn after(place: &Place, name: &str, change: impl Fn(&mut Vec<u8>)) -> Vec<String> {
    let whole = std::fs::read(place.path(name)).expect(name);
    let mut bytes = whole.clone();
    change(&mut bytes);
    // The best checkpoint may be a second name of the last one's file.
    std::fs::remove_file(place.path(name)).expect("removed");
    place.write(name, &bytes);
    let ended = place.line("verify run --json");
    assert_eq!(ended.code, 1, "{}", ended.snapshot());
    let result: Value = serde_json::from_str(ended.stdout.lines().last().expect("a line")).expect("JSON");
    place.write(name, whole);
    named(&result, "different").into_iter().map(str::to_owned).collect()
}

fn flip(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
}

#[test]
fn every_file_that_changes_is_named() {
    let place = trained();
    let result = place.result("verify run");
    let all = [
        "manifest.json",
        "config.toml",
        "last checkpoint",
        "previous one",
        "best one",
        "summary.json",
        "model.safetensors",
        "predictions.csv",
        "metrics.jsonl",
        "SHA256SUMS",
        "images",
        "labels",
        "split",
        "initial weights",
    ];
    assert_eq!((named(&result, "same"), result["same"].as_bool()), (all.to_vec(), Some(true)));

    assert_eq!(after(&place, "run/model.safetensors", |bytes| flip(bytes)), ["model.safetensors", "SHA256SUMS"]);
    assert_eq!(after(&place, "run/checkpoints/previous.safetensors", |bytes| flip(bytes)), ["previous one"]);
    assert_eq!(after(&place, "run/checkpoints/last.safetensors", |bytes| bytes.truncate(1000)), ["last checkpoint"]);
    assert_eq!(after(&place, "run/config.toml", |bytes| bytes.extend(b"# mine\n")), ["config.toml", "SHA256SUMS"]);
    assert_eq!(
        after(&place, "run/predictions.csv", |bytes| bytes.truncate(bytes.len() / 2)),
        ["predictions.csv", "SHA256SUMS"]
    );
    // Whatever else changes.
    for name in ["run/steps.jsonl", "run/interpret/image-000.png"] {
        assert_eq!(after(&place, name, |bytes| flip(bytes)), ["SHA256SUMS"], "{name}");
    }
    let others = |bytes: &mut Vec<u8>| {
        let text = String::from_utf8(bytes.clone()).expect("UTF-8");
        *bytes = text.replacen("resnet18", "resnet34", 1).replacen("\"isa\": \"", "\"isa\": \"x", 1).into_bytes();
    };
    assert_eq!(after(&place, "run/model.json", others), ["SHA256SUMS"]);
    assert_eq!(after(&place, "run/manifest.json", others)[0], "last checkpoint");
    let another = std::fs::read(place.path("data/data/data/input_1_1_2.jpg")).expect("an image");
    assert_eq!(after(&place, "data/data/data/input_1_1_1.jpg", |bytes| another.clone_into(bytes)), ["images"]);
    assert_eq!(after(&place, "data/data/data/input_1_1_1.jpg", |bytes| bytes.truncate(bytes.len() / 2)), ["data"]);
    let relabel = |bytes: &mut Vec<u8>| {
        let table = String::from_utf8(bytes.clone()).expect("UTF-8");
        *bytes = table.replacen("1,1,2,1,一", "1,1,2,2,二", 1).into_bytes();
    };
    assert_eq!(after(&place, "data/chinese_mnist.csv", relabel), ["labels"]);
    assert_eq!(after(&place, "data/chinese_mnist.csv", Vec::clear), ["data"]);
    assert_eq!(after(&place, "data/chinese_mnist.csv", |bytes| bytes.extend(b"\"")), ["data"]);

    // Hashes hold also where the summary is gone, and with it what makes the run a finished one.
    let summary = place.read("run/summary.json");
    std::fs::remove_file(place.path("run/summary.json")).expect("removed");
    assert_eq!(named(&place.result("verify run"), "unknown"), ["summary.json"]);
    assert_eq!(after(&place, "run/model.safetensors", |bytes| flip(bytes)), ["model.safetensors", "SHA256SUMS"]);
    assert_eq!(after(&place, "run/predictions.csv", |bytes| flip(bytes)), ["SHA256SUMS"]);
    let sums = place.read("run/SHA256SUMS");
    std::fs::remove_file(place.path("run/SHA256SUMS")).expect("removed");
    assert_eq!(after(&place, "run/model.safetensors", |bytes| flip(bytes)), ["model.safetensors"]);
    place.write("run/SHA256SUMS", sums);

    // Results that were edited are not shown as if nothing was.
    place.write("run/summary.json", format!("{summary}\n"));
    for line in ["compare run", "report run", "train --resume run"] {
        let refused = place.line(line);
        let text = "error: `run` is not as the run wrote it: summary.json changed\n";
        assert!(refused.code == 1 && refused.stderr.starts_with(text), "{}", refused.snapshot());
    }
    place.write("run/summary.json", summary);
    let history = place.read("run/history.csv");
    place.write("run/history.csv", format!("{history}\n"));
    for line in ["compare run", "report run", "train --resume run"] {
        let warned = place.line(line);
        let text = "warning: `run` is not as the run wrote it (history.csv): see `cn-train verify`";
        assert!(warned.code == 0 && warned.stderr.contains(text), "{}", warned.snapshot());
    }
    place.write("run/history.csv", history);
    assert!(!place.line("compare run").stderr.contains("not as the run wrote it"));

    std::fs::rename(place.path("run/checkpoints/last.safetensors"), place.path("last")).expect("moved");
    assert_eq!(named(&place.result("verify run"), "unknown"), ["last checkpoint"]);
    std::fs::rename(place.path("last"), place.path("run/checkpoints/last.safetensors")).expect("moved");

    // Data that are elsewhere are no fault of the run.
    std::fs::rename(place.path("data"), place.path("moved")).expect("moved");
    let result = place.result("verify run");
    assert_eq!(named(&result, "unknown"), ["data"]);
    assert_eq!(named(&place.result("verify run --data moved"), "same"), all);

    // Nor are weights that it began with.
    std::fs::rename(place.path("moved"), place.path("data")).expect("moved back");
    place.result(&format!("{} --weights run/model.safetensors", TRAIN.replace("--out run", "--out second")));
    assert_eq!(named(&place.result("verify second"), "same"), all);
    std::fs::rename(place.path("run"), place.path("elsewhere")).expect("moved");
    assert_eq!(named(&place.result("verify second"), "unknown"), ["initial weights"]);
}

#[test]
fn what_others_leave_in_a_run_and_what_they_take_does_it_no_harm() {
    let place = Place::new();
    place.result("synth --out data --writers 10 --samples 1");
    std::fs::create_dir_all(place.path("run/events.out.tfevents.9.x")).expect("made");
    let refused = place.line(TRAIN);
    assert!(refused.code != 0, "{}", refused.snapshot());
    std::fs::remove_dir(place.path("run/events.out.tfevents.9.x")).expect("removed");
    place.result(TRAIN);
    let settings = place.read("run/config.toml");
    place.cut("run");
    for name in ["run/interpret/.ipynb_checkpoints", "run/events.out.tfevents.9.x"] {
        std::fs::create_dir_all(place.path(name)).expect("made");
    }
    place.result("train --resume run");
    assert_eq!(named(&place.result("verify run"), "different"), [""; 0]);
    assert_eq!(place.read("run/config.toml"), settings);
}

#[cfg(unix)]
#[test]
fn a_run_is_reproduced_to_the_byte() {
    let place = trained();
    let result = place.result("reproduce run --threads 1");
    assert_eq!((result["same"].as_bool(), result["again"].as_str()), (Some(true), Some("run-again")));
    let hash = |run: &str| place.json(&format!("{run}/summary.json"))["weights_sha256"].clone();
    assert_eq!(hash("run"), hash("run-again"));

    // What is there already repeats nothing.
    std::fs::create_dir(place.path("mine")).expect("made");
    place.write("mine/notes.txt", "mine");
    std::os::unix::fs::symlink(place.path("empty"), place.path("link")).expect("linked");
    for (flags, what) in [
        ("", "`run-again`, where the run is to be trained again, holds a finished run already"),
        (" --out mine", "holds other files"),
        (" --out link", "is a link"),
    ] {
        let ended = place.line(&format!("reproduce run{flags}"));
        assert!(ended.code == 1 && ended.stderr.contains(what), "{}", ended.snapshot());
    }

    // Weights that are not those of the summary any more.
    let weights = std::fs::read(place.path("run/model.safetensors")).expect("weights");
    let mut changed = weights.clone();
    flip(&mut changed);
    place.write("run/model.safetensors", changed);
    let ended = place.line("reproduce run --out flipped");
    let text = "error: `run` is not as the run wrote it: model.safetensors changed\n";
    assert!(ended.code == 1 && ended.stderr.starts_with(text), "{}", ended.snapshot());
    // Where no hashes are left, that comes out at the end.
    let sums = place.read("run/SHA256SUMS");
    std::fs::remove_file(place.path("run/SHA256SUMS")).expect("removed");
    let ended = place.line("reproduce run --out flipped");
    assert!(ended.code == 1 && ended.stderr.contains("`run/model.safetensors`: "), "{}", ended.snapshot());
    place.write("run/model.safetensors", weights);

    // Settings that are others than those that the run was trained with are refused first.
    let settings = place.read("run/config.toml");
    place.write("run/config.toml", settings.replace("threshold = 0.5", "threshold = 0.4"));
    let ended = place.line("reproduce run --out settings");
    assert!(ended.code == 1 && ended.stderr.contains("\n  config.toml: edited since"), "{}", ended.snapshot());
    place.write("run/SHA256SUMS", &sums);
    let ended = place.line("reproduce run --out settings");
    assert!(ended.code == 1 && ended.stderr.contains("wrote it: config.toml changed"), "{}", ended.snapshot());
    assert!(!place.path("settings").exists());
    place.write("run/config.toml", settings);
    std::fs::remove_file(place.path("run/SHA256SUMS")).expect("removed");

    // A result that cannot be had again is found out.
    let summary = place.read("run/summary.json");
    let sha256 = hash("run").as_str().expect("a hash").to_owned();
    place.write("run/summary.json", summary.replace(&sha256, &"0".repeat(64)));
    let ended = place.line("reproduce run --out edited");
    assert_eq!(ended.code, 1, "{}", ended.snapshot());
    assert!(ended.stderr.starts_with("error: `run` came out differently in `edited`:\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("\n  weights: {}, now {sha256}", "0".repeat(64))), "{}", ended.stderr);

    // Other data are refused before anything is trained.
    let image = place.path("data/data/data/input_1_1_1.jpg");
    std::fs::copy(place.path("data/data/data/input_1_1_2.jpg"), image).expect("copied");
    let ended = place.line("reproduce run --out other");
    assert!(ended.stderr.starts_with("error: the run `run` cannot be repeated here:\n  data: "), "{}", ended.stderr);
    assert!(!place.path("other").exists());
}

#[test]
fn only_runs_are_verified_and_reproduced() {
    let place = Place::new();
    check(
        &place,
        "verify missing",
        expect![[r#"
        --- stderr
        error: there is no run in `missing`

        hint: name the folder that holds its config.toml
        --- exit 1
    "#]],
    );
    check(
        &place,
        "reproduce missing",
        expect![[r#"
        --- stderr
        error: there is no run in `missing`

        hint: name the folder that holds its config.toml
        --- exit 1
    "#]],
    );
}

#[test]
fn a_card_that_was_edited_is_told_and_one_of_no_model_refused() {
    let place = trained();
    let card = place.read("run/model.json");
    let warning = "warning: `run` is not as the run wrote it (model.json): see `cn-train verify`";
    place.write("run/model.json", card.replacen("\"零\"", "\"〇\"", 1));
    for line in ["predict run data/data/data/input_1_1_1.jpg", "evaluate run"] {
        let warned = place.line(line);
        assert!(warned.code == 0 && warned.stderr.contains(warning), "{}", warned.snapshot());
    }
    for size in ["0", "8192"] {
        place.write("run/model.json", card.replace("\"image_size\": 32", &format!("\"image_size\": {size}")));
        let ended = place.line("predict run data/data/data/input_1_1_1.jpg");
        assert!(ended.code == 1 && ended.stderr.contains("model.json"), "{}", ended.snapshot());
    }
}
