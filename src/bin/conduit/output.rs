//! Standard output and standard error.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use conduit::yaml::text::{harmless, harmless_lines, is_harmful};
use serde_json::Value;

use crate::outcome::Failure;

/// Standard output, written when [`flush`](Out::flush)ed.
pub struct Out {
    writer: BufWriter<Stdout>,
    pub style: Style,
}

impl Out {
    pub fn new() -> Self {
        Out { writer: BufWriter::with_capacity(1 << 16, io::stdout()), style: Style::of_stdout() }
    }

    pub fn line(&mut self, line: impl fmt::Display) -> Result<(), Failure> {
        Ok(writeln!(self.writer, "{line}")?)
    }

    /// One line of JSON, with nothing in it that a terminal would obey.
    pub fn json(&mut self, value: &Value) -> Result<(), Failure> {
        let text = value.to_string();
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return self.line(text);
        }
        // What is to be escaped is within a string.
        let mut units = [0; 2];
        for c in text.chars() {
            if is_harmful(c) {
                for unit in c.encode_utf16(&mut units) {
                    write!(self.writer, "\\u{unit:04x}")?;
                }
            } else {
                write!(self.writer, "{c}")?;
            }
        }
        self.line("")
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.writer.write_all(bytes)?)
    }

    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.writer.flush()?)
    }

    /// Shows `lines` in place of those of the picture before. None may be so long that the terminal would wrap it.
    pub fn draw(&mut self, lines: Vec<String>) -> Result<(), Failure> {
        let mut picture = picture();
        let text = over(&picture) + &text_of(&lines);
        *picture = lines;
        self.bytes(text.as_bytes())?;
        self.flush()
    }

    /// Takes the picture away.
    pub fn erase(&mut self) -> Result<(), Failure> {
        let lines = std::mem::take(&mut *picture());
        self.bytes(over(&lines).as_bytes())
    }

    /// Leaves the picture where it is: what is written from now on comes below it.
    pub fn leave(&mut self) {
        picture().clear();
    }
}

/// The last lines on the terminal, which are drawn anew in place. Held while they are, so that no note comes between.
static PICTURE: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn picture() -> MutexGuard<'static, Vec<String>> {
    PICTURE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What brings the cursor back over a picture, and takes that away.
fn over(picture: &[String]) -> String {
    // What was typed may have moved the cursor from the first column.
    if picture.is_empty() { String::new() } else { format!("\r\x1b[{}A\x1b[J", picture.len()) }
}

fn text_of(picture: &[String]) -> String {
    picture.iter().map(|line| format!("{line}\n")).collect()
}

/// Prints one JSON value, whole.
pub fn print_json(value: &Value) -> Result<(), Failure> {
    let mut out = Out::new();
    out.json(value)?;
    out.flush()
}

/// Says something that is not what was asked for, above the picture if there is one. Nothing can be done about a standard
/// error that is closed.
pub fn note(message: fmt::Arguments<'_>) {
    let picture = picture();
    let _ = if picture.is_empty() || !io::stderr().is_terminal() {
        writeln!(io::stderr(), "conduit: {message}")
    } else {
        let text = format!("{}conduit: {message}\n{}", over(&picture), text_of(&picture));
        io::stderr().write_all(text.as_bytes())
    };
}

/// What standard output can show. Colours: on a terminal, unless `NO_COLOR` is set.
#[derive(Clone, Copy)]
pub struct Style {
    pub terminal: bool,
    /// Whether lines can be drawn anew: a terminal whose cursor moves.
    pub in_place: bool,
    colour: bool,
}

impl Style {
    fn of_stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        let in_place = terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Style { terminal, in_place, colour: in_place && !refused }
    }

    fn paint(self, code: &'static str, text: impl Into<String>) -> String {
        let text = text.into();
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text }
    }

    pub fn bold(self, text: impl Into<String>) -> String {
        self.paint("1", text)
    }

    pub fn dim(self, text: impl Into<String>) -> String {
        self.paint("2", text)
    }

    pub fn good(self, text: impl Into<String>) -> String {
        self.paint("32", text)
    }

    pub fn warning(self, text: impl Into<String>) -> String {
        self.paint("33", text)
    }
}

/// Columns and lines of the terminal on standard output, as it is now.
pub fn terminal_size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    let known = |size: u16, or: usize| if size > 0 { size.into() } else { or };
    size.map_or((COLUMNS, LINES), |size| (known(size.ws_col, COLUMNS), known(size.ws_row, LINES)))
}

/// The size that text is made for where nothing is known of a terminal.
pub const COLUMNS: usize = 80;
const LINES: usize = 24;

/// Breaks text at spaces into lines of at most `width` columns; a word that is longer has a line of its own.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines
}

/// A table whose columns are as wide as they need to be. What ends a row early may reach over the columns that follow.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&str]) -> Self {
        Table { rows: vec![head.iter().map(|&cell| cell.into()).collect()] }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Its lines, the head first.
    pub fn lines(&self) -> Vec<String> {
        let columns = self.rows[0].len();
        let cells = |column| {
            let rows = self.rows.iter().filter(move |row| row.len() == columns || column + 1 < row.len());
            rows.filter_map(move |row| row.get(column))
        };
        let width = |column| cells(column).map(|cell: &String| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let padded = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_string()
        };
        self.rows.iter().map(line).collect()
    }

    pub fn print(&self, out: &mut Out) -> Result<(), Failure> {
        for (at, line) in self.lines().into_iter().enumerate() {
            if at == 0 {
                out.line(out.style.bold(line))?;
            } else {
                out.line(line)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_at_spaces_and_no_word_is_lost() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a muchtoolongword b", 5), ["a", "muchtoolongword", "b"]);
        assert_eq!(wrap("µs µs", 5), ["µs µs"]);
        assert_eq!(wrap("", 5), [""]);
    }
}
