//! A network that trains and judges on a device.

use super::adam_rates;
use super::memory::{Lease, Value};
use super::parameters::GpuParameters;
use super::program::{Context, Grad, Pass, Step, Writer, hold};
use super::recorded::Program;
use super::spec::Spec;
use crate::{Adam, AdamConfig, Entry, Error, Hyper, Loss, Model, Network, Result};
use candle_core::Tensor;
use cn_cuda::{AdamRates, Buffer, Device, Element, Grads, Products, StepState, Timing, Widen};
use cn_kernels::optim::AdamStep;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a [`GpuNetwork`] computes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GpuConfig {
    /// Type of images and activations; parameters, sums and the head behind the pool are `f32`.
    pub element: Element,
    /// How products of `f32` are computed.
    pub products: Products,
}

/// A training step: batch, forward, loss, backward, update.
struct Training {
    /// What it was written down for: sizes of the images, and the loss.
    of: ([usize; 4], Loss),
    program: Program,
    ids: Buffer,
    images: Buffer,
    targets: Buffer,
    loss: Buffer,
    logits: Buffer,
    /// Brings gradients that are left in bf16 to the others, for who asks.
    widen: Widen,
}

/// A forward pass with running statistics.
struct Judging {
    program: Program,
    /// Makes weights ready when parameters have changed, and the changes at which that was done last.
    folds: Vec<Step>,
    folded_at: Option<u64>,
    images: Buffer,
    logits: Buffer,
}

/// The memory of a network on a device, and its steps written down for it.
///
/// A training step launches the same kernels over the same memory each time: after the first two it is one launch of what
/// was recorded, without asking for memory. Parameters stay on the device until [`GpuNetwork::store`] copies them back.
pub struct GpuNetwork {
    device: Device,
    config: GpuConfig,
    spec: Spec,
    entries: Vec<Entry>,
    parameters: GpuParameters,
    trained: Arc<Vec<AtomicBool>>,
    state: StepState,
    optimizer: cn_cuda::Adam,
    /// Updates so far, for each entry.
    steps: Vec<u32>,
    training: Option<Training>,
    judging: HashMap<[usize; 4], Judging>,
    /// Counts what changes parameters or running moments.
    changes: u64,
}

impl std::fmt::Debug for GpuNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuNetwork").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What a training step is of.
#[derive(Clone, Copy, Debug)]
pub struct GpuStep<'a> {
    /// B, H, W, C of the images.
    pub images: [usize; 4],
    /// Seed of the run and epoch; dropout draws by them.
    pub seed: u64,
    /// Epoch, from 0.
    pub epoch: u32,
    /// Numbers of the images, `(B)`.
    pub ids: &'a [u32],
    /// Targets, `(B, K)`.
    pub targets: &'a [f32],
    /// What is minimised.
    pub loss: Loss,
    /// The optimizer.
    pub adam: AdamConfig,
    /// Rates of the parameter groups, and the first moment's decay.
    pub hyper: Hyper<'a>,
}

impl GpuNetwork {
    /// Copies `network` to `device`.
    ///
    /// # Errors
    ///
    /// [`Error::NotOnGpu`] if a layer has no kernels there, if a shape does not fit, or memory runs out.
    pub fn new(device: &Device, network: &mut Network, config: GpuConfig) -> Result<Self> {
        let spec = network.layer_mut().spec("")?;
        let entries = network.parameters().entries().to_vec();
        let parameters = GpuParameters::new(device, network, config.element)?;
        let tensors: Vec<_> = parameters.slots.iter().map(|slot| (slot.offset, slot.len)).collect();
        let trained = Arc::new(entries.iter().map(|entry| AtomicBool::new(entry.trainable)).collect());
        Ok(Self {
            device: device.clone(),
            config,
            spec,
            trained,
            state: StepState::new(device)?,
            optimizer: cn_cuda::Adam::new(device, &tensors, parameters.len())?,
            steps: vec![0; entries.len()],
            entries,
            parameters,
            training: None,
            judging: HashMap::new(),
            changes: 0,
        })
    }

