//! One table of settings over another.

use crate::args::{BatchSize, Common, ConfigArgs, DataArgs, PhaseArgs};
use crate::problem::Problem;
use clap::ValueEnum;
use std::io::Read as _;
use std::path::Path;
use toml::{Table, Value};

/// Puts `over` over `base`. Tables are merged key by key, but one that says its `kind` replaces the other.
pub(super) fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(over)) if !over.contains_key("kind") => merge(inner, over),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

/// The name of the recipe that a file builds upon, if it says one; `usual` is the one without.
pub(super) fn recipe_of<'a>(file: &'a Table, usual: &str) -> Result<Option<&'a str>, Problem> {
    match file.get("recipe") {
        Some(Value::String(name)) => Ok(Some(name.as_str())),
        Some(other) => Err(Problem::usage(format!("`recipe` is {other}, expected a name"))
            .hint(format!("the default is `recipe = \"{usual}\"`"))),
        None => Ok(None),
    }
}

/// Puts the flags that stand for one setting each over `table`.
pub(super) fn flags(table: &mut Table, common: &Common, args: &ConfigArgs) -> Result<(), Problem> {
    if common.threads == Some(0) {
        return Err(Problem::usage("`--threads 0` leaves nobody to compute").hint("leave it out to use all cores"));
    }
    let mut set = Setter(table);
    set.integer("seed", common.seed)?;
    set.integer("threads", common.threads)?;
    set.text("device", common.device.as_deref());
    set.text("precision", args.model.precision.as_deref());
    set.text("arch", args.model.arch.as_deref());
    set.text("weights", args.model.weights.as_deref());
    set.integer("image_size", args.batch.image_size)?;
    if let Some(BatchSize::Images(n)) = args.batch.batch_size {
        set.integer("batch_size", Some(n))?;
    }
    set.integer("split_seed", args.batch.split_seed)?;
    set.integer("limit", args.batch.limit)?;
    set.integer("limit_per_class", args.batch.limit_per_class)?;
    training(&mut set, &args.phases)?;
    if let Some(split) = &args.batch.split {
        set.0.insert("split".into(), split.as_str().into());
        set.0.remove("val_groups");
    }
    if let Some(fill) = args.batch.ink_square {
        set.0.insert("ink_square".into(), fill.into());
    }
    if let Some(ground) = args.batch.ground.and_then(|ground| ground.to_possible_value()) {
        set.0.insert("ground".into(), ground.get_name().into());
    }
    if let Some(fraction) = args.batch.val_fraction {
        set.0.insert("val_fraction".into(), fraction.into());
        // A number of images that judge would win over the share.
        if let Some(synthetic) = set.0.get_mut("synthetic").and_then(Value::as_table_mut)
            && !synthetic.contains_key("steps")
        {
            synthetic.remove("val_images");
        }
    }
    if args.batch.data.skip_damaged {
        set.0.insert("skip_damaged".into(), true.into());
    }
    if let Some(groups) = &args.batch.val_groups {
        let groups = groups_of("--val-groups", groups)?.into_iter().map(Value::from).collect();
        set.0.insert("val_groups".into(), Value::Array(groups));
    }
    data(table, &args.batch.data);
    Ok(())
}

fn training(set: &mut Setter<'_>, args: &PhaseArgs) -> Result<(), Problem> {
    set.integer("checkpoint_every", args.checkpoint_every)?;
    let epochs = [("validate_every", args.validate_every), ("patience", args.patience)];
    for (key, n) in epochs {
        if n == Some(0) {
            let flag = key.replace('_', "-");
            return Err(Problem::usage(format!("`--{flag} 0` is no number of epochs"))
                .hint("leave it out, or name a number from 1 up"));
        }
        set.integer(key, n)?;
    }
    for (key, value) in [("checkpoint_minutes", args.checkpoint_minutes), ("ema", args.ema)] {
        if let Some(value) = value {
            set.0.insert(key.into(), value.into());
        }
    }
    if args.lr.is_some() {
        set.0.remove("fine_tune_lr");
    }
    if let Some(way) = args.on_nan {
        set.text("on_nan", way.to_possible_value().as_ref().map(clap::builder::PossibleValue::get_name));
    }
    steps(set.0, args.steps)
}

