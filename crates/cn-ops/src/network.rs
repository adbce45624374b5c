//! A layer that can be trained.

use crate::gpu::{GpuConfig, GpuSide};
use crate::storage::{check_shape, copy_into};
use crate::{
    Activation, Adam, Buffers, Draw, Entry, Error, GpuImages, InputGrad, Interrupt, Layer, Mode, Model,
    NotFiniteOutput, Parameters, Pass, Pool, Result, Slot, StepEnd, Trace, TrainStep,
};
use candle_core::{Shape, Tensor};
use cn_kernels::Precision;
use cn_kernels::conv::{ConvShape, Prepared};
use std::collections::{BTreeMap, BTreeSet};

/// A layer with its parameters in one flat buffer and the memory of its activations.
pub struct Network {
    layer: Box<dyn Layer>,
    parameters: Parameters,
    pool: Pool,
    precision: Precision,
    recompute: Recompute,
    interrupt: Interrupt,
    /// Whether the last pass saved, where that is asked.
    last: Option<bool>,
    gpu: Option<Box<GpuSide>>,
}

impl Network {
    /// Takes over `layer`, whose parameters move into one flat buffer; `group_of` gives each of them, by its full name,
    /// its parameter group (0 for the earliest layers).
    ///
    /// # Errors
    ///
    /// If the parameters differ in type or device, or memory runs out.
    pub fn new(layer: impl Layer + 'static, group_of: impl Fn(&str) -> usize) -> Result<Self> {
        let mut layer: Box<dyn Layer> = Box::new(layer);
        let parameters = Parameters::gather(&mut layer, group_of)?;
        Ok(Self {
            layer,
            parameters,
            pool: Pool::default(),
            precision: Precision::F32,
            recompute: Recompute::Never,
            interrupt: Interrupt::default(),
            last: None,
            gpu: None,
        })
    }

    /// The same with convolutions of `precision` in every pass of [`Model`]: their operands are rounded to it, sums,
    /// weights and all other layers stay as they are. Where the processor has no such products, nothing changes.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Whether training passes of [`Model`] keep the activations inside [`crate::Recomputed`] parts, or compute them twice.
    /// The bits of a step do not depend on it.
    pub fn set_recompute(&mut self, recompute: Recompute) {
        self.recompute = recompute;
    }

    /// What it does with activations in training.
    #[must_use]
    pub fn recompute(&self) -> Recompute {
        self.recompute
    }

    /// The same, but whole training steps ([`Model::train_step`]) and passes in use run on `device`, layer by layer alone
    /// on the CPU.
    ///
    /// # Errors
    ///
    /// [`Error::NotOnGpu`] if a layer has no kernels there, or if memory runs out.
    pub fn on_gpu(mut self, device: &cn_cuda::Device, config: GpuConfig) -> Result<Self> {
        self.gpu = Some(Box::new(GpuSide::new(device, &mut self, config)?));
        Ok(self)
    }

    /// Ends passes from now on, before their next layer, when `interrupt` says so. A step on a GPU is one piece.
    pub fn set_interrupt(&mut self, interrupt: Interrupt) {
        self.interrupt = interrupt;
    }

    /// Runs `f` with the twin on a device, if there is one, while this is the one on the CPU.
    fn with_gpu<R>(&mut self, f: impl FnOnce(&mut GpuSide, &mut Self) -> Result<R>) -> Result<Option<R>> {
        let Some(mut gpu) = self.gpu.take() else { return Ok(None) };
        let result = f(&mut gpu, self);
        self.gpu = Some(gpu);
        result.map(Some)
    }

    /// Brings the newest values to the CPU.
    fn pull(&mut self) -> Result<()> {
        self.with_gpu(GpuSide::pull).map(drop)
    }

    /// The memory of the activations.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The layer, to visit or to run by hand.
    pub fn layer_mut(&mut self) -> &mut dyn Layer {
        &mut *self.layer
    }

    /// Output for `images (B, H, W, C)` under a pass of the caller's, as for named activations:
    ///
    /// ```
    /// # use cn_ops::*;
    /// # use candle_core::{Device, DType, Tensor};
    /// # fn main() -> Result<()> {
    /// # let device = Device::Cpu;
    /// # let weight = Tensor::ones((2, 1, 1, 1), DType::F32, &device)?;
    /// # let layers = Sequential::new().push("conv", Conv2d::new(weight, Conv2dConfig::default())?).push("pool", MeanPool::new());
    /// # let mut network = Network::new(layers, |_| 0)?;
    /// # let images = Tensor::ones((3, 4, 4, 1), DType::F32, &device)?;
    /// let mut trace = Trace::of(["conv"]);
    /// let logits = network.forward_pass(&images, Pass::eval(network.pool()).saving().traced(&mut trace))?;
    /// network.backward_pass(&logits, Pass::eval(network.pool()).traced(&mut trace))?;
    /// assert_eq!(trace.activations["conv"].dims(), [3, 4, 4, 2]);
    /// assert_eq!(trace.gradients["conv"].dims(), [3, 4, 4, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Model::forward`].
    pub fn forward_pass(&mut self, images: &Tensor, mut pass: Pass<'_>) -> Result<Activation> {
        self.pull()?;
        pass.interrupt.clone_from(&self.interrupt);
        let images = images.detach().contiguous()?;
        in_pool(|| self.layer.forward(&images.into(), &mut pass))
    }

