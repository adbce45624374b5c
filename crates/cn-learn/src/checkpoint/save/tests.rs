use super::*;
use crate::Error;
use crate::testing::{bits, learner, two_phases};
use crate::{Learner, Outcome};
use cn_ops::Network;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn folder() -> (tempfile::TempDir, CheckpointFolder) {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = CheckpointFolder::new(dir.path().join("checkpoints"));
    (dir, folder)
}

/// The checkpoint in a file.
fn steps(path: &Path) -> u64 {
    Checkpoint::read(path).expect("whole").position().steps_done
}

/// Trains to the end and keeps checkpoints.
fn trained(save: SaveCheckpoints) -> Result<Learner<Network>> {
    let (mut learner, mut save) = (learner()?, save);
    assert_eq!(learner.fit(&two_phases(), &mut [&mut save])?, Outcome::Finished);
    Ok(learner)
}

#[test]
fn an_empty_folder_has_none() -> Result<()> {
    assert!(folder().1.newest()?.is_none());
    Ok(())
}

#[test]
fn the_last_two_are_kept_and_the_best() -> Result<()> {
    let (_dir, folder) = folder();
    let learner = trained(SaveCheckpoints::to(folder.clone()).with_extra("mine".into()))?;
    let newest = folder.newest()?.expect("written");
    assert!(newest.damage.is_none() && newest.checkpoint.is_finished());
    assert_eq!(newest.checkpoint.extra(), "mine");
    assert_eq!((steps(&folder.previous()), steps(&folder.last())), (6, 12));
    let losses: Vec<f64> = learner.history().iter().map(|record| record.val_loss).collect();
    assert_eq!(steps(&folder.best()), if losses[1] < losses[0] { 12 } else { 6 });
    Ok(())
}

#[test]
fn the_best_one_is_used_where_the_others_are_lost() -> Result<()> {
    let (_dir, folder) = folder();
    trained(SaveCheckpoints::to(folder.clone()).every(5))?;
    let best = steps(&folder.best());
    for path in [folder.last(), folder.previous()] {
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(path, "junk").expect("written");
    }
    let found = folder.newest()?.expect("one is whole");
    assert_eq!((found.checkpoint.position().steps_done, found.damage.is_some()), (best, true));
    Ok(())
}

#[test]
fn the_best_one_is_used_where_the_last_is_gone_and_the_one_before_damaged() -> Result<()> {
    let (_dir, folder) = folder();
    trained(SaveCheckpoints::to(folder.clone()).every(5))?;
    let best = Checkpoint::read(&folder.best())?;
    std::fs::remove_file(folder.last()).expect("removed");
    std::fs::remove_file(folder.previous()).expect("removed");
    std::fs::write(folder.previous(), "junk").expect("written");
    let found = folder.newest()?.expect("one is whole");
    assert_eq!(found.checkpoint.position().steps_done, best.position().steps_done);
    folder.set_damaged_aside()?;
    folder.write(&best)?;
    // What lies in the way twice, a folder the second time.
    std::fs::write(folder.last().with_file_name("damaged.safetensors"), "an older one").expect("written");
    std::fs::remove_file(folder.last()).expect("removed");
    std::fs::create_dir(folder.last()).expect("made");
    folder.set_damaged_aside()?;
    folder.write(&best)?;
    assert!(folder.newest()?.expect("written").damage.is_none());
    Ok(())
}

