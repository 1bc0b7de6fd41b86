//! `pixtoll link`: upload links, which are paid once and take uploads by anybody who has them.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde_json::json;
use url::Url;

use super::console::{
    Console, Copied, Exit, OWNER_HELP, OwnerArgs, PayArgs, exit, in_words, print, spinner, tell,
    tier,
};
use crate::client::account::Account;
use crate::client::facts::Facts;
use crate::client::{Client, Failure, Order, Purpose, World};
use crate::pricing::tiers::TierName;
use crate::system::clock::Clock;
use crate::system::random::Randomness;

const CREATE_HELP: &str = "\
Whoever has the link can upload with it, by `curl -T image.png LINK`, and needs no wallet. Without
--tier the link is free and its images are those of the tier free. Wallet and exit codes are those of
pixtoll upload. A payment is saved to disk before it is sent: after a failure, run the same command
again, and it sends the same payment. After a success, the same command buys another link.";

/// The arguments of `pixtoll link`.
#[derive(Debug, Args)]
pub struct LinkArgs {
    /// The subcommand.
    #[command(subcommand)]
    command: LinkCommand,
}

/// The subcommands of `pixtoll link`.
#[derive(Debug, Subcommand)]
enum LinkCommand {
    /// Buy an upload link, and print it
    #[command(visible_alias = "buy", after_help = CREATE_HELP)]
    Create(CreateArgs),
    /// List the upload links that a wallet bought, the newest first
    #[command(after_help = OWNER_HELP)]
    List(OwnerArgs),
    /// Show what is left of upload links
    #[command(after_help = OWNER_HELP)]
    Show(ShowArgs),
    /// Revoke upload links: they take no more uploads; images stay
    #[command(after_help = OWNER_HELP)]
    Revoke(RevokeArgs),
}

/// The arguments of `pixtoll link create`.
#[derive(Debug, Args)]
struct CreateArgs {
    /// How many uploads the link takes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    images: u32,
    /// For how many days the link takes uploads
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    days: u32,
    /// The tier of its images, which sets price, size limit and time
    #[arg(long, default_value = "free", value_parser = tier)]
    tier: TierName,
    /// Print the server's JSON in one line
    #[arg(long)]
    json: bool,
    /// Copy the link into the desktop's clipboard as well
    #[arg(long)]
    copy: bool,
    /// The options for server and payment.
    #[command(flatten)]
    pay: PayArgs,
}

/// The arguments of `pixtoll link show`.
#[derive(Debug, Args)]
struct ShowArgs {
    /// The upload links
    #[arg(required = true, value_name = "LINK", value_parser = upload_link)]
    links: Vec<Url>,
    /// Print the server's JSON, one link per line
    #[arg(long)]
    json: bool,
}

/// The arguments of `pixtoll link revoke`.
#[derive(Debug, Args)]
struct RevokeArgs {
    /// The upload links, by URL or by the id that pixtoll link list prints
    #[arg(required = true, value_name = "LINK", value_parser = link_or_id)]
    links: Vec<String>,
    /// The options for server, wallet and output.
    #[command(flatten)]
    owner: OwnerArgs,
}

/// Runs the command; its parameters are those of [`super::upload::run`].
pub async fn run(
    args: &LinkArgs,
    env: &BTreeMap<String, String>,
    clock: &dyn Clock,
    randomness: &Randomness,
    out: &mut dyn Write,
) -> Exit {
    exit(match &args.command {
        LinkCommand::Create(args) => {
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
            let created = create(args, env, world, &mut console).await;
            console.bar.finish_and_clear();
            created
        }
        LinkCommand::List(args) => list(args, env, out).await,
        LinkCommand::Show(args) => show(args, env, out).await,
        LinkCommand::Revoke(args) => revoke(args, env, out).await,
    })
}

