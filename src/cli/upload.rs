//! `pixtoll upload`: reads files, uploads them with the client and prints their links.
//!
//! Standard output holds one line per file and nothing else, so that it can be piped. Messages go to standard
//! error. The module `client` decides what to pay and when.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use alloy_primitives::Address;
use clap::Args;
use futures_util::future::LocalBoxFuture;

use super::console::{Console, Copied, Exit, FormatArgs, PayArgs, in_words, line, spinner, tier};
use crate::client::kept::KeptTokens;
use crate::client::{Audience, Client, Done, Failure, Image, Order, Purpose, Uploaded, World};
use crate::pricing::tiers::TierName;
use crate::system::clock::Clock;
use crate::system::random::Randomness;

mod many;
mod sources;

use many::{Bundles, Stop};
use sources::Item;

const AFTER_HELP: &str = "\
Payment:
  Paid tiers are paid in USDC by the x402 protocol, with a private key on this machine. The key is
  the first of: --wallet FILE, PIXTOLL_WALLET_KEY (the key in hex), PIXTOLL_WALLET (a file),
  ~/.local/share/pixtoll/wallet.key. If there is no key and the server takes play money, that last
  file is created.
  The command signs no payment above --max-price per image. It saves each payment in
  ~/.local/share/pixtoll/pending before it sends it. Running the same command again sends the same
  payment, so one upload is never paid twice.
  Several files share one payment, up to 100 files each.

Delete tokens:
  The delete token of each image is kept in ~/.local/share/pixtoll/uploads, readable by you only, so
  that pixtoll delete needs no wallet.

Exit codes:
  0  all files are uploaded
  1  unexpected error
  2  an option, a file, the wallet or the tier is wrong
  3  the server refused a file; nothing was charged for it
  4  the price is above --max-price, or this command can't pay what the server asks for
  5  the payment was refused or failed, for example for lack of funds; nothing was charged
  6  the outcome of a payment is unknown, or a paid file is not uploaded yet: run the same command
     again; it never pays twice
  7  the server can't be reached or is busy; nothing was charged";

/// Upload images and print their links
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct UploadArgs {
    /// The images to upload: PNG, JPEG, GIF or WebP; - for standard input, or an http or https address
    #[arg(required_unless_present = "clipboard", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Upload the image in the desktop's clipboard
    #[arg(long)]
    clipboard: bool,
    /// The tier, which sets price, size limit and time; the server lists its tiers at /api/tiers
    #[arg(long, default_value = "free", value_parser = tier)]
    tier: TierName,
    /// Store private images, which only signed links show; the printed link is one and ends
    #[arg(long)]
    private: bool,
    /// The wallet that may make signed links of the private images as well
    #[arg(long, value_name = "ADDRESS", requires = "private", value_parser = wallet_address)]
    viewer: Option<Address>,
    /// The options for server and payment.
    #[command(flatten)]
    pay: PayArgs,
    /// The output options.
    #[command(flatten)]
    output: FormatArgs,
}

impl UploadArgs {
    /// The audience of the images: public, or private with the wallet that may make links.
    fn audience(&self) -> Audience {
        if self.private {
            Audience::Private {
                viewer: self.viewer,
            }
        } else {
            Audience::Public
        }
    }
}

/// Runs the command and returns its exit code. Links go to `out`, messages to standard error. `env` is the
/// environment, which names the wallet, the home directory and a proxy for https.
pub async fn run(
    args: &UploadArgs,
    env: &BTreeMap<String, String>,
    clock: &dyn Clock,
    randomness: &Randomness,
    out: &mut dyn Write,
) -> Exit {
    let pause = |time| -> LocalBoxFuture<'static, ()> { Box::pin(tokio::time::sleep(time)) };
    let world = World {
        clock,
        randomness,
        pause: &pause,
    };
    let mut console = Console {
        out,
        err: &mut io::stderr(),
        bar: spinner(),
    };
    run_in(args, env, world, &mut console).await
}

async fn run_in(
    args: &UploadArgs,
    env: &BTreeMap<String, String>,
    world: World<'_>,
    console: &mut Console<'_>,
) -> Exit {
    let exit = match upload_all(args, env, world, console).await {
        Ok(exit) => exit,
        Err(failure) => {
            console.say(&failure.to_string());
            Exit::of(&failure)
        }
    };
    console.bar.finish_and_clear();
    exit
}

