//! `pixtoll proof`: verifies the public proof of a server.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use url::Url;

use super::receipt::{UNCHECKED, name, print, read_text};
use crate::client::questions;
use crate::receipts::verify::KeySet;
use crate::receipts::verify_proof::check_proof;

/// The arguments of `pixtoll proof`.
#[derive(Debug, clap::Args)]
pub struct ProofArgs {
    /// The subcommand.
    #[command(subcommand)]
    pub command: ProofCommand,
}

/// The subcommands of `pixtoll proof`.
#[derive(Debug, Subcommand)]
pub enum ProofCommand {
    /// Verify the signature of a server's public proof, and print what the proof says
    ///
    /// Prints GOOD, BAD or NOT CHECKED, what the proof says, and every problem. Of a server it fetches
    /// /proof.json and, unless --keys names a file, the keys. Exits with 0 only when the proof is
    /// signed by one of the keys and its unsigned fields equal the signed ones; with 1 otherwise.
    #[command(verbatim_doc_comment)]
    Verify(VerifyArgs),
}

/// The arguments of `pixtoll proof verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// The proof: the base URL of a server, or a file with a response of GET /proof.json or its jws.
    #[arg(value_name = "URL|FILE")]
    pub proof: String,
    /// The server's /.well-known/jwks.json, saved from a source that you trust. A file is not checked without it, and
    /// the exit code is 1.
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
}

/// Runs a subcommand and returns its exit code. `env` names a proxy for https.
///
/// # Errors
/// When a file can't be read, the server doesn't answer, or there is no proof or no key in what was read.
pub async fn run(
    args: &ProofArgs,
    env: &BTreeMap<String, String>,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let ProofCommand::Verify(args) = &args.command;
    let server = Url::parse(&args.proof).ok();
    let server = server.filter(|url| matches!(url.scheme(), "http" | "https"));
    let text = match &server {
        Some(server) => questions::proof(server, env).await?.json(),
        None => read_text(Path::new(&args.proof))?,
    };
    let keys = match (&args.keys, &server) {
        (Some(file), _) => Some(KeySet::parse(&read_text(file)?).with_context(|| name(file))?),
        (None, Some(server)) => {
            let keys = questions::keys(server, env).await?.json();
            Some(KeySet::parse(&keys).with_context(|| args.proof.clone())?)
        }
        (None, None) => None,
    };
    let checked = check_proof(&text, keys.as_ref()).with_context(|| args.proof.clone())?;
    print(&checked, out)?;
    if keys.is_none() {
        writeln!(out, "{UNCHECKED}")?;
    }
    let is_good = checked.problems.is_empty() && checked.signed_by.is_some();
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
