//! What the file and the environment set, merged by key; and the [`Reader`], which parses it as the
//! descriptions say. Everything wrong is reported, and nothing stops at the first problem.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use toml::{Table, Value};

use super::describe::{self, Info, Key, Secrecy};
use super::{Report, hosts};

pub(super) const DEFAULT_FILE: &str = "pixtoll.toml";
/// The prefix of every variable that sets a key.
pub(super) const PREFIX: &str = "PIXTOLL_";
/// The sections that are lists of tables. Only the file can set them.
const TABLES: [&str; 2] = ["tiers", "networks"];
/// Variables of the command line, of the client and of the build, which are no settings of the server.
/// `cargo run` passes on what the build script sets.
const OF_COMMANDS: [&str; 6] = [
    "PIXTOLL_LOG",
    "PIXTOLL_LOG_FORMAT",
    "PIXTOLL_SERVER",
    "PIXTOLL_VERSION",
    "PIXTOLL_WALLET",
    "PIXTOLL_WALLET_KEY",
];
/// The variables by which a cloud tells its machines where to get credentials that change.
const OF_THE_CLOUD: [&str; 8] = [
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_METADATA_ENDPOINT",
];

/// The environment of this process. What is no UTF-8 comes with replacement characters.
#[expect(
    clippy::disallowed_methods,
    reason = "the only reader of the environment"
)]
pub fn process_env() -> BTreeMap<String, String> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    // `vars` would panic at the first variable that is no UTF-8.
    let variables = std::env::vars_os();
    variables
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

/// What was set, by key.
#[derive(Default)]
pub(super) struct Given {
    values: BTreeMap<String, Items>,
    /// `[[tiers]]` and `[[networks]]`, as in the file.
    pub(super) tables: BTreeMap<&'static str, Vec<Table>>,
    /// What the cloud says of its credentials, by the names of its variables.
    pub(super) cloud: BTreeMap<String, String>,
}

/// The values of a key; without any where they couldn't be read, which was reported.
#[derive(Default)]
struct Items {
    texts: Vec<String>,
    /// The variable that set it, unless it was the file.
    variable: Option<String>,
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

impl Given {
    /// Merges file and environment. `None` where the file is not TOML.
    pub(super) fn gather(
        text: &str,
        variables: &BTreeMap<String, String>,
        report: &mut Report,
    ) -> Option<Self> {
        let mut given = Self::default();
        given.add_file(parse(text, report)?, report);
        for name in variables.keys() {
            if let Some(value) = set(variables, name) {
                given.add_variable(name, value, report);
            }
        }
        for info in describe::all().filter(|info| info.secrecy != Secrecy::Open) {
            given.read_secret_file(info.name, report);
        }
        for info in describe::all() {
            let mut also = info.also.iter().copied();
            if let Some((name, value)) = also.find_map(|name| Some((name, set(variables, name)?)))
                && !given.values.contains_key(info.name)
            {
                given.add(info.name, info, split(info, value), Some(name.to_owned()));
            }
        }
        let cloud = OF_THE_CLOUD.into_iter();
        let cloud = cloud.filter_map(|name| Some((name, set(variables, name)?)));
        given.cloud = cloud
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Some(given)
    }

    fn add_file(&mut self, table: Table, report: &mut Report) {
        for (section, value) in table {
            if let Some(section) = TABLES.into_iter().find(|known| *known == section) {
                self.add_tables(section, value, report);
                continue;
            }
            match value {
                Value::Table(table) => {
                    for (key, value) in table {
                        let name = format!("{section}.{key}");
                        self.add_entry(&name, value, report);
                    }
                }
                _ => refuse_unknown(&section, report),
            }
        }
    }

    fn add_tables(&mut self, section: &'static str, value: Value, report: &mut Report) {
        if let Ok(tables) = value.try_into::<Vec<Table>>() {
            self.tables.insert(section, tables);
        } else {
            let fix = format!("begin each table with [[{section}]]");
            report.problem(section, "is not a list of tables", fix);
        }
    }

    fn add_entry(&mut self, name: &str, value: Value, report: &mut Report) {
        let Some(info) = describe::find(name) else {
            return refuse_unknown(name, report);
        };
        match texts(info, value) {
            Ok(texts) => self.add(name, info, texts, None),
            Err((message, fix)) => report.problem(name, message, fix),
        }
    }

