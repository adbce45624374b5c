//! A line about work under way: how far, how fast, how long still.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Bytes, shown as KiB, MiB or GiB.
    Bytes,
    /// Files.
    Files,
}

/// How often a terminal's line is redrawn, and how often a plain line is written elsewhere.
const REDRAW: Duration = Duration::from_millis(100);
const PLAIN: Duration = Duration::from_secs(5);
/// Time over which the rate is averaged.
const RATE_WINDOW: f64 = 3.0;

/// Progress of one job, on stderr: a line that is redrawn on a terminal, plain lines elsewhere.
pub(crate) struct Progress {
    what: &'static str,
    unit: Unit,
    total: Option<u64>,
    done: u64,
    rate: Rate,
    shown: Option<Instant>,
    out: Out,
}

enum Out {
    Terminal,
    Plain,
    #[cfg(test)]
    Quiet,
}

impl Progress {
    /// Begins at 0 of an unknown total.
    pub(crate) fn new(what: &'static str, unit: Unit) -> Self {
        let out = if io::stderr().is_terminal() { Out::Terminal } else { Out::Plain };
        Self::with_out(what, unit, out)
    }

    /// Shows nothing; for tests.
    #[cfg(test)]
    pub(crate) fn quiet() -> Self {
        Self::with_out("test", Unit::Bytes, Out::Quiet)
    }

    fn with_out(what: &'static str, unit: Unit, out: Out) -> Self {
        Self { what, unit, total: None, done: 0, rate: Rate::new(Instant::now(), 0), shown: None, out }
    }

    /// Names the total once it is known.
    pub(crate) fn set_total(&mut self, total: Option<u64>) {
        self.total = total;
    }

    /// Jumps to `done` without counting the way there as work (a resumed or restarted job).
    pub(crate) fn start_at(&mut self, done: u64) {
        self.done = done;
        self.rate = Rate::new(Instant::now(), done);
    }

    /// Reports `done` units in all.
    pub(crate) fn at(&mut self, done: u64) {
        self.done = done;
        let now = Instant::now();
        let pause = match self.out {
            Out::Terminal => REDRAW,
            _ => PLAIN,
        };
        // The first plain line waits too: short jobs write only their last one.
        let last = *self.shown.get_or_insert(now);
        if now.duration_since(last) >= pause {
            self.rate.update(now, done);
            self.shown = Some(now);
            self.show(now, Line::Passing);
        }
    }

    /// Writes a line of its own about something that happened.
    pub(crate) fn note(&mut self, text: &str) {
        match self.out {
            Out::Terminal => eprint_line(&format!("\r\x1b[2K{text}\n")),
            Out::Plain => eprint_line(&format!("{text}\n")),
            #[cfg(test)]
            Out::Quiet => {}
        }
    }

    /// Writes the last line, with the average rate.
    pub(crate) fn finish(&mut self) {
        self.total.get_or_insert(self.done);
        let now = Instant::now();
        self.show(now, Line::Last);
    }

    fn show(&self, now: Instant, line: Line) {
        let rate = if line == Line::Last { self.rate.average(now, self.done) } else { self.rate.per_second };
        let text = render(self.what, self.unit, self.done, self.total, rate, line);
        match self.out {
            Out::Terminal if line == Line::Last => eprint_line(&format!("\r\x1b[2K{text}\n")),
            Out::Terminal => eprint_line(&format!("\r\x1b[2K{text}")),
            Out::Plain => eprint_line(&format!("{text}\n")),
            #[cfg(test)]
            Out::Quiet => {}
        }
    }
}

fn eprint_line(text: &str) {
    // A closed stderr must not end a download.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Units a second: recent (exponentially averaged) and since the beginning.
struct Rate {
    began: Instant,
    first: u64,
    seen: (Instant, u64),
    per_second: f64,
}

impl Rate {
    fn new(now: Instant, done: u64) -> Self {
        Self { began: now, first: done, seen: (now, done), per_second: 0.0 }
    }

    fn update(&mut self, now: Instant, done: u64) {
        let seconds = now.duration_since(self.seen.0).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let current = done.saturating_sub(self.seen.1) as f64 / seconds;
        let keep = if self.seen.0 == self.began { 0.0 } else { (-seconds / RATE_WINDOW).exp() };
        self.per_second = keep * self.per_second + (1.0 - keep) * current;
        self.seen = (now, done);
    }

    fn average(&self, now: Instant, done: u64) -> f64 {
        let seconds = now.duration_since(self.began).as_secs_f64();
        done.saturating_sub(self.first) as f64 / seconds.max(1e-3)
    }
}

/// A line that the next one replaces, or the one that stays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Passing,
    Last,
}

fn render(what: &str, unit: Unit, done: u64, total: Option<u64>, per_second: f64, kind: Line) -> String {
    let mut line = format!("{what}: {}", amount(unit, done));
    let total = total.filter(|_| kind == Line::Passing);
    if let Some(total) = total {
        let percent = 100.0 * done as f64 / total.max(1) as f64;
        let _ = write!(line, " of {}, {percent:.0} %", amount(unit, total));
    }
    if per_second > 0.0 {
        let _ = write!(line, ", {}/s", amount(unit, per_second as u64));
        if let Some(total) = total {
            let left = total.saturating_sub(done) as f64 / per_second;
            let _ = write!(line, ", {} left", duration(left));
        }
    }
    line
}

fn amount(unit: Unit, n: u64) -> String {
    match unit {
        Unit::Bytes => bytes(n),
        Unit::Files => format!("{n} files"),
    }
}

/// `12.3 MiB` and the like.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return format!("{n} bytes");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `0:07`, `12:34` or `1:02:03`.
fn duration(seconds: f64) -> String {
    let s = seconds.clamp(0.0, 359_999.0).ceil() as u64;
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, m, s) => format!("{m}:{s:02}"),
        (h, m, s) => format!("{h}:{m:02}:{s:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_share_rate_and_time_left() {
        let line = render("download", Unit::Bytes, 3 << 20, Some(12 << 20), 1048576.0, Line::Passing);
        assert_eq!(line, "download: 3.0 MiB of 12.0 MiB, 25 %, 1.0 MiB/s, 0:09 left");
    }

    #[test]
    fn an_unknown_total_leaves_the_share_out() {
        let line = render("download", Unit::Bytes, 2048, None, 0.0, Line::Passing);
        assert_eq!(line, "download: 2.0 KiB");
    }

    #[test]
    fn the_last_line_has_only_amount_and_rate() {
        let line = render("unpack", Unit::Files, 15001, Some(15001), 9000.4, Line::Last);
        assert_eq!(line, "unpack: 15001 files, 9000 files/s");
    }

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!(bytes(1023), "1023 bytes");
        assert_eq!(bytes(1 << 40), "1.0 TiB");
        assert_eq!(duration(59.2), "1:00");
        assert_eq!(duration(3723.0), "1:02:03");
    }

    #[test]
    fn a_resumed_job_counts_only_its_own_work() {
        let now = Instant::now();
        let rate = Rate::new(now, 1000);
        let average = rate.average(now + Duration::from_secs(2), 1500);
        assert_eq!(average, 250.0);
    }

    #[test]
    fn the_rate_follows_a_change() {
        let begin = Instant::now();
        let mut rate = Rate::new(begin, 0);
        rate.update(begin + Duration::from_secs(1), 100);
        assert_eq!(rate.per_second, 100.0);
        rate.update(begin + Duration::from_secs(31), 100);
        assert!(rate.per_second < 1.0, "{}", rate.per_second);
    }
}
