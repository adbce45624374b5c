//! Parameters and buffers of a network in the memory of a device.

use super::layout;
use crate::storage::shape_error;
use crate::{Error, Model, Network, Parameters, Result};
use candle_core::{DType, Device as Candle, Tensor};
use cn_cuda::{Buffer, Device, Element, conv};
use std::collections::BTreeMap;

/// Elements that tensors begin at multiples of: 256 bytes of `f32`, as wide loads want.
const ALIGN: usize = 64;

/// A trained tensor in the flat buffers.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    name: String,
    dims: Vec<usize>,
    /// First element.
    pub(super) offset: usize,
    pub(super) len: usize,
}

/// All values in one flat buffer, gradients in another of the same order, and running moments apart.
#[derive(Debug)]
pub(super) struct GpuParameters {
    device: Device,
    pub(super) slots: Vec<Slot>,
    pub(super) values: Buffer,
    pub(super) grads: Buffer,
    /// The values in bf16, for products.
    pub(super) copy: Option<Buffer>,
    /// Gradients as libraries leave them in bf16, in the same order.
    pub(super) narrow: Option<Buffer>,
    /// Parts of `moments`, by name.
    buffers: BTreeMap<String, Buffer>,
    /// All running moments, and a copy from before the last step.
    moments: [Buffer; 2],
    /// What counts batches stays on the host.
    n_batches: BTreeMap<String, i64>,
}

impl GpuParameters {
    /// Copies everything that `network` holds to the device.
    pub(super) fn new(device: &Device, network: &mut Network, element: Element) -> Result<Self> {
        let mut offset = 0;
        let slots: Vec<Slot> = network
            .parameters()
            .entries()
            .iter()
            .map(|entry| {
                let (name, dims, len) = (entry.name.clone(), entry.shape.dims().to_vec(), entry.len);
                let slot = Slot { name, dims, offset, len };
                offset += len.next_multiple_of(ALIGN);
                slot
            })
            .collect();
        let zeros = |size: usize| device.zeros(offset.max(ALIGN) * size, "parameters");
        let narrow = |is: Element| if is == Element::Bf16 { zeros(2).map(Some) } else { Ok(None) };
        let (copy, narrow) = (narrow(element)?, narrow(element)?);
        let (values, grads) = (zeros(4)?, zeros(4)?);
        let (buffers, moments) = running_moments(device, network, &slots)?;
        let (device, n_batches) = (device.clone(), BTreeMap::new());
        let mut new = Self { device, slots, values, grads, copy, narrow, buffers, moments, n_batches };
        new.load(network)?;
        Ok(new)
    }

    /// Elements of the flat buffers.
    pub(super) fn len(&self) -> usize {
        self.values.len() / 4
    }

    fn slot(&self, name: &str) -> Result<(usize, &Slot)> {
        let found = self.slots.iter().enumerate().find(|(_, slot)| slot.name == name);
        found.ok_or_else(|| Error::UnknownTensor { name: name.into() })
    }

    /// Position of a tensor among the slots.
    pub(super) fn index(&self, name: &str) -> Result<usize> {
        Ok(self.slot(name)?.0)
    }

    fn part(&self, of: &Buffer, name: &str, size: usize) -> Result<Buffer> {
        let (_, slot) = self.slot(name)?;
        Ok(of.part(slot.offset * size..(slot.offset + slot.len) * size)?)
    }

    /// Values in `f32`.
    pub(super) fn value(&self, name: &str) -> Result<Buffer> {
        self.part(&self.values, name, 4)
    }

    /// Values in the type of products.
    pub(super) fn operand(&self, name: &str) -> Result<Buffer> {
        match &self.copy {
            Some(copy) => self.part(copy, name, 2),
            None => self.value(name),
        }
    }

    /// Gradients, `f32`.
    pub(super) fn grad(&self, name: &str) -> Result<Buffer> {
        self.part(&self.grads, name, 4)
    }

    /// Gradients in bf16, where there are such.
    pub(super) fn narrow_grad(&self, name: &str) -> Result<Option<Buffer>> {
        self.narrow.as_ref().map(|narrow| self.part(narrow, name, 2)).transpose()
    }

    /// Forgets gradients: those of what is frozen from now on are not written again.
    pub(super) fn zero_grads(&self) -> cn_cuda::Result<()> {
        self.narrow.as_ref().map_or(Ok(()), Buffer::zero)?;
        self.grads.zero()
    }

    /// A tensor that is kept but not trained.
    pub(super) fn buffer(&self, name: &str) -> Result<Buffer> {
        self.buffers.get(name).cloned().ok_or_else(|| Error::UnknownTensor { name: name.into() })
    }

