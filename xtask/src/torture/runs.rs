//! Folders of finished runs as strangers send them: files of nothing to speak of that take many times their size, or long,
//! where they are read.

use super::child::{Ended, Place};
use super::images::MORE_KIB;
use super::{Extent, Scene, Tally, files};
use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::time::{Duration, Instant};

const TRAIN: &str = "train --synthetic --limit 40 --image-size 32 --batch-size 8 --freeze-epochs 0 --epochs 2 \
    --weights none --no-cache --quiet --out given";
/// What reads a run that somebody sent.
const COMMANDS: [&str; 5] = [
    "report given --no-cache",
    "compare given --out compared",
    "verify given",
    "inspect given",
    "train --resume given --no-cache --dry-run",
];
/// What each may take beyond what it takes with the run as it was.
const MORE_TIME: Duration = Duration::from_secs(10);

/// A file of the run, and what it is to hold in place of what it held.
struct Change {
    what: &'static str,
    file: &'static str,
    make: fn(&str) -> Result<Vec<u8>>,
}

const CHANGES: [Change; 36] = [
    change("no settings", "config.toml", |_| Ok(Vec::new())),
    change("settings that are no text", "config.toml", |_| Ok(vec![0xff; 4096])),
    change("settings of 4,000 phases", "config.toml", |text| {
        Ok(format!("{text}{}", "[[phase]]\nepochs = 1\nlr = 1e-3\n".repeat(4_000)).into())
    }),
    change("a manifest that is cut", "manifest.json", cut),
    change("a manifest of brackets", "manifest.json", |_| Ok(vec![b'['; 1 << 20])),
    change("a manifest of a million numbers", "manifest.json", |text| {
        set(text, &["command"], json!(vec!["a"; 1_000_000]))
    }),
    change("a manifest of another time", "manifest.json", |text| set(text, &["started"], json!(MARKUP))),
    change("a summary that is cut", "summary.json", cut),
    change("a summary of 2^63 epochs", "summary.json", |text| set(text, &["epochs"], json!(1_u64 << 63))),
    change("a summary of 2^64 images", "summary.json", |text| set(text, &["data", "n_val"], json!(u64::MAX))),
    change("a summary of markup", "summary.json", |text| set(text, &["arch"], json!(MARKUP))),
    change("a summary of 200,000 labels", "summary.json", |text| {
        set(text, &["data", "vocab"], json!(vec!["a"; 200_000]))
    }),
    change("a model that is cut", "model.json", cut),
    change("a model of no classes", "model.json", |text| set(text, &["classes"], json!([]))),
    change("a model of 20,000 classes", "model.json", |text| set(text, &["classes"], classes(20_000))),
    change("a model of large images", "model.json", |text| set(text, &["image_size"], json!(u32::MAX))),
    change("epochs that are cut", "metrics.jsonl", cut),
    change("no epochs", "metrics.jsonl", |_| Ok(Vec::new())),
    change("an epoch of 200,000 names", "metrics.jsonl", |text| set_first(text, "metrics", named_numbers(0..200_000))),
    change("an epoch of 400,000 rates", "metrics.jsonl", |text| set_first(text, "lr", json!(vec![0; 400_000]))),
    change("epochs of names of their own", "metrics.jsonl", |text| own_names(text, 300, 900)),
    change("200,000 empty lines", "metrics.jsonl", |text| {
        Ok(["\n".repeat(200_000).as_bytes(), &text.as_bytes()[1..]].concat())
    }),
    change("a loss of 1e308", "metrics.jsonl", |text| set_first(text, "train_loss", json!(1e308))),
    change("a history that is cut", "history.csv", cut),
    change("a history of 400,000 columns", "history.csv", |_| {
        Ok(csv_header("epoch,phase,step", |i| format!("lr_{i}"), 400_000))
    }),
    change("steps that are cut", "steps.jsonl", cut),
    change("20,000 steps", "steps.jsonl", |text| Ok(text.repeat(20_000 / text.lines().count().max(1)).into())),
    change("predictions that are cut", "predictions.csv", cut),
    change("predictions that are no numbers", "predictions.csv", |text| Ok(text.replace("0.", "x.").into())),
    change("predictions of 400,000 classes", "predictions.csv", |_| {
        Ok(csv_header("path,group,targets", |i| format!("p:{i}"), 400_000))
    }),
    change("predictions of one endless line", "predictions.csv", |_| Ok(vec![b'a'; 4 << 20])),
    change("a map that is cut", "interpret/index.json", cut),
    change("a map of markup", "interpret/index.json", |text| set(text, &["cam_layer"], json!(MARKUP))),
    change("a tuned table of zeros", "interpret/tuning.csv", |_| Ok(vec![0; 1 << 20])),
    change("hashes of 40,000 files", "SHA256SUMS", |_| {
        Ok((0..40_000).map(|i| format!("{i:064x}  {i}\n")).collect::<String>().into())
    }),
    change("hashes of what lies outside", "SHA256SUMS", |_| Ok(format!("{:064x}  ../outside/secret\n", 0).into())),
];