async fn create(
    args: &CreateArgs,
    env: &BTreeMap<String, String>,
    world: World<'_>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    Copied::check(args.copy, env)?;
    let images = usize::try_from(args.images).unwrap_or(usize::MAX);
    // --max-price applies to each image, as for uploads.
    let cap = args.pay.max_price.checked_mul(u64::from(args.images));
    let order = Order {
        server: args.pay.server.clone(),
        purpose: Purpose::Link {
            tier: args.tier.clone(),
            images,
            days: args.days,
        },
        cap: cap.ok_or_else(|| {
            Failure::Usage(format!(
                "--max-price times {images} images is too large an amount: give a lower --max-price."
            ))
        })?,
        wallet: args.pay.wallet.clone(),
    };
    let client = Client::new(order, env, world)?;
    if args.pay.dry_run {
        let price = client
            .price(b"", &mut |notice| console.tell(notice))
            .await?;
        console.say(&format!("The link {}", in_words(&price)));
        return Ok(());
    }
    let done = client
        .issue_link(&mut |notice| console.tell(notice))
        .await?;
    let url = done.uploaded.url.as_str();
    let printed = if args.json { &done.uploaded.json } else { url };
    console.link(printed).map_err(|error| {
        Failure::Unexpected(format!(
            "The link is issued, but could not be written to standard output: {error}. Run the same command again: it \
             prints the link that is paid for."
        ))
    })?;
    client.conclude(&done)?;
    let mut copied = Copied::default();
    copied.add(url);
    copied.copy(args.copy, env).await
}

async fn list(
    args: &OwnerArgs,
    env: &BTreeMap<String, String>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let account = Account::new(&args.server, args.wallet.as_deref(), env)?;
    let mut after = None;
    let mut is_empty = true;
    loop {
        let page = account.links(after.as_deref()).await?;
        for link in &page.items {
            is_empty = false;
            print_link(link, args.json, out)?;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if is_empty {
        tell("This wallet has no upload links at this server.");
    }
    Ok(())
}

async fn show(
    args: &ShowArgs,
    env: &BTreeMap<String, String>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    for link in &args.links {
        // The link itself is the credential, so no wallet is looked for.
        let account = Account::new(link, None, env)?;
        print_link(&account.link(link).await?, args.json, out)?;
    }
    Ok(())
}

async fn revoke(
    args: &RevokeArgs,
    env: &BTreeMap<String, String>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let account = Account::new(&args.owner.server, args.owner.wallet.as_deref(), env)?;
    for text in &args.links {
        match Url::parse(text) {
            Ok(link) => account.revoke_with(&link).await?,
            Err(_) => account.revoke_link(text).await?,
        }
        let line = if args.owner.json {
            json!({ "revoked": text }).to_string()
        } else {
            format!("{text}  revoked")
        };
        print(out, &line)?;
    }
    Ok(())
}

/// Parses an upload link.
fn upload_link(text: &str) -> Result<Url, String> {
    let link = Url::parse(text).map_err(|_| {
        "only the link itself shows what is left of it: give its URL, or see pixtoll link list, which shows the links \
         of a wallet with their ids"
            .to_owned()
    })?;
    let mut parts: Vec<&str> = link.path().split('/').collect();
    if parts.last() == Some(&"") {
        parts.pop();
    }
    let is_upload_link = matches!(parts.as_slice(), [.., "u", secret] if !secret.is_empty());
    if is_upload_link {
        Ok(link)
    } else {
        Err(
            "this is no upload link: give one such as https://img.example.com/u/SECRET; an image's link is shown by \
             pixtoll info"
                .to_owned(),
        )
    }
}

/// Parses an upload link, or the id of one.
fn link_or_id(text: &str) -> Result<String, String> {
    if text.contains(['/', ':']) {
        return upload_link(text).map(|_| text.to_owned());
    }
    let is_id = matches!(text.len(), 32 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id {
        Ok(text.to_owned())
    } else {
        Err(
            "an id of an upload link has 64 or 32 hexadecimal digits: give one that pixtoll link list prints, or the URL"
                .to_owned(),
        )
    }
}

fn print_link(link: &Facts, is_json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if is_json {
        return print(out, &link.json());
    }
    print(out, &line(link))
}

/// An upload link as one line: its id and its URL, and what is left of it.
fn line(link: &Facts) -> String {
    let text = |pointer| link.text(pointer).unwrap_or_else(|| "?".to_owned());
    let number = |pointer| {
        let number = link.number(pointer);
        number.map_or_else(|| "?".to_owned(), |number| number.to_string())
    };
    let state = match link.text("/revokedAt") {
        Some(time) => format!("revoked {time}"),
        None => format!("until {}", text("/expiresAt")),
    };
    format!(
        "{}  {}  {}  {} of {} uploads used  {state}",
        text("/id"),
        text("/url"),
        text("/tier"),
        number("/used"),
        number("/uploads"),
    )
}
