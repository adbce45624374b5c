//! Dark ink on white paper, which is learnt and read as light ink on black.

use crate::run::Place;
use serde_json::Value;
use std::path::{Path, PathBuf};

const FLAGS: &str = "--image-size 32 --batch-size 8 --epochs 1 --weights none --no-cache";

/// Images in the folders of a folder.
fn images(folder: &Path) -> Vec<PathBuf> {
    let entries = |folder: &Path| std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("one").path());
    entries(folder).filter(|path| path.is_dir()).flat_map(|class| entries(&class).collect::<Vec<_>>()).collect()
}

/// Drawn handwriting, in folders by label: `black`, and `white` with every byte turned.
fn place() -> Place {
    let place = Place::new();
    place.result("synth --out drawn --writers 4 --samples 1");
    let table = std::fs::read_to_string(place.path("drawn/chinese_mnist.csv")).expect("a table");
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [suite, sample, code, value] = fields[..4] else { panic!("{line}") };
        let name = format!("input_{suite}_{sample}_{code}.jpg");
        let drawn = image::open(place.path("drawn").join("data/data").join(&name)).expect("an image").into_luma8();
        for (set, mask) in [("black", 0), ("white", 255)] {
            let folder = place.path(set).join(value);
            std::fs::create_dir_all(&folder).expect("made");
            let mut image = drawn.clone();
            image.pixels_mut().for_each(|pixel| pixel.0[0] ^= mask);
            image.save(folder.join(name.replace(".jpg", ".png"))).expect("written");
        }
    }
    place
}

#[test]
fn ink_on_paper_trains_and_is_read_as_light_ink_on_black() {
    let place = place();
    let train = |set: &str, more: &str| place.result(&format!("train --data {set} {FLAGS} {more}"));
    let [black, white] = ["black", "white"].map(|set| train(set, &format!("--out on-{set}")));
    assert_eq!(white["weights_sha256"], black["weights_sha256"]);
    assert_eq!(place.json("on-white/model.json")["ground"], "dark");

    // Either run reads either set, and each image alone.
    let judged =
        |run: &str, set: &str| place.result(&format!("evaluate {run} --data {set} --split all"))["loss"].clone();
    let losses = ["on-black", "on-white"].map(|run| ["black", "white"].map(|set| judged(run, set)));
    assert!(losses.iter().flatten().all(|loss| *loss == losses[0][0]), "{losses:?}");
    let image = images(&place.path("white")).swap_remove(0);
    let read = |path: &Path| -> Value {
        place.result(&format!("predict on-black {}", path.display()))["probabilities"].clone()
    };
    let twin = PathBuf::from(image.to_str().expect("UTF-8").replace("/white/", "/black/"));
    assert_eq!(read(&image), read(&twin));

    // Who wants them as they are gets that.
    let kept = train("white", "--ground as-is --out kept");
    assert_ne!(kept["weights_sha256"], black["weights_sha256"]);
    assert_eq!(place.json("kept/model.json")["ground"], Value::Null);
}

#[test]
fn odd_images_on_paper_are_turned_and_the_audit_names_them() {
    let place = place();
    let odd = images(&place.path("white")).swap_remove(0);
    let odd = odd.strip_prefix(place.path("white")).expect("inside").to_owned();
    std::fs::copy(place.path("white").join(&odd), place.path("black").join(&odd)).expect("copied");
    let ended = place.line(&format!("train --data black {FLAGS} --out run"));
    assert!(
        ended.stdout.contains("\nground    dark; 1 of 60 with dark ink on a bright ground are turned"),
        "{}",
        ended.snapshot()
    );
    assert_eq!(place.json("run/model.json")["ground"], "dark");
    let found = place.result("audit --data black --no-cache --out found");
    let notes = found["odd"].as_array().expect("a list");
    let name = odd.to_str().expect("UTF-8").replace('\\', "/");
    assert!(notes.iter().any(|note| note["path"].as_str().is_some_and(|path| path == name)), "{name}: {notes:?}");
}

#[test]
fn light_ink_among_paper_is_inverted() {
    let place = place();
    let odd = images(&place.path("black")).swap_remove(0);
    let odd = odd.strip_prefix(place.path("black")).expect("inside").to_owned();
    std::fs::copy(place.path("black").join(&odd), place.path("white").join(&odd)).expect("copied");
    let found = place.result("audit --data white --no-cache --out found");
    let notes = found["odd"].as_array().expect("a list");
    let name = odd.to_str().expect("UTF-8").replace('\\', "/");
    assert!(notes.iter().any(|note| note["path"].as_str().is_some_and(|path| path == name)), "{name}: {notes:?}");
    assert!(notes.len() <= 3, "{notes:?}");
}

#[test]
fn built_in_weights_read_ink_on_paper() {
    let place = place();
    let exact = |set: &str| place.result(&format!("evaluate glyphs --data {set} --no-cache"))["exact_match"].clone();
    assert_eq!(exact("white"), exact("black"));
    assert!(exact("white").as_f64().is_some_and(|exact| exact > 0.9));
}
