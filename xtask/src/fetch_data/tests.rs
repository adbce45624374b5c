use super::content::{Error as ContentError, check, find_root, hex};
use super::*;
use crate::download::ProxyFrom;
use crate::test_server::{Reply, Request, Server};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::sync::Arc;
use std::time::Duration;
use zip::write::SimpleFileOptions;

/// A data set as small as one can be: 2 writers, 1 sample, 15 classes. Path below the root to content.
type Files = BTreeMap<String, Vec<u8>>;

fn shape() -> Expected {
    Expected { writers: 2, samples: 1, images_sha256: String::new(), csv_sha256: String::new(), sums: Vec::new() }
}

fn fake() -> (Files, Expected) {
    let values = "0 1 2 3 4 5 6 7 8 9 10 100 1000 10000 100000000".split(' ');
    let characters = "零一二三四五六七八九十百千万亿".chars();
    let classes: Vec<_> = values.zip(characters).collect();
    let mut csv = String::from("suite_id,sample_id,code,value,character\r\n");
    for writer in [2, 1] {
        for (i, (value, character)) in classes.iter().enumerate() {
            csv += &format!("{writer},1,{},{value},{character}\r\n", i + 1);
        }
    }
    let mut expected = shape();
    let mut files = Files::new();
    let mut all = Sha256::new();
    let mut sums = BTreeMap::new();
    for name in expected.names() {
        // Long enough that a download has some chunks, and nothing that a zip could make shorter.
        let bytes: Vec<u8> = (0..150).flat_map(|i| Sha256::digest(format!("{name}{i}"))).collect();
        files.insert(name, bytes);
    }
    for (name, bytes) in &files {
        let sum = Sha256::digest(bytes);
        all.update(format!("{}  {name}\n", hex(&sum)));
        sums.insert(name.clone(), u16::from_be_bytes([sum[0], sum[1]]));
    }
    expected.sums = expected.names().map(|name| sums[&name]).collect();
    expected.images_sha256 = hex(&all.finalize());
    expected.csv_sha256 = hex(&Sha256::digest(&csv));
    files.insert("chinese_mnist.csv".into(), csv.into_bytes());
    (files, expected)
}

