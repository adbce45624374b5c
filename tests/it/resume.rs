//! Runs that are stopped and go on.

use crate::run::{Ended, Place};
use std::time::{Duration, Instant};

pub(crate) const TRAIN: &str = "train --synthetic --limit 480 --image-size 32 --batch-size 16 --epochs 2 --freeze-epochs 1 --lr 2e-3 --checkpoint-every 5";

/// Starts a run, and sends it a signal once it has written a checkpoint.
#[cfg(unix)]
fn stop(place: &Place, signal: &str) -> Ended {
    stop_at(place, &format!("{TRAIN} --out stopped"), "stopped/checkpoints/previous.safetensors", signal)
}

/// Starts a line, and sends it a signal once there is such a file.
#[cfg(unix)]
pub(crate) fn stop_at(place: &Place, line: &str, file: &str, signal: &str) -> Ended {
    let words: Vec<&str> = line.split_whitespace().collect();
    let child = place.command(&words).spawn().expect("the program starts");
    let checkpoint = place.path(file);
    let start = Instant::now();
    while !checkpoint.exists() && start.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let id = child.id().to_string();
    let sent = std::process::Command::new("kill").args([signal, &id]).status().expect("`kill` starts");
    assert!(sent.success());
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    let code = output.status.code().unwrap_or(-1);
    Ended { stdout: text(output.stdout), stderr: text(output.stderr), code }
}

#[cfg(unix)]
#[test]
fn a_stopped_run_goes_on_to_the_bits_of_one_that_never_stopped() {
    let place = Place::new();
    let never = place.result(&format!("{TRAIN} --out never"));
    let ended = stop(&place, "-INT");
    assert_eq!(ended.code, 130, "{}", ended.snapshot());
    let last = ended.stdout.lines().next_back().and_then(|line| line.strip_prefix("stopped   at step "));
    let (step, hint) = last.and_then(|rest| rest.split_once(", ")).expect("it says where it stopped");
    assert_eq!(hint, "which is saved; go on with `cn-train train --resume stopped`");

    let refused = place.line("train --resume stopped --batch-size 8 --seed 1");
    assert_eq!(refused.code, 1);
    let list =
        "error: the run `stopped` cannot go on with something else:\n  batch_size: 16, now 8\n  seed: 42, now 1\n";
    assert!(refused.stderr.starts_with(list), "{}", refused.stderr);

    let manifest = place.read("stopped/manifest.json");
    place.write("stopped/manifest.json", manifest.replace("\"kernel_plan\": ", "\"kernel_plan\": 9"));
    let refused = place.line("train --resume stopped");
    assert!(refused.code == 1 && refused.stderr.contains("\n  kernel plan: 9"), "{}", refused.snapshot());
    place.write("stopped/manifest.json", manifest);

    let settings = place.read("stopped/config.toml");
    place.write("stopped/config.toml", settings.replace("threshold = 0.5", "threshold = 0.7"));
    let refused = place.line("train --resume stopped");
    assert_eq!(refused.code, 1, "{}", refused.snapshot());
    let text = "error: `stopped/config.toml` was edited since the run began\n\nhint: restore the file, begin a new run";
    assert!(refused.stderr.starts_with(text), "{}", refused.stderr);
    place.write("stopped/config.toml", settings.replace("epochs = 2", "epochs = 3"));
    let refused = place.line("train --resume stopped");
    assert!(refused.stderr.contains("also by `--force`:\n  phase 2: epochs: 2, now 3\n"), "{}", refused.snapshot());
    place.write("stopped/config.toml", settings);

    let again = place.line("train --resume stopped --dry-run");
    assert!(again.stdout.contains(&format!("resume    `stopped` at step {step}\n")), "{}", again.snapshot());
    let resumed = place.result("train --resume stopped --threads 1");
    assert_eq!(resumed["weights_sha256"], never["weights_sha256"]);
    assert_eq!(resumed["val"], never["val"]);
    let epochs = |run: &str| {
        let records = cn_report::EpochRecord::read_all(place.path(run).join("metrics.jsonl")).expect("readable");
        records.into_iter().map(|r| (r.epoch, r.step, r.train_loss.to_bits(), r.lr)).collect::<Vec<_>>()
    };
    assert_eq!(epochs("stopped"), epochs("never"));
    for run in ["stopped", "never"] {
        let kept = cn_report::StepRecord::read_all(place.path(run).join("steps.jsonl")).expect("readable");
        let kept: Vec<u64> = kept.iter().map(|record| record.step).collect();
        assert_eq!(curve(&place, run), kept, "TensorBoard sees every step of `{run}` once");
    }
}

