use super::*;
use crate::raw_zip::{Entry, archive, archive_with_count, file, link};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{Index, select},
};
use std::time::{Duration, Instant};
use zip::write::SimpleFileOptions;

/// An archive with one deflated entry of zeros, whose stated sizes can then be changed.
fn bomb(size: usize) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    zip.start_file("zeros.jpg", options).unwrap();
    zip.write_all(&vec![0; size]).unwrap();
    zip.finish().unwrap().into_inner()
}

fn patch(bytes: &mut [u8], from: u32, to: u32) {
    let (from, to) = (from.to_le_bytes(), to.to_le_bytes());
    for at in 0..bytes.len() - 3 {
        if bytes[at..at + 4] == from {
            bytes[at..at + 4].copy_from_slice(&to);
        }
    }
}

fn limits() -> Limits {
    Limits {
        entries: 1000,
        directory_bytes: 100 << 10,
        folders: 50,
        entry_bytes: 1 << 20,
        total_bytes: 4 << 20,
        ratio: 100,
    }
}

/// Unpacks into `<dir>/a/into` and returns the files written there, or the error; nothing may appear elsewhere.
#[track_caller]
fn unpack_bytes(bytes: &[u8]) -> Result<Vec<String>, Error> {
    let dir = tempfile::tempdir().unwrap();
    let zip = dir.path().join("a/x.zip");
    let into = dir.path().join("a/into");
    fs::create_dir(dir.path().join("a")).unwrap();
    fs::write(&zip, bytes).unwrap();
    let begin = Instant::now();
    let result = unpack(&zip, &into, &limits(), &|_| true, &mut Progress::quiet());
    assert!(begin.elapsed() < Duration::from_secs(2), "judged too slowly");
    let outside: Vec<_> =
        walk(dir.path()).into_iter().filter(|name| name != "a/x.zip" && !name.starts_with("a/into/")).collect();
    assert!(outside.is_empty(), "written outside: {outside:?}");
    result.map(|_| walk(&into))
}

fn walk(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                let path = entry.path();
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap();
                names.push(name.replace('\\', "/"));
            }
        }
    }
    names.sort();
    names
}

#[track_caller]
fn assert_refused(bytes: &[u8], expected: impl Fn(&Error) -> bool) {
    let error = unpack_bytes(bytes).expect_err("a hostile archive was unpacked");
    assert!(expected(&error), "refused for another reason: {error:?}");
}

#[track_caller]
fn assert_name_refused(name: &str) {
    let bytes = archive(&[file("good.jpg", b"good"), file(name, b"evil")]);
    assert_refused(&bytes, |error| matches!(error, Error::UnsafeName { name: n, .. } if name.starts_with(n.as_str())));
}

#[test]
fn a_good_archive_is_unpacked() {
    let mut folder = file("data/", b"");
    folder.mode = 0o040_755;
    let bytes = archive(&[folder, file("data/a.jpg", b"a"), file("百.csv", b"")]);
    assert_eq!(unpack_bytes(&bytes).unwrap(), ["data/a.jpg", "百.csv"]);
}

#[test]
fn a_deflated_archive_is_unpacked() {
    assert_eq!(unpack_bytes(&bomb(60_000)).unwrap(), ["zeros.jpg"]);
}

#[test]
fn only_what_is_kept_is_written_but_all_is_judged() {
    let dir = tempfile::tempdir().unwrap();
    let zip = dir.path().join("x.zip");
    let keep = |name: &str| name.ends_with(".jpg");
    let run = |into: &str| {
        let into = dir.path().join(into);
        unpack(&zip, &into, &limits(), &keep, &mut Progress::quiet())
    };
    fs::write(&zip, archive(&[file("a.jpg", b"a"), file("readme", b"r")])).unwrap();
    assert_eq!(run("one").unwrap(), 1);
    fs::write(&zip, archive(&[file("a.jpg", b"a"), file("../readme", b"r")])).unwrap();
    assert!(run("two").is_err());
    assert!(!dir.path().join("two").exists());
}

#[test]
fn names_that_climb_are_refused() {
    for name in ["../evil", "a/../../evil", "a/..", "./evil", "a//evil", "..", "."] {
        assert_name_refused(name);
    }
}

