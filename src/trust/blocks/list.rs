//! Lists of blocks as files: plain lines, and the CSV that ThreatExchange and its tools write.
//!
//! In a file with a head, the names of the columns tell which cell is the value. In a file without,
//! each row holds one value, and may name its type in another cell. A value is a whole cell, or the
//! first word of a line (the second, after a type), and never a word of a description.

mod csv;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::model::block::{Block, Kind, Target};
use crate::system::clock::Timestamp;
use csv::{Row, Rows};

/// The types of ThreatExchange whose values pixtoll can't compare with an upload.
const OTHER_TYPES: [&str; 5] = ["md5", "sha1", "tmk", "video_md5", "vpdq"];
/// The status of ThreatExchange that says that a value is harmless.
const HARMLESS: &str = "NON_MALICIOUS";
/// The names of columns with values, besides those of [`Kind`].
const VALUES: [&str; 4] = ["indicator", "hash", "value", "address"];
/// The names of columns with types.
const TYPES: [&str; 2] = ["type", "kind"];
/// The longest name of a column, in bytes. A hash that can be blocked and a wallet are longer.
const LONGEST_NAME: usize = 40;
/// The length of the shortest value behind a type, in bytes: an MD5 in hexadecimal.
const SHORTEST_VALUE: usize = 32;

/// What a file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// What the file blocks, each once, in order of the file, and until when. `None`: it stays.
    pub targets: Vec<(Target, Option<Timestamp>)>,
    /// Rows with values of types that are not compared, such as MD5, or that are `NON_MALICIOUS`.
    pub skipped: usize,
}

/// Why a file is no list of blocks.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadList {
    /// A line holds nothing that can be blocked.
    #[error(
        "line {line} holds no hash and no wallet: write 64 hex digits or a wallet (0x… with 40) on each line, alone or in CSV; a head of CSV has a column indicator, hash, value, address, sha256, pdq or wallet"
    )]
    Line {
        /// The number of the line, from 1.
        line: usize,
    },
    /// A hash of 64 digits may be SHA-256 or PDQ.
    #[error(
        "line {line} doesn't say whether its hash is SHA-256 or PDQ: name the type of the whole list with --kind sha256 or --kind pdq, or `kind` of the admin API"
    )]
    NoKind {
        /// The number of the line, from 1.
        line: usize,
    },
    /// A row without a head holds several values or types.
    #[error(
        "line {line} holds more than one value or type, and no head tells which one counts: begin the file with a head that names the columns, such as indicator and type"
    )]
    Several {
        /// The number of the line, from 1.
        line: usize,
    },
    /// The quotes or the cells of a row are not those of CSV.
    #[error(
        "line {line} begins no row of CSV: put a cell with a separator, a quote or a line break in quotes, double each quote in it, and write no more cells than the head has"
    )]
    Row {
        /// The number of the line, from 1.
        line: usize,
    },
    /// No line blocks anything.
    #[error(
        "the list holds nothing to block, and its import would lift every block of the source: to lift them on purpose, import a file with nothing but the line {}",
        CSV_HEAD.trim_end()
    )]
    Empty,
}

