//! The same run several times.

use super::child::TRAIN;
use super::{Scene, Tally};
use anyhow::{Result, ensure};

fn line(threads: u32) -> String {
    TRAIN.replace("--threads 1", &format!("--threads {threads}")) + " --out again"
}

pub(super) fn run(scene: &Scene) -> Result<Tally> {
    let place = &scene.place;
    let mut tally = Tally::default();
    for threads in [1, 2, 4] {
        for i in 0..scene.tries(5, 1) {
            let outcome = (|| {
                place.run(&line(threads))?.succeeded()?;
                ensure!(place.hash("again")? == place.reference()?, "other weights");
                Ok(())
            })();
            tally.add(|| format!("run {} at {threads} threads", i + 1), outcome);
            place.forget("again");
        }
    }
    Ok(tally)
}