#[test]
fn absolute_names_are_refused() {
    for name in ["/tmp/evil", "/", "//server/share/evil"] {
        assert_name_refused(name);
    }
}

#[test]
fn backslashes_are_refused() {
    for name in ["..\\evil", "a\\..\\..\\evil", "\\\\server\\share", "a\\b"] {
        assert_name_refused(name);
    }
}

#[test]
fn drives_and_streams_are_refused() {
    for name in ["C:\\evil", "C:evil", "c:/evil", "a.jpg:hidden"] {
        assert_name_refused(name);
    }
}

#[test]
fn names_that_windows_changes_are_refused() {
    for name in ["con", "a/NUL.jpg", "lpt1.txt", "evil.", "evil ", "a?b"] {
        assert_name_refused(name);
    }
}

#[test]
fn control_characters_and_endless_names_are_refused() {
    for name in ["a\0b", "a\nb", "\x1b[2J", &"x".repeat(256), &"x/".repeat(40)] {
        assert_name_refused(name);
    }
    let mut bytes_name = file("", b"evil");
    bytes_name.name = b"\xff\xfe.jpg".to_vec();
    assert_refused(&archive(&[bytes_name]), |e| matches!(e, Error::UnsafeName { .. }));
}

#[test]
fn a_link_is_refused_and_so_is_a_file_behind_it() {
    let out = link("out", "/tmp");
    let bytes = archive(&[out.clone(), file("out/evil", b"evil")]);
    assert_refused(&bytes, |e| matches!(e, Error::Unsupported { what: "a link", .. }));
    assert_refused(&archive(&[out]), |e| matches!(e, Error::Unsupported { .. }));
}

#[test]
fn devices_pipes_and_mislabelled_folders_are_refused() {
    for mode in [0o020_666, 0o060_666, 0o010_644, 0o140_755, 0o040_755] {
        let entry = Entry { mode, ..file("x", b"") };
        assert_refused(&archive(&[entry]), |e| matches!(e, Error::Unsupported { .. }));
    }
}

#[test]
fn a_name_twice_is_refused_whatever_its_case() {
    let both = |a: &str, b: &str| archive(&[file(a, b"1"), file(b, b"2")]);
    for (a, b) in [("a.jpg", "a.jpg"), ("a.jpg", "A.JPG"), ("ä/x", "Ä/X")] {
        assert_refused(&both(a, b), |e| matches!(e, Error::Duplicate { .. } | Error::SameName));
    }
    for (a, b) in [("a", "a/b"), ("a/b", "A")] {
        assert_refused(&both(a, b), |e| matches!(e, Error::FileAndFolder { .. }));
    }
}

#[test]
fn a_thousand_to_one_is_refused() {
    let bytes = bomb(1 << 20);
    assert!(bytes.len() < 2000);
    assert_refused(&bytes, |e| matches!(e, Error::RatioTooHigh { .. }));
}

#[test]
fn a_bomb_that_states_a_small_size_is_stopped_while_it_unpacks() {
    let mut bytes = bomb(1 << 20);
    patch(&mut bytes, 1 << 20, 1000);
    let dir = tempfile::tempdir().unwrap();
    let (zip, into) = (dir.path().join("x.zip"), dir.path().join("into"));
    fs::write(&zip, bytes).unwrap();
    // The zip reader holds entries to their stated size; behind it stands the count of our own.
    let error = unpack(&zip, &into, &limits(), &|_| true, &mut Progress::quiet()).unwrap_err();
    assert!(matches!(error, Error::RatioTooHigh { .. } | Error::EntryDamaged { .. }), "{error:?}");
    let written = fs::metadata(into.join("zeros.jpg")).unwrap().len();
    assert!(written <= SMALL, "{written} bytes were written before it was noticed");
}

#[test]
fn an_entry_over_the_cap_is_refused() {
    let bytes = archive(&[file("big.jpg", &vec![1; (1 << 20) + 1])]);
    assert_refused(&bytes, |e| matches!(e, Error::EntryTooLarge { .. }));
}

