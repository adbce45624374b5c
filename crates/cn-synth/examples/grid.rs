//! Writes a grid of handwriting as a PNG: a row for each (character, page), a column for each writer.
//!
//! `cargo run -p cn-synth --example grid -- OUT.png [FIRST_WRITER WRITERS PAGES FIRST_CODE LAST_CODE SEED]`

use std::error::Error;

use cn_synth::{Handwriting, Sample, Style};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let out = args.next().unwrap_or_else(|| "grid.png".into());
    let numbers = args.map(|a| a.parse()).collect::<Result<Vec<u32>, _>>()?;
    let number = |i: usize, default: u32| numbers.get(i).copied().unwrap_or(default);
    let (writer, n_writers, n_pages) = (number(0, 1), number(1, 20), number(2, 2));
    let (code, last_code) = (number(3, 1), number(4, 15));

    let mut samples = Vec::new();
    for code in code..=last_code {
        for page in 1..=n_pages {
            for writer in writer..writer + n_writers {
                samples.push(Sample::new(writer, page, u8::try_from(code)?)?);
            }
        }
    }
    let handwriting = Handwriting::new(number(5, 42).into(), Style::scans())?;
    let side = handwriting.size();
    let images = handwriting.draw_all(&samples);

    let n_rows = samples.len() / n_writers as usize;
    let width = n_writers as usize * side;
    let mut grid = vec![0; n_rows * side * width];
    for (i, image) in images.chunks_exact(side * side).enumerate() {
        let (row, column) = (i / n_writers as usize, i % n_writers as usize);
        for (y, line) in image.chunks_exact(side).enumerate() {
            let start = (row * side + y) * width + column * side;
            grid[start..start + side].copy_from_slice(line);
        }
    }
    let (width, height) = (u32::try_from(width)?, u32::try_from(n_rows * side)?);
    image::save_buffer(out, &grid, width, height, image::ColorType::L8)?;
    Ok(())
}
