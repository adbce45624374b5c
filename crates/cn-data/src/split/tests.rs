use proptest::prelude::*;

use super::*;
use crate::Record;

/// Images with the labels and groups of these pairs.
fn index(images: &[(u8, u8)]) -> Index {
    let record = |(i, (label, group)): (usize, &(u8, u8))| Record {
        path: i.to_string(),
        labels: vec![label.to_string()],
        group: Some(format!("g{group}")),
    };
    Index::from_records("test", "", images.iter().enumerate().map(record).collect()).expect("valid")
}

fn ungrouped(n: u32) -> Index {
    let record = |i: u32| Record { path: i.to_string(), labels: vec![(i % 3).to_string()], group: None };
    Index::from_records("test", "", (0..n).map(record).collect()).expect("valid")
}

fn config(method: SplitMethod) -> SplitConfig {
    SplitConfig { method, ..SplitConfig::default() }
}

fn images() -> impl Strategy<Value = Vec<(u8, u8)>> {
    prop::collection::vec((0u8..4, 0u8..8), 10..120)
}

fn covers_all(split: &Split, n: usize) -> bool {
    let mut all = [split.train(), split.val()].concat();
    all.sort_unstable();
    all.into_iter().eq(0..n as u32)
}

proptest! {
    #[test]
    fn parts_are_disjoint_and_complete(images in images(), seed: u64, fraction in 0.1f64..0.9) {
        let index = index(&images);
        for method in [SplitMethod::Random, SplitMethod::Stratified, SplitMethod::Group] {
            let config = SplitConfig { method, val_fraction: fraction, seed };
            // Few groups may not be divisible; nothing else can fail.
            match Split::new(&index, &config) {
                Ok(split) => {
                    prop_assert!(covers_all(&split, images.len()));
                    prop_assert_eq!(split, Split::new(&index, &config).expect("the same again"));
                }
                Err(e) => prop_assert!(matches!(e, Error::TooFewGroups { groups: 1, .. }), "{}", e),
            }
        }
    }

    #[test]
    fn groups_stay_whole(images in images(), seed: u64, fraction in 0.1f64..0.9) {
        let index = index(&images);
        prop_assume!(index.groups().len() > 1);
        let config = SplitConfig { method: SplitMethod::Group, val_fraction: fraction, seed };
        let split = Split::new(&index, &config).expect("valid");
        prop_assert_eq!(split.groups_shared(&index), 0);
        // No further group could have brought the number nearer by more than its own size.
        let largest = index.groups().into_values().max().unwrap_or(0) as f64;
        let miss = (split.val().len() as f64 - fraction * images.len() as f64).abs();
        prop_assert!(miss <= largest, "{} of {}", split.val().len(), images.len());
    }

    #[test]
    fn strata_are_shared_out_evenly(images in images(), seed: u64, fraction in 0.15f64..0.85) {
        let index = index(&images);
        let config = SplitConfig { method: SplitMethod::Stratified, val_fraction: fraction, seed };
        let split = Split::new(&index, &config).expect("valid");
        let wanted = (fraction * images.len() as f64) as usize;
        let val = index.subset(split.val()).expect("valid");
        let train = index.subset(split.train()).expect("valid");
        let labels = index.class_counts().len();
        prop_assert_eq!(train.class_counts().len(), labels, "who judges is known to those who train");
        prop_assert!(split.val().len() == wanted.min(images.len() - labels));
        // Images that judge in place of one that has to be learnt may come from one class.
        let few = index.class_counts().values().filter(|&&n| (1.0 - fraction) * (n as f64) < 1.0).count() as f64;
        let ratio = split.val().len() as f64 / images.len() as f64;
        for (label, n) in index.class_counts() {
            let in_val = *val.class_counts().get(label).unwrap_or(&0) as f64;
            let miss = (in_val - ratio * n as f64).abs();
            prop_assert!(miss < 1.0 + few + 1e-9, "{} of {}", in_val, n);
        }
    }

    #[test]
    fn folds_are_a_partition(images in images(), seed: u64, k in 2u32..5, grouped in any::<bool>()) {
        let mut index = index(&images);
        if !grouped {
            let records = index.records().iter().map(|r| Record { group: None, ..r.clone() }).collect();
            index = Index::from_records("test", "", records).expect("valid");
        }
        prop_assume!(!grouped || index.groups().len() >= k as usize);
        let mut seen = Vec::new();
        for fold in 0..k {
            let method = SplitMethod::KFold { k, fold };
            let split = Split::new(&index, &SplitConfig { method, val_fraction: 0.2, seed }).expect("valid");
            prop_assert!(covers_all(&split, images.len()));
            prop_assert_eq!(split.groups_shared(&index), 0);
            seen.extend_from_slice(split.val());
        }
        seen.sort_unstable();
        prop_assert!(seen.into_iter().eq(0..images.len() as u32));
    }

    #[test]
    fn limits_per_class_hold(images in images(), n in 1usize..20, seed: u64) {
        let index = index(&images);
        let split = Split::new(&index, &config(SplitMethod::Random)).expect("valid");
        let limited = split.limit_per_class(&index, n, seed).expect("valid");
        prop_assert_eq!(limited.val(), split.val());
        let before = index.subset(split.train()).expect("valid");
        let after = index.subset(limited.train()).expect("valid");
        for (label, count) in before.class_counts() {
            prop_assert_eq!(after.class_counts()[label], count.min(n));
        }
        let more = split.limit_per_class(&index, n + 1, seed).expect("valid");
        prop_assert!(limited.train().iter().all(|id| more.train().contains(id)));
        let kept: Vec<_> = split.train().iter().filter(|id| limited.train().contains(id)).copied().collect();
        prop_assert_eq!(kept, limited.train());
    }
}

