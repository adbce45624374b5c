//! Ctrl-C and its like: the first one asks for an end, the second one ends.

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// From now on, a write beyond the largest size of a file (`ulimit -f`) is an error, and not the end of the program.
pub(crate) fn outlive_large_files() {
    // Where this fails, the limit ends the program as before.
    #[cfg(unix)]
    let _ = flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
}

/// Whether the run was asked to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// Listens from now on.
    pub(crate) fn listen() -> Result<Self> {
        let stop = Self::default();
        let second = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            let context = "cannot listen to signals";
            // In this order, the first signal finds `second` unset and sets it.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&second)).context(context)?;
            flag::register(signal, Arc::clone(&second)).context(context)?;
            flag::register_usize(signal, Arc::clone(&stop.signal), signal as usize).context(context)?;
        }
        Ok(stop)
    }

    /// The exit code of the signal that came, if one did: 130 or 143.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(128 + signal as u8),
        }
    }
}