    /// Writes down the training step.
    fn write_training(&self, images: [usize; 4], kind: Loss) -> Result<Training> {
        let of = (images, kind);
        let [batch, ..] = images;
        let element = self.config.element;
        let ids = self.device.zeros(batch.max(1) * 4, "image numbers")?;
        let context = Context {
            device: &self.device,
            parameters: &self.parameters,
            trained: &self.trained,
            state: &self.state,
            ids: &ids,
            products: self.config.products,
        };
        let mut writer = Writer::new(&context, Pass::Train);
        let images = writer.planner().value(&images, element)?;
        let mut held: Vec<Lease> = vec![hold(&images)];
        let buffer = images.buffer();
        let (logits, back) = writer.layer(&self.spec, images)?;
        let classes = check_logits(&logits)?;
        held.push(hold(&logits));
        let d_logits = writer.planner().value(&logits.dims, Element::F32)?;
        let targets = self.device.zeros(batch * classes * 4, "targets")?;
        let loss = self.device.zeros(4, "the loss")?;
        let kind = device_loss(kind)?;
        let (device, x, t, l, d) =
            (self.device.clone(), logits.buffer(), targets.clone(), loss.clone(), d_logits.buffer());
        writer.steps.push(Box::new(move || kind.run(&device, classes, [&x, &t], [&l, &d])));
        back(&mut writer, d_logits, Grad::Skip)?;
        let (mut steps, narrow) = (std::mem::take(&mut writer.steps), std::mem::take(&mut writer.narrow));
        drop(writer);
        let logits = logits.buffer();
        steps.push(self.update(loss.clone(), &narrow)?);
        drop(held);
        let program = Program::new(steps);
        let slots = narrow.iter().map(|i| &self.parameters.slots[*i]);
        let tensors: Vec<_> = slots.map(|slot| (slot.offset, slot.len)).collect();
        let widen = Widen::new(&self.device, &tensors, self.parameters.len())?;
        Ok(Training { of, program, ids, images: buffer, targets, loss, logits, widen })
    }

    /// Watches all gradients, of which some are `narrow`, the loss and the running moments, and updates.
    fn update(&self, loss: Buffer, narrow: &[usize]) -> Result<Step> {
        let GpuParameters { values, grads, copy, narrow: narrow_grads, .. } = &self.parameters;
        let (values, wide, copy, narrow_grads) = (values.clone(), grads.clone(), copy.clone(), narrow_grads.clone());
        let moments = self.parameters.moments().clone();
        let (state, optimizer) = (self.state.clone(), self.optimizer.with_narrow(narrow)?);
        Ok(Box::new(move || {
            let grads = Grads { wide: &wide, narrow: narrow_grads.as_ref() };
            state.watch(&loss)?;
            // The variance of finite activations can be infinite, which no other number tells.
            state.watch(&moments)?;
            optimizer.watch(&state, grads)?;
            optimizer.step(&state, &values, grads, copy.as_ref())
        }))
    }

    /// C of the images that its first convolution takes.
    #[must_use]
    pub fn in_channels(&self) -> Option<usize> {
        self.spec.in_channels()
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// One step: `make_batch` launches what fills the images `(B, H, W, C)`; then forward, loss, backward, update.
    ///
    /// A step whose loss, gradients or running moments are no numbers updates nothing; [`GpuNetwork::is_finite`] tells.
    /// `make_batch` is recorded with the step, and from the third step on not called again: what changes must lie in
    /// buffers.
    ///
    /// # Errors
    ///
    /// What `make_batch` returns, if a length does not fit, or the device fails.
    pub fn step(&mut self, step: &GpuStep<'_>, make_batch: impl Fn(&Buffer) -> Result<()>) -> Result<()> {
        self.prepare(step)?;
        let training = self.training.as_mut().ok_or_else(no_training)?;
        let images = &training.images;
        training.program.run(&self.device, &|| make_batch(images))?;
        self.parameters.count_batches(1);
        Ok(())
    }

    /// As [`GpuNetwork::step`], launch by launch, each of them timed; `None` where the device has no clock.
    ///
    /// # Errors
    ///
    /// As [`GpuNetwork::step`].
    pub fn time_step(
        &mut self,
        step: &GpuStep<'_>,
        make_batch: impl Fn(&Buffer) -> Result<()>,
    ) -> Result<Option<Vec<Timing>>> {
        self.prepare(step)?;
        let training = self.training.as_mut().ok_or_else(no_training)?;
        let images = &training.images;
        let timings = self.device.time(|| training.program.launch_each(&|| make_batch(images)))?;
        self.parameters.count_batches(1);
        Ok(timings)
    }

    /// Uploads what changes from step to step; a step of other sizes is written down anew.
    fn prepare(&mut self, step: &GpuStep<'_>) -> Result<()> {
        self.changes += 1;
        let of = (step.images, step.loss);
        if self.training.as_ref().is_none_or(|training| training.of != of) {
            // The memory of the old one is free before that of the new one is taken.
            self.training = None;
            self.training = Some(or_smaller(step.images, |images| self.write_training(images, step.loss))?);
        }
        let training = self.training.as_ref().ok_or_else(no_training)?;
        training.targets.write_floats(step.targets)?;
        training.ids.write_words(step.ids)?;
        self.state.begin(step.seed, step.epoch)?;
        self.parameters.keep_buffers()?;
        let rates = self.rates(step.adam, &step.hyper)?;
        Ok(self.optimizer.set_rates(&rates)?)
    }

    /// Counts a step of each trained entry.
    fn rates(&mut self, adam: AdamConfig, hyper: &Hyper<'_>) -> Result<Vec<AdamRates>> {
        let n_groups = self.entries.iter().map(|e| e.group + 1).max().unwrap_or(0);
        if hyper.lr.len() < n_groups {
            let value = hyper.lr.len() as f64;
            return Err(Error::Setting { name: "number of rates", value, expected: "one for each group" });
        }
        if !(0.0..1.0).contains(&hyper.beta1) {
            let value = hyper.beta1;
            return Err(Error::Setting { name: "beta1", value, expected: "a number from 0 up to 1" });
        }
        let AdamConfig { beta2, eps, weight_decay } = adam;
        let of = |(entry, (step, trained)): (&Entry, (&mut u32, &AtomicBool))| {
            if !trained.load(Ordering::Relaxed) {
                return AdamRates::default();
            }
            *step += 1;
            let weight_decay = if entry.decay { weight_decay } else { 0.0 };
            let (lr, beta1) = (hyper.lr[entry.group], hyper.beta1);
            adam_rates(&AdamStep { lr, beta1, beta2, eps, weight_decay, step: *step })
        };
        Ok(self.entries.iter().zip(self.steps.iter_mut().zip(self.trained.iter())).map(of).collect())
    }

    /// Why steps are launched one by one and not as what was recorded, if so.
    #[must_use]
    pub fn not_recorded(&self) -> Option<&str> {
        self.training.as_ref()?.program.not_recorded.as_deref()
    }

    /// Whether loss, gradients and running moments of the last step were finite; waits for the device.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn is_finite(&self) -> Result<bool> {
        Ok(self.state.is_finite()?)
    }

