//! An error that also says what to do.

use std::error::Error;
use std::fmt;

/// An error with advice; shows and chains as the error itself.
#[derive(Debug)]
pub(crate) struct Hinted {
    error: Box<dyn Error + Send + Sync>,
    /// One or more lines.
    pub(crate) hint: String,
}

impl Hinted {
    pub(crate) fn wrap(error: impl Error + Send + Sync + 'static, hint: impl Into<String>) -> anyhow::Error {
        let error = Box::new(error);
        let hint = hint.into();
        anyhow::Error::new(Self { error, hint })
    }

    /// The error that the advice is about.
    pub(crate) fn inner(&self) -> &(dyn Error + 'static) {
        &*self.error
    }
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Hinted {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}
