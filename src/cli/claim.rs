//! `pixtoll claim`: signs in with a wallet, and prints what it paid for and did not receive.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::Args;

use super::console::{Exit, OwnerArgs};
use crate::client::Failure;
use crate::client::claim::{Claimed, Claims, claim};

const AFTER_HELP: &str = "\
Prints one line for each payment on standard output: an upload token, which curl sends in
X-Upload-Token, an upload link, or the link of an image. What is printed here can be printed again
until it is used. A link that was revoked or has ended, with uploads left, is replaced by a new one.
The wallet is found as by pixtoll upload; the exit codes are the same.";

/// Sign in with a wallet, and print what it paid for and did not receive
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ClaimArgs {
    /// The options for server, wallet and output. The JSON holds tokens and delete tokens.
    #[command(flatten)]
    owner: OwnerArgs,
}

/// Runs the command and returns its exit code. `env` names the wallet, the home directory and a proxy for https.
pub async fn run(args: &ClaimArgs, env: &BTreeMap<String, String>, out: &mut dyn Write) -> Exit {
    let claimed = claim(&args.owner.server, args.owner.wallet.as_deref(), env).await;
    let printed = claimed.and_then(|claims| {
        print(&claims, args.owner.json, out, &mut io::stderr()).map_err(|error| {
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
