//! `cargo xtask torture`: the promises of docs/reliability.md, kept or broken by the real program in child processes.

mod archives;
mod child;
mod damage;
mod faults;
mod fetches;
mod files;
mod images;
mod random;
mod repeats;
mod runs;
mod settings;
mod stops;
mod weights;

use crate::args::Args;
use crate::workspace;
use anyhow::{Context, Result, bail};
use child::Place;
use random::Random;
use std::path::PathBuf;
use std::time::Instant;

pub(crate) const USAGE: &str = "torture [--short] [--only NAME] [--seed N] [--in DIR] [--program FILE]";

/// One row of the table.
struct Row {
    name: &'static str,
    what: &'static str,
    run: fn(&Scene) -> Result<Tally>,
}

const ROWS: [Row; 13] = [
    Row { name: "stops", what: "every step of a two-phase run as the last one, resumed", run: stops::every_step },
    Row { name: "kills", what: "`kill -9` at random moments of a run that saves every step", run: stops::kills },
    Row { name: "signals", what: "SIGINT and SIGTERM at random moments", run: stops::signals },
    Row { name: "damage", what: "a byte flipped or a file cut in the newest checkpoint", run: damage::run },
    Row { name: "faults", what: "the n-th write, fsync or rename fails", run: faults::nth_call },
    Row { name: "full", what: "a full disk", run: faults::full_disk },
    Row { name: "threads", what: "runs at 1, 2 and 4 threads", run: repeats::run },
    Row { name: "images", what: "damaged images among a thousand", run: images::run },
    Row { name: "archives", what: "hostile archives", run: archives::run },
    Row { name: "weights", what: "malformed weight files", run: weights::run },
    Row { name: "settings", what: "bad settings, tables and descriptions", run: settings::run },
    Row { name: "runs", what: "changed files of a finished run, read by five commands", run: runs::run },
    Row { name: "fetches", what: "eight fetches at once, and one whose holder is killed", run: fetches::run },
];

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// An hour or so.
    Full,
    /// Under two minutes.
    Short,
}

/// What every row works with.
struct Scene {
    place: Place,
    extent: Extent,
    seed: u64,
}

impl Scene {
    /// Tries of a row.
    fn tries(&self, full: u32, short: u32) -> u32 {
        match self.extent {
            Extent::Full => full,
            Extent::Short => short,
        }
    }

    /// Numbers of a row: the same for each seed, whatever rows run.
    fn random(&self, row: &str) -> Random {
        Random::new(self.seed, row)
    }
}

/// What came of a row.
#[derive(Debug, Default)]
struct Tally {
    of: u32,
    failures: Vec<String>,
    /// Why nothing was tried, where that is so.
    skipped: Option<String>,
    /// Figures worth telling.
    note: String,
}

impl Tally {
    fn skipped(why: impl Into<String>) -> Self {
        Self { skipped: Some(why.into()), ..Self::default() }
    }

    /// Counts a try.
    fn add(&mut self, what: impl FnOnce() -> String, outcome: Result<()>) {
        self.of += 1;
        if let Err(error) = outcome {
            let failure = format!("{}: {error:#}", what());
            say!("    failed: {failure}");
            self.failures.push(failure);
        }
    }

    fn text(&self) -> String {
        match &self.skipped {
            Some(why) => format!("skipped: {why}"),
            None => format!("{} of {}{}", self.of as usize - self.failures.len(), self.of, self.note),
        }
    }
}

/// Runs the task.
pub(crate) fn run(mut args: Args) -> Result<()> {
    let extent = if args.flag("--short") { Extent::Short } else { Extent::Full };
    let only = args.value("--only")?;
    let seed = args.value("--seed")?.map_or(Ok(1), |n| n.parse()).context("`--seed` takes a number")?;
    let folder = args.value("--in")?.map_or_else(usual_folder, PathBuf::from);
    let program = args.value("--program")?.map(PathBuf::from);
    args.finish()?;
    let rows: Vec<&Row> = ROWS.iter().filter(|row| only.as_deref().is_none_or(|name| name == row.name)).collect();
    if rows.is_empty() {
        let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        bail!("there is no row `{}`, only {}", only.unwrap_or_default(), names.join(", "));
    }
    let scene = Scene { place: Place::new(&folder, program)?, extent, seed };
    say!("in {}, seed {seed}", scene.place.root().display());
    let results: Vec<_> = rows.into_iter().map(|row| (row, tried(&scene, row))).collect();
    say!("\n{:<10}{:<62}{:>9}  passed", "row", "what", "seconds");
    for (row, (tally, seconds)) in &results {
        say!("{:<10}{:<62}{seconds:>9.0}  {}", row.name, row.what, tally.text());
    }
    let failed: Vec<&str> =
        results.iter().filter(|(_, (tally, _))| !tally.failures.is_empty()).map(|(row, _)| row.name).collect();
    if failed.is_empty() {
        return Ok(());
    }
    scene.place.keep();
    bail!("failed: {}; what is left is in `{}`", failed.join(", "), folder.display())
}

/// One row with its seconds; an error of the row itself is a failure of it.
fn tried(scene: &Scene, row: &Row) -> (Tally, f64) {
    say!("running: {}, {}", row.name, row.what);
    let begin = Instant::now();
    let tally = (row.run)(scene).unwrap_or_else(|error| {
        let mut tally = Tally::default();
        tally.add(|| "the row".into(), Err(error));
        tally
    });
    say!("    {}", tally.text());
    (tally, begin.elapsed().as_secs_f64())
}

/// In memory where there is such a folder, since thousands of checkpoints are written; the promises are about the
/// order of calls, not about a disk.
fn usual_folder() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { workspace::root().join("target") };
    parent.join(format!("cn-torture-{}", std::process::id()))
}
