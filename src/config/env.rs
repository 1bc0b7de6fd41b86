//! The environment: the one place that reads it, and how its variables are named.

use std::collections::BTreeMap;

use super::keys;

/// What every variable of ours starts with.
pub(super) const PREFIX: &str = "PIXTOLL_";

/// The environment of this process; what is no UTF-8 comes with replacement characters.
#[expect(
    clippy::disallowed_methods,
    reason = "the only reader of the environment"
)]
pub fn process_env() -> BTreeMap<String, String> {
    // `vars` would panic at the first variable that is no UTF-8, ours or not.
    std::env::vars_os()
        .map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        })
        .collect()
}

/// The variable that sets a key: `http.base_url` is set by `PIXTOLL_HTTP__BASE_URL`.
pub(super) fn variable(key: &str) -> String {
    format!(
        "{PREFIX}{}",
        key.replacen('.', "__", 1).to_ascii_uppercase()
    )
}

/// Variables of others that set a key of ours where nothing else does: the tools of Coinbase and of Amazon use
/// them. Of several for one key, the first that is set.
pub(super) const ALSO: [(&str, &str); 9] = [
    ("CDP_API_KEY_ID", "payments.cdp_key_id"),
    ("CDP_API_KEY_SECRET", "payments.cdp_key_secret"),
    ("AWS_ACCESS_KEY_ID", "images.s3_access_key_id"),
    ("AWS_SECRET_ACCESS_KEY", "images.s3_secret_access_key"),
    ("AWS_SESSION_TOKEN", "images.s3_session_token"),
    ("AWS_REGION", "images.s3_region"),
    ("AWS_DEFAULT_REGION", "images.s3_region"),
    ("AWS_ENDPOINT_URL_S3", "images.s3_endpoint"),
    ("AWS_ENDPOINT_URL", "images.s3_endpoint"),
];

/// By these a cloud tells its machines where they get keys that change by themselves.
pub(super) const OF_THE_CLOUD: [&str; 8] = [
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_METADATA_ENDPOINT",
];

/// What a variable of ours is about.
pub(super) enum Meaning {
    /// Sets this key.
    Sets(&'static keys::Key),
    /// A key under `operator`.
    Operator(String),
    /// Tries to set a list of tables, which only a file can.
    Tables(&'static str),
    /// Nothing; the key that it would have set.
    Unknown(String),
}

/// Variables of the command line and of the client: no settings of the server, and no mistakes either.
const OF_COMMANDS: [&str; 4] = [
    "PIXTOLL_LOG",
    "PIXTOLL_LOG_FORMAT",
    "PIXTOLL_WALLET",
    "PIXTOLL_WALLET_KEY",
];

/// `None` where the variable isn't a setting.
pub(super) fn meaning(name: &str) -> Option<Meaning> {
    if OF_COMMANDS.contains(&name) {
        return None;
    }
    let rest = name.strip_prefix(PREFIX)?;
    let key = rest.replacen("__", ".", 1).to_ascii_lowercase();
    // By the name that the key gives, so that `PIXTOLL_http__listen` isn't a second way.
    if let Some(known) = keys::find(&key).filter(|known| variable(known.name) == name) {
        return Some(Meaning::Sets(known));
    }
    if key.starts_with("operator.") {
        return Some(Meaning::Operator(key));
    }
    for section in ["tiers", "networks"] {
        if rest.starts_with(&section.to_ascii_uppercase()) {
            return Some(Meaning::Tables(section));
        }
    }
    Some(Meaning::Unknown(key))
}
