//! A frame at the bottom of the terminal, redrawn in place: no alternate screen, no raw mode and no hidden cursor, so
//! that nothing has to be restored however the program ends.

use super::view::View;
use console::Term;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};
use std::fmt::Write as _;

/// Draws the view below the lines that last.
pub(super) struct Live {
    term: Term,
    /// Columns that each row of the frame on the screen takes; empty without one.
    drawn: Vec<usize>,
}

impl Live {
    /// `None` where there is no terminal that frames can be drawn on, or a smaller one than the smallest frame.
    pub(super) fn new() -> Option<Self> {
        let term = Term::stderr();
        let fits = term.size_checked().is_some_and(|(rows, columns)| View::default().frame(rows, columns).is_some());
        (fits && term.features().is_attended() && std::env::var_os("TERM").is_none_or(|kind| kind != "dumb"))
            .then(|| Self { term, drawn: Vec::new() })
    }

    /// Replaces the frame; a terminal that became too small shows none.
    pub(super) fn draw(&mut self, view: &View) {
        let Some((rows, columns)) = self.term.size_checked() else { return };
        let mut text = begin(self.height(columns));
        self.drawn.clear();
        if let Some(frame) = view.frame(rows, columns) {
            for y in 0..frame.area.height {
                let (row, width) = row(&frame, y);
                text.push_str(&row);
                text.push_str("\x1b[K\r\n");
                self.drawn.push(width);
            }
        }
        self.write(&(text + END));
    }

    /// Takes the frame away, so that a line that lasts can be printed.
    pub(super) fn clear(&mut self) {
        if self.drawn.is_empty() {
            return;
        }
        let columns = self.term.size_checked().map_or(u16::MAX, |(_, columns)| columns);
        let text = begin(self.height(columns)) + END;
        self.drawn.clear();
        self.write(&text);
    }

    /// Rows of the screen that the frame takes: rows that are wider than a terminal that became narrower are wrapped.
    fn height(&self, columns: u16) -> usize {
        self.drawn.iter().map(|width| width.div_ceil(usize::from(columns.max(1))).max(1)).sum()
    }

    /// A terminal that went away is no reason to stop.
    fn write(&self, text: &str) {
        let _ = self.term.write_str(text).and_then(|()| self.term.flush());
    }
}

/// Begins an update that the terminal shows at once, where it can, with the frame of `height` rows taken away: row by
/// row, since tmux keeps what is cleared from the first row of the screen downwards, and would keep every frame.
fn begin(height: usize) -> String {
    let rows = "\x1b[2K\x1b[B".repeat(height);
    let up = if height > 0 { format!("\x1b[{height}A") } else { String::new() };
    format!("\x1b[?2026h{up}\r{rows}{up}")
}

const END: &str = "\x1b[?2026l";

/// A row of the frame with its colours, and the columns that it takes.
fn row(frame: &Buffer, y: u16) -> (String, usize) {
    let cells = || (0..frame.area.width).map(|x| &frame[(x, y)]);
    let width = (0..frame.area.width).rev().find(|&x| frame[(x, y)].symbol() != " ").map_or(0, |x| usize::from(x) + 1);
    let (mut text, mut look) = (String::new(), (Color::Reset, Modifier::empty()));
    for cell in cells().take(width) {
        let next = (cell.fg, cell.modifier);
        if next != look {
            text.push_str("\x1b[0");
            write!(text, "{}{}m", modifier(next.1), colour(next.0)).expect("a string takes any text");
            look = next;
        }
        text.push_str(cell.symbol());
    }
    if look != (Color::Reset, Modifier::empty()) {
        text.push_str("\x1b[0m");
    }
    (text, width)
}

fn modifier(modifier: Modifier) -> &'static str {
    match modifier {
        m if m.contains(Modifier::BOLD) => ";1",
        m if m.contains(Modifier::DIM) => ";2",
        _ => "",
    }
}

/// The colours that the view uses, by the names that terminals give them; none where nobody wants colours.
fn colour(colour: Color) -> &'static str {
    if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        return "";
    }
    match colour {
        Color::Cyan => ";36",
        Color::Yellow => ";33",
        Color::DarkGray => ";90",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::layout::Rect;
    use ratatui::style::Style;
    use ratatui::text::{Line, Span};

    #[test]
    fn rows_carry_their_looks_and_no_blanks_at_the_end() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 12, 1));
        let line = Line::from(vec![
            Span::raw("a "),
            Span::styled("b", Style::new().fg(Color::Yellow)),
            Span::styled("c", Style::new().add_modifier(Modifier::DIM)),
        ]);
        buffer.set_line(0, 0, &line, 12);
        assert_eq!(row(&buffer, 0), ("a \x1b[0;33mb\x1b[0;2mc\x1b[0m".into(), 4));
        assert_eq!(row(&Buffer::empty(Rect::new(0, 0, 5, 1)), 0), (String::new(), 0));
    }

    #[test]
    fn a_frame_that_wraps_is_taken_away_whole() {
        let live = Live { term: Term::stderr(), drawn: vec![60, 0, 31, 30] };
        assert_eq!(live.height(100), 4);
        assert_eq!(live.height(30), 2 + 1 + 2 + 1);
    }
}
