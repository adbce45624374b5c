//! Slices of tensors on the CPU.

use crate::{Error, Result};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, InplaceOp1, Layout, Shape, Storage, Tensor, WithDType};
use cn_kernels::Float;
use std::cell::Cell;
use std::ops::{Deref, Range};

/// An element type that candle stores and the kernels compute with.
pub(crate) trait Element: WithDType + Float {
    fn slice_mut(storage: &mut CpuStorage) -> candle_core::Result<&mut [Self]>;
}

impl Element for f32 {
    fn slice_mut(storage: &mut CpuStorage) -> candle_core::Result<&mut [f32]> {
        match storage {
            CpuStorage::F32(data) => Ok(data),
            other => candle_core::bail!("expected f32, found {:?}", other.dtype()),
        }
    }
}

impl Element for f64 {
    fn slice_mut(storage: &mut CpuStorage) -> candle_core::Result<&mut [f64]> {
        match storage {
            CpuStorage::F64(data) => Ok(data),
            other => candle_core::bail!("expected f64, found {:?}", other.dtype()),
        }
    }
}

/// Elements of a contiguous tensor on the CPU; holds its read lock.
struct Read<G, T> {
    guard: G,
    range: Range<usize>,
    element: std::marker::PhantomData<T>,
}

impl<G: Deref<Target = Storage>, T: Element> Deref for Read<G, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match &*self.guard {
            Storage::Cpu(cpu) => &cpu.as_slice::<T>().expect("`read` has checked the type")[self.range.clone()],
            _ => unreachable!("`read` has checked the device"),
        }
    }
}

/// The elements of `tensor`, which must be contiguous, on the CPU, and of type `T`.
pub(crate) fn read<T: Element>(tensor: &Tensor) -> Result<impl Deref<Target = [T]> + '_> {
    let (guard, layout) = tensor.storage_and_layout();
    let range = contiguous(layout)?;
    match &*guard {
        Storage::Cpu(cpu) => drop(cpu.as_slice::<T>()?),
        _ => return Err(Error::Device { device: format!("{:?}", tensor.device()) }),
    }
    Ok(Read { guard, range, element: std::marker::PhantomData })
}

fn contiguous(layout: &Layout) -> Result<Range<usize>> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| candle_core::Error::Msg("a layer needs contiguous tensors: call `contiguous` first".into()))?;
    Ok(start..end)
}

struct Writer<F>(Cell<Option<F>>);

impl<F> InplaceOp1 for Writer<F>
where
    F: FnOnce(&mut CpuStorage, &Layout) -> candle_core::Result<()>,
{
    fn name(&self) -> &'static str {
        "write"
    }
    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        self.0.take().expect("an in-place op is applied once")(storage, layout)
    }
}

/// Lets `f` write the elements of `tensor`, which must be contiguous, on the CPU, and of type `T`.
///
/// Holds the write lock of the storage meanwhile: views of one flat buffer cannot be read or written inside `f`.
pub(crate) fn write<T: Element, R>(tensor: &Tensor, f: impl FnOnce(&mut [T]) -> R) -> Result<R> {
    let mut result = None;
    let op = Writer(Cell::new(Some(|storage: &mut CpuStorage, layout: &Layout| {
        let range = contiguous(layout).map_err(candle_core::Error::wrap)?;
        result = Some(f(&mut T::slice_mut(storage)?[range]));
        Ok(())
    })));
    tensor.inplace_op1(&op)?;
    drop(op);
    Ok(result.expect("candle ran the op"))
}

/// Fails unless `tensor` has as many dimensions as `N`; returns them.
pub(crate) fn dims<const N: usize>(name: &str, tensor: &Tensor, expected: &str) -> Result<[usize; N]> {
    tensor.dims().try_into().map_err(|_| shape_error(name, expected, tensor.shape()))
}

pub(crate) fn shape_error(name: &str, expected: &str, found: &Shape) -> Error {
    Error::Shape { name: name.into(), expected: expected.into(), found: found.clone() }
}

/// Runs `$body` with `$t` standing for the element type of `$tensor`, `f32` or `f64`.
macro_rules! with_float {
    ($name:literal, $tensor:expr, $t:ident => $body:expr) => {
        match $tensor.dtype() {
            candle_core::DType::F32 => {
                type $t = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $t = f64;
                $body
            }
            found => Err($crate::Error::DType { name: $name, expected: "f32 or f64", found }),
        }
    };
}
pub(crate) use with_float;
