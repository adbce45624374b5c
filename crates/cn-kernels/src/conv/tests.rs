use super::*;
use crate::norm::Activation;
use crate::tests::fill;

fn naive(s: &ConvShape, mut visit: impl FnMut(usize, usize, usize)) {
    let (ho, wo) = (s.out_height(), s.out_width());
    for b in 0..s.batch {
        for (oy, ox) in (0..ho).flat_map(|oy| (0..wo).map(move |ox| (oy, ox))) {
            for (ky, kx) in (0..s.kernel[0]).flat_map(|ky| (0..s.kernel[1]).map(move |kx| (ky, kx))) {
                let (iy, ix) = (oy * s.stride[0] + ky, ox * s.stride[1] + kx);
                if iy < s.padding[0] || ix < s.padding[1] {
                    continue;
                }
                let (iy, ix) = (iy - s.padding[0], ix - s.padding[1]);
                if iy >= s.height || ix >= s.width {
                    continue;
                }
                for o in 0..s.out_channels {
                    for i in 0..s.in_channels {
                        visit(
                            ((b * s.height + iy) * s.width + ix) * s.in_channels + i,
                            ((o * s.in_channels + i) * s.kernel[0] + ky) * s.kernel[1] + kx,
                            ((b * ho + oy) * wo + ox) * s.out_channels + o,
                        );
                    }
                }
            }
        }
    }
}

fn close(a: &[f64], b: &[f64], tolerance: f64) {
    let norm = b.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-30);
    let error = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
    assert!(error / norm < tolerance, "relative error {}", error / norm);
}

fn check(s: ConvShape) {
    let (x, w, dy) = (fill(s.input_len(), 1), fill(s.weight_len(), 2), fill(s.output_len(), 3));
    let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
    naive(&s, |i, j, k| {
        y[k] += x[i] * w[j];
        dx[i] += dy[k] * w[j];
        dw[j] += dy[k] * x[i];
    });
    let f32s = |v: &[f64]| v.iter().map(|&x| x as f32).collect::<Vec<f32>>();
    let f64s = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    let (mut y64, mut dx64, mut dw64) = (vec![9.0; y.len()], vec![9.0; x.len()], vec![0.0; w.len()]);
    forward(&s, Precision::F32, [&x, &w], &mut y64);
    backward_input(&s, Precision::F32, [&dy, &w], &mut dx64, Write::Set);
    backward_weight(&s, Precision::F32, [&x, &dy], &mut dw64);
    [(&y64, &y), (&dx64, &dx), (&dw64, &dw)].iter().for_each(|(a, b)| close(a, b, 1e-12));
    let (x, w, dy) = (f32s(&x), f32s(&w), f32s(&dy));
    // Without such products on this processor, those of bfloat16 are as exact as the others.
    for (precision, tolerance) in [(Precision::F32, 2e-5), (Precision::Bf16, BF16_TOLERANCE)] {
        let (mut y32, mut dx32, mut dw32) = (vec![9.0; y.len()], vec![9.0; x.len()], vec![0.0; w.len()]);
        forward(&s, precision, [&x, &w], &mut y32);
        backward_input(&s, precision, [&dy, &w], &mut dx32, Write::Set);
        backward_weight(&s, precision, [&x, &dy], &mut dw32);
        let pairs = [(&y32, &y), (&dx32, &dx), (&dw32, &dw)];
        pairs.iter().for_each(|(a, b)| close(&f64s(a), b, tolerance));
        backward_input(&s, precision, [&dy, &w], &mut dx32, Write::Add);
        backward_weight(&s, precision, [&x, &dy], &mut dw32);
        let twice = |v: &[f64]| v.iter().map(|x| 2.0 * x).collect::<Vec<_>>();
        close(&f64s(&dx32), &twice(&dx), tolerance);
        close(&f64s(&dw32), &twice(&dw), tolerance);
    }
}

/// Relative error that a layer may have by products of bfloat16, whose operands have 8 bits.
const BF16_TOLERANCE: f64 = 2e-2;