    fn add_variable(&mut self, name: &str, value: &str, report: &mut Report) {
        let rest = name.strip_prefix(PREFIX);
        let Some(rest) = rest.filter(|_| !OF_COMMANDS.contains(&name)) else {
            return;
        };
        let key = rest.replacen("__", ".", 1).to_ascii_lowercase();
        // Only in capitals, so that `PIXTOLL_http__listen` isn't a second name.
        let known = describe::find(&key).filter(|_| describe::variable(&key) == name);
        let section = TABLES.into_iter().find(|name| key.starts_with(name));
        if let Some(info) = known {
            self.add(&key, info, split(info, value), Some(name.to_owned()));
        } else if let Some(section) = section {
            // A problem and no warning: somebody would believe in a price that isn't in force.
            let message = format!("can't be set by the environment ({name})");
            report.problem(section, message, format!("write [[{section}]] in the file"));
        } else {
            let fix = match describe::nearest(&key) {
                Some(near) => format!("did you mean {}?", describe::variable(&near)),
                None => "remove it".to_owned(),
            };
            report.warn(name, "is a variable that sets nothing", fix);
        }
    }

    /// Keeps the values, unless an empty text means that there is none.
    fn add(&mut self, name: &str, info: &Info, texts: Vec<String>, variable: Option<String>) {
        if info.is_list || texts.iter().any(|text| !text.is_empty()) {
            self.values
                .insert(name.to_owned(), Items { texts, variable });
        }
    }

    /// Takes the value of a secret from the file that the key with `_file` names.
    fn read_secret_file(&mut self, name: &str, report: &mut Report) {
        let key = format!("{name}_file");
        let Some(items) = self.values.remove(&key) else {
            return;
        };
        if self.values.contains_key(name) {
            let message = format!("is set beside `{name}`");
            return report.problem(&key, message, "remove one of the two");
        }
        let path = items.texts.concat();
        let texts = match std::fs::read_to_string(&path) {
            Ok(text) => vec![text.trim_end_matches(['\r', '\n']).to_owned()],
            Err(error) => {
                let message = format!("`{path}` can't be read: {error}");
                report.problem(&key, message, "name a text file that this user may read");
                Vec::new()
            }
        };
        self.values
            .insert(name.to_owned(), Items { texts, ..items });
    }
}

/// The value of a variable; empty is unset.
fn set<'a>(variables: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    let value = variables.get(name)?.trim();
    (!value.is_empty()).then_some(value)
}

fn parse(text: &str, report: &mut Report) -> Option<Table> {
    let error = text.parse::<Table>();
    let Err(error) = error else {
        return error.ok();
    };
    // Not the error's own text: it repeats the line, which may hold a secret.
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map(|text| text.bytes().filter(|byte| *byte == b'\n').count() + 1);
    let place = line
        .map(|line| format!(" in line {line}"))
        .unwrap_or_default();
    let message = format!("is not valid TOML{place}: {}", error.message());
    report.problem("--config", message, "correct the file there");
    None
}

/// The texts of a value, or what is wrong with it and what to write.
fn texts(info: &Info, value: Value) -> Result<Vec<String>, (&'static str, &'static str)> {
    match value {
        Value::String(text) => Ok(split(info, &text)),
        // A price is decimal text, so that nobody expects the arithmetic of numbers.
        Value::Integer(number) if info.kind != "price" => Ok(vec![number.to_string()]),
        Value::Boolean(value) => Ok(vec![value.to_string()]),
        Value::Array(values) if info.is_list => {
            let texts = values.iter().map(|value| match value {
                Value::String(text) => Some(text.trim().to_owned()),
                Value::Integer(number) => Some(number.to_string()),
                _ => None,
            });
            let texts = texts.collect::<Option<Vec<_>>>();
            texts.ok_or(("is not a list of texts", "write it like [\"a\", \"b\"]"))
        }
        _ if info.is_list => Err(("is not a list of texts", "write it like [\"a\", \"b\"]")),
        _ => Err((
            "is not one text or whole number",
            "write one value in quotes",
        )),
    }
}

fn split(info: &Info, text: &str) -> Vec<String> {
    if !info.is_list {
        return vec![text.trim().to_owned()];
    }
    let items = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty());
    items.map(str::to_owned).collect()
}

fn refuse_unknown(name: &str, report: &mut Report) {
    let near = describe::nearest(name);
    let fix = match near.as_deref().and_then(|near| near.split_once('.')) {
        Some((section, key)) => format!("did you mean `{key}` under [{section}]?"),
        None => "remove it".to_owned(),
    };
    report.problem(name, "is an unknown key", fix);
}

/// Parses what was set.
pub(super) struct Reader<'a> {
    pub(super) given: &'a Given,
    pub(super) report: &'a mut Report,
    /// The label of a table in a list: its name, or `#2` where it has none.
    pub(super) label: Option<String>,
    /// The lines of `pixtoll config check`, by key.
    pub(super) lines: BTreeMap<&'static str, String>,
}

