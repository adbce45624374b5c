//! What happens to a drawing on its way to a file: lost ink, stray marks, blur, another exposure, dirt.

use crate::noise::Noise;

const SIDE: usize = 64;

/// Wears a 64 x 64 image of light ink on black; many images stay as they are.
pub(crate) fn wear(image: &mut [u8], noise: &mut Noise) {
    if noise.chance(0.12) {
        for _ in 0..1 + noise.chance(0.5) as usize {
            lose_ink(image, noise);
        }
    }
    if noise.chance(0.06) {
        mark(image, noise);
    }
    if noise.chance(0.35) {
        let share = noise.range(0.03, 0.28);
        for _ in 0..1 + noise.chance(0.3) as usize {
            blur(image, share);
        }
    }
    expose(image, noise);
}

/// Fades a round spot that has ink.
fn lose_ink(image: &mut [u8], noise: &mut Noise) {
    let inked: Vec<usize> = (0..SIDE * SIDE).filter(|&i| image[i] > 60).collect();
    if inked.is_empty() {
        return;
    }
    let centre = inked[(noise.uniform() * inked.len() as f32) as usize];
    let (radius, left) = (noise.range(1.0, 3.2), noise.range(0.0, 0.5));
    let (cx, cy) = ((centre % SIDE) as f32, (centre / SIDE) as f32);
    for (i, pixel) in image.iter_mut().enumerate() {
        let (dx, dy) = ((i % SIDE) as f32 - cx, (i / SIDE) as f32 - cy);
        if dx * dx + dy * dy <= radius * radius {
            *pixel = (f32::from(*pixel) * left) as u8;
        }
    }
}

/// A short straight line that belongs to nothing, away from the middle.
fn mark(image: &mut [u8], noise: &mut Noise) {
    let (mut x, mut y) = (noise.range(0.0, 64.0), noise.range(0.0, 64.0));
    let far = |v: f32| if (v - 32.0).abs() < 20.0 { if v < 32.0 { v - 20.0 } else { v + 20.0 } } else { v };
    if noise.chance(0.5) {
        x = far(x);
    } else {
        y = far(y);
    }
    let (dx, dy) = (noise.range(-0.7, 0.7), noise.range(-0.7, 0.7));
    let (steps, ink) = (noise.range(1.0, 12.0) as usize, noise.range(50.0, 220.0) as u8);
    for step in 0..steps {
        let (px, py) = (x + dx * step as f32, y + dy * step as f32);
        if (0.0..64.0).contains(&px) && (0.0..64.0).contains(&py) {
            let pixel = &mut image[py as usize * SIDE + px as usize];
            *pixel = (*pixel).max(ink);
        }
    }
}

/// Gives each neighbour along both axes `share` of a pixel.
fn blur(image: &mut [u8], share: f32) {
    let mut row = [0.0; SIDE];
    for (lines, step) in [(SIDE, 1), (1, SIDE)] {
        for line in 0..SIDE {
            let at = |i: usize| line * lines + i * step;
            for (i, value) in row.iter_mut().enumerate() {
                let before = f32::from(image[at(i.saturating_sub(1))]);
                let after = f32::from(image[at((i + 1).min(SIDE - 1))]);
                *value = (1.0 - 2.0 * share) * f32::from(image[at(i)]) + share * (before + after);
            }
            for (i, value) in row.iter().enumerate() {
                image[at(i)] = (value + 0.5) as u8;
            }
        }
    }
}

/// Contrast, a ground that is not quite black, grain.
fn expose(image: &mut [u8], noise: &mut Noise) {
    let gain = if noise.chance(0.4) { noise.range(0.6, 1.7) } else { 1.0 };
    let ground = if noise.chance(0.15) { noise.range(0.0, 45.0) } else { 0.0 };
    let grain = if noise.chance(0.25) { noise.range(2.0, 24.0) } else { 0.0 };
    if (gain, ground, grain) == (1.0, 0.0, 0.0) {
        return;
    }
    let room = 1.0 - ground / 255.0;
    for pixel in image {
        let dirt = if grain > 0.0 { noise.range(-0.5, 0.5) * grain } else { 0.0 };
        let value = ground + room * gain * f32::from(*pixel) + dirt;
        *pixel = (value + 0.5).clamp(0.0, 255.0) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cn_random::Purpose;

    #[test]
    fn an_empty_image_loses_no_ink() {
        let mut image = vec![0; SIDE * SIDE];
        lose_ink(&mut image, &mut Noise::new(1, (0, 0), Purpose::named("cn-synth test")));
        assert!(image.iter().all(|&p| p == 0));
    }

    #[test]
    fn blur_keeps_the_sum_and_spreads() {
        let mut image = vec![0; SIDE * SIDE];
        image[20 * SIDE + 30] = 200;
        blur(&mut image, 0.25);
        let at = |y: usize, x: usize| image[y * SIDE + x];
        assert_eq!([at(20, 30), at(20, 31), at(21, 31), at(20, 32)], [50, 25, 13, 0]);
    }
}
