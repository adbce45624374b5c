//! The same run several times.

use super::child::TRAIN;
use super::{Scene, Tally};
use anyhow::{Result, ensure};

pub(super) fn run(scene: &Scene) -> Result<Tally> {
    let place = &scene.place;
    let mut tally = Tally::default();
    for threads in [1, 2, 4] {
        for i in 0..scene.tries(5, 1) {
            let outcome = (|| {
                place.run(&format!("{TRAIN} --threads {threads} --out again"))?.succeeded()?;
                ensure!(place.hash("again")? == place.reference()?, "other weights");
                Ok(())
            })();
            tally.add(|| format!("run {} at {threads} threads", i + 1), outcome);
            place.forget("again");
        }
    }
    Ok(tally)
}
