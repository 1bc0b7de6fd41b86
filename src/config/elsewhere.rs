//! The place that `pixtoll migrate` moves a database to.

use url::Url;

use super::{DatabaseUrl, values};

/// The PostgreSQL database that a move goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// The whole URL of the database, password included.
    pub url: DatabaseUrl,
    /// Host, port and name of the database, for messages and stamps.
    pub place: String,
}

/// Reads the database that a move goes to.
///
/// # Errors
/// A message that repeats no password.
pub fn parse_elsewhere(text: &str) -> Result<Elsewhere, String> {
    let fix = "write postgres://user:password@host/database";
    let url = values::database_url(text).map_err(|problem| format!("{problem}; {fix}"))?;
    let parsed = match &url {
        DatabaseUrl::Sqlite(_) => return Err(format!("a database moves to PostgreSQL; {fix}")),
        DatabaseUrl::Postgres(text) => Url::parse(text).map_err(|error| error.to_string())?,
    };
    // They would lead to another place than the one that is shown and stamped.
    let leads_away = ["host", "hostaddr", "port", "dbname"];
    if parsed
        .query_pairs()
        .any(|(parameter, _)| leads_away.contains(&&*parameter))
    {
        return Err(format!(
            "names its host, port or database as a parameter; {fix}"
        ));
    }
    let name = parsed.path().trim_start_matches('/').to_owned();
    let host = parsed.host_str().filter(|host| !host.is_empty());
    let Some(host) = host.filter(|_| !name.is_empty()) else {
        return Err(format!("names no host or no database; {fix}"));
    };
    let port = parsed.port().unwrap_or(5432);
    let place = format!("postgres://{host}:{port}/{name}");
    Ok(Elsewhere { url, place })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_host_port_and_name_and_never_a_password() {
        for text in [
            "postgres://user:KEY@db.example.com/pixtoll?sslmode=require",
            "postgresql://db.example.com:5432/pixtoll",
        ] {
            let place = parse_elsewhere(text).unwrap().place;
            assert_eq!(place, "postgres://db.example.com:5432/pixtoll");
        }
        for text in [
            "postgres://user:KEY@db",
            "postgres:///KEY",
            "postgres://user@db/pixtoll?pasword=KEY",
            "postgres://user@db/pixtoll?sslmod=verify-full",
            "postgres://user@db/pixtoll?host=KEY",
            "sqlite:KEY",
            "KEY",
        ] {
            let error = parse_elsewhere(text).unwrap_err();
            assert!(!error.contains("KEY"), "{error}");
        }
    }
}