/// Groups of these sizes.
fn groups_of(sizes: &[usize]) -> (Vec<String>, &[usize]) {
    ((0..sizes.len()).map(|i| format!("g{i}")).collect(), sizes)
}

fn by_name<'a>((names, sizes): &'a (Vec<String>, &[usize])) -> BTreeMap<&'a str, usize> {
    names.iter().map(String::as_str).zip(sizes.iter().copied()).collect()
}

proptest! {
    #[test]
    fn a_share_of_groups_is_as_near_as_single_groups_bring_it(
        sizes in prop::collection::vec(1usize..40, 2..12), seed: u64, fraction in 0.05f64..0.95
    ) {
        let named = groups_of(&sizes);
        let groups = by_name(&named);
        let taken = share_of_groups(&groups, fraction, seed).expect("two groups or more");
        let wanted = fraction * sizes.iter().sum::<usize>() as f64;
        let images: usize = taken.iter().map(|name| groups[name]).sum();
        let over = images as f64 - wanted;
        let left: Vec<usize> = groups.iter().filter(|(name, _)| !taken.contains(*name)).map(|(_, &size)| size).collect();
        // A group that is left would take it at least as far away; one has to stay.
        if left.len() > 1 {
            prop_assert!(left.iter().all(|&size| (over + size as f64).abs() >= over.abs() - 1e-9), "{} over, {:?}", over, left);
        }
        if sizes.iter().all(|&size| size as f64 >= 2.0 * wanted) {
            prop_assert_eq!((taken.len(), images), (1, *sizes.iter().min().expect("groups")));
        } else if over > 0.0 {
            // The group that brought it over the share did so from farther below.
            let largest = taken.iter().map(|name| groups[name]).max().expect("taken");
            prop_assert!(largest as f64 > 2.0 * over - 1e-9, "{} over, the largest {}", over, largest);
        }
    }

    #[test]
    fn folds_of_groups_differ_by_their_smallest_group_at_most(
        sizes in prop::collection::vec(1usize..40, 4..16), seed: u64, k in 2u32..5
    ) {
        let named = groups_of(&sizes);
        let groups = by_name(&named);
        let fold = |fold| fold_of_groups(&groups, k, fold, seed).expect("enough groups");
        let folds: Vec<Vec<usize>> = (0..k).map(|i| fold(i).iter().map(|name| groups[name]).collect()).collect();
        let images = |fold: &Vec<usize>| fold.iter().sum::<usize>();
        let least = folds.iter().map(images).min().expect("folds");
        for fold in &folds {
            // Its smallest group came last, when it was the emptiest.
            let smallest = *fold.iter().min().expect("as many groups as folds or more");
            prop_assert!(images(fold) - smallest <= least, "{:?}", folds);
        }
    }
}

