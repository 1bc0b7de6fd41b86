//! `pixtoll renew`: pays to extend the expiry of images, and prints their links.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::Args;

use super::console::{
    Console, Copied, Exit, FormatArgs, Named, PayArgs, image, in_words, line, spinner, tier,
};
use crate::client::account::Account;
use crate::client::{Client, Done, Failure, Order, Purpose, World};
use crate::pricing::tiers::TierName;
use crate::system::clock::Clock;
use crate::system::random::Randomness;

const AFTER_HELP: &str = "\
Anyone may renew an image; that gives no right to delete it. Wallet and exit codes are those of
pixtoll upload. Each payment is saved to disk before it is sent: after a failure, run the same
command again, and it sends the same payment. After a success, the same command pays again.";

/// Pay to keep images longer
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct RenewArgs {
    /// The images to renew, by id or by link
    #[arg(required = true, value_name = "IMAGE", value_parser = image)]
    images: Vec<Named>,
    /// Move the images to this tier, and pay its price for its time; by default each image keeps its tier
    #[arg(long, value_parser = tier)]
    tier: Option<TierName>,
    /// The options for server, payment and output.
    #[command(flatten)]
    pay: PayArgs,
    /// The output options.
    #[command(flatten)]
    output: FormatArgs,
}

/// Runs the command; its parameters are those of [`super::upload::run`].
pub async fn run(
    args: &RenewArgs,
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
    run_in(args, env, world, &mut console).await
}

async fn run_in(
    args: &RenewArgs,
    env: &BTreeMap<String, String>,
    world: World<'_>,
    console: &mut Console<'_>,
) -> Exit {
    let mut exit = Exit::Uploaded;
    let mut done = Vec::new();
    let mut copied = Copied::default();
    if let Err(failure) = Copied::check(args.output.copy, env) {
        console.say(&failure.to_string());
        return Exit::of(&failure);
    }
    for image in &args.images {
        console.bar.set_prefix(image.id.to_string());
        match renew(args, image, env, world, console, &mut copied).await {
            Ok(renewed) => done.extend(renewed),
            Err(failure) => {
                console.say(&format!("{}: {failure}", image.id));
                exit = Exit::of(&failure);
                // After a failure no other payment is made: the outcome of this one may be unknown.
                break;
            }
        }
    }
    // Only when all succeeded, as with uploads: repeating a run that stopped must not pay again.
    if exit == Exit::Uploaded {
        for (client, renewed) in &done {
            if let Err(failure) = client.conclude(renewed) {
                console.say(&failure.to_string());
                exit = Exit::of(&failure);
            }
        }
    }
    if let Err(failure) = copied.copy(args.output.copy, env).await {
        console.say(&failure.to_string());
        exit = Exit::of(&failure);
    }
    console.bar.finish_and_clear();
    exit
}

/// Renews one image and prints its link; `None` on a dry run.
async fn renew<'a>(
    args: &RenewArgs,
    image: &Named,
    env: &BTreeMap<String, String>,
    world: World<'a>,
    console: &mut Console<'_>,
    copied: &mut Copied,
) -> Result<Option<(Client<'a>, Done)>, Failure> {
    let order = Order {
        server: args.pay.server.clone(),
        purpose: Purpose::Renew {
            image: image.id.clone(),
            tier: args.tier.clone(),
        },
        cap: args.pay.max_price,
        wallet: args.pay.wallet.clone(),
    };
    let mut client = Client::new(order, env, world)?;
    if let Some(link) = &image.link {
        let account = Account::new(&args.pay.server, args.pay.wallet.as_deref(), env)?;
        account.check_link(link).await?;
        client = client.proven_by(link);
    }
    if args.pay.dry_run {
        let price = client
            .price(b"", &mut |notice| console.tell(notice))
            .await?;
        console.say(&format!("{}: {}", image.id, in_words(&price)));
        return Ok(None);
    }
    let done = client.renew(&mut |notice| console.tell(notice)).await?;
    let line = line(&done.uploaded, args.output.format());
    copied.add(&line);
    console.link(&line).map_err(|error| {
        Failure::Unexpected(format!(
            "The image is renewed, but its link could not be written to standard output: {error}."
        ))
    })?;
    Ok(Some((client, done)))
}
