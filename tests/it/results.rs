//! Results are neither overwritten nor lost without a word, and impossible requests are refused before anything is made.

use crate::run::{Ended, Place};
use cn_report::Predictions;

const TINY: &str = "--image-size 16 --batch-size 8 --epochs 1 --weights none --no-cache";

/// A finished run on images of two classes.
fn trained() -> Place {
    let place = Place::new();
    place.folders(20).result(&format!("train {TINY} --data images --out run"));
    place
}

#[track_caller]
fn refused(ended: &Ended, code: i32, expected: &str) {
    assert_eq!(ended.code, code, "{}", ended.snapshot());
    assert!(ended.stderr.contains(expected), "{}", ended.snapshot());
    assert!(ended.stderr.contains("\nhint: "), "{}", ended.snapshot());
}

#[test]
fn the_files_of_a_run_are_not_taken_for_a_place_to_write() {
    let place = trained();
    let weights = std::fs::read(place.path("run/model.safetensors")).expect("readable");
    let files = ["predictions.csv", "summary.json", "model.json", "config.toml"];
    let before = files.map(|name| place.read(&format!("run/{name}")));
    for line in ["evaluate run --split all --no-cache --out run", "pack run --out run"] {
        refused(&place.line(line), 1, "the folder `run` holds a run");
    }
    for name in ["summary.json", "model.safetensors", "checkpoints/last.safetensors"] {
        refused(&place.line(&format!("report run --no-cache --out run/{name}")), 2, "the report is a web page");
    }
    assert_eq!(files.map(|name| place.read(&format!("run/{name}"))), before);
    assert_eq!(std::fs::read(place.path("run/model.safetensors")).expect("readable"), weights);
    let from_checkpoint =
        place.line("train --data images --image-size 16 --no-cache --weights run/checkpoints/last.safetensors");
    refused(&from_checkpoint, 1, "`run/checkpoints/last.safetensors` is a checkpoint, which holds more than weights");
    assert_eq!(place.line("evaluate run --split all --no-cache --out run/all").code, 0);
    assert_eq!(place.line("report run --no-cache --out page.html").code, 0);
}

#[test]
fn a_report_of_cut_files_is_refused() {
    let place = trained();
    for (name, keep) in [("run/predictions.csv", 3), ("run/metrics.jsonl", 0)] {
        let whole = place.read(name);
        place.write(name, whole.split_inclusive('\n').take(keep).collect::<String>());
        refused(&place.line("report run --no-cache"), 1, "rows, and summary.json speaks of");
        place.write(name, whole);
    }
    assert_eq!(place.line("report run --no-cache").code, 0);
}

#[test]
#[cfg(target_os = "linux")]
fn a_result_that_cannot_be_printed_is_an_error() {
    let place = trained();
    for line in ["evaluate run --no-cache --json", "show --data images --batch-size 8 --no-cache --out show.png"] {
        let mut command = place.command(&line.split(' ').collect::<Vec<_>>());
        command.stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a full device"));
        refused(&Ended::of(command), 1, "some of the output could not be written");
    }
}

#[test]
fn classes_without_images_stay_among_the_answers() {
    let place = trained();
    let all = place.result("evaluate run --split all --no-cache");
    let fewer = place.line("evaluate run --split all --no-cache --limit 1000");
    assert!(
        fewer.code == 0 && fewer.stderr.contains(" images to judge, fewer than the 1000 asked for"),
        "{}",
        fewer.stderr
    );
    // One class alone: what is taken for the other one counts as wrong.
    for i in 0..5u8 {
        place.image(&format!("half/dark/{i}.png"), 40 * i);
    }
    let half = place.result("evaluate run --data half --no-cache --out half-out");
    assert_eq!(half["classes"].as_array().map(Vec::len), all["classes"].as_array().map(Vec::len));
    let table = Predictions::read(place.path("half-out/predictions.csv")).expect("readable");
    assert_eq!(table.classes(), ["dark", "light"]);
    assert!(table.rows().iter().all(|row| row.targets == [0]));
}

