use std::{fs, io::Read as _};

use serde_json::Value;

use super::*;
use crate::{Split, SplitConfig, Vocabulary, content_sha256};

fn record(path: &str, label: &str) -> Record {
    Record { path: path.into(), labels: vec![label.into()], group: None }
}

fn golden(file: &str) -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/").to_owned() + file;
    serde_json::from_str(&fs::read_to_string(path).expect("golden file")).expect("JSON")
}

/// The published archive, or `None` with a line that says so.
pub(crate) fn archive() -> Option<zip::ZipArchive<fs::File>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/chinese-mnist.zip");
    match fs::File::open(path) {
        Ok(file) => Some(zip::ZipArchive::new(file).expect("a zip archive")),
        Err(_) => {
            println!("skipped: no archive of Chinese MNIST at {path}");
            None
        }
    }
}

pub(crate) fn entry(archive: &mut zip::ZipArchive<fs::File>, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    archive.by_name(name).expect("an entry").read_to_end(&mut bytes).expect("readable");
    bytes
}

/// Chinese MNIST without its images, in a folder.
fn chinese_mnist() -> Option<(tempfile::TempDir, Index)> {
    let csv = entry(&mut archive()?, "chinese_mnist.csv");
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("chinese_mnist.csv"), csv).expect("written");
    let index = Index::open(folder.path()).expect("recognised");
    Some((folder, index))
}

#[test]
fn chinese_mnist_is_as_counted() {
    let Some((_folder, index)) = chinese_mnist() else { return };
    let golden = golden("dataset_stats.json");
    assert_eq!((index.len(), index.groups().len(), index.class_counts().len()), (15_000, 100, 15));
    assert!(index.groups().values().all(|&n| n == 150) && index.class_counts().values().all(|&n| n == 1000));
    assert_eq!(index.records()[0].path, "data/data/input_1_1_10.jpg");
    assert_eq!((index.name(), index.licence(), index.display("9")), ("chinese-mnist", Some("CC BY 4.0"), "九"));
    let sha256 = "89abb517ed65c619eab60b4a2b714782591db554abfc086dbaa435972b65112b";
    assert_eq!(index.sha256().to_string(), sha256);

    let split = Split::new(&index, &SplitConfig::default()).expect("valid");
    assert_eq!(split.groups_shared(&index), golden["n_writers_in_both_parts"].as_u64().expect("a count") as usize);
    let vocabulary = Vocabulary::of(&index, split.train());
    let order = golden["vocab_in_fastai_order"].as_array().expect("a list");
    assert!(vocabulary.labels().iter().eq(order.iter().map(|v| v.as_str().expect("a label"))));
    let files = golden["valid_first_files"].as_array().expect("a list");
    for (&id, file) in split.val().iter().zip(files) {
        assert!(index.records()[id as usize].path.ends_with(file.as_str().expect("a name")));
    }
    for (label, class) in golden["classes"].as_object().expect("an object") {
        let n = |ids: &[u32]| ids.iter().filter(|&&id| index.records()[id as usize].labels == [label.clone()]).count();
        assert_eq!(n(split.train()) as u64, class["n_train"].as_u64().expect("a count"), "{label}");
        assert_eq!(n(split.val()) as u64, class["n_valid"].as_u64().expect("a count"), "{label}");
        assert_eq!(index.display(label), class["character"].as_str().expect("a character"));
    }
}

#[test]
fn content_of_the_archive_is_as_published() {
    let Some(mut archive) = archive() else { return };
    let names: Vec<String> = (0..archive.len())
        .map(|i| archive.by_index(i).expect("an entry").name().expect("UTF-8").into_owned())
        .filter(|name| name.ends_with(".jpg"))
        .collect();
    let digests: Vec<_> = names.iter().map(|name| Digest::of(&entry(&mut archive, name))).collect();
    let content = content_sha256(names.iter().map(String::as_str).zip(digests));
    let published = "4f052728b2d9ccae1fd6e5f8ae98e0edf5ca1c23962df0899bd4f06d9a53bfaf";
    assert_eq!(content.to_string(), published);
}

#[test]
fn dataset_toml_describes_a_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let toml =
        "name = \"t\"\ncsv = \"t.csv\"\nimage = \"{id}.png\"\nlabel = \"kind\"\ngroup = \"who\"\ncitation = \"c\"";
    fs::write(folder.path().join("dataset.toml"), toml).expect("written");
    fs::write(folder.path().join("t.csv"), "id,kind,who,page\n1,a,w,p\n").expect("written");
    let index = Index::open(folder.path()).expect("valid");
    assert_eq!(index.records(), [Record { group: Some("w".into()), ..record("1.png", "a") }]);
    assert_eq!((index.name(), index.citation(), index.path(0)), ("t", Some("c"), folder.path().join("1.png")));
    let by_page = Spec { group: Some("page".into()), ..Spec::default() };
    let index = Index::open_with(folder.path(), &by_page).expect("valid");
    assert_eq!(index.records()[0].group.as_deref(), Some("p"));
}

