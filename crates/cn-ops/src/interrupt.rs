//! Passes that end before their time.

use crate::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// A question that is asked before each layer of a pass: whether to end it there, with [`Error::Interrupted`].
#[derive(Clone, Default)]
pub struct Interrupt(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Interrupt {
    /// Ends passes from when `wanted` says yes.
    #[must_use]
    pub fn when(wanted: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(wanted)))
    }

    pub(crate) fn check(&self) -> Result<()> {
        match &self.0 {
            Some(wanted) if wanted() => Err(Error::Interrupted),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Interrupt").field(&self.0.is_some()).finish()
    }
}
