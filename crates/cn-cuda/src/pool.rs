//! Pools over channels-last images.

use crate::device::pack_of;
use crate::launch::{Grid, Plain, args};
use crate::{Buffer, Device, Element, Error, Result};
pub use cn_kernels::pool::PoolShape;

/// As the kernels see it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct RawShape {
    sizes: [i32; 12],
}
// SAFETY: numbers.
unsafe impl Plain for RawShape {}

pub(crate) fn check(s: &PoolShape) -> Result<()> {
    if s.is_valid() && s.input_len().max(s.output_len()) < 1 << 31 {
        return Ok(());
    }
    let expected = "a window of at most 255 positions that fits the image and is at least twice the padding";
    Err(Error::Setting { name: "shape of a pool", found: format!("{s:?}"), expected })
}

pub(crate) fn raw(s: &PoolShape) -> RawShape {
    let ([kh, kw], [sy, sx], [py, px]) = (s.kernel, s.stride, s.padding);
    let sizes = [s.batch, s.height, s.width, s.channels, kh, kw, sy, sx, py, px];
    let all = sizes.into_iter().chain([s.out_height(), s.out_width()]);
    let mut raw = [0; 12];
    raw.iter_mut().zip(all).for_each(|(raw, n)| *raw = n as i32);
    RawShape { sizes: raw }
}

/// The largest value of each window of `x`, and in `winners`, a byte an output, its place in the window.
///
/// # Errors
///
/// If a size does not fit, or the device fails.
pub fn max_pool(device: &Device, e: Element, s: &PoolShape, x: &Buffer, [y, winners]: [&Buffer; 2]) -> Result<()> {
    check(s)?;
    x.check("x", s.input_len() * e.size())?;
    y.check("y", s.output_len() * e.size())?;
    winners.check("winners", s.output_len())?;
    let pack = pack_of(e, s.channels, &[x, y, winners]);
    let args = args![x.address(), raw(s), i32::from(pack > 1), y.address(), winners.address()];
    device.launch_for("max_pool", e, Grid::over(s.output_len() / pack), args)
}

/// `dx` overwritten: each `dy` goes to the winner of its window.
///
/// # Errors
///
/// If a size does not fit, or the device fails.
pub fn max_pool_grad(
    device: &Device,
    e: Element,
    s: &PoolShape,
    [dy, winners]: [&Buffer; 2],
    dx: &Buffer,
) -> Result<()> {
    check(s)?;
    dx.check("dx", s.input_len() * e.size())?;
    dy.check("dy", s.output_len() * e.size())?;
    winners.check("winners", s.output_len())?;
    let pack = pack_of(e, s.channels, &[dx, dy, winners]);
    let args = args![dy.address(), winners.address(), raw(s), i32::from(pack > 1), dx.address()];
    device.launch_for("max_pool_grad", e, Grid::over(s.input_len() / pack), args)
}

/// Images as a pool over all positions sees them: `(B, P, C)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GlobalShape {
    /// B.
    pub batch: usize,
    /// P, positions of an image.
    pub positions: usize,
    /// C.
    pub channels: usize,
}

impl GlobalShape {
    fn check(&self, e: Element, x: &Buffer) -> Result<()> {
        let n = self.batch * self.positions * self.channels;
        if n == 0 || n >= 1 << 31 {
            let expected = "at least 1 each, fewer than 2^31 in all";
            return Err(Error::Setting { name: "shape of a pool", found: format!("{self:?}"), expected });
        }
        x.check("images", n * e.size())
    }

    fn rows(&self) -> usize {
        self.batch * self.channels
    }

    fn sizes(&self) -> [i32; 3] {
        [self.batch, self.positions, self.channels].map(|n| n as i32)
    }
}

/// `y (B, 2 C)` in `f32`: maxima, then means; `winners (B, C)` are the places of the maxima, 4 bytes each.
///
/// # Errors
///
/// If a size does not fit, or the device fails.
pub fn concat_pool(device: &Device, e: Element, s: &GlobalShape, x: &Buffer, [y, winners]: [&Buffer; 2]) -> Result<()> {
    s.check(e, x)?;
    y.check("y", 2 * s.rows() * 4)?;
    winners.check("winners", s.rows() * 4)?;
    let [b, p, c] = s.sizes();
    device.launch_for(
        "concat_pool",
        e,
        Grid::over(s.rows()),
        args![x.address(), b, p, c, y.address(), winners.address()],
    )
}

/// Backward pass of [`concat_pool`]; `dx` is overwritten.
///
/// # Errors
///
/// If a size does not fit, or the device fails.
pub fn concat_pool_grad(
    device: &Device,
    e: Element,
    s: &GlobalShape,
    [dy, winners]: [&Buffer; 2],
    dx: &Buffer,
) -> Result<()> {
    s.check(e, dx)?;
    dy.check("dy", 2 * s.rows() * 4)?;
    winners.check("winners", s.rows() * 4)?;
    let [b, p, c] = s.sizes();
    let args = args![dy.address(), winners.address(), b, p, c, dx.address()];
    device.launch_for("concat_pool_grad", e, Grid::over(s.rows()), args)
}

/// `y (B, C)` in `f32`: means over the positions.
///
/// # Errors
///
/// If a size does not fit, or the device fails.
pub fn mean_pool(device: &Device, e: Element, s: &GlobalShape, x: &Buffer, y: &Buffer) -> Result<()> {
    s.check(e, x)?;
    y.check("y", s.rows() * 4)?;
    let [b, p, c] = s.sizes();
    device.launch_for("mean_pool", e, Grid::over(s.rows()), args![x.address(), b, p, c, y.address()])
}

/// Backward pass of [`mean_pool`]; `dx` is overwritten.
///
/// # Errors
///
/// If a size does not fit, or the device fails.
pub fn mean_pool_grad(device: &Device, e: Element, s: &GlobalShape, dy: &Buffer, dx: &Buffer) -> Result<()> {
    s.check(e, dx)?;
    dy.check("dy", s.rows() * 4)?;
    let [b, p, c] = s.sizes();
    let args = args![dy.address(), b, p, c, dx.address()];
    device.launch_for("mean_pool_grad", e, Grid::over(s.rows() * s.positions), args)
}
