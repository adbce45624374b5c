//! What is wrong with data is found.

use crate::cli::check;
use crate::run::Place;
use expect_test::expect;
use std::collections::BTreeSet;

/// Rows of the table of a drawn data set, without its header.
fn rows(place: &Place) -> Vec<Vec<String>> {
    let table = place.read("data/chinese_mnist.csv");
    table.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// Where the image of a row lies, relative to the data.
fn path(row: &[String]) -> String {
    format!("data/data/input_{}_{}_{}.jpg", row[0], row[1], row[2])
}

#[test]
fn copies_odd_and_damaged_files_are_named() {
    let place = Place::new();
    place.result("synth --out data --writers 10 --samples 1");
    let rows = rows(&place);
    let bytes = |row: usize| std::fs::read(place.path(&format!("data/{}", path(&rows[row])))).expect("an image");
    let put = |row: usize, bytes: &[u8]| {
        place.write(&format!("data/{}", path(&rows[row])), bytes);
    };
    // Writer 3's 八 is a copy of writer 1's 一, and two pages are lost.
    put(38, &bytes(1));
    put(60, &bytes(60)[..200]);
    put(75, b"no image");
    let mut empty = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(64, 64).write_to(&mut empty, image::ImageFormat::Jpeg).expect("encoded");
    put(90, empty.get_ref());

    let result = place.result("audit --data data --val-groups 3 --batch-size 16 --out found");
    let list = |key: &str, field: &str| -> Vec<String> {
        let notes = result[key].as_array().expect("a list").iter();
        notes.map(|note| note[field].as_str().expect("text").to_owned()).collect()
    };
    let inside = |row: usize| path(&rows[row]);
    assert_eq!(list("damaged", "path"), [inside(60), inside(75)]);
    assert_eq!(list("odd", "path"), [inside(90)]);
    assert_eq!(list("odd", "note"), ["shows nothing: its values span 0 levels"]);
    let copies = result["copies"].as_array().expect("a list");
    assert_eq!(copies.len(), 1, "{copies:?}");
    let paths: Vec<&str> =
        copies[0]["images"].as_array().expect("a list").iter().filter_map(|i| i["path"].as_str()).collect();
    assert_eq!(paths, [inside(1), inside(38)]);
    assert_eq!((copies[0]["leaks"].as_bool(), copies[0]["contradicts"].as_bool()), (Some(true), Some(true)));
    assert_eq!((result["n_images"].as_u64(), result["groups_shared"].as_u64()), (Some(148), Some(0)));

    assert_eq!(place.json("found/audit.json"), result);
    let page = place.read("found/audit.html");
    assert!(page.contains("shows nothing") && page.matches("data:image/png").count() >= 2);
    assert!(!page.contains("http:") && !page.contains("https:"), "a page asks nobody for anything");
}

#[test]
fn a_crop_that_cuts_off_strokes_is_counted_by_class() {
    let place = Place::new();
    let cut = |recipe: &str| {
        let result = place.result(&format!("audit --synthetic --limit 1500 --recipe {recipe} --out {recipe}"));
        let lost = |class: &serde_json::Value| class["lost"].as_u64().expect("a number");
        result["crops"].as_array().expect("classes").iter().map(lost).sum::<u64>()
    };
    // fastai's crop may leave a twelfth of the image; that of our own recipes keeps nine tenths of the ink.
    assert!(cut("notebook") > 50);
    assert_eq!(cut("quick"), 0);
}

#[test]
fn flipped_labels_stand_at_the_head_of_the_list() {
    let place = Place::new();
    place.result("synth --out data --writers 20 --samples 2");
    let mut table = rows(&place);
    let chosen = cn_random::permutation(1, 0, cn_random::Purpose::named("flipped labels"), table.len() as u32);
    let flipped: Vec<usize> = chosen.into_iter().take(table.len() / 50).map(|row| row as usize).collect();
    let labels: Vec<[String; 2]> = table.iter().map(|row| [row[3].clone(), row[4].clone()]).collect();
    for &row in &flipped {
        // The label of another character of the same page.
        let other = &labels[row / 15 * 15 + (row % 15 + 4) % 15];
        (table[row][3], table[row][4]) = (other[0].clone(), other[1].clone());
    }
    let lines = table.iter().map(|row| row.join(",") + "\n").collect::<String>();
    place.write("data/chinese_mnist.csv", "suite_id,sample_id,code,value,character\n".to_owned() + &lines);

    place.result("train --data data --epochs 1 --freeze-epochs 0 --lr 5e-4 --batch-size 32 --out run");
    let result = place.result("audit run --cross-validate 3 --top 5");
    assert_eq!(result["labels"]["by"], "3 folds");
    assert_eq!(result["labels"]["n_judged"], 600);
    assert_eq!(result["labels"]["suspects"].as_array().map(Vec::len), Some(5));
    let list = place.read("run/audit/labels.csv");
    let head: BTreeSet<String> =
        list.lines().skip(1).take(18).filter_map(|line| line.split(',').next()).map(str::to_owned).collect();
    let found = flipped.iter().filter(|&&row| head.contains(&path(&table[row]))).count();
    assert!(found * 10 >= flipped.len() * 9, "{found} of {} in the first 3 %", flipped.len());

    // Later, the folds are found without asking.
    assert_eq!(place.result("audit run --top 5")["labels"], result["labels"]);
}

#[test]
fn what_cannot_be_audited_is_said() {
    let place = Place::new();
    check(
        &place,
        "audit missing",
        expect![[r#"
        --- stderr
        error: there is no run in `missing`

        hint: name the folder that holds its config.toml
        --- exit 1
    "#]],
    );
    check(
        &place,
        "audit --recipe glyphs",
        expect![[r#"
        --- stderr
        error: endless handwriting is drawn for each step, and there is nothing to audit

        hint: audit images that are there: `--data DIR`
        --- exit 2
    "#]],
    );
    check(
        &place,
        "audit --cross-validate 5",
        expect![[r#"
        --- stderr
        error: the following required arguments were not provided:
          <RUN>

        Usage: cn-train audit --cross-validate <K> <RUN>

        For more information, try '--help'.
        --- exit 2
    "#]],
    );
}

#[test]
fn classes_that_only_judge_are_looked_at() {
    let place = Place::new();
    for (name, class) in [("a", "left"), ("b", "right")] {
        place.image(&format!("two/{class}/{name}.png"), 40);
    }
    let line = "audit --data two --split random --val-fraction 0.5 --no-cache --out found";
    assert_eq!(place.result(line)["n_images"], 2);
}
