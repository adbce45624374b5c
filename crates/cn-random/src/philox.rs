//! Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011).

/// Multipliers of the two halves of a block.
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// What is added to the key after each round: the golden ratio and sqrt(3) - 1.
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// Returns the block of four words that belongs to `counter` under `key`, word for word that of Random123.
///
/// For a fixed key it is a bijection of the 2^128 counters; blocks of different counters are independent as far as
/// the usual test batteries see.
///
/// ```
/// let block = cn_random::philox4x32_10([0; 4], [0; 2]);
/// assert_eq!(block, [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
/// ```
#[must_use]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [block] = blocks([counter[0]], [counter[1], counter[2], counter[3]], key);
    block
}

/// The blocks of several counters that differ in their first word alone.
#[inline]
fn blocks<const LANES: usize>(first: [u32; LANES], rest: [u32; 3], key: [u32; 2]) -> [[u32; 4]; LANES] {
    let words = lanes(first, rest, key);
    std::array::from_fn(|lane| words.map(|word| word[lane]))
}

/// As [`blocks`], word by word: `result[w][lane]` is word `w` of block `lane`, a layout that compilers vectorise.
#[inline]
pub(crate) fn lanes<const LANES: usize>(first: [u32; LANES], rest: [u32; 3], mut key: [u32; 2]) -> [[u32; LANES]; 4] {
    let mut words = [first, [rest[0]; LANES], [rest[1]; LANES], [rest[2]; LANES]];
    for _ in 0..ROUNDS {
        let [w0, w1, w2, w3] = &mut words;
        for (((w0, w1), w2), w3) in w0.iter_mut().zip(w1).zip(w2).zip(w3) {
            let a = u64::from(MULTIPLIERS[0]) * u64::from(*w0);
            let b = u64::from(MULTIPLIERS[1]) * u64::from(*w2);
            *w0 = (b >> 32) as u32 ^ *w1 ^ key[0];
            *w1 = b as u32;
            *w2 = (a >> 32) as u32 ^ *w3 ^ key[1];
            *w3 = a as u32;
        }
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    // The vectors of Random123's `kat_vectors` for philox4x32, 10 rounds.
    #[test]
    fn known_answers_of_random123() {
        let ones = u32::MAX;
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32_10([ones; 4], [ones; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox4x32_10([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn lanes_are_single_blocks() {
        let first: [u32; 8] = std::array::from_fn(|i| i as u32 * 77);
        let (rest, key) = ([3, 5, 7], [11, 13]);
        let words = lanes(first, rest, key);
        for lane in 0..8 {
            let block = philox4x32_10([first[lane], rest[0], rest[1], rest[2]], key);
            assert_eq!(words.map(|word| word[lane]), block);
        }
    }
}
