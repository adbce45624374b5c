use super::*;
use crate::Error;
use crate::{
    Activation, Audit, AuditNote, ClassCard, DataCard, DataSummary, EmbeddedImage, EpochRecord, GalleryImage,
    ImageView, Interpretation, MODEL_SCHEMA, ModelCard, Normalisation, Prediction, Predictions, SUMMARY_SCHEMA,
    SecondsSummary, StepRecord, Summary, Transform, WeightsCard,
};

fn card() -> ModelCard {
    let class =
        |(label, display): (&str, &str)| ClassCard { label: label.into(), display: display.into(), threshold: 0.5 };
    ModelCard {
        ink_fill: None,
        usual: None,
        ground: None,
        schema: MODEL_SCHEMA,
        arch: "resnet18".into(),
        stem: "7x7".into(),
        head: "plain".into(),
        channels: 1,
        image_size: 8,
        precision: "f32".into(),
        transform: Transform::Whole,
        normalisation: Normalisation { mean: vec![0.0], std: vec![1.0] },
        activation: Activation::Sigmoid,
        classes: [("0", "零"), ("10", "十")].map(class).into(),
        weights: WeightsCard { file: "model.safetensors".into(), sha256: "w".into() },
        data: DataCard { name: "<toy> & co".into(), licence: Some("CC BY 4.0".into()), citation: None },
    }
}

/// Two writers; image 3 is taken for the other class.
fn table(targets_of_last: &[usize]) -> Predictions {
    let mut table = Predictions::new(["0", "10"]).unwrap();
    for (i, (target, p)) in
        [(0, [0.9, 0.1]), (1, [0.2, 0.8]), (0, [0.7, 0.1]), (0, [0.1, 0.95])].into_iter().enumerate()
    {
        let targets = if i == 3 { targets_of_last.to_vec() } else { vec![target] };
        let group = Some((i % 2).to_string());
        table.push(Prediction { path: format!("{i}.png"), group, targets, probabilities: p.to_vec() }).unwrap();
    }
    table
}

fn write_run(run: &RunFolder, groups_shared: Option<usize>, targets_of_last: &[usize]) {
    std::fs::write(run.config(), "recipe = \"quick\"\n# suite_id\n").unwrap();
    let table = table(targets_of_last);
    card().write(run.model_card()).unwrap();
    table.write(run.predictions()).unwrap();
    let epoch = |epoch| EpochRecord {
        epoch,
        phase: 0,
        step: 10 * (epoch as u64 + 1),
        lr: vec![1e-3],
        train_loss: 0.5,
        val_loss: Some(0.4),
        metrics: [("exact_match", 0.75), ("top1", 0.75)].into_iter().collect(),
        seconds: 1.0,
        img_s: 100.0,
    };
    EpochRecord::write_all(&[epoch(0), epoch(1)], run.metrics()).unwrap();
    let step = |step| StepRecord { step, lr: 1e-3, momentum: 0.9, train_loss: 0.5 };
    StepRecord::write_all(&[step(5), step(10)], run.steps()).unwrap();
    let data = DataSummary {
        name: "toy".into(),
        sha256: "d".into(),
        synthetic: false,
        n_train: 16,
        n_val: 4,
        split: "group".into(),
        seed: 42,
        vocab: vec!["0".into(), "10".into()],
        groups_shared,
        n_val_seen: 0,
    };
    let answers = table.answers(card().thresholds().unwrap(), Activation::Sigmoid).unwrap();
    let summary = Summary {
        schema: SUMMARY_SCHEMA,
        run: "runs/x".into(),
        arch: "resnet18".into(),
        weights: "none".into(),
        device: "cpu".into(),
        precision: "f32".into(),
        threads: 2,
        isa: "avx2".into(),
        data,
        recipe: "quick".into(),
        epochs: 2,
        image_size: 8,
        batch_size: 4,
        val: answers.val_summary(),
        seconds: SecondsSummary { total: 3.0, to_first_step: 0.5, train: 2.0, validate: 0.2 },
        train_img_s: 100.0,
        infer_img_s: 200.0,
        peak_rss_mib: 64,
        weights_sha256: "w".into(),
    };
    summary.write(run.summary()).unwrap();
}

