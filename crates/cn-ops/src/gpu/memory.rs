//! Memory of a program: planned while it is written down, used again as soon as nothing needs it.

use cn_cuda::{Buffer, Device, Element, Result};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Deref;
use std::rc::Rc;

/// Buffers that no later step needs, by their size.
type Free = Rc<RefCell<HashMap<usize, Vec<Buffer>>>>;

/// Hands out buffers while a program is written down.
///
/// The steps of a program always run in the order in which they were written down, so what is free at one point there is
/// free at that point of every run.
#[derive(Clone, Debug)]
pub(super) struct Planner {
    device: Device,
    free: Free,
}

impl Planner {
    pub(super) fn new(device: &Device) -> Self {
        Self { device: device.clone(), free: Free::default() }
    }

    /// Images or rows of these sizes.
    pub(super) fn value(&self, dims: &[usize], element: Element) -> Result<Value> {
        let lease = self.bytes(dims.iter().product::<usize>() * element.size())?;
        Ok(Value { lease, dims: dims.to_vec(), element })
    }

    pub(super) fn bytes(&self, bytes: usize) -> Result<Lease> {
        let reused = self.free.borrow_mut().get_mut(&bytes).and_then(Vec::pop);
        let buffer = match reused {
            Some(buffer) => buffer,
            None => self.device.allocate(bytes, "activations")?,
        };
        Ok(Lease(Rc::new(Loan { buffer, free: Rc::clone(&self.free) })))
    }
}

/// A buffer for as long as a program needs it; free for other steps when the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Lease(Rc<Loan>);

#[derive(Debug)]
struct Loan {
    buffer: Buffer,
    free: Free,
}

impl Lease {
    /// Whether nothing else needs it.
    pub(super) fn is_unique(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

impl Deref for Lease {
    type Target = Buffer;
    fn deref(&self) -> &Buffer {
        &self.0.buffer
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.free.borrow_mut().entry(self.buffer.len()).or_default().push(self.buffer.clone());
    }
}

/// What travels between layers: a buffer, its sizes and its type.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) lease: Lease,
    pub(super) dims: Vec<usize>,
    pub(super) element: Element,
}

impl Value {
    /// The buffer, for a step.
    pub(super) fn buffer(&self) -> Buffer {
        (*self.lease).clone()
    }

    /// Positions in all images: everything but the channels.
    pub(super) fn rows(&self) -> usize {
        self.dims[..self.dims.len() - 1].iter().product()
    }

    pub(super) fn channels(&self) -> usize {
        self.dims[self.dims.len() - 1]
    }
}
