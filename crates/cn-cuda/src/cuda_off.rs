//! The stand-in of `cuda` in builds without it.

use crate::{Device, Error, Result};

pub(crate) fn open(_ordinal: usize) -> Result<Device> {
    Err(Error::NotCompiled)
}
