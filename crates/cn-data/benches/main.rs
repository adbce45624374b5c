//! Index and pixels of 15,000 small JPEG files: from the files, and from the cache.
//!
//! `CN_DATA=DIR cargo bench -p cn-data` reads that data set; otherwise the files are made.

use std::{env, fs, path::Path};

use cn_data::{Cache, Index, LoadConfig, Loaded, Pixels};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Files that are made, in folders of classes.
const FILES: usize = 15_000;
const CLASSES: usize = 15;

/// Grey images of 64 x 64 with a few strokes, as JPEG.
fn make_files(folder: &Path) {
    for class in 0..CLASSES {
        let class = folder.join(format!("class-{class}"));
        fs::create_dir(&class).expect("a new folder");
        for i in 0..FILES / CLASSES {
            let stroke = |x: u32, y: u32| (x + 2 * y + 7 * i as u32) % 61 < 2 && (20..44).contains(&x);
            let image = image::GrayImage::from_fn(64, 64, |x, y| [if stroke(x, y) { 180 } else { 0 }].into());
            image.save(class.join(format!("{i}.jpg"))).expect("room on the disk");
        }
    }
}

fn load(folder: &Path, cache: Cache) -> Loaded {
    let index = Index::open(folder).expect("a data set");
    Pixels::load(&index, &LoadConfig { cache, ..LoadConfig::default() }).expect("good images")
}

fn bench(criterion: &mut Criterion) {
    let made = tempfile::tempdir().expect("a temporary folder");
    let given = env::var_os("CN_DATA");
    let folder = given.as_deref().map_or(made.path(), Path::new);
    if given.is_none() {
        make_files(folder);
    }
    let cache = tempfile::tempdir().expect("a temporary folder");
    let cached = Cache::Folder(cache.path().to_owned());
    let images = load(folder, cached.clone()).kept.len();

    let mut group = criterion.benchmark_group("index and load");
    group.throughput(Throughput::Elements(images as u64)).sample_size(10);
    group.bench_function("files", |bencher| bencher.iter(|| load(folder, Cache::Off)));
    group.bench_function("cache", |bencher| {
        bencher.iter(|| {
            let loaded = load(folder, cached.clone());
            assert!(loaded.from_cache, "the cache is there");
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
