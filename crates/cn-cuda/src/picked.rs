//! The pixels that a convolution of single pixels in steps reads: what is left then is a product of matrices, which libraries
//! are better at than at such steps.

use crate::conv::Launched;
use crate::device::pack_of;
use crate::launch::{Grid, args};
use crate::{Buffer, ConvShape, Device, Element, Result, Write};

/// The pixels of a batch that such a convolution reads, `(B, Ho, Wo, I)`.
#[derive(Clone, Debug)]
pub(crate) struct Picked {
    device: Device,
    element: Element,
    shape: ConvShape,
    pixels: Buffer,
}

impl Picked {
    /// The memory of the pixels, and the shape that is left; `None` and the shape itself where a convolution reads every
    /// pixel, or several for one output.
    ///
    /// # Errors
    ///
    /// If memory runs out.
    pub(crate) fn new(device: &Device, shape: ConvShape, element: Element) -> Result<(Option<Self>, ConvShape)> {
        if shape.kernel != [1, 1] || shape.padding != [0, 0] || shape.stride == [1, 1] {
            return Ok((None, shape));
        }
        let left = ConvShape { height: shape.out_height(), width: shape.out_width(), stride: [1, 1], ..shape };
        let pixels = device.allocate(left.input_len() * element.size(), "pixels that are picked")?;
        Ok((Some(Self { device: device.clone(), element, shape, pixels }), left))
    }

    /// The pixels of the images `x (B, H, W, I)`.
    pub(crate) fn pick(&self, x: &Buffer) -> Result<&Buffer> {
        let pack = pack_of(self.element, self.shape.in_channels, &[x, &self.pixels]);
        let n = self.pixels.len() / self.element.size() / pack;
        let args = args![x.address(), self.shape.raw(), i32::from(pack > 1), self.pixels.address()];
        self.device.launch_for("pick_pixels", self.element, Grid::over(n), args)?;
        Ok(&self.pixels)
    }

    /// The memory of the pixels, for their gradient.
    pub(crate) fn room(&self) -> &Buffer {
        &self.pixels
    }

    /// Puts the pixels back to where they come from, in images of zeros, or adds them.
    pub(crate) fn spread(&self, dx: &Buffer, write: Write) -> Result<()> {
        let pack = pack_of(self.element, self.shape.in_channels, &[dx, &self.pixels]);
        let all = if write == Write::Add { &self.pixels } else { dx };
        let n = all.len() / self.element.size() / pack;
        let (adds, wide) = (i32::from(write == Write::Add), i32::from(pack > 1));
        let args = args![self.pixels.address(), self.shape.raw(), adds, wide, dx.address()];
        self.device.launch_for("spread_pixels", self.element, Grid::over(n), args)
    }
}