    /// Walks back from `d_logits`, the gradient of the last output, and adds those of the trainable parameters (also
    /// after a pass in evaluation mode: [`Parameters::zero_grads`] clears them). The mode of `pass` plays no part.
    ///
    /// # Errors
    ///
    /// If no forward pass that saves came before.
    pub fn backward_pass(&mut self, d_logits: &Activation, mut pass: Pass<'_>) -> Result<()> {
        pass.interrupt.clone_from(&self.interrupt);
        in_pool(|| self.layer.backward(d_logits.clone(), InputGrad::Skip, &mut pass))?;
        Ok(())
    }
}

fn pass_of<'a>(pool: &Pool, mode: Mode<'a>) -> Pass<'a> {
    match mode {
        Mode::Train(draw) => Pass::train(pool, draw),
        Mode::Eval => Pass::eval(pool),
    }
}

/// Whether activations are computed twice to save memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recompute {
    /// All are kept.
    #[default]
    Never,
    /// Those inside [`crate::Recomputed`] parts are computed once more in the backward pass.
    Always,
}

/// Runs a pass on a thread of the pool: else every kernel would hand its work over, and wait, by itself.
fn in_pool<R: Send>(pass: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| pass())
}

/// Memory of activations and their gradients, for each image of a batch; it grows with the batch and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActivationBytes {
    /// A step that trains all parameters.
    pub train: usize,
    /// A pass in evaluation mode that keeps nothing, in memory of its own.
    pub eval: usize,
}

/// Weights that passes in evaluation mode hold in another order too, which their batches decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreparedWeights {
    precision: Precision,
    convs: Vec<ConvShape>,
    /// Of the images that they were found with.
    side: usize,
}

impl PreparedWeights {
    /// Bytes of all orders that images with a longer side of `side` ask for in batches of these sizes.
    #[must_use]
    pub fn bytes(&self, side: usize, batches: &[usize]) -> usize {
        let scaled = |length: usize| (length * side).div_ceil(self.side).max(1);
        let bytes = |conv: &ConvShape| {
            let conv = ConvShape { height: scaled(conv.height), width: scaled(conv.width), ..*conv };
            Prepared::bytes(self.precision, &conv, batches)
        };
        self.convs.iter().map(bytes).sum()
    }
}

impl Network {
    /// Finds out what activations of images `(H, W, C)` need, by a pass of two images of zeros each way. Values and
    /// buffers are as before afterwards; gradients are not, and memory of the pool that nobody uses is freed.
    ///
    /// # Errors
    ///
    /// If the shape does not fit the network, or memory runs out.
    pub fn activation_bytes(&mut self, image: [usize; 3]) -> Result<ActivationBytes> {
        let before = Buffers::of(self)?;
        let measured = self.measure(image);
        before.put_back(self)?;
        self.pool.clear();
        measured
    }

    /// Finds out which weights passes in evaluation mode put in another order, by such a pass of two images `(H, W, C)` of
    /// zeros.
    ///
    /// # Errors
    ///
    /// As [`Network::activation_bytes`].
    pub fn prepared_weights(&mut self, image: [usize; 3]) -> Result<PreparedWeights> {
        let [height, width, channels] = image;
        let like = self.parameters.values();
        let images = Tensor::zeros((IMAGES, height, width, channels), like.dtype(), like.device())?;
        let mut convs = Vec::new();
        let mut pass = Pass::eval(&self.pool).with_precision(self.precision);
        pass.prepared = Some(&mut convs);
        self.forward_pass(&images, pass)?;
        self.pool.clear();
        Ok(PreparedWeights { precision: self.precision, convs, side: height.max(width) })
    }

    fn measure(&mut self, [height, width, channels]: [usize; 3]) -> Result<ActivationBytes> {
        let like = self.parameters.values();
        // One image alone has no variance where it has one pixel.
        let images = Tensor::zeros((IMAGES, height, width, channels), like.dtype(), like.device())?;
        let draw = Draw { seed: 0, epoch: 0, ids: &[0, 1] };
        let train = self.allocated_by(|network| {
            let logits = network.forward(&images, Mode::Train(draw))?;
            let d_logits = Activation::from(logits.zeros_like()?);
            network.backward(&d_logits)
        })?;
        let eval = self.allocated_by(|network| network.forward(&images, Mode::Eval).map(drop))?;
        Ok(ActivationBytes { train: train.div_ceil(IMAGES), eval: eval.div_ceil(IMAGES) })
    }

