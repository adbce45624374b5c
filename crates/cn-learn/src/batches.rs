//! Batches of augmented images, made ahead on a thread of their own.

use crate::{Error, Result, Source};
use candle_core::{DType, Device, Tensor};
use cn_augment::{Batcher, Geometry, GpuBatcher, Image, Normalisation, Planes, Policy};
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// How batches are made.
#[derive(Clone, Debug)]
pub struct BatchConfig {
    /// Images of a training batch; an epoch drops what does not fill one.
    pub batch_size: usize,
    /// Images of an evaluation batch, of which the last may be smaller.
    pub eval_batch_size: usize,
    /// What happens to training images.
    pub train: Policy,
    /// What happens to images that are evaluated; without randomness.
    pub eval: Policy,
    /// Channels of the model, 1 or 3.
    pub channels: usize,
    /// From bytes to numbers.
    pub normalisation: Normalisation,
    /// What a batch holds of each pixel: the channels, or the planes that those of grey images are sums of.
    pub planes: Planes,
    /// Where batches are needed.
    pub device: Device,
    /// Threads that make them. They work beside training, which needs the machine: one makes several thousand images a
    /// second.
    pub threads: usize,
}

impl BatchConfig {
    /// Batches of 64 on the CPU, three channels in [0, 1], made by one thread.
    #[must_use]
    pub fn new(train: Policy, eval: Policy) -> Self {
        Self {
            batch_size: 64,
            eval_batch_size: 64,
            train,
            eval,
            channels: 3,
            normalisation: Normalisation::none(),
            planes: Planes::Channels,
            device: Device::Cpu,
            threads: 1,
        }
    }
}

/// Images and their targets, ready for a model.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Ids of the images, `(B)`.
    pub ids: Vec<u32>,
    /// Images, `(B, S, S, C)`, `f32`, normalised, or planes `(B, S, S, P)`. The memory is used again for a later batch.
    pub images: Tensor,
    /// Targets, `(B, K)`, `f32`.
    pub targets: Tensor,
}

/// A batch that is made elsewhere, by a geometry for each image.
#[derive(Clone, Debug)]
pub(crate) struct PlannedBatch {
    pub(crate) ids: Vec<u32>,
    pub(crate) geometry: Vec<Geometry>,
    pub(crate) targets: Tensor,
}

/// Makes training and evaluation batches of a [`Source`].
pub struct Batches {
    maker: Arc<Maker>,
    seed: u64,
}

impl Batches {
    /// Batches of `source`; all draws are keyed by `seed`, the epoch and the image's id.
    ///
    /// # Errors
    ///
    /// If a batch size or the channels are not possible, the training part does not fill a batch, or threads are
    /// refused.
    pub fn new(source: Arc<dyn Source>, config: BatchConfig, seed: u64) -> Result<Self> {
        let sizes = [("batch_size", config.batch_size), ("eval_batch_size", config.eval_batch_size)];
        if let Some((name, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(Error::Setting { name, value: 0.0, expected: "at least 1" });
        }
        let (n_images, batch_size) = (source.n_train(), config.batch_size);
        if n_images < batch_size {
            return Err(Error::TooFewImages { n_images, batch_size });
        }
        let batcher = Batcher::new(config.channels, config.normalisation.clone())?.with_planes(config.planes);
        let threads = rayon::ThreadPoolBuilder::new().num_threads(config.threads.max(1)).build();
        let threads = threads.map_err(|e| Error::BatchThread { source: Some(std::io::Error::other(e)) })?;
        Ok(Self { maker: Arc::new(Maker { source, config, batcher, threads }), seed })
    }

    /// Where images and targets come from.
    #[must_use]
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.maker.source
    }

    /// How batches are made.
    #[must_use]
    pub fn config(&self) -> &BatchConfig {
        &self.maker.config
    }

    /// What all draws are keyed by.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Training batches of an epoch.
    #[must_use]
    pub fn steps_per_epoch(&self) -> usize {
        self.maker.source.n_train() / self.maker.config.batch_size
    }

