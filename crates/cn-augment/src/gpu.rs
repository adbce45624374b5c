//! Batches on a GPU, bit for bit those of [`Batcher::fill`].

mod check;

pub use check::{BatchCheck, check_batches};

use crate::planes::Plane;
use crate::{Batcher, Error, Geometry, ImageStack, Result};
use cn_cuda::{Buffer, Device, Element};

/// Makes batches from images that lie on a GPU as bytes: one launch each, without the host.
///
/// ```
/// # use cn_augment::{Batcher, Geometry, ImageStack, Normalisation};
/// use cn_augment::GpuBatcher;
/// use cn_cuda::{Device, Element};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let Ok(device) = Device::cuda(0) else { return Ok(println!("skipped: no GPU")) };
/// let pixels = vec![0u8; 10 * 64 * 64];
/// let images = ImageStack::new(&pixels, [64, 64, 1])?; // (N, H, W, C) = (10, 64, 64, 1)
/// let batcher = Batcher::new(3, Normalisation::imagenet())?;
/// let mut gpu = GpuBatcher::new(&device, &batcher, &images, 2)?; // uploads the images once
///
/// let geometry = [3, 7].map(|id| Geometry::whole(images.get(id).expect("an image"), 128));
/// let batch = device.allocate(2 * 128 * 128 * 3 * 4, "a batch")?; // (B, S, S, C), f32
/// gpu.prepare(&[3, 7], &geometry)?; // a few hundred bytes
/// gpu.run(Element::F32, &batch)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct GpuBatcher {
    augment: cn_cuda::Augment,
    images: cn_cuda::ImageStack,
    has_all_channels: bool,
    /// Images and side of the batch that was prepared.
    prepared: (usize, usize),
}

impl GpuBatcher {
    /// Uploads `images`; batches are those of `batcher`, of at most `batch_size` images.
    ///
    /// # Errors
    ///
    /// If the images are neither grey nor RGB, have colours that the planes of `batcher` cannot show, or memory runs out.
    pub fn new(device: &Device, batcher: &Batcher, images: &ImageStack<'_>, batch_size: usize) -> Result<Self> {
        let planes: Vec<_> = batcher.planes().iter().map(|plane| device_plane(*plane)).collect();
        let has_all_channels = planes.len() >= batcher.channels();
        if !has_all_channels && images.shape()[2] > 1 {
            return Err(Error::Colours { index: 0 });
        }
        Ok(Self {
            augment: cn_cuda::Augment::new(device, &planes, batch_size)?,
            images: cn_cuda::ImageStack::new(device, images.pixels(), images.shape())?,
            has_all_channels,
            prepared: (0, 0),
        })
    }

    /// P, the numbers of each pixel.
    #[must_use]
    pub fn n_planes(&self) -> usize {
        self.augment.n_planes()
    }

    /// Whether the planes are those of the channels.
    #[must_use]
    pub fn has_all_channels(&self) -> bool {
        self.has_all_channels
    }

    /// Uploads what the next batch is made of: numbers of images, and a geometry for each.
    ///
    /// # Errors
    ///
    /// If there are none or more than a batch holds, the lists differ in length, or a geometry does not fit its image.
    pub fn prepare(&mut self, ids: &[u32], geometry: &[Geometry]) -> Result<()> {
        let size = geometry.first().ok_or(Error::EmptyBatch)?.size as usize;
        let geometry: Vec<_> = geometry.iter().map(device_geometry).collect();
        self.augment.prepare(&self.images, ids, &geometry)?;
        self.prepared = (ids.len(), size);
        Ok(())
    }

    /// Makes the batch that was prepared: `(B, S, S, P)` of this type over `batch`.
    ///
    /// # Errors
    ///
    /// If nothing was prepared, the buffer has not the size of the batch, or the device fails.
    pub fn run(&self, element: Element, batch: &Buffer) -> Result<()> {
        Ok(self.launch(element, batch)?)
    }

    /// As [`GpuBatcher::run`], with the device's own error: for steps that are recorded.
    ///
    /// # Errors
    ///
    /// As [`GpuBatcher::run`].
    pub fn launch(&self, element: Element, batch: &Buffer) -> std::result::Result<(), cn_cuda::Error> {
        let (n, size) = self.prepared;
        self.augment.run(element, &self.images, n, size, batch)
    }

    /// The numbers of the images that were prepared, on the device.
    #[must_use]
    pub fn ids(&self) -> &Buffer {
        self.augment.ids()
    }
}

fn device_plane(plane: Plane) -> cn_cuda::Plane {
    match plane {
        Plane::Normalised { mean, std } => cn_cuda::Plane::Normalised { mean, std },
        Plane::Ones => cn_cuda::Plane::Ones,
    }
}

fn device_geometry(geometry: &Geometry) -> cn_cuda::Geometry {
    let Geometry { size, flags, source, full, offset, matrix, gain, bias, erased, border } = *geometry;
    cn_cuda::Geometry { size, flags, source, full, offset, matrix, gain, bias, erased, border }
}
