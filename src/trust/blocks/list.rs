//! Lists of blocks as files: plain lines, and the CSV that ThreatExchange and its tools write.
//!
//! A file is read line by line. A line with a hash and the name of its type somewhere among its
//! cells is understood, whatever the order of its columns: `HASH_PDQ`, `pdq`, `HASH_SHA256`,
//! `sha256`, `wallet`. A line that names no type has that of the whole list.

use std::collections::HashSet;

use crate::model::block::{Block, Kind, Target};

/// The types of ThreatExchange whose values pixtoll can't compare with an upload.
const OTHER_TYPES: [&str; 5] = ["md5", "sha1", "tmk", "video_md5", "vpdq"];

/// What a file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// What the file blocks, each once, in order of the file.
    pub targets: Vec<Target>,
    /// Lines with values of types that are not compared, such as MD5.
    pub skipped: usize,
}

/// Why a file is no list of blocks.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadList {
    /// A line holds nothing that can be blocked.
    #[error(
        "line {line} holds no hash and no wallet: write 64 hex digits or a wallet (0x… with 40) on each line, alone or in CSV"
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
}

/// Reads a list. `kind` is the type of lines that name none. Empty lines, comments (`#`) and a
/// first line without values, the head of a CSV file, are passed over.
///
/// # Errors
/// [`BadList`], for the first line that is not understood.
pub fn read(text: &str, kind: Option<Kind>) -> Result<Read, BadList> {
    let mut read = Read::default();
    let mut known = HashSet::new();
    let mut is_first = true;
    for (line, content) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let is_head = std::mem::take(&mut is_first);
        match understand(content, kind) {
            Line::Target(target) => {
                if known.insert(target) {
                    read.targets.push(target);
                }
            }
            Line::Other => read.skipped += 1,
            Line::NoKind => return Err(BadList::NoKind { line }),
            Line::Nothing if is_head => {}
            Line::Nothing => return Err(BadList::Line { line }),
        }
    }
    Ok(read)
}

/// What a line holds.
enum Line {
    Target(Target),
    /// A value of a type that is not compared.
    Other,
    /// A hash whose type is not known.
    NoKind,
    Nothing,
}

fn understand(line: &str, kind: Option<Kind>) -> Line {
    let cells = || {
        let cells = line.split([',', ';', '\t', ' ']);
        let bare = cells.map(|cell| cell.trim().trim_matches('"'));
        bare.filter(|cell| !cell.is_empty())
    };
    // `sha256:HEX`, as `pixtoll admin blocks` prints it.
    if let Some(target) = cells().find_map(|cell| cell.contains(':').then(|| cell.parse().ok())?) {
        return Line::Target(target);
    }
    // The first type counts: a later cell may be a word of a description.
    let named = match cells().find_map(type_of) {
        Some(Type::Other) => return Line::Other,
        Some(Type::Of(kind)) => Some(kind),
        None => None,
    };
    if let Some(wallet) = cells().find_map(|cell| Target::read(Kind::Wallet, cell)) {
        return Line::Target(wallet);
    }
    let is_hash = |cell: &&str| cell.len() == 64 && cell.bytes().all(|it| it.is_ascii_hexdigit());
    let Some(hash) = cells().find(is_hash) else {
        return Line::Nothing;
    };
    let Some(kind) = named.or(kind) else {
        return Line::NoKind;
    };
    Target::read(kind, hash).map_or(Line::Nothing, Line::Target)
}

/// A type that a cell names.
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
mod tests {
    use super::*;
    use crate::system::clock::Timestamp;

    const HASH: &str = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22";
    const WALLET: &str = "0x52908400098527886E0F7030069857D2E4169EE7";

    fn one(text: &str, kind: Option<Kind>) -> String {
        let read = read(text, kind).unwrap();
        assert_eq!(read.targets.len(), 1, "{text}");
        read.targets[0].to_string()
    }

    #[test]
    fn the_formats_in_use_are_understood() {
        let pdq = format!("pdq:{HASH}");
        assert_eq!(one(HASH, Some(Kind::Pdq)), pdq);
        assert_eq!(
            one(&HASH.to_uppercase(), Some(Kind::Sha256)),
            format!("sha256:{HASH}")
        );
        // ThreatExchange: the fields of an indicator, and the index of the PDQ tools.
        let threat = format!("id,indicator,type,status\n30580,{HASH},HASH_PDQ,MALICIOUS\n");
        assert_eq!(one(&threat, None), pdq);
        assert_eq!(
            one(&format!("{HASH},100,picture.jpg"), Some(Kind::Pdq)),
            pdq
        );
        // `threatexchange dataset --print-records`.
        assert_eq!(one(&format!("pdq {HASH} - (collab) tag"), None), pdq);
        assert_eq!(one(&pdq, None), pdq);
        assert_eq!(
            one(&format!("\u{feff}\"HASH_PDQ\";\"{HASH}\"\r\n"), None),
            pdq
        );
        assert_eq!(
            one(&format!("# mine\n\n{WALLET}\n{WALLET}"), None),
            format!("wallet:{WALLET}")
        );
    }

    #[test]
    fn other_types_are_counted_and_other_lines_refused() {
        let text =
            format!("type,hash\nHASH_MD5,acbd18db4cc2f85cedef654fccc4a4d8\nHASH_PDQ,{HASH}\n");
        let list = read(&text, None).unwrap();
        assert_eq!((list.targets.len(), list.skipped), (1, 1));
        assert_eq!(read(HASH, None), Err(BadList::NoKind { line: 1 }));
        let broken = format!("{HASH}\n{}\n", &HASH[1..]);
        assert_eq!(
            read(&broken, Some(Kind::Pdq)),
            Err(BadList::Line { line: 2 })
        );
    }

    #[test]
    fn an_export_is_read_back() {
        let block = Block {
            target: format!("pdq:{HASH}").parse().unwrap(),
            source: "ncmec".to_owned(),
            reason: "=SUM(1) \"quoted\", sha256".to_owned(),
            created_at: Timestamp::from_seconds(0),
            expires_at: None,
        };
        let row = csv_row(&block);
        assert_eq!(
            row,
            format!(
                "HASH_PDQ,{HASH},ncmec,\"'=SUM(1) \"\"quoted\"\", sha256\",1970-01-01T00:00:00.000Z,\n"
            )
        );
        assert_eq!(
            one(&format!("{CSV_HEAD}{row}"), None),
            format!("pdq:{HASH}")
        );
    }
}
