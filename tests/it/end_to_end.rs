//! The whole job on small synthetic data.

use crate::run::{Ended, Place};
use serde_json::Value;

/// 32 px, unseen writers; seconds on two cores.
const TRAIN: &str =
    "train --data data --image-size 32 --batch-size 32 --epochs 3 --freeze-epochs 0 --lr 3e-3 --no-cache";
/// Exact match that the job must reach, and that shuffled labels must not come near. Chance is 1 in 15.
const ENOUGH: f64 = 0.8;
const SHUFFLED: f64 = 0.15;

fn exact_match(result: &Value) -> f64 {
    result["val"]["exact_match"].as_f64().expect("a number")
}

/// A data set in the published layout.
fn draw(place: &Place) {
    let result = place.result("synth --out data --writers 40 --samples 6");
    assert_eq!(result["images"], 3600);
    assert_eq!(place.read("data/chinese_mnist.csv").lines().count(), 3601);
}

#[test]
fn the_job_is_learnt_and_everything_about_it_kept() {
    let place = Place::new();
    draw(&place);
    let result = place.result(&format!("{TRAIN} --out run"));
    assert!(exact_match(&result) >= ENOUGH, "{result}");
    the_folder_is_complete(&place, &result);
    evaluation_agrees(&place, &result);
    the_report_is_one_file(&place);
    prediction_names_the_labels(&place);
    the_finder_starts_from_a_run(&place);
    a_finished_run_is_not_trained_again(&place, &result);
}

#[test]
fn shuffled_labels_are_not_learnt() {
    let place = Place::new();
    draw(&place);
    let table = place.read("data/chinese_mnist.csv");
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let order = cn_random::permutation(1, 0, cn_random::Purpose::named("shuffled labels"), rows.len() as u32);
    let shuffled = rows.iter().zip(order).map(|(row, other)| {
        let other = &rows[other as usize];
        format!("{},{},{},{},{}\n", row[0], row[1], row[2], other[3], other[4])
    });
    let header = "suite_id,sample_id,code,value,character\n".to_owned();
    place.write("data/chinese_mnist.csv", header + &shuffled.collect::<String>());
    let result = place.result(&format!("{TRAIN} --out run"));
    assert!(exact_match(&result) < SHUFFLED, "{result}");
    assert!(result["val"]["top1"].as_f64().expect("a number") < SHUFFLED, "{result}");
}

fn the_folder_is_complete(place: &Place, result: &Value) {
    assert_eq!(&place.json("run/summary.json"), result);
    let manifest = place.json("run/manifest.json");
    assert_eq!(manifest["data"]["content_sha256"], result["data"]["sha256"]);
    assert_eq!(manifest["data"]["n_images"], 3600);
    let card = place.json("run/model.json");
    assert_eq!(card["weights"]["sha256"], result["weights_sha256"]);
    assert_eq!(card["classes"][3]["display"], "百");
    let config: toml::Table = place.read("run/config.toml").parse().expect("TOML");
    assert_eq!(config["image_size"].as_integer(), Some(32));
    let records = cn_report::EpochRecord::read_all(place.path("run/metrics.jsonl")).expect("readable");
    assert_eq!(records.len(), 3);
    assert_eq!(cn_report::EpochRecord::read_history(place.path("run/history.csv")).expect("readable").len(), 3);
    let steps = cn_report::StepRecord::read_all(place.path("run/steps.jsonl")).expect("readable");
    assert!(steps.len() > 10 && steps.iter().all(|step| step.lr > 0.0 && step.train_loss.is_finite()), "{steps:?}");
    let files = std::fs::read_dir(place.path("run")).expect("a folder").map(|entry| entry.expect("a file").file_name());
    let events = files.filter(|name| name.to_string_lossy().starts_with("events.out.tfevents.")).count();
    assert_eq!(events, 2, "scalars while training, the confusion at the end");
    let table = cn_report::Predictions::read(place.path("run/predictions.csv")).expect("readable");
    assert_eq!(table.rows().len() as u64, result["data"]["n_val"].as_u64().expect("a number"));
    for name in ["last", "previous", "best"] {
        let path = place.path(&format!("run/checkpoints/{name}.safetensors"));
        cn_learn::Checkpoint::read(&path).expect(name);
    }
    let network = cn_zoo::WeightFile::open(place.path("run/model.safetensors")).expect("readable");
    let tensors: Vec<_> = network.tensors().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
    assert_eq!(cn_zoo::weights_sha256(&tensors).expect("hashed"), result["weights_sha256"]);
}

/// From the folder of the run alone; what the model adds can be written again.
fn the_report_is_one_file(place: &Place) {
    let report = place.result("report run");
    let page = place.read("run/report.html");
    assert_eq!(report["bytes"].as_u64(), Some(page.len() as u64));
    assert!(page.len() < 5_000_000, "{}", page.len());
    for wanted in ["id=\"losses\"", "id=\"map\"", "id=\"augmented\"", "class=l0", "is on both sides.</strong>", "百"] {
        assert!(page.contains(wanted), "`{wanted}`");
    }
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("<script"));
    std::fs::remove_dir_all(place.path("run/interpret")).expect("removed");
    place.result("report run --no-cache --out again.html");
    assert_eq!(place.read("again.html"), page, "the same from the model and the images");

    let compared = place.result("compare run run --out side-by-side");
    assert_eq!(compared["runs"].as_array().map(Vec::len), Some(2));
    for name in ["compare.html", "compare-loss.png", "compare-exact-match.png"] {
        assert!(place.path(&format!("side-by-side/{name}")).is_file(), "{name}");
    }
}

