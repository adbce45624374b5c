use super::*;
use crate::config::{Config, DataConfig, SyntheticConfig};
use crate::data::Plan;
use cn_data::Cache;
use cn_synth::{Sample, writers};
use std::collections::HashSet;

/// Ten steps of four images an epoch, judged by thirty.
fn stream() -> Stream {
    let data = DataConfig { synthetic: true, ..DataConfig::default() };
    let synthetic = SyntheticConfig { steps: Some(10), val_images: Some(30), ..SyntheticConfig::default() };
    let config = Config { data, synthetic, batch_size: 4, ..Config::default() };
    let ui = crate::output::Ui::new(&crate::args::Common::default());
    let dataset = Plan::new(&config).and_then(|plan| plan.load(ui, &config, Cache::Off)).expect("drawn");
    Stream::new(Arc::new(dataset), 42, 40)
}

#[test]
fn no_image_comes_twice() {
    let stream = stream();
    let mut seen: HashSet<u32> = stream.val_ids().iter().copied().collect();
    for epoch in 0..3 {
        let order = stream.train_order(1, epoch).expect("an order");
        assert_eq!(order.len(), 40);
        assert!(order.into_iter().all(|id| seen.insert(id)));
    }
    assert!(stream.train_order(1, u32::MAX).is_err());
}

#[test]
fn nobody_who_judges_trains() {
    let stream = stream();
    let writer = |id: u32| Glyphs::sample(id - stream.n_judges()).writer();
    let trains: HashSet<u32> = (0..3).flat_map(|e| stream.train_order(1, e).expect("ids")).map(writer).collect();
    for record in stream.judges.index().records() {
        let judge: u32 = record.group.as_deref().and_then(|g| g.parse().ok()).expect("a writer");
        assert!(writers::VALIDATION.contains(&judge) && !trains.contains(&judge), "{judge}");
    }
    assert!(trains.iter().all(|writer| writers::TRAIN.contains(writer)));
}

#[test]
fn images_and_targets_are_of_the_same_character() {
    let stream = stream();
    let ids = stream.train_order(1, 1).expect("ids");
    let (mut room, n_classes) = (Vec::new(), stream.n_classes());
    let images = stream.images(&ids, &mut room).expect("drawn");
    let targets = stream.targets(&ids).expect("known");
    for ((image, target), id) in images.iter().zip(targets.chunks_exact(n_classes)).zip(&ids) {
        let drawn = id - stream.n_judges();
        assert!(image.pixels == Glyphs::new(42).draw(drawn));
        let sample: Sample = Glyphs::sample(drawn);
        let value = CHARACTERS[usize::from(sample.code()) - 1].value;
        let labels = stream.judges.vocabulary().labels();
        let named: Vec<&String> = labels.iter().zip(target).filter(|(_, t)| **t == 1.0).map(|(l, _)| l).collect();
        assert_eq!(named, [value]);
    }
}