#[test]
fn entries_that_are_too_much_together_are_refused() {
    let part = vec![1; 1 << 20];
    let bomb = |name: &str| Entry { name: name.into(), unpacked: Some(1 << 20), ..file("", &[1; 20_000]) };
    let bytes = archive(&["a", "b", "c", "d", "e"].map(bomb));
    assert_refused(&bytes, |e| matches!(e, Error::TotalTooLarge { .. }));
    let bytes = archive(&["a", "b", "c", "d"].map(|name| file(name, &part)));
    assert_refused(&bytes, |e| matches!(e, Error::ArchiveTooLarge { .. }));
}

#[test]
fn too_many_entries_are_refused() {
    let entries: Vec<_> = (0..1001).map(|i| file(&format!("{i}"), b"")).collect();
    assert_refused(&archive(&entries), |e| matches!(e, Error::TooMany { limit: 1000 }));
}

#[test]
fn entries_are_counted_whatever_the_end_records_say() {
    let entries: Vec<_> = (0..1001).map(|i| file(&format!("{i}"), b"")).collect();
    let mut bytes = archive_with_count(&entries, Some(1));
    assert_refused(&bytes, |e| matches!(e, Error::TooMany { limit: 1000 }));
    // Another end record within the note behind the last one.
    let note = bytes.len() - 2;
    bytes[note..].copy_from_slice(&22_u16.to_le_bytes());
    bytes.extend(archive(&[]));
    assert_refused(&bytes, |e| matches!(e, Error::TooMany { limit: 1000 }));
    // Wherever the blocks end in which the file is read.
    for length in (1 << 20) - 170..(1 << 20) - 60 {
        let whole = archive(&[file("x", &vec![1; length]), file("y", b"")]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.zip");
        fs::write(&path, &whole).unwrap();
        let judged =
            |most| check_directory(&mut File::open(&path).unwrap(), &path, &Limits { entries: most, ..limits() });
        assert!(matches!(judged(1), Err(Error::TooMany { .. })) && judged(2).is_ok(), "{length}");
    }
}

#[test]
fn directories_and_folders_without_end_are_refused() {
    let long = "x".repeat(200);
    let entries: Vec<_> = (0..500).map(|i| file(&format!("{i}{long}"), b"")).collect();
    assert_refused(&archive(&entries), |e| matches!(e, Error::DirectoryTooLarge { .. }));
    let deep = |i: usize| file(&format!("{i}{}", "/a".repeat(20)), b"");
    assert_eq!(unpack_bytes(&archive(&[deep(1), deep(2)])).unwrap().len(), 2);
    let bytes = archive(&[deep(1), deep(2), deep(3)]);
    assert_refused(&bytes, |e| matches!(e, Error::TooManyFolders { limit: 50 }));
}

#[test]
fn entries_that_share_bytes_are_refused() {
    // Two directory entries, one local header: the second name points at the first one's data.
    let mut bytes = archive(&[file("aa.jpg", b"data"), file("bb.jpg", b"data")]);
    let second = bytes.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    bytes[second + 42..second + 46].copy_from_slice(&0_u32.to_le_bytes());
    assert_refused(&bytes, |e| matches!(e, Error::Overlap));
}

#[test]
fn encrypted_and_exotic_entries_are_refused() {
    let encrypted = Entry { flags: 1, ..file("x", &[0; 32]) };
    let exotic = Entry { method: 14, ..file("x", b"lzma") };
    for entry in [encrypted, exotic] {
        assert_refused(&archive(&[entry]), |e| matches!(e, Error::Unsupported { .. }));
    }
}

#[test]
fn a_changed_byte_is_found_by_its_checksum() {
    let entry = Entry { crc: Some(1), ..file("x", b"data") };
    assert_refused(&archive(&[entry]), |e| {
        matches!(e, Error::EntryDamaged { name, .. } if name == "x") && e.is_damage()
    });
}

#[test]
fn an_archive_cut_short_is_damaged_not_hostile() {
    let whole = archive(&[file("a.jpg", &[7; 1000]), file("b.jpg", &[8; 1000])]);
    for tenth in 1..10 {
        let error = unpack_bytes(&whole[..whole.len() * tenth / 10]).unwrap_err();
        assert!(error.is_damage(), "{error:?}");
    }
}

#[test]
fn a_directory_that_lies_about_its_length_is_refused() {
    let entries = [file("a", b"1"), file("b", b"2")];
    assert_refused(&archive_with_count(&entries, Some(900)), |e| matches!(e, Error::Damaged { .. }));
}

#[test]
fn a_web_page_is_no_archive() {
    assert_refused(b"<!doctype html><html>", |e| matches!(e, Error::NotZip { begins, .. } if begins == "<!doctype ht"));
    assert_refused(b"", |e| matches!(e, Error::NotZip { .. }));
}

#[test]
fn nothing_that_was_there_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let zip = dir.path().join("x.zip");
    fs::write(&zip, archive(&[file("a", b"new")])).unwrap();
    fs::create_dir(dir.path().join("into")).unwrap();
    fs::write(dir.path().join("into/a"), "old").unwrap();
    let into = dir.path().join("into");
    let error = unpack(&zip, &into, &limits(), &|_| true, &mut Progress::quiet()).unwrap_err();
    assert!(matches!(error, Error::Disk { .. }), "{error:?}");
    assert_eq!(fs::read_to_string(into.join("a")).unwrap(), "old");
}