/// Steps that TensorBoard has a training loss of: where a run goes on, it forgets what was to come.
fn curve(place: &Place, run: &str) -> Vec<u64> {
    let files = std::fs::read_dir(place.path(run)).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = files.filter(|path| path.to_string_lossy().contains("tfevents")).collect();
    files.sort_unstable();
    let mut steps = Vec::new();
    for bytes in files.iter().map(|path| std::fs::read(path).expect("readable")) {
        let mut rest = &bytes[..];
        while let Some((length, after)) = rest.split_first_chunk::<8>() {
            let (event, after) = after[4..].split_at(u64::from_le_bytes(*length) as usize);
            rest = &after[4..];
            // Wall time, nine bytes, and then the step as a number of seven bits a byte.
            let [0x10, event @ ..] = &event[9..] else { continue };
            let end = event.iter().position(|byte| byte & 0x80 == 0).expect("a number ends");
            let step = event[..=end].iter().rev().fold(0, |step, byte| step << 7 | u64::from(byte & 0x7F));
            match &event[end + 1..] {
                // A start of the session.
                [0x3A, 2, 8, 1] => steps.retain(|&kept| kept < step),
                summary if summary.windows(10).any(|tag| tag == b"loss/train") => steps.push(step),
                _ => {}
            }
        }
    }
    steps
}

#[cfg(unix)]
#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let place = Place::new();
    let ended = stop(&place, "-TERM");
    assert_eq!(ended.code, 143, "{}", ended.snapshot());
    let last = place.path("stopped/checkpoints/last.safetensors");
    let mut bytes = std::fs::read(&last).expect("a checkpoint");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&last, bytes).expect("written");
    let others =
        ["previous.safetensors", "best.safetensors"].map(|name| place.path(&format!("stopped/checkpoints/{name}")));
    let others: Vec<_> = others.into_iter().filter(|path| path.exists()).collect();
    assert!(!others.is_empty(), "an epoch was done before the signal");
    let away = |path: &std::path::Path| path.with_extension("away");
    others.iter().for_each(|path| std::fs::rename(path, away(path)).expect("moved"));
    let lost = place.line("train --resume stopped");
    assert_eq!(lost.code, 1, "{}", lost.snapshot());
    assert!(lost.stderr.starts_with("error: no checkpoint of the run `stopped` can be used\n"), "{}", lost.stderr);
    assert!(lost.stderr.contains("train --config stopped/config.toml --out DIR"), "{}", lost.stderr);
    others.iter().for_each(|path| std::fs::rename(away(path), path).expect("moved back"));
    let previous = &others[0];
    let best = place.path("stopped/checkpoints/best.safetensors");
    if !best.exists() {
        std::fs::copy(previous, &best).expect("copied");
    }
    std::fs::rename(previous, away(previous)).expect("moved");
    let told = |words: &str| {
        let dry = place.line("train --resume stopped --dry-run");
        assert!(dry.code == 0 && dry.stderr.contains(words), "{}", dry.snapshot());
    };
    told("last.safetensors` is damaged: its checksum is wrong; the best one, of step ");
    std::fs::rename(&last, away(&last)).expect("moved");
    told("last.safetensors` is missing; the best one, of step ");
    [&last, previous].iter().for_each(|path| std::fs::rename(away(path), path).expect("moved back"));
    let resumed = place.line("train --resume stopped");
    assert_eq!(resumed.code, 0, "{}", resumed.snapshot());
    assert!(
        resumed.stderr.contains("is damaged") && resumed.stderr.contains("the one before it is used"),
        "{}",
        resumed.stderr
    );
    assert!(place.path("stopped/summary.json").is_file());
}

#[test]
fn a_run_without_a_checkpoint_starts_again() {
    let place = Place::new();
    let train = "train --synthetic --limit 180 --image-size 32 --batch-size 32 --epochs 1";
    let first = place.result(&format!("{train} --out first"));
    std::fs::create_dir(place.path("second")).expect("made");
    std::fs::copy(place.path("first/config.toml"), place.path("second/config.toml")).expect("copied");
    let dry = place.line("train --resume second --dry-run");
    assert!(dry.code == 0 && dry.stdout.contains("nothing was written"), "{}", dry.snapshot());
    assert_eq!(std::fs::read_dir(place.path("second")).expect("a folder").count(), 1);
    let again = place.result("train --resume second");
    assert_eq!(again["weights_sha256"], first["weights_sha256"]);
    assert!(place.path("second/manifest.json").is_file());
}