#[test]
fn names_that_a_checkpoint_lacks_are_given_when_its_run_goes_on() -> Result<()> {
    let (_dir, folder) = folder();
    let save = || SaveCheckpoints::to(folder.clone()).every(1).keeping_epochs();
    trained(save())?;
    let names = [folder.best(), folder.epoch()];
    assert_eq!(names.each_ref().map(|path| steps(path)), [12, 12], "the last epoch is the best");
    names.iter().for_each(|path| std::fs::remove_file(path).expect("removed"));
    let mut learner = learner()?;
    learner.restore(&Checkpoint::read(&folder.last())?)?;
    learner.resume(&mut [&mut save()])?;
    assert_eq!(names.each_ref().map(|path| steps(path)), [12, 12]);
    // A second time, nothing is left beside them.
    let mut learner = crate::testing::learner()?;
    learner.restore(&Checkpoint::read(&folder.last())?)?;
    learner.resume(&mut [&mut save()])?;
    let parent = folder.last().parent().expect("a folder").to_owned();
    assert_eq!(std::fs::read_dir(parent).expect("a folder").count(), 4);
    // Of a step, neither is made.
    names.iter().for_each(|path| std::fs::remove_file(path).expect("removed"));
    let mut learner = crate::testing::learner()?;
    learner.restore(&Checkpoint::read(&folder.previous())?)?;
    let mut save = save().stop_when(|| true);
    learner.resume(&mut [&mut save])?;
    assert!(!names.iter().any(|path| path.exists()));
    Ok(())
}

/// A disk that is slower than training, and counts.
fn slowly(folder: &CheckpointFolder, checkpoint: &Checkpoint, rank: Rank) -> Result<()> {
    std::thread::sleep(Duration::from_millis(300));
    let count = folder.last().with_file_name("count");
    let n = std::fs::read_to_string(&count).map_or(0, |text| text.len());
    crate::checkpoint::writer::write(folder, checkpoint, rank)?;
    std::fs::write(count, "x".repeat(n + 1)).expect("written");
    Ok(())
}

#[test]
fn a_slow_disk_holds_nothing_up_where_it_is_not_waited_for() -> Result<()> {
    let (_dir, waited_for) = folder();
    trained(SaveCheckpoints::to(waited_for.clone()).every(1))?;
    let (_dir, folder) = folder();
    let mut save = SaveCheckpoints::to(folder.clone()).every(1).never_waiting();
    save.writer = Writer::through(folder.clone(), slowly);
    let begin = Instant::now();
    let mut learner = learner()?;
    assert_eq!(learner.fit(&two_phases(), &mut [&mut save])?, Outcome::Finished);
    // Each of the twelve steps has one, and each epoch, of which the first may be the best and waited for.
    assert!(begin.elapsed() < Duration::from_millis(12 * 300), "{:?}", begin.elapsed());
    save.wait()?;
    assert_eq!((steps(&folder.last()), steps(&folder.best())), (12, steps(&waited_for.best())));
    let n = std::fs::read_to_string(folder.last().with_file_name("count")).expect("counted").len();
    assert!((2..10).contains(&n), "{n} of 14 were written");
    assert!(Checkpoint::read(&folder.last())?.is_finished());
    Ok(())
}

#[test]
fn a_stop_is_on_the_disk_when_the_fit_ends() -> Result<()> {
    let (_dir, folder) = folder();
    let (asked, n) = (Arc::new(AtomicU64::new(0)), 5);
    let mut save = SaveCheckpoints::to(folder.clone()).every(1).never_waiting();
    save = save.stop_when(move || asked.fetch_add(1, Ordering::Relaxed) >= n);
    save.writer = Writer::through(folder.clone(), slowly);
    let mut learner = learner()?;
    assert_eq!(learner.fit(&two_phases(), &mut [&mut save])?, Outcome::Stopped);
    assert_eq!(steps(&folder.last()), learner.position().steps_done);
    Ok(())
}

#[test]
fn what_could_not_be_written_is_told_by_whoever_waits() -> Result<()> {
    let (_dir, folder) = folder();
    let mut save = SaveCheckpoints::to(folder.clone()).never_waiting();
    save.writer = Writer::through(folder, |folder, _, _| {
        std::thread::sleep(Duration::from_millis(100));
        let (source, path) = (std::io::ErrorKind::StorageFull.into(), folder.last());
        Err(Error::CheckpointFile { action: "write", path, bytes: None, source })
    });
    let fitted = learner()?.fit(&two_phases(), &mut [&mut save]);
    let told = fitted.map(drop).and_then(|()| save.wait());
    assert!(matches!(told, Err(Error::CheckpointFile { action: "write", .. })), "{told:?}");
    Ok(())
}

