//! Slices of tensors on the CPU.

use crate::{Activation, Error, Pool, Result};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Shape, Storage, Tensor, WithDType};
use cn_kernels::Float;
use std::cell::Cell;
use std::ops::{Deref, Range};

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

/// An element type that candle stores.
pub(crate) trait Stored: WithDType {
    fn slice_mut(storage: &mut CpuStorage) -> candle_core::Result<&mut [Self]>;
}

macro_rules! stored {
    ($t:ident, $variant:ident) => {
        impl Stored for $t {
            fn slice_mut(storage: &mut CpuStorage) -> candle_core::Result<&mut [$t]> {
                match storage {
                    CpuStorage::$variant(data) => Ok(data),
                    other => candle_core::bail!("expected {}, found {:?}", stringify!($t), other.dtype()),
                }
            }
        }
    };
}
stored!(f32, F32);
stored!(f64, F64);
stored!(i64, I64);
stored!(u8, U8);
stored!(u32, U32);

/// An element type that candle stores and the kernels compute with.
pub(crate) trait Element: Stored + Float {}
impl Element for f32 {}
impl Element for f64 {}

/// Elements of a contiguous tensor on the CPU; holds its read lock.
struct Read<G, T> {
    guard: G,
    range: Range<usize>,
    element: std::marker::PhantomData<T>,
}

impl<G: Deref<Target = Storage>, T: Stored> Deref for Read<G, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match &*self.guard {
            Storage::Cpu(cpu) => &cpu.as_slice::<T>().expect("`read` has checked the type")[self.range.clone()],
            _ => unreachable!("`read` has checked the device"),
        }
    }
}

/// The elements of `tensor`, which must be contiguous, on the CPU, and of type `T`; holds its read lock meanwhile.
pub(crate) fn read<T: Stored>(tensor: &Tensor) -> Result<impl Deref<Target = [T]> + '_> {
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
pub(crate) fn write<T: Stored, R>(tensor: &Tensor, f: impl FnOnce(&mut [T]) -> R) -> Result<R> {
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

/// The same values in memory that nobody else reads, so that they may be written over.
pub(crate) fn owned(value: Activation, pool: &Pool) -> Result<Activation> {
    if value.is_unique() {
        return Ok(value);
    }
    let copy = pool.take(value.shape().clone(), value.dtype(), value.device())?;
    with_float!("gradient", value, T => {
        let value = read::<T>(&value)?;
        write::<T, _>(&copy, |copy| copy.copy_from_slice(&value))
    })?;
    Ok(copy)
}

/// Elements that are copied at a time, from one tensor to another.
const PART_LEN: usize = 1 << 18;

/// Overwrites the elements of `to` with those of `from`, converted; the shapes are equal.
pub(crate) fn copy_into(to: &Tensor, from: &Tensor) -> Result<()> {
    // What is flattened would be a copy else.
    contiguous(to.layout())?;
    let (to, from) = (to.flatten_all()?, from.to_dtype(to.dtype())?.flatten_all()?);
    match to.dtype() {
        DType::F32 => copy_values::<f32>(&to, &from),
        DType::F64 => copy_values::<f64>(&to, &from),
        DType::I64 => copy_values::<i64>(&to, &from),
        found => Err(Error::DType { name: "tensor to load", expected: "f32, f64 or i64", found }),
    }
}

/// Through a vector of its own, since `from` may be a view of the buffer that `to` is one of, but never of all.
fn copy_values<T: Stored>(to: &Tensor, from: &Tensor) -> Result<()> {
    let len = to.elem_count();
    for start in (0..len).step_by(PART_LEN) {
        let n = PART_LEN.min(len - start);
        let values = from.narrow(0, start, n)?.to_vec1::<T>()?;
        write::<T, _>(&to.narrow(0, start, n)?, |to| to.copy_from_slice(&values))?;
    }
    Ok(())
}

/// Fails unless `tensor` has as many dimensions as `N`; returns them.
pub(crate) fn dims<const N: usize>(name: &str, tensor: &Tensor, expected: &str) -> Result<[usize; N]> {
    tensor.dims().try_into().map_err(|_| shape_error(name, expected, tensor.shape()))
}

/// Fails unless `tensor` has exactly this shape.
pub(crate) fn check_shape(name: &str, tensor: &Tensor, expected: &[usize]) -> Result<()> {
    if tensor.dims() == expected { Ok(()) } else { Err(shape_error(name, &format!("{expected:?}"), tensor.shape())) }
}

pub(crate) fn shape_error(name: &str, expected: &str, found: &Shape) -> Error {
    Error::Shape { name: name.into(), expected: expected.into(), found: found.clone() }
}
