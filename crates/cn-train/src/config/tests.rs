use super::recipes::RECIPES;
use super::*;
use crate::args::BatchSize;
use cn_augment::Jitter;
use cn_data::Ground;
use cn_learn::Rates;
use cn_zoo::Loaded;
use proptest::{collection::vec, prelude::*, sample::select};

fn resolve(args: &ConfigArgs) -> Result<Config, Problem> {
    let mut args = args.clone();
    args.batch.data.synthetic = true;
    Config::try_from((&Common::default(), &args))
}

fn of(recipe: &str) -> Config {
    with(recipe, |_| ())
}

fn with(recipe: &str, change: impl FnOnce(&mut ConfigArgs)) -> Config {
    let mut args = ConfigArgs::default();
    args.batch.recipe = Some(recipe.into());
    change(&mut args);
    resolve(&args).expect(recipe)
}

#[test]
fn what_a_run_could_not_read_again_is_refused_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.toml");
    // Names of patients, names that take six times their size, and many phases.
    let groups = |name: &str, n| Config { val_groups: vec![name.to_owned(); n], ..of("quick") };
    let patients = |n| groups("f81d4fae-7dec-11d0-a765-00a0c91e6bf6", n);
    let controls = |n| groups(&"\u{1}".repeat(600), n);
    let phased = |n| Config { phase: vec![Phase { epochs: 1, ..Phase::default() }; n], ..of("quick") };
    let all: [(&dyn Fn(usize) -> Config, _); 3] = [(&patients, 20_000), (&controls, 200), (&phased, 1_000)];
    for (of, n) in all {
        let kept = of(n).resolved().expect("few enough");
        std::fs::write(&path, kept.to_toml().expect("text")).expect("written");
        assert!(Config::of_run(&path).is_ok_and(|read| read.val_groups == kept.val_groups && read.phase == kept.phase));
        let error = of(5 * n).resolved().expect_err("too many").to_string();
        assert!(error.starts_with("the settings are longer than a run can keep: "), "{error}");
    }
    let phases = |epochs| vec![Phase { epochs, ..Phase::default() }, Phase { epochs: 1, ..Phase::default() }];
    assert!(Config { phase: phases(19_999), ..of("quick") }.resolved().is_ok());
    for epochs in [20_000, 1_000_000] {
        let error = Config { phase: phases(epochs), ..of("quick") }.resolved().expect_err("too many");
        assert!(error.to_string().contains("more than 20000 epochs"), "{error}");
    }
}

#[test]
fn every_recipe_is_valid_and_survives_its_file() {
    for (name, _) in RECIPES {
        let config = of(name);
        let table: Table = config.to_toml().expect("text").parse().expect("TOML");
        // What a batch came to stays so.
        assert_eq!(config.batch_fit, BatchFit::Images);
        let stored = Config { batch_fit: BatchFit::Fixed, ..config.clone() };
        assert_eq!(parse(table).expect("known keys"), stored, "{name}");
        assert_eq!(config.clone().resolved().expect("still valid"), config, "{name}");
    }
}

#[test]
fn the_notebooks_recipes_are_its_calls() {
    assert_eq!(of("notebook").phase, Phase::fine_tune(6, 2e-3, 1));
    assert_eq!(of("notebook-lr").phase, Phase::fine_tune(6, 1e-2, 1));
    let unfrozen = Phase { frozen: Some(false), ..Phase::one_cycle(6, Rates::Uniform(1e-4)) };
    assert_eq!(of("notebook-tuned").phase, [Phase::one_cycle(3, Rates::Uniform(1e-2)), unfrozen]);
    for name in ["notebook", "notebook-lr", "notebook-tuned"] {
        let config = of(name);
        assert_eq!((config.image_size, config.batch_size, config.threshold), (128, 64, 0.2));
        assert_eq!((config.split.as_str(), config.channels, config.freeze_pretrained), ("random", 3, true));
        assert_eq!(config.augment.policy(128, None).ok(), cn_augment::Policy::fastai_train(128, 0.35).ok());
        assert_eq!(config.validation.policy(128, None).ok(), cn_augment::Policy::fastai_valid(128).ok());
    }
}

