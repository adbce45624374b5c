//! Convolutions and products of matrices.

use crate::backend::{ConvAddresses, ConvJob, ConvKind, Products};
use crate::device::{address_of, is_aligned};
use crate::launch::{Grid, Plain, args};
use crate::picked::Picked;
use crate::stem::Stem;
use crate::{Activation, Buffer, Device, Element, Error, Result};
use cn_kernels::conv::ConvShape;

/// Side of a tile of a product, and the threads that make it; as in the kernels.
const TILE: usize = 64;
const TILE_THREADS: u32 = 256;
/// The same of a product of small matrices.
const DENSE_TILE: usize = 32;
/// Positions that one piece of a weight's gradient sums, at least: pieces depend on the shape alone.
const PIECE: usize = 512;
/// Pieces of a weight's gradient, at most.
const MAX_PIECES: usize = 64;

/// As the kernels see it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct RawShape {
    sizes: [i32; 13],
}
// SAFETY: numbers.
unsafe impl Plain for RawShape {}

/// What launches need to know of a shape; images are `(B, H, W, I)`, the weight `(O, Kh, Kw, I)`.
pub(crate) trait Launched {
    /// Positions of the output in all images.
    fn positions(&self) -> usize;
    /// Elements of the weight for one output channel.
    fn columns(&self) -> usize;
    fn check(&self) -> Result<()>;
    fn raw(&self) -> RawShape;
    /// Positions of each piece of the weight's gradient, and the number of pieces.
    fn pieces(&self) -> (usize, usize);
}

impl Launched for ConvShape {
    fn positions(&self) -> usize {
        self.batch * self.out_height() * self.out_width()
    }

    fn columns(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.in_channels
    }

    fn check(&self) -> Result<()> {
        let fits = self.validate().is_ok();
        if fits && self.input_len().max(self.output_len()).max(self.weight_len()) < 1 << 31 {
            return Ok(());
        }
        let expected = "sizes of at least 1, windows inside the padded image, fewer than 2^31 elements";
        Err(Error::Setting { name: "shape of a convolution", found: format!("{self:?}"), expected })
    }

    fn raw(&self) -> RawShape {
        let ([kh, kw], [sy, sx], [py, px]) = (self.kernel, self.stride, self.padding);
        let sizes = [self.batch, self.height, self.width, self.in_channels, self.out_channels, kh, kw, sy, sx, py, px];
        let mut raw = [0; 13];
        let all = sizes.into_iter().chain([self.out_height(), self.out_width()]);
        raw.iter_mut().zip(all).for_each(|(raw, n)| *raw = n as i32);
        RawShape { sizes: raw }
    }

    fn pieces(&self) -> (usize, usize) {
        let piece = PIECE.max(self.positions().div_ceil(MAX_PIECES));
        (piece, self.positions().div_ceil(piece))
    }
}

/// A convolution on a device: its sizes, and how it is computed.
///
/// cuDNN does it where the build has the feature, the library is there and supports the shape; else kernels of this crate.
/// Either is a function of the inputs alone, bit for bit, on one machine.
#[derive(Clone, Debug)]
pub struct Convolution {
    device: Device,
    shape: ConvShape,
    element: Element,
    products: Products,
    /// Where only some pixels are read, these, and the shape of the product of them; else the shape itself.
    picked: Option<Picked>,
    product: ConvShape,
    /// Where the kernels for few channels do forward pass and gradient of the weight.
    stem: Option<Stem>,
    /// Sums of the pieces of the weight's gradient, where kernels of this crate make it.
    partial: Option<Buffer>,
    /// A gradient in bf16, before it is widened.
    narrow: Option<Buffer>,
}

/// Whether a result is written, or added to what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Overwrites.
    Set,
    /// Adds.
    Add,
}

impl Convolution {
    /// Plans all three products, and takes the memory that they need.
    ///
    /// # Errors
    ///
    /// If the shape is not possible, or memory runs out.
    pub fn new(device: &Device, shape: ConvShape, element: Element, products: Products) -> Result<Self> {
        shape.check()?;
        let stem = if element == Element::Bf16 { Stem::new(device, shape) } else { None };
        let (picked, product) = Picked::new(device, shape, element)?;
        let (partial, narrow, device_of) = (None, None, device.clone());
        let mut new = Self { device: device_of, shape, element, products, picked, product, stem, partial, narrow };
        device.0.plan(&new.job(ConvKind::DataGrad))?;
        if let Some(stem) = &mut new.stem {
            stem.take_partial()?;
            return Ok(new);
        }
        device.0.plan(&new.job(ConvKind::Forward))?;
        if !device.0.plan(&new.job(ConvKind::WeightGrad))? {
            new.take_partial()?;
        }
        Ok(new)
    }