const fn change(what: &'static str, file: &'static str, make: fn(&str) -> Result<Vec<u8>>) -> Change {
    Change { what, file, make }
}

/// Classes of a run that is whole.
const MANY: usize = 10_000;
const MARKUP: &str = "</script><script>alert(1)</script><img src=x onerror=alert(1)>";

/// Every change, one at a time, read by every command: refused with advice or read, in little more memory and time than
/// the run as it was; `verify` finds each. Then a whole run of many classes.
pub(super) fn run(scene: &Scene) -> Result<Tally> {
    let place = &scene.place;
    place.run(TRAIN)?.succeeded()?;
    fs::create_dir_all(place.path("outside"))?;
    fs::write(place.path("outside/secret"), "secret")?;
    let outside = files::hash(&place.path("outside"))?;
    let usual = COMMANDS.map(|command| timed(place, command).and_then(|took| took.ended.succeeded().map(|()| took)));
    let usual: Vec<Took> = usual.into_iter().collect::<Result<_>>()?;
    let mut tally = Tally::default();
    let every = if scene.extent == Extent::Full { 1 } else { 6 };
    for change in CHANGES.iter().step_by(every) {
        tally.add(|| change.what.into(), judge(place, change, &usual));
    }
    tally.add(|| format!("a report of {MANY} classes"), many_classes(place, &usual[0]));
    let untouched = files::hash(&place.path("outside"))? == outside;
    tally.add(|| "what lies outside".into(), if untouched { Ok(()) } else { Err(anyhow!("it changed")) });
    place.forget("given");
    Ok(tally)
}

/// A child that ended, and how long it took.
struct Took {
    ended: Ended,
    time: Duration,
}

fn timed(place: &Place, command: &str) -> Result<Took> {
    let begin = Instant::now();
    let ended = place.run(command)?;
    Ok(Took { ended, time: begin.elapsed() })
}

/// Within the bounds of what the same command usually takes.
fn modest(took: &Took, usual: &Took) -> Result<()> {
    let more = took.ended.peak_kib.saturating_sub(usual.ended.peak_kib);
    ensure!(more < MORE_KIB, "{} MiB more", more >> 10);
    ensure!(took.time < usual.time + MORE_TIME, "{:.0} s", took.time.as_secs_f64());
    Ok(())
}

fn judge(place: &Place, change: &Change, usual: &[Took]) -> Result<()> {
    let path = place.path("given").join(change.file);
    let whole = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let changed = (change.make)(&String::from_utf8_lossy(&whole))?;
    ensure!(changed != whole, "nothing was changed");
    fs::write(&path, changed)?;
    let outcome = COMMANDS
        .iter()
        .zip(usual)
        .try_for_each(|(command, usual)| read(place, command, usual).with_context(|| format!("`{command}`")));
    fs::write(&path, whole)?;
    outcome
}

/// Reads the changed run by one of the commands.
fn read(place: &Place, command: &str, usual: &Took) -> Result<()> {
    let took = timed(place, command)?;
    if took.ended.code != Some(0) {
        took.ended.refused(&["hint: "])?;
    }
    ensure!(took.ended.code != Some(0) || !command.starts_with("verify"), "it says that all is the same");
    modest(&took, usual)?;
    for page in ["given/report.html", "compared/compare.html"] {
        let text = fs::read_to_string(place.path(page)).unwrap_or_default();
        ensure!(!text.contains("<script") && !text.contains("<img src=x"), "`{page}` holds markup of a file");
        let _ = fs::remove_file(place.path(page));
    }
    Ok(())
}

