//! What a trained network looks at, and how it sees images beside each other.

use crate::{Error, Result};
use candle_core::{Device, Tensor};
use cn_ops::{Mode, Model as _, Network, Pass, Trace};

/// Where a network looked, for each of several images.
#[derive(Clone, Debug, PartialEq)]
pub struct CamMaps {
    /// Rows of a map.
    pub height: usize,
    /// Columns of a map.
    pub width: usize,
    /// `(B, height, width)`, each image's largest value is 1; all 0 where nothing speaks for the class.
    pub values: Vec<f32>,
}

impl CamMaps {
    /// The map of each image.
    pub fn maps(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact((self.height * self.width).max(1))
    }
}

/// Grad-CAM (Selvaraju et al., arXiv:1610.02391): where the output of `layer` speaks for the class of each image.
///
/// - `images`: `(B, H, W, C)`, as the network takes them.
/// - `classes`: one for each image.
/// - `layer`: full name of a layer whose output is `(B, h, w, C)`, such as `layer4`.
///
/// The gradients of the parameters are zero afterwards.
///
/// # Errors
///
/// [`Error::NoSuchLayer`] if no such layer has such an output, [`Error::Outputs`] if a class is none of the network's,
/// or if the network fails.
pub fn grad_cam(network: &mut Network, images: &Tensor, classes: &[usize], layer: &str) -> Result<CamMaps> {
    let mut trace = Trace::of([layer]);
    let pass = Pass::eval(network.pool()).saving().traced(&mut trace);
    let logits = network.forward_pass(images, pass)?;
    let (n, n_classes) = logits.dims2()?;
    if let Some(&class) = classes.iter().find(|&&class| class >= n_classes) {
        return Err(Error::Outputs { found: n_classes, n_classes: class + 1 });
    }
    let mut one_hot = vec![0f32; n * n_classes];
    classes.iter().enumerate().take(n).for_each(|(i, &class)| one_hot[i * n_classes + class] = 1.0);
    let d_logits = Tensor::from_vec(one_hot, (n, n_classes), &Device::Cpu)?;
    network.backward_pass(&d_logits.into(), Pass::eval(network.pool()).traced(&mut trace))?;
    network.parameters().zero_grads()?;
    let missing = || Error::NoSuchLayer { name: layer.to_owned() };
    let (activation, gradient) =
        (trace.activations.get(layer).ok_or_else(missing)?, trace.gradients.get(layer).ok_or_else(missing)?);
    let [_, height, width, channels] = activation.dims() else { return Err(missing()) };
    let (height, width, channels) = (*height, *width, *channels);
    let (activation, gradient) =
        (activation.flatten_all()?.to_vec1::<f32>()?, gradient.flatten_all()?.to_vec1::<f32>()?);
    let size = height * width * channels;
    let of = |(a, g): (&[f32], &[f32])| cam(a, g, channels);
    let values = activation.chunks_exact(size).zip(gradient.chunks_exact(size)).flat_map(of).collect();
    Ok(CamMaps { height, width, values })
}

/// The map of one image: activations weighted by the mean gradient of their channel, without what speaks against.
fn cam(activation: &[f32], gradient: &[f32], channels: usize) -> Vec<f32> {
    let mut weights = vec![0f32; channels];
    for pixel in gradient.chunks_exact(channels) {
        weights.iter_mut().zip(pixel).for_each(|(weight, g)| *weight += g);
    }
    let speaks = |pixel: &[f32]| pixel.iter().zip(&weights).map(|(a, w)| a * w).sum::<f32>().max(0.0);
    let map: Vec<f32> = activation.chunks_exact(channels).map(speaks).collect();
    let largest = map.iter().copied().fold(0.0, f32::max);
    if largest > 0.0 { map.iter().map(|value| value / largest).collect() } else { map }
}

/// The mean over the places of the output of `layer` for each image: `(B, C)`, row by row, and C.
///
/// # Errors
///
/// As [`grad_cam`].
pub fn features(network: &mut Network, images: &Tensor, layer: &str) -> Result<(Vec<f32>, usize)> {
    let mut trace = Trace::of([layer]);
    let pass = Pass::eval(network.pool()).traced(&mut trace);
    network.forward_pass(images, pass)?;
    let output = trace.activations.get(layer).filter(|output| output.rank() == 4);
    let output = output.ok_or_else(|| Error::NoSuchLayer { name: layer.to_owned() })?;
    let channels = output.dim(3)?;
    Ok((output.mean((1, 2))?.flatten_all()?.to_vec1()?, channels))
}

/// Logits of `images` in evaluation mode, row by row.
///
/// # Errors
///
/// If the network fails.
pub fn logits(network: &mut Network, images: &Tensor) -> Result<Vec<f32>> {
    Ok(network.forward(images, Mode::Eval)?.flatten_all()?.to_vec1()?)
}

/// Points in a plane, and how much of the whole they show.
#[derive(Clone, Debug, PartialEq)]
pub struct Plane {
    /// A point for each row.
    pub points: Vec<[f64; 2]>,
    /// Shares of the variance along the two axes.
    pub explained: [f64; 2],
}

/// Rounds of the power iteration: more than enough where the first axes stand out, and a picture needs no more.
const ROUNDS: usize = 60;

