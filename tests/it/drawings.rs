//! Drawings of any pen, size, place and polarity, read by the built-in weights.

use crate::run::Place;
use image::{GrayImage, Luma};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Labels, and lines through points on a square of 100, one a stroke: drawn for this test, with straight lines and a round pen.
const STROKES: [(&str, &str); 15] = [
    (
        "0",
        "24,8 76,7; 12,20 10,36; 12,20 88,18 84,32; 50,8 50,42; 26,26 38,29; 24,36 36,38; 62,28 74,26; 62,38 74,36; \
         50,42 32,56 8,66; 50,44 66,56 92,66; 44,58 54,62; 28,72 70,70 54,84; 40,82 56,94",
    ),
    ("1", "8,50 92,48"),
    ("2", "22,28 78,26; 8,80 92,78"),
    ("3", "20,18 80,16; 26,50 74,48; 8,84 92,82"),
    ("4", "12,22 14,84; 12,22 88,20 85,84; 38,24 34,46 24,60; 60,22 60,50 66,56 80,55; 14,80 85,80"),
    ("5", "20,18 82,16; 48,18 38,84; 26,48 74,46 70,84; 6,86 94,84"),
    ("6", "48,6 54,22; 8,36 92,34; 36,50 28,70 12,90; 62,50 74,68 88,88"),
    ("7", "8,48 92,36; 46,8 46,74 54,86 84,86 88,72"),
    ("8", "38,20 32,50 10,86; 56,16 66,48 92,84"),
    ("9", "42,8 40,36 30,66 10,88; 16,36 66,32 64,74 72,86 90,84 92,70"),
    ("10", "8,46 92,44; 50,8 50,92"),
    ("100", "10,14 90,12; 48,14 40,32; 22,34 23,90; 22,34 78,33 77,90; 23,60 77,59; 23,86 77,86"),
    ("1000", "72,10 50,18 24,24; 6,48 94,46; 50,20 50,94"),
    ("10000", "8,20 92,18; 44,20 40,54 28,76 10,92; 42,44 78,43 74,84 64,88 56,82"),
    ("100000000", "32,8 24,30 8,52; 22,34 22,92; 42,22 86,20 60,48 44,72 46,84 56,88 84,88 90,74"),
];

/// How a drawing is made: the canvas, the square that the character fills, the pen, ink and paper.
struct Sheet {
    canvas: (u32, u32),
    corner: (f32, f32),
    side: f32,
    pen: f32,
    ink: u8,
    paper: u8,
}

const THIN: [Sheet; 3] = [
    Sheet { canvas: (640, 480), corner: (300.0, 60.0), side: 260.0, pen: 4.0, ink: 0, paper: 255 },
    Sheet { canvas: (200, 200), corner: (10.0, 90.0), side: 100.0, pen: 2.5, ink: 255, paper: 0 },
    Sheet { canvas: (1200, 900), corner: (100.0, 40.0), side: 800.0, pen: 14.0, ink: 120, paper: 230 },
];
const THICK: [Sheet; 3] = [
    Sheet { canvas: (320, 240), corner: (60.0, 20.0), side: 180.0, pen: 15.0, ink: 0, paper: 255 },
    Sheet { canvas: (100, 140), corner: (15.0, 50.0), side: 70.0, pen: 6.0, ink: 240, paper: 20 },
    Sheet { canvas: (900, 900), corner: (30.0, 330.0), side: 500.0, pen: 45.0, ink: 40, paper: 200 },
];

fn points(stroke: &str) -> Vec<(f32, f32)> {
    let number = |text: &str| text.trim().parse().expect("a number");
    let point = |text: &str| text.split_once(',').map(|(x, y)| (number(x), number(y))).expect("two numbers");
    stroke.split_whitespace().map(point).collect()
}

