//! Images per second from bytes to a normalised batch, 64 px grey sources, decode excluded.

use cn_augment::{Affine, Batcher, DrawKey, Framing, Geometry, Image, ImageStack, Normalisation, Policy, PolicyConfig};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Images in the stack: 8 MB, more than the second cache holds.
const N: u32 = 2048;
const BATCH: usize = 64;

/// Grey images of a few strokes on black.
fn stack() -> Vec<u8> {
    let pixel = |i: usize| {
        let (image, y, x) = (i / 4096, i / 64 % 64, i % 64);
        let on_stroke = (x + 2 * y + 7 * image) % 61 < 2 && (20..44).contains(&x) && (20..44).contains(&y);
        if on_stroke { 180 } else { (i * 7 % 3) as u8 }
    };
    (0..N as usize * 4096).map(pixel).collect()
}

fn policies(size: u32) -> [(&'static str, Policy); 4] {
    let affine = PolicyConfig::new(size, Framing::Affine(Affine::default()));
    [
        ("whole", Policy::whole(size)),
        ("fastai train", Policy::fastai_train(size, 0.35)),
        ("fastai valid", Policy::fastai_valid(size)),
        ("affine", Policy::new(affine)),
    ]
    .map(|(name, policy)| (name, policy.expect("a valid policy")))
}

fn draw(policy: &Policy, images: &[Image<'_>]) -> Vec<Geometry> {
    let drawn = images.iter().zip(0..).map(|(&image, id)| policy.geometry(image, DrawKey { seed: 42, epoch: 0, id }));
    drawn.collect::<Result<_, _>>().expect("good images")
}

fn fill(criterion: &mut Criterion) {
    let pixels = stack();
    let stack = ImageStack::new(&pixels, [64, 64, 1]).expect("whole images");
    let images = stack.select(&(0..N).collect::<Vec<_>>()).expect("all are there");
    for (size, channels, normalisation) in
        [(64, 1, Normalisation::none()), (64, 3, Normalisation::imagenet()), (128, 3, Normalisation::imagenet())]
    {
        let mut group = criterion.benchmark_group(format!("fill {size} px {channels} channels"));
        group.throughput(Throughput::Elements(BATCH as u64)).sample_size(20);
        group.warm_up_time(std::time::Duration::from_millis(200)).measurement_time(std::time::Duration::from_secs(1));
        let batcher = Batcher::new(channels, normalisation).expect("they agree");
        let mut out = vec![0f32; BATCH * (size * size) as usize * channels];
        for (name, policy) in policies(size) {
            let geometry = draw(&policy, &images);
            let mut batches = images.chunks_exact(BATCH).zip(geometry.chunks_exact(BATCH)).cycle();
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    let (images, geometry) = batches.next().expect("endless");
                    batcher.fill(images, geometry, &mut out).expect("everything fits");
                });
            });
        }
    }
}

fn geometry(criterion: &mut Criterion) {
    let pixels = stack();
    let images = ImageStack::new(&pixels, [64, 64, 1]).and_then(|stack| stack.select(&[0; BATCH])).expect("images");
    let min_ink = Some(cn_augment::MinInk { share: 0.9, threshold: 32 });
    let mut group = criterion.benchmark_group("geometry");
    group.throughput(Throughput::Elements(BATCH as u64)).sample_size(20);
    group.warm_up_time(std::time::Duration::from_millis(200)).measurement_time(std::time::Duration::from_millis(500));
    for (name, policy) in policies(128) {
        group.bench_function(name, |bencher| bencher.iter(|| draw(&policy, &images)));
    }
    let config = PolicyConfig { min_ink, ..PolicyConfig::new(128, Framing::Affine(Affine::default())) };
    let policy = Policy::new(config).expect("a valid policy");
    group.bench_function("affine with 90 % of the ink", |bencher| bencher.iter(|| draw(&policy, &images)));
}

criterion_group!(benches, fill, geometry);
criterion_main!(benches);