fn shape(
    batch: usize,
    [height, width]: [usize; 2],
    [in_channels, out_channels]: [usize; 2],
    k: usize,
    s: usize,
    p: usize,
) -> ConvShape {
    ConvShape { batch, height, width, in_channels, out_channels, kernel: [k, k], stride: [s, s], padding: [p, p] }
}

#[test]
fn three_by_three_matches_naive() {
    check(shape(2, [8, 8], [16, 32], 3, 1, 1));
    check(shape(3, [7, 5], [5, 7], 3, 1, 1));
    check(shape(1, [1, 1], [3, 2], 3, 1, 1));
    check(shape(2, [9, 6], [17, 33], 3, 1, 0));
    check(shape(2, [13, 10], [64, 80], 3, 1, 1));
}

#[test]
fn windows_beyond_small_maps_match_naive() {
    check(shape(5, [1, 1], [64, 80], 3, 1, 1));
    check(shape(5, [1, 1], [33, 16], 3, 2, 1));
    check(shape(3, [2, 2], [48, 80], 3, 2, 1));
    check(shape(3, [1, 6], [16, 17], 3, 1, 1));
    check(shape(2, [2, 3], [3, 16], 7, 2, 3));
    check(shape(70, [1, 1], [256, 288], 3, 1, 1));
}

#[test]
fn minimal_filtering_matches_naive_in_every_order() {
    // By block of tiles: whole images, parts of images, several images a block.
    check(shape(1, [30, 22], [16, 16], 3, 1, 1));
    check(shape(48, [7, 7], [32, 48], 3, 1, 1));
    // By panel of channels, with more than one panel and more than one depth.
    check(shape(2, [4, 4], [80, 144], 3, 1, 1));
    check(shape(3, [2, 2], [144, 80], 3, 1, 1));
    // Maps that are one tile: by panel and by block of images, sums by panel and by group.
    check(shape(170, [2, 2], [48, 80], 3, 1, 1));
    check(shape(2, [2, 2], [208, 144], 3, 1, 1));
    check(shape(3, [2, 1], [16, 32], 3, 1, 1));
    // Sums by group of tiles, and by panel of a weight too large for that.
    check(shape(2, [9, 5], [176, 112], 3, 1, 1));
}

#[test]
fn minimal_filtering_of_strided_windows_matches_naive_in_every_order() {
    // Even and odd maps, tiles that reach over the edge, one pixel.
    check(shape(2, [16, 16], [16, 32], 3, 2, 1));
    check(shape(2, [15, 18], [17, 35], 3, 2, 1));
    check(shape(3, [5, 3], [16, 16], 3, 2, 1));
    check(shape(1, [23, 30], [24, 70], 3, 2, 1));
    // By block: whole images, parts of images, several images a block.
    check(shape(1, [62, 46], [16, 32], 3, 2, 1));
    check(shape(48, [14, 14], [32, 48], 3, 2, 1));
    check(shape(170, [4, 4], [48, 80], 3, 2, 1));
    // By panel of channels, with more than one panel and more than one depth.
    check(shape(2, [8, 8], [80, 144], 3, 2, 1));
    check(shape(3, [4, 4], [144, 208], 3, 2, 1));
    // Sums by group of tiles, and by panel of a weight too large for that.
    check(shape(2, [17, 9], [176, 112], 3, 2, 1));
}

#[test]
fn weights_larger_than_the_images_match_naive() {
    check(shape(2, [4, 4], [144, 200], 3, 2, 1));
    check(shape(2, [4, 4], [144, 200], 1, 2, 0));
}

/// Relative error in the Euclidean norm that the layers of a ResNet-18 may have, against `f64`.
const TOLERANCE: f64 = 2e-5;