fn zip_of(files: &Files, folder: &str) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        let name = format!("{folder}{name}");
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn write_files(files: &Files, root: &Path) {
    for (name, bytes) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn options() -> Options {
    Options {
        read: Duration::from_millis(500),
        backoff: Duration::from_millis(2),
        backoff_max: Duration::from_millis(20),
        total: Duration::from_secs(20),
        proxy: ProxyFrom::Nowhere,
        ..Options::default()
    }
}

struct Scene {
    dir: tempfile::TempDir,
    files: Files,
    expected: Expected,
}

impl Scene {
    fn new() -> Self {
        let (files, expected) = fake();
        let dir = tempfile::tempdir().unwrap();
        Self { dir, files, expected }
    }

    fn to(&self) -> PathBuf {
        self.dir.path().join("data/set")
    }

    fn fetch(&self, source: Source) -> Result<(Outcome, Whole)> {
        Job {
            source,
            to: self.to(),
            expected: self.expected.clone(),
            options: options(),
            limits: Limits::default(),
            progress: |_, _| Progress::quiet(),
        }
        .run()
    }

    fn archive(&self, bytes: &[u8]) -> Source {
        let path = self.dir.path().join("archive.zip");
        fs::write(&path, bytes).unwrap();
        Source::Archive(path)
    }

    /// The target is whole, and nothing but the target lies in its parent.
    #[track_caller]
    fn assert_installed(&self) {
        let root = self.to();
        for (name, bytes) in &self.files {
            assert!(&fs::read(root.join(name)).unwrap() == bytes, "{name} differs");
        }
        let toml = fs::read_to_string(root.join("dataset.toml")).unwrap();
        assert!(toml.contains("group = \"suite_id\""));
        self.assert_parent_holds(&["set"]);
    }

    #[track_caller]
    fn assert_parent_holds(&self, expected: &[&str]) {
        let mut names: Vec<_> = fs::read_dir(self.dir.path().join("data"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, expected);
    }
}

fn content_error(error: &anyhow::Error) -> &ContentError {
    error
        .chain()
        .map(|cause| cause.downcast_ref().map_or(cause, Hinted::inner))
        .find_map(|cause| cause.downcast_ref())
        .unwrap_or_else(|| panic!("{error:?}"))
}

fn hint(error: &anyhow::Error) -> &str {
    let hinted = error.chain().find_map(|cause| cause.downcast_ref::<Hinted>());
    &hinted.unwrap_or_else(|| panic!("no hint: {error:?}")).hint
}

#[test]
fn an_archive_is_installed_and_counted() {
    let scene = Scene::new();
    let (outcome, whole) = scene.fetch(scene.archive(&zip_of(&scene.files, ""))).unwrap();
    assert_eq!(outcome, Outcome::Installed);
    assert_eq!((whole.images, whole.writers, whole.classes, whole.reordered), (30, 2, 15, false));
    scene.assert_installed();
}

#[test]
fn a_folder_around_everything_and_left_overs_of_systems_do_no_harm() {
    let scene = Scene::new();
    let mut files = scene.files.clone();
    for junk in ["data/data/._input_1_1_1.jpg", "data/data/Thumbs.db", "README.txt"] {
        files.insert(junk.into(), b"junk".to_vec());
    }
    scene.fetch(scene.archive(&zip_of(&files, "around/it/"))).unwrap();
    scene.assert_installed();
    assert!(!scene.to().join("data/data/Thumbs.db").exists());
}

#[test]
fn a_folder_is_copied_and_not_touched() {
    let scene = Scene::new();
    let from = scene.dir.path().join("from");
    write_files(&scene.files, &from);
    scene.fetch(Source::Folder(from.clone())).unwrap();
    scene.assert_installed();
    fs::write(scene.to().join("data/data/input_1_1_1.jpg"), "x").unwrap();
    assert_eq!(fs::read(from.join("data/data/input_1_1_1.jpg")).unwrap().len(), 4800);
    assert!(!from.join("dataset.toml").exists());
}

#[test]
fn a_whole_target_needs_no_source() {
    let scene = Scene::new();
    write_files(&scene.files, &scene.to());
    let (outcome, _) = scene.fetch(Source::Archive("nowhere.zip".into())).unwrap();
    assert_eq!(outcome, Outcome::AlreadyThere);
    scene.assert_installed(); // The description was written.
    fs::write(scene.to().join("dataset.toml"), "# mine\ngroup = \"suite_id\"").unwrap();
    scene.fetch(Source::Archive("nowhere.zip".into())).unwrap();
    let toml = fs::read_to_string(scene.to().join("dataset.toml")).unwrap();
    assert!(toml.starts_with("# mine"), "a description by hand was overwritten");
}

#[test]
fn a_target_with_other_content_is_refused_and_left_alone() {
    let scene = Scene::new();
    fs::create_dir_all(scene.to()).unwrap();
    fs::write(scene.to().join("thesis.txt"), "years of work").unwrap();
    let error = scene.fetch(scene.archive(&zip_of(&scene.files, ""))).unwrap_err();
    assert!(hint(&error).contains("--to"), "{error:?}");
    assert_eq!(fs::read_to_string(scene.to().join("thesis.txt")).unwrap(), "years of work");
    scene.assert_parent_holds(&["set"]);
}

#[test]
fn an_empty_target_is_filled() {
    let scene = Scene::new();
    fs::create_dir_all(scene.to()).unwrap();
    scene.fetch(scene.archive(&zip_of(&scene.files, ""))).unwrap();
    scene.assert_installed();
}

#[test]
fn what_differs_is_named() {
    let mut scene = Scene::new();
    let mut files = std::mem::take(&mut scene.files);
    files.remove("data/data/input_1_1_2.jpg");
    files.insert("data/data/input_9_1_1.jpg".into(), b"new".to_vec());
    files.get_mut("data/data/input_2_1_7.jpg").unwrap()[0] ^= 1;
    let error = scene.fetch(scene.archive(&zip_of(&files, ""))).unwrap_err();
    let ContentError::Images { differences, .. } = content_error(&error) else { panic!("{error:?}") };
    assert_eq!(differences.missing, ["data/data/input_1_1_2.jpg"]);
    assert_eq!(differences.extra, ["data/data/input_9_1_1.jpg"]);
    assert_eq!(differences.changed, ["data/data/input_2_1_7.jpg"]);
    let text = format!("{error:#}");
    assert!(text.contains("1 missing (data/data/input_1_1_2.jpg)"), "{text}");
    scene.assert_parent_holds(&[]);
}

#[test]
fn one_flipped_bit_in_a_hundred_places_is_always_found() {
    let (files, expected) = fake();
    let dir = tempfile::tempdir().unwrap();
    write_files(&files, dir.path());
    let names: Vec<_> = expected.names().collect();
    for i in 0..100_usize {
        let name = &names[i * 7 % names.len()];
        let path = dir.path().join(name);
        let mut bytes = files[name].clone();
        let at = i * 7919 % bytes.len();
        bytes[at] ^= 1 << (i % 8);
        fs::write(&path, &bytes).unwrap();
        let error = check(dir.path(), &expected, &mut Progress::quiet()).unwrap_err();
        let ContentError::Images { differences, .. } = error else { panic!("{error:?}") };
        assert_eq!(differences.changed, std::slice::from_ref(name));
        fs::write(&path, &files[name]).unwrap();
    }
    check(dir.path(), &expected, &mut Progress::quiet()).unwrap();
}

#[test]
fn another_data_set_is_told_from_a_damaged_one() {
    let scene = Scene::new();
    let cats: Files =
        [("cats/1.jpg", "cat"), ("dogs/1.jpg", "dog")].map(|(name, bytes)| (name.to_owned(), bytes.into())).into();
    let from = scene.dir.path().join("from");
    write_files(&cats, &from);
    let error = scene.fetch(Source::Folder(from)).unwrap_err();
    assert!(matches!(content_error(&error), ContentError::Other { .. }));
    assert!(error.to_string().contains("it holds cats, dogs"), "{error}");

    let mut mixed = cats;
    mixed.insert("chinese_mnist.csv".into(), b"x".to_vec());
    mixed.insert("data/data/1.jpg".into(), b"x".to_vec());
    let error = scene.fetch(scene.archive(&zip_of(&mixed, ""))).unwrap_err();
    assert!(matches!(content_error(&error), ContentError::Other { .. }), "{error:?}");
    scene.assert_parent_holds(&[]);
}

#[test]
fn a_table_with_wrong_rows_is_refused_but_line_ends_and_order_are_free() {
    let (files, expected) = fake();
    let dir = tempfile::tempdir().unwrap();
    write_files(&files, dir.path());
    let csv = String::from_utf8(files["chinese_mnist.csv"].clone()).unwrap();
    let check_csv = |text: &str| {
        fs::write(dir.path().join("chinese_mnist.csv"), text).unwrap();
        check(dir.path(), &expected, &mut Progress::quiet())
    };
    assert!(!check_csv(&csv).unwrap().reordered);
    assert!(!check_csv(&format!("\u{feff}{}", csv.replace('\r', ""))).unwrap().reordered);
    let mut lines: Vec<_> = csv.lines().collect();
    lines[1..].reverse();
    assert!(check_csv(&lines.join("\n")).unwrap().reordered);
    let what = |text: &str| check_csv(text).unwrap_err().to_string();
    assert!(what(&csv.replacen("九", "八", 1)).contains("is wrong or there twice"));
    assert!(what(&format!("{csv}2,1,1,0,零\r\n")).contains("is wrong or there twice"));
    assert!(what(&lines[..lines.len() - 1].join("\n")).contains("1 rows are missing"));
    assert!(what("a,b\n").contains("begins with `a,b`"));
    assert!(what("").contains("it is empty"));
}

#[test]
fn an_empty_folder_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let error = find_root(dir.path()).unwrap_err();
    assert!(error.to_string().contains("it is empty"), "{error}");
}

#[test]
fn another_data_set_as_source_gets_advice() {
    let scene = Scene::new();
    let folder = scene.dir.path().join("other");
    fs::create_dir_all(folder.join("cats")).unwrap();
    let error = scene.fetch(Source::Folder(folder)).unwrap_err();
    assert!(hint(&error).contains("train --data DIR"), "{error:?}");
    let mut files = scene.files.clone();
    files.pop_last();
    let error = scene.fetch(scene.archive(&zip_of(&files, ""))).unwrap_err();
    assert!(hint(&error).contains("get the archive again"), "{error:?}");
}

#[test]
fn a_target_that_cannot_be_written_gets_advice() {
    let scene = Scene::new();
    fs::write(scene.dir.path().join("data"), "a file where a folder should be").unwrap();
    let error = scene.fetch(scene.archive(&zip_of(&scene.files, ""))).unwrap_err();
    assert!(hint(&error).contains("`--to DIR`"), "{error:?}");
}

#[test]
fn a_hostile_archive_leaves_nothing() {
    let scene = Scene::new();
    let mut files = scene.files.clone();
    files.insert("../../evil.jpg".into(), b"evil".to_vec());
    scene.fetch(scene.archive(&zip_of(&files, ""))).unwrap_err();
    scene.assert_parent_holds(&[]);
    assert!(!scene.dir.path().join("evil.jpg").exists());
}

#[test]
fn left_overs_of_a_killed_run_are_cleared() {
    let scene = Scene::new();
    let stale = scene.dir.path().join("data/.set.fetch/unpacked/data/data");
    fs::create_dir_all(&stale).unwrap();
    fs::write(stale.join("input_1_1_1.jpg"), "half").unwrap();
    scene.fetch(scene.archive(&zip_of(&scene.files, ""))).unwrap();
    scene.assert_installed();
}

/// A server with the archive, and a good scene around it.
fn served(answer: impl Fn(usize, &Request, &[u8]) -> Reply + Send + 'static) -> (Scene, Server) {
    let scene = Scene::new();
    let bytes = zip_of(&scene.files, "");
    let server = Server::start(move |n, request| answer(n, request, &bytes));
    (scene, server)
}

#[test]
fn a_bad_server_in_every_way_at_once_still_gives_the_right_content() {
    let (scene, server) = served(|n, request, zip| match n {
        0 => Reply::status("503 Service Unavailable"),
        1 => Reply::good(zip, request).cut(50_000),
        2 => Reply::whole(zip).cut(70_000), // Ignores the range.
        3 => {
            let mut reply = Reply::good(zip, request);
            reply.head = reply.head.replace(&format!("/{}", zip.len()), "/999999");
            reply
        }
        4 => Reply::status("302 Found").header("Location: /elsewhere"),
        _ => Reply::good(zip, request),
    });
    scene.fetch(Source::Url(server.url("/set.zip"))).unwrap();
    scene.assert_installed();
}

#[test]
fn an_archive_that_arrived_damaged_is_fetched_once_more() {
    // The stated length is too short: HTTP sees nothing wrong, the archive has no end.
    let (scene, server) = served(|n, request, zip| match n {
        0 => Reply::good(&zip[..zip.len() / 2], request),
        _ => Reply::good(zip, request),
    });
    scene.fetch(Source::Url(server.url("/set.zip"))).unwrap();
    scene.assert_installed();
    assert_eq!(server.requests().len(), 2);

    let (scene, server) = served(|_, request, zip| Reply::good(&zip[..zip.len() / 2], request));
    let error = scene.fetch(Source::Url(server.url("/set.zip"))).unwrap_err();
    assert!(hint(&error).contains("did not arrive whole"), "{error:?}");
    assert_eq!(server.requests().len(), 2);
    scene.assert_parent_holds(&[]);
}

#[test]
fn a_login_page_instead_of_an_archive_is_not_kept() {
    let (scene, server) = served(|_, request, _| Reply::good(b"<html>please log in</html>", request));
    let error = scene.fetch(Source::Url(server.url("/set.zip"))).unwrap_err();
    assert!(error.to_string().contains("is not a zip archive"), "{error}");
    scene.assert_parent_holds(&[]);
}

#[test]
fn wrong_content_over_the_network_is_refused_and_not_kept() {
    let mut scene = Scene::new();
    scene.expected.images_sha256 = "0".repeat(64);
    let bytes = zip_of(&scene.files, "");
    let server = Server::start(move |_, request| Reply::good(&bytes, request));
    scene.fetch(Source::Url(server.url("/set.zip"))).unwrap_err();
    scene.assert_parent_holds(&[]);
}

#[test]
fn a_broken_download_is_kept_and_goes_on_in_the_next_run() {
    let (scene, server) = served(|n, request, zip| match n {
        0 => Reply::good(zip, request).cut(40_000),
        1..=6 => Reply::status("503 Service Unavailable"),
        _ => Reply::good(zip, request),
    });
    let error = scene.fetch(Source::Url(server.url("/set.zip"))).unwrap_err();
    assert!(hint(&error).contains("goes on where it stopped"), "{error:?}");
    scene.assert_parent_holds(&[".set.fetch"]);
    scene.fetch(Source::Url(server.url("/set.zip"))).unwrap();
    scene.assert_installed();
    assert_eq!(server.sent(), zip_of(&scene.files, "").len());
}

#[test]
fn eight_at_once_download_once() {
    let (scene, server) = served(|_, request, zip| Reply::good(zip, request));
    let (scene, url) = (Arc::new(scene), server.url("/set.zip"));
    let jobs: Vec<_> = (0..8)
        .map(|_| {
            let (scene, url) = (scene.clone(), url.clone());
            std::thread::spawn(move || scene.fetch(Source::Url(url)).unwrap().0)
        })
        .collect();
    let outcomes: Vec<_> = jobs.into_iter().map(|job| job.join().unwrap()).collect();
    let installed = outcomes.iter().filter(|o| **o == Outcome::Installed).count();
    assert_eq!((installed, server.requests().len()), (1, 1));
    scene.assert_installed();
}

#[test]
fn without_a_network_there_are_three_lines_of_advice() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let scene = Scene::new();
    let error = scene.fetch(Source::Url(format!("http://{port}/set.zip"))).unwrap_err();
    let hint = hint(&error);
    assert_eq!(hint.lines().count(), 3);
    assert!(hint.contains("--from ARCHIVE.zip") && hint.contains("cargo run -p cn-train"));
    scene.assert_parent_holds(&[]);
}

#[test]
fn sources_are_told_apart() {
    let url = Source::Url("HTTPS://example.org/x.zip".into());
    assert_eq!(Source::parse("HTTPS://example.org/x.zip").unwrap(), url);
    assert!(Source::parse("file:///etc/passwd").is_err());
    let error = Source::parse("no/such.zip").unwrap_err();
    assert!(error.to_string().contains("no/such.zip"));
    assert!(hint(&error).contains("path of a zip archive"), "{error:?}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    assert_eq!(Source::parse(path).unwrap(), Source::Folder(path.into()));
}

/// The published archive, where the machine has it.
#[test]
fn the_real_archive_has_the_published_content() {
    let zip = workspace::root().join("../shared/data/chinese-mnist.zip");
    if !zip.is_file() {
        println!("skipped: the archive of Chinese MNIST is not here");
        return;
    }
    let scene = Scene { expected: chinese_mnist::expected(), ..Scene::new() };
    let (outcome, whole) = scene.fetch(Source::Archive(zip)).unwrap();
    assert_eq!(outcome, Outcome::Installed);
    assert_eq!((whole.images, whole.writers, whole.classes), (15_000, 100, 15));
    assert!(!whole.reordered);
    scene.assert_parent_holds(&["set"]);
}