#[test]
fn flags_make_fastais_calls() {
    let tuned = with("quick", |args| {
        (args.phases.epochs, args.phases.freeze_epochs, args.phases.lr) = (Some(5), Some(2), Some(4e-3))
    });
    assert_eq!(tuned.phase, Phase::fine_tune(5, 4e-3, 2));
    let cycle = with("notebook", |args| {
        (args.phases.epochs, args.phases.freeze_epochs, args.phases.lr) = (Some(6), Some(0), Some(3e-3))
    });
    assert_eq!(cycle.phase, [Phase { frozen: Some(false), ..Phase::one_cycle(6, Rates::Uniform(3e-3)) }]);
    assert_eq!(with("notebook", |args| args.phases.epochs = Some(3)).phase, Phase::fine_tune(3, 2e-3, 1));
    assert_eq!(with("notebook", |args| args.phases.lr = Some(1e-2)).phase, of("notebook-lr").phase);
    assert_eq!(with("notebook", |args| args.phases.freeze_epochs = Some(3)).phase, Phase::fine_tune(6, 2e-3, 3));
}

#[test]
fn the_head_alone_can_be_trained() {
    let config = with("notebook", |args| (args.phases.epochs, args.phases.freeze_epochs) = (Some(0), Some(3)));
    assert_eq!(config.phase, Phase::fine_tune(0, 2e-3, 3));
    assert_eq!((config.phase.len(), config.phase[0].frozen, config.epochs()), (1, Some(true), 3));
    for freeze_epochs in [None, Some(0)] {
        let mut args = ConfigArgs::default();
        (args.phases.epochs, args.phases.freeze_epochs) = (Some(0), freeze_epochs);
        assert!(resolve(&args).is_err(), "{freeze_epochs:?}");
    }
}

#[test]
fn files_lie_between_recipe_and_flags() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("own.toml");
    let own = "recipe = \"notebook\"\nimage_size = 96\nbatch_size = 32\n[augment]\nkind = \"affine\"\nrotate = 3\n";
    std::fs::write(&path, own).expect("written");
    let config = with("notebook", |args| {
        (args.batch.config, args.batch.batch_size) = (Some(path.clone()), Some(BatchSize::Images(16)))
    });
    assert_eq!((config.recipe.as_str(), config.image_size, config.batch_size), ("notebook", 96, 16));
    assert!(matches!(config.augment, Transform::Affine(_)));
    let mut args = ConfigArgs::default();
    args.batch.config = Some(path);
    let named = resolve(&args).expect("valid");
    assert_eq!((named.recipe.as_str(), named.batch_size, named.threshold), ("notebook", 32, 0.2));
}

#[test]
fn limits_of_synthetic_data_are_drawn() {
    let config = with("quick", |args| args.batch.limit = Some(600));
    assert_eq!((config.synthetic.images, config.synthetic.val_images, config.limit), (600, None, None));
}

#[test]
fn differences_are_listed_by_key() {
    let other =
        with("quick", |args| (args.batch.batch_size, args.phases.epochs) = (Some(BatchSize::Images(32)), Some(7)));
    let lines = of("quick").differences(&other);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0], "batch_size: 64, now 32");
    assert_eq!(lines[1], "phase 1: epochs: 2, now 7");
    assert!(of("quick").differences(&Config { threads: 99, ..of("quick") }).is_empty());
}

#[test]
fn centre_transforms_come_back_from_a_model_card() {
    for size in [32, 64, 128, 224] {
        let cn_report::Transform::Centre { resize } = (Transform::Centre { extra: 0.14 }).card(size, None) else {
            unreachable!("a centre stays one");
        };
        let again = Transform::centre(resize, size as usize);
        assert_eq!(again.card(size, None), cn_report::Transform::Centre { resize });
    }
}

