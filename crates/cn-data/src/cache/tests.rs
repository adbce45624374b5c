use std::time::Duration;

use image::{GrayImage, Luma};

use super::*;
use crate::{Channels, Loaded, Record};

/// Two images of different sizes, and a cache of their own.
struct Setup {
    images: tempfile::TempDir,
    cache: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let folder = || tempfile::tempdir().expect("a folder");
        let setup = Self { images: folder(), cache: folder() };
        setup.save("a.png", 5, 9);
        setup.save("b.png", 3, 8);
        setup
    }

    fn save(&self, name: &str, width: u32, value: u8) {
        GrayImage::from_pixel(width, 4, Luma([value])).save(self.images.path().join(name)).expect("saved");
    }

    fn index(&self) -> Index {
        let record = |path: &str| Record { path: path.into(), labels: vec![], group: None };
        Index::from_records("t", self.images.path(), vec![record("a.png"), record("b.png")]).expect("valid")
    }

    fn config(&self) -> LoadConfig {
        LoadConfig { cache: Cache::Folder(self.cache.path().to_owned()), ..LoadConfig::default() }
    }

    fn load(&self) -> Loaded {
        Pixels::load(&self.index(), &self.config()).expect("valid")
    }

    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.cache.path()).expect("readable").map(|entry| entry.expect("an entry").path()).collect()
    }

    /// The one file of the cache.
    fn file(&self) -> PathBuf {
        let files = self.files();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }
}

#[test]
fn the_second_load_is_the_first() {
    let setup = Setup::new();
    let (first, second) = (setup.load(), setup.load());
    assert_eq!((first.from_cache, second.from_cache), (false, true));
    assert_eq!(first.pixels, second.pixels);
    assert_eq!(first.kept, second.kept);
}

#[test]
fn any_change_of_a_byte_is_found() {
    let setup = Setup::new();
    let pixels = setup.load().pixels;
    let path = setup.file();
    let whole = fs::read(&path).expect("readable");
    for i in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[i] ^= 1 << (i % 8);
        fs::write(&path, &damaged).expect("written");
        assert!(read(&path, &entry(&setup)).is_err(), "byte {i}");
    }
    for length in [0, 7, HEADER, whole.len() - 1] {
        fs::write(&path, &whole[..length]).expect("written");
        assert!(read(&path, &entry(&setup)).is_err(), "length {length}");
    }
    fs::write(&path, [&whole[..], b"x"].concat()).expect("written");
    assert!(read(&path, &entry(&setup)).is_err());
    // And is repaired without a word to the caller.
    let again = setup.load();
    assert!(!again.from_cache && again.pixels == pixels);
    assert!(setup.load().from_cache);
}

fn entry(setup: &Setup) -> Entry {
    let index = setup.index();
    let stats: Vec<_> = (0..2).map(|id| Stat::of(&index.path(id))).collect();
    Entry::of(&index, &stats, &setup.config()).expect("all files are there")
}

#[test]
fn changed_files_are_decoded_again() {
    let setup = Setup::new();
    setup.load();
    // Another size in bytes or not, the time tells.
    setup.save("b.png", 3, 7);
    let later = SystemTime::now() + Duration::from_secs(10);
    let file = File::options().append(true).open(setup.images.path().join("b.png")).expect("there");
    file.set_modified(later).expect("set");
    let again = setup.load();
    assert!(!again.from_cache);
    assert_eq!(again.pixels.image(1).pixels, [7; 12]);
}

