//! Images of bytes to normalised batches.

use crate::launch::{Grid, Plain, args};
use crate::{Buffer, Device, Element, Error, Result};

/// What is done to one image, field by field as cn-augment's `Geometry`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Geometry {
    /// Side of the square output.
    pub size: u32,
    /// 1: the matrix decides what is seen. 2: flipped left to right.
    pub flags: u32,
    /// Left, top, width, height of what is cut out.
    pub source: [u32; 4],
    /// Side of the square that `source` is resized to.
    pub full: u32,
    /// First column and row of the output in that square.
    pub offset: u32,
    /// Output position to image position.
    pub matrix: [f32; 6],
    /// A byte `v` becomes `gain * v + bias`.
    pub gain: f32,
    /// See `gain`.
    pub bias: f32,
    /// Left, top, width, height of the erased part.
    pub erased: [u32; 4],
    /// Byte outside a warped image and of what is erased.
    pub border: u32,
}
// SAFETY: numbers of four bytes, without padding.
unsafe impl Plain for Geometry {}

/// One number of each pixel of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Plane {
    /// `(level / 255 - mean) / std`.
    Normalised {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
    /// 1 everywhere.
    Ones,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct RawPlanes {
    mean: [f64; 3],
    std: [f64; 3],
    ones: [u32; 3],
    count: u32,
}
// SAFETY: 48 bytes of `f64` and 16 of `u32`, without padding.
unsafe impl Plain for RawPlanes {}

#[derive(Clone, Copy)]
#[repr(C)]
struct RawStack {
    pixels: u64,
    sizes: [i32; 4],
}
// SAFETY: a number of eight bytes and four of four, without padding; the kernel's struct ends in padding, as the fourth is.
unsafe impl Plain for RawStack {}

/// Images on a device: `(N, H, W, C)` bytes, grey or RGB.
#[derive(Clone, Debug)]
pub struct ImageStack {
    pixels: Buffer,
    n_images: usize,
    shape: [usize; 3],
}

impl ImageStack {
    /// Copies `pixels` to the device; `shape` is `[H, W, C]`.
    ///
    /// # Errors
    ///
    /// If the length does not fit the shape, C is neither 1 nor 3, or memory runs out.
    pub fn new(device: &Device, pixels: &[u8], shape: [usize; 3]) -> Result<Self> {
        let image: usize = shape.iter().product();
        let [height, width, channels] = shape;
        let small = height < 1 << 24 && width < 1 << 24;
        if image == 0 || !pixels.len().is_multiple_of(image) || !matches!(channels, 1 | 3) || !small {
            let found = format!("{} bytes for images of {height} x {width} x {channels}", pixels.len());
            return Err(Error::Setting { name: "pixels", found, expected: "whole images, grey or RGB" });
        }
        let n_images = pixels.len() / image;
        Ok(Self { pixels: device.bytes(pixels, "the images")?, n_images, shape })
    }

    /// N.
    #[must_use]
    pub fn len(&self) -> usize {
        self.n_images
    }

    /// Whether there is no image.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n_images == 0
    }

    /// `[H, W, C]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn raw(&self) -> RawStack {
        let [height, width, channels] = self.shape.map(|n| n as i32);
        RawStack { pixels: self.pixels.address(), sizes: [height, width, channels, 0] }
    }
}

/// Threads of a block; as in the kernel.
const THREADS: u32 = 256;
/// Pixels of an image that a block makes, about: the more, the less often it computes what they share, as long as there are
/// so many blocks.
const PIXELS: [usize; 2] = [2048, 8192];
const BLOCKS: usize = 512;
/// Rows that a block has tables for; as in the kernel.
const ROWS: usize = 64;
/// Blocks along the batch that a device takes.
const MAX_BATCH: usize = 65_535;

/// Makes batches of one size from images on a device, one launch each: the same bits as on the CPU.
#[derive(Clone, Debug)]
pub struct Augment {
    device: Device,
    planes: RawPlanes,
    /// Images of a batch.
    batch: usize,
    ids: Buffer,
    geometry: Buffer,
    prepared: Option<Prepared>,
}

/// What the batch that was prepared is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Prepared {
    n: usize,
    size: usize,
    n_images: usize,
    shape: [usize; 3],
}

impl Augment {
    /// For batches of at most `batch` images, with these planes of each pixel (one to three).
    ///
    /// # Errors
    ///
    /// If there are no planes or more than three, or memory runs out.
    pub fn new(device: &Device, planes: &[Plane], batch: usize) -> Result<Self> {
        if !(1..=3).contains(&planes.len()) || !(1..=MAX_BATCH).contains(&batch) {
            let found = format!("{} planes, {batch} images", planes.len());
            return Err(Error::Setting { name: "batch", found, expected: "1 to 3 planes and 1 to 65535 images" });
        }
        let mut raw = RawPlanes { mean: [0.0; 3], std: [1.0; 3], ones: [0; 3], count: planes.len() as u32 };
        for (p, plane) in planes.iter().enumerate() {
            match *plane {
                Plane::Normalised { mean, std } => (raw.mean[p], raw.std[p]) = (mean, std),
                Plane::Ones => raw.ones[p] = 1,
            }
        }
        Ok(Self {
            device: device.clone(),
            planes: raw,
            batch,
            ids: device.zeros(batch * 4, "image numbers")?,
            geometry: device.zeros(batch * size_of::<Geometry>(), "geometry")?,
            prepared: None,
        })
    }

