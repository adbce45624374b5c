//! Numbers that go wrong while a run trains.

use crate::run::Place;

const TRAIN: &str =
    "train --synthetic --limit 300 --weights none --image-size 32 --batch-size 16 --epochs 1 --freeze-epochs 0";

#[test]
fn a_rate_that_breaks_the_weights_is_told_with_step_layer_and_images() {
    let place = Place::new();
    let ways =
        [("stop", 0, ""), ("skip", 10, ", as in the steps before it"), ("rollback", 3, ", also with an eighth of")];
    for (way, n_warnings, tried) in ways {
        let ended = place.line(&format!("{TRAIN} --lr 1e30 --on-nan {way} --out {way}"));
        assert_eq!(ended.code, 1, "{}", ended.snapshot());
        let error = ended.stderr.lines().find(|line| line.starts_with("error: ")).expect("an error");
        assert!(error.starts_with("error: step "), "{error}");
        assert!(error.contains(tried), "{way}: {error}");
        // Drawings are called after writer, page and character.
        let named = error.split("is not finite for the images `").nth(1).and_then(|rest| rest.split('`').next());
        assert_eq!(named.map(|name| name.split('_').count()), Some(3), "{way}: {error}");
        assert!(ended.stderr.contains("lower the learning rate"), "{}", ended.stderr);
        assert!(!place.path(&format!("{way}/summary.json")).exists());
        let warnings = ended.stderr.lines().filter(|line| line.starts_with("warning: ")).count();
        assert_eq!(warnings, n_warnings, "{}", ended.stderr);
    }
}

#[test]
fn two_checkpoints_are_kept_and_every_number_in_them_is_finite() {
    let place = Place::new();
    // Gradients that are finite, and whose squares are not.
    let ended = place.line(&format!("{TRAIN} --lr 1e6 --checkpoint-every 1 --out run"));
    assert_eq!(ended.code, 1, "{}", ended.snapshot());
    let [last, previous] = ["last", "previous"].map(|name| {
        let path = place.path(&format!("run/checkpoints/{name}.safetensors"));
        let tensors = candle_core::safetensors::load(&path, &candle_core::Device::Cpu).expect("readable");
        for (name, tensor) in tensors.iter().filter(|(_, tensor)| tensor.dtype() == candle_core::DType::F32) {
            let values: Vec<f32> = tensor.flatten_all().and_then(|t| t.to_vec1()).expect("floats");
            assert!(values.iter().all(|value| value.is_finite()), "{name} in {}", path.display());
        }
        std::fs::read(path).expect("readable")
    });
    assert!(last != previous, "one step twice");
}

#[test]
fn a_rate_that_is_too_high_is_halved_until_it_trains() {
    let place = Place::new();
    let ended = place.line(&format!("{TRAIN} --lr 4096 --on-nan rollback --out rolled"));
    assert_eq!(ended.code, 0, "{}", ended.snapshot());
    let warning = ended.stderr.lines().rfind(|line| line.starts_with("warning: ")).expect("it was too high");
    let scale = warning.split(" with ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a share");
    let scale: f64 = scale.parse().expect(scale);
    assert!(scale < 1.0 && warning.contains("; back to step 0, with "), "{warning}");

    // No epoch was done, so it is the run with those rates from the start.
    let plain = place.result(&format!("{TRAIN} --lr {} --out plain", 4096.0 * scale));
    assert_eq!(place.json("rolled/summary.json")["weights_sha256"], plain["weights_sha256"]);
}

#[test]
fn what_to_do_can_be_decided_when_a_run_goes_on() {
    let place = Place::new();
    let stopped = place.line(&format!("{TRAIN} --lr 4096 --out run"));
    assert_eq!(stopped.code, 1, "{}", stopped.snapshot());
    assert!(stopped.stderr.contains("`cn-train train --resume run --on-nan skip`"), "{}", stopped.stderr);
    let again = place.line("train --resume run");
    // Behind lines of progress, which a slow machine shows.
    let error = |stderr: &str| stderr.split_once("error: ").map(|(_, error)| error.to_owned());
    assert_eq!(error(&again.stderr), error(&stopped.stderr), "the same step");
    let skipped = place.line("train --resume run --on-nan skip");
    assert!(skipped.stderr.contains(": left out\n"), "{}", skipped.stderr);
}

#[test]
fn a_model_that_answers_nothing_is_told_by_its_validation() {
    let place = Place::new();
    let ended = place.line(
        "train --synthetic --limit 90 --weights none --image-size 32 --batch-size 16 --epochs 1 --freeze-epochs 0 \
         --lr 1e30 --on-nan skip --out run",
    );
    assert_eq!(ended.code, 1, "{}", ended.snapshot());
    let error = ended.stderr.lines().find(|line| line.starts_with("error: ")).expect("an error");
    assert!(
        error.starts_with("error: step 3, in epoch 0: the validation loss is not finite for the images `"),
        "{error}"
    );
    assert!(!error.contains("left out"), "{error}");
    assert!(ended.stderr.contains("lower the learning rate"), "{}", ended.stderr);
    assert!(!place.path("run/checkpoints/last.safetensors").exists(), "nothing was worth keeping");
}

/// Activations whose variance is more than `f32` holds, while all of them are finite.
#[test]
fn running_statistics_that_overflow_end_the_run_and_are_never_saved() {
    let place = Place::new();
    let train = TRAIN.replace("--epochs 1", "--epochs 3");
    let ended = place.line(&format!("{train} --lr 500 --checkpoint-every 1 --out run"));
    assert_eq!(ended.code, 1, "{}", ended.snapshot());
    let error = ended.stderr.lines().find(|line| line.starts_with("error: ")).expect("an error");
    assert!(error.contains(": the running statistics `") && error.contains("running_var` are not finite"), "{error}");
    let step = error.strip_prefix("error: step ").and_then(|rest| rest.split(',').next());
    let step: u64 = step.and_then(|step| step.parse().ok()).expect(error);
    let last = cn_learn::Checkpoint::read(&place.path("run/checkpoints/last.safetensors")).expect("whole");
    assert_eq!(last.position().steps_done, step, "right before it");
    assert!(!place.path("run/summary.json").exists());

    let ended = place.line(&format!("{train} --lr 500 --on-nan rollback --out rolled --json"));
    assert_eq!(ended.code, 0, "{}", ended.snapshot());
    place.result("evaluate rolled");
}

#[test]
fn the_seconds_of_a_run_that_was_rolled_back_are_counted_once() {
    let place = Place::new();
    let begin = std::time::Instant::now();
    let train = TRAIN.replace("--epochs 1", "--epochs 3");
    let ended = place.line(&format!("{train} --lr 500 --on-nan rollback --checkpoint-every 1 --out run"));
    let wall = begin.elapsed().as_secs_f64();
    assert!(ended.code == 0 && ended.stderr.contains("; back to step "), "{}", ended.snapshot());
    let total = place.json("run/summary.json")["seconds"]["total"].as_f64().expect("a number");
    assert!(total <= wall, "{total} s in all of {wall} s");
}
