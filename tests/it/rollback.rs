//! Runs that go on in another way: thrown back by numbers that are none, or with what is decided anew.

#[cfg(unix)]
use crate::resume::stop_at;
use crate::run::Place;

/// The command of a run whose second phase breaks the weights, in its third epoch.
fn diverging(place: &Place) -> &'static str {
    let phases = "[[phase]]\nepochs = 2\nfrozen = true\nlr = 1e-3\n[[phase]]\nepochs = 1\nfrozen = false\nlr = 1e4\n";
    place.write("c.toml", format!("image_size = 32\nbatch_size = 16\n{phases}"));
    "train --config c.toml --synthetic --limit 150 --weights none --checkpoint-every 1"
}

#[cfg(unix)]
#[test]
fn a_run_that_is_thrown_back_ends_the_same_wherever_it_was_stopped() {
    let place = Place::new();
    let train = format!("{} --on-nan rollback", diverging(&place));
    let never = place.line(&format!("{train} --out never --json"));
    assert!(never.code == 0 && never.stderr.contains("; back to step "), "{}", never.snapshot());
    let ended = stop_at(&place, &format!("{train} --out stopped"), "stopped/checkpoints/epoch.safetensors", "-INT");
    assert_eq!(ended.code, 130, "{}", ended.snapshot());
    // As if it had been killed before the last whole epoch had its own name.
    let epoch = place.path("stopped/checkpoints/epoch.safetensors");
    let last = place.path("stopped/checkpoints/last.safetensors");
    if cn_learn::Checkpoint::read(&last).expect("whole").is_whole_epoch() {
        std::fs::remove_file(epoch).expect("removed");
    }
    let resumed = place.result("train --resume stopped");
    assert_eq!(resumed["weights_sha256"], never.result()["weights_sha256"]);
    let epochs = |run: &str| {
        let records = cn_report::EpochRecord::read_all(place.path(run).join("metrics.jsonl")).expect("readable");
        records.into_iter().map(|r| (r.epoch, r.step, r.train_loss.to_bits(), r.lr)).collect::<Vec<_>>()
    };
    assert_eq!(epochs("stopped"), epochs("never"));
    for run in ["stopped", "never"] {
        assert_eq!(place.line(&format!("verify {run}")).code, 0, "{run}");
    }
    // Where the epoch's own checkpoint is damaged, that is found, and another name of it is used.
    let epoch = place.path("never/checkpoints/epoch.safetensors");
    std::fs::remove_file(&epoch).expect("removed");
    std::fs::write(&epoch, "junk").expect("written");
    let verified = place.line("verify never");
    assert!(verified.code == 1 && verified.stdout.contains("last epoch's"), "{}", verified.snapshot());
    let folder = cn_learn::CheckpointFolder::new(place.path("never/checkpoints"));
    let found = folder.epoch_where(|_| true).expect("the last one is of that epoch");
    assert!(found.damage.is_some() && found.path == folder.last());
}

#[test]
fn a_second_way_back_is_found_under_any_name() {
    let place = Place::new();
    // Squares of such weights are infinite, also at an eighth of the rate.
    let phases = "[[phase]]\nepochs = 1\nfrozen = true\nlr = 1e-3\n[[phase]]\nepochs = 1\nfrozen = false\nlr = 1e24\n";
    place.write("c.toml", format!("image_size = 32\nbatch_size = 16\n{phases}"));
    let train = "train --config c.toml --synthetic --limit 150 --weights none --checkpoint-every 1";
    for (run, junk) in [("lost", None), ("damaged", Some("junk"))] {
        let ended = place.line(&format!("{train} --out {run}"));
        assert_eq!(ended.code, 1, "{}", ended.snapshot());
        // The end of the epoch is left under the best one's name alone.
        let folder = cn_learn::CheckpointFolder::new(place.path(run).join("checkpoints"));
        let read = |path: std::path::PathBuf| cn_learn::Checkpoint::read(&path).expect("whole");
        let (best, last) = (read(folder.best()), read(folder.last()));
        assert!(best.is_whole_epoch() && best.position().epochs_done == 1 && !last.is_whole_epoch());
        std::fs::remove_file(folder.previous()).expect("removed");
        if let Some(junk) = junk {
            std::fs::write(folder.epoch(), junk).expect("written");
        }
        let refused = place.line(&format!("train --resume {run} --on-nan rollback"));
        let back = |step: u64, scale: &str| format!("; back to step {step}, with {scale} of the learning rates\n");
        let steps = best.position().steps_done;
        let all = [back(steps, "0.5"), back(0, "0.25"), back(steps, "0.125")];
        for part in all.iter().map(String::as_str).chain([", also with an eighth of the learning rates\n"]) {
            assert!(refused.code == 1 && refused.stderr.contains(part), "{part}{}", refused.snapshot());
        }
        let warned = refused.stderr.contains("; another one of that epoch is used\n");
        assert_eq!(warned, junk.is_some(), "{}", refused.snapshot());
    }
}

#[test]
fn a_run_goes_back_to_its_last_epoch_or_says_that_it_cannot() {
    let place = Place::new();
    let train = diverging(&place);
    let ended = place.line(&format!("{train} --out run"));
    assert_eq!(ended.code, 1, "{}", ended.snapshot());
    // Nothing of the end of the second epoch is left.
    let folder = cn_learn::CheckpointFolder::new(place.path("run/checkpoints"));
    let last = cn_learn::Checkpoint::read(&folder.last()).expect("whole");
    assert!(!last.is_whole_epoch() && last.position().epochs_done == 2);
    for path in [folder.previous(), folder.best()] {
        let _ = std::fs::remove_file(path);
    }
    for junk in [None, Some("junk")] {
        if let Some(junk) = junk {
            std::fs::write(folder.epoch(), junk).expect("written");
        }
        let refused = place.line("train --resume run --on-nan rollback");
        assert_eq!(refused.code, 1, "{}", refused.snapshot());
        for part in [
            "; there is no checkpoint of the epoch before it to go back to\ncause: ",
            "`run/checkpoints/epoch.safetensors`",
            "hint: restore",
        ] {
            assert!(refused.stderr.contains(part), "{}", refused.snapshot());
        }
        assert!(folder.last().exists() && !place.path("run/summary.json").exists());
    }
}

#[test]
fn what_is_decided_anew_is_kept_and_not_repeated() {
    let place = Place::new();
    let train = "train --synthetic --limit 180 --image-size 32 --batch-size 32 --epochs 2 --freeze-epochs 0";
    place.result(&format!("{train} --out run"));
    place.cut("run");
    let resumed = place.line("train --resume run --validate-every 2");
    assert!(resumed.stdout.contains("decided anew:\n  validate_every: 1, now 2\n"), "{}", resumed.snapshot());
    let refused = place.line("reproduce run");
    assert_eq!(refused.code, 1, "{}", refused.snapshot());
    assert!(refused.stderr.contains("cannot be repeated:\n  validate_every: 1, now 2\n"), "{}", refused.stderr);

    // Also where no checkpoint was written yet.
    place.result(&format!("{train} --out early"));
    place.cut("early");
    std::fs::remove_dir_all(place.path("early/checkpoints")).expect("removed");
    place.result("train --resume early --on-nan skip");
    let refused = place.line("reproduce early");
    assert!(
        refused.code == 1 && refused.stderr.contains("  on_nan: \"stop\", now \"skip\"\n"),
        "{}",
        refused.snapshot()
    );
}
