//! `pixtoll claim`: signs in with a wallet, and prints what it paid for and did not receive.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use url::Url;

use super::console::Exit;
use crate::client::Failure;
use crate::client::claim::{Claimed, Claims, claim};

const AFTER_HELP: &str = "\
Prints one line for each payment on standard output: an upload token, which curl sends in
X-Upload-Token, or the link of an image. A token that is printed here can be printed again until it
is used. The wallet is found as by pixtoll upload; the exit codes are the same.";

/// Sign in with a wallet, and print what it paid for and did not receive
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ClaimArgs {
    /// The server's base URL, as its links name it
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4020")]
    server: Url,
    /// A file with the private key of the paying account, in hex
    #[arg(long, value_name = "FILE")]
    wallet: Option<PathBuf>,
    /// Print the server's JSON, one payment per line; it holds tokens and delete tokens
    #[arg(long)]
    json: bool,
}

/// Runs the command and returns its exit code. `env` names the wallet, the home directory and a proxy for https.
pub async fn run(args: &ClaimArgs, env: &BTreeMap<String, String>, out: &mut dyn Write) -> Exit {
    let claimed = claim(&args.server, args.wallet.as_deref(), env).await;
    let printed = claimed.and_then(|claims| {
        print(&claims, args.json, out, &mut io::stderr()).map_err(|error| {
            Failure::Unexpected(format!(
                "The payments could not be written to standard output: {error}. Nothing is lost: run the command again."
            ))
        })
    });
    match printed {
        Ok(()) => Exit::Uploaded,
        Err(failure) => {
            // Nobody reads standard error where it can't be written.
            drop(writeln!(io::stderr(), "{failure}"));
            Exit::of(&failure)
        }
    }
}

fn print(
    claims: &Claims,
    is_json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<()> {
    for payment in &claims.payments {
        let Claimed { token, link, .. } = payment;
        match (token, link) {
            _ if is_json => writeln!(out, "{}", payment.json)?,
            (Some(token), _) => writeln!(out, "{}  {}", token.reveal(), payment.words)?,
            (None, Some(link)) => writeln!(out, "{link}  {}", payment.words)?,
            (None, None) => {}
        }
    }
    out.flush()?;
    if claims.payments.is_empty() {
        writeln!(
            err,
            "Nothing is left to claim: this wallet received all that it paid for."
        )?;
    }
    if claims.open > 0 {
        writeln!(
            err,
            "The outcome of {} payments is not known yet. Run the same command again later.",
            claims.open
        )?;
    }
    Ok(())
}