    fn take_partial(&mut self) -> Result<()> {
        let (_, pieces) = self.product.pieces();
        let bytes = pieces * self.product.weight_len() * 4;
        self.partial = Some(self.device.allocate(bytes, "partial gradients of weights")?);
        Ok(())
    }

    fn job(&self, kind: ConvKind) -> ConvJob {
        ConvJob { kind, shape: self.product, element: self.element, products: self.products }
    }

    /// The sizes.
    #[must_use]
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// How many of the three products cuDNN does.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn by_cudnn(&self) -> Result<usize> {
        let kinds = [ConvKind::Forward, ConvKind::DataGrad, ConvKind::WeightGrad];
        kinds.into_iter().try_fold(0, |n, kind| Ok(n + usize::from(self.device.0.plan(&self.job(kind))?)))
    }

    fn check(&self, [x, w, y]: [(&'static str, &Buffer); 3]) -> Result<()> {
        let (size, s) = (self.element.size(), &self.shape);
        x.1.check(x.0, s.input_len() * size)?;
        w.1.check(w.0, s.weight_len() * size)?;
        y.1.check(y.0, s.output_len() * size)
    }

    fn by_library(&self, kind: ConvKind, inputs: [&Buffer; 2], output: &Buffer, write: Write) -> Result<bool> {
        let adds = write == Write::Add;
        let (inputs, output) = (inputs.map(Buffer::address), output.address());
        let at = ConvAddresses { inputs, output, bias: 0, residual: 0, adds };
        self.device.0.convolve(&self.job(kind), at)
    }

    /// `y (B, Ho, Wo, O)` of `x` and `w`.
    ///
    /// # Errors
    ///
    /// If a size does not fit, or the device fails.
    pub fn forward(&self, x: &Buffer, w: &Buffer, y: &Buffer) -> Result<()> {
        self.check([("x", x), ("w", w), ("y", y)])?;
        if let Some(stem) = self.stem.as_ref().filter(|_| is_aligned(&[y])) {
            return stem.forward([x, w], (None, Activation::Identity), y);
        }
        let x = self.picked.as_ref().map_or(Ok(x), |picked| picked.pick(x))?;
        if self.by_library(ConvKind::Forward, [x, w], y, Write::Set)? {
            return Ok(());
        }
        let s = &self.product;
        let grid = tiles(s.positions(), s.out_channels, 1)?;
        let args = args![x.address(), w.address(), s.raw(), 0u64, 0u64, 0i32, y.address()];
        self.device.launch_for("conv_forward", self.element, grid, args)
    }

    /// The gradient of `x` from that of `y` and `w`.
    ///
    /// # Errors
    ///
    /// As [`Convolution::forward`].
    pub fn data_grad(&self, dy: &Buffer, w: &Buffer, dx: &Buffer, write: Write) -> Result<()> {
        self.check([("dx", dx), ("w", w), ("dy", dy)])?;
        let Some(picked) = &self.picked else { return self.product_data_grad(dy, w, dx, write) };
        self.product_data_grad(dy, w, picked.room(), Write::Set)?;
        picked.spread(dx, write)
    }

    fn product_data_grad(&self, dy: &Buffer, w: &Buffer, dx: &Buffer, write: Write) -> Result<()> {
        if self.by_library(ConvKind::DataGrad, [dy, w], dx, write)? {
            return Ok(());
        }
        let s = &self.product;
        let grid = tiles(s.batch * s.height * s.width, s.in_channels, 1)?;
        let args = args![dy.address(), w.address(), s.raw(), i32::from(write == Write::Add), dx.address()];
        self.device.launch_for("conv_data_grad", self.element, grid, args)
    }

    /// Whether the gradient of the weight comes in the type of images that are narrower than `f32`.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn has_narrow_grads(&self) -> Result<bool> {
        let by_library = self.stem.is_none() && self.device.0.plan(&self.job(ConvKind::WeightGrad))?;
        Ok(by_library && self.element == Element::Bf16)
    }

    /// The gradient of the weight in bf16, `dw (O, Kh, Kw, I)`, overwritten: for those who widen many at once.
    ///
    /// # Errors
    ///
    /// As [`Convolution::forward`], or if the images are not in bf16.
    pub fn narrow_weight_grad(&mut self, x: &Buffer, dy: &Buffer, dw: &Buffer) -> Result<()> {
        let (size, s) = (self.element.size(), self.shape);
        if self.element != Element::Bf16 {
            return Err(Error::Setting { name: "type of images", found: "f32".into(), expected: "bf16" });
        }
        x.check("x", s.input_len() * size)?;
        dy.check("dy", s.output_len() * size)?;
        dw.check("dw", s.weight_len() * 2)?;
        if self.has_narrow_grads()? {
            let from = self.picked.as_ref().map_or(Ok(x), |picked| picked.pick(x))?;
            if self.by_library(ConvKind::WeightGrad, [from, dy], dw, Write::Set)? {
                return Ok(());
            }
        }
        let wide = self.device.allocate(s.weight_len() * 4, "gradients of weights")?;
        self.weight_grad(x, dy, &wide)?;
        narrow(&self.device, &wide, dw)
    }

    /// The gradient of the weight in `f32`, `dw (O, Kh, Kw, I)`, overwritten.
    ///
    /// # Errors
    ///
    /// As [`Convolution::forward`].
    pub fn weight_grad(&mut self, x: &Buffer, dy: &Buffer, dw: &Buffer) -> Result<()> {
        let (size, s) = (self.element.size(), self.shape);
        x.check("x", s.input_len() * size)?;
        dy.check("dy", s.output_len() * size)?;
        dw.check("dw", s.weight_len() * 4)?;
        if let Some(stem) = self.stem.as_mut().filter(|_| is_aligned(&[dy])) {
            return stem.weight_grad(x, dy, dw);
        }
        if self.element == Element::Bf16 && self.narrow.is_none() {
            self.narrow = Some(self.device.allocate(s.weight_len() * 2, "gradients of weights")?);
        }
        let picked = self.picked.clone();
        let x = picked.as_ref().map_or(Ok(x), |picked| picked.pick(x))?;
        let to = self.narrow.as_ref().unwrap_or(dw);
        if self.by_library(ConvKind::WeightGrad, [x, dy], to, Write::Set)? {
            return match &self.narrow {
                Some(narrow) => widen(&self.device, narrow, dw),
                None => Ok(()),
            };
        }
        if self.partial.is_none() {
            self.take_partial()?;
        }
        let partial = self.partial.as_ref().map_or(0, Buffer::address);
        let s = self.product;
        let (piece, pieces) = s.pieces();
        let grid = tiles(s.out_channels, s.columns(), pieces)?;
        let args = args![x.address(), dy.address(), s.raw(), piece as i64, partial];
        self.device.launch_for("conv_weight_grad", self.element, grid, args)?;
        sum_pieces(&self.device, (partial, pieces), s.weight_len(), dw)
    }
}