/// Every convolution of a ResNet-18 for images of 64 pixels, and those whose maps are larger for images of 128.
fn resnet_shapes(batch: usize) -> Vec<ConvShape> {
    let mut all = vec![shape(batch, [64, 64], [3, 64], 7, 2, 3)];
    for map in [16, 32] {
        all.push(shape(batch, [map, map], [64, 64], 3, 1, 1));
        for (div, i) in [(1, 64), (2, 128), (4, 256)] {
            let map = map / div;
            all.push(shape(batch, [map, map], [i, 2 * i], 3, 2, 1));
            all.push(shape(batch, [map, map], [i, 2 * i], 1, 2, 0));
            all.push(shape(batch, [map / 2, map / 2], [2 * i, 2 * i], 3, 1, 1));
        }
    }
    all
}

#[test]
fn every_instruction_set_is_accurate_at_resnet_shapes() {
    for s in resnet_shapes(2) {
        // What ReLU leaves: a mean far from zero is the harder input.
        let x: Vec<f64> = fill(s.input_len(), 1).iter().map(|x| x.max(0.0)).collect();
        let (w, dy) = (fill(s.weight_len(), 2), fill(s.output_len(), 3));
        let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
        reference::forward(&s, &x, &w, &mut y);
        reference::backward_input(&s, &dy, &w, &mut dx, Write::Set);
        reference::backward_weight(&s, &x, &dy, &mut dw);
        let narrow = |v: &[f64]| v.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let wide = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let (x, w, dy) = (narrow(&x), narrow(&w), narrow(&dy));
        for isa in Isa::available() {
            let (mut y32, mut dx32, mut dw32) = (vec![9.0; y.len()], vec![9.0; x.len()], vec![0.0; w.len()]);
            forward_f32(isa, &s, &x, &w, &mut y32);
            backward_input_f32(isa, &s, &dy, &w, &mut dx32, Write::Set);
            backward_weight_f32(isa, &s, &x, &dy, &mut dw32);
            [(&y32, &y), (&dx32, &dx), (&dw32, &dw)].iter().for_each(|(a, b)| close(&wide(a), b, TOLERANCE));
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let shapes = [
        shape(16, [16, 16], [64, 64], 3, 1, 1),
        shape(16, [4, 4], [256, 256], 3, 1, 1),
        shape(16, [2, 2], [256, 256], 3, 1, 1),
        shape(16, [16, 16], [64, 128], 3, 2, 1),
        shape(8, [32, 32], [3, 64], 7, 2, 3),
        shape(4, [4, 4], [256, 512], 1, 2, 0),
    ];
    for s in shapes {
        let narrow = |n, salt| fill(n, salt).iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let (x, w, dy) = (narrow(s.input_len(), 1), narrow(s.weight_len(), 2), narrow(s.output_len(), 3));
        let run = |precision, threads| {
            let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
            let work = || {
                forward(&s, precision, [&x, &w], &mut y);
                backward_input(&s, precision, [&dy, &w], &mut dx, Write::Set);
                backward_weight(&s, precision, [&x, &dy], &mut dw);
            };
            crate::with_threads(threads, work).unwrap();
            (y, dx, dw)
        };
        for precision in [Precision::F32, Precision::Bf16] {
            let one = run(precision, 1);
            assert!(run(precision, 2) == one && run(precision, 4) == one, "{s:?} {precision}");
        }
    }
}

#[test]
fn sizes_whose_products_wrap_are_refused() {
    let small = shape(2, [8, 8], [16, 16], 3, 1, 1);
    assert_eq!(small.validate(), Ok(()));
    let large = [
        ConvShape { batch: 1 << 62, ..small },
        ConvShape { height: usize::MAX, ..small },
        ConvShape { in_channels: 1 << 40, out_channels: 1 << 40, ..small },
        ConvShape { kernel: [1 << 40, 1 << 40], ..small },
        ConvShape { padding: [usize::MAX / 2 + 1, 1], ..small },
    ];
    for shape in large {
        assert_eq!(shape.validate(), Err(ShapeError::TooLarge(shape)));
    }
}

#[test]
fn strided_windows_match_naive() {
    check(shape(2, [16, 14], [3, 16], 7, 2, 3));
    check(shape(2, [16, 16], [1, 64], 7, 2, 3));
    check(shape(2, [8, 9], [16, 24], 3, 2, 1));
    check(shape(2, [8, 8], [16, 32], 1, 2, 0));
    check(shape(2, [6, 6], [8, 8], 1, 1, 0));
    check(shape(1, [5, 11], [2, 3], 2, 3, 1));
}

#[test]
fn uneven_windows_match_naive() {
    check(ConvShape {
        batch: 2,
        height: 7,
        width: 9,
        in_channels: 3,
        out_channels: 5,
        kernel: [1, 4],
        stride: [2, 1],
        padding: [0, 2],
    });
}

#[test]
fn prepared_weights_and_what_follows_match_naive() {
    let shapes = [
        shape(3, [16, 13], [16, 80], 3, 1, 1),
        shape(40, [4, 4], [32, 144], 3, 1, 1),
        shape(9, [2, 2], [32, 144], 3, 1, 1),
        shape(1, [4, 4], [32, 144], 3, 1, 1),
        shape(2, [17, 16], [3, 64], 7, 2, 3),
        shape(1, [8, 8], [16, 144], 1, 2, 0),
        shape(2, [30, 30], [16, 40], 3, 2, 1),
        shape(3, [16, 13], [16, 80], 3, 2, 1),
        shape(40, [4, 4], [32, 144], 3, 2, 1),
        shape(1, [8, 8], [32, 144], 3, 2, 1),
    ];
    for s in shapes {
        let (x, w, residual) = (fill(s.input_len(), 1), fill(s.weight_len(), 2), fill(s.output_len(), 3));
        let (scale, shift) = (fill(s.out_channels, 4), fill(s.out_channels, 5));
        let mut y = vec![0.0; s.output_len()];
        naive(&s, |i, j, k| y[k] += x[i] * w[j]);
        let narrow = |v: &[f64]| v.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let w = narrow(&w);
        let (x, scale32, shift32, residual32) = (narrow(&x), narrow(&scale), narrow(&shift), narrow(&residual));
        let cases = [
            (false, Activation::Identity, Precision::F32),
            (true, Activation::Relu, Precision::F32),
            (true, Activation::Relu, Precision::Bf16),
        ];
        for (with, activation, precision) in cases {
            let weights = Prepared::new(precision);
            let expected = y.iter().enumerate().map(|(at, y)| {
                let c = at % s.out_channels;
                let sum = scale[c] * y + shift[c] + if with { residual[at] } else { 0.0 };
                if activation == Activation::Relu { sum.max(0.0) } else { sum }
            });
            let residual = with.then_some(&residual32[..]);
            let epilogue = Epilogue { scale: &scale32, shift: &shift32, residual, activation };
            let mut found = vec![9f32; y.len()];
            weights.forward(&s, [&x, &w], &epilogue, &mut found);
            assert_eq!(weights.held(), Prepared::bytes(precision, &s, &[s.batch]));
            let found: Vec<f64> = found.iter().map(|&y| f64::from(y)).collect();
            close(
                &found,
                &expected.collect::<Vec<_>>(),
                if precision == Precision::F32 { 2e-5 } else { BF16_TOLERANCE },
            );
        }
    }
}

#[test]
fn orders_of_weights_are_counted_once() {
    let of = |batches: &[usize]| Prepared::bytes(Precision::F32, &shape(1, [4, 4], [64, 512], 3, 1, 1), batches);
    let (one, many) = (of(&[1]), of(&[64]));
    assert_ne!(one, many, "images alone have another order");
    assert_eq!((of(&[64, 64, 48]), of(&[64, 1, 32]), of(&[])), (many, many + one, 0));
}

#[test]
fn impossible_shapes_are_named() {
    let error = shape(1, [2, 2], [1, 1], 5, 1, 1).validate().unwrap_err();
    assert!(error.to_string().contains("does not fit"), "{error}");
    assert!(matches!(shape(0, [2, 2], [1, 1], 1, 1, 0).validate(), Err(ShapeError::Zero(_))));
}
