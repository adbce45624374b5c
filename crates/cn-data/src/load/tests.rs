use image::{GrayImage, Luma, Rgb, RgbImage};

use super::*;
use crate::Record;

struct Folder {
    dir: tempfile::TempDir,
    names: Vec<String>,
}

impl Folder {
    /// `n` grey images of 4 x 3, each of one value: its number.
    fn of(n: u32) -> Self {
        let mut folder = Self { dir: tempfile::tempdir().expect("a folder"), names: Vec::new() };
        for i in 0..n {
            let name = format!("{i:03}.png");
            GrayImage::from_pixel(4, 3, Luma([i as u8])).save(folder.dir.path().join(&name)).expect("saved");
            folder.names.push(name);
        }
        folder
    }

    fn write(&mut self, name: &str, bytes: &[u8]) {
        fs::write(self.dir.path().join(name), bytes).expect("written");
        self.list(name);
    }

    fn list(&mut self, name: &str) {
        self.names.push(name.to_owned());
    }

    fn index(&self) -> Index {
        let record = |name: &String| Record { path: name.clone(), labels: vec!["a".into()], group: None };
        Index::from_records("t", self.dir.path(), self.names.iter().map(record).collect()).expect("valid")
    }
}

fn uncached() -> LoadConfig {
    LoadConfig { cache: Cache::Off, ..LoadConfig::default() }
}

fn skipping() -> LoadConfig {
    LoadConfig { damaged: Damaged::Skip, ..uncached() }
}

/// A folder with 3 good images and 10 bad ones.
fn damaged() -> Folder {
    let mut folder = Folder::of(3);
    let good = fs::read(folder.dir.path().join("000.png")).expect("a good one");
    folder.write("empty.png", b"");
    folder.write("cut.png", &good[..good.len() / 2]);
    folder.write("page.jpg", b"<html><body>Not found</body></html>");
    folder.write("text.jpg", b"hello");
    folder.write("head.jpg", b"\xFF\xD8\xFF\xE0\0\x10JFIF\0");
    folder.write("zeros.png", &[0; 100]);
    folder.list("missing.png");
    folder.list("none/missing.png");
    folder.list("000.png/below-a-file.png");
    fs::create_dir(folder.dir.path().join("folder.jpg")).expect("made");
    folder.list("folder.jpg");
    folder
}

#[test]
fn images_stand_in_the_order_of_the_index() {
    // More than one task.
    let folder = Folder::of(200);
    let loaded = Pixels::load(&folder.index(), &uncached()).expect("valid");
    assert_eq!((loaded.pixels.len(), loaded.pixels.size(), loaded.pixels.channels()), (200, Some((3, 4)), 1));
    assert!((0..200).all(|id| loaded.pixels.image(id).pixels == [id as u8; 12]));
    assert!(loaded.kept.iter().copied().eq(0..200) && loaded.skipped.is_empty());
    let digests = loaded.pixels.file_sha256().expect("from files");
    assert_eq!(digests, hash_files(&folder.index()).expect("readable"));
    assert_eq!(digests[7], Digest::of(&fs::read(folder.dir.path().join("007.png")).expect("readable")));
}

#[test]
fn results_do_not_depend_on_the_threads() {
    let folder = Folder::of(150);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| Pixels::load(&folder.index(), &uncached()).expect("valid").pixels)
    };
    assert_eq!(with(1), with(3));
}

#[test]
fn sizes_may_differ_and_one_colour_image_makes_all_rgb() {
    let mut folder = Folder::of(2);
    RgbImage::from_pixel(2, 1, Rgb([9, 8, 7])).save(folder.dir.path().join("c.png")).expect("saved");
    folder.list("c.png");
    let pixels = Pixels::load(&folder.index(), &uncached()).expect("valid").pixels;
    assert_eq!((pixels.channels(), pixels.size()), (3, None));
    assert_eq!((pixels.image(1).pixels, pixels.image(2).pixels), (&[1; 36][..], &[9, 8, 7, 9, 8, 7][..]));
}

