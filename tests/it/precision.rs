//! Products of bfloat16, and processors without them.

use crate::run::{Ended, Place};

const FLAGS: &str = "--image-size 32 --batch-size 8 --epochs 1 --no-cache";

#[test]
fn bf16_is_recorded_and_judged_as_it_was_trained() {
    let place = Place::new();
    let trained = place.folders(20).result(&format!("train {FLAGS} --data images --precision bf16 --out run"));
    // Whether or not this processor has such products, the record says what was computed.
    let config = place.read("run/config.toml");
    let is_bf16 = cn_ops::Precision::Bf16.is_supported();
    assert_eq!(config.contains("precision = \"bf16\""), is_bf16, "{config}");
    assert_eq!(place.json("run/model.json").get("precision").is_some(), is_bf16);
    let judged = place.result("evaluate run --no-cache");
    let loss = |value: &serde_json::Value| value.as_f64().expect("a number");
    assert!((loss(&judged["loss"]) - loss(&trained["val"]["loss"])).abs() < 1e-6, "{judged} {trained}");

    let single = place.result(&format!("train {FLAGS} --data images --out f32"));
    let off = (loss(&single["val"]["loss"]) - loss(&trained["val"]["loss"])).abs();
    assert!(off < 0.1, "f32 {single}, bf16 {trained}");
    assert_eq!(off > 0.0, is_bf16, "the products differ where there are others");
}

#[test]
fn without_bf16_a_word_and_f32() {
    let place = Place::new();
    let args = format!("train {FLAGS} --data images --precision bf16 --out run");
    let mut command = place.folders(20).command(&args.split(' ').collect::<Vec<_>>());
    command.env("CN_ISA", "portable");
    let ended = Ended::of(command);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("no products of bf16 here (portable without AVX512-BF16)"), "{}", ended.stderr);
    assert!(place.read("run/config.toml").contains("precision = \"f32\""));
}

#[test]
fn what_gpus_alone_have_is_refused_with_a_way_out() {
    let place = Place::new();
    let args = format!("train {FLAGS} --data images --precision tf32 --out run");
    let ended = Ended::of(place.folders(20).command(&args.split(' ').collect::<Vec<_>>()));
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("the precision `tf32` is one of GPUs, and the device is `"), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: use `--device cuda`, or `--precision f32`"), "{}", ended.stderr);
    assert!(!place.path("run").exists());
}