    /// P, numbers of each pixel.
    #[must_use]
    pub fn n_planes(&self) -> usize {
        self.planes.count as usize
    }

    /// Copies what the next batch is made of to the device: numbers of images in `stack`, and one geometry for each.
    ///
    /// # Errors
    ///
    /// If the lists differ in length, are empty or longer than a batch, the sizes are mixed, or an image or a geometry is
    /// not possible.
    pub fn prepare(&mut self, stack: &ImageStack, ids: &[u32], geometry: &[Geometry]) -> Result<()> {
        self.prepared = None;
        self.check(stack, ids, geometry)?;
        let (n, size) = (ids.len(), geometry[0].size as usize);
        self.ids.part(0..size_of_val(ids))?.write_plain(ids)?;
        self.geometry.part(0..size_of_val(geometry))?.write_plain(geometry)?;
        self.prepared = Some(Prepared { n, size, n_images: stack.n_images, shape: stack.shape });
        Ok(())
    }

    fn check(&self, stack: &ImageStack, ids: &[u32], geometry: &[Geometry]) -> Result<()> {
        let fail = |name, found: String, expected| Err(Error::Setting { name, found, expected });
        if ids.len() != geometry.len() || ids.is_empty() || ids.len() > self.batch {
            let found = format!("{} images, {} geometries", ids.len(), geometry.len());
            return fail("batch", found, "one geometry for each image, and not more than the batch was made for");
        }
        if let Some(id) = ids.iter().find(|&&id| id as usize >= stack.len()) {
            return fail("image", id.to_string(), "the number of an image on the device");
        }
        let size = geometry[0].size;
        match geometry.iter().position(|g| g.size != size || !fits(g, stack.shape)) {
            Some(index) => {
                fail("geometry", format!("that of image {index}"), "one that fits its image, all of one size")
            }
            None => Ok(()),
        }
    }

    /// Makes the batch of `n` images of side `size` that was prepared: `out (n, size, size, P)`.
    ///
    /// # Errors
    ///
    /// If a size does not fit, or the device fails.
    pub fn run(&self, e: Element, stack: &ImageStack, n: usize, size: usize, out: &Buffer) -> Result<()> {
        let pixels = n * size * size;
        out.check("out", pixels * self.n_planes() * e.size())?;
        let asked = Prepared { n, size, n_images: stack.n_images, shape: stack.shape };
        if self.prepared != Some(asked) {
            let found = format!("{n} images of {size} px");
            return Err(Error::Setting {
                name: "batch",
                found,
                expected: "the batch of these images that was prepared",
            });
        }
        let piece = rows_of_piece(pixels, size) * size;
        let (ids, geometry) = (self.ids.address(), self.geometry.address());
        let args = args![stack.raw(), ids, geometry, self.planes, piece as u32, out.address()];
        let grid = Grid::of_blocks([(size * size).div_ceil(piece), n, 1], [THREADS, 1, 1]);
        self.device.launch_for("augment", e, grid, args)
    }

    /// The numbers of the images that were prepared, 4 bytes each; dropout keys its draws by them.
    #[must_use]
    pub fn ids(&self) -> &Buffer {
        &self.ids
    }
}

/// Rows of an image of side `size` that a block makes, of a batch of so many pixels.
fn rows_of_piece(pixels: usize, size: usize) -> usize {
    let piece = (pixels / BLOCKS).next_power_of_two().clamp(PIXELS[0], PIXELS[1]);
    (piece / size.max(1)).clamp(1, ROWS)
}

/// Whether a geometry reads and writes inside.
fn fits(g: &Geometry, [height, width, _]: [usize; 3]) -> bool {
    let within = |[left, top, w, h]: [u32; 4], columns: u64, rows: u64| {
        w > 0 && h > 0 && u64::from(left) + u64::from(w) <= columns && u64::from(top) + u64::from(h) <= rows
    };
    let size = u64::from(g.size);
    let seen = if g.flags & 1 != 0 {
        g.matrix.iter().all(|v| v.is_finite())
    } else {
        within(g.source, width as u64, height as u64) && u64::from(g.offset) + size <= u64::from(g.full)
    };
    let erased = g.erased[2] == 0 || within(g.erased, size, size);
    (1..1 << 16).contains(&size) && seen && erased && g.border <= 255 && g.full < 1 << 24
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_makes_whole_rows_that_its_tables_hold() {
        for size in [1, 16, 48, 64, 96, 128, 224, 512, 3000, 10_000] {
            for batch in [1, 64, 256, 512] {
                let rows = rows_of_piece(batch * size * size, size);
                assert!((1..=ROWS).contains(&rows), "{batch} of {size}");
                assert!(rows * size <= PIXELS[1].max(size), "{batch} of {size}");
            }
        }
        assert_eq!([64, 256].map(|batch| rows_of_piece(batch * 128 * 128, 128)), [16, 64]);
    }
}
