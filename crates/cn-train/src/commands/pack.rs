//! `pack`: a trained model as one small file, as it ships inside the program.

use super::Context;
use crate::args::PackArgs;
use crate::destination;
use crate::model::Trained;
use anyhow::Result;
use candle_core::{DType, Device};
use cn_ops::Model as _;
use cn_report::WeightsCard;
use cn_zoo::{Fit, ResNetConfig, WeightFile};

/// The packed weights, beside their model.json.
const WEIGHTS: &str = "weights.bin";
/// Share of a square that the ink of a drawing fills: about the middle of what pretraining draws.
const INK_FILL: f64 = 0.6;

pub(super) fn run(context: &Context<'_>, args: &PackArgs) -> Result<()> {
    destination::check_apart(&args.out)?;
    let mut trained = Trained::open(&args.run)?;
    destination::make(&args.out)?;
    let path = args.out.join(WEIGHTS);
    let resnet = ResNetConfig::of_file(&WeightFile::open(trained.weights(&args.run))?)?;
    cn_zoo::save_packed(&path, &trained.network.named_tensors()?, &resnet)?;
    let sha256 = hash(&resnet, &WeightFile::open(&path)?)?;
    let weights = WeightsCard { file: WEIGHTS.into(), sha256: sha256.clone() };
    let card = cn_report::ModelCard { weights, ink_fill: Some(INK_FILL), ..trained.card };
    card.write(args.out.join("model.json"))?;
    let bytes = std::fs::metadata(&path)?.len();
    context.ui.result(format_args!("{bytes} bytes are in `{}`, weights {sha256}\n", path.display()));
    context.ui.json(&serde_json::json!({ "file": path, "bytes": bytes, "weights_sha256": sha256 }));
    Ok(())
}

/// The hash that opening the packed weights will find: in a network of its own, since batch counters are not packed.
fn hash(resnet: &ResNetConfig, file: &WeightFile) -> Result<String> {
    let mut network = resnet.build(0, DType::F32, &Device::Cpu)?;
    cn_zoo::load(&mut network, file, Fit::Exact)?;
    Ok(cn_zoo::weights_sha256(&network.named_tensors()?)?)
}
