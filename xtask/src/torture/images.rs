//! Images that are none, or not whole, among a thousand good ones.

use super::child::Place;
use super::{Scene, Tally, files};
use crate::raw_zip::crc32;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::{self, Cursor, Read as _};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// Memory that damaged files may take beyond what good ones take.
pub(super) const MORE_KIB: u64 = 64 << 10;
const COMMAND: &str = "train --data images --image-size 32 --dry-run --no-cache --json";

pub(super) fn run(scene: &Scene) -> Result<Tally> {
    let place = &scene.place;
    // 15 characters, each written once by each writer.
    let writers = scene.tries(67, 10);
    place.run(&format!("synth --out images --writers {writers} --samples 1"))?.succeeded()?;
    let whole = place.run(COMMAND)?;
    whole.succeeded()?;
    let names: Vec<_> =
        files::below(&place.path("images"))?.into_iter().filter(|name| name.ends_with(".jpg")).collect();
    let damaged = spoil(&place.path("images"), &names, scene.tries(60, 30) as usize)?;
    let before = files::hash(&place.path("images"))?;

    let mut tally = Tally::default();
    let refused = place.run(COMMAND)?;
    tally.add(|| "without `--skip-damaged`".into(), refused.refused(&["cannot be used"]));
    let skipping = place.run(&format!("{COMMAND} --skip-damaged"))?;
    tally.add(|| "with `--skip-damaged`".into(), skipping.succeeded());
    for (name, kind) in &damaged {
        let line = skipping.stderr.lines().find(|line| line.trim_start().starts_with(&format!("{name}: ")));
        tally.add(|| format!("{name}, {kind}"), line.map(drop).context("it is not named with a reason"));
    }
    let more = skipping.peak_kib.max(refused.peak_kib).saturating_sub(whole.peak_kib);
    let memory = if more < MORE_KIB { Ok(()) } else { Err(anyhow::anyhow!("{} MiB more", more >> 10)) };
    tally.add(|| "memory".into(), memory);
    let same = files::hash(&place.path("images"))? == before;
    tally.add(|| "the user's files".into(), if same { Ok(()) } else { Err(anyhow::anyhow!("they were changed")) });
    tally.note = format!(", of {} images {} damaged, {} MiB more memory", names.len(), damaged.len(), more >> 10);
    hostile_headers(place, &mut tally)?;
    plain_pixels(place, &mut tally)?;
    Ok(tally)
}

/// Spoils `n` of the files, each in its own way; returns names and ways.
fn spoil(root: &Path, names: &[String], n: usize) -> Result<Vec<(String, String)>> {
    ensure!(names.len() > 2 * n, "{} images are too few", names.len());
    let step = names.len() / n;
    let chosen = names.iter().step_by(step).take(n);
    chosen.enumerate().map(|(i, name)| Ok((name.clone(), spoil_one(&root.join(name), i)?))).collect()
}

fn spoil_one(path: &Path, i: usize) -> Result<String> {
    let bytes = fs::read(path)?;
    let cut = |tenths: usize| bytes[..bytes.len() * tenths / 10].to_vec();
    // Its end marker is still there.
    let gap = || [&cut(4)[..], &bytes[bytes.len() * 8 / 10..]].concat();
    let (what, new): (&str, Vec<u8>) = match i % 18 {
        0 => ("empty", Vec::new()),
        1 => ("a web page", b"<!DOCTYPE html><html><body>404</body></html>".to_vec()),
        2 => ("a PDF", b"%PDF-1.7\n1 0 obj\n".to_vec()),
        3 => return folder_in_place(path),
        4 => return dangling_link(path),
        5 => ("a PNG of 50,000 x 50,000", png_header(50_000, 50_000, 8, 0)),
        6 => ("a JPEG of 65,535 x 65,535", jpeg_of_size(&bytes, [0xff; 4])?),
        7 => ("a JPEG of no size", jpeg_of_size(&bytes, [0; 4])?),
        8 => ("a BMP of 2,000,000,000 x 1", bmp_header(2_000_000_000, 1)),
        9 => ("a GIF without a picture", b"GIF89a\xff\xff\xff\xff\x80\x00\x00\x00\x00\x00\xff\xff\xff;".to_vec()),
        10 => ("a PNG without data", png_header(64, 64, 16, 0)),
        11 => ("a TIFF that points outside", b"II*\0\xff\xff\xff\x7f".to_vec()),
        12 => ("a WebP cut short", b"RIFF\xff\xff\xff\x7fWEBPVP8 \x10\0\0\0".to_vec()),
        13 => ("its marker alone", bytes[..2].to_vec()),
        14 => ("a PNG of 100 KB with 100 MB of pixels", png_of_zeros(10_000, 10_000)?),
        15 => ("a JPEG without a part of its data", gap()),
        16 => ("a JPEG that is cut and ended", [&cut(8)[..], &[0xff, 0xd9]].concat()),
        // Every tenth of the file, round and round.
        _ => ("cut short", cut(1 + (i / 18) * 2)),
    };
    fs::write(path, new)?;
    Ok(what.into())
}

