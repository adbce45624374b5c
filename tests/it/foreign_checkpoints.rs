//! Checkpoints that are not of the run in whose folder they lie.

use crate::resume::TRAIN;
use crate::run::Place;
use serde_json::{Map, Value};

/// `verify` names the last checkpoint of `run` as foreign, and the run ends with these weights without it.
fn is_passed_over(place: &Place, run: &str, weights: &Value) {
    let verified = place.line(&format!("verify {run}"));
    assert!(verified.code == 1 && verified.stdout.contains("is of another run"), "{}", verified.snapshot());
    let resumed = place.line(&format!("train --resume {run}"));
    assert_eq!(resumed.code, 0, "{}", resumed.snapshot());
    assert!(resumed.stderr.contains("is of another run; the one before it is used"), "{}", resumed.snapshot());
    assert_eq!(&place.json(&format!("{run}/summary.json"))["weights_sha256"], weights);
}

#[test]
fn a_checkpoint_of_another_run_is_passed_over() {
    let place = Place::new();
    for (seed, limit) in [(1, 240), (2, 256)] {
        let flags = TRAIN.replace("--limit 480", &format!("--limit {limit}"));
        place.result(&format!("{flags} --seed {seed} --out run{seed}"));
    }
    place.cut("run1");
    let [own, other] = ["run1", "run2"].map(|run| place.path(&format!("{run}/checkpoints/last.safetensors")));
    std::fs::copy(other, own).expect("copied");
    let resumed = place.line("train --resume run1");
    assert_eq!(resumed.code, 0, "{}", resumed.snapshot());
    let warning = "checkpoints/last.safetensors` is of another run; the one before it is used";
    assert!(resumed.stderr.contains(warning), "{}", resumed.snapshot());
    let verified = place.line("verify run1");
    assert_eq!(verified.code, 0, "{}", verified.snapshot());
}

#[test]
fn a_checkpoint_of_a_sibling_is_passed_over() {
    let place = Place::new();
    let train = TRAIN.replace("--limit 480", "--limit 240");
    place.result(&format!("{train} --out own"));
    for (flag, other, name) in [("--lr 2e-3", "--lr 1e-2", "rate"), ("--batch-size 16", "--batch-size 32", "batch")] {
        place.result(&format!("{} --out {name}", train.replace(flag, other)));
        let other = std::fs::read(place.path(&format!("{name}/checkpoints/last.safetensors"))).expect("a checkpoint");
        let weights = place.json("own/summary.json")["weights_sha256"].clone();
        place.cut("own");
        place.write("own/checkpoints/last.safetensors", other);
        is_passed_over(&place, "own", &weights);
    }
}

#[test]
fn a_checkpoint_that_contradicts_its_run_is_passed_over() {
    let place = Place::new();
    place.result(&format!("{} --out run", TRAIN.replace("--limit 480", "--limit 240")));
    let weights = place.json("run/summary.json")["weights_sha256"].clone();
    // Another rate of the first step, and epochs that nothing is told of, behind a checksum that is right.
    for key in [&br#"\"div\":"#[..], br#"\"epochs_done\":"#] {
        place.cut("run");
        let mut bytes = std::fs::read(place.path("run/checkpoints/previous.safetensors")).expect("a checkpoint");
        let digit = bytes.windows(key.len()).position(|at| at == key).expect("the key") + key.len();
        assert!(bytes[digit].is_ascii_digit(), "{}", char::from(bytes[digit]));
        bytes[digit] = if bytes[digit] == b'7' { b'8' } else { b'7' };
        let end = bytes.len() - 32;
        let checksum = cn_data::Digest::of(&bytes[..end]);
        bytes[end..].copy_from_slice(checksum.as_bytes());
        place.write("run/checkpoints/last.safetensors", bytes);
        is_passed_over(&place, "run", &weights);
    }
}

#[test]
fn a_record_of_more_numbers_than_a_table_holds_is_refused() {
    let place = Place::new();
    place.result(&format!("{} --out run", TRAIN.replace("--limit 480", "--limit 240")));
    place.cut("run");
    let bytes = std::fs::read(place.path("run/checkpoints/previous.safetensors")).expect("a checkpoint");
    let (length, rest) = bytes.split_first_chunk::<8>().expect("a length");
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: Value = serde_json::from_slice(header).expect("JSON");
    let record = &mut header["__metadata__"]["cn-learn"];
    let mut inside: Value = serde_json::from_str(record.as_str().expect("a text")).expect("JSON");
    let metrics = &mut inside["handlers"]["recorder"]["records"][0]["metrics"];
    assert!(metrics.is_object(), "{metrics}");
    *metrics = (0..100_000).map(|name| (format!("m{name}"), 1.into())).collect::<Map<_, _>>().into();
    *record = inside.to_string().into();
    let header = serde_json::to_vec(&header).expect("JSON");
    let mut bytes = [&(header.len() as u64).to_le_bytes()[..], &header, &data[..data.len() - 32]].concat();
    bytes.extend_from_slice(cn_data::Digest::of(&bytes).as_bytes());
    place.write("run/checkpoints/last.safetensors", bytes);
    let resumed = place.line("train --resume run");
    let refusal = "columns of numbers, and at most 1000 are read";
    assert!(resumed.code == 1 && resumed.stderr.contains(refusal), "{}", resumed.snapshot());
    assert!(resumed.stderr.contains("hint: "), "{}", resumed.snapshot());
}
