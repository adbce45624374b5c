//! What goes to stdout and stderr.

use crate::args::Common;
use crate::problem;
use cn_report::printable;
use serde::Serialize;
use std::fmt::{Display, Write as _};
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Who listens: a person, a person who wants the result alone, or a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Text,
    Quiet,
    Json,
}

/// The one place that prints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ui {
    mode: Mode,
}

impl Ui {
    pub(crate) fn new(common: &Common) -> Self {
        let mode = match common {
            Common { json: true, .. } => Mode::Json,
            Common { quiet: true, .. } => Mode::Quiet,
            _ => Mode::Text,
        };
        Self { mode }
    }

    /// A line for people about what happens.
    pub(crate) fn say(self, text: impl Display) {
        if self.mode == Mode::Text {
            print(harmless(&format!("{text}\n")));
        }
    }

    /// Lines for people that are the result; each is closed already.
    pub(crate) fn result(self, text: impl Display) {
        if self.mode != Mode::Json {
            print(harmless(&text.to_string()));
        }
    }

    /// A line for programs.
    pub(crate) fn json(self, value: &impl Serialize) {
        if self.mode == Mode::Json {
            let line = serde_json::to_string(value).expect("everything that is printed has string keys");
            print(format_args!("{line}\n"));
        }
    }

    /// Something to know that is no error; on stderr, also for programs.
    pub(crate) fn warn(self, text: impl Display) {
        eprint(presentable(&format!("warning: {text}\n")));
    }

    /// Passing lines about progress, where nobody draws bars.
    pub(crate) fn note(self, text: impl Display) {
        if self.mode == Mode::Text {
            eprint(harmless(&format!("{text}\n")));
        }
    }

    /// Whether a bar can be drawn on stderr.
    pub(crate) fn has_bars(self) -> bool {
        self.mode == Mode::Text && std::io::stderr().is_terminal()
    }

    /// An error with its causes and advice.
    pub(crate) fn print_error(error: &anyhow::Error) {
        eprint(presentable(&error_text(error)));
    }
}

/// Lines without characters that steer terminals, which names and notes of strangers may have.
fn harmless(text: &str) -> String {
    text.split_inclusive(['\n', '\t'])
        .map(|part| match part.strip_suffix(['\n', '\t']) {
            Some(line) => printable(line) + &part[line.len()..],
            None => printable(part),
        })
        .collect()
}

/// Characters of a line of an error that are shown at its start and at its end, where it is longer than both.
const HEAD: usize = 1500;
const TAIL: usize = 300;

/// Lines without their middle where they are very long, since a table may have a field of any length, which an error names;
/// and without characters that steer terminals, which names of files may have.
fn presentable(text: &str) -> String {
    let short = |line: &str| {
        let line = printable(line);
        let count = line.chars().count();
        if count <= HEAD + TAIL {
            return line;
        }
        let head: String = line.chars().take(HEAD).collect();
        let tail: String = line.chars().skip(count - TAIL).collect();
        format!("{head} [{} more characters] {tail}", count - HEAD - TAIL)
    };
    text.split('\n').map(short).collect::<Vec<_>>().join("\n")
}

/// `error: ..`, a `cause: ..` for each source, and after an empty line `hint: ..`.
fn error_text(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}\n");
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        // A transparent wrapper says the same as what it wraps.
        let cause = cause.to_string();
        if cause != last {
            writeln!(text, "cause: {}", cause.trim_end()).expect("a string takes any text");
        }
        last = cause;
    }
    if let Some(hint) = problem::hint(error) {
        writeln!(text, "\nhint: {hint}").expect("a string takes any text");
    }
    text
}

/// `1 image`, `2 images`.
pub(crate) fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// `and 3 more`, behind a list that was cut; nothing behind one that was not.
pub(crate) fn and_more(n: usize, listed: usize) -> String {
    match n.saturating_sub(listed) {
        0 => String::new(),
        more => format!("\nand {more} more"),
    }
}

/// Whether something could not be printed.
static LOST: AtomicBool = AtomicBool::new(false);

/// A reader that went away is no reason to stop: what counts is in the run folder. A full disk does not stop a
/// training either, but a result that was lost is told at the end.
fn print(text: impl Display) {
    let mut out = std::io::stdout().lock();
    let written = write!(out, "{text}").and_then(|()| out.flush());
    if written.is_err_and(|e| e.kind() != ErrorKind::BrokenPipe) {
        LOST.store(true, Ordering::Relaxed);
    }
}

/// An error if some of the output could not be written.
pub(crate) fn check_printed() -> anyhow::Result<()> {
    if !LOST.load(Ordering::Relaxed) {
        return Ok(());
    }
    Err(problem::Problem::failure("some of the output could not be written")
        .hint("check the space where it goes, and the results again")
        .into())
}

fn eprint(text: impl Display) {
    let _ = write!(std::io::stderr().lock(), "{text}");
}

/// Sends the libraries' events to stderr: errors (warnings have words of their own here), with `-v` info, with `-vv`
/// debug; `RUST_LOG` overrides.
pub(crate) fn log(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let level = ["error", "info", "debug", "trace"][usize::from(verbose.min(3))];
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Problem;

    #[test]
    fn errors_are_listed_with_causes_and_advice() {
        let source = std::io::Error::other("disk on fire");
        let error = anyhow::Error::new(Problem::failure("cannot go on").caused_by(source).hint("run"));
        let error = error.context("training failed");
        assert_eq!(
            error_text(&error),
            "error: training failed\ncause: cannot go on\ncause: disk on fire\n\nhint: run\n"
        );
        assert_eq!(problem::exit_code(&error), 1);
        assert_eq!(problem::exit_code(&Problem::usage("no").into()), 2);
    }

    #[test]
    fn very_long_lines_lose_their_middle() {
        let long = format!("a\n{}bc\nd\n", "é".repeat(5000));
        let short = presentable(&long);
        assert!(short.starts_with("a\né") && short.ends_with("ébc\nd\n"));
        assert!(short.contains("é [3202 more characters] é"), "{}", short.len());
        assert_eq!(harmless("a\tb\n\x1b]0;c\x07\n"), "a\tb\n\\u{1b}]0;c\\u{7}\n");
        assert_eq!(presentable("a\nb\t\x1b]0;c\x07"), "a\nb\\t\\u{1b}]0;c\\u{7}");
    }

    #[test]
    fn hints_of_libraries_are_found_below_others() {
        let plain = std::io::Error::other("no advice");
        assert_eq!(problem::hint(&plain.into()), None);
        let named = std::io::Error::from(std::io::ErrorKind::NotADirectory);
        assert!(problem::hint(&named.into()).is_some_and(|hint| hint.contains("move it away")));
        let inner = cn_learn::Error::data(cn_data::Error::NoFolder { path: "x".into() });
        let hint = problem::hint(&anyhow::Error::new(inner).context("no"));
        assert!(hint.is_some_and(|hint| hint.contains("fetch-data")));
    }
}
