//! One writer a run, and any number of readers.

use crate::run::{Ended, Place};
use std::process::Child;
use std::time::{Duration, Instant};

const TRAIN: &str = "train --synthetic --limit 480 --image-size 32 --batch-size 8 --epochs 50 --freeze-epochs 0 --lr 1e-3 --checkpoint-every 5";

/// A long run that has two checkpoints.
fn started(place: &Place) -> Child {
    let words: Vec<&str> = TRAIN.split_whitespace().chain(["--out", "run"]).collect();
    let child = place.command(&words).spawn().expect("the program starts");
    let start = Instant::now();
    while !place.path("run/checkpoints/previous.safetensors").exists() {
        assert!(start.elapsed() < Duration::from_secs(120), "it writes no checkpoints");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn a_second_writer_is_refused_and_readers_are_not() {
    let place = Place::new();
    let mut first = started(&place);
    let refused = |line: &str| {
        let ended = place.line(line);
        let text = format!(
            "error: another process ({}) writes to the run `run`\n\nhint: wait for its end, stop it (`kill` with its number: it saves first), or choose another `--out`\n",
            first.id()
        );
        assert!(ended.code == 1 && ended.stderr.ends_with(&text), "{}", ended.snapshot());
    };
    refused(&format!("{TRAIN} --out run"));
    refused("train --resume run");

    for line in ["verify run", "inspect run/checkpoints/last.safetensors", "train --resume run --dry-run"] {
        let ended = place.line(line);
        assert!(!ended.stderr.contains("another process"), "{}", ended.snapshot());
    }
    let verified = place.line("verify run --json");
    assert!(!verified.stdout.contains("\"different\""), "{}", verified.snapshot());

    // A holder that is killed lets the next one in at once, whatever file it left.
    first.kill().expect("killed");
    first.wait().expect("it ended");
    assert!(place.path("run/.lock").exists());
    let ended = place.line("train --resume run --dry-run");
    assert_eq!(ended.code, 0, "{}", ended.snapshot());
    let words = ["train", "--resume", "run"];
    let second = place.command(&words).spawn().expect("the program starts");
    let id = second.id();
    let lock = place.path("run/.lock");
    let start = Instant::now();
    while std::fs::read_to_string(&lock).ok().and_then(|text| text.trim().parse().ok()) != Some(id) {
        assert!(start.elapsed() < Duration::from_secs(60), "it takes no lock");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut second = second;
    second.kill().expect("killed");
    second.wait().expect("it ended");
}

#[test]
fn of_two_that_begin_at_once_one_trains() {
    let place = Place::new();
    let line = "train --synthetic --limit 120 --image-size 32 --batch-size 8 --epochs 1 --freeze-epochs 0 --out run";
    let words: Vec<&str> = line.split_whitespace().collect();
    let both: Vec<Ended> = std::thread::scope(|scope| {
        let run = || Ended::of(place.command(&words));
        let threads = [scope.spawn(run), scope.spawn(run)];
        threads.map(|thread| thread.join().expect("it ended")).into()
    });
    let mut codes: Vec<i32> = both.iter().map(|ended| ended.code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 1], "{}\n{}", both[0].snapshot(), both[1].snapshot());
    let loser = both.iter().find(|ended| ended.code == 1).expect("one of them");
    assert!(
        loser.stderr.contains("writes to the run `run`") || loser.stderr.contains("already holds a run"),
        "{}",
        loser.stderr
    );
    assert!(place.path("run/summary.json").is_file() && !place.path("run/.lock").exists());
}