    /// Copies everything from the host again.
    pub(super) fn load(&mut self, network: &mut Network) -> Result<()> {
        let flat = self.to_device_order(network.parameters(), network.parameters().values())?;
        self.values.write_floats(&flat)?;
        if let Some(copy) = &self.copy {
            conv::narrow(&self.device, &self.values, copy)?;
        }
        for (name, tensor) in network.named_tensors()? {
            if self.slots.iter().any(|slot| slot.name == name) {
                continue;
            }
            if tensor.dtype() == DType::I64 {
                self.n_batches.insert(name, tensor.flatten_all()?.to_vec1()?[0]);
                continue;
            }
            let values: Vec<f32> = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
            self.buffer(&name)?.write_floats(&values)?;
        }
        Ok(())
    }

    /// The running moments of all norms.
    pub(super) fn moments(&self) -> &Buffer {
        &self.moments[0]
    }

    /// Copies the running moments, which a step moves before anybody knows whether its numbers are finite.
    pub(super) fn keep_buffers(&self) -> cn_cuda::Result<()> {
        self.moments[1].copy_from(&self.moments[0])
    }

    /// Puts that copy back.
    pub(super) fn put_buffers_back(&self) -> cn_cuda::Result<()> {
        self.moments[0].copy_from(&self.moments[1])
    }

    /// Counts training batches, as norms do.
    pub(super) fn count_batches(&mut self, n: i64) {
        self.n_batches.values_mut().for_each(|count| *count += n);
    }

    /// Copies everything to the host.
    pub(super) fn store(&self, network: &mut Network) -> Result<()> {
        let flat = self.values.read_floats()?;
        let mut tensors = Vec::new();
        for slot in &self.slots {
            let mut values = vec![0.0; slot.len];
            host_order(&slot.dims, &flat[slot.offset..slot.offset + slot.len], &mut values);
            tensors.push((slot.name.clone(), Tensor::from_vec(values, slot.dims.as_slice(), &Candle::Cpu)?));
        }
        for (name, buffer) in &self.buffers {
            let values = buffer.read_floats()?;
            let n = values.len();
            tensors.push((name.clone(), Tensor::from_vec(values, n, &Candle::Cpu)?));
        }
        for (name, count) in &self.n_batches {
            tensors.push((name.clone(), Tensor::new(*count, &Candle::Cpu)?));
        }
        network.load_tensors(&tensors)
    }

    /// A flat tensor of the host's order and gaps in those of the device.
    pub(super) fn to_device_order(&self, parameters: &Parameters, flat: &Tensor) -> Result<Vec<f32>> {
        if parameters.entries().len() != self.slots.len() {
            return Err(shape_error("parameters", "those that the program was made for", flat.shape()));
        }
        let host: Vec<f32> = flat.to_dtype(DType::F32)?.to_vec1()?;
        let mut all = vec![0.0; self.len()];
        for (slot, entry) in self.slots.iter().zip(parameters.entries()) {
            let values = &host[entry.offset..entry.offset + entry.len];
            device_order(&slot.dims, values, &mut all[slot.offset..slot.offset + slot.len]);
        }
        Ok(all)
    }

    /// The opposite of [`GpuParameters::to_device_order`].
    pub(super) fn to_host_order(&self, parameters: &Parameters, flat: &[f32]) -> Result<Tensor> {
        let mut host = vec![0.0; parameters.values().elem_count()];
        for (slot, entry) in self.slots.iter().zip(parameters.entries()) {
            let values = &flat[slot.offset..slot.offset + slot.len];
            host_order(&slot.dims, values, &mut host[entry.offset..entry.offset + entry.len]);
        }
        let n = host.len();
        Ok(Tensor::from_vec(host, n, &Candle::Cpu)?)
    }
}

/// Room for every tensor of floats that is no parameter, and for a copy of all of them.
fn running_moments(
    device: &Device,
    network: &mut Network,
    slots: &[Slot],
) -> Result<(BTreeMap<String, Buffer>, [Buffer; 2])> {
    let mut places = Vec::new();
    let mut len = 0usize;
    for (name, tensor) in network.named_tensors()? {
        if tensor.dtype() != DType::I64 && slots.iter().all(|slot| slot.name != name) {
            places.push((name, len..len + tensor.elem_count()));
            len = (len + tensor.elem_count()).next_multiple_of(ALIGN);
        }
    }
    let take = || device.zeros(len.max(ALIGN) * 4, "running moments");
    let moments = [take()?, take()?];
    let part =
        |(name, r): (String, std::ops::Range<usize>)| Ok::<_, Error>((name, moments[0].part(r.start * 4..r.end * 4)?));
    let buffers = places.into_iter().map(part).collect::<Result<_>>()?;
    Ok((buffers, moments))
}

fn device_order(dims: &[usize], values: &[f32], out: &mut [f32]) {
    match dims.try_into() {
        Ok(sizes) => layout::to_device(sizes, values, out),
        Err(_) => out.copy_from_slice(values),
    }
}

fn host_order(dims: &[usize], values: &[f32], out: &mut [f32]) {
    match dims.try_into() {
        Ok(sizes) => layout::to_host(sizes, values, out),
        Err(_) => out.copy_from_slice(values),
    }
}