#[test]
fn numbers_beyond_reason_are_refused_before_anything_is_made() {
    let place = Place::new();
    let most = u64::MAX / 2;
    refused(&place.line("synth --out drawn --writers 4294967295 --samples 4294967295"), 2, "expected 1 to 50000000");
    refused(&place.line(&format!("train --synthetic --epochs {most} --out run")), 2, "expected 1 to 1e9");
    let steps = format!("train --recipe glyphs --steps {most} --limit 50 --batch-size 2 --image-size 8 --out run");
    refused(&place.line(&steps), 2, "images would be drawn, more than 2147483648");
    refused(&place.line("train --recipe notebook --weights none --image-size 1 --out run"), 2, "not possible");
    for flag in ["--image-size", "--batch-size", "--seed", "--epochs"] {
        let ended = place.line(&format!("train --synthetic {flag} -5"));
        assert!(ended.code == 2 && ended.stderr.contains(&format!("'{flag} <")), "{}", ended.snapshot());
    }
    assert!(!place.path("drawn").exists() && !place.path("run/model.safetensors").exists());
}

#[test]
#[cfg(unix)]
fn settings_without_end_are_refused() {
    let place = Place::new();
    refused(&place.line("train --config /dev/zero"), 1, "cannot read the settings `/dev/zero`");
    let groups = place.line("train --synthetic --val-groups /dev/zero");
    assert!(groups.code != 0 && groups.stderr.contains("/dev/zero"), "{}", groups.snapshot());
}

#[test]
fn a_share_of_drawn_images_judges() {
    let place = Place::new();
    let shown = place.result("show --synthetic --val-fraction 0.5 --out show.png");
    assert_eq!((shown["n_train"].as_u64(), shown["n_val"].as_u64()), (Some(9000), Some(9000)), "{shown}");
}

#[test]
fn images_without_a_group_are_counted_where_the_split_passes_groups_over() {
    let place = Place::new();
    let mut table = String::from("file,label,writer\n");
    for i in 0..24u8 {
        place.image(&format!("data/{i}.png"), i * 9);
        let writer = if i < 3 { String::new() } else { format!("w{}", i % 6) };
        table += &format!("{i}.png,{},{writer}\n", i % 2);
    }
    place.write("data/table.csv", table);
    place.write("data/dataset.toml", "csv = 'table.csv'\nimage = '{file}'\nlabel = 'label'\ngroup = 'writer'\n");
    let line = "train --data data --image-size 16 --batch-size 4 --dry-run --weights none";
    let ended = place.line(line);
    assert!(ended.stderr.contains("3 of 24 images have no group, so the split is by class"), "{}", ended.snapshot());
    let ended = place.line(&format!("{line} --split stratified"));
    assert!(ended.code == 0 && !ended.stderr.contains("no group"), "{}", ended.snapshot());
}

#[test]
fn large_images_are_read_as_large_as_the_model_sees_them() {
    let place = Place::new();
    for i in 0..12u32 {
        let image = image::GrayImage::from_fn(900, 30, |x, _| image::Luma([(x % (i + 2) * 80) as u8]));
        let name = place.path(&format!("wide/{}/{i}.png", ["a", "b"][i as usize % 2]));
        std::fs::create_dir_all(name.parent().expect("below the folder")).expect("made");
        image.save(name).expect("written");
    }
    for (size, shape) in [(64, "17x512x1"), (600, "20x600x1"), (1024, "30x900x1")] {
        let shown = place
            .line(&format!("show --data wide --image-size {size} --batch-size 2 --out show.png --rows 1 --cols 1"));
        assert!(shown.stdout.contains(shape) && shown.stdout.contains("30x900x1"), "{}", shown.snapshot());
    }
}

#[test]
#[cfg(unix)]
fn names_are_shown_and_not_obeyed() {
    let place = trained();
    place.image("two\nlines.png", 9);
    let ended = place.run(&["predict", "run", "two\nlines.png"]);
    assert_eq!((ended.code, ended.stdout.lines().count()), (0, 1), "{}", ended.snapshot());
    assert!(ended.stdout.contains("two\\nlines.png"), "{}", ended.snapshot());
}

#[test]
#[cfg(unix)]
fn a_drawn_data_set_is_whole_or_not_there() {
    let place = Place::new();
    let child = place.command(&["synth", "--writers", "20000", "--out", "drawn"]).spawn().expect("the program starts");
    let started = || std::fs::read_dir(place.path(".")).expect("a folder").count() > 0;
    while !started() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("`kill`");
    assert!(sent.success());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), started()), (Some(130), false), "nothing stays");
    place.result("synth --writers 2 --samples 1 --out drawn");
    assert_eq!(std::fs::read_dir(place.path("drawn/data/data")).expect("images").count(), 30);
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_trained() {
    let place = Place::new();
    place.folders(8);
    let train = "--data images --image-size 16 --batch-size 2 --epochs 1 --weights none";
    place.result(&format!("train {train} --split stratified --out run"));
    let folds = place.line("evaluate run --cross-validate 1000 --no-cache");
    assert!(folds.code != 0 && !folds.stdout.contains("fold "), "{}", folds.snapshot());
    assert!(!place.path("run/cross-validation-1000").exists());
    refused(&place.line("train --resume run --epochs 9"), 1, "epochs");
    std::fs::rename(place.path("run/config.toml"), place.path("config.toml")).expect("moved");
    refused(&place.line("evaluate run"), 1, "config.toml` is missing");
    std::fs::rename(place.path("config.toml"), place.path("run/config.toml")).expect("moved back");
    std::fs::remove_file(place.path("run/summary.json")).expect("removed");
    std::fs::remove_file(place.path("run/model.safetensors")).expect("removed");
    refused(&place.line("lr-find --from run"), 1, "was not trained to its end");
}

