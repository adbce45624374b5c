//! TIFF in tiles packed by LZW, or of colours apart.
//!
//! Where tiles are not as wide as the image, each is read row by row, and the decoder of LZW takes the end of some row's
//! codes for a file that is cut short; and where colours lie in planes of their own, it panics at tiles that the edge cuts. So
//! such a file is read as an image as narrow as a tile, of all tiles one below the
//! other, each of which is then read as a whole, and put together here.

use std::io::Cursor;

use image::{
    ColorType, ExtendedColorType, ImageDecoder, ImageResult,
    error::{LimitError, LimitErrorKind},
    metadata::Orientation,
};
use tiff::{
    decoder::Decoder,
    tags::{CompressionMethod, Tag},
};

/// A file of tiles one below the other, and where they belong.
pub(super) struct Stack {
    pub(super) bytes: Vec<u8>,
    layout: Layout,
}

/// Width and height of the image, and of a tile.
#[derive(Clone, Copy)]
struct Layout {
    image: [u32; 2],
    tile: [u32; 2],
}

impl Layout {
    fn tiles(self) -> Option<u32> {
        let [across, down] = [0, 1].map(|axis| self.image[axis].div_ceil(self.tile[axis]));
        across.checked_mul(down)
    }

    /// Puts the bytes of tiles one below the other where they belong, of pixels of so many bytes.
    fn place(self, tiles: &[u8], pixel: usize, image: &mut [u8]) {
        let [width, _] = self.image.map(|n| n as usize * pixel);
        let [tile_width, tile_height] = [self.tile[0] as usize * pixel, self.tile[1] as usize];
        let across = width.div_ceil(tile_width);
        for (y, row) in image.chunks_exact_mut(width).enumerate() {
            for (x, piece) in row.chunks_mut(tile_width).enumerate() {
                let tile = y / tile_height * across + x;
                let from = (tile * tile_height + y % tile_height) * tile_width;
                piece.copy_from_slice(&tiles[from..from + piece.len()]);
            }
        }
    }
}

/// The tiles of a file one below the other, of at most so many pixels; `None` where the decoder reads it as it is.
pub(super) fn stacked(bytes: &[u8], max_pixels: u64) -> Option<Stack> {
    const WIDTH: u16 = 256;
    const HEIGHT: u16 = 257;
    let mut tiff = Decoder::new(Cursor::new(bytes)).ok()?;
    const APART: u16 = 2;
    let method: u16 = tiff.find_tag_unsigned(Tag::Compression).ok()??;
    let planes: Option<u16> = tiff.find_tag_unsigned(Tag::PlanarConfiguration).ok()?;
    let mut side = |tag| tiff.find_tag_unsigned::<u32>(tag).ok().flatten().filter(|side| *side > 0);
    let tile = [side(Tag::TileWidth)?, side(Tag::TileLength)?];
    let image = <[u32; 2]>::from(tiff.dimensions().ok()?);
    let layout = Layout { image, tile };
    let is_cut = !image[0].is_multiple_of(tile[0]) || !image[1].is_multiple_of(tile[1]);
    let is_by_rows = method == CompressionMethod::LZW.to_u16() && image[0] != tile[0];
    if !(is_by_rows || (planes == Some(APART) && is_cut)) {
        return None;
    }
    let height = layout.tiles()?.checked_mul(tile[1])?;
    if u64::from(tile[0]) * u64::from(height) > max_pixels {
        return None;
    }
    let mut bytes = bytes.to_vec();
    set(&mut bytes, WIDTH, tile[0])?;
    set(&mut bytes, HEIGHT, height)?;
    Some(Stack { bytes, layout })
}

/// Sets a number of the first directory (TIFF 6.0, section 2: entries of tag, type, count and value).
fn set(bytes: &mut [u8], tag: u16, value: u32) -> Option<()> {
    const LONG: u16 = 4;
    let is_little = bytes.starts_with(b"II");
    let short = |bytes: &[u8], at: usize| {
        let pair = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if is_little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) })
    };
    let first: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
    let first = if is_little { u32::from_le_bytes(first) } else { u32::from_be_bytes(first) } as usize;
    let n = usize::from(short(bytes, first)?);
    let mut entries = (0..n).filter_map(|i| first.checked_add(2 + i * 12));
    let at = entries.find(|at| short(bytes, *at) == Some(tag))?;
    let entry = bytes.get_mut(at..at.checked_add(12)?)?;
    let (kind, count, value) = match is_little {
        true => (LONG.to_le_bytes(), 1u32.to_le_bytes(), value.to_le_bytes()),
        false => (LONG.to_be_bytes(), 1u32.to_be_bytes(), value.to_be_bytes()),
    };
    entry[2..4].copy_from_slice(&kind);
    entry[4..8].copy_from_slice(&count);
    entry[8..].copy_from_slice(&value);
    Some(())
}

impl Stack {
    pub(super) fn size(&self) -> [u32; 2] {
        self.layout.image
    }

    /// What decodes the image by a decoder of the tiles.
    pub(super) fn decoder<D>(&self, tiles: D) -> Placed<D> {
        Placed { tiles, layout: self.layout }
    }
}

/// Decodes an image whose tiles another decoder gives one below the other.
pub(super) struct Placed<D> {
    tiles: D,
    layout: Layout,
}

impl<D: ImageDecoder> ImageDecoder for Placed<D> {
    fn dimensions(&self) -> (u32, u32) {
        self.layout.image.into()
    }

    fn color_type(&self) -> ColorType {
        self.tiles.color_type()
    }

    fn original_color_type(&self) -> ExtendedColorType {
        self.tiles.original_color_type()
    }

    fn orientation(&mut self) -> ImageResult<Orientation> {
        self.tiles.orientation()
    }

    fn read_image(self, image: &mut [u8]) -> ImageResult<()> {
        let too_large = || LimitError::from_kind(LimitErrorKind::InsufficientMemory);
        let len = usize::try_from(self.tiles.total_bytes()).map_err(|_| image::ImageError::Limits(too_large()))?;
        let pixel = usize::from(self.tiles.color_type().bytes_per_pixel());
        let mut tiles = vec![0; len];
        self.tiles.read_image(&mut tiles)?;
        self.layout.place(&tiles, pixel, image);
        Ok(())
    }

    fn read_image_boxed(self: Box<Self>, image: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(image)
    }
}