fn folder_in_place(path: &Path) -> Result<String> {
    fs::remove_file(path)?;
    fs::create_dir(path)?;
    // A folder that is empty would not be part of the tree's hash.
    fs::write(path.join("inside"), "")?;
    Ok("a folder".into())
}

fn dangling_link(path: &Path) -> Result<String> {
    fs::remove_file(path)?;
    #[cfg(unix)]
    std::os::unix::fs::symlink("nowhere", path)?;
    Ok("a link to nowhere".into())
}

/// A PNG that ends behind its header.
fn png_header(width: u32, height: u32, depth: u8, colour: u8) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([depth, colour, 0, 0, 0]);
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    png.extend(png_chunk(*b"IHDR", &header));
    png
}

fn png_chunk(name: [u8; 4], data: &[u8]) -> Vec<u8> {
    let chunk = [&name[..], data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &chunk, &crc32(&chunk).to_be_bytes()].concat()
}

/// A whole, black, grey PNG, which deflate makes a thousand times smaller than its pixels.
fn png_of_zeros(width: u32, height: u32) -> Result<Vec<u8>> {
    let len = u64::from(height) * (u64::from(width) + 1); // Each row begins with its filter.
    // zlib's header and checksum (Adler-32) about what deflate gives.
    let checksum = ((len % 65_521) as u32) << 16 | 1;
    let stream = [&[0x78, 0x9c][..], &deflated_zeros(len)?, &checksum.to_be_bytes()].concat();
    let mut png = png_header(width, height, 8, 0);
    png.extend(png_chunk(*b"IDAT", &stream));
    png.extend(png_chunk(*b"IEND", b""));
    Ok(png)
}

fn deflated_zeros(len: u64) -> Result<Vec<u8>> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("zeros", options)?;
    io::copy(&mut io::repeat(0).take(len), &mut writer)?;
    let mut archive = ZipArchive::new(writer.finish()?)?;
    let mut bytes = Vec::new();
    archive.by_index_raw(0)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn bmp_header(width: i32, height: i32) -> Vec<u8> {
    let mut bmp = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bmp.extend(width.to_le_bytes());
    bmp.extend(height.to_le_bytes());
    bmp.extend([1, 0, 24, 0]);
    bmp.resize(54, 0);
    bmp
}

/// The JPEG with another height and width in its frame.
fn jpeg_of_size(bytes: &[u8], size: [u8; 4]) -> Result<Vec<u8>> {
    let frame = bytes.windows(2).position(|pair| pair[0] == 0xff && matches!(pair[1], 0xc0..=0xc2));
    let frame = frame.context("the drawn JPEG has no frame")?;
    let mut bytes = bytes.to_vec();
    bytes[frame + 5..frame + 9].copy_from_slice(&size);
    Ok(bytes)
}

/// `predict` on whole images of nearly as many pixels as small files may have, in shapes that no picture has.
fn plain_pixels(place: &Place, tally: &mut Tally) -> Result<()> {
    fs::write(place.path("small.png"), png_of_zeros(64, 64)?)?;
    let small = place.run("predict glyphs small.png")?;
    small.succeeded()?;
    for (width, height) in [(9_000_000, 1), (1, 45_000_000), (8_000_000, 2), (6_600, 6_700)] {
        let name = format!("{width}x{height}.png");
        fs::write(place.path(&name), png_of_zeros(width, height)?)?;
        let ended = place.run(&format!("predict glyphs {name}"))?;
        let more = ended.peak_kib.saturating_sub(small.peak_kib);
        let memory = if more < MORE_KIB { Ok(()) } else { Err(anyhow::anyhow!("{} MiB more", more >> 10)) };
        tally.add(|| name, ended.succeeded().map(drop).and(memory));
    }
    Ok(())
}

/// `predict` on single files with headers that promise too much.
fn hostile_headers(place: &Place, tally: &mut Tally) -> Result<()> {
    let files = [
        ("bomb.png", png_header(50_000, 50_000, 8, 6)),
        ("wide.png", png_header(u32::MAX, u32::MAX, 16, 2)),
        ("bomb.bmp", bmp_header(i32::MAX, i32::MAX)),
        ("minus.bmp", bmp_header(i32::MIN, i32::MIN)),
        ("zeros.png", png_of_zeros(20_000, 20_000)?),
    ];
    for (name, bytes) in files {
        fs::write(place.path(name), bytes)?;
        let ended = place.run(&format!("predict glyphs {name}"));
        tally.add(|| name.into(), ended.and_then(|ended| ended.refused(&[name])));
    }
    Ok(())
}
