use super::*;

/// A folder with these (empty) files.
fn tree(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("made");
        fs::write(path, "").expect("written");
    }
    folder
}

/// The records as `path=label`.
fn lines(found: &Found) -> Vec<String> {
    found.records.iter().map(|r| format!("{}={}", r.path, r.labels.join("+"))).collect()
}

#[test]
fn folders_are_labels() {
    let folder =
        tree(&["b/2.PNG", "b/1.jpeg", "a/x/3.webp", "a/notes.txt", "a/.hidden.png", "top.png", ".git/x/1.png"]);
    let found = read(folder.path()).expect("valid");
    assert_eq!(lines(&found), ["a/x/3.webp=a", "b/1.jpeg=b", "b/2.PNG=b"]);
    assert_eq!(found.fixed_val, None);
}

#[test]
fn train_and_val_stand_apart() {
    for name in VAL {
        let folder = tree(&["train/a/1.png", "train/b/2.png", &format!("{name}/a/3.png")]);
        let found = read(folder.path()).expect("valid");
        assert_eq!(lines(&found), ["train/a/1.png=a", "train/b/2.png=b", &format!("{name}/a/3.png=a")]);
        assert_eq!(found.fixed_val, Some(vec![2]));
    }
}

#[test]
fn parts_go_by_other_names_too() {
    for (train, val) in [("Train", "Val"), ("training", "test"), ("TRAINING", "Testing")] {
        let folder = tree(&[&format!("{train}/a/1.png"), &format!("{val}/a/2.png")]);
        let found = read(folder.path()).expect("valid");
        assert_eq!(lines(&found), [format!("{train}/a/1.png=a"), format!("{val}/a/2.png=a")]);
        assert_eq!(found.fixed_val, Some(vec![1]));
    }
    // A train may also be what is to be told from a bus.
    let folder = tree(&["Train/1.png", "Bus/2.png"]);
    assert_eq!(lines(&read(folder.path()).expect("valid")), ["Bus/2.png=Bus", "Train/1.png=Train"]);
    // Images without labels are no classes called `train` and `test`.
    let folder = tree(&["train/1.png", "test/2.png"]);
    assert!(matches!(read(folder.path()), Err(Error::NotRecognised { .. })));
}

#[test]
fn val_goes_before_test() {
    let folder = tree(&["train/a/1.png", "test/a/2.png", "val/a/3.png"]);
    assert_eq!(lines(&read(folder.path()).expect("valid")), ["train/a/1.png=a", "val/a/3.png=a"]);
}

#[test]
fn train_alone_has_no_validation_part() {
    let folder = tree(&["train/a/1.png"]);
    assert_eq!(read(folder.path()).expect("valid").fixed_val, None);
}

#[test]
fn other_folders_are_not_recognised() {
    for files in [&[][..], &["1.png"], &["a/notes.txt"]] {
        assert!(matches!(read(tree(files).path()), Err(Error::NotRecognised { .. })), "{files:?}");
    }
}

#[cfg(unix)]
#[test]
fn links_do_not_make_circles() {
    let folder = tree(&["a/1.png"]);
    std::os::unix::fs::symlink(folder.path(), folder.path().join("a/up")).expect("linked");
    std::os::unix::fs::symlink(folder.path().join("nowhere"), folder.path().join("a/2.png")).expect("linked");
    assert_eq!(lines(&read(folder.path()).expect("valid")), ["a/1.png=a", "a/2.png=a"]);
}

#[test]
fn images_are_found_at_any_depth() {
    let folder = tree(&["1.png", "x/y/2.jpg", "x/no.txt"]);
    let found = find_images(folder.path()).expect("readable");
    assert_eq!(found, [folder.path().join("1.png"), folder.path().join("x/y/2.jpg")]);
    let file = folder.path().join("x/no.txt");
    assert_eq!(find_images(&file).expect("a file is itself"), [file]);
}
