//! What ink is drawn on.

use cn_data::Pixels;

/// Share of the bytes from which on images are drawings on an even ground.
const EVEN: f64 = 0.6;

/// The ground of a data set of drawings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ground {
    Dark,
    Bright,
}

impl Ground {
    /// `None` where the images are no drawings on an even ground.
    pub(crate) fn of(pixels: &Pixels) -> Option<Self> {
        let bytes = pixels.bytes();
        let share = |is: fn(u8) -> bool| bytes.iter().filter(|&&v| is(v)).count() as f64 / bytes.len().max(1) as f64;
        match () {
            () if share(|v| v < 96) >= EVEN => Some(Self::Dark),
            () if share(|v| v > 159) >= EVEN => Some(Self::Bright),
            () => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ground_is_what_most_bytes_are() {
        let of = |bytes: &[u8]| Ground::of(&Pixels::uniform(bytes.to_vec(), [1, bytes.len(), 1]).expect("an image"));
        assert_eq!(of(&[0, 20, 95, 255, 0]), Some(Ground::Dark));
        assert_eq!(of(&[255, 240, 160, 0, 0]), Some(Ground::Bright));
        assert_eq!(of(&[0, 100, 120, 140, 255]), None);
    }
}
