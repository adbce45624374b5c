//! Operations for people who compose with candle's own autograd.
//!
//! candle 0.11 cannot pool as ResNet does (no padding, no gradient where windows overlap, and a wrong one where they do
//! not), its binary cross-entropy is NaN at large logits, and its convolution's gradients are slow. These are the same
//! kernels as [`crate::Conv2d`], [`crate::MaxPool2d`] and [`crate::bce_with_logits`] have, channels last, and
//! [`Tensor::backward`] knows their gradients.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use cn_ops::{Conv2dConfig, MaxPool2dConfig, autograd};
//!
//! let weight = Var::ones((4, 1, 3, 3), candle_core::DType::F32, &Device::Cpu)?;
//! let images = Tensor::ones((2, 8, 8, 1), candle_core::DType::F32, &Device::Cpu)?;
//! let y = autograd::conv2d(&images, &weight, Conv2dConfig { stride: [1, 1], padding: [1, 1] })?;
//! let windows = MaxPool2dConfig { kernel: [3, 3], stride: [2, 2], padding: [1, 1] };
//! let y = autograd::max_pool2d(&y, windows)?;
//! let gradients = y.sum_all()?.backward()?;
//! assert_eq!(gradients.get(&weight).map(|g| g.dims()), Some(&[4, 1, 3, 3][..]));
//! # Ok::<(), cn_ops::Error>(())
//! ```

use crate::storage::{Stored, check_shape, read, with_float, write};
use crate::{Conv2dConfig, Error, MaxPool2dConfig, Result, loss};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor, WithDType};
use cn_kernels::Float;
use cn_kernels::Precision;
use cn_kernels::conv::{self, ConvShape, Write};
use cn_kernels::pool::{self, PoolShape};
use std::sync::OnceLock;

/// The convolution of `x (B, H, W, I)` with `weight (O, I, Kh, Kw)`: `(B, Ho, Wo, O)`, of `f32` or `f64`.
///
/// Has gradients for both; that of a constant is not computed.
///
/// # Errors
///
/// If the shapes do not fit, or the types differ.
pub fn conv2d(x: &Tensor, weight: &Tensor, config: Conv2dConfig) -> Result<Tensor> {
    let shape = config.shape(x, weight)?;
    Ok(x.contiguous()?.apply_op2(&weight.contiguous()?, Conv2dOp { shape })?)
}

/// The largest value of each window of `x (B, H, W, C)`: `(B, Ho, Wo, C)`, of `f32` or `f64`.
///
/// The gradient of a window goes, once, to the first of its largest values in row-major order, as in PyTorch.
///
/// # Errors
///
/// If `x` has another rank, or the windows do not fit.
pub fn max_pool2d(x: &Tensor, config: MaxPool2dConfig) -> Result<Tensor> {
    let shape = config.shape(x)?;
    Ok(x.contiguous()?.apply_op1(MaxPool2dOp { shape, winners: OnceLock::new() })?)
}

/// Binary cross-entropy of the sigmoids of `logits (B, K)` against `targets (B, K)`: the mean over all entries, a scalar.
///
/// Finite for every finite logit. Has a gradient for the logits, none for the targets.
///
/// # Errors
///
/// If the shapes differ or are empty.
pub fn bce_with_logits(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let targets = loss::check(logits, targets)?;
    Ok(logits.contiguous()?.apply_op1(BceOp { targets, d_logits: OnceLock::new() })?)
}

/// The elements that a layout names, which the functions above have made contiguous.
fn slice<'a, T: Stored>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [T]> {
    let (start, end) = layout.contiguous_offsets().expect("made contiguous above");
    Ok(&storage.as_slice::<T>()?[start..end])
}

/// [`with_float!`] inside candle's traits.
macro_rules! for_float {
    ($storage:expr, $t:ident => $body:expr) => {
        match $storage {
            CpuStorage::F32(_) => {
                type $t = f32;
                $body
            }
            CpuStorage::F64(_) => {
                type $t = f64;
                $body
            }
            other => Err(candle_core::Error::wrap(Error::DType {
                name: "x",
                expected: "f32 or f64",
                found: candle_core::backend::BackendStorage::dtype(other),
            })),
        }
    };
}

