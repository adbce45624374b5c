//! Images that a model was trained on are no news to it, wherever they lie and however they are labelled.

use crate::run::Place;
use serde_json::Value;
use std::path::Path;

const TRAIN: &str = "train --image-size 32 --batch-size 16 --epochs 1 --freeze-epochs 0 --no-cache --split random";

fn trained() -> Place {
    let place = Place::new();
    place.result("synth --out data --writers 4 --samples 2");
    place.result(&format!("{TRAIN} --data data --out run"));
    place
}

/// The data once more, with another table.
fn copy(place: &Place, to: &str, table: impl Fn(Vec<&str>) -> Vec<String>) {
    fn all(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).expect("made");
        for entry in std::fs::read_dir(from).expect("a folder") {
            let path = entry.expect("an entry").path();
            let to = to.join(path.file_name().expect("a name"));
            if path.is_dir() {
                all(&path, &to);
            } else {
                std::fs::copy(path, to).expect("copied");
            }
        }
    }
    all(&place.path("data"), &place.path(to));
    let text = place.read("data/chinese_mnist.csv");
    let mut lines = text.lines();
    let header = lines.next().expect("a header").to_owned();
    let rows = table(lines.collect());
    place.write(&format!("{to}/chinese_mnist.csv"), [vec![header], rows].concat().join("\n") + "\n");
}

fn owned(rows: &[&str]) -> Vec<String> {
    rows.iter().map(|&row| row.to_owned()).collect()
}

