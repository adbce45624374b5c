//! `pack`: a trained model as one small file, as it ships inside the program.

use super::Context;
use crate::args::PackArgs;
use crate::destination;
use crate::model::{self, Trained};
use anyhow::Result;
use cn_ops::Model as _;
use cn_report::WeightsCard;
use cn_zoo::{ResNetConfig, WeightFile};

/// The packed weights, beside their model.json.
const WEIGHTS: &str = "weights.bin";

pub(super) fn run(context: &Context<'_>, args: &PackArgs) -> Result<()> {
    destination::check_apart(&args.out)?;
    let mut trained = Trained::open(&args.run)?;
    destination::make(&args.out)?;
    let path = args.out.join(WEIGHTS);
    let resnet = ResNetConfig::of_file(&WeightFile::open(trained.weights(&args.run))?)?;
    cn_zoo::save_packed(&path, &trained.network.named_tensors()?, &resnet)?;
    let sha256 = model::weights_sha256(&WeightFile::open(&path)?)?;
    let weights = WeightsCard { file: WEIGHTS.into(), sha256: sha256.clone() };
    let card = cn_report::ModelCard { weights, ..trained.card };
    card.write(args.out.join("model.json"))?;
    let bytes = std::fs::metadata(&path)?.len();
    context.ui.result(format_args!("{bytes} bytes are in `{}`, weights {sha256}\n", path.display()));
    context.ui.json(&serde_json::json!({ "file": path, "bytes": bytes, "weights_sha256": sha256 }));
    Ok(())
}
