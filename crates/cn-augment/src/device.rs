//! Batches as candle tensors.

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Storage, Tensor};

use crate::{Batcher, Error, Geometry, Image, ImageStack, Result};

impl Batcher {
    /// The batch of these images as a new tensor on `device`: `(B, S, S, C)` or `(B, S, S, P)`, `f32`.
    ///
    /// A loop saves the allocation with [`fill_tensor`](Self::fill_tensor).
    ///
    /// # Errors
    ///
    /// As [`fill`](Self::fill); if there are no images; if there are no kernels for the device
    /// ([`Error::NotCompiledWithCudaSupport`]).
    pub fn batch(&self, images: &[Image<'_>], geometry: &[Geometry], device: &Device) -> Result<Tensor> {
        check_device(device)?;
        let size = geometry.first().ok_or(Error::EmptyBatch)?.size as usize;
        let mut values = vec![0f32; geometry.len() * size * size * self.n_planes()];
        self.fill(images, geometry, &mut values)?;
        Ok(Tensor::from_vec(values, (geometry.len(), size, size, self.n_planes()), device)?)
    }

    /// The batch of images `ids` of a stack, on the device of the stack: `(B, S, S, C)` or `(B, S, S, P)`, `f32`.
    ///
    /// `stack`: `(N, H, W, C)`, `u8`, contiguous.
    ///
    /// # Errors
    ///
    /// As [`batch`](Self::batch); if `stack` is not as above or lacks one of the images.
    pub fn batch_of(&self, stack: &Tensor, ids: &[u32], geometry: &[Geometry]) -> Result<Tensor> {
        check_device(stack.device())?;
        let (_, height, width, channels) = check_tensor("stack", stack, DType::U8, None)?;
        let (storage, layout) = stack.storage_and_layout();
        let (Storage::Cpu(CpuStorage::U8(pixels)), Some((start, end))) = (&*storage, layout.contiguous_offsets())
        else {
            return Err(mismatch("stack", stack, "contiguous u8".into()));
        };
        let images = ImageStack::new(&pixels[start..end], [height, width, channels])?.select(ids)?;
        self.batch(&images, geometry, stack.device())
    }

    /// Writes the batch of these images over `batch`, in place: no allocation from step to step.
    ///
    /// `batch`: `(B, S, S, C)` or `(B, S, S, P)`, `f32`, contiguous. Whatever shares its memory changes with it.
    ///
    /// # Errors
    ///
    /// As [`fill`](Self::fill), or if `batch` is not as above or on a device without kernels.
    pub fn fill_tensor(&self, images: &[Image<'_>], geometry: &[Geometry], batch: &Tensor) -> Result<()> {
        check_device(batch.device())?;
        let size = geometry.first().ok_or(Error::EmptyBatch)?.size as usize;
        check_tensor("batch", batch, DType::F32, Some([geometry.len(), size, size, self.n_planes()]))?;
        Ok(batch.inplace_op1(&Fill { batcher: self, images, geometry })?)
    }
}

/// Overwrites a tensor with a batch.
struct Fill<'a> {
    batcher: &'a Batcher,
    images: &'a [Image<'a>],
    geometry: &'a [Geometry],
}

impl InplaceOp1 for Fill<'_> {
    fn name(&self) -> &'static str {
        "fill-batch"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("a batch is contiguous f32");
        };
        self.batcher.fill(self.images, self.geometry, &mut values[start..end]).map_err(candle_core::Error::wrap)
    }
}

fn check_device(device: &Device) -> Result<()> {
    match device {
        Device::Cpu => Ok(()),
        Device::Cuda(_) => Err(Error::NotCompiledWithCudaSupport),
        other => Err(Error::UnsupportedDevice { found: format!("{other:?}") }),
    }
}

/// Refuses a tensor of another type, rank, layout or (if given) shape.
fn check_tensor(
    argument: &'static str,
    tensor: &Tensor,
    dtype: DType,
    shape: Option<[usize; 4]>,
) -> Result<(usize, usize, usize, usize)> {
    let dims: Option<[usize; 4]> = tensor.dims().try_into().ok();
    match dims {
        Some(dims @ [n, h, w, c])
            if tensor.dtype() == dtype && tensor.is_contiguous() && shape.is_none_or(|shape| shape == dims) =>
        {
            Ok((n, h, w, c))
        }
        _ => {
            let shape = shape.map_or_else(|| "(N, H, W, C)".to_owned(), |shape| format!("{shape:?}"));
            Err(mismatch(argument, tensor, format!("contiguous {} {shape}", dtype.as_str())))
        }
    }
}

