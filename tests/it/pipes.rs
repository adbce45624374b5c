//! Pipes in place of files, in what strangers give: a program that opens one waits without end.

use crate::run::{Ended, Place};
use std::process::Command;
use std::time::{Duration, Instant};

/// How the line ends, unless it waits.
#[track_caller]
fn ended(place: &Place, line: &str) -> Ended {
    let mut child = place.command(&line.split_whitespace().collect::<Vec<_>>()).spawn().expect("it starts");
    let start = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if start.elapsed() > Duration::from_secs(60) {
            child.kill().expect("killed");
            panic!("`{line}` waits");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().expect("its output");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ended { stdout: text(output.stdout), stderr: text(output.stderr), code: output.status.code().unwrap_or(-1) }
}

/// Lines with a pipe in place of this file: each is refused by the file's name.
#[track_caller]
fn refused(place: &Place, file: &str, lines: &[&str]) {
    let path = place.path(file);
    let whole = std::fs::read(&path).expect(file);
    std::fs::remove_file(&path).expect("removed");
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
    for line in lines {
        let ended = ended(place, line);
        assert!((1..=2).contains(&ended.code), "`{line}` with {file}: {}", ended.snapshot());
        let name = file.rsplit('/').next().expect("a name");
        let told = ended.stdout.clone() + &ended.stderr;
        let known = [name, "holds no run", "no run", "was not trained to its end"];
        assert!(known.iter().any(|words| told.contains(words)), "`{line}` with {file}: {told}");
    }
    std::fs::remove_file(&path).expect("removed");
    place.write(file, whole);
}

#[test]
fn a_pipe_in_place_of_a_file_is_refused_and_not_waited_for() {
    if Command::new("mkfifo").arg("--version").output().is_err() {
        println!("skipped: no mkfifo");
        return;
    }
    let place = Place::new();
    place.folders(20);
    place.result(
        "train --data images --image-size 32 --batch-size 8 --epochs 1 --freeze-epochs 0 --weights none --out run",
    );
    refused(&place, "run/model.safetensors", &["evaluate run", "verify run", "inspect run", "predict run images"]);
    refused(&place, "run/model.json", &["evaluate run", "verify run", "report run"]);
    refused(&place, "run/config.toml", &["evaluate run", "verify run", "train --resume run", "reproduce run"]);
    refused(&place, "run/summary.json", &["report run", "verify run", "compare run"]);
    refused(&place, "run/predictions.csv", &["report run", "verify run"]);
    refused(&place, "run/metrics.jsonl", &["report run", "verify run", "compare run"]);
    refused(&place, "run/SHA256SUMS", &["verify run"]);
    refused(&place, "run/manifest.json", &["verify run", "reproduce run"]);
    refused(&place, "run/interpret/index.json", &["verify run"]);
    refused(&place, "images/dark/3.png", &["train --data images --out other", "predict run images/dark/3.png"]);

    place.write("run/.lock", "");
    std::fs::remove_file(place.path("run/summary.json")).expect("removed");
    refused(&place, "run/.lock", &["train --resume run"]);

    place.write("table/dataset.toml", "csv = \"t.csv\"\nimage = \"{id}.png\"\nlabel = \"label\"\n");
    place.write("table/t.csv", "id,label\n1,a\n2,b\n").write("settings.toml", "seed = 1\n");
    refused(&place, "table/t.csv", &["train --data table --out other"]);
    refused(&place, "table/dataset.toml", &["train --data table --out other"]);
    std::fs::copy(place.path("run/model.safetensors"), place.path("w.safetensors")).expect("copied");
    refused(
        &place,
        "w.safetensors",
        &["train --data images --weights w.safetensors --out other", "inspect w.safetensors"],
    );
}