    /// Takes back what the last step did besides updating: running moments and counts. For steps that were not finite.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn undo_step(&mut self) -> Result<()> {
        for (step, trained) in self.steps.iter_mut().zip(self.trained.iter()) {
            *step -= u32::from(trained.load(Ordering::Relaxed) && *step > 0);
        }
        self.parameters.count_batches(-1);
        self.changes += 1;
        Ok(self.parameters.put_buffers_back()?)
    }

    /// The loss of the last step; waits for the device.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn loss(&self) -> Result<f32> {
        let training = self.training.as_ref().ok_or_else(no_training)?;
        Ok(training.loss.read_floats()?[0])
    }

    /// The logits of the last step, `(B, K)` row by row; waits for the device.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn train_logits(&self) -> Result<Vec<f32>> {
        let training = self.training.as_ref().ok_or_else(no_training)?;
        Ok(training.logits.read_floats()?)
    }

    /// Logits of images of these sizes (B, H, W, C), `(B, K)` row by row, in use; `make_batch` launches what fills them.
    ///
    /// # Errors
    ///
    /// What `make_batch` returns, if the sizes do not fit the network, or if the device fails.
    pub fn judge(&mut self, images: [usize; 4], make_batch: impl FnOnce(&Buffer) -> Result<()>) -> Result<Vec<f32>> {
        self.launch_judging(images, make_batch)?;
        Ok(self.judging.get(&images).ok_or_else(no_training)?.logits.read_floats()?)
    }

    /// The same, without waiting for the logits.
    ///
    /// # Errors
    ///
    /// As [`GpuNetwork::judge`].
    pub fn launch_judging(&mut self, images: [usize; 4], make_batch: impl FnOnce(&Buffer) -> Result<()>) -> Result<()> {
        if !self.judging.contains_key(&images) {
            let judging = or_smaller(images, |images| self.write_judging(images))?;
            self.judging.insert(images, judging);
        }
        let judging = self.judging.get_mut(&images).ok_or_else(no_training)?;
        // Batches of use differ in more than their buffers, so that they are made before, and not recorded.
        make_batch(&judging.images)?;
        if judging.folded_at != Some(self.changes) {
            judging.folds.iter_mut().try_for_each(|fold| fold())?;
            judging.folded_at = Some(self.changes);
        }
        judging.program.run(&self.device, &|| Ok(()))
    }

    fn write_judging(&self, images: [usize; 4]) -> Result<Judging> {
        let no_ids = self.device.zeros(4, "image numbers")?;
        let context = Context {
            device: &self.device,
            parameters: &self.parameters,
            trained: &self.trained,
            state: &self.state,
            ids: &no_ids,
            products: self.config.products,
        };
        let mut writer = Writer::new(&context, Pass::Eval);
        let images: Value = writer.planner().value(&images, self.config.element)?;
        let (_held, buffer) = (hold(&images), images.buffer());
        let (logits, back) = writer.layer(&self.spec, images)?;
        check_logits(&logits)?;
        drop(back);
        let program = Program::new(std::mem::take(&mut writer.steps));
        let folds = std::mem::take(&mut writer.folds);
        Ok(Judging { program, folds, folded_at: None, images: buffer, logits: logits.buffer() })
    }

    /// Trains exactly the entries that `wanted` names from the next step on.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn set_trainable(&mut self, wanted: impl Fn(&Entry) -> bool) -> Result<()> {
        for (entry, trained) in self.entries.iter_mut().zip(self.trained.iter()) {
            entry.trainable = wanted(entry);
            trained.store(entry.trainable, Ordering::Relaxed);
        }
        // Steps that were recorded leave out what was frozen then.
        self.forget_recording();
        Ok(self.parameters.zero_grads()?)
    }

    /// Has the next step launched kernel by kernel, and the one after it recorded: for images from elsewhere.
    pub fn forget_recording(&mut self) {
        if let Some(training) = &mut self.training {
            training.program.forget();
        }
    }

    /// Copies values and running moments into `network`, from which this was made.
    ///
    /// # Errors
    ///
    /// If it is another network, or the device fails.
    pub fn store(&self, network: &mut Network) -> Result<()> {
        self.parameters.store(network)
    }

    /// Takes values and running moments from `network` again.
    ///
    /// # Errors
    ///
    /// As [`GpuNetwork::store`].
    pub fn load(&mut self, network: &mut Network) -> Result<()> {
        self.changes += 1;
        self.parameters.load(network)
    }

    /// Copies moments and steps into the optimizer of `network`.
    ///
    /// # Errors
    ///
    /// As [`GpuNetwork::store`].
    pub fn store_optimizer(&self, network: &Network, adam: &mut Adam) -> Result<()> {
        let moments =
            |of: &Buffer| -> Result<Tensor> { self.parameters.to_host_order(network.parameters(), &of.read_floats()?) };
        adam.load(&moments(&self.optimizer.m)?, &moments(&self.optimizer.v)?, &self.steps)
    }

    /// Takes moments and steps from the optimizer of `network`.
    ///
    /// # Errors
    ///
    /// As [`GpuNetwork::store`].
    pub fn load_optimizer(&mut self, network: &Network, adam: &Adam) -> Result<()> {
        for (to, from) in [(&self.optimizer.m, adam.m()), (&self.optimizer.v, adam.v())] {
            to.write_floats(&self.parameters.to_device_order(network.parameters(), from)?)?;
        }
        self.steps.copy_from_slice(adam.steps());
        Ok(())
    }

    /// Gradients of the last step in the order of the network's [`Parameters`](crate::Parameters).
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn grads(&self, network: &Network) -> Result<Tensor> {
        let GpuParameters { grads, narrow, .. } = &self.parameters;
        if let (Some(training), Some(narrow)) = (&self.training, narrow) {
            training.widen.run(narrow, grads)?;
        }
        self.parameters.to_host_order(network.parameters(), &grads.read_floats()?)
    }
}