#[test]
fn lost_weights_are_written_again() {
    let place = Place::new();
    let first = place.result("train --synthetic --limit 180 --image-size 32 --batch-size 32 --epochs 1 --out run");
    std::fs::remove_file(place.path("run/model.safetensors")).expect("removed");
    let refused = place.line("predict run x.png");
    assert_eq!(refused.code, 1, "{}", refused.snapshot());
    let text = "error: `run/model.safetensors` is missing, although the run is finished\n\nhint: restore it, or write";
    assert!(refused.stderr.starts_with(text), "{}", refused.stderr);
    let again = place.result("train --resume run");
    assert_eq!((&again["weights_sha256"], &again["val"]), (&first["weights_sha256"], &first["val"]));
    assert!(place.path("run/model.safetensors").is_file());

    std::fs::remove_file(place.path("run/model.safetensors")).expect("removed");
    std::fs::remove_dir_all(place.path("run/checkpoints")).expect("removed");
    let refused = place.line("train --resume run");
    assert_eq!(refused.code, 1, "{}", refused.snapshot());
    assert!(refused.stderr.contains("and its checkpoints are missing"), "{}", refused.stderr);
}

#[test]
fn labels_that_changed_are_noticed() {
    let place = Place::new();
    let table = |first: char| -> String {
        (0..24).map(|i| format!("{i}.png,{}\n", if i == 0 { first } else { ['a', 'b'][i % 2] })).collect()
    };
    for i in 0..24 {
        place.image(&format!("data/{i}.png"), 10 * i);
    }
    let write = |first| {
        place.write("data/table.csv", format!("file,label\n{}", table(first)));
    };
    place.write("data/dataset.toml", "csv = 'table.csv'\nimage = '{file}'\nlabel = 'label'\n");
    let train = "train --data data --split random --image-size 16 --batch-size 4 --epochs 1 --weights none --out";
    write('a');
    place.result(&format!("{train} first"));
    std::fs::remove_file(place.path("first/summary.json")).expect("removed");
    write('b');
    let refused = place.line("train --resume first");
    assert_eq!(refused.code, 1, "{}", refused.snapshot());
    assert!(refused.stderr.contains("\n  labels: "), "{}", refused.snapshot());

    place.result(&format!("{train} second"));
    write('a');
    place.result("train --resume first");
    let compared = place.line("compare first second first");
    let warning = "warning: `second` was judged by the labels of another table than `first`\n";
    assert!(compared.code == 0 && compared.stderr == warning, "{}", compared.snapshot());
    place.result(&format!("{train} third --split-seed 7"));
    let compared = place.line("compare first third");
    assert!(compared.stderr.contains("`third` was judged on other images than `first`"), "{}", compared.snapshot());
}

/// A run whose first step takes a second or more, once it trains.
#[cfg(unix)]
fn slow(place: &Place) -> std::process::Child {
    let line = "train --synthetic --limit 128 --image-size 256 --batch-size 32 --epochs 1 --freeze-epochs 0 --no-cache \
                --checkpoint-every 1 --out slow";
    let child = place.command(&line.split_whitespace().collect::<Vec<_>>()).spawn().expect("the program starts");
    let start = Instant::now();
    while !place.path("slow/manifest.json").exists() && start.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(5));
    }
    // It listens to signals right behind that.
    std::thread::sleep(Duration::from_millis(200));
    child
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_at_once() {
    let place = Place::new();
    let mut child = slow(&place);
    // Two kinds, right behind each other, since two of one kind may come as one; it takes much longer to save.
    let both = format!("kill -INT {0}; kill -TERM {0}", child.id());
    let sent = std::process::Command::new("sh").args(["-c", &both]).status();
    assert!(sent.expect("`sh` starts").success());
    assert!(matches!(child.wait().expect("it ends").code(), Some(130 | 143)));
    assert!(!place.path("slow/checkpoints/last.safetensors").exists(), "it saved first");
    // The lock went with the process, and the run begins at its start.
    let begun = place.line("train --resume slow --dry-run --no-cache");
    assert!(begun.code == 0 && begun.stdout.contains("resume    `slow` at step 0"), "{}", begun.snapshot());
}

#[cfg(unix)]
#[test]
fn a_run_that_is_removed_meanwhile_ends_with_an_error() {
    let place = Place::new();
    let child = slow(&place);
    std::fs::remove_dir_all(place.path("slow")).expect("removed");
    let output = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("cause: the run `slow` was removed while it was trained"), "{stderr}");
    assert!(!place.path("slow").exists(), "half a run was made");
}