fn mismatch(argument: &'static str, tensor: &Tensor, expected: String) -> Error {
    let layout = if tensor.is_contiguous() { "contiguous" } else { "strided" };
    Error::Tensor { argument, found: format!("{layout} {} {:?}", tensor.dtype().as_str(), tensor.dims()), expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Normalisation;

    const SIZE: u32 = 5;

    fn batcher() -> Batcher {
        Batcher::new(3, Normalisation::imagenet()).expect("valid")
    }

    fn pixels() -> Vec<u8> {
        (0..4 * 6 * 7).map(|i| (i * 37 % 256) as u8).collect()
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().and_then(|t| t.to_vec1()).expect("f32 values")
    }

    #[test]
    fn every_way_to_a_tensor_gives_the_values_of_fill() -> Result<()> {
        let pixels = pixels();
        let images = ImageStack::new(&pixels, [6, 7, 1])?.select(&[2, 0])?;
        let geometry = [Geometry::whole(images[0], SIZE), Geometry::whole(images[1], SIZE).flipped()];
        let mut expected = vec![0f32; 2 * 5 * 5 * 3];
        batcher().fill(&images, &geometry, &mut expected)?;

        let batch = batcher().batch(&images, &geometry, &Device::Cpu)?;
        assert_eq!((batch.dims(), values(&batch)), (&[2, 5, 5, 3][..], expected.clone()));

        let stack = Tensor::from_slice(&pixels, (4, 6, 7, 1), &Device::Cpu)?;
        assert_eq!(values(&batcher().batch_of(&stack, &[2, 0], &geometry)?), expected);
        // A part of a tensor starts somewhere in its storage.
        let part = stack.narrow(0, 1, 3)?;
        let first = [Geometry::whole(images[0], SIZE)];
        assert_eq!(values(&batcher().batch_of(&part, &[1], &first)?), expected[..75]);

        let reused = Tensor::zeros((3, 5, 5, 3), DType::F32, &Device::Cpu)?;
        batcher().fill_tensor(&images, &geometry, &reused.narrow(0, 1, 2)?)?;
        assert_eq!(values(&reused)[75..], expected);
        assert!(values(&reused)[..75].iter().all(|&v| v == 0.0));
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_named() -> Result<()> {
        let pixels = pixels();
        let image = ImageStack::new(&pixels, [6, 7, 1])?.get(0)?;
        let geometry = [Geometry::whole(image, SIZE)];
        let text = |result: Result<()>| result.expect_err("refused").to_string();

        let small = Tensor::zeros((1, 5, 4, 3), DType::F32, &Device::Cpu)?;
        assert_eq!(
            text(batcher().fill_tensor(&[image], &geometry, &small)),
            "`batch` is contiguous f32 [1, 5, 4, 3], expected contiguous f32 [1, 5, 5, 3]"
        );
        let floats = Tensor::zeros((4, 6, 7, 1), DType::F32, &Device::Cpu)?;
        assert_eq!(
            text(batcher().batch_of(&floats, &[0], &geometry).map(drop)),
            "`stack` is contiguous f32 [4, 6, 7, 1], expected contiguous u8 (N, H, W, C)"
        );
        let turned = Tensor::zeros((4, 7, 6, 1), DType::U8, &Device::Cpu)?.transpose(1, 2)?;
        assert!(text(batcher().batch_of(&turned, &[0], &geometry).map(drop)).starts_with("`stack` is strided u8"));
        assert_eq!(text(batcher().batch(&[], &[], &Device::Cpu).map(drop)), "the batch has no images");
        let stack = Tensor::zeros((4, 6, 7, 1), DType::U8, &Device::Cpu)?;
        assert!(matches!(batcher().batch_of(&stack, &[4], &geometry), Err(Error::NoSuchImage { id: 4, n_images: 4 })));
        Ok(())
    }
}
