//! Batches of a device against the CPU's. The same code judges the emulation in tests and a GPU where there is one.

use crate::{
    Affine, Batcher, Erasing, Framing, GpuBatcher, ImageStack, Jitter, Normalisation, Planes, Policy, PolicyConfig,
    RandomResizedCrop, Result,
};
use cn_cuda::{Device, Element};
use cn_random::{Draws, Purpose};

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchCheck {
    /// Policy, images and planes.
    pub name: String,
    /// Numbers of the batch.
    pub n_values: usize,
    /// How many of them have other bits than on the CPU.
    pub n_different: usize,
}

/// What one comparison is of.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// H, W, C of the images.
    image: [usize; 3],
    /// Channels of the model.
    channels: usize,
    planes: Planes,
    framing: Framing,
    size: u32,
}

/// Compares batches of every framing, of grey and coloured images, with the CPU's; all must have the same bits.
///
/// # Errors
///
/// If the device fails.
pub fn check_batches(device: &Device, seed: u64) -> Result<Vec<BatchCheck>> {
    let crop = RandomResizedCrop { min_scale: 0.3, ..RandomResizedCrop::default() };
    let wild = Affine { shift: 0.3, scale: (0.2, 2.0), rotate: 180.0, shear: 30.0, aspect: 2.0 };
    let framings = [
        Framing::Whole,
        Framing::CentreCrop { extra: 0.14 },
        Framing::RandomResizedCrop(crop),
        Framing::Affine(Affine::default()),
        Framing::Affine(wild),
    ];
    let mut draws = Draws::new(seed, 0, 0, Purpose::named("gpu.check"));
    let mut checks = Vec::new();
    for framing in framings {
        for (channels_in, channels, planes) in [
            (1, 1, Planes::Channels),
            (1, 3, Planes::Channels),
            (1, 3, Planes::Grey),
            (3, 3, Planes::Channels),
            (3, 1, Planes::Channels),
        ] {
            let mut side = |low: u32, high: u32| (low + draws.below(high - low + 1)) as usize;
            let image = [side(1, 40), side(1, 40), channels_in];
            let size = side(1, 48) as u32;
            check(device, seed, Case { image, channels, planes, framing, size }, &mut checks)?;
        }
    }
    Ok(checks)
}

fn check(device: &Device, seed: u64, case: Case, checks: &mut Vec<BatchCheck>) -> Result<()> {
    const IDS: [u32; 4] = [4, 0, 2, 2];
    let mut draws = Draws::new(seed, 1, case.size, Purpose::named("gpu.check"));
    let pixels: Vec<u8> = (0..5 * case.image.iter().product::<usize>()).map(|_| draws.next_u32() as u8).collect();
    let stack = ImageStack::new(&pixels, case.image)?;
    let normalisation =
        if case.channels == 3 { Normalisation::imagenet() } else { Normalisation::new(&[0.3], &[0.7])? };
    let batcher = Batcher::new(case.channels, normalisation)?.with_planes(case.planes);
    let policy = Policy::new(PolicyConfig {
        flip: 0.5,
        jitter: Some(Jitter { probability: 0.5, brightness: 0.4, contrast: 0.5 }),
        erasing: Some(Erasing::default()),
        border: 17,
        ..PolicyConfig::new(case.size, case.framing)
    })?;
    let images = stack.select(&IDS)?;
    let geometry = policy.geometries(&images, seed, 3, &[1, 2, 3, 4])?;
    let n_values = IDS.len() * (case.size * case.size) as usize * batcher.n_planes();
    let mut expected = vec![0f32; n_values];
    batcher.fill(&images, &geometry, &mut expected)?;

    let mut gpu = GpuBatcher::new(device, &batcher, &stack, 6)?;
    gpu.prepare(&IDS, &geometry)?;
    for element in [Element::F32, Element::Bf16] {
        let batch = device.allocate(n_values * element.size(), "a batch")?;
        // The CPU's numbers, rounded as the device keeps them.
        batch.write(element, &expected)?;
        let rounded = batch.read(element)?;
        batch.zero()?;
        gpu.run(element, &batch)?;
        let differ = |(a, b): &(f32, f32)| a.to_bits() != b.to_bits();
        let n_different = batch.read(element)?.into_iter().zip(rounded).filter(differ).count();
        checks.push(BatchCheck { name: format!("{element:?} {case:?}"), n_values, n_different });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_have_the_bits_of_the_cpu() -> Result<()> {
        let Some(device) = Device::emulated_or_skip()? else { return Ok(()) };
        for seed in 0..4 {
            let checks = check_batches(&device, seed)?;
            assert_eq!(checks.len(), 50);
            let failed: Vec<_> = checks.iter().filter(|check| check.n_different > 0).collect();
            assert!(failed.is_empty(), "{failed:#?}");
        }
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused() -> Result<()> {
        let Some(device) = Device::emulated_or_skip()? else { return Ok(()) };
        let pixels = [0u8; 2 * 4 * 4];
        let stack = ImageStack::new(&pixels, [4, 4, 1])?;
        let batcher = Batcher::new(1, Normalisation::none())?;
        let mut gpu = GpuBatcher::new(&device, &batcher, &stack, 1)?;
        let good = crate::Geometry::whole(stack.get(0)?, 3);
        let batch = device.zeros(9 * 4, "a batch").map_err(crate::Error::from)?;
        assert!(gpu.run(Element::F32, &batch).is_err(), "nothing was prepared");
        assert!(gpu.prepare(&[], &[]).is_err() && gpu.prepare(&[0, 1], &[good; 2]).is_err());
        assert!(gpu.prepare(&[2], &[good]).is_err() && gpu.prepare(&[0], &[good; 2]).is_err());
        assert!(gpu.prepare(&[0], &[crate::Geometry { source: [1, 0, 4, 4], ..good }]).is_err());
        gpu.prepare(&[1], &[good])?;
        assert!(gpu.run(Element::Bf16, &batch).is_err(), "another size");
        gpu.run(Element::F32, &batch)
    }
}