#[test]
fn squares_about_the_ink_come_back_from_a_model_card() {
    let config = with("quick", |args| args.batch.ink_square = Some(0.8));
    let card = config.validation.card(64, config.ink_square);
    assert_eq!(card, cn_report::Transform::InkSquare { fill: 0.8, threshold: 24 });
    let policy = config.validation.fixed_policy(64, config.ink_square).expect("valid");
    assert_eq!(policy_of(card, 64).expect("valid"), policy);
}

#[test]
fn brightness_and_contrast_are_changed_where_they_are_said() {
    let policy = |text: &str| {
        let table: Table = format!("[augment]\nkind = \"affine\"\n{text}").parse().expect("TOML");
        parse(table).expect("known keys").augment.policy(64, None)
    };
    assert_eq!(policy("").expect("valid").config().jitter, None);
    let jitter = Jitter { probability: 1.0, brightness: 0.3, contrast: 0.0 };
    assert_eq!(policy("brightness = 0.3").expect("valid").config().jitter, Some(jitter));
    let problem = policy("contrast = 1.5").expect_err("refused");
    assert!(format!("{problem:?}").contains("jitter.contrast"), "{problem:?}");
}

#[test]
fn white_paper_stays_white_where_a_warp_looks_past_its_edge() {
    let config = with("quick", |_| {});
    let on = |ground| config.train_policy(ground).expect("valid").config().clone();
    let (dark, bright) = (on(Some(Ground::Dark)), on(Some(Ground::Bright)));
    assert_eq!((dark.border, bright.border), (0, 255));
    // Brightness is ink on dark ground alone.
    assert!(dark.min_ink.is_some() && bright.min_ink.is_none());
    assert_eq!(on(None), dark);
    assert_eq!(cn_augment::PolicyConfig { border: 0, min_ink: dark.min_ink, ..bright }, dark);
}

#[test]
fn a_square_about_the_ink_has_no_margin_to_cut_off() {
    let mut args = ConfigArgs::default();
    (args.batch.recipe, args.batch.ink_square) = (Some("notebook".into()), Some(0.8));
    let problem = resolve(&args).expect_err("refused");
    assert!(problem.to_string().contains("leaves no margin"), "{problem}");
}

#[test]
fn weights_that_know_the_classes_are_tuned_at_their_own_rate() {
    let rates = |mut config: Config, loaded: Option<&Loaded>| {
        config.settle_rates(loaded);
        assert_eq!(config.fine_tune_lr, None, "stored configs hold what was used");
        config.phase.iter().map(|phase| phase.lr).collect::<Vec<_>>()
    };
    let whole = Loaded::default();
    let mut body = Loaded::default();
    body.missing.push("fc.weight".into());
    assert_eq!(rates(of("quick"), Some(&whole)), [Rates::Uniform(1e-3)]);
    assert_eq!(rates(of("quick"), Some(&body)), [Rates::Uniform(3e-3)]);
    assert_eq!(rates(of("quick"), None), [Rates::Uniform(3e-3)]);
    // What a person asks for is what is done.
    let asked = with("quick", |args| args.phases.lr = Some(5e-3));
    assert_eq!(rates(asked, Some(&whole)), [Rates::Uniform(5e-3)]);
    assert_eq!(rates(of("notebook"), Some(&whole)), of("notebook").phase.iter().map(|p| p.lr).collect::<Vec<_>>());
}

#[test]
fn the_settings_of_a_run_are_all_that_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.toml");
    for (name, _) in RECIPES {
        let mut config = with(name, |args| args.batch.limit = (name != "glyphs").then_some(300));
        config.settle_rates(None);
        std::fs::write(&path, config.to_toml().expect("text")).expect("written");
        let mut args = ConfigArgs::default();
        args.batch.config = Some(path.clone());
        let stored = Config { batch_fit: BatchFit::Fixed, ..config };
        assert_eq!(resolve(&args).expect(name), stored, "{name}");
    }
}