/// A data set named by flags replaces the one of the settings; single columns do not.
fn data(table: &mut Table, args: &DataArgs) {
    let mut data = match table.remove("data") {
        Some(Value::Table(data)) if args.data.is_none() && !args.synthetic => data,
        _ => Table::new(),
    };
    if args.synthetic {
        data.insert("synthetic".into(), true.into());
    }
    let mut set = Setter(&mut data);
    set.text("dir", args.data.as_deref().and_then(Path::to_str));
    set.text("csv", args.csv.as_deref().and_then(Path::to_str));
    set.text("image", args.image.as_deref());
    set.text("label", args.label.as_deref());
    set.text("label_separator", args.label_separator.as_deref());
    set.text("display", args.display.as_deref());
    set.text("group", args.group.as_deref());
    table.insert("data".into(), data.into());
}

/// How long endless handwriting trains.
fn steps(table: &mut Table, steps: Option<usize>) -> Result<(), Problem> {
    let Some(steps) = steps else { return Ok(()) };
    match table.get_mut("synthetic").and_then(Value::as_table_mut).filter(|table| table.contains_key("steps")) {
        Some(synthetic) => Setter(synthetic).integer("steps", Some(steps)),
        None => Err(Problem::usage("`--steps` is the length of endless handwriting, and these settings have none")
            .hint("use `--recipe glyphs`, or `--epochs`")),
    }
}

struct Setter<'a>(&'a mut Table);

impl Setter<'_> {
    fn text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.0.insert(key.into(), value.into());
        }
    }

    fn integer<N: TryInto<i64> + Copy + std::fmt::Display>(
        &mut self,
        key: &str,
        value: Option<N>,
    ) -> Result<(), Problem> {
        if let Some(value) = value {
            let too_large = |_| Problem::usage(format!("`{key}` is {value}, expected at most {}", i64::MAX));
            self.0.insert(key.into(), value.try_into().map_err(too_large)?.into());
        }
        Ok(())
    }
}

/// Names divided by commas, or the lines of a file.
pub(crate) fn groups_of(flag: &str, list: &str) -> Result<Vec<String>, Problem> {
    let path = Path::new(list);
    let text = if path.exists() && !path.is_dir() {
        text_of(path, MOST_OF_GROUPS).map_err(|e| Problem::failure(format!("cannot read `{list}`")).caused_by(e))?
    } else {
        list.to_owned()
    };
    let names: Vec<String> =
        text.split([',', '\n']).map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(Problem::usage(format!("`{flag}` names no group")).hint(format!("two groups are `{flag} 3,14`")));
    }
    Ok(names)
}

/// Bytes of settings.
pub(super) const MOST_OF_SETTINGS: u64 = 1 << 20;
/// Characters of them that may begin a value, a table or a line: TOML takes up to a kilobyte for each.
pub(super) const MOST_MARKS: usize = 40_000;
/// Bytes of a list of groups.
const MOST_OF_GROUPS: u64 = 16 << 20;

/// The text of a file that a person wrote, of at most so many bytes; a device without end is none.
pub(super) fn text_of(path: &Path, most: u64) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(most + 1).read_to_string(&mut text)?;
    if text.len() as u64 > most {
        return Err(std::io::Error::other(format!("it has more than {} KiB", most >> 10)));
    }
    Ok(text)
}

/// How many characters of a text in TOML may begin a value, a table or a line.
pub(super) fn marks(text: &str) -> usize {
    text.bytes().filter(|c| matches!(c, b',' | b'=' | b'.' | b'[' | b'{' | b'\n')).count()
}

fn is_list_of_tables(list: &[Value]) -> bool {
    list.iter().all(Value::is_table)
}

/// Keys with different values, a line each, as `key: old, now new`.
pub(super) fn differences(old: &Table, new: &Table) -> Vec<String> {
    let mut lines = Vec::new();
    compare("", old, new, &mut lines);
    lines
}

fn compare(prefix: &str, old: &Table, new: &Table, lines: &mut Vec<String>) {
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let show = |value: Option<&Value>| value.map_or("nothing".into(), ToString::to_string);
        match (old.get(key), new.get(key)) {
            (Some(Value::Table(a)), Some(Value::Table(b))) => compare(&format!("{prefix}{key}."), a, b, lines),
            (Some(Value::Array(a)), Some(Value::Array(b))) if is_list_of_tables(a) && is_list_of_tables(b) => {
                let tables = |list: &[Value]| list.iter().filter_map(Value::as_table).cloned().collect::<Vec<_>>();
                let (a, b) = (tables(a), tables(b));
                if a.len() != b.len() {
                    lines.push(format!("{prefix}{key}: {} of them, now {}", a.len(), b.len()));
                }
                for (i, (a, b)) in (1..).zip(a.iter().zip(&b)) {
                    compare(&format!("{prefix}{key} {i}: "), a, b, lines);
                }
            }
            (a, b) if a != b => lines.push(format!("{prefix}{key}: {}, now {}", show(a), show(b))),
            _ => {}
        }
    }
}