#[cfg(unix)]
#[test]
fn settings_that_are_removed_meanwhile_are_written_again() {
    let place = Place::new();
    let child = slow(&place);
    let kept = ["slow/config.toml", "slow/manifest.json"].map(|name| (name, place.read(name)));
    for (name, _) in &kept {
        std::fs::remove_file(place.path(name)).expect("removed");
    }
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for (name, text) in kept {
        assert_eq!(place.read(name), text, "{name}");
    }
    assert_eq!(place.line("verify slow").code, 0);
}

#[test]
fn what_is_forced_is_told_and_kept() {
    let place = Place::new();
    place.result(&format!("{TRAIN} --out run"));
    place.cut("run");
    let settings = place.read("run/config.toml");
    place.write("run/config.toml", settings.replace("threshold = 0.5", "threshold = 0.7"));
    let forced = place.line("train --resume run --force");
    assert_eq!(forced.code, 0, "{}", forced.snapshot());
    let list = "warning: `--force`: the run goes on with something else:\n  config.toml: edited\n";
    assert!(forced.stderr.contains(list), "{}", forced.snapshot());
    assert_eq!(place.json("run/manifest.json")["forced"], serde_json::json!(["config.toml: edited"]));
    let refused = place.line("reproduce run");
    assert!(refused.code == 1 && refused.stderr.contains("went on with something else than it began with"));

    // What cannot be forced is refused before it is written down.
    let forced = std::fs::read(place.path("run/checkpoints/last.safetensors")).expect("a checkpoint");
    place.cut("run");
    for flag in ["--seed 7", "--batch-size 8", "--lr 1e-2", "--arch resnet34"] {
        let refused = place.line(&format!("train --resume run --force {flag}"));
        assert!(refused.code == 1 && refused.stderr.contains("also by `--force`:\n  "), "{}", refused.snapshot());
    }
    let settings = place.read("run/config.toml");
    for (old, new, line) in [
        ("seed = 42\n", "seed = 7\n", "seed: 42, now 7"),
        ("batch_size = 16", "batch_size = 8", "batch_size: 16, now 8"),
        ("epochs = 2", "epochs = 3", "phase 2: epochs: 2, now 3"),
        ("seed = 42\n", "seed = 42\nema = 0.5\n", "ema: nothing, now 0.5"),
    ] {
        place.write("run/config.toml", settings.replacen(old, new, 1));
        let refused = place.line("train --resume run --force");
        let text = format!("goes on with what its checkpoint holds, also by `--force`:\n  {line}\n");
        assert!(refused.code == 1 && refused.stderr.contains(&text), "{}", refused.snapshot());
    }
    place.write("run/config.toml", settings);
    assert_eq!(place.json("run/manifest.json")["forced"], serde_json::json!(["config.toml: edited"]));

    // A checkpoint that was made by force is none of a run that was not forced.
    place.result(&format!("{TRAIN} --out free"));
    place.cut("free");
    place.write("free/checkpoints/last.safetensors", forced);
    let resumed = place.line("train --resume free");
    assert!(resumed.code == 0 && resumed.stderr.contains("is of another run"), "{}", resumed.snapshot());
    place.line("train --resume run");
    assert!(place.line("verify run").stdout.contains("it went on with config.toml: edited"));
}

#[test]
fn a_lost_manifest_is_written_anew_where_that_is_asked_for() {
    let place = Place::new();
    place.result(&format!("{TRAIN} --out run"));
    let weights = place.json("run/summary.json")["weights_sha256"].clone();
    place.cut("run");
    place.write("run/manifest.json", "x");
    let refused = place.line("train --resume run");
    assert!(refused.code == 1 && refused.stderr.contains("has lost its manifest"), "{}", refused.snapshot());
    let hint = "\nhint: restore manifest.json from a copy, or write it anew from what is here: `--force`";
    assert!(refused.stderr.contains(hint), "{}", refused.snapshot());
    // Not for something else.
    let settings = place.read("run/config.toml");
    place.write("run/config.toml", settings.replace("threshold = 0.5", "threshold = 0.7"));
    let refused = place.line("train --resume run --force");
    assert!(refused.code == 1 && refused.stderr.contains("are not those of its checkpoint"), "{}", refused.snapshot());
    place.write("run/config.toml", settings);

    std::fs::remove_file(place.path("run/manifest.json")).expect("removed");
    let forced = place.line("train --resume run --force");
    let list = "warning: `--force`: the run goes on with something else:\n  manifest.json: lost, and written anew\n";
    assert!(forced.code == 0 && forced.stderr.contains(list), "{}", forced.snapshot());
    assert_eq!(place.json("run/summary.json")["weights_sha256"], weights);
    let verified = place.line("verify run");
    assert!(verified.code == 0 && verified.stdout.contains("lost, and written anew"), "{}", verified.snapshot());
}

