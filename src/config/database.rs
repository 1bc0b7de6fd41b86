//! `database.*`: where the records are, and how many connections to PostgreSQL a server holds for how long.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::DatabaseUrl;
use super::check::Checker;
use super::show::Lines;
use super::values::{self, Complaint};

pub(super) const DEFAULT_DATABASE: &str = "data/pixtoll.db";
/// A listener, a job and a request at the same time need one each.
const FEWEST_CONNECTIONS: u64 = 3;
const MOST_CONNECTIONS: u64 = 1000;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// What `sqlx` reads of a PostgreSQL URL. Of another parameter it would log the value.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// How a process uses its connections to PostgreSQL. SQLite, which has one writer, has none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// How many it opens at most.
    pub max_connections: u32,
    /// How long a request waits for one, and a start for the server.
    pub acquire_timeout: Duration,
    /// How long one statement may take; `None`: as long as it likes.
    pub statement_timeout: Option<Duration>,
    /// An unused one is closed after so long.
    pub idle_timeout: Duration,
    /// Any is closed after so long, so that a server behind another address is found.
    pub max_lifetime: Duration,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            max_connections: 16,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Some(Duration::from_secs(30)),
            idle_timeout: Duration::from_mins(10),
            max_lifetime: Duration::from_mins(30),
        }
    }
}

impl Connections {
    /// Those of a command beside a server: few, and a statement may take as long as the person waits.
    pub fn of_a_command() -> Self {
        Self {
            max_connections: 4,
            statement_timeout: None,
            ..Self::default()
        }
    }
}

pub(super) fn check(checker: &mut Checker<'_>) -> (DatabaseUrl, Connections) {
    let url = checker
        .value("database.url", |text| {
            values::database_url(text).and_then(refuse_unknown_parameters)
        })
        .unwrap_or_else(|| DatabaseUrl::Sqlite(PathBuf::from(DEFAULT_DATABASE)));
    let default = Connections::default();
    let within = |least, most| move |text: &str| values::duration_within(text, least, most);
    let max_connections = checker.value("database.max_connections", connections);
    let acquire_timeout = checker.value("database.acquire_timeout", within(SECOND, HOUR));
    let statement_timeout = checker.value("database.statement_timeout", within(SECOND, HOUR));
    let idle_timeout = checker.value("database.idle_timeout", within(SECOND, DAY));
    let max_lifetime = checker.value("database.max_lifetime", within(SECOND, DAY));
    if matches!(url, DatabaseUrl::Sqlite(_)) {
        warn_without_postgres(checker);
    }
    let connections = Connections {
        max_connections: max_connections.unwrap_or(default.max_connections),
        acquire_timeout: acquire_timeout.unwrap_or(default.acquire_timeout),
        statement_timeout: statement_timeout.or(default.statement_timeout),
        idle_timeout: idle_timeout.unwrap_or(default.idle_timeout),
        max_lifetime: max_lifetime.unwrap_or(default.max_lifetime),
    };
    (url, connections)
}

fn connections(text: &str) -> Result<u32, Complaint> {
    values::count(text)
        .ok()
        .filter(|count| (FEWEST_CONNECTIONS..=MOST_CONNECTIONS).contains(count))
        .and_then(|count| u32::try_from(count).ok())
        .ok_or_else(|| {
            Complaint::new(
                format!("`{text}` is no number of connections"),
                format!(
                    "write a number from {FEWEST_CONNECTIONS} to {MOST_CONNECTIONS}; all replicas together \
                     stay below the server's max_connections"
                ),
            )
        })
}

/// A mistyped `password` would be logged, and a mistyped `sslmode` would leave the connection without TLS.
pub(super) fn refuse_unknown_parameters(url: DatabaseUrl) -> Result<DatabaseUrl, Complaint> {
    let DatabaseUrl::Postgres(text) = &url else {
        return Ok(url);
    };
    let parsed =
        Url::parse(text).map_err(|_| Complaint::new("is no PostgreSQL address", "correct it"))?;
    let unknown = parsed.query_pairs().find(|(name, _)| {
        let is_option = name.starts_with("options[") && name.ends_with(']');
        !PARAMETERS.contains(&&**name) && !is_option
    });
    match unknown {
        None => Ok(url),
        Some((name, _)) => Err(Complaint::new(
            format!("has the unknown parameter `{name}`"),
            format!("remove it; there are {}", PARAMETERS.join(", ")),
        )),
    }
}