/// Adds up pieces of `n` numbers each.
pub(crate) fn sum_pieces(device: &Device, (partial, pieces): (u64, usize), n: usize, out: &Buffer) -> Result<()> {
    /// Elements and threads a block; as in the kernels.
    const BLOCK: [u32; 3] = [32, 8, 1];
    let args = args![partial, n as i64, pieces as i32, out.address()];
    device.launch("sum_pieces", Grid::of_blocks([n.div_ceil(BLOCK[0] as usize), 1, 1], BLOCK), args)
}

/// The grid of a product of tiles, `pieces` times.
pub(crate) fn tiles(rows: usize, columns: usize, pieces: usize) -> Result<Grid> {
    tiles_of(TILE, rows, columns, pieces)
}

fn tiles_of(tile: usize, rows: usize, columns: usize, pieces: usize) -> Result<Grid> {
    let blocks = [rows.div_ceil(tile), columns.div_ceil(tile), pieces];
    if blocks[1] > 65_535 || blocks[2] > 65_535 {
        let found = format!("{rows} x {columns}");
        return Err(Error::Setting { name: "product", found, expected: "fewer than 2 million columns" });
    }
    Ok(Grid::of_blocks(blocks, [TILE_THREADS, 1, 1]))
}

/// `to` = `from`, bf16 to `f32`.
///
/// # Errors
///
/// If the sizes do not fit, or the device fails.
pub fn widen(device: &Device, from: &Buffer, to: &Buffer) -> Result<()> {
    let n = from.len() / 2;
    to.check("to", n * 4)?;
    device.launch("widen", Grid::over(n), args![from.address(), n as i64, to.address()])
}

