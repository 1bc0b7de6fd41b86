//! `pixtoll key`: API keys, by which scripts upload on behalf of a wallet.

use std::collections::BTreeMap;
use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::json;

use super::console::{Exit, OWNER_HELP, OwnerArgs, exit, print, tell};
use crate::client::Failure;
use crate::client::account::Account;
use crate::client::facts::Facts;

/// The arguments of `pixtoll key`.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// The subcommand.
    #[command(subcommand)]
    command: KeyCommand,
}

/// The subcommands of `pixtoll key`.
#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Create an API key, and print it this once
    #[command(after_help = OWNER_HELP)]
    Create(CreateArgs),
    /// List the wallet's API keys with their use
    #[command(after_help = OWNER_HELP)]
    List(OwnerArgs),
    /// Suspend API keys until they are resumed
    #[command(after_help = OWNER_HELP)]
    Suspend(NamedArgs),
    /// Resume suspended API keys
    #[command(after_help = OWNER_HELP)]
    Resume(NamedArgs),
    /// Revoke API keys for ever; images stay
    #[command(after_help = OWNER_HELP)]
    Revoke(NamedArgs),
}

/// The arguments of `pixtoll key create`.
#[derive(Debug, Args)]
struct CreateArgs {
    /// A name that says what the key is for
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// The most uploads a day, free and paid; by default as many as the server allows a key
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    uploads_per_day: Option<u64>,
    /// The options for server, wallet and output.
    #[command(flatten)]
    owner: OwnerArgs,
}

/// The arguments of the subcommands that change keys.
#[derive(Debug, Args)]
struct NamedArgs {
    /// The keys, by the ids that pixtoll key list prints
    #[arg(required = true, value_name = "ID", value_parser = id)]
    ids: Vec<String>,
    /// The options for server, wallet and output.
    #[command(flatten)]
    owner: OwnerArgs,
}

/// What happens to a key.
#[derive(Clone, Copy)]
enum Change {
    Suspend,
    Resume,
    Revoke,
}

/// Runs the command and returns its exit code. `env` names the wallet, the home directory and a proxy for https.
pub async fn run(args: &KeyArgs, env: &BTreeMap<String, String>, out: &mut dyn Write) -> Exit {
    exit(match &args.command {
        KeyCommand::Create(args) => create(args, env, out).await,
        KeyCommand::List(args) => list(args, env, out).await,
        KeyCommand::Suspend(args) => change(args, Change::Suspend, env, out).await,
        KeyCommand::Resume(args) => change(args, Change::Resume, env, out).await,
        KeyCommand::Revoke(args) => change(args, Change::Revoke, env, out).await,
    })
}

async fn create(
    args: &CreateArgs,
    env: &BTreeMap<String, String>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let account = Account::new(&args.owner.server, args.owner.wallet.as_deref(), env)?;
    let made = account
        .create_key(args.name.as_deref(), args.uploads_per_day)
        .await?;
    let key = made.text("/key").ok_or_else(|| {
        Failure::Unexpected(
            "The server made a key, but its response holds none: revoke it by pixtoll key revoke, and make another."
                .to_owned(),
        )
    })?;
    if args.owner.json {
        return print(out, &made.json());
    }
    print(out, &key)?;
    let id = made.text("/id").unwrap_or_else(|| "?".to_owned());
    tell(&format!(
        "This is shown once. Send it as Authorization: Bearer KEY. Revoke it by: pixtoll key revoke {id}"
    ));
    Ok(())
}

async fn list(
    args: &OwnerArgs,
    env: &BTreeMap<String, String>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let account = Account::new(&args.server, args.wallet.as_deref(), env)?;
    let page = account.keys().await?;
    for key in &page.items {
        print(out, &if args.json { key.json() } else { line(key) })?;
    }
    if page.items.is_empty() {
        tell("This wallet has no API keys at this server.");
    }
    Ok(())
}

async fn change(
    args: &NamedArgs,
    change: Change,
    env: &BTreeMap<String, String>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let account = Account::new(&args.owner.server, args.owner.wallet.as_deref(), env)?;
    for id in &args.ids {
        let done = match change {
            Change::Suspend => account.suspend_key(id).await.map(|()| "suspended"),
            Change::Resume => account.resume_key(id).await.map(|()| "resumed"),
            Change::Revoke => account.revoke_key(id).await.map(|()| "revoked"),
        }?;
        let line = if args.owner.json {
            json!({ done: id }).to_string()
        } else {
            format!("{id}  {done}")
        };
        print(out, &line)?;
    }
    Ok(())
}

/// An API key as one line: its id and its use.
fn line(key: &Facts) -> String {
    let text = |pointer| key.text(pointer);
    let number = |pointer| {
        let number = key.number(pointer);
        number.map_or_else(|| "?".to_owned(), |number| number.to_string())
    };
    let state = match (text("/revokedAt"), text("/suspendedAt")) {
        (Some(time), _) => format!("revoked {time}"),
        (None, Some(time)) => format!("suspended {time}"),
        (None, None) => "in use".to_owned(),
    };
    format!(
        "{}  {}  {state}  {} of {} uploads today  {} uploads, {} bytes in all  last used {}",
        text("/id").unwrap_or_else(|| "?".to_owned()),
        text("/name").unwrap_or_else(|| "no name".to_owned()),
        number("/usage/uploadsToday"),
        number("/limits/uploadsPerDay"),
        number("/usage/uploads"),
        number("/usage/bytes"),
        text("/usage/lastUsedAt").unwrap_or_else(|| "never".to_owned()),
    )
}

/// Parses the id of a key. The key itself is a secret that belongs into no URL.
fn id(text: &str) -> Result<String, String> {
    if text.starts_with("pixtoll_") {
        return Err(
            "this is a key, which is a secret: give its id, which pixtoll key list prints"
                .to_owned(),
        );
    }
    let is_id = !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_id {
        Ok(text.to_owned())
    } else {
        Err(
            "an id has letters, digits and hyphens: give one that pixtoll key list prints"
                .to_owned(),
        )
    }
}
