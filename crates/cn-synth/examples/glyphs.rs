//! Writes images of pretraining as a PNG, a column for each character.
//!
//! `cargo run -p cn-synth --example glyphs -- OUT.png [FIRST_WRITER ROWS SEED]`

use std::error::Error;

use cn_synth::{CHARACTERS, Glyphs};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let out = args.next().unwrap_or_else(|| "glyphs.png".into());
    let numbers = args.map(|a| a.parse()).collect::<Result<Vec<u32>, _>>()?;
    let number = |i: usize, default: u32| numbers.get(i).copied().unwrap_or(default);
    let (first, n_rows, seed) = (number(0, 0), number(1, 20), number(2, 42));

    let (side, n_columns) = (Glyphs::SIDE, CHARACTERS.len());
    let glyphs = Glyphs::new(seed.into());
    let width = n_columns * side;
    let mut grid = vec![0; n_rows as usize * side * width];
    for i in 0..n_rows as usize * n_columns {
        let image = glyphs.draw(first * n_columns as u32 + i as u32);
        let (row, column) = (i / n_columns, i % n_columns);
        for (y, line) in image.chunks_exact(side).enumerate() {
            let start = (row * side + y) * width + column * side;
            grid[start..start + side].copy_from_slice(line);
        }
    }
    image::save_buffer(out, &grid, u32::try_from(width)?, n_rows * side as u32, image::ColorType::L8)?;
    Ok(())
}