    /// The training batches of `epoch`, without the first `skip`.
    ///
    /// # Errors
    ///
    /// If the source has no order for the epoch, or a thread is refused.
    pub fn train(&self, epoch: u32, skip: usize) -> Result<BatchStream> {
        let part = Part::Train { seed: self.seed, epoch };
        self.stream(self.train_ids(epoch, skip)?, move |maker, ids, free, room| maker.make(part, ids, free, room))
    }

    fn train_ids(&self, epoch: u32, skip: usize) -> Result<Vec<Vec<u32>>> {
        let order = self.maker.source.train_order(self.seed, epoch)?;
        Ok(order.chunks_exact(self.maker.config.batch_size).skip(skip).map(<[u32]>::to_vec).collect())
    }

    /// As [`Batches::train`], for whom has the images already.
    pub(crate) fn plan(&self, epoch: u32, skip: usize) -> Result<BatchStream<PlannedBatch>> {
        self.planned(Part::Train { seed: self.seed, epoch }, self.train_ids(epoch, skip)?)
    }

    /// As [`Batches::eval`], likewise.
    pub(crate) fn plan_eval(&self, ids: &[u32]) -> Result<BatchStream<PlannedBatch>> {
        self.planned(Part::Eval, self.eval_ids(ids))
    }

    fn planned(&self, part: Part, ids: Vec<Vec<u32>>) -> Result<BatchStream<PlannedBatch>> {
        self.stream(ids, move |maker, ids, _, room| {
            let images = maker.source.images(&ids, room)?;
            let geometry = maker.geometry(part, &ids, &images)?;
            let targets = maker.targets(&ids)?;
            Ok(PlannedBatch { ids, geometry, targets })
        })
    }

    /// The images of a batch that was planned.
    pub(crate) fn of_plan(&self, batch: &PlannedBatch) -> Result<Batch> {
        let mut room = Vec::new();
        let images = self.maker.source.images(&batch.ids, &mut room)?;
        let images = self.maker.render(&images, &batch.geometry, Vec::new())?;
        Ok(Batch { ids: batch.ids.clone(), images, targets: batch.targets.clone() })
    }

    /// All images on `device`, and what makes batches of them there; `None` where they are not one stack.
    pub(crate) fn on_gpu(&self, device: &cn_cuda::Device) -> Result<Option<GpuBatcher>> {
        let Some(stack) = self.maker.source.stack() else { return Ok(None) };
        let BatchConfig { batch_size, eval_batch_size, .. } = self.maker.config;
        Ok(Some(GpuBatcher::new(device, &self.maker.batcher, &stack, batch_size.max(eval_batch_size))?))
    }

    /// Evaluation batches of these images, in this order.
    ///
    /// # Errors
    ///
    /// If a thread is refused.
    pub fn eval(&self, ids: &[u32]) -> Result<BatchStream> {
        self.stream(self.eval_ids(ids), |maker, ids, free, room| maker.make(Part::Eval, ids, free, room))
    }

    fn eval_ids(&self, ids: &[u32]) -> Vec<Vec<u32>> {
        ids.chunks(self.maker.config.eval_batch_size).map(<[u32]>::to_vec).collect()
    }

    /// One batch of images that belong to no data set, as evaluation sees them: `(B, S, S, C)` or `(B, S, S, P)`.
    ///
    /// # Errors
    ///
    /// If there is no image, one does not match its shape, or one has colours that planes cannot show.
    pub fn of_images(&self, images: &[Image<'_>]) -> Result<Tensor> {
        let ids: Vec<u32> = (0..).take(images.len()).collect();
        let geometry = self.maker.geometry(Part::Eval, &ids, images)?;
        Ok(self.maker.batcher.batch(images, &geometry, &self.maker.config.device)?)
    }

    fn stream<B: Send + 'static>(
        &self,
        ids: Vec<Vec<u32>>,
        make: impl Fn(&Maker, Vec<u32>, Vec<Tensor>, &mut Vec<u8>) -> Result<B> + Send + Sync + 'static,
    ) -> Result<BatchStream<B>> {
        let n_left = ids.len();
        // One batch waits while the next is made.
        let (batches, received) = sync_channel(1);
        let (give_back, free) = channel();
        let maker = Arc::clone(&self.maker);
        let work = move || maker.make_all(ids, &make, &free, &batches);
        let thread = std::thread::Builder::new().name("batches".into()).spawn(work);
        let thread = thread.map_err(|e| Error::BatchThread { source: Some(e) })?;
        Ok(BatchStream { received: Some(received), give_back, n_left, thread: Some(thread) })
    }
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches").field("config", &self.maker.config).field("seed", &self.seed).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Train { seed: u64, epoch: u32 },
    Eval,
}