#[test]
fn all_bad_images_are_reported_together() {
    let error = Pixels::load(&damaged().index(), &uncached()).expect_err("bad images");
    let text = error.to_string();
    assert!(text.starts_with("10 of 13 images cannot be used:"), "{text}");
    let Error::BadImages { bad, n: 13 } = &error else { panic!("{error:?}") };
    let reason = |name: &str| &bad.iter().find(|image| image.path == name).expect(name).reason;
    assert_eq!(reason("empty.png"), &BadReason::Empty);
    assert!(matches!(reason("cut.png"), BadReason::Damaged(_)));
    assert!(matches!(reason("head.jpg"), BadReason::Damaged(_)));
    for name in ["page.jpg", "text.jpg", "zeros.png"] {
        assert_eq!(reason(name), &BadReason::UnknownFormat, "{name}");
    }
    for name in ["missing.png", "none/missing.png", "000.png/below-a-file.png"] {
        assert_eq!(reason(name), &BadReason::Missing, "{name}");
    }
    assert_eq!(reason("folder.jpg"), &BadReason::NotAFile);
    assert!(text.contains("\n  folder.jpg: not a file"), "{text}");
    let hint = error.hint().expect("a hint");
    assert!(hint.ends_with("leave them out with `--skip-damaged`"), "{hint}");
}

#[test]
fn bad_images_can_be_skipped() {
    let folder = damaged();
    let loaded = Pixels::load(&folder.index(), &skipping()).expect("three are left");
    assert_eq!((loaded.pixels.len(), loaded.kept, loaded.skipped.len()), (3, vec![0, 1, 2], 10));
    let mut only_bad = Folder::of(0);
    only_bad.list("missing.png");
    assert!(matches!(Pixels::load(&only_bad.index(), &skipping()), Err(Error::BadImages { n: 1, .. })));
}

#[test]
fn skipped_images_leave_the_data_set() {
    let mut folder = Folder::of(10);
    folder.names.insert(4, "missing.png".into());
    let load = skipping();
    let dataset = crate::Dataset::load(folder.index(), &load, &crate::SplitConfig::default()).expect("ten are left");
    assert_eq!((dataset.index().len(), dataset.pixels().len(), dataset.skipped().len()), (10, 10, 1));
    assert_eq!((dataset.skipped()[0].id, dataset.skipped()[0].path.as_str()), (4, "missing.png"));
    assert!((0..10).all(|id| dataset.index().records()[id as usize].path == format!("{id:03}.png")));
    assert!((0..10).all(|id| dataset.pixels().image(id).pixels[0] == id as u8));
    assert_eq!(dataset.split().train().len() + dataset.split().val().len(), 10);
}

#[test]
fn long_lists_are_cut() {
    let mut folder = Folder::of(1);
    (0..30).for_each(|i| folder.list(&format!("missing{i}.png")));
    let text = Pixels::load(&folder.index(), &uncached()).expect_err("missing").to_string();
    assert!(text.ends_with("\n  and 10 more") && text.lines().count() == 22, "{text}");
}

#[test]
fn memory_is_capped() {
    let mut config = uncached();
    config.decode.max_total_bytes = 12 * 10 - 1;
    assert!(matches!(Pixels::load(&Folder::of(10).index(), &config), Err(Error::TooManyBytes { .. })));
    assert!(Pixels::load(&Folder::of(9).index(), &config).is_ok());
}

#[cfg(unix)]
#[test]
fn links_to_nowhere_are_missing_and_pipes_are_not_opened() {
    let mut folder = Folder::of(1);
    std::os::unix::fs::symlink("nowhere", folder.dir.path().join("link.png")).expect("linked");
    folder.list("link.png");
    std::os::unix::fs::symlink("/dev/zero", folder.dir.path().join("device.png")).expect("linked");
    folder.list("device.png");
    let loaded = Pixels::load(&folder.index(), &skipping()).expect("one is left");
    let reasons: Vec<_> = loaded.skipped.into_iter().map(|image| image.reason).collect();
    assert_eq!(reasons, [BadReason::Missing, BadReason::NotAFile]);
}

#[test]
fn progress_ends_at_all_images() {
    let most = AtomicUsize::new(0);
    let progress = |done| {
        most.fetch_max(done, Ordering::Relaxed);
    };
    Pixels::load_with_progress(&Folder::of(130).index(), &uncached(), &progress).expect("valid");
    assert_eq!(most.into_inner(), 130);
}

#[test]
fn loose_files_are_read() {
    let folder = Folder::of(3);
    let paths = crate::find_images(folder.dir.path()).expect("readable");
    assert_eq!(Pixels::read(paths, &uncached()).expect("valid").pixels.len(), 3);
    assert!(matches!(Pixels::read(Vec::new(), &uncached()), Err(Error::NoImages { .. })));
}