#[cfg(unix)]
#[test]
fn files_that_are_swapped_and_look_alike_are_decoded_again() {
    let setup = Setup::new();
    let path = setup.images.path().join("b.png");
    setup.load();
    let (bytes, time) =
        (fs::read(&path).expect("there"), fs::metadata(&path).and_then(|m| m.modified()).expect("kept"));
    setup.save("b.png", 3, 7);
    let other = fs::read(&path).expect("there");
    assert_eq!(other.len(), bytes.len(), "else the size tells");
    let swap = |bytes: &[u8]| {
        // Clocks of file systems tick every few milliseconds.
        std::thread::sleep(Duration::from_millis(20));
        fs::write(&path, bytes).expect("written");
        File::options().append(true).open(&path).and_then(|file| file.set_modified(time)).expect("set");
        setup.load()
    };
    let swapped = swap(&other);
    assert!(!swapped.from_cache && swapped.pixels.image(1).pixels == [7; 12]);
    let back = swap(&bytes);
    assert!(!back.from_cache && back.pixels.image(1).pixels != [7; 12]);
}

#[test]
fn another_way_of_decoding_has_its_own_file() {
    let setup = Setup::new();
    setup.load();
    let mut config = setup.config();
    config.decode.channels = Channels::Rgb;
    let rgb = Pixels::load(&setup.index(), &config).expect("valid");
    assert!(!rgb.from_cache && rgb.pixels.channels() == 3 && setup.files().len() == 2);
    let fewer = setup.index().subset(&[1]).expect("valid");
    let fewer = Pixels::load(&fewer, &setup.config()).expect("valid");
    assert!(!fewer.from_cache && fewer.pixels.len() == 1);
}

#[test]
fn no_cache_leaves_nothing() {
    let setup = Setup::new();
    let config = LoadConfig { cache: Cache::Off, ..setup.config() };
    Pixels::load(&setup.index(), &config).expect("valid");
    assert!(setup.files().is_empty());
}

#[test]
fn a_cache_that_cannot_be_written_is_no_error() {
    let setup = Setup::new();
    let blocked = setup.cache.path().join("file");
    fs::write(&blocked, "").expect("written");
    let config = LoadConfig { cache: Cache::Folder(blocked.join("cn")), ..setup.config() };
    assert!(!Pixels::load(&setup.index(), &config).expect("valid").from_cache);
}

#[test]
fn incomplete_sets_are_not_kept() {
    let setup = Setup::new();
    fs::remove_file(setup.images.path().join("a.png")).expect("removed");
    let config = LoadConfig { damaged: crate::Damaged::Skip, ..setup.config() };
    assert_eq!(Pixels::load(&setup.index(), &config).expect("one is left").kept, [1]);
    assert!(setup.files().is_empty());
}

#[test]
fn several_blocks_come_back_whole() {
    let setup = Setup::new();
    let bytes: Vec<u8> = (0..BLOCK as u32 * 2 + 77).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let place = Place { offset: 0, height: 1, width: bytes.len() as u32 };
    let pixels = Pixels::from_files(1, bytes, vec![place], vec![Digest::of(b"x")]);
    let path = setup.cache.path().join("big");
    let one = Entry { n: 1, ..entry(&setup) };
    write(&path, &one, &pixels).expect("written");
    assert_eq!(read(&path, &one).expect("whole"), pixels);
    assert!(read(&path, &entry(&setup)).is_err(), "another number of images");
}

#[test]
fn the_oldest_files_go() {
    let folder = tempfile::tempdir().expect("a folder");
    for i in 0..MAX_FILES as u64 + 3 {
        let path = folder.path().join(format!("pixels-{i}.bin"));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + i);
        File::create(&path).expect("made").set_modified(time).expect("set");
    }
    fs::write(folder.path().join("other.bin"), "").expect("written");
    remove_oldest(folder.path());
    let left = |name: &str| folder.path().join(name).exists();
    assert!(!left("pixels-0.bin") && !left("pixels-2.bin") && left("pixels-3.bin") && left("other.bin"));
}

#[test]
fn checksums_see_order_and_length() {
    let sums: Vec<u64> = [&b""[..], b"\0", b"\0\0", &[0; 32], &[0; 33], &[0; 64], b"ab", b"ba"].map(checksum).into();
    for (i, a) in sums.iter().enumerate() {
        assert!(sums[i + 1..].iter().all(|b| a != b), "{i}");
    }
}
