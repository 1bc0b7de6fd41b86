//! `pixtoll import`: has the server fetch an image from a URL, and prints its link.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use alloy_primitives::Address;
use clap::Args;
use serde_json::json;
use url::Url;

use super::console::{Console, Copied, Exit, FormatArgs, PayArgs, in_words, line, spinner, tier};
use super::upload::wallet_address;
use crate::client::kept::KeptTokens;
use crate::client::{Client, Failure, Order, Purpose, World};
use crate::pricing::tiers::TierName;
use crate::system::clock::Clock;
use crate::system::random::Randomness;

const AFTER_HELP: &str = "\
The server connects to the URL, and this machine does not: use pixtoll upload URL for an address that
only this machine reaches. Wallet, delete tokens and exit codes are those of pixtoll upload. A URL
that yields no image costs nothing. A payment is saved to disk before it is sent: after a failure,
run the same command again, and it sends the same payment.";

/// Have the server fetch an image from a URL, and print its link
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ImportArgs {
    /// The image's own address: http or https, with a public host
    #[arg(value_name = "URL")]
    url: Url,
    /// The tier, which sets price, size limit and time; the server lists its tiers at /api/tiers
    #[arg(long, default_value = "free", value_parser = tier)]
    tier: TierName,
    /// Store a private image, which only signed links show; the printed link is one and ends
    #[arg(long)]
    private: bool,
    /// The wallet that may make signed links of the private image as well
    #[arg(long, value_name = "ADDRESS", requires = "private", value_parser = wallet_address)]
    viewer: Option<Address>,
    /// Keep the image up to date: how often the server compares it with the URL, such as 6h or 1day
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    refresh: Option<Duration>,
    /// The options for server and payment.
    #[command(flatten)]
    pay: PayArgs,
    /// The output options.
    #[command(flatten)]
    output: FormatArgs,
}

impl ImportArgs {
    fn purpose(&self) -> Purpose {
        let mut body = json!({"url": self.url.as_str(), "tier": self.tier.as_str()});
        if self.private
            && let Some(fields) = body.as_object_mut()
        {
            fields.insert("visibility".to_owned(), json!("private"));
            let viewer = self.viewer.map(|viewer| viewer.to_checksum(None));
            fields.extend(viewer.map(|viewer| ("viewer".to_owned(), json!(viewer))));
        }
        if let (Some(refresh), Some(fields)) = (self.refresh, body.as_object_mut()) {
            let refresh = humantime::format_duration(refresh).to_string();
            fields.insert("refresh".to_owned(), json!(refresh));
        }
        Purpose::Import {
            tier: self.tier.clone(),
            body: body.to_string(),
        }
    }
}

/// Runs the command; its parameters are those of [`super::upload::run`].
pub async fn run(
    args: &ImportArgs,
    env: &BTreeMap<String, String>,
    clock: &dyn Clock,
    randomness: &Randomness,
    out: &mut dyn Write,
) -> Exit {
    let world = World {
        clock,
        randomness,
        pause: &|time| Box::pin(tokio::time::sleep(time)),
    };
    let mut console = Console {
        out,
        err: &mut io::stderr(),
        bar: spinner(),
    };
    let imported = import(args, env, world, &mut console).await;
    console.bar.finish_and_clear();
    match imported {
        Ok(()) => Exit::Uploaded,
        Err(failure) => {
            console.say(&failure.to_string());
            Exit::of(&failure)
        }
    }
}

async fn import(
    args: &ImportArgs,
    env: &BTreeMap<String, String>,
    world: World<'_>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    Copied::check(args.output.copy, env)?;
    let order = Order {
        server: args.pay.server.clone(),
        purpose: args.purpose(),
        cap: args.pay.max_price,
        wallet: args.pay.wallet.clone(),
    };
    let client = Client::new(order, env, world)?;
    if args.pay.dry_run {
        let price = client
            .price(b"", &mut |notice| console.tell(notice))
            .await?;
        console.say(&format!("The import {}", in_words(&price)));
        return Ok(());
    }
    let done = client.import(&mut |notice| console.tell(notice)).await?;
    let line = line(&done.uploaded, args.output.format());
    console.link(&line).map_err(|error| {
        Failure::Unexpected(format!(
            "The image is imported, but its link could not be written to standard output: {error}. Run the same command \
             again: it prints the link that is paid for."
        ))
    })?;
    if let (Some(kept), Some((image, token))) = (
        KeptTokens::find(&args.pay.server, env),
        done.uploaded.delete_token(),
    ) && let Err(failure) = kept.keep(&image, &token)
    {
        // The image is imported and its link is printed, so the command has not failed.
        console.say(&failure.to_string());
    }
    client.conclude(&done)?;
    let mut copied = Copied::default();
    copied.add(&line);
    copied.copy(args.output.copy, env).await
}
