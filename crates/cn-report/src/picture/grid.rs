use super::Picture;
use super::canvas::{AXIS, Colour, FAINT, INK, RIGHT, Rect, WRONG};
use super::font::{Anchor, LEADING, ellipsise, text_width};
use crate::error::{Error, Result};

const TITLE_SIZE: f32 = 22.0;
const TEXT_SIZE: f32 = 17.0;
const SMALLEST_TEXT: f32 = 12.0;
const MARGIN: f32 = 20.0;
const GAP: f32 = 18.0;
/// Small images are enlarged to about this side, by a whole factor.
const SIDE: usize = 128;
/// Larger ones are made smaller, by a whole factor.
const LARGEST_SIDE: usize = 256;
/// 64 million pixels are 192 MB; what is larger is a mistake.
const MOST_PIXELS: u64 = 1 << 26;

/// Borrowed pixels of 8 bits, row-major, grey or RGB.
#[derive(Debug, Clone, Copy)]
pub struct ImageView<'a> {
    pixels: &'a [u8],
    width: usize,
    height: usize,
    channels: usize,
}

impl<'a> ImageView<'a> {
    /// `(height, width)` bytes.
    ///
    /// # Errors
    ///
    /// If the bytes are not as many, or a side is 0.
    pub fn grey(width: usize, height: usize, pixels: &'a [u8]) -> Result<Self> {
        Self::new(width, height, 1, pixels)
    }

    /// `(height, width, 3)` bytes.
    ///
    /// # Errors
    ///
    /// If the bytes are not as many, or a side is 0.
    pub fn rgb(width: usize, height: usize, pixels: &'a [u8]) -> Result<Self> {
        Self::new(width, height, 3, pixels)
    }

    fn new(width: usize, height: usize, channels: usize, pixels: &'a [u8]) -> Result<Self> {
        let n_bytes = width.checked_mul(height).and_then(|n| n.checked_mul(channels));
        if width == 0 || height == 0 || n_bytes != Some(pixels.len()) {
            let found = format!("{} bytes for {width}x{height}x{channels}", pixels.len());
            let expected = "width x height x channels, none of them 0";
            return Err(Error::Picture { what: "image", found, expected });
        }
        Ok(Self { pixels, width, height, channels })
    }

    /// The bytes of a PNG file of the image as it is.
    ///
    /// # Errors
    ///
    /// [`Error::Png`] if the encoder refuses.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let mut picture = Picture::blank(self.width as u32, self.height as u32);
        let places = (0..self.height).flat_map(|y| (0..self.width).map(move |x| (x, y)));
        for (pixel, (x, y)) in picture.pixels.chunks_exact_mut(3).zip(places) {
            pixel.copy_from_slice(&self.rgb_at(x, y));
        }
        picture.to_png()
    }

    fn rgb_at(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width + x) * self.channels;
        if self.channels == 1 { [self.pixels[at]; 3] } else { [0, 1, 2].map(|channel| self.pixels[at + channel]) }
    }

    /// Mean of a square of `side` pixels, cut at the border.
    fn mean_at(&self, x: usize, y: usize, side: usize) -> [u8; 3] {
        let (right, bottom) = ((x + side).min(self.width), (y + side).min(self.height));
        let mut sum = [0_u32; 3];
        for (x, y) in (y..bottom).flat_map(|y| (x..right).map(move |x| (x, y))) {
            sum.iter_mut().zip(self.rgb_at(x, y)).for_each(|(sum, value)| *sum += u32::from(value));
        }
        let count = ((right - x) * (bottom - y)) as u32;
        sum.map(|sum| ((sum + count / 2) / count) as u8)
    }

    /// (times larger, times smaller); one of them is 1.
    fn factors(&self) -> (usize, usize) {
        let side = self.width.max(self.height);
        if side > LARGEST_SIDE { (1, side.div_ceil(LARGEST_SIDE)) } else { ((SIDE / side).max(1), 1) }
    }

    fn drawn_size(&self) -> (usize, usize) {
        let (larger, smaller) = self.factors();
        let side = |side: usize| (side * larger).div_ceil(smaller);
        (side(self.width), side(self.height))
    }
}

/// What a caption says about the image, by its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// Black: nothing.
    #[default]
    Plain,
    /// Grey: less important.
    Quiet,
    /// Green: right.
    Right,
    /// Red: wrong.
    Wrong,
}

/// A line under an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    /// One line of text; made smaller, then cut, where it is wider than the image.
    pub text: String,
    /// Its colour. The image's frame takes the colour of the first line that is right or wrong.
    pub tone: Tone,
}

impl<T: Into<String>> From<T> for Caption {
    fn from(text: T) -> Self {
        Self { text: text.into(), tone: Tone::Plain }
    }
}

/// An image with what stands under it.
#[derive(Debug, Clone)]
pub struct Tile<'a> {
    /// The image.
    pub image: ImageView<'a>,
    /// Lines under it.
    pub captions: Vec<Caption>,
}

impl Tone {
    fn colour(self) -> Colour {
        match self {
            Self::Plain => INK,
            Self::Quiet => FAINT,
            Self::Right => RIGHT,
            Self::Wrong => WRONG,
        }
    }
}

/// Sizes that all tiles of a grid share.
struct Layout {
    columns: usize,
    cell: (f32, f32),
    image: (f32, f32),
    top: f32,
}

