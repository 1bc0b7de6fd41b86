//! What was said: the file and the environment, merged by key. Nothing is judged here but whether
//! a key exists and holds text, a number or a list.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use toml::{Table, Value};

use super::Report;
use super::env::{self, Meaning};
use super::keys::{self, KEYS, Key, Kind};

const DEFAULT_FILE: &str = "pixtoll.toml";

/// The settings by key, as text.
#[derive(Default)]
pub(super) struct RawConfig {
    values: BTreeMap<&'static str, RawValue>,
    /// `[[tiers]]`, as in the file.
    pub(super) tiers: Option<Vec<Table>>,
    /// `[[networks]]`, as in the file.
    pub(super) networks: Option<Vec<Table>>,
    /// What the cloud says of its keys, by the names of its variables.
    pub(super) cloud: BTreeMap<String, String>,
}

struct RawValue {
    items: Vec<String>,
    /// The environment variable, where it wasn't the file.
    variable: Option<String>,
}

impl RawConfig {
    /// The value of a key that takes one.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.list(key)?.first().map(String::as_str)
    }

    /// The values of a key that takes a list.
    pub(super) fn list(&self, key: &str) -> Option<&[String]> {
        self.values.get(key).map(|value| value.items.as_slice())
    }

    /// Whether the key was set, even to nonsense.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// The environment variable that set the key.
    pub(super) fn variable(&self, key: &str) -> Option<&str> {
        self.values.get(key)?.variable.as_deref()
    }
}

/// The text of the file; empty where no file was asked for and there is none.
pub(super) fn read_file(explicit: Option<&Path>, report: &mut Report) -> Option<String> {
    let path = explicit.unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if explicit.is_none() && error.kind() == io::ErrorKind::NotFound => {
            Some(String::new())
        }
        Err(error) => {
            let message = format!("`{}` can't be read: {error}", path.display());
            report.problem(
                "--config",
                message,
                "name a TOML file that this user may read",
            );
            None
        }
    }
}

/// Merges file and environment. `None` where the file is no TOML: nothing else is worth saying
/// then.
pub(super) fn gather(
    text: &str,
    variables: &BTreeMap<String, String>,
    report: &mut Report,
) -> Option<RawConfig> {
    let mut raw = RawConfig::default();
    add_file(&mut raw, parse(text, report)?, report);
    for (name, value) in variables {
        if let Some(meaning) = env::meaning(name)
            && !value.trim().is_empty()
        {
            add_variable(&mut raw, name, value, meaning, report);
        }
    }
    for key in KEYS.iter().filter(|key| !key.built && raw.has(key.name)) {
        let message = "is accepted, but not built yet: it has no effect";
        report.warn(
            key.name,
            message,
            "keep it for a later version, or remove it",
        );
    }
    read_secret_files(&mut raw, report);
    for (name, key) in env::ALSO {
        if let (Some(value), Some(key)) = (variables.get(name), keys::find(key))
            && !raw.has(key.name)
            && !value.trim().is_empty()
        {
            add(&mut raw, key, split(key, value), Some(name.to_owned()));
        }
    }
    for name in env::OF_THE_CLOUD {
        if let Some(value) = variables.get(name).map(|value| value.trim())
            && !value.is_empty()
        {
            raw.cloud.insert(name.to_owned(), value.to_owned());
        }
    }
    Some(raw)
}

fn parse(text: &str, report: &mut Report) -> Option<Table> {
    match text.parse::<Table>() {
        Ok(table) => Some(table),
        Err(error) => {
            // Not the error's own text: it repeats the line, which may hold a secret.
            let before = error.span().and_then(|span| text.get(..span.start));
            let place = before.map(|before| {
                let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
                format!(" in line {line}")
            });
            let message = format!(
                "is no TOML{}: {}",
                place.unwrap_or_default(),
                error.message()
            );
            report.problem("--config", message, "correct the file there");
            None
        }
    }
}

fn add_file(raw: &mut RawConfig, table: Table, report: &mut Report) {
    for (section, value) in table {
        match (section.as_str(), value) {
            ("tiers", value) => raw.tiers = read_tables("tiers", value, report),
            ("networks", value) => raw.networks = read_tables("networks", value, report),
            ("operator", _) => warn_of_operator("operator", report),
            (section, Value::Table(table)) => {
                for (key, value) in table {
                    add_entry(raw, &format!("{section}.{key}"), value, report);
                }
            }
            (key, _) => refuse_unknown(key, report),
        }
    }
}

