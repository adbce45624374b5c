//! Text from the embedded font, Noto Sans CJK SC cut down to what is needed (SIL Open Font License 1.1, see `fonts/`).

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};

use super::Picture;
use super::canvas::Colour;

/// The font, as a file.
pub(crate) const FILE: &[u8] = include_bytes!("../../fonts/NotoSansSC-subset.otf");

static FONT: LazyLock<FontRef<'static>> =
    LazyLock::new(|| FontRef::try_from_slice(FILE).expect("the embedded font is sound"));

/// Where a text begins, relative to the point it is drawn at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Left,
    Centre,
    Right,
}

/// Size of a missing character's code, as a share of the text's.
const CODE_SIZE: f32 = 0.62;

/// Line height over size: enough for Chinese characters, which fill their square.
pub(super) const LEADING: f32 = 1.35;

/// A piece of text that is drawn in one size.
enum Piece {
    Glyph(char),
    Code(String),
}

fn pieces(text: &str) -> impl Iterator<Item = Piece> + '_ {
    text.chars().map(|c| if has(c) { Piece::Glyph(c) } else { Piece::Code(format!("U+{:04X}", u32::from(c))) })
}

/// Whether the font can draw `c`.
pub(super) fn has(c: char) -> bool {
    FONT.glyph_id(c).0 != 0
}

/// The Chinese characters that the font can draw, and their punctuation.
pub(crate) fn chinese() -> impl Iterator<Item = char> {
    ('\u{3000}'..='\u{9FFF}').filter(|&c| has(c))
}

/// `PxScale` counts ascent to descent; `size` is the em, as everywhere else.
fn px_scale(size: f32) -> PxScale {
    let em = FONT.units_per_em().expect("the embedded font names its em");
    PxScale::from(size * FONT.height_unscaled() / em)
}

fn advance(c: char, size: f32) -> f32 {
    FONT.as_scaled(px_scale(size)).h_advance(FONT.glyph_id(c))
}

/// Blank on both sides of a code, so that it does not read as part of the text.
fn code_margin(size: f32) -> f32 {
    size * 0.08
}

/// Width of one line in pixels.
pub(super) fn text_width(text: &str, size: f32) -> f32 {
    let widths = pieces(text).map(|piece| match piece {
        Piece::Glyph(c) => advance(c, size),
        Piece::Code(code) => {
            let code: f32 = code.chars().map(|c| advance(c, size * CODE_SIZE)).sum();
            code + 2.0 * code_margin(size)
        }
    });
    widths.sum()
}

/// The text, or as much of its beginning as fits into `width` with three dots (the font's own ellipsis
/// is the Chinese one, in the middle of the line).
pub(super) fn ellipsise(text: &str, size: f32, width: f32) -> String {
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    // The rest of a long text is not measured again and again.
    let mut room = width;
    let fits = |c: &char| {
        room -= text_width(c.encode_utf8(&mut [0; 4]), size);
        room >= 0.0
    };
    let mut kept: String = text.chars().take_while(fits).collect();
    while kept.pop().is_some() {
        let shortened = format!("{}...", kept.trim_end_matches(['.', ' ']));
        if text_width(&shortened, size) <= width {
            return shortened;
        }
    }
    String::new()
}

impl Picture {
    /// Draws one line; `at` is the anchor's x and the baseline's y.
    pub(super) fn text(&mut self, at: (f32, f32), anchor: Anchor, text: &str, size: f32, colour: Colour) {
        let width = text_width(text, size);
        let mut x = match anchor {
            Anchor::Left => at.0,
            Anchor::Centre => at.0 - width / 2.0,
            Anchor::Right => at.0 - width,
        };
        // On whole pixels the horizontal strokes are sharpest.
        let baseline = at.1.round();
        for piece in pieces(text) {
            match piece {
                Piece::Glyph(c) => {
                    self.glyph((x, baseline), c, size, colour);
                    x += advance(c, size);
                }
                Piece::Code(code) => {
                    x += code_margin(size);
                    for c in code.chars() {
                        self.glyph((x, (baseline - size * 0.16).round()), c, size * CODE_SIZE, colour);
                        x += advance(c, size * CODE_SIZE);
                    }
                    x += code_margin(size);
                }
            }
        }
    }

    fn glyph(&mut self, at: (f32, f32), c: char, size: f32, colour: Colour) {
        let glyph = FONT.glyph_id(c).with_scale_and_position(px_scale(size), point(at.0, at.1));
        // Blanks have no outline.
        if let Some(outline) = FONT.outline_glyph(glyph) {
            let bounds = outline.px_bounds();
            let (left, top) = (bounds.min.x as i64, bounds.min.y as i64);
            outline.draw(|x, y, coverage| self.blend(left + i64::from(x), top + i64::from(y), colour, coverage));
        }
    }
}