#[test]
fn steps_between_epochs_are_written_on_demand() -> Result<()> {
    let (_dir, folder) = folder();
    trained(SaveCheckpoints::to(folder.clone()).every(5))?;
    assert_eq!((steps(&folder.previous()), steps(&folder.last())), (10, 12));
    Ok(())
}

#[test]
fn a_damaged_last_one_gives_the_one_before_and_says_so() -> Result<()> {
    let (_dir, folder) = folder();
    trained(SaveCheckpoints::to(folder.clone()))?;
    let mut bytes = std::fs::read(folder.last()).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(folder.last(), bytes).expect("written");
    let newest = folder.newest()?.expect("one is whole");
    assert_eq!(newest.checkpoint.position().steps_done, 6);
    assert!(matches!(newest.damage, Some(Error::CheckpointDamaged { .. })));

    std::fs::write(folder.previous(), "nothing").expect("written");
    let error = folder.newest().expect_err("both are damaged");
    assert!(error.to_string().contains("last.safetensors"), "{error}");
    Ok(())
}

#[test]
fn a_damaged_one_never_takes_the_place_of_a_good_one() -> Result<()> {
    let (_dir, folder) = folder();
    trained(SaveCheckpoints::to(folder.clone()))?;
    std::fs::write(folder.last(), "nothing").expect("written");
    let good = folder.newest()?.expect("one is whole").checkpoint;
    folder.set_damaged_aside()?;
    assert!(folder.newest()?.expect("still there").damage.is_none());
    folder.write(&good)?;
    assert_eq!((steps(&folder.previous()), steps(&folder.last())), (6, 6));
    Ok(())
}

#[cfg(unix)]
#[test]
fn a_write_that_fails_leaves_both() -> Result<()> {
    let (_dir, folder) = folder();
    trained(SaveCheckpoints::to(folder.clone()))?;
    let last = Checkpoint::read(&folder.last())?;
    // A folder has the name that is written to first.
    let temporary = folder.last().with_file_name(".last.safetensors.tmp");
    std::fs::create_dir(&temporary).expect("made");
    let error = folder.write(&last).expect_err("it cannot be written");
    assert!(error.to_string().contains("last.safetensors` of "), "{error}");
    assert_eq!((steps(&folder.previous()), steps(&folder.last())), (6, 12));
    Ok(())
}

#[test]
fn an_interval_writes_between_epochs() -> Result<()> {
    let (_dir, folder) = folder();
    trained(SaveCheckpoints::to(folder.clone()).at_least_every(Duration::ZERO))?;
    assert_eq!((steps(&folder.previous()), steps(&folder.last())), (12, 12), "the last step, and the epoch");
    std::fs::remove_dir_all(folder.last().parent().expect("a folder")).expect("removed");
    trained(SaveCheckpoints::to(folder.clone()).at_least_every(Duration::from_secs(3600)))?;
    assert_eq!((steps(&folder.previous()), steps(&folder.last())), (6, 12));
    Ok(())
}

/// Takes the place of the folder from the 3rd step on.
struct Breaks<'a>(&'a Path);

impl Handler for Breaks<'_> {
    fn name(&self) -> &'static str {
        "breaks"
    }

    fn on_step(&mut self, step: &mut Step<'_>) -> Result<Flow> {
        if step.position.steps_done == 3 {
            std::fs::write(self.0, "in the way").expect("written");
        }
        Ok(Flow::Continue)
    }
}

#[test]
fn a_write_that_fails_ends_the_fit_wherever_it_is_found() -> Result<()> {
    // Found at a later step or checkpoint, or where nothing follows, at the end.
    for every in [4, 100] {
        let (dir, folder) = folder();
        let mut save = SaveCheckpoints::to(folder.clone()).every(every);
        let path = dir.path().join("checkpoints");
        let plan = [crate::Phase::one_cycle(1, crate::Rates::Uniform(1e-3))];
        let error = learner()?.fit(&plan, &mut [&mut Breaks(&path), &mut save]).expect_err("no folder");
        assert!(matches!(error, Error::CheckpointFile { action: "write", .. }), "{error}");
    }
    Ok(())
}