/// Draws images in rows of `columns`, with their captions, under a title (which may be empty).
///
/// Images of up to 64 pixels are enlarged by a whole factor to about 128, those beyond 256 made smaller by one.
///
/// # Errors
///
/// [`Error::Picture`] if there are no tiles or no columns, or if the picture had more than 64 million pixels.
pub fn grid(title: &str, tiles: &[Tile<'_>], columns: usize) -> Result<Picture> {
    let wrong = |what, found: String, expected| Err(Error::Picture { what, found, expected });
    if tiles.is_empty() {
        return wrong("tiles", "empty".into(), "at least one");
    }
    if columns == 0 {
        return wrong("columns", "0".into(), "at least 1");
    }
    let layout = Layout::new(title, tiles, columns);
    let (width, height) = layout.picture_size(title, tiles.len());
    if width.saturating_mul(height) > MOST_PIXELS {
        return wrong("picture", format!("{width}x{height} pixels"), "at most 64 million pixels: fewer tiles");
    }
    let mut picture = Picture::blank(width as u32, height as u32);
    let title = ellipsise(title, TITLE_SIZE, width as f32 - 2.0 * MARGIN);
    picture.text((MARGIN, MARGIN + TITLE_SIZE * 0.85), Anchor::Left, &title, TITLE_SIZE, INK);
    for (i, tile) in tiles.iter().enumerate() {
        let (column, row) = ((i % columns) as f32, (i / columns) as f32);
        let at = (MARGIN + column * (layout.cell.0 + GAP), layout.top + row * (layout.cell.1 + GAP));
        draw_tile(&mut picture, tile, at, &layout);
    }
    Ok(picture)
}

impl Layout {
    fn new(title: &str, tiles: &[Tile<'_>], columns: usize) -> Self {
        let columns = columns.min(tiles.len());
        let largest = |side: fn((usize, usize)) -> usize| {
            tiles.iter().map(|tile| side(tile.image.drawn_size())).max().unwrap_or(1) as f32
        };
        let image = (largest(|size| size.0), largest(|size| size.1));
        let n_lines = tiles.iter().map(|tile| tile.captions.len()).max().unwrap_or(0);
        let captions = if n_lines == 0 { 0.0 } else { 6.0 + n_lines as f32 * TEXT_SIZE * LEADING };
        let top = MARGIN + if title.is_empty() { 0.0 } else { TITLE_SIZE * LEADING + 8.0 };
        // Captions may be half as wide again as the image, and an image narrower than usual is given their room.
        let texts = tiles.iter().flat_map(|tile| &tile.captions).map(|caption| text_width(&caption.text, TEXT_SIZE));
        let most = 1.5 * image.0.max(SIDE as f32 * 0.75);
        let width = texts.fold(image.0, f32::max).min(most).ceil();
        Self { columns, cell: (width, image.1 + captions), image, top }
    }

    fn picture_size(&self, title: &str, n_tiles: usize) -> (u64, u64) {
        let n_rows = n_tiles.div_ceil(self.columns) as f64;
        let side = |n: f64, cell: f32| n * f64::from(cell) + (n - 1.0) * f64::from(GAP);
        let tiles = side(self.columns as f64, self.cell.0);
        let width = tiles.max(f64::from(text_width(title, TITLE_SIZE)).min(600.0));
        let margins = 2.0 * f64::from(MARGIN);
        let height = f64::from(self.top) + side(n_rows, self.cell.1) + f64::from(MARGIN);
        ((width + margins).ceil() as u64, height.ceil() as u64)
    }
}

fn draw_tile(picture: &mut Picture, tile: &Tile<'_>, at: (f32, f32), layout: &Layout) {
    let (width, height) = tile.image.drawn_size();
    let left = (at.0 + (layout.cell.0 - width as f32) / 2.0).round();
    let top = (at.1 + layout.image.1 - height as f32).round();
    let judged = tile.captions.iter().find(|caption| matches!(caption.tone, Tone::Right | Tone::Wrong));
    let (frame, thickness) = judged.map_or((AXIS, 1.0), |caption| (caption.tone.colour(), 3.0));
    let outer = Rect {
        x: left - thickness,
        y: top - thickness,
        width: width as f32 + 2.0 * thickness,
        height: height as f32 + 2.0 * thickness,
    };
    picture.fill(outer, frame);
    draw_image(picture, &tile.image, (left as i64, top as i64));

    let room = layout.cell.0 + GAP - 6.0;
    let mut baseline = at.1 + layout.image.1 + 6.0 + TEXT_SIZE;
    for caption in &tile.captions {
        let size = fitting_size(&caption.text, room);
        let text = ellipsise(&caption.text, size, room);
        let centre = (at.0 + layout.cell.0 / 2.0, baseline);
        picture.text(centre, Anchor::Centre, &text, size, caption.tone.colour());
        baseline += TEXT_SIZE * LEADING;
    }
}

/// The largest size at which the text fits, within what can be read; a trace smaller, so that rounding cuts nothing.
fn fitting_size(text: &str, room: f32) -> f32 {
    let width = text_width(text, TEXT_SIZE);
    if width <= room { TEXT_SIZE } else { (TEXT_SIZE * room / width * 0.999).max(SMALLEST_TEXT) }
}

fn draw_image(picture: &mut Picture, image: &ImageView<'_>, at: (i64, i64)) {
    let (larger, smaller) = image.factors();
    let (width, height) = image.drawn_size();
    for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        let colour = image.mean_at(x / larger * smaller, y / larger * smaller, smaller);
        picture.blend(at.0 + x as i64, at.1 + y as i64, colour, 1.0);
    }
}