#[test]
#[cfg(unix)]
fn names_that_no_file_of_a_run_could_hold_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let odd = std::ffi::OsStr::from_bytes(b"bad\xff");
    std::fs::create_dir(place.path(".").join(odd)).expect("made");
    for (command, flag) in [("show", "--data"), ("train", "--out"), ("synth", "--out"), ("lr-find", "--out")] {
        let mut line = place.command(&[command, flag]);
        line.arg(odd);
        refused(&Ended::of(line), 2, "is not UTF-8");
    }
}

#[test]
fn labels_that_changed_since_the_run_are_told() {
    let place = Place::new();
    let table = |changed: usize| -> String {
        let label = |i: usize| if i < changed { "b" } else { ["a", "b"][i % 2] };
        (0..24).map(|i| format!("{i}.png,{}\n", label(i))).collect()
    };
    for i in 0..24 {
        place.image(&format!("data/{i}.png"), 10 * i);
    }
    let write = |changed| {
        place.write("data/table.csv", format!("file,label\n{}", table(changed)));
    };
    place.write("data/dataset.toml", "csv = 'table.csv'\nimage = '{file}'\nlabel = 'label'\n");
    write(0);
    let train = "train --data data --image-size 16 --batch-size 4 --epochs 1 --weights none --split";
    place.result(&format!("{train} random --out random"));
    place.result(&format!("{train} stratified --out stratified"));
    for (run, said) in [("random", "the table of labels has changed"), ("stratified", "the data have changed")] {
        write(0);
        let same = place.line(&format!("evaluate {run}"));
        assert!(same.code == 0 && !same.stderr.contains("changed"), "{}", same.snapshot());
        write(3);
        for line in [format!("evaluate {run}"), format!("evaluate {run} --data data")] {
            let other = place.line(&line);
            assert!(other.code == 0 && other.stderr.contains(said), "{}", other.snapshot());
        }
    }
}

#[test]
fn one_loss_is_told_everywhere_and_it_is_the_one_that_was_trained() {
    let place = Place::new();
    place.folders(20);
    for (loss, of_row) in [("bce", binary as fn(&[f32], usize) -> f64), ("softmax", categorical)] {
        place.write("loss.toml", format!("loss = \"{loss}\"\n"));
        let line = format!("train {TINY} --config loss.toml --data images --out {loss}");
        let trained = place.result(&line)["val"]["loss"].as_f64().expect("a number");
        let judged = place.result(&format!("evaluate {loss} --no-cache"));
        let table = Predictions::read(place.path(&format!("{loss}/predictions.csv"))).expect("readable");
        let losses: Vec<f64> = table.rows().iter().map(|row| of_row(&row.probabilities, row.targets[0])).collect();
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        assert!((trained - mean).abs() < 1e-5, "{loss}: {trained} trained, {mean} in the table");
        let close =
            |found: &serde_json::Value, expected: f64| (found.as_f64().expect("a number") - expected).abs() < 1e-5;
        assert!(close(&judged["loss"], mean), "{loss}: {} judged, {mean} in the table", judged["loss"]);
        let most = losses.iter().copied().fold(0.0, f64::max);
        assert!(close(&judged["top_losses"][0]["loss"], most), "{loss}: {}, {most}", judged["top_losses"][0]);
    }
}

fn binary(probabilities: &[f32], target: usize) -> f64 {
    let terms = probabilities.iter().enumerate().map(|(class, &p)| if class == target { p } else { 1.0 - p });
    -terms.map(|p| f64::from(p).ln()).sum::<f64>() / probabilities.len() as f64
}

fn categorical(probabilities: &[f32], target: usize) -> f64 {
    -f64::from(probabilities[target]).ln()
}