fn warn_without_postgres(checker: &mut Checker<'_>) {
    for key in [
        "database.max_connections",
        "database.acquire_timeout",
        "database.statement_timeout",
        "database.idle_timeout",
        "database.max_lifetime",
    ] {
        if checker.raw.has(key) {
            checker.warn(
                key,
                "has no effect on SQLite",
                "remove it, or name a PostgreSQL server in database.url",
            );
        }
    }
}

pub(super) fn show(lines: &mut Lines, connections: &Connections) {
    lines.number("max_connections", connections.max_connections.into());
    for (key, time) in [
        ("acquire_timeout", Some(connections.acquire_timeout)),
        ("statement_timeout", connections.statement_timeout),
        ("idle_timeout", Some(connections.idle_timeout)),
        ("max_lifetime", Some(connections.max_lifetime)),
    ] {
        if let Some(time) = time {
            lines.text(key, &humantime::format_duration(time));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Examined, Report, Sources, examine_text, show};
    use super::*;

    const POSTGRES: &str =
        "database.url = 'postgres://pixtoll:GEHEIM@db/pixtoll?sslmode=verify-full'\n";

    fn of(text: &str) -> Examined {
        let env = BTreeMap::from([("PIXTOLL_SECRETS__KEY".to_owned(), "42".repeat(32))]);
        let sources = Sources {
            env,
            ..Sources::default()
        };
        examine_text(text, &sources, Report::default())
    }

    #[test]
    fn connections_have_defaults_and_bounds() {
        let config = of(POSTGRES).config.unwrap();
        assert_eq!(config.connections, Connections::default());
        let set = of(&format!(
            "{POSTGRES}database.max_connections = 40\ndatabase.statement_timeout = '5s'\n\
             database.acquire_timeout = '3s'\ndatabase.idle_timeout = '1m'\ndatabase.max_lifetime = '1h'"
        ));
        let config = set.config.unwrap();
        let expected = Connections {
            max_connections: 40,
            acquire_timeout: Duration::from_secs(3),
            statement_timeout: Some(Duration::from_secs(5)),
            idle_timeout: Duration::from_mins(1),
            max_lifetime: HOUR,
        };
        assert_eq!(config.connections, expected);
        let shown = show(&config);
        assert!(
            shown.contains("max_connections = 40") && shown.contains("statement_timeout = \"5s\"")
        );
        for (key, value) in [
            ("max_connections", "2"),
            ("max_connections", "1001"),
            ("statement_timeout", "'0s'"),
            ("statement_timeout", "'2h'"),
            ("acquire_timeout", "'900ms'"),
            ("max_lifetime", "'2days'"),
        ] {
            let refused = of(&format!("{POSTGRES}database.{key} = {value}"));
            assert_eq!(
                refused.problems.len(),
                1,
                "{key} {value}: {:?}",
                refused.problems
            );
        }
    }

    #[test]
    fn on_sqlite_they_are_of_no_use_and_it_says_so() {
        let examined = of("database.max_connections = 40");
        assert_eq!(examined.problems, []);
        assert!(
            examined
                .warnings
                .iter()
                .any(|warning| warning.key == "database.max_connections")
        );
    }

    #[test]
    fn a_password_is_shown_nowhere() {
        let mistyped = POSTGRES.replace("sslmode", "pasword");
        for text in [
            POSTGRES,
            &mistyped,
            &POSTGRES.replace("@db", "@d b"),
            &POSTGRES.replace("postgres:", "mysql:"),
        ] {
            let examined = of(text);
            let mut said = format!("{examined:?}");
            if let Some(config) = &examined.config {
                said.push_str(&show(config));
            }
            assert!(!said.contains("GEHEIM"), "{said}");
        }
        let refused = of(&mistyped);
        assert!(
            refused.problems[0]
                .message
                .contains("unknown parameter `pasword`")
        );
    }
}
