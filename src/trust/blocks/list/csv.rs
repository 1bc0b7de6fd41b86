//! Rows of CSV as RFC 4180 has them, with commas, semicolons or tabs between the cells.

use super::BadList;

/// Reads the rows of a text in order. Empty lines and comments (`#`) between rows are passed over.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    rest: &'a str,
    /// The number of the next line, from 1.
    line: usize,
    /// What separates the cells of every row. `None`: in each row, the first separator outside of
    /// quotes.
    pub(super) separator: Option<char>,
}

/// A row.
#[derive(Debug)]
pub(super) struct Row {
    /// The number of its first line, from 1.
    pub(super) line: usize,
    /// Its cells, without quotes and without blanks around them.
    pub(super) cells: Vec<String>,
    /// Whether the first cell is in quotes.
    pub(super) is_quoted: bool,
    /// What separates the cells. `None`: there is one cell.
    pub(super) separator: Option<char>,
}

impl<'a> Rows<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self {
            rest: text.trim_start_matches('\u{feff}'),
            line: 1,
            separator: None,
        }
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, BadList>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                break;
            }
            if self.rest.is_empty() {
                return None;
            }
            self.rest = rest;
            self.line += 1;
        }
        let mut row = Row {
            line: self.line,
            cells: Vec::new(),
            is_quoted: self.rest.trim_start().starts_with('"'),
            separator: self.separator,
        };
        let Some(rest) = row.fill(self.rest) else {
            self.rest = "";
            return Some(Err(BadList::Row { line: row.line }));
        };
        let length = self.rest.len() - rest.len();
        let breaks = self.rest.bytes().take(length).filter(|it| *it == b'\n');
        self.line += breaks.count();
        self.rest = rest;
        Some(Ok(row))
    }
}

/// Where the reader of a cell is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the cell.
    Start,
    /// In a cell without quotes.
    Bare,
    /// Between the quotes of a cell.
    Quoted,
    /// After a quote that ends the cell, or is the first of two.
    Closed,
}

impl Row {
    /// Reads the cells from the start of a text, and returns the text after the row. `None`: a quote
    /// has no end, or text follows it.
    fn fill<'a>(&mut self, text: &'a str) -> Option<&'a str> {
        let (mut state, mut cell, mut rest) = (State::Start, String::new(), "");
        for (at, next) in text.char_indices() {
            match (state, next) {
                (State::Quoted, '"') => state = State::Closed,
                (State::Quoted, _) => cell.push(next),
                (_, '\n') => {
                    rest = text.get(at + 1..)?;
                    break;
                }
                (State::Start, '"') => state = State::Quoted,
                (State::Closed, '"') => {
                    cell.push('"');
                    state = State::Quoted;
                }
                (_, ',' | ';' | '\t') if *self.separator.get_or_insert(next) == next => {
                    self.push(&cell);
                    cell.clear();
                    state = State::Start;
                }
                (State::Closed, ' ' | '\r') => {}
                (State::Closed, _) => return None,
                _ => {
                    cell.push(next);
                    state = State::Bare;
                }
            }
        }
        self.push(&cell);
        (state != State::Quoted).then_some(rest)
    }

    /// Adds a cell. Quotes behind a blank don't open a cell, but don't belong to it either.
    fn push(&mut self, cell: &str) {
        self.cells.push(cell.trim().trim_matches('"').to_owned());
    }
}
