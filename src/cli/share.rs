//! `pixtoll share`: makes and ends signed links of private images.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::console::{
    Copied, Exit, Named, OWNER_HELP, OwnerArgs, check_links, exit, image, print, tell,
};
use crate::client::Failure;
use crate::client::account::Account;
use crate::client::kept::KeptTokens;

/// Make a link of a private image that ends, or end all its links
#[derive(Debug, Args)]
#[command(after_help = OWNER_HELP)]
pub struct ShareArgs {
    /// The private image, by id or by link
    #[arg(value_name = "IMAGE", value_parser = image)]
    image: Named,
    /// For how long the link works, such as 1h or 7days; by default as long as the server says
    #[arg(long = "for", value_name = "TIME", value_parser = life)]
    life: Option<Duration>,
    /// End all links of the image that were made so far, in place of making one
    #[arg(long, conflicts_with_all = ["life", "copy"])]
    revoke: bool,
    /// The delete token that the upload returned
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Copy the link into the desktop's clipboard as well
    #[arg(long)]
    copy: bool,
    /// The options for server, wallet and output.
    #[command(flatten)]
    owner: OwnerArgs,
}

/// Runs the command and returns its exit code. `env` names the wallet, the home directory and a proxy for https.
pub async fn run(args: &ShareArgs, env: &BTreeMap<String, String>, out: &mut dyn Write) -> Exit {
    exit(share(args, env, out).await)
}

async fn share(
    args: &ShareArgs,
    env: &BTreeMap<String, String>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    Copied::check(args.copy, env)?;
    let account = Account::new(&args.owner.server, args.owner.wallet.as_deref(), env)?;
    check_links(&account, std::slice::from_ref(&args.image)).await?;
    let id = &args.image.id;
    let stored = match KeptTokens::find(&args.owner.server, env) {
        Some(kept) => kept.token(id)?,
        None => None,
    };
    let token = args.token.clone().or(stored);
    if args.revoke {
        account.unshare(id, token.as_deref()).await?;
        return print(
            out,
            &if args.owner.json {
                json!({ "revoked": id.as_str() }).to_string()
            } else {
                format!("{id}  all links ended")
            },
        );
    }
    let seconds = args.life.map(|life| life.as_secs());
    let made = account.share(id, seconds, token.as_deref()).await?;
    let link = made.text("/url").ok_or_else(|| {
        Failure::Unexpected(
            "The server made a link, but its response holds none: run the command again."
                .to_owned(),
        )
    })?;
    if args.owner.json {
        print(out, &made.json())?;
    } else {
        print(out, &link)?;
        if let Some(end) = made.text("/expiresAt") {
            tell(&format!("The link works until {end}."));
        }
    }
    let mut copied = Copied::default();
    copied.add(&link);
    copied.copy(args.copy, env).await
}

fn life(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}: give a time such as 30min, 1h or 7days"))
}
