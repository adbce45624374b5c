//! `report`: one file about a run.

use super::Context;
use super::evaluate::own;
use crate::args::{DataArgs, ReportArgs};
use crate::destination;
use crate::interpret::Interpreter;
use crate::model::{Trained, normalisation_of};
use crate::problem::Problem;
use crate::sums;
use anyhow::Result;
use cn_data::Cache;
use cn_learn::Decode;
use cn_report::{Activation, EpochRecord, Interpretation, Predictions, RunFolder, Summary, report_page, write_atomic};

pub(super) fn run(context: &Context<'_>, args: &ReportArgs) -> Result<()> {
    let run = RunFolder::new(&args.run);
    if !run.holds_run() {
        return Err(Problem::no_run(run.root()).into());
    }
    if !run.is_finished() {
        return Err(Problem::unfinished(run.root()).into());
    }
    let path = args.out.clone().unwrap_or_else(|| run.report());
    destination::check_kind(&path, "report is a web page", "html")?;
    check_rows(&run)?;
    sums::warn_of_edits(context.ui, &run)?;
    if !Interpretation::is_in(&run)
        && let Err(error) = run.refuse_links().map_err(Into::into).and_then(|()| interpret(context, args, &run))
    {
        let why = format!("{error:#}");
        context.ui.warn(format_args!("the report lacks what needs the model and its images: {why}"));
    }
    let page = report_page(&run)?;
    write_atomic(&path, page.as_bytes())?;
    context.ui.result(format_args!("{} ({:.0} kB): open it in a browser\n", path.display(), page.len() as f64 / 1e3));
    context.ui.json(&serde_json::json!({ "report": path, "bytes": page.len() }));
    Ok(())
}

/// Refuses a run whose predictions or epochs were cut: the page would show numbers of a part.
fn check_rows(run: &RunFolder) -> Result<()> {
    let summary = Summary::read(run.summary())?;
    let predictions = Predictions::read(run.predictions())?.rows().len();
    let epochs = EpochRecord::read_all(run.metrics())?.len();
    let lines = [(run.predictions(), predictions, summary.data.n_val), (run.metrics(), epochs, summary.epochs)];
    match lines.into_iter().find(|(_, found, expected)| found != expected) {
        None => Ok(()),
        Some((path, found, expected)) => {
            let problem = format!("`{}` has {found} rows, and summary.json speaks of {expected}", path.display());
            Err(Problem::failure(problem)
                .hint("`cn-train verify RUN` says what differs; restore it from a copy")
                .into())
        }
    }
}

/// Writes `interpret/` where the run did not.
fn interpret(context: &Context<'_>, args: &ReportArgs, run: &RunFolder) -> Result<()> {
    let mut trained = Trained::open(run.root())?;
    let data = DataArgs { data: args.data.clone(), ..DataArgs::default() };
    let own = own::find(context.ui, &data, &trained, || if args.no_cache { Cache::Off } else { Cache::User })?;
    let own = own.ok_or_else(|| Problem::failure("these are not the images of the run"))?;
    let table = Predictions::read(run.predictions())?;
    let answers = table.answers(trained.card.thresholds()?, trained.card.activation)?;
    let normalisation = normalisation_of(&trained.card)?;
    let decode = match trained.card.activation {
        Activation::Sigmoid => Decode::Sigmoid,
        Activation::Softmax => Decode::Softmax,
    };
    let (config, dataset) = (&own.config, &own.dataset);
    Interpreter { network: &mut trained.network, config, dataset, normalisation, decode }.write(run, &answers).map(drop)
}