fn wrap<R>(result: Result<R>) -> candle_core::Result<R> {
    result.map_err(candle_core::Error::wrap)
}

struct Conv2dOp {
    shape: ConvShape,
}

impl CustomOp2 for Conv2dOp {
    fn name(&self) -> &'static str {
        "cn-conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let s = &self.shape;
        for_float!(x, T => {
            let mut y: Vec<T> = vec![T::ZERO; s.output_len()];
            conv::forward(s, Precision::F32, [slice(x, x_layout)?, slice(w, w_layout)?], &mut y);
            let shape = Shape::from((s.batch, s.out_height(), s.out_width(), s.out_channels));
            Ok((T::to_cpu_storage_owned(y), shape))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        wrap(self.gradients(x, w, &dy.contiguous()?))
    }
}

impl Conv2dOp {
    fn gradients(&self, x: &Tensor, w: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let zeros = |t: &Tensor| t.track_op().then(|| t.zeros_like()).transpose();
        let (dx, dw) = (zeros(x)?, zeros(w)?);
        with_float!("dy", dy, T => {
            let dy = read::<T>(dy)?;
            if let Some(dx) = &dx {
                let w = read::<T>(w)?;
                write::<T, _>(dx, |dx| {
                    conv::backward_input(&self.shape, Precision::F32, [&dy, &w], dx, Write::Set);
                })?;
            }
            if let Some(dw) = &dw {
                let x = read::<T>(x)?;
                write::<T, _>(dw, |dw| {
                    conv::backward_weight(&self.shape, Precision::F32, [&x, &dy], dw);
                })?;
            }
            Ok::<(), Error>(())
        })?;
        Ok((dx, dw))
    }
}

struct MaxPool2dOp {
    shape: PoolShape,
    /// Set by the forward pass.
    winners: OnceLock<Vec<u8>>,
}

impl CustomOp1 for MaxPool2dOp {
    fn name(&self) -> &'static str {
        "cn-max-pool2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let s = &self.shape;
        for_float!(x, T => {
            let (mut y, mut winners): (Vec<T>, _) = (vec![T::ZERO; s.output_len()], vec![0; s.output_len()]);
            pool::max_forward(s, slice(x, layout)?, &mut y, &mut winners);
            self.winners.get_or_init(|| winners);
            let shape = Shape::from((s.batch, s.out_height(), s.out_width(), s.channels));
            Ok((T::to_cpu_storage_owned(y), shape))
        })
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        wrap(self.gradient(x, &dy.contiguous()?).map(Some))
    }
}

impl MaxPool2dOp {
    fn gradient(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        let winners = self.winners.get().ok_or(Error::NothingSaved { layer: "max_pool2d" })?;
        let dx = x.zeros_like()?;
        with_float!("dy", dy, T => {
            let dy = read::<T>(dy)?;
            write::<T, _>(&dx, |dx| pool::max_backward(&self.shape, &dy, winners, dx))
        })?;
        Ok(dx)
    }
}

struct BceOp {
    targets: Tensor,
    /// Set by the forward pass, which has it for nothing.
    d_logits: OnceLock<Tensor>,
}

impl CustomOp1 for BceOp {
    fn name(&self) -> &'static str {
        "cn-bce-with-logits"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let d_logits = self.targets.zeros_like()?;
        let loss = for_float!(logits, T => {
            let logits = slice::<T>(logits, layout)?;
            let targets = wrap(read::<T>(&self.targets))?;
            let loss = wrap(write::<T, _>(&d_logits, |d| cn_kernels::loss::bce_with_logits(logits, &targets, d)))?;
            Ok(T::to_cpu_storage_owned(vec![loss as T]))
        })?;
        self.d_logits.get_or_init(|| d_logits);
        Ok((loss, Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _loss: &Tensor, d_loss: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let saved = self.d_logits.get();
        let d_logits = wrap(saved.ok_or(Error::NothingSaved { layer: "bce_with_logits" }))?;
        wrap(check_shape("logits", logits, d_logits.dims()))?;
        Ok(Some(d_logits.broadcast_mul(d_loss)?))
    }
}

#[cfg(test)]
mod tests;
