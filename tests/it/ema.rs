//! Runs that are judged by an average of their weights, and end when nothing gets better.

#[cfg(unix)]
use crate::resume::stop_at;
use crate::run::Place;
use serde_json::json;

const TRAIN: &str = "train --synthetic --limit 240 --image-size 32 --batch-size 16 --weights none --freeze-epochs 0";

#[cfg(unix)]
#[test]
fn a_stopped_run_goes_on_with_its_average_and_its_patience() {
    let place = Place::new();
    let train = format!("{TRAIN} --epochs 4 --ema 0.9 --patience 3 --checkpoint-every 1");
    let never = place.result(&format!("{train} --out never"));
    let ended = stop_at(&place, &format!("{train} --out stopped"), "stopped/checkpoints/best.safetensors", "-INT");
    assert_eq!(ended.code, 130, "{}", ended.snapshot());
    for other in ["--ema 0.8", "--patience 2"] {
        let refused = place.line(&format!("train --resume stopped {other}"));
        assert!(refused.code == 1 && refused.stderr.contains("something else:\n  "), "{}", refused.snapshot());
    }
    let forced = place.line("train --resume stopped --ema 0.8 --force");
    assert!(forced.code == 1 && forced.stderr.contains("also by `--force`:\n  ema: 0.9, now 0.8"), "{}", forced.stderr);
    let resumed = place.result("train --resume stopped --threads 1");
    assert_eq!(resumed["weights_sha256"], never["weights_sha256"]);
    assert_eq!(place.read("stopped/predictions.csv"), place.read("never/predictions.csv"));

    let plain = place.result(&format!("{TRAIN} --epochs 4 --out plain"));
    assert_ne!(plain["weights_sha256"], never["weights_sha256"]);
    // What trains is the same; what is judged is not.
    let last = |run: &str| {
        cn_learn::Checkpoint::read(&place.path(&format!("{run}/checkpoints/last.safetensors"))).expect("whole")
    };
    let hash = |tensors: &[(String, candle_core::Tensor)]| cn_zoo::weights_sha256(tensors).expect("hashed");
    let (averaged, plain) = (last("stopped"), last("plain"));
    assert_eq!(hash(averaged.weights().tensors()), hash(plain.weights().tensors()));
    let average = averaged.average().expect("there is one").tensors();
    assert_eq!(json!(hash(average)), never["weights_sha256"]);

    assert_eq!(place.line("verify stopped").code, 0);
    let judged = place.result("evaluate stopped");
    assert_eq!(judged["exact_match"], never["val"]["exact_match"]);
    std::fs::remove_file(place.path("stopped/model.safetensors")).expect("removed");
    let again = place.result("train --resume stopped");
    assert_eq!(again["weights_sha256"], never["weights_sha256"]);
    let reproduced = place.line("reproduce never");
    assert!(reproduced.code == 0 && reproduced.stdout.contains("the same bytes"), "{}", reproduced.snapshot());
}

#[test]
fn a_run_that_gets_no_better_ends_early_and_says_so() {
    let place = Place::new();
    // With such a rate nothing gets better for long.
    let line = format!("{TRAIN} --epochs 30 --lr 0.3 --patience 1 --out run");
    let ended = place.line(&line);
    assert_eq!(ended.code, 0, "{}", ended.snapshot());
    let lines = cn_report::EpochRecord::read_all(place.path("run/metrics.jsonl")).expect("readable");
    let said = format!("early     {} of 30 epochs: in 1 epoch in a row, the validation loss was no lower", lines.len());
    assert!(lines.len() < 30 && ended.stdout.contains(&said), "{}", ended.snapshot());
    let losses: Vec<f64> = lines.iter().map(|epoch| epoch.val_loss.expect("validated")).collect();
    let [better @ .., last] = losses.as_slice() else { panic!("no epochs") };
    assert!(better.windows(2).all(|pair| pair[1] < pair[0]) && better.last() <= Some(last), "{losses:?}");
    assert_eq!(place.line("verify run").code, 0);
    assert_eq!(place.line("train --resume run").code, 0, "it is finished");
}

#[test]
fn decays_and_patience_that_cannot_be_are_refused() {
    let place = Place::new();
    for (flags, text) in [
        ("--ema 1", "`--ema 1.0` is no decay, expected a number between 0 and 1"),
        ("--ema nan", "`--ema NaN` is no decay"),
        ("--ema -0.5", "`--ema -0.5` is no decay"),
        ("--patience 0", "`--patience 0` is no number of epochs\n\nhint: leave it out"),
        ("--validate-every 0", "`--validate-every 0` is no number of epochs"),
    ] {
        let refused = place.line(&format!("{TRAIN} --epochs 1 {flags} --out run"));
        assert!(refused.code == 2 && refused.stderr.contains(text), "{flags}: {}", refused.snapshot());
        assert!(!place.path("run").exists());
    }
}
