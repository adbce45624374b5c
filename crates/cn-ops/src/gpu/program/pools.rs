//! Pools.

use super::{Back, Grad, Writer, misfit};
use crate::gpu::memory::{Lease, Value};
use crate::{Error, Result};
use cn_cuda::{Buffer, Device, Element, GlobalShape, PoolShape, pool};

pub(super) fn pool_shape(config: &crate::MaxPool2dConfig, x: &Value) -> Result<PoolShape> {
    let &[batch, height, width, channels] = x.dims.as_slice() else {
        return Err(misfit("maxpool", x, "(B, H, W, C)"));
    };
    let crate::MaxPool2dConfig { kernel, stride, padding } = *config;
    let shape = PoolShape { batch, height, width, channels, kernel, stride, padding };
    if shape.is_valid() { Ok(shape) } else { Err(Error::PoolShape(shape)) }
}

impl<'a> Writer<'a> {
    pub(super) fn max_pool(&mut self, config: &crate::MaxPool2dConfig, x: Value) -> Result<(Value, Back<'a>)> {
        let shape = pool_shape(config, &x)?;
        let dims = [shape.batch, shape.out_height(), shape.out_width(), shape.channels];
        let y = self.planner.value(&dims, x.element)?;
        let winners = self.planner.bytes(shape.output_len())?;
        let (device, e) = (self.context.device.clone(), x.element);
        let (from, to, places) = (x.buffer(), y.buffer(), Buffer::clone(&winners));
        self.push(move || pool::max_pool(&device, e, &shape, &from, [&to, &places]));
        let places = Buffer::clone(&winners);
        let back = spread(&x, Some(winners), move |device, [dy, dx]| {
            pool::max_pool_grad(device, e, &shape, [dy, &places], dx)
        });
        Ok((y, back))
    }

    fn global(&self, name: &str, x: &Value) -> Result<GlobalShape> {
        match x.dims.as_slice() {
            &[batch, h, w, channels] => Ok(GlobalShape { batch, positions: h * w, channels }),
            _ => Err(misfit(name, x, "(B, H, W, C)")),
        }
    }

    pub(super) fn concat_pool(&mut self, x: Value) -> Result<(Value, Back<'a>)> {
        let shape = self.global("concat pool", &x)?;
        // From here on everything is small, and `f32`.
        let y = self.planner.value(&[shape.batch, 2 * shape.channels], Element::F32)?;
        let winners = self.planner.bytes(shape.batch * shape.channels * 4)?;
        let (device, e) = (self.context.device.clone(), x.element);
        let (from, to, places) = (x.buffer(), y.buffer(), Buffer::clone(&winners));
        self.push(move || pool::concat_pool(&device, e, &shape, &from, [&to, &places]));
        let places = Buffer::clone(&winners);
        let back = spread(&x, Some(winners), move |device, [dy, dx]| {
            pool::concat_pool_grad(device, e, &shape, [dy, &places], dx)
        });
        Ok((y, back))
    }

    pub(super) fn mean_pool(&mut self, x: Value) -> Result<(Value, Back<'a>)> {
        let shape = self.global("mean pool", &x)?;
        let y = self.planner.value(&[shape.batch, shape.channels], Element::F32)?;
        let (device, e, from, to) = (self.context.device.clone(), x.element, x.buffer(), y.buffer());
        self.push(move || pool::mean_pool(&device, e, &shape, &from, &to));
        let back = spread(&x, None, move |device, [dy, dx]| pool::mean_pool_grad(device, e, &shape, dy, dx));
        Ok((y, back))
    }
}

/// The backward pass of a pool, which keeps what `launch` reads but not its input `x`: `launch` writes the gradient of that
/// from the gradient of the output.
fn spread<'a>(
    x: &Value,
    kept: Option<Lease>,
    launch: impl Fn(&Device, [&Buffer; 2]) -> cn_cuda::Result<()> + Send + 'static,
) -> Back<'a> {
    let (dims, element) = (x.dims.clone(), x.element);
    Box::new(move |writer, dy, grad| {
        if matches!(grad, Grad::Skip) {
            return Ok(None);
        }
        let dx = writer.planner.value(&dims, element)?;
        let (device, from, to) = (writer.context.device.clone(), dy.buffer(), dx.buffer());
        writer.push(move || launch(&device, [&from, &to]));
        drop(kept);
        writer.give(grad, dx)
    })
}