async fn upload_all(
    args: &UploadArgs,
    env: &BTreeMap<String, String>,
    world: World<'_>,
    console: &mut Console<'_>,
) -> Result<Exit, Failure> {
    Copied::check(args.output.copy, env)?;
    let order = Order {
        server: args.pay.server.clone(),
        purpose: Purpose::Upload(args.tier.clone()),
        cap: args.pay.max_price,
        wallet: args.pay.wallet.clone(),
    };
    let client = Client::new(order, env, world)?.shown_to(&args.audience());
    // Everything is checked, read and fetched before anything is paid.
    let items = sources::collect(args, &client, env).await?;
    let mut bundles = Bundles::plan(args, &items, env, world, &client).await?;
    let mut run = Run {
        args,
        kept: KeptTokens::find(&args.pay.server, env),
        copied: Copied::default(),
        done: Vec::new(),
    };
    let mut exit = Exit::Uploaded;
    let mut is_unfinished = false;
    for (index, item) in items.iter().enumerate() {
        console
            .bar
            .set_prefix(format!("[{}/{}] {}", index + 1, items.len(), item.name));
        match run
            .upload(&client, &mut bundles, index, item, console)
            .await
        {
            Ok(()) => {}
            Err(stop) => {
                // After a refused file the next one is tried. After any other failure the run stops: no other
                // payment is made while the outcome of this one is unknown.
                let (failure, goes_on) = match stop {
                    Stop::GoOn(failure) => (failure, true),
                    Stop::Here(failure) => (failure, false),
                };
                console.say(&format!("{}: {failure}", item.name));
                is_unfinished |= matches!(failure, Failure::Unfinished(_));
                exit = Exit::of(&failure);
                if !goes_on {
                    let left = items.len() - index - 1;
                    if left > 0 {
                        console.say(&format!("Stopped here; files not tried: {left}."));
                    }
                    return Ok(exit);
                }
            }
        }
    }
    if is_unfinished {
        // The user will run the same command again, which must not pay for the other files again.
        return Ok(Exit::OutcomeUnknown);
    }
    // Only when all files are done. After a stop, the same command gets the links of the earlier files with the
    // payments that were made for them.
    let mut done = run.done.iter();
    done.try_for_each(|upload| client.conclude(upload))?;
    bundles.end()?;
    run.copied.copy(args.output.copy, env).await?;
    Ok(exit)
}

/// What a run has done so far.
struct Run<'r> {
    args: &'r UploadArgs,
    kept: Option<KeptTokens>,
    copied: Copied,
    /// The uploads with a payment of their own.
    done: Vec<Done>,
}

impl Run<'_> {
    /// Uploads an image and prints its link, or its price on a dry run.
    async fn upload(
        &mut self,
        client: &Client<'_>,
        bundles: &mut Bundles<'_>,
        index: usize,
        item: &Item,
        console: &mut Console<'_>,
    ) -> Result<(), Stop> {
        let image = Image {
            bytes: item.read()?,
            content_type: item.content_type(),
        };
        if self.args.pay.dry_run {
            if !bundles.price(index, console).await? {
                let price = client
                    .price(&image.bytes, &mut |notice| console.tell(notice))
                    .await?;
                console.say(&format!("{}: {}", item.name, in_words(&price)));
            }
            return Ok(());
        }
        let together = bundles.upload(index, &image, console).await;
        if let Some(uploaded) = together {
            return self.report(&uploaded?, console);
        }
        let done = client
            .upload(&image, &mut |notice| console.tell(notice))
            .await?;
        self.report(&done.uploaded, console)?;
        self.done.push(done);
        Ok(())
    }

    /// Prints the link of an uploaded image, and keeps its delete token.
    fn report(&mut self, uploaded: &Uploaded, console: &mut Console<'_>) -> Result<(), Stop> {
        let line = line(uploaded, self.args.output.format());
        console.link(&line).map_err(|error| {
            Failure::Unexpected(format!(
                "The file is uploaded, but its link could not be written to standard output: {error}."
            ))
        })?;
        self.copied.add(&line);
        if let (Some(kept), Some((image, token))) = (&self.kept, uploaded.delete_token())
            && let Err(failure) = kept.keep(&image, &token)
        {
            // The image is uploaded and its link is printed, so the run has not failed.
            console.say(&failure.to_string());
        }
        Ok(())
    }
}

/// Parses the address of a wallet on the command line.
pub(super) fn wallet_address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|_| {
        "a wallet's address has 40 hexadecimal digits after 0x: give one such as 0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"
            .to_owned()
    })
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::FileRefused(_) => Self::GoOn(failure),
            _ => Self::Here(failure),
        }
    }
}

#[cfg(test)]
mod tests;
