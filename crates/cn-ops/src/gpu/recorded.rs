//! Steps that are recorded, and launched as one.

use super::program::Step;
use crate::Result;
use cn_cuda::{Device, Graph};

/// Steps, recorded as one launch where the device can.
#[derive(Default)]
pub(super) struct Program {
    steps: Vec<Step>,
    graph: Option<Graph>,
    /// The first run loads kernels and asks libraries what they can, which cannot be recorded.
    has_run: bool,
    /// Why it is launched step by step for good.
    pub(super) not_recorded: Option<String>,
}

impl Program {
    pub(super) fn new(steps: Vec<Step>) -> Self {
        Self { steps, ..Self::default() }
    }

    /// Runs the steps behind `fill`, which is recorded with them.
    pub(super) fn run(&mut self, device: &Device, fill: &dyn Fn() -> Result<()>) -> Result<()> {
        if let Some(graph) = &self.graph {
            return Ok(graph.launch()?);
        }
        if !self.has_run || self.not_recorded.is_some() {
            self.has_run = true;
            return self.launch_each(fill);
        }
        match device.capture(|| self.launch_each(fill)) {
            Ok(Some(graph)) => {
                graph.launch()?;
                self.graph = Some(graph);
                Ok(())
            }
            recorded => {
                self.not_recorded = Some(recorded.map_or_else(|e| e.to_string(), |_| "the device cannot".into()));
                self.launch_each(fill)
            }
        }
    }

    pub(super) fn launch_each(&mut self, fill: &dyn Fn() -> Result<()>) -> Result<()> {
        fill()?;
        Ok(self.steps.iter_mut().try_for_each(|step| step())?)
    }

    /// Has the next run launch step by step, and the one after it recorded.
    pub(super) fn forget(&mut self) {
        self.graph = None;
        // What comes now may not have run yet.
        self.has_run = false;
        self.not_recorded = None;
    }
}
