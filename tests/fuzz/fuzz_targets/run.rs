//! Folders of runs as strangers send them: what `report`, `compare` and `verify` read of them, and the pages that come of
//! it.
//!
//! An input is one or several files, each a line with its name and then its content, with a line `@@@` between them; the
//! others are those of a small run, the seed `whole`, which has no pictures.
#![no_main]

use cn_report::{
    ClassNames, ComparedRun, Confusion, EpochRecord, ModelCard, Predictions, RunFolder, StepRecord, Summary,
    class_table, compare_charts, compare_page, compare_table, compare_warnings, confusion_picture, report_page,
};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

const WHOLE: &[u8] = include_bytes!("../corpus/run/whole");
const BETWEEN: &[u8] = b"\n@@@\n";

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let folder = parent.join(format!("cn-fuzz-run-{}", std::process::id()));
    for (name, content) in files(WHOLE) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
        std::fs::write(path, content).expect("written");
    }
    folder
});

/// Names and contents, each name once.
fn files(mut bytes: &[u8]) -> BTreeMap<&str, &[u8]> {
    let mut files = BTreeMap::new();
    loop {
        let end = bytes.windows(BETWEEN.len()).position(|window| window == BETWEEN);
        let file = &bytes[..end.unwrap_or(bytes.len())];
        let (name, content) = file.split_at(file.iter().position(|&byte| byte == b'\n').unwrap_or(file.len()));
        files.insert(std::str::from_utf8(name).unwrap_or_default(), content.get(1..).unwrap_or_default());
        match end {
            Some(end) => bytes = &bytes[end + BETWEEN.len()..],
            None => return files,
        }
    }
}

/// All that reads the run, as far as it gets; pictures, which take longest, where one of the files `changed` makes them.
fn read(run: &RunFolder, changed: &[&str]) {
    let history = EpochRecord::read_history(run.history());
    if let Ok(epochs) = EpochRecord::read_all(run.metrics()).or(history) {
        let again = FOLDER.join("again.csv");
        EpochRecord::write_history(&epochs, &again).expect("what was read can be written");
        let same = EpochRecord::read_history(&again).expect("what was written can be read");
        assert_eq!(same.len(), epochs.len());
    }
    let _ = StepRecord::read_all(run.steps());
    if let (Ok(card), Ok(table)) = (ModelCard::read(run.model_card()), Predictions::read(run.predictions()))
        && let Ok(thresholds) = card.thresholds()
        && let Ok(answers) = table.answers(thresholds, card.activation)
    {
        let names = ClassNames::from(&card);
        let _ = class_table(&answers.class_scores(), &table.class_rankings(), &names);
        if let Some(confusion) = answers.confusion(Confusion::READABLE) {
            assert!(confusion.counts.iter().flatten().sum::<usize>() <= table.rows().len());
            if changed.contains(&"model.json") {
                let _ = confusion_picture(&confusion, &names);
            }
        }
        let _ = Summary::read(run.summary()).and_then(|summary| summary.check(&answers, run.predictions()));
    }
    if let Ok(page) = report_page(run) {
        assert!(!page.contains("<script") && !page.contains("<img src=x"), "markup of a file is in the page");
    }
    if let Ok(compared) = ComparedRun::read(run) {
        let runs = [compared];
        let _ = (compare_table(&runs), compare_warnings(&runs), compare_page(&runs));
        if changed.contains(&"metrics.jsonl") {
            let _ = compare_charts(&runs).map(|chart| chart.draw());
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let usual = files(WHOLE);
    let given: Vec<_> = files(bytes).into_iter().filter(|(name, _)| usual.contains_key(name)).collect();
    if given.is_empty() {
        return;
    }
    for (name, content) in &given {
        std::fs::write(FOLDER.join(name), content).expect("written");
    }
    let changed: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
    read(&RunFolder::new(&*FOLDER), &changed);
    for (name, _) in given {
        std::fs::write(FOLDER.join(name), usual[name]).expect("written");
    }
});
