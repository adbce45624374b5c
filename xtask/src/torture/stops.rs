//! Runs that end before their time, and go on to the same bytes.

use super::child::{Ended, Place, STEPS, TRAIN};
use super::faults::Faults;
use super::random::Random;
use super::{Extent, Scene, Tally, files};
use anyhow::{Result, anyhow, ensure};
use std::time::{Duration, Instant};

/// Dies right behind the checkpoint of each step in turn; goes on from there.
pub(super) fn every_step(scene: &Scene) -> Result<Tally> {
    let place = &scene.place;
    let Some(faults) = Faults::build(place)? else { return Ok(Tally::skipped(Faults::ABSENT)) };
    place.reference()?;
    let mut tally = Tally::default();
    let steps = 1..=2 * STEPS;
    let steps: Vec<u64> = match scene.extent {
        Extent::Full => steps.collect(),
        Extent::Short => vec![1, STEPS - 1, STEPS, STEPS + 1, 2 * STEPS],
    };
    for step in steps {
        tally.add(|| format!("step {step}"), stop_at(place, &faults, step));
        place.forget("stopped");
    }
    Ok(tally)
}

fn stop_at(place: &Place, faults: &Faults, step: u64) -> Result<()> {
    let mut command = place.command(&format!("{TRAIN} --checkpoint-every {step} --out"));
    let run = place.path("stopped");
    // Behind the first phase there is the checkpoint of its end before that of the step.
    let nth = if step <= STEPS { 1 } else { 2 };
    faults.die_behind_rename(command.arg(&run), &run, "last.safetensors", nth);
    let ended = place.start(command)?.wait()?;
    ensure!(ended.code == Some(Faults::DEAD), "it did not die: exit {:?}\n{}", ended.code, ended.stderr);
    let resumed = place.finish("stopped")?;
    ensure!(resumed == step, "it went on at step {resumed}");
    Ok(())
}

/// Kills a run that saves every step, again and again, until it is done; then another one.
pub(super) fn kills(scene: &Scene) -> Result<Tally> {
    let (place, mut random) = (&scene.place, scene.random("kills"));
    let usual = usual_seconds(place)?;
    let (mut tally, mut finished, mut gone_on, mut n) = (Tally::default(), 0, 0, 0);
    while tally.of < scene.tries(500, 8) {
        let run = "killed";
        let saved = saved_step(place, run)?;
        let mut running = place.start(place.command(&begin_or_resume(place, run, &mut n)))?;
        std::thread::sleep(Duration::from_secs_f64(usual * random.share()));
        if running.runs()? {
            running.send("-KILL")?;
            let ended = running.wait()?;
            gone_on += u32::from(ended.resumed_at().is_some_and(|step| step > 0));
            let outcome = if ended.code.is_some() { ended.succeeded() } else { all_whole(place, run) };
            let outcome = outcome.and_then(|()| went_on(&ended, saved));
            let what = format!("kill {}", tally.of + 1);
            tally.add(|| what, outcome);
            continue;
        }
        let ended = running.wait()?;
        let outcome = ended.succeeded().and_then(|()| went_on(&ended, saved)).and_then(|()| same_hash(place, run));
        finished += 1;
        if let Err(error) = outcome {
            tally.add(|| format!("run {finished}"), Err(error));
        }
        place.forget(run);
    }
    if place.path("killed").exists() {
        let outcome = if place.path("killed/config.toml").exists() { place.finish("killed").map(drop) } else { Ok(()) };
        finished += 1;
        if let Err(error) = outcome {
            tally.add(|| "the last run".into(), Err(error));
        }
        place.forget("killed");
    }
    tally.note = format!(", {gone_on} went on from a saved step; {finished} runs with the same bytes at their end");
    Ok(tally)
}

/// The run from its start, or from where it is; a folder that was made and holds no run yet is begun.
fn begin_or_resume(place: &Place, run: &str, n: &mut u32) -> String {
    *n += 1;
    let threads = 1 + *n % 3;
    if place.path(run).join("config.toml").exists() {
        return format!("train --resume {run} --threads {threads} --no-cache --json");
    }
    TRAIN.replace("--threads 1", &format!("--threads {threads}")) + &format!(" --checkpoint-every 1 --out {run}")
}

fn same_hash(place: &Place, run: &str) -> Result<()> {
    ensure!(place.hash(run)? == place.reference()?, "other weights at the end");
    Ok(())
}

/// The step of the checkpoint that the run is to go on from, if there is one.
fn saved_step(place: &Place, run: &str) -> Result<Option<u64>> {
    let folder = place.path(run).join("checkpoints");
    let files = ["last", "previous"].map(|name| folder.join(format!("{name}.safetensors")));
    files.iter().find(|path| path.exists()).map(|path| files::step_of_checkpoint(path)).transpose()
}

/// A run that says where it goes on must have lost nothing that was saved.
fn went_on(ended: &Ended, saved: Option<u64>) -> Result<()> {
    let Some(step) = ended.resumed_at() else { return Ok(()) };
    ensure!(step == saved.unwrap_or(0), "it went on at step {step}, saved was {saved:?}");
    Ok(())
}