#[test]
fn a_folder_without_a_table_has_no_columns() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("a")).expect("made");
    fs::write(folder.path().join("a/1.png"), "").expect("written");
    let index = Index::open(folder.path()).expect("valid");
    assert_eq!(index.name(), folder.path().file_name().expect("named").to_str().expect("UTF-8"));
    let grouped = Spec { group: Some("who".into()), ..Spec::default() };
    let error = Index::open_with(folder.path(), &grouped).expect_err("no table");
    assert!(matches!(error, Error::IncompleteSpec { missing: "csv", .. }) && error.hint().is_some());
}

#[test]
fn missing_folders_say_so() {
    let error = Index::open("/no/such/folder".as_ref()).expect_err("missing");
    assert_eq!(error.to_string(), "there is no folder `/no/such/folder`");
    assert!(error.hint().expect("a hint").contains("fetch-data"));
}

#[test]
fn records_are_checked() {
    let open = |records| Index::from_records("t", "", records);
    assert!(matches!(open(vec![]), Err(Error::NoImages { .. })));
    let twice = open(vec![record("a", "x"), record("b", "x"), record("a", "y")]);
    assert!(matches!(twice, Err(Error::DuplicateRecord { image }) if image == "a"));
    let many = open((0..=50_000).map(|i| record(&i.to_string(), &i.to_string())).collect());
    assert!(matches!(many, Err(Error::TooManyLabels { n: 50_001, max: 50_000 })));
}

#[test]
fn subsets_are_renumbered() {
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["train/a/1.png", "train/b/2.png", "val/a/3.png", "val/b/4.png"] {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().expect("below")).expect("made");
        fs::write(path, "").expect("written");
    }
    let index = Index::open(folder.path()).expect("valid");
    let subset = index.subset(&[3, 0]).expect("valid");
    assert_eq!((subset.path(0), subset.fixed_val()), (folder.path().join("val/b/4.png"), Some(&[0][..])));
    assert!(index.subset(&[4]).is_err() && index.subset(&[1, 1]).is_err() && index.subset(&[]).is_err());
}

#[test]
fn limits_are_even_and_nested() {
    let records = (0..90).map(|i| record(&i.to_string(), if i < 80 { "often" } else { "rare" })).collect();
    let index = Index::from_records("t", "", records).expect("valid");
    let paths = |n| index.limit(n, 1).expect("valid").records().iter().map(|r| r.path.clone()).collect::<Vec<_>>();
    let counts = |n| index.limit(n, 1).expect("valid").class_counts().into_values().collect::<Vec<_>>();
    assert_eq!((counts(10), counts(11), counts(40)), (vec![5, 5], vec![6, 5], vec![30, 10]));
    assert_eq!((paths(500).len(), paths(30)), (90, paths(30)));
    assert!(paths(10).iter().all(|path| paths(30).contains(path)));
    assert_ne!(
        paths(10),
        index.limit(10, 2).expect("valid").records().iter().map(|r| r.path.clone()).collect::<Vec<_>>()
    );
    assert!(matches!(index.limit(0, 1), Err(Error::LimitZero)));
}

#[test]
fn a_description_names_no_table_elsewhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("data");
    fs::create_dir(&root).expect("made");
    let elsewhere = folder.path().join("labels.csv");
    for path in [root.join("labels.csv"), elsewhere.clone()] {
        fs::write(path, "id,label\n1,a\n").expect("written");
    }
    let describe = |csv: &str| {
        let spec = Spec {
            csv: Some(csv.into()),
            image: Some("{id}.png".into()),
            label: Some("label".into()),
            ..Spec::default()
        };
        fs::write(root.join(FILE), spec.to_toml()).expect("written");
        spec
    };
    describe("labels.csv");
    assert_eq!(Index::open(&root).expect("valid").len(), 1);
    for csv in ["../labels.csv", "a/../../labels.csv", elsewhere.to_str().expect("UTF-8"), "C:labels.csv"] {
        let spec = describe(csv);
        let error = Index::open(&root).expect_err(csv);
        assert!(matches!(&error, Error::CsvOutside { csv: named, .. } if named.to_str() == Some(csv)), "{error}");
        // A person may name any.
        if Path::new(csv).is_absolute() {
            assert_eq!(Index::open_with(&root, &spec).expect("valid").len(), 1);
        }
    }
}