/// The two directions of the largest variance of `rows (N, width)` (principal components), and the rows along them.
///
/// The sign of an axis is that of its largest entry: positive. No rows, or rows without any variance, lie in the origin.
#[must_use]
pub fn principal_plane(rows: &[f32], width: usize) -> Plane {
    let width = width.max(1);
    let n = rows.len() / width;
    let mut centred: Vec<f64> = rows.iter().map(|&x| f64::from(x)).collect();
    for column in 0..width {
        let mean = (0..n).map(|row| centred[row * width + column]).sum::<f64>() / n.max(1) as f64;
        (0..n).for_each(|row| centred[row * width + column] -= mean);
    }
    let total: f64 = centred.iter().map(|x| x * x).sum();
    let (mut points, mut explained) = (vec![[0.0; 2]; n], [0.0; 2]);
    for axis in 0..2 {
        let Some(direction) = direction(&centred, width) else { break };
        for (row, point) in centred.chunks_exact_mut(width).zip(&mut points) {
            point[axis] = dot(row, &direction);
            row.iter_mut().zip(&direction).for_each(|(x, d)| *x -= point[axis] * d);
        }
        explained[axis] = points.iter().map(|point| point[axis] * point[axis]).sum::<f64>() / total;
    }
    Plane { points, explained }
}

/// The unit vector along which the rows vary most, `None` if they do not.
fn direction(rows: &[f64], width: usize) -> Option<Vec<f64>> {
    let longest = rows.chunks_exact(width).max_by(|a, b| dot(a, a).total_cmp(&dot(b, b)))?;
    let mut v = unit(longest.to_vec())?;
    for _ in 0..ROUNDS {
        let mut next = vec![0.0; width];
        for row in rows.chunks_exact(width) {
            let along = dot(row, &v);
            next.iter_mut().zip(row).for_each(|(sum, x)| *sum += along * x);
        }
        v = unit(next)?;
    }
    let largest = v.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs()))?;
    Some(if largest < 0.0 { v.iter().map(|x| -x).collect() } else { v })
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn unit(v: Vec<f64>) -> Option<Vec<f64>> {
    let length = dot(&v, &v).sqrt();
    (length > 1e-12).then(|| v.iter().map(|x| x / length).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SIDE, batches, dataset, network};

    #[test]
    fn the_plane_of_points_in_a_plane_is_theirs() {
        // Two axes of variance 9 : 1 in five dimensions.
        let axes = [[0.6f32, 0.8, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0]];
        let places = [[3.0f32, 1.0], [3.0, -1.0], [-3.0, 1.0], [-3.0, -1.0]];
        let rows: Vec<f32> = places
            .iter()
            .flat_map(|place| (0..5).map(|i| 7.0 + place[0] * axes[0][i] + place[1] * axes[1][i]))
            .collect();
        let plane = principal_plane(&rows, 5);
        for (point, place) in plane.points.iter().zip(places) {
            assert!((point[0] - f64::from(place[0])).abs() < 1e-5 && (point[1] - f64::from(place[1])).abs() < 1e-5);
        }
        assert!((plane.explained[0] - 0.9).abs() < 1e-6 && (plane.explained[1] - 0.1).abs() < 1e-6);
        assert_eq!(principal_plane(&[1.0, 1.0, 1.0, 1.0], 2).points, [[0.0; 2]; 2]);
        assert_eq!(principal_plane(&[], 2).points.len(), 0);
    }

    /// The map by hand: what a logit loses to first order as a channel fades.
    #[test]
    fn grad_cam_is_the_weighted_sum_of_the_activations() {
        let mut network = network().expect("a network");
        let images =
            batches(8, 1).expect("batches").eval(&[50, 51]).expect("a stream").next().expect("one").expect("made");
        let found = grad_cam(&mut network, &images.images, &[0, 2], "conv").expect("maps");
        assert_eq!(found.maps().len(), 2);
        assert_eq!(found.values.len(), 2 * found.height * found.width);
        assert!(found.height <= SIDE && found.maps().all(|map| map.iter().all(|v| (0.0..=1.0).contains(v))));
        assert!(found.maps().any(|map| map.contains(&1.0)));
        let other = grad_cam(&mut network, &images.images, &[1, 1], "conv").expect("maps");
        assert_ne!(found, other, "another class looks elsewhere");
        let missing = grad_cam(&mut network, &images.images, &[0, 0], "no-such-layer");
        assert!(matches!(missing, Err(Error::NoSuchLayer { .. })));
        let class = dataset().vocabulary().len();
        assert!(matches!(grad_cam(&mut network, &images.images, &[class, 0], "conv"), Err(Error::Outputs { .. })));
        let (rows, width) = features(&mut network, &images.images, "conv").expect("features");
        assert_eq!(rows.len(), 2 * width);
    }

    #[test]
    fn a_map_keeps_what_speaks_for_the_class_alone() {
        // Two places, two channels: the first channel speaks for the class, the second against it.
        let (activation, gradient) = ([4.0, 1.0, 1.0, 5.0], [1.0, -1.0, 1.0, -1.0]);
        assert_eq!(cam(&activation, &gradient, 2), [1.0, 0.0]);
        assert_eq!(cam(&activation, &[0.0; 4], 2), [0.0, 0.0]);
    }
}