#[test]
fn what_is_under_way_is_written_before_the_writer_is_gone() -> Result<()> {
    let (_dir, folder) = folder();
    let checkpoint = learner()?.checkpoint()?;
    let mut writer = Writer::new(folder.clone());
    writer.begin(checkpoint, Rank::Best)?;
    drop(writer);
    assert_eq!((steps(&folder.last()), steps(&folder.best())), (0, 0));
    Ok(())
}

#[test]
fn a_stop_is_written_and_goes_on_with_the_same_bits() -> Result<()> {
    let (_dir, folder) = folder();
    let asked = Arc::new(AtomicU64::new(0));
    let stop = move || asked.fetch_add(1, Ordering::Relaxed) >= 3;
    let mut first = learner()?;
    let mut save = SaveCheckpoints::to(folder.clone()).stop_when(stop);
    assert_eq!(first.fit(&two_phases(), &mut [&mut save])?, Outcome::Stopped);

    let stopped = folder.newest()?.expect("written").checkpoint;
    assert!(stopped.position().steps_done > 0 && !stopped.is_finished());
    let mut second = learner()?;
    second.restore(&stopped)?;
    let mut save = SaveCheckpoints::to(folder.clone());
    assert_eq!(second.resume(&mut [&mut save])?, Outcome::Finished);
    let mut whole = learner()?;
    whole.fit(&two_phases(), &mut [])?;
    assert_eq!(bits(&mut second)?, bits(&mut whole)?);
    assert_eq!(save.monitor.best(), second.history().iter().map(|r| r.val_loss).reduce(f64::min));
    Ok(())
}

#[test]
fn an_interrupted_step_is_taken_back_and_done_again() -> Result<()> {
    let mut whole = learner()?;
    whole.fit(&two_phases(), &mut [])?;
    // Each of these passes in turn ends somewhere in its middle: in forward, backward, validation.
    for passes in [1_u64, 8, 15, 40, 77, 101, 130] {
        let (_dir, folder) = folder();
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        let mut first = learner()?;
        first
            .model_mut()
            .set_interrupt(cn_ops::Interrupt::when(move || count.fetch_add(1, Ordering::Relaxed) >= passes));
        let stop = move || asked.load(Ordering::Relaxed) > passes;
        let mut save = SaveCheckpoints::to(folder.clone()).stop_when(stop);
        assert_eq!(first.fit(&two_phases(), &mut [&mut save])?, Outcome::Stopped, "{passes}");
        let mut second = learner()?;
        second.restore(&folder.newest()?.expect("written").checkpoint)?;
        assert_eq!(second.resume(&mut [&mut SaveCheckpoints::to(folder)])?, Outcome::Finished);
        assert_eq!(bits(&mut second)?, bits(&mut whole)?, "{passes}");
    }
    Ok(())
}

#[test]
fn what_is_written_after_the_best_epoch_does_not_take_its_place() -> Result<()> {
    let (_dir, folder) = folder();
    // Nothing after the first epoch is better by so much.
    let monitor = Monitor::new("val_loss").min_delta(100.0);
    trained(SaveCheckpoints::to(folder.clone()).every(5).best_by(monitor))?;
    assert_eq!((steps(&folder.best()), steps(&folder.last())), (6, 12));
    Ok(())
}

#[test]
fn before_a_step_that_is_not_finite_it_writes_unless_told_not_to() {
    let (_dir, folder) = folder();
    let wants = |mut save: SaveCheckpoints| {
        [Moment::Step, Moment::Epoch, Moment::NotFinite]
            .map(|m| save.wants_checkpoint(m, &Position::default()).expect("no writer failed"))
    };
    assert_eq!(wants(SaveCheckpoints::to(folder.clone())), [false, true, true]);
    assert_eq!(wants(SaveCheckpoints::to(folder).not_before_nan()), [false, true, false]);
}
