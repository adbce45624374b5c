//! Where training batches come from: the host, or a GPU that holds the images.

use super::Learner;
use crate::batches::{Batch, PlannedBatch};
use crate::{BatchStream, Batches, Error, Result};
use candle_core::Tensor;
use cn_augment::GpuBatcher;
use cn_cuda::{Buffer, Element};
use cn_ops::{GpuImages, Images, Model};
use std::sync::atomic::{AtomicU64, Ordering};

/// Whether the images of the data lie on the model's GPU.
#[derive(Debug)]
pub(crate) enum Resident {
    /// Nobody asked yet.
    Unknown,
    /// They are not, or there is none.
    No,
    Yes(Box<OnGpu>),
}

/// The images of the data on a GPU.
#[derive(Debug)]
pub(crate) struct OnGpu {
    batcher: GpuBatcher,
    id: u64,
    /// B, H, W, C of the batch that was prepared.
    sizes: [usize; 4],
}

impl OnGpu {
    fn new(batcher: GpuBatcher) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        Self { batcher, id: COUNT.fetch_add(1, Ordering::Relaxed), sizes: [0; 4] }
    }

    fn prepare(&mut self, batch: &PlannedBatch) -> Result<()> {
        self.batcher.prepare(&batch.ids, &batch.geometry)?;
        let side = batch.geometry.first().map_or(0, |geometry| geometry.size as usize);
        self.sizes = [batch.ids.len(), side, side, self.batcher.n_planes()];
        Ok(())
    }
}

impl GpuImages for OnGpu {
    fn sizes(&self) -> [usize; 4] {
        self.sizes
    }

    fn id(&self) -> u64 {
        self.id
    }

    fn launch(&self, element: Element, images: &Buffer) -> cn_cuda::Result<()> {
        self.batcher.launch(element, images)
    }
}

/// The batches of an epoch, or of an evaluation.
pub(crate) enum Feed {
    Host(BatchStream),
    Gpu(BatchStream<PlannedBatch>),
}

/// One of them.
#[derive(Debug)]
pub(crate) enum Fed {
    Host(Batch),
    Gpu(PlannedBatch),
}

impl Feed {
    /// Evaluation batches of these images, of the GPU if training has brought them there.
    pub(crate) fn eval(batches: &Batches, resident: &Resident, ids: &[u32]) -> Result<Self> {
        Ok(match resident {
            Resident::Yes(_) => Self::Gpu(batches.plan_eval(ids)?),
            Resident::Unknown | Resident::No => Self::Host(batches.eval(ids)?),
        })
    }

    pub(crate) fn next(&mut self) -> Result<Option<Fed>> {
        Ok(match self {
            Self::Host(batches) => batches.next().transpose()?.map(Fed::Host),
            Self::Gpu(batches) => batches.next().transpose()?.map(Fed::Gpu),
        })
    }

    /// Lets the memory of a batch that nobody uses any more be used again.
    pub(crate) fn give_back(&self, batch: Fed) {
        if let (Self::Host(batches), Fed::Host(batch)) = (self, batch) {
            batches.give_back(batch);
        }
    }
}

impl Fed {
    pub(super) fn ids(&self) -> &[u32] {
        match self {
            Self::Host(batch) => &batch.ids,
            Self::Gpu(batch) => &batch.ids,
        }
    }

    pub(crate) fn targets(&self) -> &Tensor {
        match self {
            Self::Host(batch) => &batch.targets,
            Self::Gpu(batch) => &batch.targets,
        }
    }

    /// The images on the host.
    pub(crate) fn here(&self, batches: &Batches) -> Result<Tensor> {
        match self {
            Self::Host(batch) => Ok(batch.images.clone()),
            Self::Gpu(batch) => Ok(batches.of_plan(batch)?.images),
        }
    }
}

impl Resident {
    /// The images of a step, which are uploaded or made there; `None` if they are nowhere.
    pub(crate) fn images<'a>(&'a mut self, batch: &'a Fed) -> Result<Option<Images<'a>>> {
        match (self, batch) {
            (_, Fed::Host(batch)) => Ok(Some(Images::Host(&batch.images))),
            (Self::Yes(there), Fed::Gpu(batch)) => {
                there.prepare(batch)?;
                Ok(Some(Images::Gpu(&**there)))
            }
            _ => Ok(None),
        }
    }
}

impl<M: Model> Learner<M> {
    /// The training batches of `epoch`, without the first `skip`: of the model's GPU, where that holds the images.
    pub(super) fn feed(&mut self, epoch: u32, skip: usize) -> Result<Feed> {
        if matches!(self.resident, Resident::Unknown) {
            self.resident = self.upload_images()?;
        }
        Ok(match self.resident {
            Resident::Yes(_) => Feed::Gpu(self.batches.plan(epoch, skip)?),
            Resident::Unknown | Resident::No => Feed::Host(self.batches.train(epoch, skip)?),
        })
    }

    fn upload_images(&self) -> Result<Resident> {
        let Some(device) = self.model.gpu() else { return Ok(Resident::No) };
        match self.batches.on_gpu(device) {
            Ok(Some(batcher)) => Ok(Resident::Yes(Box::new(OnGpu::new(batcher)))),
            Ok(None) => Ok(Resident::No),
            // There may still be room for a batch at a time.
            Err(error @ Error::Augment(cn_augment::Error::Cuda(cn_cuda::Error::OutOfMemory { .. }))) => {
                tracing::warn!(%error, "the images do not fit the GPU's memory: batches are made by the CPU");
                Ok(Resident::No)
            }
            // Grey planes cannot show colours: only the host sees whether there are any.
            Err(Error::Augment(cn_augment::Error::Colours { .. })) => Ok(Resident::No),
            Err(error) => Err(error),
        }
    }
}
