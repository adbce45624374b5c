use std::collections::HashMap;
use std::fmt;

use rayon::prelude::*;

use crate::decode::{BLANK, span};
use crate::{ImageView, Pixels};

/// Levels between the channels of a pixel that is coloured.
const COLOURED: u8 = 24;
/// Share of the images up to which a kind is odd: above it, it is simply the other kind.
pub(super) const FEW: f64 = 0.1;
/// Times the median area, and times the median ratio of sides, beyond which a size is odd where sizes vary.
const FAR: f64 = 4.0;

/// An image unlike the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Odd {
    /// Its id.
    pub id: u32,
    /// In what way.
    pub reason: OddReason,
}

/// In what way an image is unlike the rest.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum OddReason {
    /// Its values span so few levels that it shows nothing.
    Blank {
        /// Levels between the darkest and the brightest value.
        levels: u8,
    },
    /// Its edge is bright where that of nearly all others is dark, or the other way round.
    Inverted,
    /// Nearly all others have another size.
    Size {
        /// Its height and width.
        size: [usize; 2],
        /// Height and width of the others: of most, or the median of each.
        usual: [usize; 2],
    },
    /// Its file is of a format, a colour mode or a depth that few others have.
    File {
        /// What it is.
        kind: String,
        /// What most are.
        usual: String,
    },
    /// Nearly all others are grey.
    Coloured,
    /// Nearly all others are coloured.
    Grey,
}

impl fmt::Display for OddReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank { levels } => write!(f, "shows nothing: its values span {levels} levels"),
            Self::Inverted => f.write_str("inverted: dark and bright are the other way round"),
            Self::Size { size: [h, w], usual: [usual_h, usual_w] } => {
                write!(f, "{w}x{h} pixels, where {usual_w}x{usual_h} is usual")
            }
            Self::File { kind, usual } => write!(f, "read as {kind}, where {usual} is usual"),
            Self::Coloured => f.write_str("coloured among grey images"),
            Self::Grey => f.write_str("grey among coloured images"),
        }
    }
}

impl Pixels {
    /// Images that are blank, or of a polarity or colour that at most a tenth of the images have; by id. Sizes are a matter
    /// of the files, see [`Index::odd_files`]: large images may have been shrunk when they were decoded.
    ///
    /// [`Index::odd_files`]: crate::Index::odd_files
    #[must_use]
    pub fn odd_images(&self) -> Vec<Odd> {
        let looks: Vec<Look> = (0..self.len() as u32).into_par_iter().map(|id| Look::of(self.image(id))).collect();
        let few = |n: usize| n > 0 && n as f64 <= FEW * looks.len() as f64;
        let shown = || looks.iter().filter(|look| look.levels >= BLANK);
        let (bright, coloured) = (
            shown().filter(|l| l.edge == Edge::Bright).count(),
            shown().filter(|l| l.colour == Colour::Coloured).count(),
        );
        let (dark, grey) = (shown().count() - bright, shown().count() - coloured);
        let mut odd = Vec::new();
        for (id, look) in (0..).zip(&looks) {
            let mut add = |reason| odd.push(Odd { id, reason });
            if look.levels < BLANK {
                add(OddReason::Blank { levels: look.levels });
                continue;
            }
            if (look.edge == Edge::Bright && few(bright)) || (look.edge == Edge::Dark && few(dark)) {
                add(OddReason::Inverted);
            }
            match look.colour {
                Colour::Coloured if few(coloured) => add(OddReason::Coloured),
                Colour::Grey if few(grey) => add(OddReason::Grey),
                _ => {}
            }
        }
        odd
    }
}

/// What sizes there are.
pub(super) enum Sizes {
    /// Nearly all images have this one.
    One([usize; 2]),
    /// They vary around this one.
    Many([usize; 2]),
}

impl Sizes {
    pub(super) fn of(sizes: Vec<[usize; 2]>) -> Self {
        let mut counts: HashMap<[usize; 2], usize> = HashMap::new();
        sizes.iter().for_each(|size| *counts.entry(*size).or_default() += 1);
        let most = counts.iter().max_by_key(|(size, n)| (**n, **size));
        match most {
            Some((&size, &n)) if n as f64 >= (1.0 - FEW) * sizes.len() as f64 => Self::One(size),
            _ => {
                let median = |side: usize| {
                    let mut values: Vec<usize> = sizes.iter().map(|size| size[side]).collect();
                    values.sort_unstable();
                    values.get(values.len() / 2).copied().unwrap_or(1)
                };
                Self::Many([median(0), median(1)])
            }
        }
    }

