//! Convolutions and the fully connected layer.

use super::{Lab, name_of};
use crate::gpu::layout;
use cn_cuda::{Convolution, Element, LinearShape, Products, Result, Write, conv};
use cn_kernels::conv::{self as cpu, ConvShape};
use cn_kernels::{Precision, linear};

/// Kernel, stride and padding: those of ResNets, and a lopsided one.
const WINDOWS: [([usize; 2], [usize; 2], [usize; 2]); 6] = [
    ([3, 3], [1, 1], [1, 1]),
    ([3, 3], [2, 2], [1, 1]),
    ([1, 1], [1, 1], [0, 0]),
    ([1, 1], [2, 2], [0, 0]),
    ([7, 7], [2, 2], [3, 3]),
    ([2, 3], [1, 2], [1, 0]),
];

pub(super) fn check(lab: &mut Lab<'_>, element: Element) -> Result<()> {
    for (kernel, stride, padding) in WINDOWS {
        // Channels that are and are not multiples of what vectors and tiles hold.
        let wide = lab.size(0, 1) * 64;
        let shape = ConvShape {
            batch: lab.size(1, 3),
            height: lab.size(7, 14),
            width: lab.size(7, 14),
            in_channels: lab.size(1, 12) + wide,
            out_channels: lab.size(1, 12) + wide,
            kernel,
            stride,
            padding,
        };
        convolution(lab, element, &shape)?;
    }
    // First layers of networks, grey, with two planes and in colour.
    for (in_channels, out_channels, kernel, stride) in
        [(3, 64, 7, 2), (1, 64, 7, 2), (2, 64, 7, 2), (3, 128, 3, 2), (2, 64, 3, 1)]
    {
        let shape = ConvShape {
            batch: lab.size(1, 2),
            height: lab.size(9, 20),
            width: lab.size(9, 36),
            in_channels,
            out_channels,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [kernel / 2; 2],
        };
        convolution(lab, element, &shape)?;
    }
    if element == Element::F32 {
        for _ in 0..3 {
            let shape = linear::LinearShape {
                batch: lab.size(1, 70),
                in_features: lab.size(1, 130),
                out_features: lab.size(1, 80),
            };
            fully_connected(lab, &shape)?;
        }
    }
    Ok(())
}

/// First layers with more tiles than blocks, too much work for the emulation.
pub(super) fn check_large(lab: &mut Lab<'_>) -> Result<()> {
    for (batch, in_channels) in [(40, 3), (70, 1)] {
        let (kernel, stride, padding) = ([7; 2], [2; 2], [3; 2]);
        let shape =
            ConvShape { batch, height: 125, width: 130, in_channels, out_channels: 64, kernel, stride, padding };
        convolution(lab, Element::Bf16, &shape)?;
    }
    Ok(())
}

/// The shape, as cn-cuda calls it.
fn convolution(lab: &mut Lab<'_>, element: Element, s: &ConvShape) -> Result<()> {
    let (x, x_host) = lab.random(element, s.input_len())?;
    let (w, w_host) = lab.random(element, s.weight_len())?;
    let (dy, dy_host) = lab.random(element, s.output_len())?;
    // The device's order is (O, Kh, Kw, I).
    let sizes = [s.out_channels, s.in_channels, s.kernel[0], s.kernel[1]];
    let w_host = in_host_order(sizes, &w_host);
    let name = |what: &str| format!("{what} {} {s:?}", name_of(element));
    let mut convolution = Convolution::new(lab.device, *s, element, Products::Exact)?;

    let (y, mut expected) = (lab.room(element, s.output_len())?, vec![0.0; s.output_len()]);
    convolution.forward(&x, &w, &y)?;
    cpu::forward(s, Precision::F32, [&x_host, &w_host], &mut expected);
    lab.judge(name("convolution"), element, &y, &expected)?;

    let (dx, mut expected) = (lab.room(element, s.input_len())?, vec![0.0; s.input_len()]);
    convolution.data_grad(&dy, &w, &dx, Write::Set)?;
    cpu::backward_input(s, Precision::F32, [&dy_host, &w_host], &mut expected, cpu::Write::Set);
    lab.judge(name("gradient of the input"), element, &dx, &expected)?;
    let (dx, mut expected) = lab.random(element, s.input_len())?;
    convolution.data_grad(&dy, &w, &dx, Write::Add)?;
    cpu::backward_input(s, Precision::F32, [&dy_host, &w_host], &mut expected, cpu::Write::Add);
    lab.judge(name("gradient of the input, added"), element, &dx, &expected)?;

    let (dw, mut expected) = (lab.room(Element::F32, s.weight_len())?, vec![0.0; s.weight_len()]);
    convolution.weight_grad(&x, &dy, &dw)?;
    cpu::backward_weight(s, Precision::F32, [&x_host, &dy_host], &mut expected);
    let found = in_host_order(sizes, &dw.read_floats()?);
    // cuDNN rounds this gradient to the type of the images.
    let tolerance = if element == Element::F32 { super::F32 } else { super::BF16 };
    lab.compare(name("gradient of the weight"), tolerance, &found, &expected);
    Ok(())
}

fn in_host_order(sizes: [usize; 4], weight: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; weight.len()];
    layout::to_host(sizes, weight, &mut out);
    out
}

fn fully_connected(lab: &mut Lab<'_>, s: &linear::LinearShape) -> Result<()> {
    let e = Element::F32;
    let linear::LinearShape { batch, in_features, out_features } = *s;
    let shape = LinearShape { batch, in_features, out_features };
    let (x, x_host) = lab.random(e, batch * in_features)?;
    let (w, w_host) = lab.random(e, out_features * in_features)?;
    let (bias, bias_host) = lab.random(e, out_features)?;
    let (dy, dy_host) = lab.random(e, batch * out_features)?;
    let name = |what: &str| format!("{what} {s:?}");

    let (y, mut expected) = (lab.room(e, batch * out_features)?, vec![0.0; batch * out_features]);
    conv::linear(lab.device, &shape, [&x, &w], Some(&bias), &y)?;
    linear::forward(s, &x_host, &w_host, &mut expected);
    linear::add_bias(&bias_host, &mut expected);
    lab.judge(name("linear"), e, &y, &expected)?;

    let (dx, mut expected) = (lab.room(e, batch * in_features)?, vec![0.0; batch * in_features]);
    conv::linear_data_grad(lab.device, &shape, [&dy, &w], &dx)?;
    linear::backward_input(s, &dy_host, &w_host, &mut expected);
    lab.judge(name("gradient of a linear layer's input"), e, &dx, &expected)?;

    let (dw, mut expected) = (lab.room(e, out_features * in_features)?, vec![0.0; out_features * in_features]);
    conv::linear_weight_grad(lab.device, &shape, [&x, &dy], &dw)?;
    linear::backward_weight(s, &x_host, &dy_host, &mut expected);
    lab.judge(name("gradient of a linear layer's weight"), e, &dw, &expected)?;

    let (sums, mut expected) = (lab.room(e, out_features)?, vec![0.0; out_features]);
    conv::column_sums(lab.device, e, &dy, &sums)?;
    linear::add_column_sums(&dy_host, &mut expected);
    lab.judge(name("gradient of a bias"), e, &sums, &expected)
}
