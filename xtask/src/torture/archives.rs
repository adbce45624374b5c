//! Archives that would write elsewhere, fill the disk, or never end.

use super::images::MORE_KIB;
use super::{Scene, Tally, files};
use crate::raw_zip::{Entry, archive, archive_with_count, file, link};
use anyhow::{Result, ensure};
use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

pub(super) fn run(scene: &Scene) -> Result<Tally> {
    let place = &scene.place;
    let mut tally = Tally::default();
    fs::write(place.path("page"), "<html>log in</html>")?;
    let refusal = place.start(place.xtask("fetch-data --from page --to nowhere")?)?.wait()?;
    refusal.refused(&[])?;
    let mut peak = 0;
    for (name, bytes) in hostile()? {
        let folder = place.path("archives");
        fs::create_dir_all(folder.join("inside"))?;
        fs::write(folder.join("inside/x.zip"), bytes)?;
        let before = files::hash(&folder)?;
        let mut command = place.xtask("fetch-data --from inside/x.zip --to inside/data")?;
        command.current_dir(&folder);
        let begin = Instant::now();
        let outcome = place.start(command)?.wait().and_then(|ended| {
            let more = ended.peak_kib.saturating_sub(refusal.peak_kib);
            peak = peak.max(more);
            ended.refused(&["hint: "])?;
            ensure!(begin.elapsed() < Duration::from_secs(2), "it took {:.1} s", begin.elapsed().as_secs_f64());
            ensure!(more < MORE_KIB, "it took {} MiB more than another refusal", more >> 10);
            ensure!(files::hash(&folder)? == before, "it wrote {:?}", files::below(&folder)?);
            Ok(())
        });
        tally.add(|| name.into(), outcome);
        fs::remove_dir_all(&folder)?;
    }
    ensure!(!std::path::Path::new("/tmp/cn-torture-escaped").exists(), "a file was written outside");
    tally.note = format!(", at most {} MiB more memory", peak >> 10);
    Ok(tally)
}

fn hostile() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let escaping = |name: &str| archive(&[file(name, b"out")]);
    let lying = Entry { unpacked: Some(10), ..file("a.jpg", &[0; 4096]) };
    let encrypted = Entry { flags: 1 | 1 << 11, ..file("a.jpg", b"x") };
    Ok(vec![
        ("a name with ..", escaping("../escaped")),
        ("a name with .. inside", escaping("data/../../../escaped")),
        ("an absolute name", escaping("/tmp/cn-torture-escaped")),
        ("a name with backslashes", escaping("..\\escaped")),
        ("a drive", escaping("C:escaped")),
        ("a name with a zero", escaping("a\0b")),
        ("a link and a file behind it", archive(&[link("data", "../.."), file("data/escaped", b"out")])),
        ("a link to a file", archive(&[link("chinese_mnist.csv", "/etc/passwd")])),
        ("one name twice", archive(&[file("a.jpg", b"1"), file("a.jpg", b"2")])),
        ("one name in two cases", archive(&[file("a.jpg", b"1"), file("A.JPG", b"2")])),
        ("a thousand to one", bomb(256 << 20)?),
        ("a size that lies", archive(&[lying])),
        ("a device", archive(&[Entry { mode: 0o020_666, ..file("a.jpg", b"") }])),
        ("an encrypted file", archive(&[encrypted])),
        ("an unknown method", archive(&[Entry { method: 97, ..file("a.jpg", b"x") }])),
        ("a million entries", a_million()),
        ("folders without end", folders(20_000)),
        ("names without end", long_names(30_000)),
        ("fewer entries than are there", archive_with_count(&[file("a.jpg", b"1"), file("b.jpg", b"2")], Some(1))),
        ("cut short", bomb(1 << 16)?.into_iter().take(60).collect()),
        ("a web page", b"<html>log in</html>".to_vec()),
    ])
}

/// A directory of a million entries, and behind its end record, in the note, another one that says there are none.
fn a_million() -> Vec<u8> {
    let entry = archive(&[file("0000000", b"")]);
    let at = entry.windows(4).position(|window| window == b"PK\x01\x02").expect("an entry");
    let (local, entry) = entry.split_at(at);
    let (entry, end) = entry.split_at(46 + 7);
    let mut bytes = local.to_vec();
    for i in 0..1_000_000 {
        bytes.extend(&entry[..46]);
        bytes.extend(format!("{i:07}").as_bytes());
    }
    let (start, length) = (local.len() as u32, (bytes.len() - local.len()) as u32);
    let none = archive(&[]);
    bytes.extend(&end[..8]);
    // A count that does not fit its field is left open.
    bytes.extend([0xff; 4]);
    bytes.extend(length.to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend((none.len() as u16).to_le_bytes());
    bytes.extend(none);
    bytes
}

/// Empty files, each below folders of its own.
fn folders(n: usize) -> Vec<u8> {
    let below = "/a".repeat(30);
    archive(&(0..n).map(|i| file(&format!("{i:05}{below}"), b"")).collect::<Vec<_>>())
}

/// Empty files with names as long as names may be.
fn long_names(n: usize) -> Vec<u8> {
    let part = "x".repeat(200);
    archive(&(0..n).map(|i| file(&format!("{i:05}/{part}/{part}/{part}/{part}"), b"")).collect::<Vec<_>>())
}

/// Zeros, deflated.
fn bomb(size: usize) -> Result<Vec<u8>> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("zeros.jpg", SimpleFileOptions::default().compression_method(CompressionMethod::Deflated))?;
    let zeros = vec![0; 1 << 20];
    let mut left = size;
    while left > 0 {
        let n = left.min(zeros.len());
        zip.write_all(&zeros[..n])?;
        left -= n;
    }
    Ok(zip.finish()?.into_inner())
}
