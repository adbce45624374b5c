//! A network on the CPU and its twin on a device: which of the two is newer, and copies between them.

use super::{GpuConfig, GpuNetwork, GpuStep};
use crate::storage::{dims, read};
use crate::{Activation, Adam, Entry, GpuImages, Images, Network, Result, StepEnd, TrainStep};
use candle_core::{Device as Candle, Tensor};
use cn_cuda::{Buffer, Device, Element, conv};

/// Where the newest values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newest {
    Both,
    Host,
    Device,
}

/// The twin of a [`Network`] on a device.
#[derive(Debug)]
pub(crate) struct GpuSide {
    device: Device,
    element: Element,
    network: GpuNetwork,
    newest: Newest,
    /// The version of the optimizer that the device has; `None` before the first step.
    adam: Option<u64>,
    /// Images in `f32`, as the host makes them, of training steps and in use: what is recorded reads where they lie.
    train_images: Option<Buffer>,
    images_in_use: Option<Buffer>,
    /// Who made the images of the last step; 0 for the host.
    maker: u64,
}

impl GpuSide {
    pub(crate) fn new(device: &Device, network: &mut Network, config: GpuConfig) -> Result<Self> {
        let twin = GpuNetwork::new(device, network, config)?;
        let (device, element) = (device.clone(), config.element);
        Ok(Self {
            device,
            element,
            network: twin,
            newest: Newest::Both,
            adam: None,
            train_images: None,
            images_in_use: None,
            maker: 0,
        })
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// Says that values on the host were written.
    pub(crate) fn host_changed(&mut self) {
        self.newest = Newest::Host;
    }

    pub(crate) fn set_trainable(&mut self, wanted: &dyn Fn(&Entry) -> bool) -> Result<()> {
        self.network.set_trainable(wanted)
    }

    /// Brings values to the device, if those on the host are newer.
    fn push(&mut self, network: &mut Network) -> Result<()> {
        if self.newest == Newest::Host {
            self.network.load(network)?;
            self.newest = Newest::Both;
        }
        Ok(())
    }

    /// Brings values to the host, if those on the device are newer.
    pub(crate) fn pull(&mut self, network: &mut Network) -> Result<()> {
        if self.newest == Newest::Device {
            self.network.store(network)?;
            self.newest = Newest::Both;
        }
        Ok(())
    }

    /// Values and the optimizer's state to the host.
    pub(crate) fn settle(&mut self, network: &mut Network, adam: &mut Adam) -> Result<()> {
        self.pull(network)?;
        if self.adam == Some(adam.version()) {
            self.network.store_optimizer(network, adam)?;
            self.adam = Some(adam.version());
        }
        Ok(())
    }

    pub(crate) fn step(&mut self, network: &mut Network, step: &TrainStep<'_>, adam: &mut Adam) -> Result<StepEnd> {
        self.push(network)?;
        if self.adam != Some(adam.version()) {
            self.network.load_optimizer(network, adam)?;
            self.adam = Some(adam.version());
        }
        let (sizes, there, maker) = match step.images {
            Images::Host(images) => {
                let there = upload(&self.device, images, self.train_images.take())?;
                if let Place::New = there.1 {
                    self.network.forget_recording();
                }
                self.train_images = Some(there.0.clone());
                (dims("images", images, "(B, H, W, C)")?, Some(there.0), 0)
            }
            Images::Gpu(images) => (images.sizes(), None, images.id()),
        };
        if std::mem::replace(&mut self.maker, maker) != maker {
            self.network.forget_recording();
        }
        let targets = read::<f32>(step.targets)?;
        let (draw, device, element) = (step.draw, self.device.clone(), self.element);
        let input = GpuStep {
            images: sizes,
            seed: draw.seed,
            epoch: draw.epoch,
            ids: draw.ids,
            targets: &targets,
            loss: step.loss,
            adam: adam.config(),
            hyper: step.hyper,
        };
        self.newest = Newest::Device;
        self.network.step(&input, |batch| match (step.images, &there) {
            (Images::Gpu(images), _) => Ok(images.launch(element, batch)?),
            (_, Some(there)) => fill(&device, element, there, batch),
            (Images::Host(_), None) => Ok(()),
        })?;
        if !self.network.is_finite()? {
            self.network.undo_step()?;
            return Ok(StepEnd::NotFinite);
        }
        Ok(StepEnd::Updated(Tensor::new(self.network.loss()?, &Candle::Cpu)?))
    }

    /// Whether the network on the device takes images of so many planes; those in place of channels are for the CPU
    /// alone.
    pub(crate) fn takes(&self, planes: usize) -> bool {
        self.network.in_channels() == Some(planes)
    }

    /// Logits in use.
    pub(crate) fn judge(&mut self, network: &mut Network, images: &Tensor) -> Result<Activation> {
        self.push(network)?;
        let sizes: [usize; 4] = dims("images", images, "(B, H, W, C)")?;
        let n = sizes[0];
        // Batches of use are filled before what is recorded runs: that does not read from here.
        let (there, _) = upload(&self.device, images, self.images_in_use.take())?;
        self.images_in_use = Some(there.clone());
        let (device, element) = (self.device.clone(), self.element);
        logits_of(n, self.network.judge(sizes, |batch| fill(&device, element, &there, batch))?)
    }

    /// Logits in use of images that are made there.
    pub(crate) fn judge_there(&mut self, network: &mut Network, images: &dyn GpuImages) -> Result<Activation> {
        self.push(network)?;
        let (sizes, element) = (images.sizes(), self.element);
        logits_of(sizes[0], self.network.judge(sizes, |batch| Ok(images.launch(element, batch)?))?)
    }
}

/// `(B, K)` of `n` images.
fn logits_of(n: usize, logits: Vec<f32>) -> Result<Activation> {
    let classes = logits.len() / n.max(1);
    Ok(Tensor::from_vec(logits, (n, classes), &Candle::Cpu)?.into())
}

/// Whether memory was there before.
enum Place {
    Old,
    New,
}

/// Uploads images, over `there` if they fit exactly.
fn upload(device: &Device, images: &Tensor, there: Option<Buffer>) -> Result<(Buffer, Place)> {
    let bytes = images.elem_count() * 4;
    let (buffer, place) = match there.filter(|buffer| buffer.len() == bytes) {
        Some(buffer) => (buffer, Place::Old),
        None => (device.allocate(bytes, "images")?, Place::New),
    };
    buffer.write_floats(&read::<f32>(images)?)?;
    Ok((buffer, place))
}

/// Images in `f32` to a batch of the type that the network computes in.
fn fill(device: &Device, element: Element, images: &Buffer, batch: &Buffer) -> Result<()> {
    match element {
        Element::F32 => batch.copy_from(images)?,
        Element::Bf16 => conv::narrow(device, images, batch)?,
    }
    Ok(())
}
