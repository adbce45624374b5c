//! What a training will need is known before its first step.

use crate::run::{Ended, Place};
use serde_json::Value;

/// The line of a JSON log that tells of this event.
fn event(stdout: &str, name: &str) -> Value {
    let mut lines = stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("every line is JSON"));
    lines.find(|line| line["event"] == name).unwrap_or_else(|| panic!("no {name} in {stdout}"))
}

#[test]
fn what_no_machine_has_is_refused_before_the_first_step() {
    let place = Place::new();
    let line = "train --synthetic --limit 6000 --image-size 512 --batch-size 4096 --out run";
    let ended = place.line(line);
    assert_eq!(ended.code, 1, "{}", ended.snapshot());
    let begins = "error: training needs more memory than the ";
    assert!(ended.stderr.starts_with(begins) && ended.stderr.contains(" for batches of 4096, "), "{}", ended.stderr);
    let hint = ended.stderr.lines().last().expect("a hint");
    assert!(hint.starts_with("hint: ") && hint.ends_with("; `--ignore-memory` begins anyway"), "{hint}");
    assert!(!place.path("run").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn the_limit_of_the_process_counts() {
    let place = Place::new();
    let program = place.command(&[]).get_program().to_str().expect("UTF-8").to_owned();
    let under = |limit: u32, flags: &str| {
        let mut limited = std::process::Command::new("sh");
        let line = format!("ulimit -v {limit} && exec '{program}' train --synthetic --threads 2 --out run {flags}");
        limited.args(["-c", &line]).current_dir(place.path("")).env("XDG_CACHE_HOME", place.path("cache"));
        Ended::of(limited)
    };
    // Less than the weights take is told before they are made.
    for limit in [260_000, 450_000] {
        let ended = under(limit, "--limit 60 --image-size 32");
        let told = ended.stderr.contains(" MiB that there are: 171 for the weights of a resnet18 of 15 classes\n");
        assert!(ended.code == 1 && told, "{}", ended.snapshot());
    }
    let ended = under(3_000_000, "--limit 6000 --image-size 128 --batch-size 1024");
    assert_eq!(ended.code, 1, "{}", ended.snapshot());
    let rest = ended.stderr.split_once("error: training needs more memory than the ").map(|(_, rest)| rest);
    let there = rest.and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    assert!(there.is_some_and(|mib| (100..2930).contains(&mib)), "{}", ended.snapshot());
    assert!(!place.path("run").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn an_open_batch_size_is_the_largest_that_fits() {
    let place = Place::new();
    let program = place.command(&[]).get_program().to_str().expect("UTF-8").to_owned();
    let under = |limit: u32, size: &str| {
        let train = "train --synthetic --limit 300 --image-size 128 --threads 2 --dry-run --json --batch-size";
        let mut limited = std::process::Command::new("sh");
        limited.args(["-c", &format!("ulimit -v {limit} && exec '{program}' {train} {size}")]);
        limited.current_dir(place.path("")).env("XDG_CACHE_HOME", place.path("cache"));
        Ended::of(limited)
    };
    for limit in [1_000_000, 1_200_000] {
        let open = under(limit, "auto");
        assert_eq!(open.code, 0, "{limit}: {}", open.snapshot());
        let size = event(&open.stdout, "dry_run")["batch"][0].as_u64().expect("a number");
        assert!((2..64).contains(&size), "{limit}: {size}");
        assert_eq!(under(limit, &size.to_string()).code, 0, "{limit}: {size}");
        let more = under(limit, &(2 * size).to_string());
        let hint = format!("`--batch-size {size}` fits");
        assert!(more.code == 1 && more.stderr.contains(&hint), "{limit}: {}", more.snapshot());
    }
}

#[test]
fn an_open_batch_size_is_settled_and_stored() {
    let place = Place::new();
    let train = "train --synthetic --image-size 32 --epochs 1 --freeze-epochs 0 --batch-size auto";
    // 48 images train, fewer than the 64 of the recipe.
    place.result(&format!("{train} --limit 60 --out run"));
    let settings = place.read("run/config.toml");
    assert!(settings.contains("\nbatch_size = 32\n"), "{settings}");
    let refused = place.line("train --resume run --batch-size auto");
    assert_eq!(refused.code, 0, "a finished run shows its result: {}", refused.snapshot());
    std::fs::remove_file(place.path("run/summary.json")).expect("removed");
    let refused = place.line("train --resume run --batch-size auto");
    assert!(
        refused.code == 2 && refused.stderr.contains("has batches of 32, which do not change"),
        "{}",
        refused.stderr
    );

    // Where there is room, the recipe's size stays.
    let ended = place.line(&format!("{train} --limit 200 --dry-run --json"));
    assert_eq!(event(&ended.stdout, "memory")["batch_size"], 64, "{}", ended.snapshot());
    assert_eq!(event(&ended.stdout, "dry_run")["batch"][0], 64);
}

#[test]
fn a_smaller_batch_is_taken_where_memory_is_short() {
    let place = Place::new();
    place.write("large.toml", "recipe = \"quick\"\nbatch_size = 4096\nimage_size = 512\n");
    let line = "train --synthetic --limit 6000 --config large.toml --batch-size auto --dry-run --json";
    let ended = place.line(line);
    assert_eq!(ended.code, 0, "{}", ended.snapshot());
    let size = event(&ended.stdout, "dry_run")["batch"][0].as_u64().expect("a number");
    assert!(size.is_power_of_two() && (2..4096).contains(&size), "{size}");
}

#[test]
fn activations_that_are_computed_twice_give_the_same_run() {
    let place = Place::new();
    let line = "train --synthetic --limit 150 --image-size 64 --batch-size 32 --epochs 1 --json";
    let [kept, twice] = [("never", "kept"), ("always", "twice")].map(|(when, out)| {
        let ended = place.line(&format!("{line} --recompute {when} --out {out}"));
        (ended.result(), event(&ended.stdout, "memory"))
    });
    assert_eq!(kept.0["weights_sha256"], twice.0["weights_sha256"]);
    assert_eq!((&kept.1["recompute"], &twice.1["recompute"]), (&false.into(), &true.into()));
    let [more, less] = [&kept, &twice].map(|(_, memory)| memory["batches_mib"].as_u64().expect("a number"));
    assert!(10 * less < 7 * more, "{less} of {more} MiB");
    // A run goes on either way.
    place.cut("kept");
    let resumed = place.result("train --resume kept --recompute always");
    assert_eq!(resumed["weights_sha256"], kept.0["weights_sha256"]);
}

#[cfg(target_os = "linux")]
#[test]
fn the_estimate_is_within_a_quarter_of_the_peak() {
    let place = Place::new();
    for flags in [
        "--image-size 32 --batch-size 16 --limit 60",
        "--image-size 64 --batch-size 64 --limit 160",
        "--image-size 64 --batch-size 64 --limit 160 --recompute always",
    ] {
        let line = format!("train --synthetic {flags} --epochs 1 --freeze-epochs 0 --out run --json");
        let ended = place.line(&line);
        let peak = ended.result()["peak_rss_mib"].as_f64().expect("a number");
        let estimate = event(&ended.stdout, "memory")["estimate_mib"].as_f64().expect("a number");
        let ratio = estimate / peak;
        assert!((0.75..=1.25).contains(&ratio), "{flags}: {estimate} MiB, and {peak} MiB at the peak");
        std::fs::remove_dir_all(place.path("run")).expect("removed");
    }
}