    /// What is usual, if this size is not.
    pub(super) fn usual_of(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        let far = |a: f64, b: f64| a > FAR * b || b > FAR * a;
        match self {
            Self::One(usual) => (size != *usual).then_some(*usual),
            Self::Many(usual) => {
                let area = |[h, w]: [usize; 2]| (h * w) as f64;
                let ratio = |[h, w]: [usize; 2]| h as f64 / w as f64;
                (far(area(size), area(*usual)) || far(ratio(size), ratio(*usual))).then_some(*usual)
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    Dark,
    Bright,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Colour {
    Grey,
    Coloured,
}

/// An image at a glance.
struct Look {
    /// Between the darkest and the brightest value.
    levels: u8,
    /// The median of the outermost pixels.
    edge: Edge,
    colour: Colour,
}

impl Look {
    fn of(image: ImageView<'_>) -> Self {
        let ImageView { pixels, height, width, channels } = image;
        let levels = (0..channels).map(|channel| span(pixels.iter().skip(channel).step_by(channels).copied()));
        let row = width * channels;
        let sides = pixels.chunks_exact(row).flat_map(|row| [&row[..channels], &row[row.len() - channels..]]);
        let ends = [&pixels[..row], &pixels[(height - 1) * row..]];
        let mut edge: Vec<u8> = sides.chain(ends).flatten().copied().collect();
        edge.sort_unstable();
        let spread = |pixel: &[u8]| pixel.iter().max().zip(pixel.iter().min()).map_or(0, |(high, low)| high - low);
        let coloured = channels > 1 && pixels.chunks_exact(channels).any(|pixel| spread(pixel) > COLOURED);
        Self {
            levels: levels.max().unwrap_or(0),
            edge: if edge[edge.len() / 2] < 128 { Edge::Dark } else { Edge::Bright },
            colour: if coloured { Colour::Coloured } else { Colour::Grey },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bright square on black.
    fn square(side: usize) -> Vec<u8> {
        let inside = |i: usize| (side / 4..side / 2).contains(&i);
        (0..side * side).map(|i| if inside(i / side) && inside(i % side) { 200 } else { 0 }).collect()
    }

    fn reasons(images: &[(Vec<u8>, usize, usize)]) -> Vec<(u32, OddReason)> {
        let view = |(pixels, side, channels): &(Vec<u8>, usize, usize)| (pixels.clone(), *side, *channels);
        let owned: Vec<_> = images.iter().map(view).collect();
        let views = owned.iter().map(|(pixels, side, channels)| ImageView {
            pixels,
            height: pixels.len() / side / channels,
            width: *side,
            channels: *channels,
        });
        let pixels = Pixels::from_images(views).expect("pixels");
        pixels.odd_images().into_iter().map(|odd| (odd.id, odd.reason)).collect()
    }

    fn grey(side: usize) -> (Vec<u8>, usize, usize) {
        (square(side), side, 1)
    }

    #[test]
    fn a_few_unlike_the_rest_are_named() {
        let mut images = vec![grey(16); 40];
        images[3].0 = vec![7; 256];
        images[9].0.iter_mut().for_each(|v| *v = 255 - *v);
        assert_eq!(reasons(&images), [(3, OddReason::Blank { levels: 0 }), (9, OddReason::Inverted)]);
    }

    #[test]
    fn two_kinds_are_not_odd() {
        let mut images = vec![grey(16); 40];
        images[..20].iter_mut().for_each(|image| image.0.iter_mut().for_each(|v| *v = 255 - *v));
        assert_eq!(reasons(&images), []);
    }

    #[test]
    fn where_sizes_vary_only_far_ones_are_odd() {
        let sizes = Sizes::of((24..64).map(|side| [side, side]).chain([[200, 200], [8, 128]]).collect());
        let is_odd = |size| sizes.usual_of(size).is_some();
        assert!(!is_odd([24, 24]) && !is_odd([63, 63]) && is_odd([200, 200]) && is_odd([8, 128]));
        // One size that nearly all have makes every other odd.
        let sizes = Sizes::of([[16, 16]; 40].into_iter().chain([[15, 16]]).collect());
        assert_eq!((sizes.usual_of([15, 16]), sizes.usual_of([16, 16])), (Some([16, 16]), None));
    }

    #[test]
    fn a_plain_colour_is_blank() {
        let mut images = vec![(square(16).into_iter().flat_map(|v| [v, v / 2, 0]).collect::<Vec<_>>(), 16, 3); 40];
        images[7].0 = [200, 30, 30].repeat(256);
        assert_eq!(reasons(&images), [(7, OddReason::Blank { levels: 0 })]);
    }

    #[test]
    fn colour_among_grey_is_odd() {
        let rgb = |square: Vec<u8>| square.into_iter().flat_map(|v| [v; 3]).collect::<Vec<_>>();
        let mut images = vec![(rgb(square(16)), 16, 3); 40];
        images[5].0[3 * 100] = 255;
        images[5].0[3 * 100 + 1] = 0;
        assert_eq!(reasons(&images), [(5, OddReason::Coloured)]);
    }
}
