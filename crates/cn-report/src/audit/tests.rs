use expect_test::expect;

use super::*;
use crate::html::{AuditPictures, audit_page};
use crate::picture::Picture;

fn note(path: &str, note: &str) -> AuditNote {
    AuditNote { path: path.into(), note: note.into() }
}

fn audit() -> Audit {
    let image = |path: &str, labels: &str, part: &str| CopyImage {
        path: path.into(),
        labels: labels.into(),
        part: part.into(),
    };
    let set = |images: Vec<CopyImage>, distance, leaks, contradicts| CopySet { images, distance, leaks, contradicts };
    Audit {
        data: "toy <1>".into(),
        n_images: 100,
        n_train: 80,
        n_val: 20,
        split: "random".into(),
        groups: "writers".into(),
        n_groups: 5,
        groups_shared: 5,
        damaged: vec![note("cut.png", "ends early")],
        odd: (0..25).map(|i| note(&format!("{i}.png"), "shows nothing")).collect(),
        copies: vec![
            set(vec![image("a.png", "3 三", "train"), image("b.png", "3 三", "train")], 0.0, false, false),
            set(vec![image("c.png", "3 三", "train"), image("d.png", "2 二", "val")], 0.0512, true, true),
        ],
        labels: Some(LabelAudit {
            by: "5 folds".into(),
            n_judged: 100,
            n_seen: 0,
            n_contradicted: 3,
            suspects: vec![SuspectLabel {
                path: "e.png".into(),
                group: Some("7".into()),
                label: "3 三".into(),
                suggested: "2 二".into(),
                margin: -0.98765,
            }],
            shifted: Vec::new(),
        }),
        cropped: CroppedImages { n: 80, lost: 8 },
        crops: vec![
            CropLoss { label: "2".into(), display: "二".into(), n: 40, lost: 2 },
            CropLoss { label: "3".into(), display: "三".into(), n: 40, lost: 6 },
            CropLoss { label: "4".into(), display: "四".into(), n: 0, lost: 0 },
        ],
    }
}

#[test]
fn findings_read_as_text() {
    expect![[r#"
        Training and validation
          By `random`, 80 images train and 20 judge. 5 of 5 writers are on both sides: the score says little about a new one (`--split group`).

        Damaged files
          1 file cannot be used; `--skip-damaged` leaves it out.
          what     finding
          cut.png  ends early

        Odd images
          25 are unlike nearly all others.
          what    finding
          0.png   shows nothing
          1.png   shows nothing
          2.png   shows nothing
          3.png   shows nothing
          4.png   shows nothing
          5.png   shows nothing
          6.png   shows nothing
          7.png   shows nothing
          8.png   shows nothing
          9.png   shows nothing
          10.png  shows nothing
          11.png  shows nothing
          12.png  shows nothing
          13.png  shows nothing
          14.png  shows nothing
          15.png  shows nothing
          16.png  shows nothing
          17.png  shows nothing
          18.png  shows nothing
          19.png  shows nothing
          and 5 more

        Copies
          2 sets of images show the same, 1 of them pixel for pixel; in 1 some train and others judge, which flatters the score, and in 1 the labels differ.
          images (label, part)                      how near
          c.png (3 三, train)  d.png (2 二, val)    0.051 apart  labels differ, on both sides
          a.png (3 三, train)  b.png (3 三, train)  equal

        Suspicious labels
          Of 100 images, judged by 5 folds that did not train on them, 3 have a label that the model would not have given. Those come first, with a margin below 0; then those of whose label it was not sure. A hard image stands here beside a wrong label: look at them, from the top.
          image  group  label  model  margin
          e.png  7      3 三   2 二   -0.988

        Shifted labels
          None of the writers has several classes that are mostly taken for others.

        What the augmentation cuts off
          In one epoch of this augmentation, 8 of 80 training images (10.00 %) lose at least 25 % of their ink, and with it perhaps what their label says.
          class  images  cut    share
          3 三       40    6  15.00 %
          2 二       40    2   5.00 %

    "#]].assert_eq(&audit().text());
}

#[test]
fn nothing_found_is_said() {
    let clean = Audit {
        n_groups: 0,
        groups_shared: 0,
        damaged: Vec::new(),
        odd: Vec::new(),
        copies: Vec::new(),
        labels: None,
        cropped: CroppedImages::default(),
        crops: Vec::new(),
        ..audit()
    };
    expect![[r#"
        Training and validation
          By `random`, 80 images train and 20 judge. Nobody knows which images belong together, so that nothing keeps them on one side.

        Damaged files
          Every file can be read.

        Odd images
          None is blank, inverted, or of a size, colour or kind of file of its own.

        Copies
          No two images are equal, or nearly so. A copy that was shifted, turned, mirrored, cut, made smaller, inverted, tinted, noisy, lighter or darker in its middle tones, or compressed anew at a JPEG quality below 75, is not found.

    "#]].assert_eq(&clean.text());
}

#[test]
fn the_page_has_every_finding_and_no_markup_from_data() {
    let pictures = AuditPictures { odd: Some(Picture::blank(4, 4)), ..AuditPictures::default() };
    let page = audit_page(&audit(), &pictures).unwrap();
    assert!(page.contains("toy &lt;1&gt;") && !page.contains("toy <1>"));
    for section in audit().sections() {
        assert!(page.contains(&format!("<section id=\"{}\">", section.id)), "{}", section.id);
        let words = section.finding.split('`').next().unwrap_or_default();
        assert!(page.contains(&crate::html::escape(words)), "{}", section.finding);
    }
    assert_eq!(page.matches("<img ").count(), 1);
    assert!(page.contains("alt=\"Odd images: images with captions\""));
    assert!(!page.contains("http:") && !page.contains("https:"), "a page asks nobody for anything");
}

#[test]
fn what_was_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.json");
    assert!(matches!(Audit::read(&path), Err(crate::Error::Missing { .. })));
    std::fs::write(&path, serde_json::to_vec_pretty(&audit()).unwrap()).unwrap();
    assert_eq!(Audit::read(&path).unwrap(), audit());
    std::fs::write(&path, "{}").unwrap();
    assert!(Audit::read(&path).unwrap_err().to_string().contains("audit.json"));
}