/// Every checkpoint that has its name is whole, at any moment.
fn all_whole(place: &Place, run: &str) -> Result<()> {
    for name in ["last", "previous", "best"] {
        let path = place.path(run).join(format!("checkpoints/{name}.safetensors"));
        ensure!(!path.exists() || files::is_whole_checkpoint(&path)?, "`{name}` cannot be read");
    }
    Ok(())
}

/// Asks runs to end, again and again.
pub(super) fn signals(scene: &Scene) -> Result<Tally> {
    let (place, mut random) = (&scene.place, scene.random("signals"));
    let usual = usual_seconds(place)?;
    let (mut tally, mut slowest, mut n) = (Tally::default(), Duration::ZERO, 0);
    let (mut finished, mut early, mut saved) = (0, 0, 0);
    while tally.of < scene.tries(100, 6) {
        let (signal, code) = if tally.of.is_multiple_of(2) { ("-INT", 130) } else { ("-TERM", 143) };
        let run = "asked";
        let line = begin_or_resume(place, run, &mut n).replace("--checkpoint-every 1 ", "");
        let Reply { from, answer } = asked(place, &line, &mut random, usual, (signal, code))?;
        // Training that began must begin where the run before it says that it saved.
        if let Some(from) = from {
            let what = format!("the run behind {} signals", tally.of);
            if from != saved {
                tally.add(|| what, Err(anyhow!("it went on at step {from}, saved was {saved}")));
            }
        }
        match answer {
            Asked::Late(outcome) => {
                saved = 0;
                finished += 1;
                if let Err(error) = outcome.and_then(|()| same_hash(place, run)) {
                    tally.add(|| format!("run {finished}"), Err(error));
                }
                place.forget(run);
            }
            Asked::Early(outcome) => {
                early += 1;
                let what = format!("{signal} number {}", tally.of + 1);
                tally.add(|| what, outcome);
            }
            Asked::Saved(outcome, step, seconds) => {
                saved = step;
                slowest = slowest.max(seconds);
                let what = format!("{signal} number {}", tally.of + 1);
                tally.add(|| what, outcome);
            }
        }
    }
    if place.path("asked/config.toml").exists() {
        finished += 1;
        if let Err(error) = place.finish("asked") {
            tally.add(|| "the last run".into(), Err(error));
        }
    }
    place.forget("asked");
    // Before training a signal may end the program by itself, which takes a tenth of a run.
    if scene.extent == Extent::Full && early > tally.of / 3 {
        tally.add(
            || format!("{early} signals"),
            Err(anyhow!("they ended runs by themselves, too many to be before training")),
        );
    }
    let slowest = slowest.as_secs_f64();
    let before = if early == 0 { String::new() } else { format!("; {early} came before there was anything to save") };
    tally.note = format!(", at most {slowest:.2} s to the end{before}; {finished} runs with the same bytes");
    Ok(tally)
}

/// What a run did that was asked to end.
struct Reply {
    /// The step that it said it went on from.
    from: Option<u64>,
    answer: Asked,
}

enum Asked {
    /// It was done before.
    Late(Result<()>),
    /// Training had not begun: nothing was there to save.
    Early(Result<()>),
    /// It says that it saved this step.
    Saved(Result<()>, u64, Duration),
}

fn asked(place: &Place, line: &str, random: &mut Random, usual: f64, (signal, code): (&str, i32)) -> Result<Reply> {
    let mut running = place.start(place.command(line))?;
    std::thread::sleep(Duration::from_secs_f64(usual * random.share()));
    if !running.runs()? {
        let ended = running.wait()?;
        return Ok(Reply { from: ended.resumed_at(), answer: Asked::Late(ended.succeeded()) });
    }
    running.send(signal)?;
    let sent = Instant::now();
    let ended = running.wait()?;
    let seconds = sent.elapsed();
    let answer = if ended.code == Some(0) {
        Asked::Late(Ok(())) // It was writing its last files.
    } else if ended.signal.is_some_and(|signal| 128 + signal == code) {
        // By itself the signal may end the program only before the training begins.
        let trained = ended.stdout.contains("\"epoch\":");
        Asked::Early(if trained { Err(anyhow!("the signal ended a run that trained")) } else { Ok(()) })
    } else {
        let step = ended.stopped_at();
        let outcome = (|| {
            ensure!(ended.code == Some(code), "exit {:?}, signal {:?}", ended.code, ended.signal);
            ensure!(seconds <= Duration::from_secs(2), "it took {:.2} s", seconds.as_secs_f64());
            ensure!(step.is_some(), "it does not say what it saved");
            ensure!(files::is_whole_checkpoint(&place.path("asked/checkpoints/last.safetensors"))?, "nothing is saved");
            Ok(())
        })();
        Asked::Saved(outcome, step.unwrap_or(0), seconds)
    };
    Ok(Reply { from: ended.resumed_at(), answer })
}

/// Seconds that the small run takes, saving nothing on the way.
fn usual_seconds(place: &Place) -> Result<f64> {
    place.reference()?;
    let begin = Instant::now();
    place.run(&format!("{TRAIN} --out usual"))?.succeeded()?;
    place.forget("usual");
    Ok(begin.elapsed().as_secs_f64())
}
