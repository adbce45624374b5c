//! `compare`: several runs side by side.

use super::Context;
use crate::args::CompareArgs;
use crate::config::Config;
use crate::destination;
use crate::problem::Problem;
use crate::sums;
use anyhow::Result;
use cn_report::{ComparedRun, RunFolder, compare_charts, compare_page, compare_table, compare_warnings, write_atomic};

pub(super) fn run(context: &Context<'_>, args: &CompareArgs) -> Result<()> {
    let read = |path: &std::path::PathBuf| -> Result<ComparedRun> {
        let run = RunFolder::new(path);
        if path.join("fold-1").is_dir() && !run.holds_run() {
            let problem = format!("`{}` is a cross-validation, which has no curves of its own", path.display());
            let folds = path.join("fold-1");
            return Err(Problem::failure(problem)
                .hint(format!("compare whole runs, or its folds: `{}` and those beside it", folds.display()))
                .into());
        }
        if !run.is_finished() {
            return Err(Problem::failure(format!("there is no finished run in `{}`", path.display()))
                .hint("name folders that hold a summary.json")
                .into());
        }
        Ok(ComparedRun::read(&run)?)
    };
    let mut runs = args.runs.iter().map(read).collect::<Result<Vec<_>>>()?;
    let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    for (run, path) in runs.iter_mut().zip(&args.runs) {
        if names.iter().filter(|name| **name == run.name).count() > 1 {
            run.name = path.display().to_string();
        }
    }
    for run in args.runs.iter().map(RunFolder::new) {
        sums::warn_of_edits(context.ui, &run)?;
    }
    compare_warnings(&runs).iter().for_each(|warning| context.ui.warn(warning));
    // A run is compared by its results, also without its settings.
    for run in args.runs.iter().map(RunFolder::new).filter(RunFolder::holds_run) {
        destination::check_outside(&args.out, &Config::of_run(&run.config())?.data)?;
    }
    destination::make(&args.out)?;
    let names = ["compare-loss.png", "compare-exact-match.png"];
    for (chart, name) in compare_charts(&runs).iter().zip(names) {
        chart.draw().write_png(args.out.join(name))?;
    }
    let page = args.out.join("compare.html");
    write_atomic(&page, compare_page(&runs).as_bytes())?;
    context.ui.result(compare_table(&runs));
    context.ui.say(format_args!("\ncurves are in `{}`, and beside it as PNG", page.display()));
    context.ui.json(&serde_json::json!({
        "runs": runs.iter().map(|run| &run.summary).collect::<Vec<_>>(),
        "page": page, "pictures": names.map(|name| args.out.join(name)),
    }));
    Ok(())
}