/// Reads a list. `kind` is the type of rows that name none. Empty lines and comments (`#`) are passed
/// over.
///
/// # Errors
/// [`BadList`], for the first row that is not understood, and for a list that blocks nothing. The
/// head of [`CSV_HEAD`] without rows is an empty list.
pub fn read(text: &str, kind: Option<Kind>) -> Result<Read, BadList> {
    let mut rows = Rows::of(text);
    let mut first = rows.next().transpose()?;
    let cells = first.as_ref().map(|row| row.cells.as_slice());
    let cells = cells.unwrap_or_default();
    let is_export = cells.iter().eq(CSV_HEAD.trim_end().split(','));
    let head = Head::of(cells);
    if head.is_some() {
        rows.separator = first.take().and_then(|row| row.separator);
    }
    let mut read = Read::default();
    let mut known = HashMap::new();
    let mut is_empty = true;
    for row in first.map(Ok).into_iter().chain(rows) {
        let row = row?;
        is_empty = false;
        let (found, expires) = match &head {
            Some(head) => (head.understand(&row, kind), head.expires(&row)),
            None => (guess(&row, kind), None),
        };
        let line = row.line;
        match found {
            Found::Target(target) => match known.entry(target) {
                Entry::Vacant(place) => {
                    place.insert(read.targets.len());
                    read.targets.push((target, expires));
                }
                // Of several rows about a target, the one counts that blocks it longest.
                Entry::Occupied(place) => {
                    if let Some((_, until)) = read.targets.get_mut(*place.get()) {
                        *until = until.zip(expires).map(|(one, other)| one.max(other));
                    }
                }
            },
            Found::Other => read.skipped += 1,
            Found::NoKind => return Err(BadList::NoKind { line }),
            Found::Several => return Err(BadList::Several { line }),
            Found::NoRow => return Err(BadList::Row { line }),
            Found::Nothing => return Err(BadList::Line { line }),
        }
    }
    if read.targets.is_empty() && !(is_export && is_empty) {
        return Err(BadList::Empty);
    }
    Ok(read)
}

/// What a row holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Target(Target),
    /// A value that is not compared, or that is harmless.
    Other,
    /// A hash whose type is not known.
    NoKind,
    /// Several values or types.
    Several,
    /// More cells than the head.
    NoRow,
    Nothing,
}

/// The places of the columns, as the head of a file names them.
#[derive(Debug)]
struct Head {
    value: usize,
    /// The kind that the name of the column with values tells.
    kind: Option<Kind>,
    types: Option<usize>,
    status: Option<usize>,
    expires: Option<usize>,
    /// How many columns there are.
    width: usize,
}

impl Head {
    /// Reads the first row of a file. `None`: it is no head, since no column is known to hold values,
    /// or a cell is no name.
    fn of(cells: &[String]) -> Option<Self> {
        let names: Vec<String> = cells.iter().map(|it| it.to_ascii_lowercase()).collect();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-. ".contains(&byte);
        let is_name = |name: &String| name.len() <= LONGEST_NAME && name.bytes().all(is_plain);
        if !names.iter().all(is_name) {
            return None;
        }
        let place = |known: &[&str]| names.iter().position(|it| known.contains(&it.as_str()));
        let holds_values = |name: &str| VALUES.contains(&name) || Kind::parse(name).is_some();
        let value = names.iter().position(|name| holds_values(name))?;
        Some(Self {
            value,
            kind: names.get(value).and_then(|name| Kind::parse(name)),
            types: place(&TYPES),
            status: place(&["status"]),
            expires: place(&["expires"]),
            width: names.len(),
        })
    }

    fn understand(&self, row: &Row, kind: Option<Kind>) -> Found {
        if row.cells.iter().skip(self.width).any(|it| !it.is_empty()) {
            return Found::NoRow;
        }
        if cell(row, self.status).eq_ignore_ascii_case(HARMLESS) {
            return Found::Other;
        }
        let name = cell(row, self.types);
        let named = match type_of(name) {
            Some(Type::Other) => return Found::Other,
            Some(Type::Of(kind)) => Some(kind),
            None if name.is_empty() => self.kind,
            None => return Found::Nothing,
        };
        value_of(cell(row, Some(self.value)), named, kind)
    }

    /// When the block of a row ends, if it has a time as an export writes it.
    fn expires(&self, row: &Row) -> Option<Timestamp> {
        Timestamp::parse(cell(row, self.expires))
    }
}

/// The cell at a place, or an empty one.
fn cell(row: &Row, place: Option<usize>) -> &str {
    place
        .and_then(|it| row.cells.get(it))
        .map_or("", String::as_str)
}

/// Reads a row of a file without a head.
fn guess(row: &Row, kind: Option<Kind>) -> Found {
    let cells: Vec<&str> = row.cells.iter().map(String::as_str).collect();
    let whole = understand(&cells, kind);
    let first = cells.first().filter(|_| !row.is_quoted);
    let leading = first.map_or(Found::Nothing, |cell| lead(cell, kind));
    let is_typed = cells.iter().any(|cell| type_of(cell).is_some());
    match leading {
        Found::Nothing => whole,
        _ if whole == leading || (whole == Found::Nothing && !is_typed) => leading,
        Found::Other => whole,
        _ => Found::Several,
    }
}