fn write_interpretation(run: &RunFolder) {
    Interpretation::prepare(run).unwrap();
    let pixels = [200; 64];
    let png = ImageView::grey(8, 8, &pixels).unwrap().to_png().unwrap();
    std::fs::write(run.interpret().join("image-000.png"), &png).unwrap();
    std::fs::write(run.interpret().join("augmented.png"), &png).unwrap();
    table(&[0]).write(run.tuning()).unwrap();
    let mut found = Interpretation::new("layer3", "layer4");
    found.explained = [0.5, 0.25];
    found.embedding = vec![
        EmbeddedImage { path: "1.png".into(), x: 1.0, y: 2.0 },
        EmbeddedImage { path: "2.png".into(), x: 0.0, y: 0.0 },
    ];
    let cam = vec![0.0, 0.5, 1.0, 0.0];
    found.gallery =
        vec![GalleryImage { path: "3.png".into(), file: "image-000.png".into(), class: 1, height: 2, width: 2, cam }];
    found.write(run).unwrap();
    assert_eq!(Interpretation::read(run).unwrap(), found);
}

fn page_of(groups_shared: Option<usize>, targets_of_last: &[usize], interpret: fn(&RunFolder)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::new(folder.path());
    write_run(&run, groups_shared, targets_of_last);
    interpret(&run);
    report_page(&run).unwrap()
}

#[test]
fn a_report_has_all_sections_and_asks_for_nothing() {
    let page = page_of(Some(0), &[0], write_interpretation);
    for id in [
        "mean",
        "classes",
        "confusion",
        "losses",
        "groups",
        "calibration",
        "map",
        "training",
        "augmented",
        "time",
        "again",
    ] {
        assert!(page.contains(&format!("<section id=\"{id}\">")), "no section `{id}`");
        assert!(page.contains(&format!("href=\"#{id}\"")), "no link to `{id}`");
    }
    for foreign in ["http:", "https:", "<script", "@import"] {
        assert!(!page.contains(foreign), "`{foreign}` in the page");
    }
    assert_eq!(page.matches("url(").count(), page.matches("url(data:font/otf;base64,").count(), "what is not inside");
    let body = page.split_once("</style>").expect("a style").1;
    assert!(!body.contains("NaN"), "no number is missing");
    assert!(page.contains("&lt;toy&gt; &amp; co") && !page.contains("<toy>"));
    let images = page.matches("<img").count();
    assert!(images >= 4 && page.matches("alt=\"").count() == images, "a text for each image");
    assert_eq!(page.matches("<svg").count(), page.matches("<title>").count() - 1, "a title for each chart");
    assert!(page.contains("10 十") && page.contains("75.00 %") && page.contains("No writer is on both sides"));
}

#[test]
fn maps_and_pictures_that_lie_about_their_size_cost_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::new(folder.path());
    write_run(&run, None, &[0]);
    write_interpretation(&run);
    let whole = Interpretation::read(&run).unwrap();
    for (height, width) in [(1 << 32, 1 << 32), (1 << 63, 2), (3, 1), (0, 0)] {
        let mut found = whole.clone();
        (found.gallery[0].height, found.gallery[0].width, found.gallery[0].cam) = (height, width, Vec::new());
        found.write(&run).unwrap();
        assert!(report_page(&run).is_ok(), "{height} x {width}");
    }
    whole.write(&run).unwrap();
    let names = |page: &str| page.matches("<img").count();
    let images = names(&report_page(&run).unwrap());
    // A header of 2^20 x 2^20 pixels, 3 TiB, with the checksum that it is to have.
    let mut png = ImageView::grey(8, 8, &[200; 64]).unwrap().to_png().unwrap();
    png[16..24].copy_from_slice(&[0, 16, 0, 0, 0, 16, 0, 0]);
    let mut encoded = Vec::new();
    let mut encoder = png::Encoder::new(&mut encoded, 1 << 20, 1 << 20);
    encoder.set_color(png::ColorType::Rgb);
    drop(encoder.write_header().unwrap());
    for bytes in [png, encoded, vec![0; 9 << 20]] {
        std::fs::write(run.interpret().join("image-000.png"), &bytes).unwrap();
        assert!(names(&report_page(&run).unwrap()) < images, "{} bytes", bytes.len());
    }
    std::fs::write(run.config(), vec![b' '; 2 << 20]).unwrap();
    assert!(matches!(report_page(&run), Err(Error::Read { path, .. }) if path == run.config()));
}