#[test]
fn random_damage_never_panics_nor_leaves_the_target() {
    let whole = archive(&[file("a/b.jpg", &[7; 40]), file("c.jpg", &[8; 40])]);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        let _ = unpack_bytes(&bytes); // Asserts by itself that nothing lies outside.
    }
}

/// Names of which some climb, some meet, and some are no names at all.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let part =
        select(vec!["a", "A", "b", "..", ".", "", "c:", "con", "a.", "~", "x.jpg", "\u{e9}", "\u{202e}", "\0", "\\"]);
    let path = vec(part, 1..5).prop_map(|parts| parts.join("/").into_bytes());
    prop_oneof![4 => path, 1 => vec(any::<u8>(), 0..12)]
}

/// An entry in which anything may lie.
fn entry() -> impl Strategy<Value = Entry> {
    const MODES: [u32; 8] = [0o100_644, 0o100_644, 0, 0o040_755, 0o120_777, 0o060_600, 0o010_644, 0o104_755];
    let data = vec(any::<u8>(), 0..40);
    let lies = (option::weighted(0.1, any::<u32>()), option::weighted(0.1, any::<u32>()));
    let kinds = (select(MODES.to_vec()), select(vec![1_u16 << 11, 1 << 11, 0, 1]), select(vec![0_u16, 0, 8, 12]));
    (name(), data, kinds, lies).prop_map(|(name, data, (mode, flags, method), (crc, unpacked))| Entry {
        name,
        data,
        mode,
        flags,
        method,
        crc,
        unpacked,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// That nothing lies outside and no panic comes is asserted by what unpacks.
    #[test]
    fn whatever_an_archive_says_all_of_it_is_unpacked_or_refused(
        entries in vec(entry(), 0..5), changes in vec((any::<Index>(), any::<u8>()), 0..3),
    ) {
        let mut bytes = archive(&entries);
        for (at, byte) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if let Ok(names) = unpack_bytes(&bytes) {
            prop_assert!(names.len() <= entries.len(), "{:?}", names);
        }
    }

    #[test]
    fn good_files_come_back_byte_by_byte(files in vec(vec(any::<u8>(), 0..200), 1..6)) {
        let entries: Vec<Entry> = files.iter().enumerate().map(|(i, data)| file(&format!("d/{i}.jpg"), data)).collect();
        let folder = tempfile::tempdir().unwrap();
        let (zip, into) = (folder.path().join("x.zip"), folder.path().join("into"));
        fs::write(&zip, archive(&entries)).unwrap();
        prop_assert_eq!(unpack(&zip, &into, &limits(), &|_| true, &mut Progress::quiet()).unwrap(), files.len());
        for (i, data) in files.iter().enumerate() {
            prop_assert_eq!(&fs::read(into.join(format!("d/{i}.jpg"))).unwrap(), data);
        }
    }
}
