//! Which keys there are.

use crate::problem::Problem;
use strsim::levenshtein;
use toml::{Table, Value};

pub(super) const TOP: [&str; 36] = [
    "recipe",
    "seed",
    "device",
    "threads",
    "precision",
    "arch",
    "head",
    "channels",
    "weights",
    "normalise",
    "freeze_pretrained",
    "loss",
    "threshold",
    "image_size",
    "ink_square",
    "ground",
    "batch_size",
    "split",
    "split_seed",
    "val_fraction",
    "val_groups",
    "limit",
    "limit_per_class",
    "skip_damaged",
    "checkpoint_every",
    "checkpoint_minutes",
    "on_nan",
    "validate_every",
    "patience",
    "ema",
    "data",
    "synthetic",
    "augment",
    "validation",
    "fine_tune_lr",
    "phase",
];
pub(super) const DATA: [&str; 8] = ["synthetic", "dir", "csv", "image", "label", "label_separator", "display", "group"];
const SYNTHETIC: [&str; 6] = ["images", "val_images", "steps", "pages", "seed", "style"];
pub(super) const TRANSFORM: [&str; 11] =
    ["kind", "extra", "min_scale", "shift", "scale", "rotate", "shear", "aspect", "min_ink", "brightness", "contrast"];
pub(super) const PHASE: [&str; 8] = ["frozen", "epochs", "lr", "curve", "pct_start", "div", "div_final", "moms"];

/// Refuses a key that no setting has, and names the nearest one.
pub(super) fn check(table: &Table) -> Result<(), Problem> {
    check_table("", table, &TOP)?;
    for (section, known) in
        [("data", &DATA[..]), ("synthetic", &SYNTHETIC), ("augment", &TRANSFORM), ("validation", &TRANSFORM)]
    {
        if let Some(Value::Table(inner)) = table.get(section) {
            check_table(section, inner, known)?;
        }
    }
    let phases = table.get("phase").and_then(Value::as_array).into_iter().flatten();
    phases.filter_map(Value::as_table).try_for_each(|phase| check_table("phase", phase, &PHASE))
}

fn check_table(section: &str, table: &Table, known: &[&str]) -> Result<(), Problem> {
    let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
    let place = if section.is_empty() { String::new() } else { format!(" in `[{section}]`") };
    let problem = Problem::usage(format!("there is no setting `{key}`{place}"));
    Err(match nearest(key, known.iter().copied()) {
        // Most of the word is the same.
        Some(near) if levenshtein(key, near) <= key.chars().count() / 2 => {
            problem.hint(format!("the nearest one is `{near}`"))
        }
        _ => problem.hint(format!("there are {}", known.join(", "))),
    })
}

/// The name that the fewest edits lead to.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known.min_by_key(|other| levenshtein(name, other))
}