/// Puts `text` in place of one string of `value` after the other; gives each to `see`.
fn with_each_string(value: &serde_json::Value, text: &str, see: &mut impl FnMut(&serde_json::Value, &str)) {
    fn places(value: &serde_json::Value, at: &str, found: &mut Vec<String>) {
        match value {
            serde_json::Value::String(_) => found.push(at.to_owned()),
            serde_json::Value::Array(items) => {
                items.iter().enumerate().for_each(|(i, item)| places(item, &format!("{at}/{i}"), found));
            }
            serde_json::Value::Object(items) => {
                items.iter().for_each(|(key, item)| places(item, &format!("{at}/{key}"), found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    places(value, "", &mut found);
    for place in found {
        let mut spoilt = value.clone();
        *spoilt.pointer_mut(&place).expect("a place that was found") = text.into();
        see(&spoilt, &place);
    }
}

#[test]
fn no_text_of_a_run_becomes_markup() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::new(folder.path());
    write_run(&run, Some(1), &[0]);
    write_interpretation(&run);
    let manifest = serde_json::json!({
        "machine": { "cpu": "some" }, "versions": { "cn-train": "1" }, "started": "now", "command": ["cn-train", "train"],
        "data": { "split_sha256": "s", "content_sha256": "c" }, "weights": { "sha256": "w" }, "forced": ["seed"],
    });
    std::fs::write(run.manifest(), manifest.to_string()).unwrap();
    let bait = "<script>&\"'";
    let (mut pages, mut shown) = (0, 0);
    for path in [run.summary(), run.manifest(), run.model_card(), run.interpret().join("index.json")] {
        let whole = std::fs::read_to_string(&path).unwrap();
        with_each_string(&serde_json::from_str(&whole).unwrap(), bait, &mut |spoilt, place| {
            std::fs::write(&path, spoilt.to_string()).unwrap();
            // What is of no use, such as an unknown activation, is refused.
            let Ok(page) = report_page(&run) else { return };
            assert!(!page.contains("<script"), "{} {place}", path.display());
            (pages, shown) = (pages + 1, shown + usize::from(page.contains("&lt;script&gt;&amp;&quot;&#39;")));
        });
        std::fs::write(&path, whole).unwrap();
    }
    assert!(pages >= 20 && shown >= 10, "{shown} of {pages} pages show it");
}

#[test]
fn the_map_names_every_image_rightly() {
    let signs = |displays: [&str; 2], targets: &[usize]| {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::new(folder.path());
        write_run(&run, None, targets);
        write_interpretation(&run);
        let mut card = card();
        card.classes.iter_mut().zip(displays).for_each(|(class, display)| class.display = display.into());
        card.write(run.model_card()).unwrap();
        let mut found = Interpretation::read(&run).unwrap();
        found.embedding.push(EmbeddedImage { path: "3.png".into(), x: 3.0, y: 3.0 });
        found.write(&run).unwrap();
        let page = report_page(&run).unwrap();
        let map = page.split_once("<section id=\"map\">").unwrap().1.split_once("</section>").unwrap().0.to_owned();
        let marks: Vec<String> =
            map.split("</text>").filter_map(|part| Some(part.rsplit_once("\">")?.1.to_owned())).collect();
        (marks[..3].to_vec(), map)
    };
    let (short, map) = signs(["零", "十"], &[0]);
    assert!(short == ["十", "零", "零"] && !map.contains("class=key"), "{map}");
    // The first characters of both are the same.
    let (long, map) = signs(["1000", "10000"], &[]);
    assert_eq!(long, ["B", "A", "–"]);
    assert!(map.contains("A</b> 0 1000</span>") && map.contains("B</b> 10 10000</span>"), "{map}");
    assert!(map.contains("<p>3 of the images") && map.contains("– without any"), "{map}");
    assert_eq!([0, 25, 26, 27, 701, 702].map(looks::letters), ["A", "Z", "AA", "AB", "ZZ", "AAA"]);
}

#[test]
fn a_report_without_the_model_leaves_out_what_needs_it() {
    let page = page_of(Some(7), &[0], |_| ());
    assert!(!page.contains("id=\"losses\"") && !page.contains("id=\"map\"") && page.contains("id=\"classes\""));
    assert!(page.contains("7 writers are on both sides"));
}

#[test]
fn lost_pictures_are_named() {
    let page = page_of(None, &[0], |run| {
        write_interpretation(run);
        std::fs::write(run.interpret().join("image-000.png"), b"\x89PNG").unwrap();
    });
    assert!(page.contains("Missing or damaged, and left out: <code>image-000.png</code>"));
}

#[test]
fn a_picture_of_a_class_that_is_none_is_left_out() {
    for class in [2, 99, usize::MAX >> 1] {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::new(folder.path());
        write_run(&run, None, &[0]);
        write_interpretation(&run);
        let mut found = Interpretation::read(&run).unwrap();
        found.gallery[0].class = class;
        found.write(&run).unwrap();
        let page = report_page(&run).unwrap();
        assert!(page.contains("Missing or damaged, and left out: <code>image-000.png</code>"), "{class}");
    }
}

#[test]
fn what_is_no_picture_is_not_shown_as_one() {
    let page = page_of(None, &[0], |run| {
        write_interpretation(run);
        std::fs::write(run.interpret().join("augmented.png"), "a secret").unwrap();
    });
    assert!(!page.contains("<section id=\"augmented\">"));
}

#[cfg(unix)]
#[test]
fn a_page_shows_nothing_behind_links() {
    for name in ["interpret/augmented.png", "interpret/image-000.png", "config.toml", "manifest.json", "interpret"] {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::new(folder.path().join("run"));
        std::fs::create_dir(run.root()).unwrap();
        write_run(&run, None, &[0]);
        write_interpretation(&run);
        std::fs::write(run.config(), "a = 1").unwrap();
        std::fs::write(run.manifest(), "{}").unwrap();
        report_page(&run).unwrap();
        let (path, elsewhere) = (run.root().join(name), folder.path().join("elsewhere"));
        std::fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(matches!(report_page(&run), Err(Error::Link { path: found }) if found == path), "{name}");
    }
}

#[test]
fn the_description_of_another_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::new(folder.path());
    write_run(&run, None, &[0]);
    let mut card = ModelCard::read(run.model_card()).unwrap();
    card.weights.sha256 = "v".into();
    card.write(run.model_card()).unwrap();
    assert!(matches!(report_page(&run), Err(Error::OtherModel { .. })));
}

#[test]
fn the_predictions_of_another_run_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::new(folder.path());
    write_run(&run, None, &[0]);
    // As many images, with other answers.
    table(&[1]).write(run.predictions()).unwrap();
    let error = report_page(&run).unwrap_err();
    assert!(error.to_string().contains(
        "predictions.csv` holds 4 images with an exact match of 1.0000, a top-1 of 1.0000 and an accuracy_multi of 1.000000, \
         and the run's summary has 4 images with an exact match of 0.7500"
    ), "{error}");
}

#[test]
fn several_labels_get_a_table_for_each() {
    let page = page_of(None, &[0, 1], write_interpretation);
    assert!(!page.contains("id=\"confusion\"") && page.contains("Yes and no, label by label"));
    assert!(page.contains("nobody can tell"));
}

#[test]
fn what_an_audit_found_is_in_the_report() {
    let page = page_of(None, &[0], |run| {
        let note = AuditNote { path: "9.png".into(), note: "ends early".into() };
        let audit = Audit {
            data: "toy".into(),
            n_images: 20,
            n_train: 16,
            n_val: 4,
            split: "group".into(),
            groups: "writers".into(),
            n_groups: 5,
            groups_shared: 0,
            damaged: vec![note],
            odd: Vec::new(),
            copies: Vec::new(),
            labels: None,
            cropped: crate::audit::CroppedImages::default(),
            crops: Vec::new(),
        };
        std::fs::create_dir(run.audit().parent().unwrap()).unwrap();
        std::fs::write(run.audit(), serde_json::to_vec(&audit).unwrap()).unwrap();
    });
    assert!(page.contains("<section id=\"data\">") && page.contains("An audit looked at 20 images"));
    assert!(page.contains("1 file cannot be used; <code>--skip-damaged</code>"));
    assert!(!page_of(None, &[0], |_| ()).contains("<section id=\"data\">"));
}

#[test]
fn a_result_without_mistakes_is_not_called_certain() {
    let page = page_of(Some(0), &[1], |_| ());
    assert!(page.contains("95 % interval 51.0 to 100.0 %"), "Wilson's interval of 4 of 4");
    assert!(!page.contains("100.0 to 100.0 %"), "nothing is drawn");
}

#[test]
fn nothing_reads_as_certain_that_is_not() {
    let said = |ends: [f64; 2]| percents(ends);
    assert_eq!(said([0.971, 0.993]), "97.1 to 99.3 %");
    assert_eq!(said([0.997, 0.99967]), "99.70 to 99.97 %");
    assert_eq!(said([0.99955, 0.99996]), "99.955 to 99.996 %");
    assert_eq!(said([0.9996, 1.0]), "99.96 to 100.00 %");
    assert_eq!(
        (percent(0.99996), percent(1.0), percent(0.99951)),
        ("99.996 %".into(), "100.00 %".into(), "99.95 %".into())
    );
    assert_eq!((percent(0.00002), percent(0.0)), ("0.002 %".into(), "0.00 %".into()));
}

#[test]
fn the_wider_interval_is_the_one_to_quote() {
    // One of four is wrong. Drawn whole, the two groups give shares from 0.5 to 1, the images from 0.25 to 1.
    let page = page_of(Some(0), &[0], |_| ());
    assert!(page.contains("95 % interval 25.0 to 100.0 %") && page.contains("quote the first"), "{page}");
}