#[cfg(unix)]
#[test]
fn a_limit_of_the_size_of_files_is_an_error_with_the_file() {
    let place = Place::new();
    let program = place.command(&[]).get_program().to_str().expect("UTF-8").to_owned();
    // Blocks of 512 bytes, or of 1,024: fewer than a checkpoint has.
    let line = format!("ulimit -f 60000 && exec '{program}' {TRAIN} --out run --threads 2");
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", &line]).current_dir(place.path("")).env("XDG_CACHE_HOME", place.path("cache"));
    let ended = Ended::of(limited);
    assert_eq!(ended.code, 1, "{}", ended.snapshot());
    let told = ended.stderr.contains("checkpoints/last.safetensors`") && ended.stderr.contains("bytes");
    assert!(told && ended.stderr.contains("File too large"), "{}", ended.snapshot());
    assert!(!place.path("run/checkpoints/.last.safetensors.tmp").exists());
    // Without the limit it goes on, from the start where nothing could be saved.
    assert_eq!(place.line("train --resume run").code, 0);
}

#[cfg(unix)]
#[test]
fn a_signal_after_training_ends_before_the_results() {
    let place = Place::new();
    let child = slow(&place);
    let start = Instant::now();
    while !place.path("slow/model.safetensors").exists() && start.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(2));
    }
    let sent = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(sent.expect("`kill` starts").success());
    let output = child.wait_with_output().expect("it ends");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(143), "{stdout}");
    assert!(stdout.contains("stopped   after training"), "{stdout}");
    assert!(!place.path("slow/summary.json").exists());
    let resumed = place.line("train --resume slow --no-cache");
    assert_eq!(resumed.code, 0, "{}", resumed.snapshot());
    assert_eq!(place.line("verify slow").code, 0);
}

#[cfg(unix)]
#[test]
fn nothing_is_written_through_links_of_a_run() {
    let place = Place::new();
    place.result(&format!("{TRAIN} --out run"));
    place.cut("run");
    place.write("precious", "as it was");
    std::fs::rename(place.path("run/checkpoints"), place.path("checkpoints")).expect("moved");
    for name in [".lock", "interpret", "checkpoints"] {
        let link = place.path(&format!("run/{name}"));
        let _ = std::fs::remove_dir_all(&link);
        std::os::unix::fs::symlink(place.path("precious"), &link).expect("linked");
        for line in ["train --resume run", "train --resume run --dry-run"] {
            let refused = place.line(line);
            assert_eq!(refused.code, 1, "{}", refused.snapshot());
            assert!(refused.stderr.contains(&format!("`run/{name}` is a link")), "{}", refused.snapshot());
        }
        std::fs::remove_file(&link).expect("removed");
    }
    std::fs::rename(place.path("checkpoints"), place.path("run/checkpoints")).expect("moved back");
    let last = place.path("run/checkpoints/last.safetensors");
    std::os::unix::fs::symlink(place.path("nowhere"), &last).expect("linked");
    let told = place.line("train --resume run --dry-run");
    let words = "last.safetensors` is damaged: it is a link to nowhere; the one before it is used";
    assert!(told.code == 0 && told.stderr.contains(words), "{}", told.snapshot());
    std::fs::remove_file(&last).expect("removed");
    // Folds are runs in a run.
    place.result(&format!("{TRAIN} --out whole"));
    std::fs::create_dir(place.path("whole/cross-validation-2")).expect("made");
    std::fs::create_dir(place.path("victim")).expect("made");
    let fold = place.path("whole/cross-validation-2/fold-1");
    std::os::unix::fs::symlink(place.path("victim"), fold).expect("linked");
    for line in ["evaluate whole --cross-validate 2", "audit whole --cross-validate 2"] {
        let refused = place.line(line);
        assert!(refused.code == 1 && refused.stderr.contains("fold-1` is a link"), "{}", refused.snapshot());
    }
    assert_eq!(std::fs::read_dir(place.path("victim")).expect("listed").count(), 0);

    let part = place.path("run/checkpoints/.last.safetensors.tmp");
    std::os::unix::fs::symlink(place.path("precious"), part).expect("linked");
    assert_eq!(place.line("train --resume run").code, 0);
    assert_eq!(place.read("precious"), "as it was");
    let last = place.path("run/checkpoints/last.safetensors").symlink_metadata().expect("written");
    assert!(last.is_file(), "it is no link");
}