/// What `write` writes down for these images; if memory runs out, the error says how many of them would fit.
fn or_smaller<T>(images: [usize; 4], write: impl Fn([usize; 4]) -> Result<T>) -> Result<T> {
    let source = match write(images) {
        Err(Error::Cuda(source @ cn_cuda::Error::OutOfMemory { .. })) => source,
        other => return other,
    };
    let [batch, height, width, channels] = images;
    let halves = std::iter::successors(Some(batch / 2), |n| Some(n / 2)).take_while(|n| *n > 0);
    let fits = halves.into_iter().find(|n| write([*n, height, width, channels]).is_ok());
    Err(Error::GpuBatch { batch, size: [height, width], fits, source })
}

/// K of `(B, K)`.
fn check_logits(logits: &Value) -> Result<usize> {
    match (logits.dims.as_slice(), logits.element) {
        (&[_, classes], Element::F32) => Ok(classes),
        _ => Err(Error::NotOnGpu {
            name: "logits".into(),
            reason: "a classifier ends in (B, K), behind a pool over all positions",
        }),
    }
}

fn device_loss(loss: Loss) -> Result<cn_cuda::Loss> {
    match loss {
        Loss::Bce => Ok(cn_cuda::Loss::Bce),
        Loss::CrossEntropy { label_smoothing } if (0.0..=1.0).contains(&label_smoothing) => {
            Ok(cn_cuda::Loss::Softmax { label_smoothing })
        }
        Loss::CrossEntropy { label_smoothing: value } => {
            Err(Error::Setting { name: "label_smoothing", value, expected: "a number from 0 to 1" })
        }
    }
}

fn no_training() -> Error {
    Error::NotOnGpu { name: "network".into(), reason: "no step was written down" }
}
