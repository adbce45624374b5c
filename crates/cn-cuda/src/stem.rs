//! Convolutions of images with few channels in bf16, by kernels of this crate whatever library is there.

use crate::conv::{Launched, sum_pieces};
use crate::device::address_of;
use crate::launch::{Grid, args};
use crate::{Activation, Buffer, ConvShape, Device, Result};

// As in the kernels.
const THREADS: u32 = 128;
const OUT: usize = 64;
const WIDTH: usize = 16;
const FORWARD_ROWS: usize = 8;
const GRAD_ROWS: usize = 4;
const GROUPS: usize = 22;
const PIXELS: [usize; 2] = [24, 128];
const MAX_GRAD_ROWS: usize = 16;

/// Blocks that share the tiles of the forward pass: enough for the largest GPUs.
const BLOCKS: usize = 1024;
/// Pieces of the weight's gradient, at most: the shape alone decides.
const PIECES: usize = 384;

/// A convolution that these kernels do, and the memory of its weight's gradient.
#[derive(Clone, Debug)]
pub(crate) struct Stem {
    device: Device,
    shape: ConvShape,
    partial: Option<Buffer>,
}

impl Stem {
    /// `None` if the kernels do not do this shape.
    pub(crate) fn new(device: &Device, shape: ConvShape) -> Option<Self> {
        let ([kernel_y, kernel_x], [stride_y, stride_x]) = (shape.kernel, shape.stride);
        let (taps, stride) = (kernel_x * shape.in_channels, stride_x * shape.in_channels);
        let row_groups = taps.div_ceil(8);
        let pixels = [(FORWARD_ROWS - 1) * stride_y + kernel_y, (WIDTH - 1) * stride + row_groups * 8];
        let grad_rows = (GRAD_ROWS - 1) * stride_y + kernel_y;
        let fits = kernel_y * row_groups <= GROUPS
            && pixels[0] <= PIXELS[0]
            && pixels[1] <= PIXELS[1]
            && grad_rows <= MAX_GRAD_ROWS;
        // Pairs of elements are read at once, and images of 8 channels or more are what libraries are made for.
        let does = fits && stride.is_multiple_of(2) && shape.in_channels < 8 && shape.out_channels.is_multiple_of(OUT);
        does.then(|| Self { device: device.clone(), shape, partial: None })
    }

    fn tiles(&self, rows: usize) -> usize {
        let s = &self.shape;
        s.batch * s.out_height().div_ceil(rows) * s.out_width().div_ceil(WIDTH)
    }

    fn grid(&self, blocks: usize) -> Grid {
        Grid::of_blocks([blocks, self.shape.out_channels / OUT, 1], [THREADS, 1, 1])
    }

    /// `y` of `x` and `w`, all in bf16, with a bias in `f32`; the lengths are checked.
    pub(crate) fn forward(
        &self,
        [x, w]: [&Buffer; 2],
        (bias, activation): (Option<&Buffer>, Activation),
        y: &Buffer,
    ) -> Result<()> {
        let tiles = self.tiles(FORWARD_ROWS);
        let relu = i32::from(activation == Activation::Relu);
        let args = args![x.address(), w.address(), self.shape.raw(), tiles as i32, address_of(bias), relu, y.address()];
        self.device.launch("stem_forward", self.grid(tiles.min(BLOCKS)), args)
    }

    /// Takes the memory that the gradient of the weight needs.
    pub(crate) fn take_partial(&mut self) -> Result<()> {
        if self.partial.is_none() {
            let bytes = self.tiles(GRAD_ROWS).min(PIECES) * self.shape.weight_len() * 4;
            self.partial = Some(self.device.allocate(bytes, "partial gradients of weights")?);
        }
        Ok(())
    }

    /// `dw` in `f32` of `x` and `dy` in bf16; the lengths are checked.
    pub(crate) fn weight_grad(&mut self, x: &Buffer, dy: &Buffer, dw: &Buffer) -> Result<()> {
        self.take_partial()?;
        let partial = address_of(self.partial.as_ref());
        let (tiles, n) = (self.tiles(GRAD_ROWS), self.shape.weight_len());
        let pieces = tiles.min(PIECES);
        let args = args![x.address(), dy.address(), self.shape.raw(), tiles as i32, partial];
        self.device.launch("stem_weight_grad", self.grid(pieces), args)?;
        sum_pieces(&self.device, (partial, pieces), n, dw)
    }
}