impl<'a> Reader<'a> {
    /// Reads the keys of all sections.
    pub(super) fn new(given: &'a Given, report: &'a mut Report) -> Self {
        Self {
            given,
            report,
            label: None,
            lines: BTreeMap::new(),
        }
    }

    /// What `read` makes where nothing is set.
    pub(super) fn defaults<T>(read: impl FnOnce(&mut Reader<'_>) -> T) -> T {
        read(&mut Reader::new(&Given::default(), &mut Report::default()))
    }

    /// Calls `read` with a reader of each table of a list, and reports fields that aren't among the
    /// `keys`. The first key labels a table.
    pub(super) fn for_each_table(
        &mut self,
        section: &'static str,
        keys: &[&'static [Info]],
        mut read: impl FnMut(&mut Reader<'_>),
    ) {
        let known = || keys.iter().copied().flatten();
        let all = self.given;
        for (index, table) in all.tables.get(section).into_iter().flatten().enumerate() {
            let name = known()
                .next()
                .and_then(|info| table.get(info.field())?.as_str());
            let name = name.filter(|name| !name.is_empty());
            let label = name.map_or_else(|| format!("#{}", index + 1), str::to_owned);
            let mut given = Given::default();
            for (field, value) in table {
                let key = format!("{section}.{label}.{field}");
                let Some(info) = known().find(|info| info.field() == field) else {
                    let fields = known().map(|info| info.field().to_owned());
                    let fix = match describe::nearest_of(field, fields.clone()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!(
                            "remove it; the fields are {}",
                            fields.collect::<Vec<_>>().join(", ")
                        ),
                    };
                    self.report.problem(&key, "is an unknown key", fix);
                    continue;
                };
                let texts = texts(info, value.clone()).unwrap_or_else(|(message, fix)| {
                    self.report.problem(&key, message, fix);
                    Vec::new()
                });
                let items = Items {
                    texts,
                    ..Items::default()
                };
                given.values.insert(info.name.to_owned(), items);
            }
            read(&mut Reader {
                given: &given,
                report: self.report,
                label: Some(label),
                lines: BTreeMap::new(),
            });
        }
    }

    /// Whether the key was set, even to a value that was refused.
    pub(super) fn has(&self, name: &str) -> bool {
        self.given.values.contains_key(name)
    }

    /// The values that were set.
    pub(super) fn texts(&self, name: &str) -> Option<&'a [String]> {
        let items = self.given.values.get(name)?;
        Some(&items.texts)
    }

    /// The value of a key, or its default.
    pub(super) fn field<T, F: Field<T>>(&mut self, key: &Key<T>, name: &'static str) -> F {
        let info = Info { name, ..key.info };
        if let Some(example) = info.required.filter(|_| !self.has(name)) {
            let fix = format!("write {} = {example}", info.field());
            self.problem(name, "is missing", fix);
        }
        let default = info.default.map(|text| split(&info, text));
        if let Some(texts) = self.texts(name).or(default.as_deref()) {
            self.lines.insert(name, line(&info, texts));
        }
        F::read(self, key, name)
    }

    /// The parsed value. A text that is refused is reported.
    fn parsed<T>(&mut self, key: &Key<T>, name: &'static str, text: &str) -> Option<T> {
        let parse = key.kind.parse;
        let problem = match (parse(text), key.info.bounds) {
            (Ok(value), None) => return Some(value),
            (Ok(value), Some((least, most))) => match (parse(least), parse(most), key.less) {
                (Ok(least), Ok(most), Some(less))
                    if less(&value, &least) || less(&most, &value) =>
                {
                    format!("`{text}` is out of bounds")
                }
                _ => return Some(value),
            },
            (Err(problem), _) => problem,
        };
        let fix = match key.info.bounds {
            Some((least, most)) => format!("write a {} from {least} to {most}", key.kind.name),
            None => key.info.fix.to_owned(),
        };
        self.problem(name, problem, fix);
        None
    }

    /// Reports what keeps the server from starting.
    pub(super) fn problem(
        &mut self,
        name: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let (key, message) = self.located(name, message.into());
        self.report.problem(&key, message, fix);
    }

    /// Reports what the operator should know.
    pub(super) fn warn(&mut self, name: &str, message: impl Into<String>, fix: impl Into<String>) {
        let (key, message) = self.located(name, message.into());
        self.report.warn(&key, message, fix);
    }

    /// The key with the label of its table, and the message with the variable that set the value.
    fn located(&self, name: &str, message: String) -> (String, String) {
        let key = match (&self.label, name.split_once('.')) {
            (Some(label), Some((section, field))) => format!("{section}.{label}.{field}"),
            _ => name.to_owned(),
        };
        let items = self.given.values.get(name);
        let variable = items.and_then(|items| items.variable.as_ref());
        let origin = variable.map(|name| format!(" (from {name})"));
        (key, message + &origin.unwrap_or_default())
    }

    /// Shows this value as the one in force.
    pub(super) fn shows(&mut self, name: &'static str, text: &str) {
        if let Some(info) = describe::find(name) {
            self.lines.insert(name, line(info, &[text.to_owned()]));
        }
    }

    /// Shows a comment instead of a value.
    pub(super) fn notes(&mut self, name: &'static str, comment: &str) {
        let field = name.rsplit('.').next().unwrap_or(name);
        self.lines.insert(name, format!("# {field}: {comment}"));
    }

    /// Doesn't show keys that have no effect.
    pub(super) fn hides(&mut self, keys: &[Info]) {
        self.lines
            .retain(|name, _| keys.iter().all(|info| info.name != *name));
    }
}

/// A line of TOML without what is secret.
fn line(info: &Info, texts: &[String]) -> String {
    let quoted = |text: &String| Value::from(text.as_str()).to_string();
    let value = match (info.secrecy, texts) {
        (Secrecy::Secret, _) => "\"[secret]\"".to_owned(),
        (Secrecy::Url, [text]) if text.starts_with("sqlite:") => quoted(text),
        (Secrecy::Url, _) => quoted(&hosts::redacted(&texts.concat())),
        (Secrecy::Open, [text]) if !info.is_list => {
            let number = text
                .parse::<i64>()
                .is_ok_and(|number| number.to_string() == *text);
            // A price is read as text only.
            let number = number && info.kind != "price";
            if number || text == "true" || text == "false" {
                text.clone()
            } else {
                quoted(text)
            }
        }
        (Secrecy::Open, _) => {
            let texts: Vec<String> = texts.iter().map(quoted).collect();
            format!("[{}]", texts.join(", "))
        }
    };
    format!("{} = {value}", info.field())
}

/// Reports a problem if a rule is broken: `refuse!(reader, key, is_broken, "message" => "fix")`.
macro_rules! refuse {
    ($reader:expr, $key:expr, $broken:expr, $message:literal => $fix:literal) => {
        if $broken {
            let (message, fix) = (
                format_args!($message).to_string(),
                format_args!($fix).to_string(),
            );
            $reader.problem($key, message, fix);
        }
    };
}
pub(super) use refuse;

/// The type of a struct's field that holds values of type `T`.
pub(super) trait Field<T>: Sized {
    /// The value, from what was set or from the default.
    fn read(reader: &mut Reader<'_>, key: &Key<T>, name: &'static str) -> Self;
}

impl<T> Field<T> for Option<T> {
    fn read(reader: &mut Reader<'_>, key: &Key<T>, name: &'static str) -> Self {
        let text = reader.texts(name).and_then(|texts| texts.first());
        let value = text.and_then(|text| reader.parsed(key, name, text));
        value.or_else(|| (key.kind.parse)(key.info.default?).ok())
    }
}

impl<T> Field<T> for T {
    #[expect(clippy::expect_used, reason = "a test reads all defaults")]
    fn read(reader: &mut Reader<'_>, key: &Key<T>, name: &'static str) -> Self {
        let value: Option<T> = Field::read(reader, key, name);
        value.expect("the key has a default of its type")
    }
}

impl<T> Field<T> for Option<Vec<T>> {
    /// `none` alone is an empty list, which an environment variable could not express otherwise.
    fn read(reader: &mut Reader<'_>, key: &Key<T>, name: &'static str) -> Self {
        let texts = reader.texts(name)?;
        let texts = texts
            .iter()
            .filter(|text| texts.len() > 1 || *text != "none");
        Some(
            texts
                .filter_map(|text| reader.parsed(key, name, text))
                .collect(),
        )
    }
}

impl<T> Field<T> for Vec<T> {
    fn read(reader: &mut Reader<'_>, key: &Key<T>, name: &'static str) -> Self {
        let values: Option<Self> = Field::read(reader, key, name);
        values.unwrap_or_else(|| {
            let default = split(&key.info, key.info.default.unwrap_or_default());
            let parsed = default.iter().map(|text| (key.kind.parse)(text));
            parsed.filter_map(Result::ok).collect()
        })
    }
}