#[test]
fn a_group_is_taken_beyond_the_share_if_that_is_nearer() {
    let one = |sizes: &[usize], fraction| {
        let named = groups_of(sizes);
        let groups = by_name(&named);
        let of = |seed| share_of_groups(&groups, fraction, seed).expect("valid").iter().map(|name| groups[name]).sum();
        (0..20).map(of).collect::<HashSet<usize>>()
    };
    // 30 of 100 are wanted: one of 40 is nearer than none, a second one is not.
    assert_eq!(one(&[40, 40, 20], 0.3), HashSet::from([20, 40]));
    assert_eq!(one(&[25, 25, 25, 25], 0.3), HashSet::from([25]));
    assert_eq!(one(&[25, 25, 25, 25], 0.4), HashSet::from([50]));
    // 20 is as far from 10 as nothing, and stays.
    assert_eq!(one(&[20, 20, 10, 50], 0.1), HashSet::from([10]));
}

#[test]
fn large_groups_are_spread_before_small_ones_fill_up() {
    // Smallest first would put the three tens on top of what the ones have filled.
    let sizes = [1, 1, 1, 1, 1, 1, 10, 10, 10, 5, 5, 2];
    let named = groups_of(&sizes);
    let groups = by_name(&named);
    for seed in 0..20 {
        let images = |fold| -> usize {
            fold_of_groups(&groups, 4, fold, seed).expect("valid").iter().map(|name| groups[name]).sum()
        };
        assert_eq!((0..4).map(images).collect::<Vec<_>>(), [12, 12, 12, 12], "{seed}");
    }
}

#[test]
fn a_fifth_of_a_hundred_writers_is_twenty() {
    let images: Vec<_> = (0..100u8).flat_map(|group| (0..15).map(move |label| (label, group))).collect();
    let index = index(&images);
    let split = Split::new(&index, &config(SplitMethod::Group)).expect("valid");
    assert_eq!((split.train().len(), split.val().len(), split.groups_shared(&index)), (1200, 300, 0));
    let other = Split::new(&index, &SplitConfig { seed: 43, ..config(SplitMethod::Group) }).expect("valid");
    assert_ne!(split, other);
    let random = Split::new(&index, &config(SplitMethod::Random)).expect("valid");
    assert!(random.groups_shared(&index) > 50);
}

#[test]
fn named_groups_are_held_out() {
    let index = index(&[(0, 1), (0, 2), (1, 3), (1, 2), (0, 3)]);
    let names = |names: &[&str]| SplitMethod::ValGroups(names.iter().map(ToString::to_string).collect());
    let split = Split::new(&index, &config(names(&["g3", "g1", "g3"]))).expect("valid");
    assert_eq!((split.train(), split.val()), (&[1, 3][..], &[0, 2, 4][..]));
    let message = |method| Split::new(&index, &config(method)).expect_err("invalid").to_string();
    assert_eq!(message(names(&["g33"])), "there is no group `g33` (nearest: `g3`) among the 3");
    assert_eq!(message(names(&["xx"])), "there is no group `xx` among the 3");
    assert_eq!(message(names(&[])), "the split `val-groups` of 5 images leaves the validation part empty");
    assert!(message(names(&["g1", "g2", "g3"])).ends_with("leaves the training part empty"));
}

#[test]
fn a_file_given_as_a_group_gets_a_hint() {
    let index = index(&[(0, 1), (0, 2), (1, 3)]);
    let hint = |names: &[&str]| {
        let method = SplitMethod::ValGroups(names.iter().map(ToString::to_string).collect());
        Split::new(&index, &config(method)).expect_err("invalid").hint()
    };
    for names in [&[][..], &["held-out.txt"], &["lists/held out"], &["C:\\held-out"], &["g1", "Held.CSV"], &[" "]] {
        let hint = hint(names);
        assert!(hint.is_some_and(|hint| hint.contains("a file with one on each line")), "{names:?}: {hint:?}");
    }
    assert_eq!(hint(&["g33"]), Some("name groups as the data set does"));
    assert_eq!(hint(&["writer no. 3"]), hint(&["g33"]));
    // Nothing is left to train with: that is no matter of how groups are named.
    assert_eq!(hint(&["g1", "g2", "g3"]), Some("use more images, or another validation share"));
}