/// The report of a run of that many classes, every file of which agrees with the others.
fn many_classes(place: &Place, usual: &Took) -> Result<()> {
    let given = place.path("given");
    let files = ["model.json", "summary.json", "predictions.csv", "SHA256SUMS"];
    let whole = files.into_iter().map(|file| fs::read_to_string(given.join(file)));
    let whole: Vec<String> = whole.collect::<std::io::Result<_>>()?;
    let changed = of_many_classes(&whole)?;
    let mut sums = whole[3].clone();
    for (old, new) in whole.iter().zip(&changed) {
        sums = sums.replace(&sha256(old), &sha256(new));
    }
    for (file, text) in files.iter().zip(changed.iter().chain([&sums])) {
        fs::write(given.join(file), text)?;
    }
    let outcome = timed(place, COMMANDS[0]).and_then(|took| {
        took.ended.succeeded()?;
        modest(&took, usual)
    });
    for (file, text) in files.iter().zip(&whole) {
        fs::write(given.join(file), text)?;
    }
    outcome
}

/// Model, summary and predictions where each image is of a class of its own, and all are right.
fn of_many_classes(whole: &[String]) -> Result<[String; 3]> {
    let names: Vec<String> = (0..MANY).map(|class| format!("c{class}")).collect();
    let mut table = format!("path,group,targets,p:{}\n", names.join(",p:"));
    for (row, label) in names.iter().enumerate().take(whole[2].lines().count() - 1) {
        let probabilities: String = (0..MANY).map(|class| if class == row { ",0.9" } else { ",0" }).collect();
        table += &format!("image-{row},,{label}{probabilities}\n");
    }
    let mut summary: Value = serde_json::from_str(&whole[1])?;
    summary["data"]["vocab"] = json!(names);
    summary["val"]["refused"] = json!(0);
    for key in ["exact_match", "top1", "accuracy_multi"] {
        summary["val"][key] = json!(1.0);
    }
    let model = String::from_utf8(set(&whole[0], &["classes"], classes(MANY))?)?;
    Ok([model, summary.to_string(), table])
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first half.
fn cut(text: &str) -> Result<Vec<u8>> {
    Ok(text.as_bytes()[..text.len() / 2].to_vec())
}

/// JSON with another value at a path of keys.
fn set(text: &str, keys: &[&str], value: Value) -> Result<Vec<u8>> {
    let mut tree: Value = serde_json::from_str(text)?;
    let place = keys.iter().try_fold(&mut tree, |place, key| place.get_mut(key));
    *place.with_context(|| format!("there is no {}", keys.join(".")))? = value;
    Ok(serde_json::to_vec(&tree)?)
}

/// Lines of JSON with another value in the first.
fn set_first(text: &str, key: &str, value: Value) -> Result<Vec<u8>> {
    let (first, others) = text.split_once('\n').context("no lines")?;
    Ok([set(first, &[key], value)?, b"\n".to_vec(), others.as_bytes().to_vec()].concat())
}

/// So many epochs of so many names, each of which comes once.
fn own_names(text: &str, n_epochs: usize, n_names: usize) -> Result<Vec<u8>> {
    let first = text.lines().next().context("no lines")?;
    let line = |epoch: usize| set(first, &["metrics"], named_numbers(epoch * n_names..(epoch + 1) * n_names));
    Ok((0..n_epochs).map(line).collect::<Result<Vec<_>>>()?.join(&b"\n"[..]))
}

fn named_numbers(names: std::ops::Range<usize>) -> Value {
    names.map(|name| (format!("{name:x}"), json!(1))).collect::<serde_json::Map<_, _>>().into()
}

fn classes(n: usize) -> Value {
    (0..n).map(|i| json!({ "label": format!("c{i}"), "display": format!("c{i}"), "threshold": 0.5 })).collect()
}

fn csv_header(first: &str, name: fn(usize) -> String, n: usize) -> Vec<u8> {
    let names: Vec<String> = (0..n).map(name).collect();
    format!("{first},{}\n", names.join(",")).into_bytes()
}
