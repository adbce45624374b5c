//! Writers: the traits that one person keeps, and the habits that the person has for one character.

use cn_random::Purpose;

use crate::noise::Noise;
use crate::style::Style;

const WRITER: Purpose = Purpose::named("cn-synth writer");
const HABIT: Purpose = Purpose::named("cn-synth habit");
const PAGE: Purpose = Purpose::named("cn-synth page");
const SAMPLE: Purpose = Purpose::named("cn-synth sample");

/// What identifies the draws of one image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) seed: u64,
    pub(crate) writer: u32,
    pub(crate) sample: u32,
    pub(crate) code: u8,
}

impl Key {
    /// What the writer always does.
    fn writer(self) -> Noise {
        Noise::new(self.seed, (0, self.writer), WRITER)
    }

    /// What the writer does with `item` of this character: the same on every page.
    pub(crate) fn habit(self, item: u32) -> Noise {
        let item = u32::from(self.code) << 16 | item;
        Noise::new(self.seed, (item, self.writer), HABIT)
    }

    /// What all characters of a page share.
    fn page(self) -> Noise {
        Noise::new(self.seed, (self.sample, self.writer), PAGE)
    }

    /// What happens once.
    pub(crate) fn sample(self) -> Noise {
        let item = self.sample << 4 | u32::from(self.code);
        Noise::new(self.seed, (item, self.writer), SAMPLE)
    }
}

/// One person with a pen. Lengths in px of 64, or in hundredths of an em where said.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    pub(crate) em: f32,
    pub(crate) aspect: f32,
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) slope: f32,
    pub(crate) slant: f32,
    pub(crate) pen_width: f32,
    pub(crate) darkness: f32,
    /// Hundredths of an em.
    pub(crate) carelessness: f32,
    pub(crate) joining: f32,
    /// Share of a corner that is rounded away, 0 to 1.
    pub(crate) roundness: f32,
    /// Length of hooks, times that of the skeleton.
    pub(crate) hook: f32,
    /// Press at the start of horizontal and vertical strokes, hundredths of an em; mostly 0.
    pub(crate) start_tick: f32,
    /// Press at the end of horizontal strokes, hundredths of an em; mostly 0.
    pub(crate) end_tick: f32,
    /// Upward bend of horizontal strokes, of their length.
    pub(crate) arch: f32,
    /// Sideward bend of vertical strokes, of their length.
    pub(crate) bow: f32,
    /// Extra bend of falling strokes, of their length.
    pub(crate) sweep: f32,
    /// Flat end of right-falling strokes, hundredths of an em.
    pub(crate) foot: f32,
    /// Length of dots, times that of the skeleton.
    pub(crate) dot: f32,
    /// Shaking, in px.
    pub(crate) tremor: f32,
    /// Extra width where the pen comes down.
    pub(crate) press: f32,
    /// Width left where a quick stroke ends.
    pub(crate) taper: f32,
    /// Unevenness of the ink.
    pub(crate) grain: f32,
    /// Chance that the ink thins out within a stroke.
    pub(crate) skipping: f32,
    /// Deviation of the weight of whole strokes, relative.
    pub(crate) unevenness: f32,
    /// Chance of a blot.
    pub(crate) blots: f32,
}

impl Writer {
    pub(crate) fn new(key: Key, style: &Style) -> Self {
        let n = &mut key.writer();
        let pale = n.chance(0.1);
        let rarely = |n: &mut Noise, probability: f32, lo: f32, hi: f32| {
            let value = n.range(lo, hi);
            if n.chance(probability) { value } else { 0.0 }
        };
        Self {
            // Small hands come in all sizes; large ones end where the page does.
            em: style.em.writer_factor(n).min(1.75 * style.em.mean),
            aspect: style.aspect.writer_factor(n),
            x: style.x.writer(n),
            y: style.y.writer(n),
            slope: style.slope.writer(n),
            slant: style.slant.writer(n),
            pen_width: style.pen_width.writer_factor(n),
            darkness: style.darkness.writer_factor(n) * if pale { n.range(0.55, 0.8) } else { 1.0 },
            carelessness: style.carelessness.writer(n).max(0.0),
            joining: style.joining.writer(n).max(0.0),
            roundness: n.range(0.0, 1.0) * n.range(0.3, 1.0),
            hook: (0.85 + 0.35 * n.normal()).max(0.0),
            start_tick: rarely(n, 0.25, 1.5, 6.0),
            end_tick: rarely(n, 0.2, 1.5, 5.0),
            arch: 0.015 + 0.022 * n.normal(),
            bow: 0.022 * n.normal(),
            sweep: 0.05 * n.normal(),
            foot: rarely(n, 0.3, 4.0, 14.0),
            dot: n.factor(0.2),
            tremor: n.range(0.02, 0.1),
            press: n.range(0.0, 0.35),
            taper: n.range(0.3, 0.95),
            grain: n.range(0.06, 0.18),
            skipping: if pale { 0.25 } else { rarely(n, 0.4, 0.0, 0.1) },
            unevenness: n.range(0.04, 0.12) + if pale { 0.15 } else { 0.0 },
            blots: if n.chance(0.06) { 0.08 } else { 0.004 },
        }
    }
}

/// Where and how large one character comes out, in px of 64.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) em: f32,
    pub(crate) aspect: f32,
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) slope: f32,
    pub(crate) slant: f32,
    /// Second-order warp: three coefficients for each axis.
    pub(crate) warp: [f32; 6],
    pub(crate) pen_width: f32,
    pub(crate) darkness: f32,
}

impl Layout {
    pub(crate) fn new(key: Key, writer: &Writer, style: &Style, sample: &mut Noise) -> Self {
        let habit = &mut key.habit(0xFFFF);
        let page = &mut key.page();
        let (page_x, page_y) = (0.8 * page.normal(), style.page_y * page.normal());
        let page_em = page.factor(style.em.within * 0.7);
        let page_dark = page.factor(style.darkness.within);
        let own =
            |spread: f32, habit: &mut Noise, sample: &mut Noise| spread * (habit.normal() * 0.9 + sample.normal());
        let em = habit.factor(0.07) * sample.factor(style.em.within) * page_em;
        let aspect = habit.factor(0.06) * sample.factor(style.aspect.within);
        Self {
            em: writer.em * em,
            aspect: writer.aspect * aspect,
            x: writer.x + page_x + own(style.x.within, habit, sample),
            y: writer.y + page_y + own(style.y.within, habit, sample),
            slope: writer.slope + own(style.slope.within, habit, sample),
            slant: writer.slant + own(style.slant.within, habit, sample),
            warp: std::array::from_fn(|_| own(0.02, habit, sample)),
            pen_width: writer.pen_width * sample.factor(style.pen_width.within),
            darkness: (writer.darkness * page_dark * sample.factor(style.darkness.within)).min(1.0),
        }
    }
}
