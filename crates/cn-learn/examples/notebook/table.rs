//! The table that fastai prints, with two honest columns more.

use cn_learn::{EpochEnd, FitStart, Flow, Handler, PhaseStart, Result};
use std::time::Instant;

/// Prints a line an epoch, and a header at the start of each phase.
pub(crate) struct Table {
    start: Instant,
}

impl Default for Table {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Handler for Table {
    fn name(&self) -> &'static str {
        "table"
    }

    fn on_fit_start(&mut self, _: &FitStart<'_>) -> Result<()> {
        self.start = Instant::now();
        Ok(())
    }

    fn on_phase_start(&mut self, _: &PhaseStart<'_>) -> Result<()> {
        println!("epoch  train_loss  valid_loss  accuracy_multi  exact_match  top1      time");
        Ok(())
    }

    fn on_epoch_end(&mut self, end: &mut EpochEnd<'_>) -> Result<Flow> {
        let record = end.record;
        let [multi, exact, top1] =
            ["accuracy_multi", "exact_match", "top1"].map(|name| record.get(name).unwrap_or(f64::NAN));
        let seconds = std::mem::replace(&mut self.start, Instant::now()).elapsed().as_secs();
        println!(
            "{:<5}  {:<10.6}  {:<10.6}  {multi:<14.6}  {exact:<11.6}  {top1:.6}  {:02}:{:02}",
            record.epoch,
            record.train_loss,
            record.val_loss,
            seconds / 60,
            seconds % 60
        );
        Ok(Flow::Continue)
    }
}
