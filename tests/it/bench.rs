//! `bench`, alone and beside programs that answer as Python would.

use crate::cli::check;
use crate::run::Place;
use expect_test::expect;
use serde_json::Value;

const QUICK: &str = "bench --image-size 32 --batch-size 2 --steps 2 --precision f32";

fn number(line: &Value, key: &str) -> f64 {
    line[key].as_f64().unwrap_or_else(|| panic!("`{key}` is a number in {line}"))
}

#[test]
fn both_kinds_of_work_are_measured() {
    let ended = Place::new().line(&format!("{QUICK} --json"));
    assert_eq!(ended.code, 0, "{}", ended.snapshot());
    let lines: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let works: Vec<&str> = lines.iter().filter_map(|line| line["what"].as_str()).collect();
    assert_eq!(works, ["train", "infer"]);
    for line in &lines {
        assert!(number(line, "img_s") > 0.0 && number(line, "best_img_s") >= number(line, "img_s"), "{line}");
        assert!(number(line, "image_size") == 32.0 && number(line, "batch_size") == 2.0, "{line}");
    }
}

#[test]
fn layers_add_up_to_a_step() {
    let place = Place::new();
    let table = place.result(&format!("{QUICK} --layers"));
    let shares = table["shares_ms"].as_object().expect("shares");
    let sum: f64 = shares.values().filter_map(Value::as_f64).sum();
    assert!((sum / number(&table, "step_ms") - 1.0).abs() < 1e-6, "{table}");
    let layers = table["layers"].as_array().expect("layers");
    let stem = layers.iter().find(|layer| layer["name"] == "conv1").expect("the first convolution");
    assert_eq!(stem["output"], serde_json::json!([2, 16, 16, 64]));
    // 2 x 16 x 16 x 64 outputs of 3 x 7 x 7 products, two operations each.
    let operations = 2.0 * (2 * 16 * 16 * 64 * 3 * 7 * 7) as f64;
    let expected = operations / number(stem, "forward_ms") / 1e6;
    assert!((number(stem, "forward_gflops") / expected - 1.0).abs() < 1e-6, "{stem}");
    let text = place.line(&format!("{QUICK} --layers")).stdout;
    assert!(text.contains("layer4.1.conv2") && text.contains("convolutions"), "{text}");
}

#[cfg(unix)]
fn program(place: &Place, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    place.write(name, format!("#!/bin/sh\n{text}\n"));
    let path = place.path(name);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("made executable");
    path.to_str().expect("UTF-8").to_owned()
}

#[cfg(unix)]
#[test]
fn ratios_are_those_of_medians() {
    let place = Place::new();
    let python = program(
        &place,
        "python",
        r#"while read -r steps; do echo '{"seconds": [4.0, 0.5, 1.0, 0.5, 1.0], "peak_mib": 7}'; done"#,
    );
    let flags = format!("--only infer --against-torch {python} --against-onnxruntime {python}");
    let line = place.result(&format!("{QUICK} {flags}"));
    for name in ["torch", "onnxruntime"] {
        let key = |what: &str| number(&line, &format!("{name}_{what}"));
        assert!(key("img_s") == 2.0 && key("best_img_s") == 4.0 && key("peak_mib") == 7.0, "{line}");
        assert!((key("ratio") - number(&line, "img_s") / 2.0).abs() < 1e-9, "{line}");
    }
}

#[cfg(unix)]
#[test]
fn a_comparison_that_fails_is_no_success() {
    let place = Place::new();
    let answers = [
        ("ends", "exit 3", "it ended without an answer"),
        ("speaks", "read -r steps; echo no", "its answer is not the JSON of a measurement"),
        ("stands", r#"read -r steps; echo '{"seconds": [0.0], "peak_mib": 7}'"#, "its steps took [0.0] seconds"),
    ];
    for (name, text, cause) in answers {
        let python = program(&place, name, text);
        let ended = place.line(&format!("{QUICK} --only infer --against-torch {python}"));
        let said = ended.snapshot();
        assert!(ended.code == 1 && ended.stdout.contains("  cn ") && !ended.stdout.contains("torch"), "{said}");
        assert!(said.contains(cause) && said.contains("name a Python that has torch and torchvision"), "{said}");
    }
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let place = Place::new();
    let lines = [
        "bench --steps 0",
        "bench --layers --against-torch python",
        "bench --only train --against-onnxruntime python",
        "bench --precision f16",
    ];
    let expected = [
        expect![[r#"
        --- stderr
        error: `--steps 0` cannot be measured

        hint: use a number from 1 to 1000000
        --- exit 2
    "#]],
        expect![[r#"
        --- stderr
        error: `--layers` takes the steps of this program apart, not those of others

        hint: leave `--layers` or `--against-...` out
        --- exit 2
    "#]],
        expect![[r#"
        --- stderr
        error: `--against-onnxruntime` compares inference in f32, which the other flags leave out

        hint: leave out that flag, or `--only`, `--precision` or `--frozen`
        --- exit 2
    "#]],
        expect![[r#"
        --- stderr
        error: cannot measure the precision `f16`
        cause: `f16` is no precision, expected `f32` or `bf16`

        hint: use f32 or bf16
        --- exit 2
    "#]],
    ];
    for (line, expected) in lines.into_iter().zip(expected) {
        check(&place, line, expected);
    }
}

#[test]
fn what_cannot_be_measured_is_refused_with_a_reason() {
    let place = Place::new();
    let large = place.line("bench --only infer --image-size 4096 --batch-size 65536 --precision f32");
    assert_eq!(large.code, 1, "{}", large.snapshot());
    assert!(large.stderr.contains("batches of 65536 images of 4096 px need about "), "{}", large.stderr);
    let words = "bench --only infer --image-size 32 --batch-size 2 --steps 1 --precision bf16";
    let mut narrow = place.command(&words.split(' ').collect::<Vec<_>>());
    narrow.env("CN_ISA", "portable");
    let narrow = crate::run::Ended::of(narrow);
    assert_eq!(narrow.code, 1, "{}", narrow.snapshot());
    assert!(narrow.stderr.starts_with("error: no products of bf16 here (portable without"), "{}", narrow.stderr);
}