/// How far `p` is from the line between `a` and `b`.
fn distance(p: (f32, f32), a: (f32, f32), b: (f32, f32)) -> f32 {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let t = (((p.0 - a.0) * dx + (p.1 - a.1) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
    (p.0 - a.0 - t * dx).hypot(p.1 - a.1 - t * dy)
}

fn draw(strokes: &str, sheet: &Sheet) -> GrayImage {
    let place = |(x, y): (f32, f32)| (sheet.corner.0 + x / 100.0 * sheet.side, sheet.corner.1 + y / 100.0 * sheet.side);
    let lines: Vec<Vec<(f32, f32)>> =
        strokes.split(';').map(|stroke| points(stroke).into_iter().map(place).collect()).collect();
    GrayImage::from_fn(sheet.canvas.0, sheet.canvas.1, |x, y| {
        let p = (x as f32 + 0.5, y as f32 + 0.5);
        let near = lines.iter().flat_map(|line| line.windows(2)).any(|l| distance(p, l[0], l[1]) <= sheet.pen / 2.0);
        Luma([if near { sheet.ink } else { sheet.paper }])
    })
}

/// Writes thirty drawings, has them read, and tells those that were read wrong.
fn misread(place: &Place, model: &str) -> Vec<String> {
    std::fs::create_dir_all(place.path("drawings")).expect("made");
    let mut expected = BTreeMap::new();
    for (i, (label, strokes)) in STROKES.into_iter().enumerate() {
        for (pen, sheets) in [("thin", &THIN), ("thick", &THICK)] {
            let name = format!("drawings/{i:02}-{pen}.png");
            draw(strokes, &sheets[i % sheets.len()]).save(place.path(&name)).expect("written");
            expected.insert(name, label);
        }
    }
    let ended = place.line(&format!("predict {model} drawings --json"));
    assert_eq!(ended.code, 0, "{}", ended.snapshot());
    let said: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(said.len(), 30);
    let is_wrong = |said: &&Value| said["labels"] != json!([expected[said["path"].as_str().expect("a path")]]);
    said.iter().filter(is_wrong).map(Value::to_string).collect()
}

#[test]
fn thirty_drawings_are_read() {
    let wrong = misread(&Place::new(), "glyphs");
    assert!(wrong.is_empty(), "{} of 30 wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_run_reads_drawings_that_look_like_none_of_its_images() {
    let place = Place::new();
    // A rate that changes next to nothing: what is tried is how drawings are shown to it.
    let tuned = "--weights glyphs --epochs 1 --freeze-epochs 0 --lr 1e-6 --batch-size 32 --image-size 64";
    let trained = place.result(&format!("train --synthetic --limit 300 {tuned} --out run"));
    assert_eq!(place.json("run/model.json")["ground"], "dark");
    assert!(trained["val"]["exact_match"].as_f64().is_some_and(|exact| exact > 0.9), "{trained}");
    let wrong = misread(&place, "run");
    assert!(wrong.len() <= 1, "{} of 30 wrong:\n{}", wrong.len(), wrong.join("\n"));
    // Its own kind of images it sees as they are.
    place.result("synth --out drawn --writers 10 --samples 1");
    let judged = place.result("evaluate run --data drawn --split all --no-cache");
    let ended = place.line("predict run drawn --json");
    let rows: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let right = rows.iter().filter(|row| {
        let path = row["path"].as_str().expect("a path");
        let code: usize = path.rsplit('_').next().and_then(|end| end.split('.').next()?.parse().ok()).expect("a code");
        row["labels"] == json!([CODES[code - 1]])
    });
    let (right, exact) = (right.count() as f64 / rows.len() as f64, judged["exact_match"].as_f64().expect("a number"));
    assert!((right - exact).abs() < 0.02, "{right} predicted, {exact} judged");
}

/// Labels by the code in a file's name.
const CODES: [&str; 15] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "100", "1000", "10000", "100000000"];

#[test]
fn what_has_no_ink_has_no_label_and_faint_or_coloured_ink_has() {
    let place = Place::new();
    for (name, level) in [("black", 0), ("grey", 128), ("white", 255)] {
        GrayImage::from_pixel(64, 48, Luma([level])).save(place.path(&format!("{name}.png"))).expect("written");
    }
    let ended = place.line("predict glyphs black.png grey.png white.png");
    assert_eq!((ended.code, ended.stdout.matches("none (there is no ink)").count()), (0, 3), "{}", ended.snapshot());
    let said = place.result("predict glyphs black.png");
    assert_eq!((&said["labels"], &said["probabilities"]), (&json!([]), &Value::Null));

    let sheet = Sheet { canvas: (120, 100), corner: (20.0, 10.0), side: 80.0, pen: 6.0, ink: 255, paper: 0 };
    let mask = draw(STROKES[11].1, &sheet);
    let painted = |ink: [u8; 4], paper: [u8; 4]| {
        image::RgbaImage::from_fn(120, 100, |x, y| image::Rgba(if mask.get_pixel(x, y).0[0] > 0 { ink } else { paper }))
    };
    for (name, ink, paper) in [
        ("faint", [240, 240, 240, 255], [255; 4]),
        ("dark-blue", [0, 0, 90, 255], [0, 0, 0, 255]),
        ("as-light", [255, 0, 0, 255], [0, 130, 0, 255]),
        ("white-on-nothing", [255; 4], [0; 4]),
        ("black-on-nothing", [0, 0, 0, 255], [0; 4]),
    ] {
        painted(ink, paper).save(place.path(&format!("{name}.png"))).expect("written");
        assert_eq!(place.result(&format!("predict glyphs {name}.png"))["labels"], json!(["100"]), "{name}");
    }
}

/// What a file says of the colours of grey shapes.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Grey,
    /// Three equal channels.
    Held,
    /// Three channels, of which two are darker.
    Coloured,
}

/// Shapes on black at one of two places, and images without any, written into folders by label.
fn shapes(place: &Place, folder: &str, (width, height): (u32, u32), form: Form) {
    for i in 0..45u32 {
        let (label, left) = [("left", Some(4)), ("right", Some(width / 2)), ("empty", None)][i as usize % 3];
        std::fs::create_dir_all(place.path(folder).join(label)).expect("made");
        let is_shape =
            |x: u32, y: u32| left.is_some_and(|left| x.wrapping_sub(left) < 20) && (5 + i % 5..30).contains(&y);
        let level = |x: u32, y: u32| if is_shape(x, y) { 100 + x + y } else { (x * y + i) % 6 };
        let share = if form == Form::Coloured { 2 } else { 1 };
        let pixel = |x, y| [level(x, y) as u8, (level(x, y) / share) as u8, (level(x, y) / share) as u8];
        let file = place.path(&format!("{folder}/{label}/{i}.png"));
        match form {
            Form::Grey => GrayImage::from_fn(width, height, |x, y| Luma([pixel(x, y)[0]])).save(file),
            _ => image::RgbImage::from_fn(width, height, |x, y| image::Rgb(pixel(x, y))).save(file),
        }
        .expect("written");
    }
}

#[test]
fn a_run_is_shown_images_as_it_learnt_them() {
    let place = Place::new();
    for (folder, size, form, is_framed) in [
        ("wide", (60, 40), Form::Grey, false),
        ("square", (64, 64), Form::Grey, true),
        ("large", (200, 200), Form::Grey, true),
        ("nearly-square", (50, 44), Form::Grey, true),
        ("held-as-colour", (64, 64), Form::Held, true),
        ("coloured", (64, 64), Form::Coloured, false),
    ] {
        shapes(&place, folder, size, form);
        let flags = "--image-size 32 --batch-size 8 --epochs 1 --weights none --no-cache";
        place.write("colour.toml", "channels = 3\n");
        let config = if form == Form::Grey { "" } else { "--config colour.toml" };
        place.result(&format!("train --data {folder} {flags} {config} --out on-{folder}"));
        let card = place.json(&format!("on-{folder}/model.json"));
        let ground = if form == Form::Coloured { Value::Null } else { json!("dark") };
        assert_eq!((&card["ground"], card["ink_fill"].is_number()), (&ground, is_framed), "{folder}");
        place.result(&format!("pack on-{folder} --out small-{folder}"));
        let packed = place.json(&format!("small-{folder}/model.json"));
        assert_eq!((&packed["ink_fill"], &packed["usual"]), (&card["ink_fill"], &card["usual"]), "{folder}");
        let table =
            cn_report::Predictions::read(place.path(&format!("on-{folder}/predictions.csv"))).expect("readable");
        for row in table.rows() {
            let said = place.result(&format!("predict on-{folder} {folder}/{}", row.path));
            for (class, &p) in table.classes().iter().zip(&row.probabilities) {
                let found = said["probabilities"][class].as_f64().expect("a probability");
                assert!((found - f64::from(p)).abs() < 1e-5, "{}: {found} for {class}, {p} in the table", row.path);
            }
        }
    }
}