#[test]
fn groups_must_be_known() {
    let error = |method| Split::new(&ungrouped(10), &config(method)).expect_err("no groups");
    let group = error(SplitMethod::Group);
    assert_eq!(group.to_string(), "the group of `0` is unknown, and the split `group` needs one for every image");
    assert!(group.hint().expect("a hint").contains("--group"));
    assert!(matches!(error(SplitMethod::ValGroups(vec!["a".into()])), Error::GroupUnknown { .. }));
    assert!(matches!(error(SplitMethod::Fixed), Error::NoFixedParts { .. }));
}

#[test]
fn parts_are_never_empty() {
    let split = |n, val_fraction| Split::new(&ungrouped(n), &SplitConfig { val_fraction, ..SplitConfig::default() });
    assert!(matches!(split(4, 0.2), Err(Error::EmptyPart { part: "validation", n: 4, .. })));
    assert!(split(5, 0.2).is_ok());
    for fraction in [0.0, 1.0, -0.5, f64::NAN, f64::INFINITY] {
        assert!(matches!(split(10, fraction), Err(Error::BadFraction { .. })), "{fraction}");
    }
    let folds = Split::new(&ungrouped(2), &config(SplitMethod::KFold { k: 3, fold: 2 }));
    assert!(matches!(folds, Err(Error::EmptyPart { .. })));
    let method = SplitMethod::KFold { k: 3, fold: 3 };
    assert!(matches!(Split::new(&ungrouped(9), &config(method)), Err(Error::BadFold { .. })));
    let few = Split::new(&index(&[(0, 1), (1, 2)]), &config(SplitMethod::KFold { k: 3, fold: 0 }));
    assert!(matches!(few, Err(Error::TooFewGroups { groups: 2, parts: 3 })));
}

#[test]
fn stored_splits_are_checked() {
    assert!(Split::from_parts(vec![2, 0], vec![1], 3).is_ok());
    assert!(matches!(Split::from_parts(vec![0, 0], vec![1], 3), Err(Error::BadParts { id: 0, n: 3 })));
    assert!(matches!(Split::from_parts(vec![0], vec![0], 3), Err(Error::BadParts { id: 0, .. })));
    assert!(matches!(Split::from_parts(vec![0], vec![3], 3), Err(Error::BadParts { id: 3, .. })));
}

#[test]
fn digests_tell_splits_apart() {
    let digest =
        |train: &[u32], val: &[u32]| Split::from_parts(train.to_vec(), val.to_vec(), 4).expect("valid").sha256();
    assert_eq!(digest(&[0, 1], &[2]), digest(&[0, 1], &[2]));
    assert_ne!(digest(&[0, 1], &[2]), digest(&[1, 0], &[2]));
    assert_ne!(digest(&[0], &[1, 2]), digest(&[0, 1], &[2]));
}

#[test]
fn configs_round_trip_through_toml() {
    for method in [SplitMethod::Random, SplitMethod::ValGroups(vec!["3".into()]), SplitMethod::KFold { k: 5, fold: 2 }]
    {
        let config = config(method);
        let text = toml::to_string(&config).expect("serialises");
        assert_eq!(toml::from_str::<SplitConfig>(&text).expect("reads back"), config, "{text}");
    }
}

#[test]
fn a_label_of_one_image_is_learnt_and_not_judged() {
    let images: Vec<(u8, u8)> = (0..61).map(|i| (if i == 60 { 3 } else { i % 3 }, i)).collect();
    let index = index(&images);
    for seed in 0..50 {
        let config = SplitConfig { method: SplitMethod::Stratified, val_fraction: 0.2, seed };
        let split = Split::new(&index, &config).expect("valid");
        assert!(split.train().contains(&60) && split.val().len() == 12, "seed {seed}");
    }
}