    /// The most that the pool, emptied first, holds.
    fn allocated_by(&mut self, pass: impl FnOnce(&mut Self) -> Result<()>) -> Result<usize> {
        self.pool.clear();
        let pool = self.pool.clone();
        let (done, bytes) = pool.peak_of(|| pass(self));
        done?;
        Ok(bytes)
    }
}

/// Images that a measurement sees.
const IMAGES: usize = 2;

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("parameters", &self.parameters.entries().len()).finish_non_exhaustive()
    }
}

impl Model for Network {
    fn forward(&mut self, images: &Tensor, mode: Mode<'_>) -> Result<Activation> {
        if matches!(mode, Mode::Eval)
            && images.dims().last().is_some_and(|n| self.gpu.as_ref().is_some_and(|gpu| gpu.takes(*n)))
            && let Some(logits) = self.with_gpu(|gpu, network| gpu.judge(network, &images.detach().contiguous()?))?
        {
            return Ok(logits);
        }
        let mut pass = pass_of(&self.pool, mode).with_precision(self.precision);
        if self.recompute == Recompute::Always {
            pass.recomputes = true;
            // Passes of the other kind have other sizes.
            if self.last.replace(pass.saves) != Some(pass.saves) {
                self.pool.clear();
            }
        }
        self.forward_pass(images, pass)
    }

    fn backward(&mut self, d_logits: &Activation) -> Result<()> {
        self.backward_pass(d_logits, Pass::eval(&self.pool).with_precision(self.precision))
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn gpu(&self) -> Option<&cn_cuda::Device> {
        self.gpu.as_deref().map(GpuSide::device)
    }

    fn judge(&mut self, images: &dyn GpuImages) -> Result<Option<Activation>> {
        if !self.gpu.as_ref().is_some_and(|gpu| gpu.takes(images.sizes()[3])) {
            return Ok(None);
        }
        self.with_gpu(|gpu, network| gpu.judge_there(network, images))
    }

    fn train_step(&mut self, step: &TrainStep<'_>, adam: &mut Adam) -> Result<Option<StepEnd>> {
        self.with_gpu(|gpu, network| gpu.step(network, step, adam))
    }

    fn settle(&mut self, adam: &mut Adam) -> Result<()> {
        self.with_gpu(|gpu, network| gpu.settle(network, adam)).map(drop)
    }

    fn set_trainable(&mut self, wanted: &dyn Fn(&Entry) -> bool) -> Result<()> {
        if let Some(gpu) = &mut self.gpu {
            gpu.set_trainable(wanted)?;
        }
        self.parameters.set_trainable(&mut self.layer, wanted)
    }

    fn named_tensors(&mut self) -> Result<Vec<(String, Tensor)>> {
        self.pull()?;
        let mut tensors = Vec::new();
        self.layer.visit("", &mut |name, slot| {
            let tensor = match slot {
                Slot::Param(param) => param.value().clone(),
                Slot::Buffer(buffer) => buffer.clone(),
            };
            tensors.push((name.to_string(), tensor));
            Ok(())
        })?;
        check_unique(&tensors)?;
        Ok(tensors)
    }

    fn find_not_finite(&mut self, images: &Tensor, mode: Mode<'_>) -> Result<Option<NotFiniteOutput>> {
        let mut trace = Trace::watching_numbers();
        let pass = pass_of(&self.pool, mode).with_precision(self.precision).traced(&mut trace);
        self.forward_pass(images, pass)?;
        Ok(trace.not_finite)
    }

    fn load_tensors(&mut self, tensors: &[(String, Tensor)]) -> Result<()> {
        self.parameters.touch();
        load_into(&self.named_tensors()?, tensors)?;
        if let Some(gpu) = &mut self.gpu {
            gpu.host_changed();
        }
        Ok(())
    }
}

fn check_unique(tensors: &[(String, Tensor)]) -> Result<()> {
    let mut names = BTreeSet::new();
    match tensors.iter().find(|(name, _)| !names.insert(name)) {
        Some((name, _)) => Err(Error::DuplicateName { name: name.clone() }),
        None => Ok(()),
    }
}

/// Overwrites those of `model` that `tensors` names, after all of them have been checked.
pub(crate) fn load_into(model: &[(String, Tensor)], tensors: &[(String, Tensor)]) -> Result<()> {
    check_unique(tensors)?;
    let by_name: BTreeMap<&str, &Tensor> = model.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let find = |name: &str| by_name.get(name).copied().ok_or_else(|| Error::UnknownTensor { name: name.to_string() });
    for (name, from) in tensors {
        let to: &Shape = find(name)?.shape();
        check_shape(name, from, to.dims())?;
    }
    tensors.iter().try_for_each(|(name, from)| copy_into(find(name)?, from))
}

#[cfg(test)]
mod tests;
