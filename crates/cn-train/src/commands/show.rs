//! `show`: what is in the data, and a picture of augmented images.

use super::Context;
use crate::args::{ConfigArgs, ShowArgs};
use crate::config::Config;
use crate::data::{Plan, shown};
use crate::destination;
use crate::interpret::augmented;
use crate::output::counted;
use crate::problem::Problem;
use anyhow::Result;
use cn_data::{Cache, Dataset, Record};
use cn_report::printable;
use serde_json::json;
use std::path::Path;

/// Records at the head of the index that are listed.
const HEAD: u32 = 5;

pub(super) fn run(context: &Context<'_>, args: &ShowArgs) -> Result<()> {
    check(args)?;
    let flags = ConfigArgs { batch: args.batch.clone(), ..ConfigArgs::default() };
    let config = Config::try_from((context.common, &flags))?;
    if config.synthetic.steps.is_some() {
        return Err(Problem::usage("endless handwriting is drawn for each step, and there is nothing to list")
            .hint("see some: `cargo run -p cn-synth --example glyphs -- FILE.png`")
            .into());
    }
    let parent = args.out.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new("."));
    destination::check(folder)?;
    destination::check_outside(folder, &config.data)?;
    let cache = if args.batch.no_cache { Cache::Off } else { Cache::User };
    let plan = Plan::to_look_at(&config)?;
    let split = plan.method.to_string();
    let dataset = plan.load(context.ui, &config, cache)?;
    let batch_size = config.batch_size_of(dataset.split().train().len());
    context.ui.result(text(&dataset, &split, batch_size));
    destination::make(folder)?;
    augmented(&config, &dataset, [args.rows, args.cols])?.write_png(&args.out)?;
    context.ui.say(format_args!("\naugmented training images are in `{}`", args.out.display()));
    context.ui.json(&summary(args, &dataset, &split));
    Ok(())
}

/// Most images of a picture.
const MOST: usize = 10_000;

/// Refuses what could only fail after the work.
fn check(args: &ShowArgs) -> Result<(), Problem> {
    let hint = "pass `--rows R` and `--cols C`, such as 4 and 8";
    if args.rows == 0 || args.cols == 0 {
        return Err(Problem::usage("a picture needs at least one row and one column").hint(hint));
    }
    if args.rows.checked_mul(args.cols).is_none_or(|n| n > MOST) {
        let problem = format!("{} rows of {} images are more than the {MOST} allowed", args.rows, args.cols);
        return Err(Problem::usage(problem).hint(hint));
    }
    let out = args.out.display();
    if args.out.is_dir() {
        return Err(Problem::usage(format!("`{out}` is a folder")).hint("name a file: `--out FOLDER/show.png`"));
    }
    destination::check_kind(&args.out, "picture is a PNG", "png")
}

fn text(dataset: &Dataset, split: &str, batch_size: usize) -> String {
    let index = dataset.index();
    let (train, val) = (dataset.split().train(), dataset.split().val());
    let mut text = format!(
        "{}: {}, {}, {}\n\n",
        index.name(),
        counted(index.len(), "image", "images"),
        counted(dataset.vocabulary().len(), "class", "classes"),
        counted(index.groups().len(), "group", "groups"),
    );
    for id in (0..HEAD).take(index.len()) {
        let record = &index.records()[id as usize];
        let image = dataset.pixels().image(id);
        let shape = |[height, width]: [usize; 2]| format!("{height}x{width}x{}", image.channels);
        let (read, stored) = ([image.height, image.width], index.size_in_file(id));
        let size = match stored.filter(|stored| *stored != read) {
            Some(stored) => format!("{}, read as {}", shape(stored), shape(read)),
            None => shape(read),
        };
        let group = printable(record.group.as_deref().unwrap_or("-"));
        text += &format!("{id}  {}  {size}  group {group}  {}\n", printable(&record.path), labels_of(dataset, record));
    }
    text += "\nclass counts\n";
    let counts = index.class_counts();
    for label in dataset.vocabulary().labels() {
        let count = counts.get(label.as_str()).copied().unwrap_or(0);
        text += &format!("{count:>7}  {}\n", shown(dataset, std::slice::from_ref(label)));
    }
    let unlabelled = index.records().iter().filter(|record| record.labels.is_empty()).count();
    if unlabelled > 0 {
        text += &format!("{unlabelled:>7}  no label\n");
    }
    let (steps, val_steps) = (train.len() / batch_size, val.len().div_ceil(batch_size));
    text += &format!(
        "\nparts by `{split}`: {} train in {} of {batch_size}, {} judge in {val_steps}\n",
        train.len(),
        counted(steps, "batch", "batches"),
        val.len()
    );
    if let Some(&first) = train.first() {
        let record = &index.records()[first as usize];
        let targets: Vec<String> = dataset.targets().multi_hot(&[first]).iter().map(|t| format!("{t:.0}")).collect();
        text += &format!("\nfirst training image: {}, {}\n", printable(&record.path), labels_of(dataset, record));
        text += &format!(
            "targets [{}]\nof      [{}]\n",
            targets.join(", "),
            printable(&dataset.vocabulary().labels().join(", "))
        );
    }
    text
}

fn labels_of(dataset: &Dataset, record: &Record) -> String {
    if record.labels.is_empty() { "no label".into() } else { format!("labels {}", shown(dataset, &record.labels)) }
}

fn summary(args: &ShowArgs, dataset: &Dataset, split: &str) -> serde_json::Value {
    let index = dataset.index();
    json!({
        "name": index.name(), "n": index.len(), "classes": dataset.vocabulary().labels(),
        "display": dataset.class_names(), "class_counts": index.class_counts(), "n_groups": index.groups().len(),
        "split": split, "n_train": dataset.split().train().len(), "n_val": dataset.split().val().len(),
        "groups_shared": dataset.split().groups_shared(index), "picture": args.out,
    })
}