/// What the thread works with.
struct Maker {
    source: Arc<dyn Source>,
    config: BatchConfig,
    batcher: Batcher,
    /// Threads apart from those that train, so that batches do not take them all.
    threads: rayon::ThreadPool,
}

impl Maker {
    /// Makes batches until the last one, an error, or nobody listens.
    fn make_all<B: Send>(
        &self,
        ids: Vec<Vec<u32>>,
        make: &(impl Fn(&Self, Vec<u32>, Vec<Tensor>, &mut Vec<u8>) -> Result<B> + Sync),
        free: &Receiver<Tensor>,
        batches: &SyncSender<Result<B>>,
    ) {
        let mut room = Vec::new();
        for ids in ids {
            let free: Vec<Tensor> = free.try_iter().collect();
            let batch = self.threads.install(|| make(self, ids, free, &mut room));
            let failed = batch.is_err();
            if batches.send(batch).is_err() || failed {
                return;
            }
        }
    }

    fn make(&self, part: Part, ids: Vec<u32>, free: Vec<Tensor>, room: &mut Vec<u8>) -> Result<Batch> {
        let images = self.source.images(&ids, room)?;
        let geometry = self.geometry(part, &ids, &images)?;
        let images = self.render(&images, &geometry, free)?;
        let targets = self.targets(&ids)?;
        Ok(Batch { ids, images, targets })
    }

    fn targets(&self, ids: &[u32]) -> Result<Tensor> {
        let targets = self.source.targets(ids)?;
        Ok(Tensor::from_vec(targets, (ids.len(), self.source.n_classes()), &self.config.device)?)
    }

    fn geometry(&self, part: Part, ids: &[u32], images: &[Image<'_>]) -> Result<Vec<Geometry>> {
        let (policy, seed, epoch) = match part {
            Part::Train { seed, epoch } => (&self.config.train, seed, epoch),
            Part::Eval => (&self.config.eval, 0, 0),
        };
        Ok(policy.geometries(images, seed, epoch, ids)?)
    }

    /// Into memory that was given back, if it fits.
    fn render(&self, images: &[Image<'_>], geometry: &[Geometry], free: Vec<Tensor>) -> Result<Tensor> {
        let fits = |tensor: &Tensor| {
            let size = geometry.first().map_or(0, |g| g.size as usize);
            tensor.dims() == [images.len(), size, size, self.batcher.n_planes()] && tensor.dtype() == DType::F32
        };
        match free.into_iter().find(fits) {
            Some(tensor) if self.config.device.is_cpu() => {
                self.batcher.fill_tensor(images, geometry, &tensor)?;
                Ok(tensor)
            }
            _ => Ok(self.batcher.batch(images, geometry, &self.config.device)?),
        }
    }
}

/// The batches of an epoch or of an evaluation, in order.
#[derive(Debug)]
pub struct BatchStream<B = Batch> {
    received: Option<Receiver<Result<B>>>,
    give_back: Sender<Tensor>,
    n_left: usize,
    thread: Option<JoinHandle<()>>,
}

impl BatchStream {
    /// Lets the memory of a batch that nobody uses any more be used again.
    pub fn give_back(&self, batch: Batch) {
        // The thread may be done already; then the memory is freed.
        let _ = self.give_back.send(batch.images);
    }
}

impl<B> Iterator for BatchStream<B> {
    type Item = Result<B>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.n_left == 0 {
            return None;
        }
        self.n_left -= 1;
        let batch = self.received.as_ref().and_then(|received| received.recv().ok());
        let batch = batch.unwrap_or(Err(Error::BatchThread { source: None }));
        if batch.is_err() {
            self.n_left = 0;
        }
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.n_left, Some(self.n_left))
    }
}

impl<B> ExactSizeIterator for BatchStream<B> {}

impl<B> Drop for BatchStream<B> {
    fn drop(&mut self) {
        // Without a receiver the thread ends at its next batch.
        self.received = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has already come up as `Error::BatchThread`.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
