//! Checkpoints that are damaged on the disk.

use super::child::{Place, TRAIN};
use super::{Scene, Tally, files};
use crate::torture::faults::Faults;
use anyhow::{Result, ensure};
use std::fs;
use std::io::{Seek, SeekFrom, Write};

/// Flips a byte or cuts the newest checkpoint: it is noticed, and the one before it is used.
pub(super) fn run(scene: &Scene) -> Result<Tally> {
    let (place, mut random) = (&scene.place, scene.random("damage"));
    let Some(faults) = Faults::build(place)? else { return Ok(Tally::skipped(Faults::ABSENT)) };
    stopped_run(place, &faults, "damaged", 3)?;
    let last = place.path("damaged/checkpoints/last.safetensors");
    let whole = fs::read(&last)?;
    let len = whole.len() as u64;
    let mut tally = Tally::default();
    for i in 0..scene.tries(100, 8) {
        // Every second one near the ends, where lengths, names and checksums lie.
        let at = match i % 4 {
            0 => random.below(0..4096),
            2 => len - 1 - random.below(0..64),
            _ => random.below(0..len),
        };
        let cut = i % 5 == 4;
        if cut {
            fs::OpenOptions::new().write(true).open(&last)?.set_len(at)?;
        } else {
            write_at(&last, at, whole[at as usize] ^ (1 << random.below(0..8)))?;
        }
        let what = if cut { format!("cut to {at} bytes") } else { format!("byte {at}") };
        tally.add(|| what, noticed(place));
        if cut { fs::write(&last, &whole)? } else { write_at(&last, at, whole[at as usize])? }
    }
    // One of them to the end, and the good one before it must outlive what follows.
    write_at(&last, len / 2, !whole[(len / 2) as usize])?;
    let outcome = place.finish("damaged").and_then(|step| {
        ensure!(step == 2, "it went on at step {step}");
        Ok(())
    });
    tally.add(|| "to the end".into(), outcome);
    place.forget("damaged");
    Ok(tally)
}

fn noticed(place: &Place) -> Result<()> {
    let ended = place.run("train --resume damaged --dry-run --no-cache --json")?;
    ended.succeeded()?;
    ensure!(
        ended.stderr.contains("last.safetensors` is damaged") && ended.stderr.contains("the one before it is used"),
        "it was not noticed: {}",
        ended.stderr
    );
    ensure!(ended.resumed_at() == Some(2), "it went on at step {:?}", ended.resumed_at());
    Ok(())
}

fn write_at(path: &std::path::Path, at: u64, byte: u8) -> Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    file.seek(SeekFrom::Start(at))?;
    Ok(file.write_all(&[byte])?)
}

/// The small run, dead behind its `n`-th checkpoint, one a step.
pub(super) fn stopped_run(place: &Place, faults: &Faults, run: &str, n: u32) -> Result<()> {
    let mut command = place.command(&format!("{TRAIN} --checkpoint-every 1 --out"));
    let folder = place.path(run);
    faults.die_behind_rename(command.arg(&folder), &folder, "last.safetensors", n);
    let ended = place.start(command)?.wait()?;
    ensure!(ended.code == Some(Faults::DEAD), "it did not die: exit {:?}\n{}", ended.code, ended.stderr);
    // What a crash leaves, and no second names of files: those would be damaged too.
    let checkpoints = folder.join("checkpoints");
    let best = checkpoints.join("best.safetensors");
    if best.exists() {
        fs::remove_file(best)?;
    }
    for name in ["last", "previous"] {
        let path = checkpoints.join(format!("{name}.safetensors"));
        ensure!(files::is_whole_checkpoint(&path)?, "`{name}` is not whole");
    }
    Ok(())
}
