//! Tensors whose memory is used again.

use crate::Result;
use candle_core::{DType, Device, DeviceLocation, Shape, Tensor};
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

type Key = (DeviceLocation, DType, usize);

/// What the handles of one pool share.
#[derive(Debug, Default)]
struct Shelf {
    free: Mutex<HashMap<Key, Vec<Tensor>>>,
    allocated: AtomicUsize,
    /// Bytes of activations and of free memory.
    held: AtomicUsize,
    most_held: AtomicUsize,
}

/// Memory for activations: what is dropped is handed out again, so that a step in the steady state allocates nothing.
///
/// Cloning gives another handle of the same pool.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    shelf: Arc<Shelf>,
}

impl Pool {
    /// A contiguous tensor of this shape with unspecified (old, but initialised) contents.
    ///
    /// # Errors
    ///
    /// If the device is out of memory.
    pub fn take(&self, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Activation> {
        let shape = shape.into();
        let key = (device.location(), dtype, shape.elem_count());
        let reused = self.shelf.lock().get_mut(&key).and_then(Vec::pop);
        let flat = match reused {
            Some(flat) => flat,
            None => {
                let flat = Tensor::zeros(key.2, dtype, device)?;
                let bytes = bytes_of(&key);
                self.shelf.allocated.fetch_add(bytes, Ordering::Relaxed);
                let held = self.shelf.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
                self.shelf.most_held.fetch_max(held, Ordering::Relaxed);
                flat
            }
        };
        let tensor = flat.reshape(shape)?;
        let memory = Memory::Pooled { flat, key, shelf: Arc::downgrade(&self.shelf) };
        Ok(Activation(Arc::new(Lease { tensor, memory })))
    }

    /// Frees the memory that no activation uses at present.
    pub fn clear(&self) {
        let mut free = self.shelf.lock();
        self.shelf.held.fetch_sub(free_bytes(&free), Ordering::Relaxed);
        free.clear();
    }

    /// Runs `f`, and returns the most bytes that the pool then held at once beyond those that it holds before.
    pub(crate) fn peak_of<R>(&self, f: impl FnOnce() -> R) -> (R, usize) {
        let before = self.shelf.held.load(Ordering::Relaxed);
        self.shelf.most_held.store(before, Ordering::Relaxed);
        let result = f();
        (result, self.shelf.most_held.load(Ordering::Relaxed) - before)
    }

    /// Bytes that activations hold at present.
    #[cfg(test)]
    pub(crate) fn in_use(&self) -> usize {
        let free = self.shelf.lock();
        self.shelf.held.load(Ordering::Relaxed) - free_bytes(&free)
    }

    /// Bytes that this pool has asked devices for since it was made; stays the same once the pool serves every request.
    #[must_use]
    pub fn allocated(&self) -> usize {
        self.shelf.allocated.load(Ordering::Relaxed)
    }
}

fn bytes_of((_, dtype, n): &Key) -> usize {
    n * dtype.size_in_bytes()
}

fn free_bytes(free: &HashMap<Key, Vec<Tensor>>) -> usize {
    free.iter().map(|(key, tensors)| bytes_of(key) * tensors.len()).sum()
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Vec<Tensor>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A tensor on its way through a network; its memory returns to the [`Pool`] when the last clone is dropped.
///
/// Derefs to [`Tensor`]. A clone of that inner tensor must not outlive the activation, since its contents will change;
/// [`Activation::to_tensor`] gives one of its own.
#[derive(Clone, Debug)]
pub struct Activation(Arc<Lease>);

#[derive(Debug)]
struct Lease {
    tensor: Tensor,
    memory: Memory,
}

/// Where the memory of an activation goes when it is dropped.
#[derive(Debug)]
enum Memory {
    /// Back to the pool.
    Pooled { flat: Tensor, key: Key, shelf: Weak<Shelf> },
    /// It belongs to another activation, kept alive here.
    Of(#[expect(dead_code, reason = "held for its drop")] Activation),
    /// It belongs to the tensor.
    Own,
}

impl Activation {
    /// A copy that nobody else writes to.
    ///
    /// # Errors
    ///
    /// If the device is out of memory.
    pub fn to_tensor(&self) -> Result<Tensor> {
        Ok(self.0.tensor.force_contiguous()?)
    }

    /// Whether this is the only handle, so that its memory may be written to in place.
    #[must_use]
    pub fn is_unique(&self) -> bool {
        Arc::strong_count(&self.0) == 1 && matches!(self.0.memory, Memory::Pooled { .. })
    }

    /// The same memory under another shape of as many elements.
    ///
    /// # Errors
    ///
    /// If the number of elements differs.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let tensor = self.0.tensor.reshape(shape.into())?;
        // The view keeps the lease that it was made from alive.
        Ok(Self(Arc::new(Lease { tensor, memory: Memory::Of(self.clone()) })))
    }
}

impl Deref for Activation {
    type Target = Tensor;
    fn deref(&self) -> &Tensor {
        &self.0.tensor
    }
}

/// Wraps a tensor that belongs to no pool.
impl From<Tensor> for Activation {
    fn from(tensor: Tensor) -> Self {
        Self(Arc::new(Lease { tensor, memory: Memory::Own }))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Memory::Pooled { flat, key, shelf } = std::mem::replace(&mut self.memory, Memory::Own)
            && let Some(shelf) = shelf.upgrade()
        {
            shelf.lock().entry(key).or_default().push(flat);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::write;

    const DEVICE: Device = Device::Cpu;

    #[test]
    fn memory_comes_back_when_the_last_handle_is_dropped() {
        let pool = Pool::default();
        let a = pool.take((2, 3), DType::F32, &DEVICE).unwrap();
        let (b, view) = (a.clone(), a.reshape(6).unwrap());
        assert_eq!(pool.allocated(), 24);
        drop((a, b));
        let other = pool.take(6, DType::F32, &DEVICE).unwrap();
        assert_eq!(pool.allocated(), 48, "the view still holds the first");
        drop((view, other));
        let _again = [pool.take(6, DType::F32, &DEVICE).unwrap(), pool.take((3, 2), DType::F32, &DEVICE).unwrap()];
        assert_eq!(pool.allocated(), 48);
        pool.take(6, DType::F64, &DEVICE).unwrap();
        assert_eq!(pool.allocated(), 96, "types do not share");
    }

    #[test]
    fn only_a_sole_handle_of_pooled_memory_is_unique() {
        let pool = Pool::default();
        let a = pool.take(4, DType::F32, &DEVICE).unwrap();
        assert!(a.is_unique());
        let view = a.reshape((2, 2)).unwrap();
        assert!(!a.is_unique() && !view.is_unique());
        drop(view);
        assert!(a.is_unique());
        let own: Activation = Tensor::zeros(4, DType::F32, &DEVICE).unwrap().into();
        assert!(!own.is_unique(), "the tensor may have other handles");
    }

    #[test]
    fn a_copy_outlives_the_memory() {
        let pool = Pool::default();
        let a = pool.take(2, DType::F32, &DEVICE).unwrap();
        write::<f32, _>(&a, |a| a.fill(1.0)).unwrap();
        let copy = a.to_tensor().unwrap();
        drop(a);
        write::<f32, _>(&pool.take(2, DType::F32, &DEVICE).unwrap(), |a| a.fill(2.0)).unwrap();
        assert_eq!(copy.to_vec1::<f32>().unwrap(), [1.0, 1.0]);
    }

    #[test]
    fn a_pool_may_go_before_its_activations() {
        let pool = Pool::default();
        let a = pool.take(2, DType::F32, &DEVICE).unwrap();
        drop(pool);
        assert_eq!(a.dims(), [2]);
    }
}
