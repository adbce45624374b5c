//! What JPEG leaves of a grey image: the 8x8 cosine transform, quantised and undone. Entropy coding loses nothing, so
//! it is left out.

/// Annex K's table for luminance (ITU-T T.81), row by row.
const LUMINANCE: [u16; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
];

/// cos(k pi / 16) / 2 for k = 0 to 7.
const HALF_COS: [f32; 8] =
    [0.5, 0.490_392_65, 0.461_939_78, 0.415_734_8, 0.353_553_4, 0.277_785_1, 0.191_341_72, 0.097_545_16];

type Block = [[f32; 8]; 8];

/// A JPEG round trip at a fixed quality.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Jpeg {
    steps: Block,
    /// Row k: the k-th cosine over the eight samples.
    basis: Block,
    basis_transposed: Block,
}

impl Jpeg {
    /// `quality` 1 to 100, in the scale of the Independent JPEG Group.
    pub(crate) fn new(quality: u8) -> Self {
        let quality = u32::from(quality);
        let scale = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
        let step = |i: usize| ((u32::from(LUMINANCE[i]) * scale + 50) / 100).clamp(1, 255) as f32;
        let basis: Block = std::array::from_fn(|k| std::array::from_fn(|x| cosine(k, x)));
        Self {
            steps: std::array::from_fn(|v| std::array::from_fn(|u| step(8 * v + u))),
            basis,
            basis_transposed: transposed(&basis),
        }
    }

    /// Replaces the square image of side `size` by what its JPEG file shows; edges are continued to whole blocks.
    pub(crate) fn round_trip(&self, image: &mut [u8], size: usize) {
        for top in (0..size).step_by(8) {
            for left in (0..size).step_by(8) {
                let at = |y: usize, x: usize| (top + y).min(size - 1) * size + (left + x).min(size - 1);
                let first = image[at(0, 0)];
                if (0..64).all(|i| image[at(i / 8, i % 8)] == first)
                    && (f32::from(first) - 128.0) * 8.0 % self.steps[0][0] == 0.0
                {
                    continue; // A flat block on a step stays as it is; most blocks are blank.
                }
                let block: Block = std::array::from_fn(|y| std::array::from_fn(|x| f32::from(image[at(y, x)]) - 128.0));
                let block = self.block(&block);
                for y in 0..8.min(size - top) {
                    for x in 0..8.min(size - left) {
                        image[(top + y) * size + left + x] = (block[y][x] + 128.5).clamp(0.0, 255.0) as u8;
                    }
                }
            }
        }
    }

    fn block(&self, samples: &Block) -> Block {
        let mut c = product(&product(&self.basis, samples), &self.basis_transposed);
        for (row, steps) in c.iter_mut().zip(&self.steps) {
            for (value, step) in row.iter_mut().zip(steps) {
                *value = (*value / step).round_ties_even() * step;
            }
        }
        product(&product(&self.basis_transposed, &c), &self.basis)
    }
}

/// Value of the orthonormal cosine `k` at sample `x`.
fn cosine(k: usize, x: usize) -> f32 {
    if k == 0 {
        return HALF_COS[4];
    }
    // cos(j pi / 16) by symmetry from the first quadrant.
    match (2 * x + 1) * k % 32 {
        j @ 0..8 => HALF_COS[j],
        8 | 24 => 0.0,
        j @ 9..=16 => -HALF_COS.get(16 - j).copied().unwrap_or(0.0),
        j @ 17..24 => -HALF_COS[j - 16],
        j => HALF_COS[32 - j],
    }
}

fn transposed(m: &Block) -> Block {
    std::array::from_fn(|y| std::array::from_fn(|x| m[x][y]))
}

/// Sums in a fixed order, one rounding an operation: the same bits on every machine.
fn product(a: &Block, b: &Block) -> Block {
    let mut out = [[0.0; 8]; 8];
    for (row, a) in out.iter_mut().zip(a) {
        for (k, b) in b.iter().enumerate() {
            for (value, b) in row.iter_mut().zip(b) {
                *value += a[k] * b;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first row of the quantisation table in the real files.
    #[test]
    fn quality_75_has_the_steps_of_the_real_scans() {
        assert_eq!(Jpeg::new(75).steps[0], [8.0, 6.0, 5.0, 8.0, 12.0, 20.0, 26.0, 31.0]);
    }

    #[test]
    fn the_basis_is_orthonormal() {
        let jpeg = Jpeg::new(75);
        let unit = product(&jpeg.basis, &jpeg.basis_transposed);
        for (y, row) in unit.iter().enumerate() {
            for (x, value) in row.iter().enumerate() {
                let expected = f32::from(u8::from(x == y));
                assert!((value - expected).abs() < 1e-6, "{y} {x} {value}");
            }
        }
    }

    #[test]
    fn black_and_fine_quality_stay() {
        let mut black = [0; 64 * 64];
        Jpeg::new(75).round_trip(&mut black, 64);
        assert_eq!(black, [0; 64 * 64]);
        let image: Vec<u8> = (0..20 * 20).map(|i| (i * 7 % 251) as u8).collect();
        let mut again = image.clone();
        Jpeg::new(100).round_trip(&mut again, 20);
        let worst = image.iter().zip(&again).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(2), "{worst:?}");
    }

    #[test]
    fn a_line_rings() {
        let mut image = [0; 64 * 64];
        image[64 * 20 + 16..64 * 20 + 24].fill(180);
        Jpeg::new(75).round_trip(&mut image, 64);
        let faint = image.iter().filter(|p| (1..16).contains(*p)).count();
        assert!((4..40).contains(&faint), "{faint}");
        assert!(image[64 * 20 + 16] > 150);
    }
}
