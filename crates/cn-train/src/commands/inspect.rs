//! `inspect`: what a weight file holds, and what is known about it.

use super::Context;
use crate::args::InspectArgs;
use crate::glyphs;
use crate::model;
use crate::problem::Problem;
use crate::start::{fetch_note, origin_of, other_file, recorded_sha256};
use anyhow::{Context as _, Result};
use candle_core::{DType, Device};
use cn_data::Digest;
use cn_report::{ModelCard, RunFolder, Summary, printable};
use cn_zoo::{Fit, Head, HubFile, ResNetConfig, WeightFile};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What the parameter groups are, as fastai divides a network.
const GROUPS: [&str; 3] = ["stem, layer1, layer2", "layer3, layer4", "head"];

/// The result, also as JSON.
#[derive(Debug, Serialize)]
struct Inspection {
    file: PathBuf,
    format: &'static str,
    bytes: u64,
    /// Of the file as it lies there.
    sha256: String,
    /// Of the tensors, as `summary.json` has it.
    weights_sha256: String,
    /// `null` for what is no network of this program.
    network: Option<NetworkPart>,
    /// Trained values: neither running statistics nor counters.
    parameters: usize,
    groups: Vec<Group>,
    tensors: Vec<TensorPart>,
    metadata: std::collections::BTreeMap<String, String>,
    licence: Option<String>,
    source: SourcePart,
    #[serde(skip)]
    unknown: Option<String>,
    /// Why a network that is known cannot be made of it.
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct NetworkPart {
    arch: String,
    in_channels: usize,
    n_classes: usize,
    head: &'static str,
}

#[derive(Debug, Serialize)]
struct Group {
    group: usize,
    name: &'static str,
    tensors: usize,
    parameters: usize,
    bytes: usize,
}

#[derive(Debug, Serialize)]
struct TensorPart {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    group: usize,
    /// Whether it is trained.
    parameter: bool,
    bytes: usize,
}

/// Where the weights come from, as far as what lies beside them says.
#[derive(Debug, Default, Serialize)]
struct SourcePart {
    /// Of the hub's cache.
    repo: Option<String>,
    revision: Option<String>,
    /// As `fetch-weights --from` noted it.
    from: Option<String>,
    /// Of a run: the data that they were trained on, and the weights that training started from.
    data: Option<String>,
    started_from: Option<String>,
}

pub(super) fn run(context: &Context<'_>, args: &InspectArgs) -> Result<()> {
    if args.path == Path::new(glyphs::NAME) && !args.path.exists() {
        let (inspection, sha256) = built_in()?;
        return tell(context, &inspection, &[Recorded::of_weights("card", sha256)]);
    }
    let path = weights_of(&args.path)?;
    tell(context, &inspect(&path)?, &recorded(&path)?)
}

/// Shows what was found; weights that cannot be used, or are not those of a `recorded` hash, are an error.
fn tell(context: &Context<'_>, inspection: &Inspection, recorded: &[Recorded]) -> Result<()> {
    context.ui.result(text(inspection));
    context.ui.json(inspection);
    let path = &inspection.file;
    if let Some(problem) = &inspection.problem {
        let problem = format!("`{}` cannot be used as weights: {problem}", path.display());
        return Err(Problem::failure(problem).hint("get the file again from where it came, or use another one").into());
    }
    for Recorded { by, file, weights } in recorded {
        if weights.as_ref().is_some_and(|sha256| *sha256 != inspection.weights_sha256) {
            let problem = format!("the weights of `{}` are not those that its {by} describes", path.display());
            return Err(Problem::failure(problem).hint("one of the two files was changed: restore it").into());
        }
        if file.as_ref().is_some_and(|sha256| *sha256 != inspection.sha256) {
            return Err(other_file(path, by).into());
        }
    }
    Ok(())
}

/// The file itself, or the final weights of a run.
fn weights_of(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let run = RunFolder::new(path);
    let weights = model::weights_in(path)?;
    if weights.is_file() {
        return Ok(weights);
    }
    if run.holds_run() {
        return Err(Problem::unfinished(path).into());
    }
    Err(Problem::failure(format!("there are no weights in the folder `{}`", path.display()))
        .hint("name a weight file, or the folder of a run that ended")
        .into())
}

/// A hash that lies beside weights.
struct Recorded {
    by: &'static str,
    /// Of the file.
    file: Option<String>,
    /// Of the tensors.
    weights: Option<String>,
}

impl Recorded {
    fn of_weights(by: &'static str, sha256: String) -> Self {
        Self { by, file: None, weights: Some(sha256) }
    }
}

/// Hashes of these weights that files beside them hold.
fn recorded(path: &Path) -> Result<Vec<Recorded>> {
    let Some(run) = run_of(path) else {
        let hashes = recorded_sha256(path).into_iter();
        return Ok(hashes.map(|(by, sha256)| Recorded { by, file: Some(sha256), weights: None }).collect());
    };
    let mut found = vec![Recorded::of_weights("model.json", ModelCard::read(run.model_card())?.weights.sha256)];
    if run.is_finished() {
        found.push(Recorded::of_weights("summary.json", Summary::read(run.summary())?.weights_sha256));
    }
    Ok(found)
}

/// The run whose final weights these are, or the folder whose card names them; another file there is none of it.
fn run_of(path: &Path) -> Option<RunFolder> {
    let run = RunFolder::new(path.parent()?);
    let is_named = || ModelCard::read(run.model_card()).is_ok_and(|card| path.ends_with(card.weights.file));
    ((run.weights() == path && run.holds_run() && run.model_card().is_file()) || is_named()).then_some(run)
}

fn inspect(path: &Path) -> Result<Inspection> {
    let file = WeightFile::open(path)?;
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let (licence, source) = known(path)?;
    let licence = licence.or_else(|| file.metadata().get("license").cloned());
    Ok(Inspection { licence, source, ..inspection(path, &file, &bytes)? })
}

/// The weights that the program carries, and the hash that their card has.
fn built_in() -> Result<(Inspection, String)> {
    let (file, card) = glyphs::open()?;
    let source = SourcePart { data: Some(card.data.name), ..SourcePart::default() };
    let inspection = inspection(Path::new(glyphs::NAME), &file, cn_zoo::glyphs::WEIGHTS)?;
    let licence = Some(env!("CARGO_PKG_LICENSE").into());
    Ok((Inspection { licence, source, ..inspection }, card.weights.sha256))
}

/// All that the bytes themselves say.
fn inspection(path: &Path, file: &WeightFile, bytes: &[u8]) -> Result<Inspection> {
    let named: Vec<_> = file.tensors().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
    let tensors: Vec<TensorPart> = named.iter().map(|(name, tensor)| tensor_part(name, tensor)).collect();
    let (network, unknown) = match ResNetConfig::of_file(file) {
        Ok(config) => (Some(config), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let problem = network.as_ref().and_then(|config| check_loads(file, config).err()).map(|error| error.to_string());
    let weights_sha256 = match (&network, &problem) {
        (Some(_), None) => model::weights_sha256(file)?,
        _ => cn_zoo::weights_sha256(&named)?,
    };
    Ok(Inspection {
        file: path.to_owned(),
        format: file.format().name(),
        bytes: bytes.len() as u64,
        sha256: Digest::of(bytes).to_string(),
        weights_sha256,
        network: network.as_ref().map(network_part),
        parameters: tensors.iter().filter(|t| t.parameter).map(TensorPart::elements).sum(),
        groups: groups(&tensors),
        tensors,
        metadata: file.metadata().clone(),
        licence: None,
        source: SourcePart::default(),
        unknown,
        problem,
    })
}

/// Loads the file as training would start from it.
fn check_loads(file: &WeightFile, config: &ResNetConfig) -> cn_zoo::Result<()> {
    let mut network = config.build(0, DType::F32, &Device::Cpu)?;
    cn_zoo::load(&mut network, file, Fit::Transfer).map(drop)
}

fn network_part(config: &ResNetConfig) -> NetworkPart {
    NetworkPart {
        arch: config.arch.to_string(),
        in_channels: config.in_channels,
        n_classes: config.n_classes,
        head: match config.head {
            Head::FastAi { .. } => "fastai",
            Head::Linear => "plain",
        },
    }
}

impl TensorPart {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

fn tensor_part(name: &str, tensor: &candle_core::Tensor) -> TensorPart {
    let untrained = [".running_mean", ".running_var", ".num_batches_tracked"];
    TensorPart {
        name: name.to_owned(),
        dtype: tensor.dtype().as_str().to_owned(),
        shape: tensor.dims().to_vec(),
        group: cn_zoo::group_of(name),
        parameter: !untrained.iter().any(|end| name.ends_with(end)),
        bytes: tensor.elem_count() * tensor.dtype().size_in_bytes(),
    }
}

fn groups(tensors: &[TensorPart]) -> Vec<Group> {
    let of = |group: usize| tensors.iter().filter(move |t| t.group == group);
    let sum = |group: usize, name: &'static str| Group {
        group,
        name,
        tensors: of(group).count(),
        parameters: of(group).filter(|t| t.parameter).map(TensorPart::elements).sum(),
        bytes: of(group).map(|t| t.bytes).sum(),
    };
    GROUPS.into_iter().enumerate().map(|(group, name)| sum(group, name)).filter(|group| group.tensors > 0).collect()
}

/// Licence and source, from what lies beside the file: the hub's page, the note of a fetch, the papers of a run.
fn known(path: &Path) -> Result<(Option<String>, SourcePart)> {
    let mut source = SourcePart::default();
    if let Some(run) = run_of(path) {
        let card = ModelCard::read(run.model_card())?;
        let licence = card.data.licence.map_or(String::new(), |licence| format!(", whose licence is {licence}"));
        source.data = Some(format!("{}{licence}", card.data.name));
        source.started_from = if run.is_finished() { Some(Summary::read(run.summary())?.weights) } else { None };
        return Ok((None, source));
    }
    let origin = origin_of(path);
    (source.repo, source.revision) = (origin.repo, origin.revision);
    source.from = fetch_note(path).and_then(|note| Some(note["source"].as_str()?.to_owned()));
    Ok((HubFile::of_path(path).and_then(|file| file.licence()), source))
}

fn text(inspection: &Inspection) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        writeln!(out, "{name:<10}{value}").expect("a string takes any text");
    };
    let Inspection { file, format, bytes, sha256, weights_sha256, .. } = inspection;
    line("file", &format_args!("`{}`, {format}, {} bytes", file.display(), grouped(*bytes as usize)));
    line("sha256", &format_args!("{sha256} of the file"));
    line("", &format_args!("{weights_sha256} of the weights, as `weights_sha256` in a summary"));
    match (&inspection.network, &inspection.unknown) {
        (Some(n), _) => {
            let NetworkPart { arch, in_channels, n_classes, head } = n;
            line("network", &format_args!("{arch}, {in_channels} channels in, {head} head, {n_classes} classes"));
        }
        (None, why) => line("network", &format_args!("unknown: {}", why.as_deref().unwrap_or("no reason"))),
    }
    source_lines(inspection).iter().for_each(|(name, value)| line(name, value));
    for (key, value) in &inspection.metadata {
        line("metadata", &format_args!("{key} = {value}"));
    }
    out.push('\n');
    out.push_str(&group_table(inspection));
    out.push('\n');
    out.push_str(&tensor_table(inspection));
    out
}

fn source_lines(inspection: &Inspection) -> Vec<(&'static str, String)> {
    let SourcePart { repo, revision, from, data, started_from } = &inspection.source;
    let mut lines = vec![("licence", inspection.licence.clone().unwrap_or_else(|| "not known here".into()))];
    if let (Some(repo), Some(revision)) = (repo, revision) {
        lines.push(("source", format!("{repo}, revision {revision}, in the hub's cache")));
    }
    if let Some(from) = from {
        lines.push(("source", format!("`{from}`, given to `fetch-weights --from`")));
    }
    if let Some(data) = data {
        let started = started_from.as_ref().map_or(String::new(), |from| format!(", starting from {from}"));
        lines.push(("source", format!("trained on {data}{started}")));
    }
    if lines.len() == 1 {
        lines.push(("source", "not known here".into()));
    }
    lines
}

fn group_table(inspection: &Inspection) -> String {
    let mut out = format!("{:<28}{:>8}{:>14}{:>14}\n", "group", "tensors", "parameters", "bytes");
    let mut row = |name: String, tensors: usize, parameters: usize, bytes: usize| {
        let (parameters, bytes) = (grouped(parameters), grouped(bytes));
        writeln!(out, "{name:<28}{tensors:>8}{parameters:>14}{bytes:>14}").expect("a string takes any text");
    };
    for Group { group, name, tensors, parameters, bytes } in &inspection.groups {
        row(format!("{group}: {name}"), *tensors, *parameters, *bytes);
    }
    let bytes = inspection.tensors.iter().map(|t| t.bytes).sum();
    row("all".into(), inspection.tensors.len(), inspection.parameters, bytes);
    out
}

/// Longer names stand in their lines as they are, and move what follows.
const WIDEST_NAME: usize = 120;

fn tensor_table(inspection: &Inspection) -> String {
    let width = inspection.tensors.iter().map(|t| t.name.len()).max().unwrap_or(0).clamp(6, WIDEST_NAME) + 2;
    let mut out = format!("{:<width$}{:<6}{:<20}{:>5}{:>14}\n", "tensor", "dtype", "shape", "group", "bytes");
    for TensorPart { name, dtype, shape, group, bytes, .. } in &inspection.tensors {
        let (shape, bytes) = (format!("{shape:?}"), grouped(*bytes));
        let name = printable(name);
        writeln!(out, "{name:<width$}{dtype:<6}{shape:<20}{group:>5}{bytes:>14}").expect("a string takes any text");
    }
    out
}

/// 44712340 as 44,712,340.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let parts: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|c| std::str::from_utf8(c).unwrap_or("")).collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_threes() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (44_712_340, "44,712,340")];
        cases.into_iter().for_each(|(n, expected)| assert_eq!(grouped(n), expected));
    }
}
