//! Disks that fail: calls that do not come back with what was asked, and no room left.

use super::child::Place;
use super::damage::stopped_run;
use super::{Extent, Scene, Tally, files};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Calls of the program that can be made to fail, by a small library that is loaded before the system's.
pub(super) struct Faults {
    library: PathBuf,
}

/// Which call fails, and how.
struct Fault<'a> {
    calls: &'a str,
    nth: u32,
    how: &'a str,
    errno: i32,
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

impl Faults {
    /// Why a row cannot run.
    pub(super) const ABSENT: &'static str = "needs Linux and a C compiler, `cc`";
    /// Exit code of a process that died behind a call.
    pub(super) const DEAD: i32 = 137;

    /// Compiles the library; `None` where there is no compiler, or another system.
    pub(super) fn build(place: &Place) -> Result<Option<Self>> {
        if !cfg!(target_os = "linux") {
            return Ok(None);
        }
        let (source, library) = (place.path("faults.c"), place.path("faults.so"));
        fs::write(&source, include_str!("faults.c"))?;
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
        match command.stderr(Stdio::inherit()).status() {
            Ok(status) if status.success() => Ok(Some(Self { library })),
            Ok(status) => anyhow::bail!("`cc` failed: {status}"),
            Err(_) => Ok(None),
        }
    }

    /// Ends the process right behind its `n`-th rename to a name that ends in `ending`.
    pub(super) fn die_behind_rename(&self, command: &mut Command, folder: &Path, ending: &str, n: u32) {
        self.set(command, folder, &Fault { calls: "r", nth: n, how: "die", errno: EIO });
        command.env("CN_FAULT_ENDING", ending);
    }

    fn set(&self, command: &mut Command, folder: &Path, fault: &Fault<'_>) {
        command.env("LD_PRELOAD", &self.library).env("CN_FAULT_DIR", folder).env("CN_FAULT_CALLS", fault.calls);
        command.env("CN_FAULT_N", fault.nth.to_string()).env("CN_FAULT_HOW", fault.how);
        command.env("CN_FAULT_ERRNO", fault.errno.to_string());
    }
}

/// A run with good checkpoints goes on while calls fail; afterwards it goes on from a good one.
pub(super) fn nth_call(scene: &Scene) -> Result<Tally> {
    let place = &scene.place;
    let Some(faults) = Faults::build(place)? else { return Ok(Tally::skipped(Faults::ABSENT)) };
    stopped_run(place, &faults, "base", 3)?;
    let mut tally = Tally::default();
    let mut hit = 0;
    let n = scene.tries(200, 4);
    let all = (1..=n).map(|nth| ("wfr", if n < 200 { nth * 37 } else { nth }));
    let rare = scene.tries(24, 3);
    let syncs = (1..=rare).map(|nth| ("f", nth));
    let renames = (1..=rare).map(|nth| ("r", nth));
    for (calls, nth) in all.chain(syncs).chain(renames) {
        let (how, errno) = if nth.is_multiple_of(2) { ("on", ENOSPC) } else { ("once", EIO) };
        let fault = Fault { calls, nth, how, errno };
        let outcome = with_fault(place, &faults, &fault);
        hit += u32::from(matches!(outcome, Ok(Hit::Yes)));
        tally.add(|| format!("call {nth} of `{calls}`, {how}"), outcome.map(drop));
    }
    place.forget("base");
    tally.note = format!(", {hit} with a call that failed");
    Ok(tally)
}

/// Whether the call was made at all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hit {
    Yes,
    No,
}

fn with_fault(place: &Place, faults: &Faults, fault: &Fault<'_>) -> Result<Hit> {
    let (run, mark) = (place.path("faulty"), place.path("mark"));
    place.forget("faulty");
    let _ = fs::remove_file(&mark);
    files::copy_run(&place.path("base"), &run)?;
    let mut command = place.command("train --no-cache --json --resume");
    command.arg(&run).env("CN_FAULT_MARK", &mark);
    faults.set(&mut command, &run, fault);
    let ended = place.start(command)?.wait()?;
    let hit = if mark.exists() { Hit::Yes } else { Hit::No };
    if hit == Hit::Yes && ended.code != Some(0) {
        ended.refused(&[&*run.display().to_string()])?;
    } else {
        ended.succeeded()?;
    }
    let step = place.finish("faulty")?;
    // A finished run says no step.
    ensure!(step >= 3 || ended.code == Some(0), "it went on at step {step}: a good checkpoint was lost");
    Ok(hit)
}

/// A disk with room for two checkpoints and a part of the third.
pub(super) fn full_disk(scene: &Scene) -> Result<Tally> {
    let place = &scene.place;
    place.reference()?;
    let size = fs::metadata(place.path("reference/checkpoints/last.safetensors"))?.len();
    let mut tally = Tally::default();
    // Room for: no checkpoint at all, one, two, and a part more of each.
    let rooms: &[u64] = match scene.extent {
        Extent::Full => &[1 << 20, size / 2, size * 3 / 2, size * 5 / 2, size * 7 / 2],
        Extent::Short => &[1 << 20, size * 5 / 2],
    };
    for &room in rooms {
        let disk = place.path("disk");
        fs::create_dir_all(&disk)?;
        let options = format!("size={room}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "cn-torture"]).arg(&disk).stderr(Stdio::null());
        if !mount.status().is_ok_and(|status| status.success()) {
            return Ok(Tally::skipped("`mount` is not allowed here"));
        }
        let outcome = fill(place, size, room);
        let unmounted = Command::new("umount").arg(&disk).status();
        ensure!(unmounted.is_ok_and(|status| status.success()), "cannot unmount `{}`", disk.display());
        tally.add(|| format!("{} MiB", room >> 20), outcome);
    }
    Ok(tally)
}

fn fill(place: &Place, size: u64, room: u64) -> Result<()> {
    let line = format!("{} --checkpoint-every 1 --out disk/run", super::child::TRAIN);
    let ended = place.run(&line)?;
    ended.refused(&["disk/run", "No space left on device", "make room on that disk"])?;
    let folder = place.path("disk/run");
    let left = files::below(&folder)?;
    ensure!(!left.iter().any(|name| name.ends_with(".tmp")), "left behind: {}", left.join(", "));
    let checkpoints: Vec<_> = left.iter().filter(|name| name.starts_with("checkpoints/")).collect();
    for name in &checkpoints {
        ensure!(files::is_whole_checkpoint(&folder.join(name))?, "`{name}` is not whole");
    }
    ensure!(room < size || !checkpoints.is_empty(), "no checkpoint is left");
    if !folder.join("config.toml").exists() {
        return Ok(());
    }
    // With room again, it goes on.
    place.forget("moved");
    copy(&folder, &place.path("moved"))?;
    let step = place.finish("moved")?;
    ensure!(room < size || step > 0, "it began again");
    place.forget("moved");
    Ok(())
}

/// To another file system.
fn copy(from: &Path, to: &Path) -> Result<()> {
    for name in files::below(from)? {
        let new = to.join(&name);
        fs::create_dir_all(new.parent().context("a file without a folder")?)?;
        fs::copy(from.join(&name), new)?;
    }
    Ok(())
}
