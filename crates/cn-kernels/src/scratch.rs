//! Working memory that kernels use again, so that a training step neither allocates nor clears any.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

static FREE: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// Buffers kept at most; more than one kernel uses at a time on any sensible number of threads.
const KEPT: usize = 256;

/// Bytes of a line of a cache: a vector that begins at one lies in one line, and is read and written at once.
const LINE: usize = 64;

/// Working memory of some length, with unspecified contents, from the start of a line of the cache on; goes back when
/// dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    buffer: Vec<f32>,
    start: usize,
    len: usize,
}

impl Scratch {
    pub(crate) fn new(len: usize) -> Self {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let room = len + LINE / size_of::<f32>();
        let fitting =
            free.iter().enumerate().filter(|(_, b)| b.len() >= room).min_by_key(|(_, b)| b.len()).map(|(i, _)| i);
        let buffer = fitting.map(|i| free.swap_remove(i));
        drop(free);
        let buffer = buffer.unwrap_or_else(|| vec![0.0; room]);
        // Where the address cannot be told, any place will do.
        let start = buffer.as_ptr().align_offset(LINE).min(room - len);
        Self { buffer, start, len }
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.buffer[self.start..][..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[self.start..][..self.len]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            free.push(std::mem::take(&mut self.buffer));
        }
    }
}