/// Settings as a person may write them, all of them fine.
fn sane() -> impl Strategy<Value = String> {
    // Endless drawings are split by nothing.
    let recipes = RECIPES.iter().map(|(name, _)| *name).filter(|name| *name != "glyphs");
    let recipes: Vec<&'static str> = recipes.collect();
    let phase = (1..9_u32, 1e-5..1.0, prop::bool::ANY, 0.05..0.9, select(vec!["one-cycle", "flat", "cosine"]));
    let phase = phase.prop_map(|(epochs, lr, frozen, pct, curve)| {
        format!(
            "[[phase]]\nepochs = {epochs}\nlr = {lr:?}\nfrozen = {frozen}\npct_start = {pct:?}\ncurve = \"{curve}\"\n"
        )
    });
    let top = (0..=i64::MAX, 2..300_u32, 0.05..0.95, 16..300_u32, select(vec!["random", "group", "stratified"]));
    let top = top.prop_map(|(seed, batch, threshold, side, split)| {
        format!(
            "seed = {seed}\nbatch_size = {batch}\nthreshold = {threshold:?}\nimage_size = {side}\nsplit = \"{split}\"\n"
        )
    });
    (select(recipes), top, vec(phase, 0..3)).prop_map(|(recipe, top, phases)| {
        format!("recipe = \"{recipe}\"\n{top}[data]\nsynthetic = true\n{}", phases.concat())
    })
}

/// Any key with any value.
fn wild() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (-3..9_i64).prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|x| toml::Value::Float(x).to_string()),
        (0.0..2.0).prop_map(|x| toml::Value::Float(x).to_string()),
        prop::bool::ANY.prop_map(|b| b.to_string()),
        select(vec![
            "\"quick\"",
            "\"auto\"",
            "\"random\"",
            "\"kfold:5/1\"",
            "\"bf16\"",
            "\"resnet18\"",
            "\"\"",
            "\"\\u0000\"",
            "[]",
            "[1, 2]",
            "{ min = 1e-4, max = 1e-3 }",
            "\"skip\"",
            "\"softmax\"",
            "\"black\"",
            "1979-05-27",
        ])
        .prop_map(str::to_owned),
    ];
    let lines = |keys: &'static [&'static str], n| {
        vec((select(keys), value.clone()), 0..n)
            .prop_map(|lines| lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect::<String>())
    };
    let sections = (lines(&keys::DATA, 2), lines(&keys::TRANSFORM, 3), lines(&keys::PHASE, 4));
    (lines(&keys::TOP, 4), sections).prop_map(|(top, (data, augment, phase))| {
        format!("{top}[data]\nsynthetic = true\n{data}[augment]\n{augment}[[phase]]\nepochs = 1\nlr = 1e-3\n{phase}")
    })
}

/// Of settings in a file: refused, or the same after they were stored.
fn stored_and_read(text: &str) -> Result<(), Problem> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.toml");
    std::fs::write(&path, text).expect("written");
    let mut args = ConfigArgs::default();
    args.batch.config = Some(path.clone());
    let config = Config::try_from((&Common::default(), &args))?;
    std::fs::write(&path, config.to_toml().expect("what is accepted can be stored")).expect("written");
    let again = Config::of_run(&path).and_then(Config::resolved).expect("what is stored can be read");
    assert!(config.differences(&again).is_empty(), "{:?}", config.differences(&again));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn settings_are_the_same_once_stored(text in sane()) {
        let done = stored_and_read(&text);
        prop_assert!(done.is_ok(), "{:?}", done);
    }

    #[test]
    fn whatever_is_not_refused_is_the_same_once_stored(text in wild()) {
        let _ = stored_and_read(&text);
    }
}
