//! Residual networks (He et al., arXiv:1512.03385), with torchvision's names.

use crate::arch::Block;
use crate::init::Init;
use crate::{Head, ResNetConfig, Result, group_of};
use candle_core::Tensor;
use cn_ops::{
    ConcatPool, Dropout, MaxPool2d, MaxPool2dConfig, MeanPool, Network, Recomputed, Relu, Residual, Sequential,
};

/// The network; with a `mix`, its stem also takes the planes that the channels are sums of.
pub(crate) fn build(config: &ResNetConfig, init: &Init<'_>, mix: Option<&Tensor>) -> Result<Network> {
    let (block, [d1, d2, d3, d4]) = (config.arch.block(), config.arch.depths());
    // Shapes for images of 128x128 and basic blocks; bottlenecks have four times the channels behind each stage.
    let stem = Sequential::new() // (B, 128, 128, in_channels)
        .push("conv1", init.stem("conv1", [config.in_channels, 64], mix)?) // (B, 64, 64, 64)
        .push("bn1", init.norm(64)?.relu())
        .push("maxpool", MaxPool2d::new(STEM_POOL)); // (B, 32, 32, 64)
    let net = Sequential::new()
        .push("", Recomputed::new(stem))
        .push("layer1", stage(init, block, "layer1", Stage { inputs: 64, width: 64, depth: d1, stride: 1 })?) // (B, 32, 32, 64)
        .push("layer2", stage(init, block, "layer2", Stage::after(block, 64, d2))?) // (B, 16, 16, 128)
        .push("layer3", stage(init, block, "layer3", Stage::after(block, 128, d3))?) // (B, 8, 8, 256)
        .push("layer4", stage(init, block, "layer4", Stage::after(block, 256, d4))?); // (B, 4, 4, 512)
    Ok(Network::new(head(net, init, config)?, group_of)?) // (B, n_classes)
}

const STEM_POOL: MaxPool2dConfig = MaxPool2dConfig { kernel: [3, 3], stride: [2, 2], padding: [1, 1] };

/// Blocks of one width.
struct Stage {
    inputs: usize,
    width: usize,
    depth: usize,
    stride: usize,
}

impl Stage {
    /// A stage that halves the image and doubles the `width` of the one before.
    fn after(block: Block, width: usize, depth: usize) -> Self {
        Self { inputs: width * block.expansion(), width: 2 * width, depth, stride: 2 }
    }
}

/// The first block changes the size, the others keep it.
fn stage(init: &Init<'_>, block: Block, name: &str, stage: Stage) -> Result<Sequential> {
    let outputs = stage.width * block.expansion();
    (0..stage.depth).try_fold(Sequential::new(), |blocks, i| {
        let (inputs, stride) = if i == 0 { (stage.inputs, stage.stride) } else { (outputs, 1) };
        let size = Size { inputs, width: stage.width, outputs, stride };
        let name = format!("{name}.{i}");
        let residual = match block {
            Block::Basic => basic_block(init, &name, size),
            Block::Bottleneck => bottleneck(init, &name, size),
        };
        Ok(blocks.push(i.to_string(), Recomputed::new(residual?)))
    })
}

struct Size {
    inputs: usize,
    width: usize,
    outputs: usize,
    stride: usize,
}

fn basic_block(init: &Init<'_>, name: &str, size: Size) -> Result<Residual> {
    let branch = Sequential::new() // (B, H, W, inputs)
        .push("conv1", init.conv(&format!("{name}.conv1"), [size.inputs, size.width], 3, size.stride)?) // (B, H/s, W/s, width)
        .push("bn1", init.norm(size.width)?.relu())
        .push("conv2", init.conv(&format!("{name}.conv2"), [size.width, size.outputs], 3, 1)?); // (B, H/s, W/s, outputs)
    with_shortcut(init, name, Residual::new(branch, "bn2", init.norm(size.outputs)?.relu()), &size)
}

fn bottleneck(init: &Init<'_>, name: &str, size: Size) -> Result<Residual> {
    let branch = Sequential::new() // (B, H, W, inputs)
        .push("conv1", init.conv(&format!("{name}.conv1"), [size.inputs, size.width], 1, 1)?) // (B, H, W, width)
        .push("bn1", init.norm(size.width)?.relu())
        .push("conv2", init.conv(&format!("{name}.conv2"), [size.width, size.width], 3, size.stride)?) // (B, H/s, W/s, width)
        .push("bn2", init.norm(size.width)?.relu())
        .push("conv3", init.conv(&format!("{name}.conv3"), [size.width, size.outputs], 1, 1)?); // (B, H/s, W/s, outputs)
    with_shortcut(init, name, Residual::new(branch, "bn3", init.norm(size.outputs)?.relu()), &size)
}

/// The identity where the shape stays, a 1x1 convolution with a norm where it changes (the paper's option B).
fn with_shortcut(init: &Init<'_>, name: &str, block: Residual, size: &Size) -> Result<Residual> {
    if size.stride == 1 && size.inputs == size.outputs {
        return Ok(block);
    }
    let projection = Sequential::new()
        .push("0", init.conv(&format!("{name}.downsample.0"), [size.inputs, size.outputs], 1, size.stride)?)
        .push("1", init.norm(size.outputs)?);
    Ok(block.with_shortcut("downsample", projection))
}

/// The children of fastai's head stand at fastai's places, so that `head.N` here is `1.N` there.
fn head(body: Sequential, init: &Init<'_>, config: &ResNetConfig) -> Result<Sequential> {
    let (features, classes) = (config.arch.features(), config.n_classes); // (B, 4, 4, features)
    Ok(match config.head {
        Head::Linear => body
            .push("avgpool", MeanPool::new()) // (B, features)
            .push("fc", init.linear_with_bias("fc", [features, classes])?), // (B, classes)
        Head::FastAi { hidden, dropout } => {
            let head = Sequential::new()
                .push("0", ConcatPool::new()) // (B, 2 features): maxima, then means
                .push("2", init.head_norm(2 * features)?)
                .push("3", Dropout::new(dropout / 2.0, "head.3")?)
                .push("4", init.linear("head.4", [2 * features, hidden])?) // (B, hidden)
                .push("5", Relu::new())
                .push("6", init.head_norm(hidden)?)
                .push("7", Dropout::new(dropout, "head.7")?)
                .push("8", init.linear("head.8", [hidden, classes])?); // (B, classes)
            body.push("head", head)
        }
    })
}
