//! Settings to start from, compiled into the program.

use super::{REAL_DATA, keys};
use crate::args::ConfigArgs;
use crate::problem::Problem;
use std::path::Path;
use toml::{Table, Value};

/// Recipes by name.
pub(super) const RECIPES: [(&str, &str); 7] = [
    (QUICK, include_str!("../recipes/quick.toml")),
    (HANDWRITING, include_str!("../recipes/handwriting.toml")),
    ("notebook", include_str!("../recipes/notebook.toml")),
    ("notebook-lr", include_str!("../recipes/notebook-lr.toml")),
    ("notebook-tuned", include_str!("../recipes/notebook-tuned.toml")),
    ("best", include_str!("../recipes/best.toml")),
    ("glyphs", include_str!("../recipes/glyphs.toml")),
];

pub(super) const QUICK: &str = "quick";
const HANDWRITING: &str = "handwriting";

/// The recipe where nobody names one: drawn images are handwriting.
pub(super) fn usual_recipe(file: &Table, args: &ConfigArgs) -> &'static str {
    let data = file.get("data").and_then(Value::as_table);
    let says = |key: &str| data.is_some_and(|data| data.contains_key(key));
    let flags = &args.batch.data;
    let is_drawn = match (flags.synthetic, flags.data.is_some()) {
        (true, _) => true,
        (false, true) => false,
        (false, false) if says("dir") => false,
        (false, false) => {
            let asked = data.and_then(|data| data.get("synthetic")).and_then(Value::as_bool).unwrap_or(false);
            asked || !Path::new(REAL_DATA).is_dir()
        }
    };
    if is_drawn { HANDWRITING } else { QUICK }
}

/// The table of a recipe.
pub(super) fn recipe(name: &str) -> Result<Table, Problem> {
    let known = RECIPES.iter().map(|(name, _)| *name);
    let Some((_, text)) = RECIPES.iter().find(|(known, _)| *known == name) else {
        let nearest = keys::nearest(name, known.clone()).unwrap_or_default();
        return Err(Problem::usage(format!(
            "there is no recipe `{name}`, only {}",
            known.collect::<Vec<_>>().join(", ")
        ))
        .hint(format!("use `--recipe {nearest}`, or name a file of your own with `--config`")));
    };
    text.parse().map_err(|e: toml::de::Error| Problem::failure(format!("recipe `{name}`")).caused_by(e))
}