fn n(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

#[test]
fn a_copy_with_another_table_is_judged_by_what_was_not_trained_on() {
    let place = trained();
    let summary = place.json("run/summary.json");
    let (n_train, n_val) = (n(&summary["data"]["n_train"]), n(&summary["data"]["n_val"]));
    let listed = place.read("run/trained-on.sha256").lines().count() as u64;
    assert_eq!(listed, n_train, "each drawing is one of its own");
    assert!(place.read("run/SHA256SUMS").contains("  trained-on.sha256\n"));

    copy(&place, "sorted", |mut rows| {
        rows.sort_unstable();
        rows.reverse();
        owned(&rows)
    });
    copy(&place, "corrected", |rows| {
        let mut rows = owned(&rows);
        let (first, second) = (rows[0].clone(), rows[1].clone());
        // Two images with each other's labels.
        let labels = |row: &str| row.splitn(4, ',').last().expect("columns").to_owned();
        let of = |row: &str| row.splitn(4, ',').take(3).collect::<Vec<_>>().join(",");
        let swapped = [format!("{},{}", of(&first), labels(&second)), format!("{},{}", of(&second), labels(&first))];
        rows.splice(0..2, swapped);
        rows
    });
    copy(&place, "shorter", |rows| owned(&rows[1..]));
    for name in ["sorted", "corrected", "shorter"] {
        let ended = place.line(&format!("evaluate run --data {name} --no-cache"));
        assert_eq!(ended.code, 0, "{name}: {}", ended.snapshot());
        assert!(ended.stdout.contains(" were trained on and are left out"), "{name}: {}", ended.stdout);
        for flags in ["", " --split val"] {
            let judged = place.result(&format!("evaluate run --data {name} --no-cache{flags}"));
            let whole = n(&judged["n"]) + n(&judged["n_left_out"]);
            assert_eq!(whole, n_train + n_val - u64::from(name == "shorter"), "{name}: {judged}");
            assert!(n_train - n(&judged["n_left_out"]) <= u64::from(name == "shorter"), "{name}: {judged}");
            assert_eq!(judged["n_trained_on"], 0, "{name}: {judged}");
        }
        let all = place.line(&format!("evaluate run --data {name} --no-cache --split all --json"));
        assert!(all.stderr.contains("were trained on: the numbers flatter the model"), "{}", all.stderr);
        assert!(n_train - n(&all.result()["n_trained_on"]) <= u64::from(name == "shorter"), "{}", all.snapshot());
        let few = place.result(&format!("evaluate run --data {name} --no-cache --limit 5"));
        assert_eq!((&few["n"], &few["n_trained_on"]), (&Value::from(5), &Value::from(0)));
    }
    let same = place.result("evaluate run --no-cache");
    let sorted = place.result("evaluate run --data sorted --no-cache");
    assert_eq!((&same["n"], &same["exact_match"]), (&sorted["n"], &sorted["exact_match"]));
}

#[test]
fn images_that_were_all_trained_on_judge_nothing_unless_asked_to() {
    let place = trained();
    let seen = place.read("run/trained-on.sha256");
    let names: Vec<&str> = seen.lines().filter_map(|line| Some(line.split_once("  ")?.1)).collect();
    let is_seen = |row: &str| {
        let mut columns = row.split(',');
        let [suite, sample, code] = [(); 3].map(|()| columns.next().expect("a column"));
        names.iter().any(|name| name.ends_with(&format!("input_{suite}_{sample}_{code}.jpg")))
    };
    copy(&place, "seen", |rows| rows.into_iter().filter(|row| is_seen(row)).map(str::to_owned).collect());
    let refused = place.line("evaluate run --data seen --no-cache");
    assert_eq!(refused.code, 1, "{}", refused.snapshot());
    assert!(refused.stderr.contains(" was trained on, which says nothing of others"), "{}", refused.stderr);
    let all = place.result("evaluate run --data seen --no-cache --split all");
    assert_eq!(all["n_trained_on"], all["n"]);

    place.result("synth --out new --writers 2 --samples 1 --seed 7");
    let new = place.result("evaluate run --data new --no-cache");
    assert_eq!(
        (&new["n"], &new["n_trained_on"], &new["n_left_out"]),
        (&Value::from(30), &Value::from(0), &Value::from(0))
    );
    let val = place.line("evaluate run --data new --no-cache --split val");
    assert!(val.code == 2 && val.stderr.contains("these are other images"), "{}", val.snapshot());
}

#[cfg(unix)]
#[test]
fn weights_bring_what_they_have_seen() {
    let place = trained();
    let next = format!("{TRAIN} --data data --weights run --split-seed 5");
    let ended = place.line(&format!("{next} --out next"));
    assert_eq!(ended.code, 0, "{}", ended.snapshot());
    let warning = ended.stderr.lines().find(|line| line.contains("the weights were trained on")).expect("a warning");
    let told: u64 = warning.split(' ').find_map(|word| word.parse().ok()).expect("a number");
    let n_val = n(&place.json("next/summary.json")["data"]["n_val"]);
    assert!(told > 0 && told <= n_val, "{warning}");
    let judged = place.result("evaluate next --no-cache");
    assert_eq!((n(&judged["n"]), n(&judged["n_trained_on"])), (n_val, told));
    assert_eq!(place.json("next/summary.json")["data"]["n_val_seen"], told);
    place.result("report next --no-cache");
    let page = place.read("next/report.html");
    assert!(page.contains(&format!("{told} of the {n_val} images that judge were trained on")));
    assert!(page.contains(&format!("Of {n_val} images, of which {told} were trained on, it labelled")), "the lead");
    assert!(!page.contains("never seen") && !page.contains("not trained on, but"));
    let compared = place.line("compare run next");
    let note = format!("`next` was trained on {told} of the {n_val} images that judge it");
    assert!(compared.code == 0 && compared.stderr.contains(&note), "{}", compared.snapshot());
    let audited = place.line("audit next --no-cache");
    assert!(
        audited.stdout.contains(&format!("judged by the run, which trained on {told} of them")),
        "{}",
        audited.stdout
    );

    // Each fold begins with the same weights.
    let trained_on = n(&place.json("run/summary.json")["data"]["n_train"]);
    for _ in 0..2 {
        let folds = place.line("evaluate next --cross-validate 2 --no-cache --json");
        assert!(folds.stderr.contains("were trained on: the numbers flatter the model"), "{}", folds.stderr);
        assert_eq!(folds.result()["n_trained_on"], trained_on);
    }
    let audited = place.line("audit next --no-cache");
    assert!(audited.stdout.contains(&format!("judged by 2 folds, which trained on {trained_on} of them")));

    // A link to the file leads to the same list; a file without one tells nothing.
    std::os::unix::fs::symlink(place.path("run/model.safetensors"), place.path("link.safetensors")).expect("linked");
    let linked = place.line(&format!("{next} --dry-run").replace("--weights run", "--weights link.safetensors"));
    assert!(linked.stderr.contains("the weights were trained on"), "{}", linked.snapshot());
    for name in ["model.safetensors", "model.json"] {
        place.write(&format!("loose/{name}"), std::fs::read(place.path(&format!("run/{name}"))).expect(name));
    }
    let loose = place.line(&format!("{next} --dry-run").replace("--weights run", "--weights loose/model.safetensors"));
    assert!(loose.code == 0 && loose.stderr.contains("nobody knows whether they were"), "{}", loose.snapshot());

    let same = place.line(&format!("{TRAIN} --data data --weights run --out same"));
    assert!(same.code == 0 && !same.stderr.contains("the weights were trained on"), "{}", same.snapshot());
    assert_eq!(place.result("evaluate same --no-cache")["n_trained_on"], 0);
}

#[test]
fn a_run_that_goes_on_with_other_images_has_seen_both() {
    let place = trained();
    place.result("synth --out more --writers 4 --samples 2 --seed 9");
    let train = format!("{TRAIN} --data moving").replace("--epochs 1", "--epochs 2");
    std::fs::rename(place.path("data"), place.path("moving")).expect("moved");
    place.result(&format!("{train} --out forced"));
    place.cut("forced");
    let first = place.read("forced/trained-on.sha256");
    std::fs::rename(place.path("moving"), place.path("data")).expect("moved");
    std::fs::rename(place.path("more"), place.path("moving")).expect("moved");
    let ended = place.line("train --resume forced --force --no-cache");
    assert_eq!(ended.code, 0, "{}", ended.snapshot());
    let both = place.read("forced/trained-on.sha256");
    assert!(first.lines().all(|line| both.contains(line)));
    assert_eq!(both.lines().count(), 2 * first.lines().count());
    // Neither is the data that the run began with.
    let text = place.read("moving/chinese_mnist.csv");
    let (header, rows) = text.split_once('\n').expect("a header");
    let reversed: Vec<&str> = rows.lines().rev().collect();
    place.write("moving/chinese_mnist.csv", format!("{header}\n{}\n", reversed.join("\n")));
    std::fs::rename(place.path("moving"), place.path("elsewhere")).expect("moved");
    let judged = place.result("evaluate forced --data elsewhere --no-cache");
    assert_eq!(n(&judged["n_left_out"]), first.lines().count() as u64, "{judged}");
}

#[test]
fn the_remains_of_a_run_are_not_taken_for_a_new_one() {
    let place = trained();
    for name in ["config.toml", "summary.json"] {
        std::fs::remove_file(place.path(&format!("run/{name}"))).expect("removed");
    }
    let refused = place.line(&format!("{TRAIN} --data data --out run"));
    assert_eq!(refused.code, 1, "{}", refused.snapshot());
    assert!(refused.stderr.contains("run/SHA256SUMS` is there, of a run that is not"), "{}", refused.stderr);
    place.write("notes/todo.txt", "the user's own");
    place.result(&format!("{TRAIN} --data data --out notes"));
}

#[test]
fn files_that_are_on_both_sides_are_told() {
    let place = Place::new();
    place.folders(20);
    for i in 0..10 {
        std::fs::copy(place.path(&format!("images/dark/{i}.png")), place.path(&format!("images/dark/copy-{i}.png")))
            .expect("copied");
    }
    let train = "train --data images --image-size 32 --batch-size 8 --epochs 1 --freeze-epochs 0 --weights none";
    let ended = place.line(&format!("{train} --out run"));
    let warning = ended.stderr.lines().find(|line| line.contains("are in the training part too")).expect("a warning");
    let told: u64 = warning.split(' ').find_map(|word| word.parse().ok()).expect("a number");
    assert_eq!(place.json("run/summary.json")["data"]["n_val_seen"], told);
    assert_eq!(place.result("evaluate run")["n_trained_on"], told);

    std::fs::remove_file(place.path("run/trained-on.sha256")).expect("removed");
    place.image("new/dark/1.png", 91).image("new/light/1.png", 131);
    let ended = place.line("evaluate run --data new");
    assert!(ended.code == 0 && ended.stderr.contains("nobody knows whether"), "{}", ended.snapshot());
}

#[test]
fn groups_that_were_all_trained_on_are_named() {
    let place = Place::new();
    place.result("synth --out data --writers 5 --samples 1");
    let train = TRAIN.replace("--split random", "--split group");
    place.result(&format!("{train} --data data --out run"));
    let seen = place.read("run/trained-on.sha256");
    let seen = seen.lines().next().and_then(|line| line.split("input_").nth(1)?.split('_').next()).expect("a writer");
    let refused = place.line(&format!("evaluate run --groups {seen} --no-cache"));
    assert!(refused.code == 1, "{}", refused.snapshot());
    assert!(
        refused.stderr.contains(&format!("all images of the groups `{seen}` were trained on")),
        "{}",
        refused.stderr
    );
    let all = place.result(&format!("evaluate run --groups {seen} --no-cache --split all"));
    assert_eq!(all["n_trained_on"], all["n"]);
}