fn evaluation_agrees(place: &Place, result: &Value) {
    let again = place.result("evaluate run --no-cache");
    assert_eq!(again["exact_match"], result["val"]["exact_match"]);
    assert!(again["quality"]["intervals"]["groups"]["units"].as_u64().is_some_and(|n| n > 1), "{again}");
    assert!(again["quality"]["tuning"]["n_images"].as_u64().is_some_and(|n| n > 100), "{again}");
    assert!(again["quality"]["macro"]["roc_auc"].as_f64().is_some_and(|auc| auc > 0.9), "{again}");
    assert_eq!((&again["split"], &again["n"]), (&Value::from("val"), &result["data"]["n_val"]));
    let all = place.result("evaluate run --no-cache --split all");
    assert_eq!((&all["n"], &all["n_trained_on"]), (&Value::from(3600), &result["data"]["n_train"]));
    moved_data_are_the_runs_own(place, &again);
    // The same writers, drawn at once, under labels of other names: mapped by what is shown. Classes without images stay.
    place.write("other/labels.csv", "file,kind,shown\n1,ten,十\n2,nought,零\n3,ten,十\n");
    for (name, file) in [("1", "1_1_11"), ("2", "1_1_1"), ("3", "2_1_11")] {
        let image = std::fs::read(place.path(&format!("data/data/data/input_{file}.jpg"))).expect("an image");
        place.write(&format!("other/{name}.jpg"), image);
    }
    let flags = "--csv labels.csv --image {file}.jpg --label kind --display shown --no-cache --split all";
    let other = place.result(&format!("evaluate run --data other {flags} --out judged"));
    assert_eq!((&other["n"], other["classes"].as_array().map(Vec::len)), (&Value::from(3), Some(15)), "{other}");
    assert!(other["top1"].as_f64().expect("a number") > 0.6, "{other}");
    assert!(place.path("judged/top-losses.png").is_file());
    place
        .write("strange/x.csv", "file,kind\n1,eleven\n")
        .write("strange/1.jpg", std::fs::read(place.path("other/1.jpg")).expect("read"));
    let strange = place.line("evaluate run --data strange --csv x.csv --image {file}.jpg --label kind --no-cache");
    assert_eq!(strange.code, 1);
    assert!(strange.stderr.contains("the model does not know the labels `eleven`"), "{}", strange.stderr);
}

/// A copy of the data elsewhere, seen from elsewhere: the same validation part, and no word about other data.
fn moved_data_are_the_runs_own(place: &Place, own: &Value) {
    let from = |folder: &str, words: &[&str]| {
        let mut command = place.command(&[&["evaluate"], words, &["--no-cache", "--json"]].concat());
        command.current_dir(place.path(folder));
        Ended::of(command).result()
    };
    std::fs::create_dir(place.path("elsewhere")).expect("made");
    let unmoved = from("elsewhere", &["../run"]);
    std::fs::rename(place.path("data"), place.path("elsewhere/moved")).expect("moved");
    let moved = from("elsewhere", &["../run", "--data", "moved"]);
    let few = from("elsewhere", &["../run", "--data", "moved", "--limit", "30"]);
    let labels = ["../run", "--data", "moved", "--label", "character", "--limit", "30"];
    let other_labels = from("elsewhere", &labels);
    std::fs::rename(place.path("elsewhere/moved"), place.path("data")).expect("moved back");
    for result in [&unmoved, &moved] {
        for key in ["split", "n", "exact_match", "loss", "confusion"] {
            assert_eq!(result[key], own[key], "{key}");
        }
        assert_eq!(result["n_trained_on"], 0);
    }
    assert_eq!((&few["split"], &few["n"], &few["n_trained_on"]), (&"val".into(), &30.into(), &0.into()));
    // With other columns of the same table the images are still those that it was trained on.
    assert_eq!((&other_labels["split"], &other_labels["n"]), (&"val".into(), &30.into()));
    assert_eq!(other_labels["n_trained_on"], 0, "{other_labels}");
    assert!(other_labels["n_left_out"].as_u64().is_some_and(|n| n > 1000), "{other_labels}");
}

fn prediction_names_the_labels(place: &Place) {
    let text = place.line("predict run data/data/data/input_1_1_4.jpg other").stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].starts_with("data/data/data/input_1_1_4.jpg  "), "{text}");
    let missing = place.line("predict run missing.png");
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.starts_with("error: there is no image or folder `missing.png`\n"), "{}", missing.stderr);
    let result = place.result("predict run/model.safetensors data/data/data/input_1_1_4.jpg");
    assert_eq!(result["probabilities"].as_object().map(serde_json::Map::len), Some(15));
}

fn the_finder_starts_from_a_run(place: &Place) {
    let result = place.result("lr-find --from run --unfrozen --out found --no-cache");
    assert!(result["suggestions"]["valley"].as_f64().is_some_and(|lr| lr > 0.0), "{result}");
    assert!(place.path("found/lr-find.png").is_file());
    assert!(place.json("found/lr-find.json")["lrs"].as_array().is_some_and(|lrs| lrs.len() > 20));
}

fn a_finished_run_is_not_trained_again(place: &Place, result: &Value) {
    let ended = place.line("train --resume run --json");
    assert_eq!((&ended.result(), ended.stdout.lines().count()), (result, 1));
}

#[test]
fn threads_do_not_change_the_weights() {
    let place = Place::new();
    let train = "train --synthetic --limit 240 --image-size 32 --batch-size 32 --epochs 1";
    let one = place.result(&format!("{train} --threads 1 --out one"));
    let two = place.result(&format!("{train} --threads 2 --out two"));
    let other = place.result(&format!("{train} --threads 2 --seed 7 --out other"));
    assert_eq!(one["weights_sha256"], two["weights_sha256"]);
    assert_ne!(one["weights_sha256"], other["weights_sha256"]);
    assert_eq!(one["data"]["sha256"], other["data"]["sha256"]);
}