/// Reads the words with which a line begins: `VALUE …`, `TYPE VALUE …` or `VALUE TYPE`.
fn lead(cell: &str, kind: Option<Kind>) -> Found {
    let mut words: Vec<&str> = cell.split_whitespace().collect();
    let count = match words.as_slice() {
        [name, value, ..] if type_of(name).is_some() && value.len() >= SHORTEST_VALUE => 2,
        [name, _, ..] if type_of(name).is_some() => 0,
        [_, name] if type_of(name).is_some() => 2,
        [_, _, ..] => 1,
        // A cell of one word is read as a whole.
        _ => 0,
    };
    words.truncate(count);
    understand(&words, kind)
}

/// Finds the only value among cells, of the only type that they name.
fn understand(cells: &[&str], kind: Option<Kind>) -> Found {
    if cells.iter().any(|it| it.eq_ignore_ascii_case(HARMLESS)) {
        return Found::Other;
    }
    let mut types = cells.iter().filter_map(|cell| type_of(cell));
    let first = types.next();
    if types.any(|it| Some(it) != first) {
        return Found::Several;
    }
    let named = match first {
        Some(Type::Other) => return Found::Other,
        Some(Type::Of(kind)) => Some(kind),
        None => None,
    };
    let mut found = Found::Nothing;
    for cell in cells {
        let value = value_of(cell, named, kind);
        if value == Found::Nothing || value == found {
            continue;
        }
        if found != Found::Nothing {
            return Found::Several;
        }
        found = value;
    }
    found
}

/// Reads a cell as a value of the type that its row names. A hash of a row that names none has the
/// type `kind`.
fn value_of(cell: &str, named: Option<Kind>, kind: Option<Kind>) -> Found {
    // A wallet, or `sha256:HEX`, as `pixtoll admin blocks` prints it.
    if let Ok(target) = cell.parse::<Target>() {
        let is_named = named.is_none_or(|kind| kind == target.kind());
        return if is_named {
            Found::Target(target)
        } else {
            Found::Nothing
        };
    }
    if cell.len() != 64 || !cell.bytes().all(|it| it.is_ascii_hexdigit()) {
        return Found::Nothing;
    }
    let Some(kind) = named.or(kind) else {
        return Found::NoKind;
    };
    Target::read(kind, cell).map_or(Found::Nothing, Found::Target)
}

/// A type that a cell names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Of(Kind),
    /// One that is not compared.
    Other,
}

fn type_of(cell: &str) -> Option<Type> {
    let name = cell.to_ascii_lowercase();
    let name = name.strip_prefix("hash_").unwrap_or(&name);
    if OTHER_TYPES.contains(&name) {
        return Some(Type::Other);
    }
    Kind::parse(name).map(Type::Of)
}

/// The head of the CSV that [`csv_row`] makes.
pub const CSV_HEAD: &str = "type,indicator,source,reason,created,expires\n";

/// A block as a row of CSV, with the names of types that ThreatExchange uses.
pub fn csv_row(block: &Block) -> String {
    let name = match block.target.kind() {
        Kind::Sha256 => "HASH_SHA256",
        Kind::Pdq => "HASH_PDQ",
        Kind::Wallet => "wallet",
    };
    let expires = block.expires_at.as_ref().map(ToString::to_string);
    format!(
        "{name},{},{},{},{},{}\n",
        block.target.value(),
        block.source,
        quoted(&block.reason),
        block.created_at,
        expires.unwrap_or_default(),
    )
}

/// A cell in quotes. A spreadsheet takes no cell for a formula.
fn quoted(cell: &str) -> String {
    let guard = if cell.starts_with(['=', '+', '-', '@']) {
        "'"
    } else {
        ""
    };
    format!("\"{guard}{}\"", cell.replace('"', "\"\""))
}

#[cfg(test)]
mod tests;
