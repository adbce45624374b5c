//! Archives that would write elsewhere, fill the disk, or never end.

use super::{Scene, Tally, files};
use crate::raw_zip::{Entry, archive, archive_with_count, file, link};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

/// Memory that judging an archive may take.
const MOST_KIB: u64 = 256 << 10;

pub(super) fn run(scene: &Scene) -> Result<Tally> {
    let place = &scene.place;
    let mut tally = Tally::default();
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
            peak = peak.max(ended.peak_kib);
            ended.refused(&[])?;
            ensure!(begin.elapsed() < Duration::from_secs(2), "it took {:.1} s", begin.elapsed().as_secs_f64());
            ensure!(ended.peak_kib < MOST_KIB, "it took {} MiB", ended.peak_kib >> 10);
            ensure!(files::hash(&folder)? == before, "it wrote {:?}", files::below(&folder)?);
            Ok(())
        });
        tally.add(|| name.into(), outcome);
        fs::remove_dir_all(&folder)?;
    }
    ensure!(!std::path::Path::new("/tmp/cn-torture-escaped").exists(), "a file was written outside");
    tally.note = format!(", at most {} MiB of memory", peak >> 10);
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
        ("a million entries", a_million()?),
        ("fewer entries than are there", archive_with_count(&[file("a.jpg", b"1"), file("b.jpg", b"2")], Some(1))),
        ("cut short", bomb(1 << 16)?.into_iter().take(60).collect()),
        ("a web page", b"<html>log in</html>".to_vec()),
    ])
}

/// So many that the end record needs 64 bits, whose count is then raised.
fn a_million() -> Result<Vec<u8>> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for i in 0..70_000 {
        zip.start_file(format!("{i}"), SimpleFileOptions::default().compression_method(CompressionMethod::Stored))?;
    }
    let mut bytes = zip.finish()?.into_inner();
    let record = bytes.windows(4).rposition(|window| window == b"PK\x06\x06");
    let count = record.context("the archive has no end record of 64 bits")? + 32;
    bytes[count..count + 8].copy_from_slice(&1_000_000_u64.to_le_bytes());
    Ok(bytes)
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