/// `to` = `from`, `f32` to bf16, to nearest.
///
/// # Errors
///
/// If the sizes do not fit, or the device fails.
pub fn narrow(device: &Device, from: &Buffer, to: &Buffer) -> Result<()> {
    let n = from.len() / 4;
    to.check("to", n * 2)?;
    device.launch("narrow", Grid::over(n), args![from.address(), n as i64, to.address()])
}

/// A fully connected layer, all in `f32`: `x (B, I)`, `w (O, I)`, `y (B, O)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// B, rows.
    pub batch: usize,
    /// I, columns of the input.
    pub in_features: usize,
    /// O, columns of the output.
    pub out_features: usize,
}

impl LinearShape {
    fn check(&self, [x, w, y]: [(&'static str, &Buffer); 3]) -> Result<()> {
        x.1.check(x.0, self.batch * self.in_features * 4)?;
        w.1.check(w.0, self.out_features * self.in_features * 4)?;
        y.1.check(y.0, self.batch * self.out_features * 4)
    }
}

/// `y = x w^T`, and `bias (O)` added to every row.
///
/// # Errors
///
/// If a size does not fit, or the device fails.
pub fn linear(device: &Device, s: &LinearShape, [x, w]: [&Buffer; 2], bias: Option<&Buffer>, y: &Buffer) -> Result<()> {
    s.check([("x", x), ("w", w), ("y", y)])?;
    bias.map_or(Ok(()), |bias| bias.check("bias", s.out_features * 4))?;
    let (i, o) = (s.in_features as i64, s.out_features as i64);
    let grid = tiles_of(DENSE_TILE, s.batch, s.out_features, 1)?;
    let args = args![x.address(), w.address(), i, 1i64, 1i64, i, s.batch as i64, o, i, address_of(bias), y.address()];
    device.launch("dense", grid, args)
}

/// `dx = dy w`.
///
/// # Errors
///
/// If a size does not fit, or the device fails.
pub fn linear_data_grad(device: &Device, s: &LinearShape, [dy, w]: [&Buffer; 2], dx: &Buffer) -> Result<()> {
    s.check([("dx", dx), ("w", w), ("dy", dy)])?;
    let (i, o) = (s.in_features as i64, s.out_features as i64);
    let grid = tiles_of(DENSE_TILE, s.batch, s.in_features, 1)?;
    let args = args![dy.address(), w.address(), o, 1i64, i, 1i64, s.batch as i64, i, o, 0u64, dx.address()];
    device.launch("dense", grid, args)
}

/// `dw = dy^T x`, overwritten.
///
/// # Errors
///
/// If a size does not fit, or the device fails.
pub fn linear_weight_grad(device: &Device, s: &LinearShape, [x, dy]: [&Buffer; 2], dw: &Buffer) -> Result<()> {
    s.check([("x", x), ("dw", dw), ("dy", dy)])?;
    let (i, o) = (s.in_features as i64, s.out_features as i64);
    let grid = tiles_of(DENSE_TILE, s.out_features, s.in_features, 1)?;
    let args = args![dy.address(), x.address(), 1i64, o, i, 1i64, o, i, s.batch as i64, 0u64, dw.address()];
    device.launch("dense", grid, args)
}

/// `sums (C)` of the rows of `x (rows, C)`, overwritten.
///
/// # Errors
///
/// If a size does not fit, or the device fails.
pub fn column_sums(device: &Device, element: Element, x: &Buffer, sums: &Buffer) -> Result<()> {
    let columns = sums.len() / 4;
    let rows = x.len() / element.size() / columns.max(1);
    x.check("x", rows * columns * element.size())?;
    let args = args![x.address(), rows as i64, columns as i32, sums.address()];
    device.launch_for("column_sums", element, Grid::of_items(columns), args)
}
