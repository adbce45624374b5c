//! Real handwriting must look like the synthetic handwriting of the same character.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use cn_synth::{Handwriting, Sample, Style};
use image::GrayImage;

const ZIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/chinese-mnist.zip");
const SIDE: usize = 12;

/// Blurred ink on a coarse grid over the square around the ink box, of length 1.
type Features = [f32; SIDE * SIDE];

fn features(image: &[u8]) -> Features {
    let ink = || (0..64 * 64).filter(|&i| image[i] > 48).map(|i| (i % 64, i / 64));
    let span = |v: &mut dyn Iterator<Item = usize>| v.fold((64, 0), |(lo, hi), v| (v.min(lo), v.max(hi)));
    let (x, y) = (span(&mut ink().map(|p| p.0)), span(&mut ink().map(|p| p.1)));
    let middle = |(lo, hi): (usize, usize)| (lo + hi) as f32 / 2.0;
    let scale = (SIDE - 3) as f32 / x.1.saturating_sub(x.0).max(y.1.saturating_sub(y.0)).max(1) as f32;
    let mut grid = [0.0; SIDE * SIDE];
    for i in (0..64 * 64).filter(|&i| image[i] > 16) {
        let at = |v: usize, span| {
            ((v as f32 - middle(span)) * scale + SIDE as f32 / 2.0 - 0.5).clamp(0.0, SIDE as f32 - 1.01)
        };
        let (px, py) = (at(i % 64, x), at(i / 64, y));
        let (fx, fy) = (px.fract(), py.fract());
        let cell = py as usize * SIDE + px as usize;
        for (offset, share) in
            [(0, (1.0 - fx) * (1.0 - fy)), (1, fx * (1.0 - fy)), (SIDE, (1.0 - fx) * fy), (SIDE + 1, fx * fy)]
        {
            grid[cell + offset] += share * f32::from(image[i]);
        }
    }
    let length = grid.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-6);
    grid.map(|v| v / length)
}

/// The scan of one file, from the unpacked folder in `CN_DATA` or from the archive.
enum Scans {
    Folder(PathBuf),
    Archive(zip::ZipArchive<File>),
}

impl Scans {
    fn open() -> Option<Self> {
        let folder = std::env::var_os("CN_DATA").map(PathBuf::from).filter(|f| f.is_dir());
        folder.map(Self::Folder).or_else(|| zip::ZipArchive::new(File::open(ZIP).ok()?).ok().map(Self::Archive))
    }

    fn read(&mut self, name: &str) -> Result<GrayImage, Box<dyn Error>> {
        let name = format!("data/data/{name}");
        let mut bytes = Vec::new();
        match self {
            Self::Folder(folder) => bytes = std::fs::read(folder.join(name))?,
            Self::Archive(archive) => {
                archive.by_name(&name)?.read_to_end(&mut bytes)?;
            }
        }
        Ok(image::load_from_memory(&bytes)?.to_luma8())
    }
}

/// The nearest of some thousand synthetic characters names most real ones: no training, no tuning, wrong skeletons or
/// labels would show.
#[test]
fn nearest_synthetic_characters_name_real_ones() -> Result<(), Box<dyn Error>> {
    let Some(mut scans) = Scans::open() else {
        eprintln!("skipped: no real scans in CN_DATA or {ZIP}");
        return Ok(());
    };
    let samples: Vec<Sample> = Sample::pages(1..201, 1).collect();
    let images = Handwriting::new(42, Style::scans())?.draw_all(&samples);
    let known: Vec<Features> = images.chunks_exact(64 * 64).map(features).collect();
    let (mut right, mut n) = ([0; 15], 0);
    for writer in 1..=20 {
        for code in 1..=15 {
            let scan = scans.read(&format!("input_{writer}_1_{code}.jpg"))?;
            let real = features(scan.as_raw());
            let likeness = |f: &Features| f.iter().zip(&real).map(|(a, b)| a * b).sum::<f32>();
            let nearest = (0..known.len()).max_by(|&a, &b| likeness(&known[a]).total_cmp(&likeness(&known[b])));
            right[code - 1] += u32::from(nearest.is_some_and(|i| usize::from(samples[i].code()) == code));
            n += 1;
        }
    }
    let total: u32 = right.iter().sum();
    assert!(f64::from(total) >= 0.8 * f64::from(n), "{total} of {n} right, by code {right:?} of 20");
    Ok(())
}