fn add_entry(raw: &mut RawConfig, name: &str, value: Value, report: &mut Report) {
    let Some(key) = keys::find(name) else {
        return refuse_unknown(name, report);
    };
    match items(key, value) {
        Some(items) => add(raw, key, items, None),
        None if key.kind == Kind::List => {
            report.problem(
                name,
                "is not a list of texts",
                "write it like [\"a\", \"b\"]",
            );
        }
        None => report.problem(
            name,
            "is not one text or whole number",
            "write it in quotes",
        ),
    }
}

fn add_variable(
    raw: &mut RawConfig,
    name: &str,
    value: &str,
    meaning: Meaning,
    report: &mut Report,
) {
    match meaning {
        Meaning::Sets(key) => add(raw, key, split(key, value), Some(name.to_owned())),
        Meaning::Operator(key) => warn_of_operator(&key, report),
        // A problem, not a warning: somebody believes in a price that isn't in force.
        Meaning::Tables(section) => report.problem(
            section,
            format!("can't be set by the environment ({name})"),
            format!("write [[{section}]] in the file"),
        ),
        Meaning::Unknown(key) => {
            let mend = match keys::nearest(&key) {
                Some(near) => format!("did you mean {}?", env::variable(near)),
                None => "remove it".to_owned(),
            };
            report.warn(name, "is a variable that sets nothing", mend);
        }
    }
}

/// Keeps the items under the key; nothing at all, where the one item is empty.
fn add(raw: &mut RawConfig, key: &Key, items: Vec<String>, variable: Option<String>) {
    let is_unset = key.kind != Kind::List && items.iter().all(String::is_empty);
    if let Some(known) = keys::find(key.name)
        && !is_unset
    {
        raw.values.insert(known.name, RawValue { items, variable });
    }
}

fn items(key: &Key, value: Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(split(key, &text)),
        Value::Integer(number) => Some(vec![number.to_string()]),
        Value::Boolean(value) if key.kind == Kind::Switch => Some(vec![value.to_string()]),
        Value::Array(values) if key.kind == Kind::List => values
            .into_iter()
            .map(|value| value.as_str().map(|text| text.trim().to_owned()))
            .collect(),
        _ => None,
    }
}

fn split(key: &Key, text: &str) -> Vec<String> {
    if key.kind != Kind::List {
        return vec![text.trim().to_owned()];
    }
    let items = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty());
    items.map(str::to_owned).collect()
}

fn read_tables(section: &str, value: Value, report: &mut Report) -> Option<Vec<Table>> {
    let tables = match value {
        Value::Array(values) => values
            .into_iter()
            .map(|value| match value {
                Value::Table(table) => Some(table),
                _ => None,
            })
            .collect(),
        _ => None,
    };
    if tables.is_none() {
        report.problem(
            section,
            "is not a list of tables",
            format!("begin each with [[{section}]]"),
        );
    }
    tables
}

fn read_secret_files(raw: &mut RawConfig, report: &mut Report) {
    for key in KEYS {
        let Kind::SecretFile(secret) = key.kind else {
            continue;
        };
        let Some(path) = raw.text(key.name).map(str::to_owned) else {
            continue;
        };
        if raw.has(secret) {
            let message = format!("is set beside `{secret}`");
            report.problem(key.name, message, "keep one of the two");
            continue;
        }
        if !key.built {
            continue;
        }
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let items = vec![text.trim_end_matches(['\r', '\n']).to_owned()];
                let variable = raw.variable(key.name).map(str::to_owned);
                raw.values.insert(secret, RawValue { items, variable });
            }
            Err(error) => report.problem(
                key.name,
                format!("`{path}` can't be read: {error}"),
                "name a text file that this user may read",
            ),
        }
    }
}

fn warn_of_operator(key: &str, report: &mut Report) {
    let message = "is accepted, but not built yet: the pages that would show it are missing";
    report.warn(key, message, "keep it for a later version, or remove it");
}

fn refuse_unknown(name: &str, report: &mut Report) {
    let mend = match keys::nearest(name).and_then(|near| near.split_once('.')) {
        Some((section, key)) => format!("did you mean `{key}` under [{section}]?"),
        None => "remove it".to_owned(),
    };
    report.problem(name, "is an unknown key", mend);
}
